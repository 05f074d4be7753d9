"""What the content of a file goes into where nothing but its digest or the whole of it is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class HashSink:
    """Gives a row the digest of its content."""

    __slots__ = ("_hash", "_row", "_spared", "feed")

    def __init__(self, row: list[object]) -> None:
        self._row = row
        self._hash = hashlib.sha256()
        self._spared = False
        self.feed: Callable[[memoryview], None] = self._hash.update

    def spare(self, count: int) -> None:
        """The digest only tells doubles apart: without the content there is none (tar.members.Sparing)."""
        self._spared = True

    def close(self) -> None:
        if not self._spared:
            self._row[8] = self._hash.digest()


class TextSink:
    """Gives `then` the whole content."""

    __slots__ = ("_body", "_then")

    def __init__(self, then: Callable[[bytes], None]) -> None:
        self._body = bytearray()
        self._then = then

    def feed(self, view: memoryview) -> None:
        self._body += view

    def close(self) -> None:
        self._then(bytes(self._body))
