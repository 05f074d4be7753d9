"""The scripts of /docker-entrypoint.d, which entrypoints run in ways that often cannot be followed: each looked at by itself."""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.finding import show
from analyzers.handover.asked import asked, dialect_of
from analyzers.handover.execvp import execute_in
from analyzers.handover.place import Remark, Surroundings
from analyzers.rootfs import Node
from analyzers.trail import show_path

FOLDER = b"/docker-entrypoint.d"
_MAX_PARTS = 50


def look_at_parts(place: Surroundings, text: bytes, creds: Credentials, known: tuple[Remark, ...]) -> Iterator[Remark]:
    """What those scripts want and do not find, where the entrypoint's text names their folder and nothing of it is known yet."""
    if FOLDER not in text:
        return
    found = place.rootfs.resolve(FOLDER, creds=creds)
    if found.node is None or found.node.entry.kind != Kind.DIRECTORY:
        return
    told = {each.subject for each in known}
    for name in place.rootfs.names(found.node.path)[:_MAX_PARTS]:
        path = FOLDER + b"/" + name
        node = place.rootfs.resolve(path, creds=creds).node
        if node is None or node.entry.kind != Kind.FILE or show_path(node.path) in told or not name.endswith(b".sh"):
            continue
        if place.rootfs.may_execute(node, creds):
            yield from _part(place, path, node, creds)


def _part(place: Surroundings, path: bytes, node: Node, creds: Credentials) -> Iterator[Remark]:
    file = show_path(node.path)
    executed = execute_in(place, path, (path,), creds)
    if executed.cause == "script.interpreter-absent":
        said = f"{file} names {show(executed.culprit)}, which is not in the image"
        yield Remark("shell.wants-absent-command", said, file, executed.steps)
    dialect = dialect_of(executed)
    wanted = None if dialect is None else asked(executed.argv)
    text = place.rootfs.script(node)
    if dialect is None or wanted is None or wanted.path is None or wanted.unforeseen or text is None:
        return
    from analyzers.shell.commands import Speaker
    from analyzers.shell.outcomes import Failed
    from analyzers.shell.survey import Script, survey

    script = Script(text, file, wanted.positional, wanted.options)
    result = survey(place, Speaker(dialect, wanted.zero, text=False), executed.creds, script)
    blames = [(each.line, each.blame, each.steps) for each in result.missing if not each.tested]
    if isinstance(result.outcome, Failed):
        outcome = result.outcome
        blames += [(outcome.blame.line, outcome.blame, outcome.steps)] if all(outcome.blame != each[1] for each in blames) else []
    for line, blame, steps in blames:
        yield Remark("shell.wants-absent-command", f"{file} line {line}: {show(blame.lines[-1])}", file, steps)
