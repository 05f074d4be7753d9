"""How a walk looks for programs and starts them, and what it knows of them afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analyzers.facts import Kind
from analyzers.finding import Step
from analyzers.kernel import Execution
from analyzers.shell.commands import absolute, candidates, refusal, seek, written
from analyzers.shell.conditions import Malformed, evaluate
from analyzers.shell.core import Core, silenced
from analyzers.shell.models import model
from analyzers.shell.names import BUSYBOX_APPLETS
from analyzers.shell.nested import follow_script
from analyzers.shell.outcomes import Failed, Lost, Missing, Over
from analyzers.shell.state import ANYWHERE, Blame, Field, Gap, Launched, Value, Writes
from analyzers.shell.tree import (
    Assignment,
    Dialect,
    Redirect,
    Word,
)
from analyzers.shell.words import unquoted

_ONCE_ONLY = frozenset(b"LD_LIBRARY_PATH LD_PRELOAD PATH".split())
"""Variables on which it depends what a program finds."""


class Launching(Core):
    """Programs, assignments and redirections."""

    def find(self, name: bytes, *, executable: bool = True) -> bytes | None:
        """Where a command is: its path, empty where it is certainly nowhere, None where nobody knows."""
        if self.dialect is Dialect.ASH and executable and name in BUSYBOX_APPLETS:
            return None
        places = candidates(name, self.state)
        if places is None or self.state.cwd is None:
            return None
        for path in places:
            found = self.place.rootfs.resolve(path, cwd=self.state.cwd, creds=self.creds)
            if found.unknown or (found.node is None and self.state.writes.may_hold(absolute(path, self.state.cwd))):
                return None
            node = found.node
            if node is None or node.entry.kind != Kind.FILE:
                continue
            if not executable or self.place.rootfs.may_execute(node, self.creds):
                return path
        return b""

    def _unknown_command(self, fields: Sequence[Field]) -> int | None:
        """Nobody knows which program is run, and whether it is a function or a builtin that ends the script."""
        self.state.writes = self.state.writes | ANYWHERE
        self.say(Gap.ONE, ())
        self.state.last = None
        self._set(None)
        return None

    def launch(self, fields: Sequence[Field], redirects: Sequence[Redirect], *, replacing: bool = False) -> int | None:
        """A program is looked for and started. With `replacing` the script ends here, whatever comes of it."""
        name = fields[0]
        self.state.last = None
        if isinstance(name, Gap):
            if replacing:
                raise self.lost("which program it runs cannot be foretold")
            return self._unknown_command(fields)
        if self.dialect is Dialect.ASH and name in BUSYBOX_APPLETS and not replacing:
            return self._applet(fields, redirects)
        argv = tuple(each if isinstance(each, bytes) else b"" for each in fields)
        sought = seek(self.place, self.state, name, argv, self.creds)
        if sought is None or sought.executed.unknown:
            if replacing:
                raise self.lost(f"where {name.decode(errors='replace')} is looked for cannot be foretold")
            return self._unknown_command(fields)
        done = sought.executed
        if not done.error:
            launched = self._launched(done, (sought.step, *done.steps), fields, replaces=replacing)
            if replacing:
                raise Over(launched)
            self.state.last = launched
            return self._started(launched, name.rpartition(b"/")[2], fields, redirects)
        if done.error not in ("EACCES", "ENOENT", "ENOTDIR"):
            # Text without `#!` is run by the shell itself, and other files are refused in words that depend on their bytes.
            if replacing:
                raise self.lost(f"what {name.decode(errors='replace')} is, is for the shell to find out")
            return self._unknown_command(fields)
        if self.dialect is Dialect.ASH and replacing and name in BUSYBOX_APPLETS:
            raise self.lost(f"whether this BusyBox has {name.decode()} inside cannot be told")
        lines, code = refusal(self.speaker, name, sought, self.line, replacing=replacing)
        rule = "shell.command-not-executable" if code == 126 else "shell.command-absent"
        blame = Blame(lines, code, rule, name, done.subject, self.line)
        if not sought.certain:
            if replacing:
                raise Over(
                    Lost(
                        self._file,
                        self.line,
                        f"{name.decode(errors='replace')} is not in the image; an earlier command may make it",
                    )
                )
            return None
        self.complain(blame, (sought.step, *done.steps), redirects, tested=bool(self._tested) and not replacing)
        if replacing:
            raise Over(Failed(self._file, blame, (sought.step, *done.steps)))
        self.state.blame = blame
        self.state.status = code
        return code

    def _started(self, launched: Launched, name: bytes, fields: Sequence[Field], redirects: Sequence[Redirect]) -> int | None:
        """What is known of a program that runs and ends: scripts are followed in turn."""
        followed = follow_script(self, launched, seen=not silenced(redirects)) if launched.whole else None
        if followed is not None:
            self.state.writes = self.state.writes | followed.writes
            self.say(Gap.ONE, redirects)
            return followed.status
        self.state.writes = self.state.writes | written(name, fields[1:], self.state)
        status, output = model(self, name, fields[1:])
        self.say(output, redirects)
        return status

    def complain(self, blame: Blame, steps: tuple[Step, ...], redirects: Sequence[Redirect], *, tested: bool) -> None:
        """The shell says on its error output why something cannot be done, where that is still seen and certain to come."""
        if not self._weak and not self._silent and not silenced(redirects):
            self.missing.append(Missing(self._file, self.line, blame, steps, tested))

    def overheard(self, missing: Sequence[Missing], *, seen: bool) -> None:
        """What another script complains of, on the same error output."""
        if seen and not self._weak and not self._silent:
            self.missing.extend(missing)

    def _applet(self, fields: Sequence[Field], redirects: Sequence[Redirect]) -> int | None:
        """What this BusyBox may have inside."""
        name = fields[0] if isinstance(fields[0], bytes) else b""
        self.state.writes = self.state.writes | written(name, fields[1:], self.state)
        status, output = model(self, name, fields[1:])
        self.say(output, redirects)
        return status

    def _launched(self, done: Execution, steps: tuple[Step, ...], fields: Sequence[Field], *, replaces: bool) -> Launched:
        env, unknown = self.state.environment()
        if _ONCE_ONLY.intersection(unknown):
            raise self.lost(f"the value of {min(_ONCE_ONLY.intersection(unknown)).decode()} cannot be foretold")
        whole = all(isinstance(each, bytes) for each in fields)
        executed = msgspec.structs.replace(done, steps=steps)
        return Launched(executed, env, self.state.cwd or b"/", self.line, whole, replaces)

    def redirected(self, redirects: Sequence[Redirect]) -> None:
        """Files that redirections may write."""
        for redirect in redirects:
            if redirect.operator in (b"<", b"<<", b"<<-", b"<<<", b"<&") or (
                redirect.operator == b">&" and (unquoted(redirect.target) or b"x").strip(b"-").isdigit()
            ):
                continue
            target = self.expander.value(redirect.target)
            if isinstance(target, Gap) or self.state.cwd is None:
                self.state.writes = self.state.writes | ANYWHERE
            elif not target.startswith((b"/dev/", b"/proc/")):
                self.state.writes = self.state.writes | Writes((absolute(target, self.state.cwd),))

    def assign(self, assignment: Assignment) -> None:
        """`name=value`, `name=(...)`."""
        value: Value
        if assignment.value is None:
            value = Gap.ONE
        elif assignment.array:
            words: tuple[Word, ...] = assignment.value  # type: ignore[assignment]
            value = tuple(self.expander.fields(words))
        else:
            word: Word = assignment.value  # type: ignore[assignment]
            value = self.expander.value(word)
        if assignment.append:
            old = self.state.get(assignment.name)
            if isinstance(value, tuple):
                value = (*(old if isinstance(old, tuple) else () if old is None else (old,)), *value)
            elif isinstance(value, Gap) or isinstance(old, Gap | tuple):
                value = Gap.ONE
            else:
                value = (old or b"") + value
        self.state.put(assignment.name, value)

    def test(self, arguments: Sequence[Field]) -> int | None:
        """`test` and `[`."""
        try:
            truth = evaluate(arguments, self.ask_file)
        except Malformed:
            return 2
        return None if truth is None else int(not truth)
