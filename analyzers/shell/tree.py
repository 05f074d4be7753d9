"""The syntax tree of a shell script: words with their expansions, and commands.

Data only, made by parser.py. Lines are counted from 1 within the text that was parsed.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Dialect(enum.StrEnum):
    """A shell whose grammar and words are known."""

    DASH = "dash"
    BASH = "bash"
    ASH = "ash"
    """BusyBox's."""


class Literal(NamedTuple):
    text: bytes
    quoted: bool = False


class Parameter(NamedTuple):
    """`$name` or `${name...}`."""

    name: bytes
    operator: bytes = b""
    """As written between name and word; `length` for `${#name}`, `?` with an unknown word for what is not understood."""
    word: Word = ()
    quoted: bool = False
    subscript: bytes = b""
    """What stands in brackets behind the name of an array."""


class Substitution(NamedTuple):
    """`$(...)` or backquotes."""

    body: Commands
    quoted: bool = False


class Arithmetic(NamedTuple):
    word: Word
    quoted: bool = False


class Opaque(NamedTuple):
    """Something whose value nobody can foretell, such as `<(...)`."""

    quoted: bool = False


Part = Literal | Parameter | Substitution | Arithmetic | Opaque
Word = tuple[Part, ...]


class Assignment(NamedTuple):
    name: bytes
    value: Word | tuple[Word, ...] | None
    """A tuple of words is an array; None: nothing that is understood."""
    append: bool = False
    array: bool = False


class Redirect(NamedTuple):
    operator: bytes
    descriptor: int | None
    target: Word


class Simple(NamedTuple):
    line: int
    assignments: tuple[Assignment, ...]
    words: tuple[Word | Assignment, ...]
    """Assignments among the words are arrays given to `declare` and its like."""
    redirects: tuple[Redirect, ...]


class Group(NamedTuple):
    """`{ ...; }`, or `( ... )` in a process of its own."""

    line: int
    body: Commands
    subshell: bool
    redirects: tuple[Redirect, ...] = ()


class If(NamedTuple):
    line: int
    branches: tuple[tuple[Commands, Commands], ...]
    otherwise: Commands | None
    redirects: tuple[Redirect, ...] = ()


class Loop(NamedTuple):
    line: int
    until: bool
    condition: Commands
    body: Commands
    redirects: tuple[Redirect, ...] = ()


class For(NamedTuple):
    line: int
    name: bytes
    words: tuple[Word, ...] | None
    """None: the positional parameters."""
    body: Commands
    redirects: tuple[Redirect, ...] = ()


class CaseItem(NamedTuple):
    patterns: tuple[Word, ...]
    body: Commands
    end: bytes


class Case(NamedTuple):
    line: int
    word: Word
    items: tuple[CaseItem, ...]
    redirects: tuple[Redirect, ...] = ()


class Function(NamedTuple):
    line: int
    name: bytes
    body: Command


class Test(NamedTuple):
    """bash's `[[ ... ]]`: words, and operators as bytes."""

    line: int
    items: tuple[Word | bytes, ...]
    redirects: tuple[Redirect, ...] = ()


class Calculation(NamedTuple):
    """bash's `((...))`."""

    line: int
    word: Word
    redirects: tuple[Redirect, ...] = ()


class Unforeseen(NamedTuple):
    """A construct that is parsed and not followed."""

    line: int
    what: str
    redirects: tuple[Redirect, ...] = ()


class Pipeline(NamedTuple):
    line: int
    commands: tuple[Command, ...]
    negated: bool


Command = (
    Simple | Group | If | Loop | For | Case | Function | Test | Calculation | Unforeseen | Pipeline
)  # a pipeline only below And


class AndOr(NamedTuple):
    """Pipelines between `&&` and `||`; `background` where it ends in `&`."""

    line: int
    first: Pipeline
    rest: tuple[tuple[bytes, Pipeline], ...]
    background: bool = False


Commands = tuple[AndOr, ...]
