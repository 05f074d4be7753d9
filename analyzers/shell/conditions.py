"""`test`, `[` and `[[`: true, false, or nobody knows. By the count of their arguments, as POSIX has it.

Files are asked of whoever calls; nothing here knows an image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from analyzers.shell.state import Field, Gap

Truth = bool | None
AskFile = Callable[[bytes, bytes], Truth]
"""(operator such as `-f`, path): what it would say."""

FILE_OPERATORS = frozenset(b"-b -c -d -e -f -g -h -k -L -p -r -s -S -u -w -x -O -G -N -a".split())
_STRING = frozenset((b"=", b"==", b"!=", b"<", b">"))
_NUMBER = frozenset(b"-eq -ne -lt -le -gt -ge".split())
_OTHER = frozenset(b"-nt -ot -ef".split())
BINARY = _STRING | _NUMBER | _OTHER
_INTEGER = re.compile(rb"\s*[-+]?[0-9]{1,18}\s*")


class Malformed(Exception):
    """The shell would complain; the status is 2."""


def negated(truth: Truth) -> Truth:
    return None if truth is None else not truth


def evaluate(arguments: Sequence[Field], ask: AskFile) -> Truth:
    """`test` with these arguments. Raises Malformed."""
    if Gap.MANY in arguments:
        return None
    return _few(list(arguments), ask)


def _few(args: list[Field], ask: AskFile) -> Truth:
    if not args:
        return False
    if len(args) == 1:
        return _known(args[0], lambda text: bool(text))
    if len(args) == 2:
        if args[0] == b"!":
            return negated(_few(args[1:], ask))
        return unary(args[0], args[1], ask)
    if len(args) == 3:
        if args[1] in BINARY:
            return binary(args[0], args[1], args[2])
        if args[1] in (b"-a", b"-o"):
            return _joined(args[1], _few(args[:1], ask), _few(args[2:], ask))
        if args[0] == b"!":
            return negated(_few(args[1:], ask))
        if args[0] == b"(" and args[2] == b")":
            return _few(args[1:2], ask)
        if isinstance(args[1], Gap):
            return None
        raise Malformed
    if len(args) == 4 and args[0] == b"!":
        return negated(_few(args[1:], ask))
    if len(args) == 4 and args[0] == b"(" and args[3] == b")":
        return _few(args[1:3], ask)
    return _Many(args, ask).result()


class _Many:
    """More than four arguments: `-o` below `-a` below `!`."""

    def __init__(self, args: list[Field], ask: AskFile) -> None:
        self._args = args
        self._ask = ask
        self._at = 0
        self._depth = 0

    def result(self) -> Truth:
        truth = self._either()
        if self._at < len(self._args):
            raise Malformed
        return truth

    def _next(self) -> Field | None:
        return self._args[self._at] if self._at < len(self._args) else None

    def _take(self, word: bytes) -> bool:
        if self._next() != word:
            return False
        self._at += 1
        return True

    def _either(self) -> Truth:
        truth = self._both()
        while self._take(b"-o"):
            truth = _joined(b"-o", truth, self._both())
        return truth

    def _both(self) -> Truth:
        truth = self._not()
        while self._take(b"-a"):
            truth = _joined(b"-a", truth, self._not())
        return truth

    def _not(self) -> Truth:
        self._depth += 1
        if self._depth > 50:
            raise Malformed
        if self._take(b"!"):
            return negated(self._not())
        return self._primary()

    def _primary(self) -> Truth:
        args, at = self._args, self._at
        if at + 2 < len(args) and args[at + 1] in BINARY:
            self._at += 3
            return binary(args[at], args[at + 1], args[at + 2])
        if self._take(b"("):
            truth = self._either()
            if not self._take(b")"):
                raise Malformed
            return truth
        first = self._next()
        if isinstance(first, bytes) and (first in FILE_OPERATORS or first in (b"-n", b"-z", b"-t")) and at + 1 < len(args):
            self._at += 2
            return unary(first, args[at + 1], self._ask)
        if first is None:
            raise Malformed
        self._at += 1
        return _known(first, lambda text: bool(text))


def _known(field: Field, ask: Callable[[bytes], Truth]) -> Truth:
    return ask(field) if isinstance(field, bytes) else None


def _joined(operator: bytes, left: Truth, right: Truth) -> Truth:
    decisive = operator == b"-o"
    if decisive in (left, right):
        return decisive
    return None if None in (left, right) else not decisive


def unary(operator: Field, operand: Field, ask: AskFile) -> Truth:
    """`-n x` and its like."""
    if isinstance(operator, Gap) or isinstance(operand, Gap):
        return None
    if operator == b"-n":
        return bool(operand)
    if operator == b"-z":
        return not operand
    if operator in FILE_OPERATORS:
        return ask(operator, operand) if operand else False
    if operator in (b"-t", b"-v", b"-o", b"-R"):
        return None
    raise Malformed


def binary(left: Field, operator: Field, right: Field) -> Truth:
    """`x = y` and its like, without patterns."""
    if not isinstance(left, bytes) or not isinstance(right, bytes):
        return None
    if operator in (b"=", b"=="):
        return left == right
    if operator == b"!=":
        return left != right
    if operator not in _NUMBER:
        return None
    if not _INTEGER.fullmatch(left) or not _INTEGER.fullmatch(right):
        raise Malformed
    first, second = int(left), int(right)
    return {
        b"-eq": first == second, b"-ne": first != second, b"-lt": first < second, b"-le": first <= second,
        b"-gt": first > second, b"-ge": first >= second,
    }[operator]  # fmt: skip


_PLAIN_EXPRESSION = re.compile(rb"(\^?)([A-Za-z0-9_/=:,@%~ -]*)(\$?)")


def searched(text: Field, expression: Field) -> Truth:
    """`[[ text =~ expression ]]` for expressions without anything but anchors."""
    if not isinstance(text, bytes) or not isinstance(expression, bytes):
        return None
    match = _PLAIN_EXPRESSION.fullmatch(expression)
    if match is None:
        return None
    start, wanted, end = match.groups()
    if start and end:
        return text == wanted
    if start:
        return text.startswith(wanted)
    return text.endswith(wanted) if end else wanted in text
