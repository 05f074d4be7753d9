"""bash's `[[ ... ]]`: its grammar, with patterns where `test` compares texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyzers.shell.conditions import Malformed, Truth, binary, evaluate, negated, searched
from analyzers.shell.patterns import compiled, matches
from analyzers.shell.state import Field, Gap
from analyzers.shell.tree import Word
from analyzers.shell.words import unquoted

if TYPE_CHECKING:
    from analyzers.shell.walk import Walk


class DoubleTest:
    """The grammar of `[[ ]]`."""

    def __init__(self, walk: Walk, items: Sequence[Word | bytes]) -> None:
        self._walk = walk
        self._items = items
        self._at = 0
        self._depth = 0

    def result(self) -> Truth:
        truth = self._either()
        if self._at < len(self._items):
            raise self._walk.lost("a condition that is not understood")
        return truth

    def _next(self) -> Word | bytes | None:
        return self._items[self._at] if self._at < len(self._items) else None

    def _take(self, wanted: bytes) -> bool:
        if self._next() != wanted:
            return False
        self._at += 1
        return True

    def _either(self) -> Truth:
        truth = self._both()
        while self._take(b"||"):
            right = self._both()
            truth = True if True in (truth, right) else None if None in (truth, right) else False
        return truth

    def _both(self) -> Truth:
        truth = self._one()
        while self._take(b"&&"):
            right = self._one()
            truth = False if False in (truth, right) else None if None in (truth, right) else True
        return truth

    def _one(self) -> Truth:
        self._depth += 1
        first = self._next()
        if first is None or self._depth > 200:
            raise self._walk.lost("a condition that is not understood")
        self._at += 1
        if first == b"(":
            truth = self._either()
            if not self._take(b")"):
                raise self._walk.lost("a condition that is not understood")
            return truth
        if isinstance(first, bytes):
            raise self._walk.lost("a condition that is not understood")
        if unquoted(first) == b"!":
            return negated(self._one())
        return self._primary(first)

    def _primary(self, first: Word) -> Truth:
        expander = self._walk.expander
        operator = self._next()
        plain = unquoted(first)
        text = unquoted(operator) if isinstance(operator, tuple) else operator
        if plain is not None and plain.startswith(b"-") and len(plain) == 2 and isinstance(operator, tuple):
            self._at += 1
            return self._unary(plain, expander.value(operator))
        if text in (b"=", b"==", b"!=", b"=~", b"<", b">") or (text or b"").startswith(b"-"):
            right = self._items[self._at + 1] if self._at + 1 < len(self._items) else None
            if not isinstance(right, tuple):
                raise self._walk.lost("a condition that is not understood")
            self._at += 2
            return self._compared(expander.value(first), text or b"", right)
        value = expander.value(first)
        return None if isinstance(value, Gap) else bool(value)

    def _unary(self, operator: bytes, operand: Field) -> Truth:
        if operator == b"-v" and isinstance(operand, bytes):
            return self._walk.state.get(operand) is not None
        try:
            return evaluate((operator, operand), self._walk.ask_file)
        except Malformed:
            return None

    def _compared(self, left: Field, operator: Field, right: Word) -> Truth:
        """One comparison of `[[ ]]`."""
        if operator in (b"=", b"==", b"!="):
            chunks = self._walk.expander.chunks(right)
            if chunks is None or isinstance(left, Gap):
                return None
            equal = matches(compiled(chunks), left)
            return equal is (operator != b"!=")
        if operator == b"=~":
            return searched(left, self._walk.expander.value(right))
        return binary(left, operator, self._walk.expander.value(right))
