"""A shell opens its script, with the words of dash, bash and BusyBox's ash where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analyzers.facts import Kind
from analyzers.finding import Step, show
from analyzers.handover.place import Refusal, Surroundings
from analyzers.kernel import Execution
from analyzers.trail import attempt, show_path


def open_script(place: Surroundings, executed: Execution, shell: bytes, words: Mapping[str, bytes]) -> Refusal | None:
    """A shell opens its script with the user's own permissions."""
    path = _script_of(executed.argv)
    if path is None:
        return None
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


def _script_of(argv: Sequence[bytes]) -> bytes | None:
    """The file that a shell is asked to run; None where it is asked for something else."""
    for word in argv[1:]:
        if not word.startswith((b"-", b"+")):
            return word or None
        if word == b"-" or word.startswith(b"--") or any(byte in word for byte in b"csoO"):
            return None
    return None
