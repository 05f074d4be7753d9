"""`env` executes another program, searched on PATH.

Mirrors coreutils `src/env.c`, BusyBox `coreutils/env.c` and `execvp` of glibc (`posix/execvpe.c`) and musl (K5, C13). Claims
nothing of options it does not know (R43).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzers.facts import Kind
from analyzers.finding import Attempt, Step, show
from analyzers.handover.execvp import execvp
from analyzers.handover.place import MUSL_STRERROR, STRERROR, Following, Refusal, Surroundings
from analyzers.handover.quoting import quote
from analyzers.handover.split_string import split_string
from analyzers.kernel import Execution
from analyzers.trail import show_path

# What a static BusyBox may have inside and run without looking for a file.
_APPLETS = frozenset(b"ash awk bc cat dc ed env hush sed sh".split())
_SPACES = b" \t\n\v\f\r"


class _Asked(NamedTuple):
    """What env is asked to do."""

    command: tuple[bytes, ...]
    env: tuple[bytes, ...]
    cwd: bytes


class Env:
    """One run of env."""

    def __init__(self, place: Surroundings, executed: Execution, *, musl: bool, busybox: bool) -> None:
        self._place = place
        self._executed = executed
        self._musl = musl
        self._busybox = busybox
        facts = None if executed.program is None else place.rootfs.elf(executed.program)
        self._has_applets = busybox and facts is not None and facts.interp is None

    def run(self) -> Following | Refusal | None:
        asked = self._asked()
        if asked is None or not asked.command or not asked.command[0]:
            return None
        name = asked.command[0]
        if self._has_applets and name in _APPLETS:
            return None
        attempts: list[Attempt] = []
        place = self._place._replace(env=asked.env, cwd=asked.cwd)
        done = execvp(place, asked.command, self._executed.creds, attempts, musl=self._musl)
        by = "" if self._executed.program is None else show_path(self._executed.program.path)
        step = Step("lookup", show(name), by, ok=not done.error, attempts=tuple(attempts))
        if done.error:
            return self._refuse(name, done, (step, *done.steps))
        return Following(msgspec.structs.replace(done, steps=(step, *done.steps)), asked.env, asked.cwd)

    def _asked(self) -> _Asked | None:
        """The command with its arguments and environment; None where env is asked for anything that is not understood."""
        words = list(self._executed.argv[1:])
        script = self._executed.script
        if script is not None and len(words) == 1 and not words[0].startswith(b"-"):
            return None  # `#!/usr/bin/env` alone runs the script itself, again and again
        env = dict(item.partition(b"=")[::2] for item in self._place.env)
        cwd = self._place.cwd
        while words and words[0].startswith(b"-"):
            word = words.pop(0)
            if word == b"--":
                break
            if word in (b"-", b"-i", b"--ignore-environment"):
                env = {}
            elif word in (b"-u", b"--unset") and words:
                env.pop(words.pop(0), None)
            elif word.startswith(b"--unset="):
                env.pop(word[8:], None)
            elif word.startswith(b"-u") and len(word) > 2:
                env.pop(word[2:], None)
            elif self._busybox:
                return None
            elif word.startswith((b"-S", b"--split-string=")) or (word == b"--split-string" and words):
                text = word[2:] if word.startswith(b"-S") else word.partition(b"=")[2]
                split = split_string(text if text or not words else words.pop(0), env)
                if split is None:
                    return None
                words[:0] = split
            elif word in (b"-C", b"--chdir") and words:
                cwd = words.pop(0)
            elif word.startswith(b"--chdir="):
                cwd = word[8:]
            else:
                return None
        while words and b"=" in words[0]:
            name, _, value = words.pop(0).partition(b"=")
            if not name:
                return None
            env[name] = value
        found = self._place.rootfs.resolve(cwd, cwd=self._place.cwd, creds=self._executed.creds).node
        if found is None or found.entry.kind != Kind.DIRECTORY:
            return None
        return _Asked(tuple(words), tuple(name + b"=" + value for name, value in env.items()), b"/" + found.path)

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
