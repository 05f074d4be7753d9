"""The fields of a tar header and the records of a pax header, with Go's own leniencies (archive/tar strconv.go of Go 1.19)."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from analyzers.errors import Rejected
from analyzers.tar.members import Member, Records

INT64 = 1 << 63
_DECIMAL = re.compile(rb"[+-]?[0-9]{1,40}")
OCTAL_DIGITS = b"01234567"
_NO_NUL = frozenset((b"path", b"linkpath", b"uname", b"gname"))
BASIC_KEYS = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime", b"atime", b"ctime"))


class Tail(NamedTuple):
    """What bytes 156 to 511 of a header say, remembered because neighbours share them."""

    total: int
    type: int
    link: bytes
    prefix: bytes
    major: int
    minor: int
    gnu: bool


def refuse(detail: str) -> NoReturn:
    """What Go answers with an error."""
    raise Rejected("bad-tar", detail)


def until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def octal(field: bytes) -> int:
    """Go's parseOctal: NUL and space trimmed from both ends, then octal digits up to a NUL."""
    digits = until_nul(field.strip(b" \0"))
    if digits.strip(OCTAL_DIGITS):
        refuse("a numeric field of a header is not a number")
    return int(digits, 8) if digits else 0


def numeric(field: bytes) -> int:
    """Go's parseNumeric: base-256 when the first bit is set, else octal. Raises Rejected beyond 64 bits."""
    first = field[0]
    if not first & 0x80:
        return octal(field)
    bits = 8 * len(field)
    value = int.from_bytes(field, "big")
    if first & 0x40:
        value ^= (1 << bits) - 1
    value &= (1 << (bits - 1)) - 1
    if value >= INT64:
        refuse("a base-256 number needs more than 64 bits")
    return ~value if first & 0x40 else value


def decimal(text: bytes) -> int:
    """Go's ParseInt(text, 10, 64): an optional sign and digits, nothing else."""
    if not _DECIMAL.fullmatch(text):
        return _long_decimal(text)
    value = int(text)
    if not -INT64 <= value < INT64:
        refuse("a decimal number needs more than 64 bits")
    return value


def _long_decimal(text: bytes) -> int:
    """Numbers with more than 40 characters are fine in Go only when they are leading zeros."""
    sign, digits = (text[:1], text[1:]) if text[:1] in (b"+", b"-") else (b"", text)
    if not digits.isdigit():
        refuse("a number of a pax record is not a number")
    return (
        decimal(sign + (digits.lstrip(b"0") or b"0"))
        if digits.startswith(b"0")
        else refuse("a decimal number needs more than 64 bits")
    )


def check_sum(block: bytes, stored: bytes, total: int) -> None:
    """The checksum as unsigned (POSIX) or as signed bytes (Sun), written in any way Go reads."""
    value = octal(stored)
    if value == total:
        return
    signed = total - 256 * sum(byte >= 0x80 for byte in block[:148] + block[156:])
    if value != signed:
        refuse("a header's checksum is wrong")


def read_tail(tail: bytes) -> Tail:
    """Fields from the type flag on. A field that is no number gives type -1: an error once the checksum held."""
    total = sum(tail)
    kind = tail[0]
    link = until_nul(tail[1:101])
    magic, version = tail[101:107], tail[107:109]
    if magic == b"ustar\0":
        star = tail[352:356] == b"tar\0"
    elif magic == b"ustar " and version == b" \0":
        star = False
    else:
        return Tail(total, kind, link, b"", 0, 0, False)
    prefix = b""
    gnu = magic == b"ustar "
    try:
        major, minor = numeric(tail[173:181]), numeric(tail[181:189])
        if star:
            prefix = until_nul(tail[189:320])
            numeric(tail[320:332])
            numeric(tail[332:344])
        elif not gnu:
            prefix = until_nul(tail[189:344])
    except Rejected:
        return Tail(total, -1, link, b"", 0, 0, gnu)
    if gnu:
        prefix = _gnu_prefix(tail)
    return Tail(total, kind, link, prefix, major, minor, gnu)


def _gnu_prefix(tail: bytes) -> bytes:
    """A prefix in a GNU header, written by Go before 1.8; read only where atime and ctime make no sense."""
    try:
        for field in (tail[189:201], tail[201:213]):
            if field[0]:
                numeric(field)
    except Rejected:
        prefix = until_nul(tail[189:344])
        return prefix if prefix.isascii() else b""
    return b""


def parse_pax(body: bytes) -> Records:
    """Go's parsePAX: every record or none; sparse 0.0 pairs become one 0.1 map. Raises Rejected("bad-tar")."""
    records: Records = {}
    sparse: list[bytes] = []
    at, end = 0, len(body)
    while at < end:
        space = body.find(b" ", at)
        if space < 0:
            refuse("a pax record has no length")
        length = decimal(body[at:space])
        if length < 5 or length > end - at or at + length <= space + 1 or body[at + length - 1] != 0x0A:
            refuse("a pax record has a wrong length")
        key, equals, value = body[space + 1 : at + length - 1].partition(b"=")
        at += length
        if not equals or not key or b"\0" in (value if key in _NO_NUL else key):
            refuse("a pax record is malformed")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if (len(sparse) % 2 == 0) != (key == b"GNU.sparse.offset") or b"," in value:
                refuse("a sparse map in pax records is out of order")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def merge(member: Member, records: Records) -> None:
    """Go's mergePAX: empty values leave the header as it was; numbers and times must be well formed."""
    for key, value in records.items():
        if not value or key not in BASIC_KEYS:
            continue
        if key == b"path":
            member.name = value
        elif key == b"linkpath":
            member.link = value
        elif key == b"uid":
            member.uid = decimal(value)
        elif key == b"gid":
            member.gid = decimal(value)
        elif key == b"size":
            member.size = decimal(value)
        elif key.endswith(b"time"):
            _pax_time(value)


def _pax_time(value: bytes) -> None:
    seconds, _, fraction = value.partition(b".")
    decimal(seconds)
    if fraction and not fraction.isdigit():
        refuse("a time of a pax record is not a number")
