"""What is known of a shell at one moment: variables, parameters, directory, options, and what may have been written to disk."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from analyzers.kernel import Execution
from analyzers.shell.tree import Command


class Gap(enum.Enum):
    """Stands for what nobody can foretell."""

    ONE = "one value"
    MANY = "any number of values"


Field = bytes | Gap
Value = Field | tuple[Field, ...]
"""A tuple is an array of bash."""


class Variable(NamedTuple):
    value: Value | None
    """None: marked for export, and not set."""
    exported: bool = False


class Blame(NamedTuple):
    """The command that could not be run behind the last exit status."""

    lines: tuple[bytes, ...]
    exit_code: int
    rule: str
    culprit: bytes
    subject: bytes
    line: int


class Launched(NamedTuple):
    """A program that the shell starts: with `exec`, or as its last command."""

    executed: Execution
    env: tuple[bytes, ...]
    cwd: bytes
    line: int
    whole: bool = True
    """Every argument is known."""
    replaces: bool = True


class Writes:
    """What programs may have written: paths, with all below them, or anything."""

    __slots__ = ("anywhere", "paths")

    def __init__(self, paths: Iterable[bytes] = (), *, anywhere: bool = False) -> None:
        self.paths = frozenset(paths)
        self.anywhere = anywhere

    def may_hold(self, path: bytes) -> bool:
        """Whether something may have been written at `path` (absolute), or above it."""
        return self.anywhere or self.names(path)

    def names(self, path: bytes) -> bool:
        """Whether something is known to have been written at `path` or above it."""
        return any(path == each or path.startswith(each.rstrip(b"/") + b"/") for each in self.paths)

    def near(self, directory: bytes) -> bool:
        """Whether something may have been written in a directory."""
        start = directory.rstrip(b"/") + b"/"
        return self.may_hold(directory) or any(each.startswith(start) for each in self.paths)

    def __or__(self, other: Writes) -> Writes:
        return Writes(self.paths | other.paths, anywhere=self.anywhere or other.anywhere)


ANYWHERE = Writes(anywhere=True)


class State:
    """One moment. Copied where ways part, merged where they meet again."""

    __slots__ = (
        "blame", "cwd", "errexit", "functions", "last", "nounset", "positional", "status", "variables", "writes",
    )  # fmt: skip

    def __init__(self, variables: dict[bytes, Variable], positional: tuple[Field, ...], cwd: bytes | None) -> None:
        self.variables = variables
        self.positional = positional
        self.cwd = cwd
        """None where nobody knows."""
        self.errexit: bool | None = False
        self.nounset = False
        self.functions: dict[bytes, Command | None] = {}
        """None: a function of unknown content, or perhaps none."""
        self.writes = Writes()
        self.status: int | None = 0
        self.blame: Blame | None = None
        self.last: Launched | None = None
        """The program of the last command, where it was one."""

    def copy(self) -> State:
        made = State(dict(self.variables), self.positional, self.cwd)
        for name in ("errexit", "nounset", "writes", "status", "blame", "last"):
            setattr(made, name, getattr(self, name))
        made.functions = dict(self.functions)
        return made

    def merged(self, other: State) -> State:
        """What is still known when either may be."""
        made = self.copy()
        for name in self.variables.keys() | other.variables.keys():
            mine, its = self.variables.get(name), other.variables.get(name)
            if mine != its:
                exported = bool((mine and mine.exported) or (its and its.exported))
                made.variables[name] = Variable(Gap.ONE, exported)
        for function in self.functions.keys() | other.functions.keys():
            if self.functions.get(function) is not other.functions.get(function):
                made.functions[function] = None
        if self.positional != other.positional:
            made.positional = (Gap.MANY,)
        made.cwd = self.cwd if self.cwd == other.cwd else None
        made.errexit = self.errexit if self.errexit == other.errexit else None
        made.nounset = self.nounset and other.nounset
        made.writes = self.writes | other.writes
        made.status = self.status if self.status == other.status else None
        made.blame = None
        made.last = self.last if self.last == other.last else None
        return made

    def get(self, name: bytes) -> Value | None:
        found = self.variables.get(name)
        return None if found is None else found.value

    def put(self, name: bytes, value: Value, *, exported: bool | None = None) -> None:
        old = self.variables.get(name)
        if exported is None:
            exported = old is not None and old.exported
        self.variables[name] = Variable(value, exported)

    def environment(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """What a program is given, and the names of those whose values are unknown."""
        known, unknown = [], []
        for name, variable in self.variables.items():
            if not variable.exported or variable.value is None or isinstance(variable.value, tuple):
                continue
            if isinstance(variable.value, Gap):
                unknown.append(name)
            else:
                known.append(name + b"=" + variable.value)
        return tuple(known), tuple(unknown)
