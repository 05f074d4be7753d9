"""Follows a shell script through an image: which program it ends up running, and which commands it wants that are not there.

Nothing is run. Where a condition cannot be foretold both ways are looked at, and merged when neither leaves the script;
otherwise the whole walk is made once for every way (`survey`). What is not understood ends a walk as Lost, never as a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from analyzers.shell import builtins
from analyzers.shell.conditions import Truth
from analyzers.shell.core import MAX_ROUNDS, silenced
from analyzers.shell.double_test import DoubleTest
from analyzers.shell.launching import Launching
from analyzers.shell.names import BUILTINS
from analyzers.shell.outcomes import Break, Continue, Over, Return, Stays
from analyzers.shell.parser import Parser
from analyzers.shell.patterns import compiled, matches
from analyzers.shell.state import Field, Gap, Variable
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
    Simple,
    Test,
    Unforeseen,
    Word,
)
from analyzers.shell.words import Unparsable, unquoted


class Walk(Launching):
    """One way through a script."""

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

    def _command(self, command: Command) -> int | None:
        self.line = command.line
        if isinstance(command, Pipeline | Function) or not command.redirects:
            return self._kind(command)
        self.redirected(command.redirects)
        silent = silenced(command.redirects)
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
                self._sources[command.name] = self.speaker.sourced
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
            return self._call(name, body, fields[1:], command)  # type: ignore[arg-type]
        if name in BUILTINS[self.dialect]:
            return self._builtin(name, fields, command)
        return self._external(fields, command)

    def _builtin(self, name: bytes, fields: list[Field], command: Simple) -> int | None:
        for assignment in command.assignments:
            self.assign(assignment)
        self.state.last = None
        status = builtins.run(self, name, fields, command)
        self._set(status)
        return status

    def _call(self, name: bytes, body: Command, arguments: list[Field], command: Simple) -> int | None:
        if len(self.locals) > 12:
            raise self.lost("functions are nested too deeply")
        for assignment in command.assignments:
            self.assign(assignment)
        outer, self.state.positional = self.state.positional, tuple(arguments)
        self.locals.append({})
        speaker = self.speaker
        if self.dialect is Dialect.BASH:
            self.speaker = speaker._replace(sourced=self._sources.get(name, b""))
        try:
            status = self._command(body)
        except Return as way:
            status = way.status
        finally:
            self.speaker = speaker
        self.state.positional = outer
        for variable, old in self.locals.pop().items():
            if old is None:
                self.state.variables.pop(variable, None)
            else:
                self.state.variables[variable] = old
        self.state.status = status
        return status

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


def _substitutes(assignment: Assignment) -> bool:
    value = assignment.value
    return bool(value) and not assignment.array and any(not isinstance(part, Literal) for part in value or ())
