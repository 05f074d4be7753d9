"""What the first program does before its real work: `env` executes another program, a shell opens its script.

Mirrors coreutils `src/env.c`, BusyBox `coreutils/env.c`, `execvp` of glibc (`posix/execvpe.c`) and musl, and the words with which
dash, bash and BusyBox's ash refuse a script (K5, C13). Knows these programs by the names of their files, and claims nothing
of any other, nor of options it does not know (R43).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from analyzers.facts import Kind
from analyzers.finding import Attempt, Step, show
from analyzers.kernel import Execution, execute
from analyzers.lookup import variable
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs
from analyzers.trail import attempt, show_path

MAX_HANDOVERS = 8
_SHOWN_ATTEMPTS = 64
_SHELL = b"/bin/sh"
_SHELLS = (b"dash", b"bash", b"busybox")
_GLIBC_PATH = b"/bin:/usr/bin"
_MUSL_PATH = b"/usr/local/bin:/bin:/usr/bin"
# What a static BusyBox may have inside and run without looking for a file.
_APPLETS = frozenset(b"ash awk bc cat dc ed env hush sed sh".split())
_SPACES = b" \t\n\v\f\r"
_QUOTED = {
    0x07: b"\\a",
    0x08: b"\\b",
    0x09: b"\\t",
    0x0A: b"\\n",
    0x0B: b"\\v",
    0x0C: b"\\f",
    0x0D: b"\\r",
    0x27: b"\\'",
    0x5C: b"\\\\",
}
_STRERROR = {
    "E2BIG": b"Argument list too long",
    "EACCES": b"Permission denied",
    "EINVAL": b"Invalid argument",
    "EIO": b"Input/output error",
    "ELIBBAD": b"Accessing a corrupted shared library",
    "ELOOP": b"Too many levels of symbolic links",
    "ENAMETOOLONG": b"File name too long",
    "ENOENT": b"No such file or directory",
    "ENOEXEC": b"Exec format error",
    "ENOTDIR": b"Not a directory",
    "EPERM": b"Operation not permitted",
}
_MUSL_STRERROR = {**_STRERROR, "EIO": b"I/O error", "ELOOP": b"Symbolic link loop", "ENAMETOOLONG": b"Filename too long"}


class Refusal(NamedTuple):
    """The program runs and gives up; `cause` is the rule of rules.RULES."""

    lines: tuple[bytes, ...]
    exit_code: int
    cause: str
    subject: bytes = b""
    """Canonical path of the file at fault."""
    culprit: bytes = b""
    """What was wanted and not had, as written."""
    steps: tuple[Step, ...] = ()


class Surroundings(NamedTuple):
    """Where a program runs."""

    rootfs: Rootfs
    env: Sequence[bytes]
    cwd: bytes
    profile: HostProfile
    architecture: str


def hand_over(place: Surroundings, executed: Execution, family: str) -> Execution | Refusal | None:
    """What the loaded program does first: execute another, refuse, or (None) nothing that is known.

    `family` is that of its C library, as far as that is known.
    """
    if executed.program is None:
        return None
    name = _name_of(executed.program)
    if name in (b"env", b"coreutils") and _applet(executed) == b"env":
        return _Env(place, executed, musl=family == "musl", busybox=False).run()
    if name == b"busybox" and _applet(executed) == b"env":
        return _Env(place, executed, musl=family == "musl", busybox=True).run()
    if name in _SHELLS and (name != b"busybox" or _applet(executed) in (b"sh", b"ash")):
        return _open_script(place, executed, name, _MUSL_STRERROR if family == "musl" else _STRERROR)
    return None


def _name_of(program: Node) -> bytes:
    return program.path.rpartition(b"/")[2]


def _applet(executed: Execution) -> bytes:
    return executed.argv[0].rpartition(b"/")[2]


# -- env --


class _Env:
    """One run of env."""

    def __init__(self, place: Surroundings, executed: Execution, *, musl: bool, busybox: bool) -> None:
        self._place = place
        self._executed = executed
        self._musl = musl
        self._busybox = busybox
        facts = None if executed.program is None else place.rootfs.elf(executed.program)
        self._has_applets = busybox and facts is not None and facts.interp is None

    def run(self) -> Execution | Refusal | None:
        argv = self._command()
        if not argv or not argv[0]:
            return None
        if self._has_applets and argv[0] in _APPLETS:
            return None
        attempts: list[Attempt] = []
        done = self._execute(argv, attempts)
        by = "" if self._executed.program is None else show_path(self._executed.program.path)
        step = Step("lookup", show(argv[0]), by, ok=not done.error, attempts=tuple(attempts))
        if done.error:
            return self._refuse(argv[0], done, (step, *done.steps))
        return msgspec.structs.replace(done, steps=(step, *done.steps))

    def _command(self) -> tuple[bytes, ...]:
        """The command with its arguments; empty where env is asked for anything else first."""
        words = list(self._executed.argv[1:])
        if words and not self._busybox:
            split = _split_string(words[0])
            if not split:
                return ()
            words[:1] = split
        if not words or words[0].startswith(b"-") or b"=" in words[0]:
            return ()
        script = self._executed.script
        if script is not None and len(self._executed.argv) == 2:
            return ()  # `#!/usr/bin/env` alone runs the script itself, again and again
        return tuple(words)

    def _execute(self, argv: tuple[bytes, ...], attempts: list[Attempt]) -> Execution:
        """execvp: the first candidate whose execve does not fail for want of it."""
        place, denied = self._place, False
        last = Execution((), error="ENOENT", culprit=argv[0])
        for candidate in self._candidates(argv[0]):
            found = place.rootfs.resolve(candidate, cwd=place.cwd, creds=self._executed.creds)
            if len(attempts) < _SHOWN_ATTEMPTS:
                attempts.append(attempt(place.rootfs, "PATH", candidate, found))
            done = self._exec(candidate, argv)
            if done.error == "ENOEXEC" and not self._musl:
                done = self._exec(_SHELL, (_SHELL, candidate, *argv[1:]))
            if done.error not in ("EACCES", "ENOENT", "ENOTDIR"):
                return done
            denied = denied or done.error == "EACCES"
            last = done if found.node is not None else last
        return Execution(last.steps, error="EACCES" if denied else "ENOENT", subject=last.subject, culprit=argv[0])

    def _exec(self, path: bytes, argv: Sequence[bytes]) -> Execution:
        place = self._place
        return execute(
            place.rootfs,
            path,
            argv,
            cwd=place.cwd,
            creds=self._executed.creds,
            profile=place.profile,
            architecture=place.architecture,
            env=place.env,
        )

    def _candidates(self, name: bytes) -> Iterator[bytes]:
        if b"/" in name:
            yield name
            return
        path = variable(self._place.env, b"PATH")
        for element in (path if path is not None else _MUSL_PATH if self._musl else _GLIBC_PATH).split(b":"):
            yield element + b"/" + name if element else name

    def _refuse(self, name: bytes, done: Execution, steps: tuple[Step, ...]) -> Refusal:
        words = (_MUSL_STRERROR if self._musl else _STRERROR)[done.error]
        absent = done.error == "ENOENT"
        if self._busybox:
            lines = [b"env: can't execute '" + name + b"': " + words]
        else:
            argv0 = self._executed.argv[0]
            lines = [argv0 + b": " + self._quote(name) + b": " + words]
            if absent and any(byte in _SPACES for byte in name):
                lines.append(argv0 + b": use -[v]S to pass options in shebang lines")
        cause = "script.env-target-absent" if absent else "script.interpreter-unusable"
        return Refusal(tuple(lines), 127 if absent else 126, cause, done.subject, name, steps)

    def _quote(self, name: bytes) -> bytes:
        """gnulib's quote(): its marks and what it escapes depend on the locale."""
        if self._speaks_utf8():
            try:
                if name.decode().isprintable():
                    return "‘".encode() + name.replace(b"\\", b"\\\\") + "’".encode()
            except UnicodeDecodeError:
                pass  # then it is escaped byte by byte
        quoted = b"".join(_QUOTED.get(byte, bytes((byte,)) if 0x20 <= byte < 0x7F else b"\\%03o" % byte) for byte in name)
        if self._speaks_utf8():
            return "‘".encode() + quoted.replace(b"\\'", b"'") + "’".encode()
        return b"'" + quoted + b"'"

    def _speaks_utf8(self) -> bool:
        """Whether the environment asks for a UTF-8 locale that the image has."""
        asked = next((value for name in (b"LC_ALL", b"LC_CTYPE", b"LANG") if (value := variable(self._place.env, name))), b"")
        language, _, charset = asked.partition(b".")
        if charset.lower().replace(b"-", b"") != b"utf8" or b"/" in asked:
            return False
        folder = b"/usr/lib/locale/" + language + b".utf8/LC_CTYPE"
        places = (folder, b"/usr/lib/locale/locale-archive")
        return any(self._place.rootfs.resolve(path).node is not None for path in places)


def _split_string(word: bytes) -> list[bytes] | None:
    """`-S` of coreutils takes its argument apart at blanks; None where that needs more than blanks."""
    for option in (b"-S", b"-vS", b"--split-string="):
        if word.startswith(option):
            text = word[len(option) :]
            return None if option == b"-vS" or any(byte in b"\"'\\$#" for byte in text) else text.split()
    return [word]


# -- a shell and its script --


def _open_script(place: Surroundings, executed: Execution, shell: bytes, words: Mapping[str, bytes]) -> Refusal | None:
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
