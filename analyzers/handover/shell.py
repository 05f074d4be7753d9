"""A shell opens its script, or is given a text, and does what it says: dash, bash and BusyBox's ash, in their own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analyzers.facts import Kind
from analyzers.finding import Step, show
from analyzers.handover.asked import Asked, dialect_of
from analyzers.handover.asked import asked as asked_of
from analyzers.handover.place import Following, Refusal, Remark, Surroundings
from analyzers.kernel import Execution
from analyzers.lookup import variable
from analyzers.trail import attempt, show_path

if TYPE_CHECKING:
    from analyzers.shell.outcomes import Failed
    from analyzers.shell.state import Launched
    from analyzers.shell.survey import Survey

_SHOWN_REMARKS = 20


def follow_shell(
    place: Surroundings, executed: Execution, shell: bytes, words: Mapping[str, bytes]
) -> Following | Refusal | None:
    """What the shell does first. None where it is asked for something that is no script."""
    asked = asked_of(executed.argv)
    if asked is None:
        return None
    text = asked.text
    file = "the command"
    if asked.path is not None:
        refused = _open_script(place, executed, shell, words, asked.path)
        if refused is not None:
            return refused
        found = place.rootfs.resolve(asked.path, cwd=place.cwd, creds=executed.creds)
        if found.node is None or found.node.entry.kind != Kind.FILE:
            return None
        file = show_path(found.node.path)
        text = place.rootfs.script(found.node)
    if text is None:
        return _not_followed(f"{file} was not followed: its text is not kept")
    if asked.unforeseen:
        return _not_followed(f"{file} was not followed: {asked.unforeseen}")
    if shell == b"bash" and variable(place.env, b"BASH_ENV"):
        return _not_followed(f"{file} was not followed: bash reads what BASH_ENV names before it")
    return _follow(place, executed, shell, asked, text, file)


def _not_followed(why: str) -> Following:
    return Following(None, assumptions=(why,))


def _follow(
    place: Surroundings, executed: Execution, shell: bytes, asked: Asked, text: bytes, file: str
) -> Following | Refusal | None:
    # Only where there is a script to follow: most images have none, and the parser is not small.
    from analyzers.shell.commands import Speaker
    from analyzers.shell.survey import Script, survey

    dialect = dialect_of(executed)
    if dialect is None:
        return None
    speaker = Speaker(dialect, asked.zero, asked.path is None)
    script = Script(text, file, asked.positional, asked.options)
    found = survey(place, speaker, executed.creds, script)
    return _concluded(place, found, file)


def _concluded(place: Surroundings, found: Survey, file: str) -> Following | Refusal:
    from analyzers.shell.outcomes import Ended, Failed, GaveUp, Lost
    from analyzers.shell.state import Launched

    outcome = found.outcome
    remarks = [
        Remark("shell.wants-absent-command", f"{each.file} line {each.line}: {show(each.blame.lines[-1])}", each.file, each.steps)
        for each in found.missing[:_SHOWN_REMARKS]
        if not each.tested and not (isinstance(outcome, Failed) and each.blame == outcome.blame)
    ]
    for gave_up in found.gave_up:
        said = f": {show(gave_up.words)}" if gave_up.words else ""
        if not isinstance(outcome, GaveUp) and not gave_up.words:
            continue  # a way that ends early where others go on: arguments that are checked, and their like
        status = "a status that cannot be foretold" if gave_up.status is None else f"status {gave_up.status}"
        remarks.append(Remark("shell.gives-up", f"{gave_up.file} ends with {status} at line {gave_up.line}{said}", gave_up.file))
    if not isinstance(outcome, Failed):
        remarks += [
            Remark("shell.may-fail", f"{each.file} line {each.blame.line}: {show(each.blame.lines[-1])}", each.file, each.steps)
            for each in found.failures[:_SHOWN_REMARKS]
        ]
    lines = tuple(line for each in found.missing for line in each.blame.lines)
    if isinstance(outcome, Failed):
        return _failed(outcome, found, lines, tuple(remarks))
    if isinstance(outcome, Launched):
        others = tuple(_launched(each) for each in found.others)
        return _launched(outcome)._replace(lines=lines, remarks=tuple(remarks), others=others)
    assumptions: tuple[str, ...] = ()
    if isinstance(outcome, Lost):
        assumptions = (f"{outcome.file} was followed to line {outcome.line}: {outcome.why}",)
    elif isinstance(outcome, Ended) and (found.others or found.failures):
        assumptions = (f"{file} may end without another program, by what cannot be foretold",)
    return Following(None, lines=lines, remarks=tuple(remarks), assumptions=assumptions)


def _launched(outcome: Launched) -> Following:
    return Following(outcome.executed, outcome.env, outcome.cwd, outcome.whole)


def _failed(outcome: Failed, found: Survey, lines: tuple[bytes, ...], remarks: tuple[Remark, ...]) -> Refusal:
    blame = outcome.blame
    said = lines if blame.lines[-1:] == lines[-1:] else (*lines, *blame.lines)
    steps = (*outcome.steps,) or next((each.steps for each in found.missing if each.blame == blame), ())
    by = Step("command", show(blame.culprit), outcome.file, ok=False) if not steps else None
    return Refusal(
        said, blame.exit_code, blame.rule, blame.subject, blame.culprit, (by,) if by is not None else steps, remarks=remarks
    )


def _open_script(
    place: Surroundings, executed: Execution, shell: bytes, words: Mapping[str, bytes], path: bytes
) -> Refusal | None:
    """A shell opens its script with the user's own permissions."""
    found = place.rootfs.resolve(path, cwd=place.cwd, creds=executed.creds)
    error = found.error
    if found.node is not None and found.node.entry.kind == Kind.FILE and not place.rootfs.may_read(found.node, executed.creds):
        error = "EACCES"
    if not error or found.unknown or (shell == b"bash" and b"/" not in path):
        return None  # bash looks for a bare name on PATH too
    line, code = _refused_by(shell, executed.argv[0], path, error, words)
    by = "" if executed.program is None else show_path(executed.program.path)
    step = Step("script", show(path), by, ok=False, attempts=(attempt(place.rootfs, "path", path, found),))
    cause = "script.closed-to-user" if error == "EACCES" else "script.absent"
    return Refusal((line,), code, cause, found.path, path, (step,))


def _refused_by(shell: bytes, argv0: bytes, path: bytes, error: str, words: Mapping[str, bytes]) -> tuple[bytes, int]:
    """(line, exit status) of a shell whose script cannot be opened."""
    if shell == b"dash":
        said = b"No such file" if error in ("ENOENT", "ENOTDIR") else words[error]
        return argv0 + b": 0: cannot open " + path + b": " + said, 2
    if shell == b"bash":
        return argv0 + b": " + path + b": " + words[error], 127 if error == "ENOENT" else 126
    return argv0 + b": can't open '" + path + b"': " + words[error], 2
