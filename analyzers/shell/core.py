"""The ground of a walk through a script: its lists of commands, the ways that part in it, and what expansion asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.handover.place import Surroundings
from analyzers.shell.commands import Speaker, absolute
from analyzers.shell.conditions import Truth
from analyzers.shell.expansion import Expander
from analyzers.shell.outcomes import Break, Ended, Failed, GaveUp, Lost, Missing, NotQuiet, Over, Return
from analyzers.shell.state import ANYWHERE, Blame, Field, Gap, State, Value, Variable
from analyzers.shell.tree import (
    AndOr,
    Commands,
    Dialect,
    Redirect,
)

MAX_STEPS = 6_000
"""Commands looked at in all walks through one script."""
MAX_NESTING = 45
"""Commands within commands, functions and sourced files included."""
MAX_ROUNDS = 100
_ASH_BASH = frozenset((Dialect.BASH, Dialect.ASH))
_BASH_VARIES = frozenset(
    b"RANDOM SECONDS BASHPID BASH_VERSION BASH_VERSINFO HOSTTYPE OSTYPE MACHTYPE BASH_SOURCE EPOCHSECONDS LINENO FUNCNAME "
    b"PIPESTATUS BASH_REMATCH SHLVL BASH".split()
)


class Budget:
    """How much may still be looked at."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = MAX_STEPS


class Core:
    """What does not depend on the kind of a command."""

    def __init__(
        self,
        place: Surroundings,
        speaker: Speaker,
        creds: Credentials,
        state: State,
        *,
        file: str,
        budget: Budget,
        choices: list[tuple[int, int]],
        level: int = 0,
    ) -> None:
        """`level`: how many scripts wait for this one."""
        self.place = place
        self.speaker = speaker
        self.dialect = speaker.dialect
        self.creds = creds
        self.state = state
        self.missing: list[Missing] = []
        self.line = 1
        self._file = file
        self.budget = budget
        self.level = level
        self._choices = choices
        self._taken = 0
        self._weak = 0
        """In a branch that may or may not be taken."""
        self._children = min(level, 1)
        """In a process of its own."""
        self._silent = 0
        self._tested = 0
        self._nesting = 0
        self._depth = 0
        self._sinks: list[list[Field]] = []
        self._sources: dict[bytes, bytes] = {}
        """Files in which functions were defined, where not the script itself."""
        self.locals: list[dict[bytes, Variable | None]] = []
        self.expander = Expander(self)

    @property
    def tested(self) -> bool:
        """Whether the script asks for the status of what it runs now."""
        return self._tested > 0

    @property
    def file(self) -> str:
        """The script that is read, for people."""
        return self._file

    def silence(self, redirects: Sequence[Redirect]) -> None:
        """From now on nothing is seen of the error output, or it is seen elsewhere."""
        self._silent += silenced(redirects)

    def lost(self, why: str) -> Over:
        return Over(Lost(self._file, self.line, why))

    def give_up(self, words: bytes) -> None:
        """The script ends itself with a complaint."""
        raise Over(GaveUp(self._file, self.line, 2 if self.dialect is not Dialect.BASH else 1, words))

    def run(self, commands: Commands) -> int | None:
        """Commands one after the other."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self.lost("commands are nested too deeply")
        try:
            for item in commands:
                self._item(item)
        finally:
            self._nesting -= 1
        return self.state.status

    def _item(self, item: AndOr) -> None:
        self.budget.steps -= 1
        if self.budget.steps < 0:
            raise self.lost("it is too long to be followed")
        if item.background:
            self.in_child(lambda: self._chain(item), waits=False)
            self._set(0)
            self.state.last = None
            return
        self._chain(item)

    def _set(self, status: int | None) -> None:
        self.state.status = status
        blame = self.state.blame
        if blame is not None and blame.exit_code != status:
            self.state.blame = None

    def fail_here(self, status: int) -> None:
        """The script ends with the status of its last command."""
        blame = self.state.blame
        if blame is not None and blame.exit_code == status:
            raise Over(Failed(self._file, blame))
        raise Over(GaveUp(self._file, self.line, status, b""))

    def choose(self, count: int) -> int:
        """Which way this walk takes where nobody knows; the survey goes through all."""
        if self._taken == len(self._choices):
            self._choices.append((0, count))
        self._taken += 1
        return self._choices[self._taken - 1][0]

    def maybe(self, *branches: Callable[[], int | None]) -> int | None:
        """One of several branches is run, nobody knows which."""
        before, found = self.state, len(self.missing)
        kept: list[State] = []
        ends: list[Over] = []
        saved = (len(self._sinks), len(self.locals), self.line, self._file)
        try:
            for branch in branches:
                self.state = before.copy()
                self._weak += 1
                try:
                    branch()
                    kept.append(self.state)
                except Over as over:
                    if not isinstance(over.outcome, GaveUp | Failed):
                        raise NotQuiet from over
                    ends.append(over)
                except (Return, Break) as way:
                    raise NotQuiet from way
                finally:
                    self._weak -= 1
                    self._restore(saved)
        except NotQuiet:
            self.state = before
            del self.missing[found:]
            if self._weak or self._children:
                raise
            return branches[self.choose(len(branches))]()
        if not kept:
            self.state = before
            raise ends[0]
        state = kept[0]
        for other in kept[1:]:
            state = state.merged(other)
        self.state = state
        return state.status

    def _restore(self, saved: tuple[int, int, int, str]) -> None:
        del self._sinks[saved[0] :], self.locals[saved[1] :]
        self.line, self._file = saved[2], saved[3]

    def in_child(self, action: Callable[[], int | None], *, waits: bool = True, piped: bool = False) -> int | None:
        """In a process of its own: what it learns is forgotten, what it may write is not."""
        outer, found = self.state, len(self.missing)
        saved = (len(self._sinks), len(self.locals), self.line, self._file)
        self.state = outer.copy()
        if piped:
            self._sinks.append([])
        self._children += 1
        status: int | None = None
        blame: Blame | None = None
        writes = None
        try:
            status = action()
            blame = self.state.blame
        except Over as over:
            outcome = over.outcome
            if isinstance(outcome, Failed):
                status, blame = outcome.blame.exit_code, outcome.blame
            elif isinstance(outcome, GaveUp | Ended):
                status = outcome.status
            elif isinstance(outcome, Lost):
                writes = ANYWHERE
        except Return as way:
            status = way.status
        except NotQuiet:
            del self.missing[found:]
            writes = ANYWHERE
        except Break:
            status = 0
        finally:
            self._children -= 1
            inner, self.state = self.state, outer
            self._restore(saved)
        outer.writes = outer.writes | inner.writes if writes is None else outer.writes | writes
        self._set(status if waits else 0)
        outer.blame = blame if status and waits else None
        outer.last = None
        return self.state.status

    def special(self, name: bytes) -> Value | None:
        """Parameters that the shell itself sets."""
        state = self.state
        match name:
            case b"#":
                return Gap.ONE if Gap.MANY in state.positional else str(len(state.positional)).encode()
            case b"0":
                return self.speaker.zero
            case b"?":
                return Gap.ONE if state.status is None else str(state.status).encode()
            case b"$" | b"!" | b"-" | b"_" | b"PPID":
                return Gap.ONE
            case b"PWD":
                return Gap.ONE if state.cwd is None else state.cwd
        if self.dialect is Dialect.BASH:
            if name in (b"UID", b"EUID"):
                return str(self.creds.uid).encode()
            if name == b"BASH_SOURCE" and not self.locals:
                return (self.speaker.zero,) if self._nesting < 20 else Gap.ONE
            if name in _BASH_VARIES:
                return Gap.ONE
        return None

    def output_of(self, body: Commands) -> Field:
        """What `$(...)` becomes."""
        sink: list[Field] = []
        count = len(self._sinks)

        def captured() -> int | None:
            self._sinks.append(sink)
            return self.run(body)

        status = self.in_child(captured)
        del self._sinks[count:]
        if any(isinstance(each, Gap) for each in sink) or (status is None and not sink):
            return Gap.ONE
        return b"".join(each for each in sink if isinstance(each, bytes)).rstrip(b"\n")

    def say(self, output: Field, redirects: Sequence[Redirect]) -> None:
        """A command writes to its standard output."""
        if not self._sinks or any(each.operator in (b">", b">>", b">|", b"&>", b"&>>") and each.descriptor in (None, 1)
                                  for each in redirects):  # fmt: skip
            return
        if any(each.operator == b">&" and each.descriptor in (None, 1) for each in redirects):
            return
        self._sinks[-1].append(output)

    def listing(self, directory: bytes) -> tuple[bytes, ...] | None:
        """Names in a directory of the image; None where something may have been written there."""
        state = self.state
        if state.cwd is None or state.writes.near(absolute(directory, state.cwd)):
            return None
        found = self.place.rootfs.resolve(directory, cwd=state.cwd, creds=self.creds)
        if found.node is None or found.node.entry.kind != Kind.DIRECTORY:
            return None if found.unknown else ()
        return self.place.rootfs.names(found.node.path)

    def ask_file(self, operator: bytes, path: bytes) -> Truth:
        """A test of a file."""
        state = self.state
        if state.cwd is None:
            return None
        wanted = absolute(path, state.cwd)
        follow = operator not in (b"-h", b"-L")
        found = self.place.rootfs.resolve(path, cwd=state.cwd, creds=self.creds, follow=follow)
        node = found.node
        changed = state.writes.may_hold(wanted) if node is None else state.writes.names(wanted)
        if changed or found.unknown or wanted.startswith((b"/proc/", b"/sys/", b"/dev/")):
            return None
        if node is None:
            return False
        entry, rootfs = node.entry, self.place.rootfs
        match operator:
            case b"-e" | b"-a":
                return True
            case b"-f":
                return entry.kind == Kind.FILE
            case b"-d":
                return entry.kind == Kind.DIRECTORY
            case b"-h" | b"-L":
                return entry.kind == Kind.SYMLINK
            case b"-r":
                return rootfs.may_read(node, self.creds)
            case b"-x":
                return entry.kind == Kind.DIRECTORY or rootfs.may_execute(node, self.creds)
            case b"-s":
                return entry.size > 0 if entry.kind == Kind.FILE else None
            case b"-b" | b"-c" | b"-p" | b"-S":
                return False if entry.kind in (Kind.FILE, Kind.DIRECTORY) else None
        return None

    def _chain(self, item: AndOr) -> int | None:
        """One list of pipelines; the walk's part."""
        raise NotImplementedError


def silenced(redirects: Sequence[Redirect]) -> bool:
    return any(each.descriptor == 2 or each.operator in (b"&>", b"&>>") for each in redirects)
