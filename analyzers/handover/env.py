"""`env` executes another program, searched on PATH.

Mirrors coreutils `src/env.c`, BusyBox `coreutils/env.c` and `execvp` of glibc (`posix/execvpe.c`) and musl (K5, C13). Claims
nothing of options it does not know (R43).
"""

from __future__ import annotations

import msgspec

from analyzers.finding import Attempt, Step, show
from analyzers.handover.execvp import execvp
from analyzers.handover.place import MUSL_STRERROR, STRERROR, Refusal, Surroundings
from analyzers.handover.quoting import quote
from analyzers.kernel import Execution
from analyzers.trail import show_path

# What a static BusyBox may have inside and run without looking for a file.
_APPLETS = frozenset(b"ash awk bc cat dc ed env hush sed sh".split())
_SPACES = b" \t\n\v\f\r"


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
        done = execvp(self._place, argv, self._executed.creds, attempts, musl=self._musl)
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

    def _refuse(self, name: bytes, done: Execution, steps: tuple[Step, ...]) -> Refusal:
        words = (MUSL_STRERROR if self._musl else STRERROR)[done.error]
        absent = done.error == "ENOENT"
        if self._busybox:
            lines = [b"env: can't execute '" + name + b"': " + words]
        else:
            argv0 = self._executed.argv[0]
            lines = [argv0 + b": " + quote(self._place, name) + b": " + words]
            if absent and any(byte in _SPACES for byte in name):
                lines.append(argv0 + b": use -[v]S to pass options in shebang lines")
        cause = "script.env-target-absent" if absent else "script.interpreter-unusable"
        return Refusal(tuple(lines), 127 if absent else 126, cause, done.subject, name, steps)


def _split_string(word: bytes) -> list[bytes] | None:
    """`-S` of coreutils takes its argument apart at blanks; None where that needs more than blanks."""
    for option in (b"-S", b"-vS", b"--split-string="):
        if word.startswith(option):
            text = word[len(option) :]
            return None if option == b"-vS" or any(byte in b"\"'\\$#" for byte in text) else text.split()
    return [word]
