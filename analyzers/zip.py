"""Zip archives by their central directory, as the JVM reads them (java.util.zip.ZipFile, `Source.initCEN`).

The end record is looked for from the end of the file; what lies before the first local header is no matter; names, sizes
and places are those of the central directory, and a local header that contradicts it is told as a defect. Nothing is
allocated for what an archive merely claims: entries and bytes have ceilings (hostile 98-101). Nothing here raises on any bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, Protocol

END_SIGNATURE = b"PK\5\6"
_END_BYTES = 22
_COMMENT_BYTES = 0xFFFF
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL_BYTES = 30
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")
_ZIP64_LOCATOR_BYTES = 20
STORED, DEFLATED = 0, 8
_ENCRYPTED = 1
_UNKNOWN32, _UNKNOWN16 = 0xFFFFFFFF, 0xFFFF
_FIRST_GUESS = 320
"""Compressed bytes that nearly always hold the first bytes of what they inflate to: the code tables of deflate and a little."""
_TABLES_BYTES = 2048
_EXTRA_BYTES = 64
"""Room for the extra field of a local header, which its central record does not tell."""


class Bytes(Protocol):
    """What an archive is read from. `read` gives fewer bytes where the file ends or they were not kept."""

    size: int

    def read(self, offset: int, size: int) -> bytes: ...


class ZipEntry(NamedTuple):
    """One entry of the central directory."""

    name: bytes
    method: int
    flags: int
    crc: int
    compressed: int
    size: int
    offset: int
    """Of its local header, counted from the beginning of the file."""


class Directory(NamedTuple):
    """The central directory, as far as it can be read."""

    entries: tuple[ZipEntry, ...] = ()
    defects: tuple[str, ...] = ()
    """`zip-broken`, `zip-overlap`, `zip-limit`."""
    absent: bool = False
    """There is no end record at all."""
    over_limit: bool = False
    """There is more than the ceilings allow: `entries` is empty or cut."""


class Budget:
    """Bytes that may still come out of one archive and those inside it, however often they are claimed (hostile 98, 100)."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, amount: int) -> bool:
        """Whether there was that much; what is taken is gone."""
        if amount > self.left:
            return False
        self.left -= amount
        return True


def read_directory(file: Bytes, max_entries: int, max_bytes: int) -> Directory:
    """The entries in their order. What is kept of the file must include its last 64 KiB and the directory."""
    tail_at = max(file.size - _END_BYTES - _COMMENT_BYTES, 0)
    tail = file.read(tail_at, file.size - tail_at)
    if END_SIGNATURE not in tail:
        return Directory(absent=True)
    end = _find_end(file, tail, tail_at)
    if end is None:
        return Directory(defects=("zip-broken",))
    start, length, count, shift = end
    if length > max_bytes or count > max_entries:
        return Directory(defects=("zip-limit",), over_limit=True)
    return _read_entries(file.read(start, length), length, shift, max_entries)


def _find_end(file: Bytes, tail: bytes, tail_at: int) -> tuple[int, int, int, int] | None:
    """(start of the directory, its length, entries claimed, what stands before the archive proper).

    As the JVM does, a signature counts when its comment ends with the file, or else when both the directory and the first
    local header lie where it says.
    """
    at = len(tail)
    while (at := tail.rfind(END_SIGNATURE, 0, at)) >= 0:
        record = tail[at : at + _END_BYTES]
        if len(record) < _END_BYTES:
            continue
        count, length, offset, comment = struct.unpack_from("<H2LH", record, 10)
        position = tail_at + at
        wide = _find_wide_end(file, position) if _UNKNOWN32 in (length, offset) or count == _UNKNOWN16 else None
        if wide is not None:
            position, count, length, offset = wide
        start = position - length
        shift = start - offset
        if start < 0 or shift < 0:
            continue
        ends_here = tail_at + at + _END_BYTES + comment == file.size
        if ends_here or (file.read(start, 4) == b"PK\1\2" and file.read(shift, 4) == b"PK\3\4"):
            return start, length, count, shift
    return None


def _find_wide_end(file: Bytes, position: int) -> tuple[int, int, int, int] | None:
    """(place of the zip64 end record, entries, length, offset); None where there is none that holds together."""
    locator = file.read(position - _ZIP64_LOCATOR_BYTES, _ZIP64_LOCATOR_BYTES) if position >= _ZIP64_LOCATOR_BYTES else b""
    if locator[:4] != b"PK\6\7":
        return None
    place = int.from_bytes(locator[8:16], "little")
    record = file.read(place, _ZIP64_END.size)
    if len(record) < _ZIP64_END.size or record[:4] != b"PK\6\6":
        return None
    count, length, offset = _ZIP64_END.unpack(record)[7:10]
    return place, count, length, offset


def _read_entries(directory: bytes, length: int, shift: int, max_entries: int) -> Directory:
    entries: list[ZipEntry] = []
    defects: set[str] = set()
    at = 0
    while at + _CENTRAL.size <= len(directory):
        fields = _CENTRAL.unpack_from(directory, at)
        flags, method, crc, compressed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
        name_bytes, extra_bytes, comment_bytes, offset = fields[10], fields[11], fields[12], fields[16]
        if fields[0] != b"PK\1\2":
            break
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        if at > len(directory):
            break
        if len(entries) >= max_entries:
            return Directory(tuple(entries), ("zip-limit",), over_limit=True)
        if _UNKNOWN32 in (compressed, size, offset):
            wide = _wide_sizes(directory[extra_at : extra_at + extra_bytes], size, compressed, offset)
            if wide is None:
                defects.add("zip-broken")
                continue
            size, compressed, offset = wide
        entries.append(ZipEntry(directory[name_at:extra_at], method, flags, crc, compressed, size, offset + shift))
    if at != length:
        defects.add("zip-broken")
    if _overlap(entries):
        defects.add("zip-overlap")
    return Directory(tuple(entries), tuple(sorted(defects)))


def _wide_sizes(extra: bytes, size: int, compressed: int, offset: int) -> tuple[int, int, int] | None:
    """Sizes and offset from the zip64 extra field, which has those that the record leaves open, in that order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if kind != 1:
            continue
        found = []
        for value in (size, compressed, offset):
            if value == _UNKNOWN32:
                if len(body) < 8:
                    return None
                value, body = int.from_bytes(body[:8], "little"), body[8:]
            found.append(value)
        return found[0], found[1], found[2]
    return None


def _overlap(entries: list[ZipEntry]) -> bool:
    """Whether the bodies of two entries share bytes, which no writer of archives makes (CVE-2024-0450)."""
    end = 0
    for offset, length in sorted((entry.offset, _LOCAL_BYTES + len(entry.name) + entry.compressed) for entry in entries):
        if offset < end:
            return True
        end = offset + length
    return False


class Content(NamedTuple):
    """What an entry holds, or why it cannot be had."""

    data: bytes | None
    defect: str = ""
    """`zip-mismatch`: the local header names another file; `zip-entry-broken`; `zip-limit`; empty when only bytes are missing."""


def body_offset(file: Bytes, entry: ZipEntry, wanted: int) -> tuple[int, str]:
    """Where the body of an entry begins, -1 when that cannot be told, and the defect of its local header.

    Of a file kept in part, what is not there is asked for together with the `wanted` bytes behind it: there is one more pass.
    """
    local = file.read(entry.offset, _LOCAL_BYTES + len(entry.name))
    if len(local) < _LOCAL_BYTES + len(entry.name):
        file.read(entry.offset, _LOCAL_BYTES + len(entry.name) + _EXTRA_BYTES + wanted)
    if len(local) < _LOCAL_BYTES:
        return -1, "zip-entry-broken" if entry.offset + _LOCAL_BYTES > file.size else ""
    if local[:4] != b"PK\3\4":
        return -1, "zip-entry-broken"
    name_bytes, extra_bytes = struct.unpack_from("<2H", local, 26)
    differs = name_bytes != len(entry.name) or local[_LOCAL_BYTES:] != entry.name
    return entry.offset + _LOCAL_BYTES + name_bytes + extra_bytes, "zip-mismatch" if differs else ""


def read_entry(file: Bytes, entry: ZipEntry, budget: Budget) -> Content:
    """The whole content of an entry, its checksum tested as the JVM does when it reads to the end."""
    if entry.flags & _ENCRYPTED or entry.method not in (STORED, DEFLATED):
        return Content(None, "zip-entry-broken")
    if not budget.take(entry.size):
        return Content(None, "zip-limit")
    start, defect = body_offset(file, entry, entry.compressed)
    if start < 0:
        return Content(None, defect)
    raw = file.read(start, entry.compressed)
    if len(raw) < entry.compressed:
        return Content(None, "zip-entry-broken" if start + entry.compressed > file.size else "")
    if entry.method == DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            raw = inflater.decompress(raw, entry.size + 1)
        except zlib.error:
            return Content(None, "zip-entry-broken")
    if len(raw) != entry.size or zlib.crc32(raw) != entry.crc:
        return Content(None, "zip-entry-broken")
    return Content(raw, defect)


def read_beginning(file: Bytes, entry: ZipEntry, count: int) -> Content:
    """The first `count` bytes of an entry, which the rest is not looked at for."""
    if entry.flags & _ENCRYPTED or entry.method not in (STORED, DEFLATED):
        return Content(None, "zip-entry-broken")
    start, defect = body_offset(file, entry, min(_FIRST_GUESS, entry.compressed))
    if start < 0:
        return Content(None, defect)
    wanted = min(count, entry.size)
    if entry.method == STORED:
        raw = file.read(start, min(wanted, entry.compressed))
        return Content(raw, defect) if len(raw) == wanted else Content(None, _cut(file, start, wanted))
    for guess in (_FIRST_GUESS, _TABLES_BYTES):
        asked = min(guess, entry.compressed)
        body = file.read(start, asked)
        if len(body) < asked:
            return Content(None, _cut(file, start, asked))
        try:
            found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, wanted) if wanted else b""
        except zlib.error:
            return Content(None, "zip-entry-broken")
        if len(found) == wanted:
            return Content(found, defect)
    return Content(None, "zip-entry-broken")


def _cut(file: Bytes, start: int, length: int) -> str:
    return "zip-entry-broken" if start + length > file.size else ""
