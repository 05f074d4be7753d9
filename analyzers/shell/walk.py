"""Follows a shell script through an image: which program it ends up running, and which commands it wants that are not there.

Nothing is run. Where a condition cannot be foretold both ways are looked at, and merged when neither leaves the script;
otherwise the whole walk is made once for every way (`survey`). What is not understood ends a walk as Lost, never as a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.finding import Step
from analyzers.handover.place import Surroundings
from analyzers.kernel import Execution
from analyzers.shell import builtins
from analyzers.shell.commands import Speaker, absolute, candidates, refusal, seek, written
from analyzers.shell.conditions import Malformed, Truth, evaluate
from analyzers.shell.double_test import DoubleTest
from analyzers.shell.expansion import Expander
from analyzers.shell.models import model
from analyzers.shell.names import BUILTINS, BUSYBOX_APPLETS
from analyzers.shell.outcomes import Break, Continue, Ended, Failed, GaveUp, Lost, Missing, NotQuiet, Over, Return, Stays
from analyzers.shell.parser import Parser
from analyzers.shell.patterns import compiled, matches
from analyzers.shell.state import ANYWHERE, Blame, Field, Gap, Launched, State, Value, Variable, Writes
from analyzers.shell.tree import (
    AndOr,
    Assignment,
    Calculation,
    Case,
    Command,
    Commands,
    Dialect,
    For,
    Function,
    Group,
    If,
    Literal,
    Loop,
    Pipeline,
    Redirect,
    Simple,
    Test,
    Unforeseen,
    Word,
)
from analyzers.shell.words import Unparsable, unquoted

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
_ONCE_ONLY = frozenset(b"LD_LIBRARY_PATH LD_PRELOAD PATH".split())


class Budget:
    """How much may still be looked at."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = MAX_STEPS


class Walk:
    """One way through a script."""

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
    ) -> None:
        self.place = place
        self.speaker = speaker
        self.dialect = speaker.dialect
        self.creds = creds
        self.state = state
        self.missing: list[Missing] = []
        self.line = 1
        self._file = file
        self._budget = budget
        self._choices = choices
        self._taken = 0
        self._weak = 0
        """In a branch that may or may not be taken."""
        self._children = 0
        """In a process of its own."""
        self._silent = 0
        self._tested = 0
        self._nesting = 0
        self._depth = 0
        self._sinks: list[list[Field]] = []
        self.locals: list[dict[bytes, Variable | None]] = []
        self.expander = Expander(self)

    # -- texts --

    def run_text(self, text: bytes, file: str | None = None) -> int | None:
        """All commands of a text. Raises Over and the other ways out."""
        outer, self._file = self._file, file or self._file
        commands = Parser(text, self.dialect, line=self.line if file is None else 1).scripts()
        self._depth += 1
        if self._depth > 8:
            raise self.lost("files are nested too deeply")
        try:
            while (following := self._next(commands)) is not None:
                self.run(following)
        finally:
            self._depth -= 1
        self._file = outer
        return self.state.status

    def _next(self, commands: Iterator[Commands]) -> Commands | None:
        try:
            return next(commands, None)
        except Unparsable as error:
            self.line = error.line
            raise self.lost(error.why) from None

    @property
    def tested(self) -> bool:
        """Whether the script asks for the status of what it runs now."""
        return self._tested > 0

    def silence(self, redirects: Sequence[Redirect]) -> None:
        """From now on nothing is seen of the error output, or it is seen elsewhere."""
        self._silent += _silenced(redirects)

    @property
    def file(self) -> str:
        """The script that is read, for people."""
        return self._file

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
        self._budget.steps -= 1
        if self._budget.steps < 0:
            raise self.lost("it is too long to be followed")
        if item.background:
            self.in_child(lambda: self._chain(item), waits=False)
            self._set(0)
            self.state.last = None
            return
        self._chain(item)

    def _chain(self, item: AndOr) -> int | None:
        status = self._pipeline(item.first, tested=bool(item.rest))
        for index, (operator, pipeline) in enumerate(item.rest):
            last = index == len(item.rest) - 1

            def right(pipeline: Pipeline = pipeline, last: bool = last) -> int | None:
                return self._pipeline(pipeline, tested=not last)

            if status is None:
                self.maybe(right, lambda: None)
                ended = self.state.status
                status = 0 if operator == b"||" and ended == 0 else None
                self._set(status)
            elif (status == 0) is (operator == b"&&"):
                status = right()
        return status

    def _pipeline(self, item: Pipeline, *, tested: bool) -> int | None:
        self.line = item.line
        quiet = tested or item.negated
        self._tested += quiet
        try:
            if len(item.commands) == 1:
                status = self._command(item.commands[0])
            else:
                for command in item.commands[:-1]:
                    self.in_child(lambda command=command: self._command(command), piped=True)  # type: ignore[misc]
                status = self.in_child(lambda: self._command(item.commands[-1]))
        finally:
            self._tested -= quiet
        if item.negated:
            status = None if status is None else int(not status)
            self._set(status)
        if status and not quiet and not self._tested and self.state.errexit:
            self.fail_here(status)
        return status

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

    # -- ways that part --

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

    # -- what expansion asks --

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
        if state.writes.may_hold(wanted) or found.unknown or wanted.startswith((b"/proc/", b"/sys/", b"/dev/")):
            return None
        node = found.node
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

    # -- commands --

    def _command(self, command: Command) -> int | None:
        self.line = command.line
        if isinstance(command, Pipeline | Function) or not command.redirects:
            return self._kind(command)
        self.redirected(command.redirects)
        silent = _silenced(command.redirects)
        self._silent += silent
        try:
            return self._kind(command)
        finally:
            self._silent -= silent

    def _kind(self, command: Command) -> int | None:
        if not isinstance(command, Simple | Function):
            self.state.last = None
        match command:
            case Simple():
                return self._simple(command)
            case Group():
                return self.in_child(lambda: self.run(command.body)) if command.subshell else self.run(command.body)
            case If():
                return self._if(command, 0)
            case Loop():
                return self._loop(command)
            case For():
                return self._for(command)
            case Case():
                return self._case(command)
            case Function():
                self.state.functions[command.name] = command.body
                self._set(0)
            case Test():
                self._set_truth(self._double_test(command))
            case Calculation():
                value = self.expander.calculated(command.word)
                self._set(None if isinstance(value, Gap) else int(value == b"0"))
                builtins.forget_assigned(self, command.word)
            case Unforeseen():
                raise self.lost(f"{command.what} cannot be foretold")
            case Pipeline():
                return self._pipeline(command, tested=False)
        return self.state.status

    def _set_truth(self, truth: Truth) -> None:
        self._set(None if truth is None else int(not truth))

    def _condition(self, commands: Commands) -> int | None:
        self._tested += 1
        try:
            return self.run(commands)
        finally:
            self._tested -= 1

    def _if(self, command: If, index: int) -> int | None:
        if index == len(command.branches):
            if command.otherwise is not None:
                return self.run(command.otherwise)
            self._set(0)
            return 0
        condition, body = command.branches[index]
        status = self._condition(condition)
        if status is None:
            return self.maybe(lambda: self.run(body), lambda: self._if(command, index + 1))
        return self.run(body) if status == 0 else self._if(command, index + 1)

    def _case(self, command: Case) -> int | None:
        value = self.expander.value(command.word)
        possible: list[Callable[[], int | None]] = []
        for item in command.items:
            found = self._matching(value, item.patterns)
            if found is False:
                continue
            if item.end != b";;":
                raise self.lost("a case that goes on cannot be foretold")
            possible.append(lambda item=item: self._body(item.body))  # type: ignore[misc]
            if found:
                break
        else:
            possible.append(lambda: self._body(()))
        return possible[0]() if len(possible) == 1 else self.maybe(*possible)

    def _body(self, commands: Commands) -> int | None:
        self._set(0)
        return self.run(commands)

    def _matching(self, value: Field, patterns: Sequence[Word]) -> Truth:
        truth: Truth = False
        for word in patterns:
            if unquoted(word) == b"*":
                return True
            chunks = self.expander.chunks(word)
            if chunks is None or isinstance(value, Gap):
                truth = None
            elif matches(compiled(chunks), value):
                return True if truth is False else None
        return truth

    def _double_test(self, command: Test) -> Truth:
        """`[[ ]]` with one comparison; `&&`, `||` and parentheses over them."""
        return DoubleTest(self, command.items).result()

    # -- loops --

    def _once(self, body: Commands) -> int | None:
        try:
            return self.run(body)
        except Continue as way:
            if way.levels > 1:
                raise Continue(way.levels - 1) from None
        return self.state.status

    def _loop(self, command: Loop) -> int | None:
        for _ in range(MAX_ROUNDS):
            status = self._condition(command.condition)
            if status is None:
                return self._perhaps(lambda: self._once(command.body))
            if (status == 0) is command.until:
                self._set(0)
                return 0
            try:
                self._once(command.body)
            except Break as way:
                if way.levels > 1:
                    raise Break(way.levels - 1) from None
                self._set(0)
                return 0
        raise Over(Stays(self._file, command.line))

    def _perhaps(self, body: Callable[[], int | None]) -> int | None:
        """A body that is run any number of times: what it changes is unknown."""

        def quiet() -> int | None:
            try:
                return body()
            except Break as way:
                if way.levels > 1:
                    raise
            return None

        self.maybe(quiet, lambda: None)
        self.maybe(quiet, lambda: None)
        self._set(None)
        return None

    def _for(self, command: For) -> int | None:
        words = list(self.state.positional) if command.words is None else self.expander.fields(command.words)
        self._set(0)
        if Gap.MANY in words or len(words) > MAX_ROUNDS:
            self.state.put(command.name, Gap.ONE)
            return self._perhaps(lambda: self._once(command.body))
        for word in words:
            self.state.put(command.name, word)
            try:
                self._once(command.body)
            except Break as way:
                if way.levels > 1:
                    raise Break(way.levels - 1) from None
                break
        return self.state.status

    # -- simple commands --

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

    def _simple(self, command: Simple) -> int | None:
        words = [word for word in command.words if not isinstance(word, Assignment)]
        if not command.words:
            self._set(0)
            for assignment in command.assignments:
                self.assign(assignment)
            if not any(_substitutes(each) for each in command.assignments):
                self._set(0)
            return self.state.status
        fields = self.expander.fields(words)
        if not fields:
            for assignment in command.assignments:
                self.assign(assignment)
            self._set(0)
            return 0
        name = fields[0]
        if isinstance(name, Gap):
            return self._unknown_command(fields)
        body = self.state.functions.get(name, False)
        if body is None:
            raise self.lost(f"what {name.decode(errors='replace')} does cannot be foretold")
        if body is not False:
            return self._call(body, fields[1:], command)  # type: ignore[arg-type]
        if name in BUILTINS[self.dialect]:
            return self._builtin(name, fields, command)
        return self._external(fields, command)

    def _unknown_command(self, fields: Sequence[Field]) -> int | None:
        """Nobody knows which program is run, and whether it is a function or a builtin that ends the script."""
        self.state.writes = self.state.writes | ANYWHERE
        self.say(Gap.ONE, ())
        self.state.last = None
        self._set(None)
        return None

    def _builtin(self, name: bytes, fields: list[Field], command: Simple) -> int | None:
        for assignment in command.assignments:
            self.assign(assignment)
        self.state.last = None
        status = builtins.run(self, name, fields, command)
        self._set(status)
        return status

    def _call(self, body: Command, arguments: list[Field], command: Simple) -> int | None:
        if len(self.locals) > 12:
            raise self.lost("functions are nested too deeply")
        for assignment in command.assignments:
            self.assign(assignment)
        outer, self.state.positional = self.state.positional, tuple(arguments)
        self.locals.append({})
        try:
            status = self._command(body)
        except Return as way:
            status = way.status
        self.state.positional = outer
        for name, variable in self.locals.pop().items():
            if variable is None:
                self.state.variables.pop(name, None)
            else:
                self.state.variables[name] = variable
        self.state.status = status
        return status

    def test(self, arguments: Sequence[Field]) -> int | None:
        """`test` and `[`."""
        try:
            truth = evaluate(arguments, self.ask_file)
        except Malformed:
            return 2
        return None if truth is None else int(not truth)

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

    def _external(self, fields: list[Field], command: Simple) -> int | None:
        given: dict[bytes, Variable | None] = {}
        for assignment in command.assignments:
            given.setdefault(assignment.name, self.state.variables.get(assignment.name))
            self.assign(assignment)
            variable = self.state.variables[assignment.name]
            self.state.variables[assignment.name] = variable._replace(exported=True)
        status = self.launch(fields, command.redirects)
        for name, old in given.items():
            if old is None:
                self.state.variables.pop(name, None)
            else:
                self.state.variables[name] = old
        self._set(status)
        return status

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
            self.state.writes = self.state.writes | written(name.rpartition(b"/")[2], fields[1:], self.state)
            status, output = model(self, name.rpartition(b"/")[2], fields[1:])
            self.say(output, redirects)
            return status
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

    def complain(self, blame: Blame, steps: tuple[Step, ...], redirects: Sequence[Redirect], *, tested: bool) -> None:
        """The shell says on its error output why something cannot be done, where that is still seen and certain to come."""
        if not self._weak and not self._silent and not _silenced(redirects):
            self.missing.append(Missing(self._file, self.line, blame, steps, tested))

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


def _silenced(redirects: Sequence[Redirect]) -> bool:
    return any(each.descriptor == 2 or each.operator in (b"&>", b"&>>") for each in redirects)


def _substitutes(assignment: Assignment) -> bool:
    value = assignment.value
    return bool(value) and not assignment.array and any(not isinstance(part, Literal) for part in value or ())
