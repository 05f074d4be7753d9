"""Commands that a shell looks for: where they are, what the shell says when they are not, and what programs may write.

Mirrors dash 0.5.12 (`exec.c`), bash 5.2 (`execute_cmd.c`, `findcmd.c`) and BusyBox 1.35 (`shell/ash.c`), whose words were
taken from runs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.finding import Attempt, Step, show
from analyzers.handover.place import Surroundings
from analyzers.kernel import Execution, execute
from analyzers.shell.names import ONLY_READ, WRITES_ARGUMENTS
from analyzers.shell.state import Field, Gap, State, Writes
from analyzers.shell.tree import Dialect
from analyzers.trail import attempt

_SHOWN_ATTEMPTS = 64


BASH_WORDS = {
    "EACCES": b"Permission denied",
    "ELOOP": b"Too many levels of symbolic links",
    "ENAMETOOLONG": b"File name too long",
    "ENOENT": b"No such file or directory",
    "ENOTDIR": b"Not a directory",
}


class Sought(NamedTuple):
    """A command that was looked for."""

    executed: Execution
    step: Step
    path: bytes
    """What was handed to execve."""
    certain: bool
    """Nothing can have been written at any of the places before."""
    directory: bool = False


def seek(place: Surroundings, state: State, name: bytes, argv: Sequence[bytes], creds: Credentials) -> Sought | None:
    """The search for a command and its execve; None where PATH or the directory is unknown."""
    places = candidates(name, state)
    if places is None or state.cwd is None:
        return None
    attempts: list[Attempt] = []
    last = Execution((), error="ENOENT", culprit=name)
    denied, certain, tried = False, True, name
    environment = state.environment()[0]
    for candidate in places:
        absolute = candidate if candidate.startswith(b"/") else state.cwd.rstrip(b"/") + b"/" + candidate
        certain = certain and not state.writes.may_hold(absolute)
        found = place.rootfs.resolve(candidate, cwd=state.cwd, creds=creds)
        if len(attempts) < _SHOWN_ATTEMPTS:
            attempts.append(attempt(place.rootfs, "PATH" if candidate != name else "path", candidate, found))
        done = execute(
            place.rootfs,
            candidate,
            argv,
            cwd=state.cwd,
            creds=creds,
            profile=place.profile,
            architecture=place.architecture,
            env=environment,
        )
        if found.node is not None and found.node.entry.kind == Kind.FILE:
            certain = certain and not state.writes.may_hold(b"/" + found.node.path)
        if done.error not in ("EACCES", "ENOENT", "ENOTDIR"):
            return Sought(done, Step("lookup", show(name), ok=not done.error, attempts=tuple(attempts)), candidate, certain)
        denied = denied or done.error == "EACCES"
        if found.node is not None:
            last, tried = done, candidate
    if denied:
        last = Execution(last.steps, error="EACCES", cause=last.cause, subject=last.subject, culprit=last.culprit)
    node = place.rootfs.resolve(tried, cwd=state.cwd).node
    directory = node is not None and node.entry.kind == Kind.DIRECTORY
    return Sought(last, Step("lookup", show(name), ok=False, attempts=tuple(attempts)), tried, certain, directory)


def candidates(name: bytes, state: State) -> tuple[bytes, ...] | None:
    """Where a command is looked for, in order; None where PATH is unknown."""
    if b"/" in name:
        return (name,)
    path = state.get(b"PATH")
    if path is None:
        path = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if not isinstance(path, bytes):
        return None
    return tuple(element.rstrip(b"/") + b"/" + name if element not in (b"", b".") else name for element in path.split(b":"))


class Speaker(NamedTuple):
    """How a shell names itself and its line."""

    dialect: Dialect
    zero: bytes
    """`$0`."""
    text: bool
    """It runs the text of `-c`: BusyBox's ash counts its lines from 0, and names them only where a builtin complains."""
    sourced: bytes = b""
    """The file that is read by `.`, as it was named."""

    def at(self, line: int, command: bytes = b"") -> bytes:
        """The beginning of a complaint, of a builtin where `command` is given."""
        if self.dialect is not Dialect.BASH:
            command = command or self.sourced
        said = command + b": " if command else b""
        if self.dialect is Dialect.DASH:
            return self.zero + b": %d: " % line + said
        if self.dialect is Dialect.BASH:
            return (self.sourced or self.zero) + b": line %d: " % line + said
        if self.text and not command:
            return self.zero + b": "
        return self.zero + b": " + said + b"line %d: " % (line - self.text)


def refusal(speaker: Speaker, name: bytes, sought: Sought, line: int, *, replacing: bool) -> tuple[tuple[bytes, ...], int]:
    """(lines, exit status) of a command that cannot be run; `replacing`: by `exec`."""
    absent = sought.executed.error in ("ENOENT", "ENOTDIR")
    builtin = b"exec" if replacing else b""
    if speaker.dialect is not Dialect.BASH:
        said = b": not found" if absent else b": Permission denied"
        return (speaker.at(line, builtin) + name + said,), 127 if absent else 126
    if sought.executed.error == "ENOENT" and sought.executed.subject and sought.executed.cause != "path.absent":
        found = sought.executed.cause.startswith(("script.", "elf."))
        if found:
            return (speaker.at(line) + sought.path + b": cannot execute: required file not found",), 127
    if absent and b"/" not in name:
        said = name + (b": not found" if replacing else b": command not found")
        return (speaker.at(line, builtin) + said,), 127
    words = b"Is a directory" if sought.directory else BASH_WORDS[sought.executed.error]
    shown = sought.path if b"/" not in name else name
    first = speaker.at(line) + shown + b": " + words
    if absent:
        return (first,), 127
    if replacing:
        return (first, speaker.at(line, builtin) + shown + b": cannot execute: " + words), 126
    return (first,), 126


def written(name: bytes, arguments: Sequence[Field], state: State) -> Writes:
    """What a program may write, for all that is known."""
    if name == b"sed" and not any(isinstance(each, bytes) and each.startswith((b"-i", b"--in-place")) for each in arguments):
        return Writes()
    if name == b"find" and not {b"-delete", b"-exec", b"-execdir", b"-ok"}.intersection(
        each for each in arguments if isinstance(each, bytes)
    ):
        return Writes()
    if name in ONLY_READ:
        return Writes()
    if name not in WRITES_ARGUMENTS or Gap.MANY in arguments or Gap.ONE in arguments or state.cwd is None:
        return Writes(anywhere=True)
    paths = [each for each in arguments if isinstance(each, bytes) and not each.startswith(b"-")]
    return Writes(_absolute(each, state.cwd) for each in paths)


def _absolute(path: bytes, cwd: bytes) -> bytes:
    joined = path if path.startswith(b"/") else cwd.rstrip(b"/") + b"/" + path
    parts: list[bytes] = []
    for part in joined.split(b"/"):
        if part == b"..":
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)


def absolute(path: bytes, cwd: bytes) -> bytes:
    """A path written as the shell would name it from the root, links not followed."""
    return _absolute(path, cwd)
