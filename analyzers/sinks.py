"""What the content of a file goes into where nothing but its digest or the whole of it is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


class HashSink:
    """Gives a row the digest of its content."""

    __slots__ = ("_hash", "_row", "feed")

    def __init__(self, row: list[object]) -> None:
        self._row = row
        self._hash = hashlib.sha256()
        self.feed: Callable[[memoryview], None] = self._hash.update

    def close(self) -> None:
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
