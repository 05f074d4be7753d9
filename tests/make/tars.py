"""Tar streams block by block, right or wrong in any field: what no honest tar writer would write."""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"
V7 = bytes(8)


def octal(number: int, width: int) -> bytes:
    """`number` as octal digits and a NUL."""
    return b"%0*o\0" % (width - 1, number)


def base256(number: int, width: int) -> bytes:
    """`number`, negative or not, as GNU's base-256."""
    body = bytearray((number & ((1 << (8 * width)) - 1)).to_bytes(width, "big"))
    body[0] |= 0x80
    return bytes(body)


def header(
    name: bytes = b"file",
    *,
    kind: bytes = b"0",
    size: int | bytes = 0,
    link: bytes = b"",
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    magic: bytes = USTAR,
    major: int | bytes = 0,
    minor: int | bytes = 0,
    prefix: bytes = b"",
    tail: bytes = b"",
    checksum: int | bytes | None = None,
) -> bytes:
    """One header block. Numbers given as bytes are taken as the raw field; `tail` replaces all from byte 345 on."""

    def field(value: int | bytes, width: int) -> bytes:
        return (octal(value, width) if isinstance(value, int) else value).ljust(width, b"\0")[:width]

    front = name.ljust(100, b"\0")[:100] + field(mode, 8) + field(uid, 8) + field(gid, 8) + field(size, 12) + field(mtime, 12)
    back = kind + link.ljust(100, b"\0")[:100] + magic + bytes(64) + field(major, 8) + field(minor, 8)
    back += tail.ljust(167, b"\0") if tail else prefix.ljust(155, b"\0")[:155] + bytes(12)
    if checksum is None:
        checksum = sum(front) + sum(back) + 8 * 32
    stored = b"%06o\0 " % checksum if isinstance(checksum, int) else checksum
    return front + stored + back


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes = b"file", data: bytes = b"", **fields: object) -> bytes:
    """A header and its content; `size` may lie."""
    fields.setdefault("size", len(data))
    return header(name, **fields) + padded(data)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    """One pax record with its right length."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(str(length)) + len(rest):
        length = len(str(length)) + len(rest)
    return b"%d" % length + rest


def pax(records: dict[str, bytes] | bytes, kind: bytes = b"x") -> bytes:
    """An extended header of records, or of raw bytes."""
    body = records if isinstance(records, bytes) else b"".join(record(key.encode(), value) for key, value in records.items())
    return member(b"PaxHeaders.0/file", body, kind=kind)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's long name (`L`) or long link target (`K`)."""
    return member(b"././@LongLink", name + b"\0", kind=kind, magic=GNU)


def old_sparse(
    name: bytes,
    real_size: int,
    fragments: list[tuple[int, bytes]],
    *,
    more: tuple[tuple[int, bytes], ...] = (),
    magic: bytes = GNU,
) -> bytes:
    """A type S member: up to four fragments in the header, `more` in one continuation block."""

    def entries(listed: list[tuple[int, bytes]] | tuple[tuple[int, bytes], ...]) -> bytes:
        return b"".join(octal(offset, 12) + octal(len(data), 12) for offset, data in listed)

    tail = bytes(41) + entries(fragments).ljust(96, b"\0") + (b"\1" if more else b"\0") + octal(real_size, 12)
    extension = (entries(more).ljust(504, b"\0") + bytes(8)) if more else b""
    data = b"".join(piece for _, piece in [*fragments, *more])
    return header(name, kind=b"S", size=len(data), magic=magic, tail=tail) + extension + padded(data)


def sparse_1_0(name: bytes, real_size: int, fragments: list[tuple[int, bytes]], *, count: int | None = None) -> bytes:
    """A pax 1.0 sparse file: its map stands in front of its data."""
    numbers = [len(fragments) if count is None else count]
    for offset, data in fragments:
        numbers += [offset, len(data)]
    body = padded(b"".join(b"%d\n" % number for number in numbers)) + b"".join(data for _, data in fragments)
    records = {
        "GNU.sparse.major": b"1",
        "GNU.sparse.minor": b"0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": b"%d" % real_size,
    }
    return pax(records) + member(b"GNUSparseFile.0/x", body)


def sparse_0_1(name: bytes, real_size: int, fragments: list[tuple[int, bytes]], *, blocks: int | None = None) -> bytes:
    """A pax 0.1 sparse file: its map stands in the records."""
    numbers = ",".join(f"{offset},{len(data)}" for offset, data in fragments)
    records = {
        "GNU.sparse.name": name,
        "GNU.sparse.size": b"%d" % real_size,
        "GNU.sparse.numblocks": b"%d" % (len(fragments) if blocks is None else blocks),
        "GNU.sparse.map": numbers.encode(),
    }
    return pax(records) + member(b"GNUSparseFile.0/x", b"".join(data for _, data in fragments))
