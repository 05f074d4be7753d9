"""The files of the packages in an rpm database: SQLite held in memory, and rpm's own headers in it (decisions.md 24).

The database is hostile: it is opened from bytes and never from a file, its schema is trusted with nothing, only a true table is
read, and the steps of SQLite's machine are counted. What cannot be read teaches nothing. The older forms of the database
(Berkeley DB, ndb) are not read.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

MAGIC = b"SQLite format 3\0"
_WAL_VERSIONS = slice(18, 20)
"""Two bytes of the file header: 2 asks for a write-ahead log beside the file, which bytes in memory do not have."""
_STEPS, _STEPS_AT_ONCE = 20_000, 10_000
"""SQLite's machine may take this many times that many steps: a thousand packages take a few per cent of it."""
_HEADER = struct.Struct(">II")
_INDEX = struct.Struct(">IIII")
_INDEXES, _BLOB_BYTES, _FILES = 10_000, 16 << 20, 200_000
_NAME, _DIRECTORY_OF, _BASE_NAMES, _DIRECTORIES = 1000, 1116, 1117, 1118
_INT32, _STRING, _STRINGS = 4, 6, 8


def package_files(database: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(package, path without its leading slash) of every file that an installed package has; nothing of a broken database."""
    if not database.startswith(MAGIC):
        return
    plain = bytearray(database)
    plain[_WAL_VERSIONS] = b"\1\1"
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.deserialize(bytes(plain))
        left = iter(range(_STEPS))
        connection.set_progress_handler(lambda: next(left, None) is None, _STEPS_AT_ONCE)
        kind = connection.execute("SELECT type, rootpage > 0 FROM sqlite_schema WHERE name = 'Packages'").fetchone()
        if kind != ("table", 1):  # a virtual table has no page
            return
        for (blob,) in connection.execute("SELECT blob FROM Packages"):
            if isinstance(blob, bytes) and len(blob) <= _BLOB_BYTES:
                yield from _files(blob)
    except sqlite3.Error:
        return  # broken, or made to be: it teaches less, and no verdict depends on it
    finally:
        connection.close()


def _files(blob: bytes) -> Iterator[tuple[bytes, bytes]]:
    """rpm lib/header.c: a count of indexes, a count of bytes, the indexes (tag, type, offset, count), the bytes."""
    if len(blob) < _HEADER.size:
        return
    count, size = _HEADER.unpack_from(blob)
    start = _HEADER.size + count * _INDEX.size
    if count > _INDEXES or start + size > len(blob):
        return
    found = {tag: (kind, offset, items) for tag, kind, offset, items in _INDEX.iter_unpack(blob[_HEADER.size : start])}
    data = blob[start : start + size]
    name = _strings(data, found.get(_NAME), _STRING)
    directories = _strings(data, found.get(_DIRECTORIES), _STRINGS)
    bases = _strings(data, found.get(_BASE_NAMES), _STRINGS)
    places = _numbers(data, found.get(_DIRECTORY_OF))
    if not name:
        return
    for base, place in zip(bases, places, strict=False):
        if place < len(directories):
            yield name[0], (directories[place] + base).lstrip(b"/")


def _strings(data: bytes, index: tuple[int, int, int] | None, wanted: int) -> list[bytes]:
    if index is None or index[0] != wanted or index[1] >= len(data):
        return []
    count = min(index[2], _FILES)
    return data[index[1] :].split(b"\0", count)[:count]


def _numbers(data: bytes, index: tuple[int, int, int] | None) -> tuple[int, ...]:
    if index is None or index[0] != _INT32:
        return ()
    count = min(index[2], _FILES, max(0, len(data) - index[1]) // 4)
    return struct.unpack_from(f">{count}I", data, index[1]) if count else ()
