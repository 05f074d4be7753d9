"""A layer of very many empty files, made as it is read: names as package trees have them, in the order of a walk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

FILES_A_FOLDER = 50
CHUNK_BYTES = 1 << 20
_NAME_BYTES = 100
_SUM_AT, _SUM_BYTES = 148, 8


def tar_of_many(count: int) -> Iterator[bytes]:
    """The tar of so many files and their folders, uncompressed."""
    file, folder = _header(tarfile.REGTYPE), _header(tarfile.DIRTYPE)
    pending = bytearray()
    for number in range(count):
        package, file_number = divmod(number, FILES_A_FOLDER)
        base = b"srv/app/node_modules/package-%06d" % package
        if not file_number:
            pending += _named(folder, base + b"/") + _named(folder, base + b"/lib/")
        pending += _named(file, base + b"/lib/module-%02d.js" % file_number)
        if len(pending) >= CHUNK_BYTES:
            yield bytes(pending)
            pending.clear()
    yield bytes(pending) + bytes(1024)


def _header(kind: bytes) -> tuple[bytes, int]:
    """What follows the name, and the sum of all but the name, its checksum field being blank."""
    member = tarfile.TarInfo("x")
    member.type, member.mode, member.mtime = kind, 0o755, 1_700_000_000
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[_SUM_AT : _SUM_AT + _SUM_BYTES] = b" " * _SUM_BYTES
    return bytes(block[_NAME_BYTES:]), sum(block[_NAME_BYTES:])


def _named(header: tuple[bytes, int], name: bytes) -> bytes:
    rest, total = header
    at = _SUM_AT - _NAME_BYTES
    return b"".join((name.ljust(_NAME_BYTES, b"\0"), rest[:at], b"%06o\0 " % (total + sum(name)), rest[at + _SUM_BYTES :]))
