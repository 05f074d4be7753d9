"""`env` executes another program, searched on PATH.

Mirrors coreutils `src/env.c`, BusyBox `coreutils/env.c` and `execvp` of glibc (`posix/execvpe.c`) and musl (K5, C13). Claims
nothing of options it does not know (R43).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from analyzers.finding import Attempt, Step, show
from analyzers.handover.place import MUSL_STRERROR, STRERROR, Refusal, Surroundings
from analyzers.kernel import Execution, execute
from analyzers.lookup import variable
from analyzers.trail import attempt, show_path

_SHOWN_ATTEMPTS = 64
_SHELL = b"/bin/sh"
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


class Env:
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
        words = (MUSL_STRERROR if self._musl else STRERROR)[done.error]
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
