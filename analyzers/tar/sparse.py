"""GNU sparse files in all their formats: where the map stands, and the content laid out by it (archive/tar reader.go)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from analyzers.tar.fields import INT64, decimal, numeric, refuse
from analyzers.tar.members import BLOCK, PEEK, Member, Records, Sink, Visitor


class Fragment(NamedTuple):
    offset: int
    length: int


def sparse_version(records: Records | None) -> str:
    """`0.x` or `1.0` where the records make the member a sparse file, else empty."""
    if not records:
        return ""
    major, minor = records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b"")
    if major == b"0" and minor in (b"0", b"1"):
        return "0.x"
    if major == b"1" and minor == b"0":
        return "1.0"
    if major or minor:
        return ""
    return "0.x" if records.get(b"GNU.sparse.map") else ""


def old_map(field: bytes, fragments: list[Fragment]) -> bool:
    """Add the entries of one old GNU map; whether another block of it follows."""
    entries = len(field) // 24
    for at in range(0, entries * 24, 24):
        if not field[at]:
            break
        fragments.append(Fragment(numeric(field[at : at + 12]), numeric(field[at + 12 : at + 24])))
    return field[entries * 24] > 0


def map_in_records(records: Records) -> list[Fragment]:
    count = decimal(records.get(b"GNU.sparse.numblocks", b""))
    text = records.get(b"GNU.sparse.map", b"")
    numbers = text.split(b",") if text else []
    if count < 0 or len(numbers) != 2 * count:
        refuse("a sparse map has another length than it says")
    return _pairs(numbers)


def _pairs(numbers: list[bytes]) -> list[Fragment]:
    return [Fragment(decimal(numbers[at]), decimal(numbers[at + 1])) for at in range(0, len(numbers), 2)]


def is_valid_map(fragments: list[Fragment], size: int) -> bool:
    """Go's validateSparseEntries."""
    if size < 0:
        return False
    done = 0
    for offset, length in fragments:
        if offset < 0 or length < 0 or offset + length > size or done > offset:
            return False
        done = offset + length
    return True


class MapInContent:
    """A GNU sparse 1.0 content: whole blocks of decimal lines, then the data (Go's readGNUSparseMap1x0)."""

    __slots__ = ("_buffer", "_ceiling", "_inner", "_newlines", "_open", "_scanned")

    def __init__(self, ceiling: int, open_content: Callable[[list[Fragment]], Sink]) -> None:
        self._ceiling = ceiling
        self._open = open_content
        self._buffer = bytearray()
        self._scanned = 0
        self._newlines = 0
        self._inner: Sink | None = None

    def feed(self, view: memoryview) -> None:
        if self._inner is not None:
            self._inner.feed(view)
            return
        self._buffer += view
        while self._inner is None and len(self._buffer) - self._scanned >= BLOCK:
            self._newlines += self._buffer.count(b"\n", self._scanned, self._scanned + BLOCK)
            self._scanned += BLOCK
            self._try()
        if self._inner is not None and len(self._buffer) > self._scanned:
            self._inner.feed(memoryview(bytes(self._buffer[self._scanned :])))

    def _try(self) -> None:
        if self._newlines:
            first = self._buffer.index(b"\n")
            count = decimal(bytes(self._buffer[:first]))
            if not 0 <= count < INT64 // 2:
                refuse("a sparse map has an impossible length")
            if self._newlines > 2 * count:
                lines = bytes(self._buffer[: self._scanned]).split(b"\n", 2 * count + 1)
                self._inner = self._open(_pairs(lines[1 : 2 * count + 1]))
                return
        if self._scanned > self._ceiling:
            refuse("a sparse map is larger than its ceiling")

    def close(self) -> None:
        if self._inner is None:
            refuse("a sparse map ends too early")
        self._inner.close()


class SparseSink:
    """Lays the stored fragments out over the logical file, with holes as zeros where they fit the layer's allowance."""

    __slots__ = ("_at", "_expand", "_fragments", "_head", "_index", "_member", "_opened", "_sink", "_spare", "_visitor")

    def __init__(self, visitor: Visitor, member: Member, fragments: list[Fragment]) -> None:
        self._visitor = visitor
        self._member = member
        self._fragments = [fragment for fragment in fragments if fragment.length]
        self._expand = member.whole
        self._index = 0
        self._at = 0
        self._spare = False
        self._head = bytearray()
        self._opened = False
        self._sink: Sink | None = None

    def feed(self, view: memoryview) -> None:
        while len(view):
            if self._index == len(self._fragments):
                refuse("a sparse file has more data than its map")
            offset, length = self._fragments[self._index]
            self._hole(offset)
            take = min(len(view), offset + length - self._at)
            self._give(view[:take])
            self._at += take
            view = view[take:]
            if self._at == offset + length:
                self._index += 1

    def _hole(self, until: int) -> None:
        while self._at < until:
            take = min(until - self._at, 65536)
            if not self._expand and self._opened:
                self._at = until
                return
            self._give(memoryview(bytes(take)))
            self._at += take

    def _give(self, view: memoryview) -> None:
        if self._opened:
            if self._sink is not None:
                self._sink.feed(view)
            return
        self._head += view
        if len(self._head) >= min(PEEK, self._member.size):
            self._announce()

    def _announce(self) -> None:
        self._opened = True
        head, self._head = bytes(self._head), bytearray()
        sink = self._visitor.member(self._member, head[:PEEK])
        self._sink = sink if self._expand else None
        if self._sink is not None and head:
            self._sink.feed(memoryview(head))

    def close(self) -> None:
        if self._index < len(self._fragments):
            refuse("a sparse file has less data than its map")
        self._hole(self._member.size)
        if not self._opened:
            self._announce()
        if self._sink is not None:
            self._sink.close()
