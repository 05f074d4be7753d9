"""A push-fed tar reader that sees exactly the members Go's archive/tar sees, because that is what container runtimes use.

Knows ustar, v7, star, pax, GNU long names and all GNU sparse formats, with Go's own leniencies and refusals (archive/tar
reader.go and strconv.go of Go 1.19). Refuses to know what a name means, and touches nothing but the bytes it is fed. What Go
answers with an error is `Rejected("bad-tar")`; what ends too early is `Rejected("truncated")`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple, NoReturn, Protocol

import msgspec

from analyzers.errors import Rejected
from analyzers.limits import Limits

BLOCK = 512
PEEK = 256
"""Content bytes a visitor is shown with a member, fewer only where the member has fewer."""

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
GNU_SPARSE = ord("S")
_HEADER_ONLY = frozenset((LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"xgLK"
_EXTENDED = frozenset((_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK))
_ZERO = bytes(BLOCK)
_INT64 = 1 << 63
_DECIMAL = re.compile(rb"[+-]?[0-9]{1,40}")
_OCTAL_DIGITS = b"01234567"
_MEMO_SIZE = 2048
_NO_NUL = frozenset((b"path", b"linkpath", b"uname", b"gname"))
_BASIC_KEYS = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime", b"atime", b"ctime"))
_XATTR = b"SCHILY.xattr."

Records = dict[bytes, bytes]


class Member(msgspec.Struct, gc=False):
    """One member as Go's Header has it. Names are uncleaned; numbers unchecked, of 64 bits."""

    name: bytes
    type: int
    """The type flag as a byte value, after Go's promotion of NUL to `0` or `5`."""
    mode: int
    uid: int
    gid: int
    size: int
    """Logical size of the content, whatever the type."""
    link: bytes
    major: int
    minor: int
    records: Records | None
    """Records of the pax header before this member, or None."""
    offset: int = 0
    """Where the content begins in the stream."""
    whole: bool = True
    """False for a sparse file whose holes pass the layer's allowance: its content is checked but not handed out."""


class Sink(Protocol):
    """Takes the content of one member."""

    def feed(self, view: memoryview) -> None: ...
    def close(self) -> None: ...


class Visitor(Protocol):
    """Is told of every member in order; may ask for its content by returning a sink."""

    def member(self, member: Member, head: bytes) -> Sink | None: ...
    def note(self, code: str, name: bytes) -> None: ...


class _Tail(NamedTuple):
    """What bytes 156 to 511 of a header say, remembered because neighbours share them."""

    total: int
    type: int
    link: bytes
    prefix: bytes
    major: int
    minor: int
    gnu: bool


class _Fragment(NamedTuple):
    offset: int
    length: int


def _bad(detail: str) -> NoReturn:
    raise Rejected("bad-tar", detail)


class TarReader:
    """Feed the uncompressed stream in any chunks; `visitor` hears of the members as soon as they are whole enough."""

    def __init__(self, visitor: Visitor, limits: Limits = Limits()) -> None:  # noqa: B008
        self.ended = False
        """The two zero blocks were seen; what follows is drained."""
        self.trailing = False
        """Something other than zeros followed the end (hostile 20)."""
        self._visitor = visitor
        self._limits = limits
        self._carry = b""
        self._sink: Sink | None = None
        self._left = 0
        self._pad = 0
        self._last = False
        self._base = 0
        self._records: Records | None = None
        self._long_name = b""
        self._long_link = b""
        self._extended = 0
        self._holes_left = limits.sparse_hole_bytes
        self._owners: dict[bytes, tuple[int, int, int]] = {}
        self._tails: dict[bytes, _Tail] = {}
        self._sums: dict[bytes, int] = {}

    # feeding

    def feed(self, window: bytes) -> None:
        """Take the next bytes. Raises Rejected as soon as Go's reader would return an error."""
        if self.ended:
            self._drain(window)
            return
        if self._carry:
            window = self._carry + window
            self._carry = b""
        end = len(window)
        at = 0
        view = memoryview(window)
        while True:
            if self._left or self._sink is not None:
                take = min(self._left, end - at)
                if self._sink is not None and take:
                    self._sink.feed(view[at : at + take])
                at += take
                self._left -= take
                if self._left:
                    break
                sink, self._sink = self._sink, None
                if sink is not None:
                    sink.close()
                    if self._left or self._sink is not None:
                        continue
            if self._pad:
                take = min(self._pad, end - at)
                at += take
                self._pad -= take
                if self._pad:
                    break
            if end - at < BLOCK:
                self._carry = window[at:]
                break
            taken = self._header(window, at, end)
            if self.ended:
                self._drain(window[at + 2 * BLOCK :])
                break
            if not taken:
                self._carry = window[at:]
                break
            at += taken
        self._base += end - len(self._carry)

    def finish(self) -> None:
        """The stream is over. Raises Rejected("truncated") where Go says unexpected EOF."""
        self._last = True
        if not self.ended and len(self._carry) >= BLOCK:
            self.feed(b"")
        if self.ended:
            return
        rest = len(self._carry)
        if self._left or self._sink is not None or (rest and self._carry != _ZERO):
            raise Rejected("truncated", "the tar ends inside a member")

    def _drain(self, rest: bytes) -> None:
        if not self.trailing and rest and rest != bytes(len(rest)):
            self.trailing = True

    # headers

    def _header(self, window: bytes, at: int, end: int) -> int:
        """Read the header at `at`; bytes consumed, or 0 when more must be there first."""
        if window[at] == 0 and window[at : at + BLOCK] == _ZERO:
            if end - at < 2 * BLOCK:
                return 0
            if window[at + BLOCK : at + 2 * BLOCK] != _ZERO:
                _bad("one zero block and then something else")
            self.ended = True
            return 2 * BLOCK
        raw_tail = window[at + 156 : at + BLOCK]
        tail = self._tails.get(raw_tail)
        if tail is None:
            if len(self._tails) >= _MEMO_SIZE:
                self._tails.clear()
            tail = self._tails[raw_tail] = _read_tail(raw_tail)
        # Sum of 148 bytes fits below adler32's modulus, so its low half is the exact sum.
        tail_total, kind, link, prefix, major, minor, gnu = tail
        total = (zlib.adler32(window[at : at + 148], 0) & 0xFFFF) + 256 + tail_total
        stored = window[at + 148 : at + 156]
        if self._sums.get(stored) != total:
            if stored != b"%06o\0 " % total:
                _check_sum(window[at : at + BLOCK], stored, total)
            if len(self._sums) >= _MEMO_SIZE:
                self._sums.clear()
            self._sums[stored] = total
        raw_owner = window[at + 100 : at + 124]
        owner = self._owners.get(raw_owner)
        if owner is None:
            if len(self._owners) >= _MEMO_SIZE:
                self._owners.clear()
            owner = numeric(raw_owner[:8]), numeric(raw_owner[8:16]), numeric(raw_owner[16:])
            self._owners[raw_owner] = owner
        raw_size = window[at + 124 : at + 135]
        if window[at + 135] in b"\0 " and not raw_size.strip(_OCTAL_DIGITS):
            size = int(raw_size, 8)
        else:
            size = numeric(window[at + 124 : at + 136])
        # Nothing needs the time, but one that is no number is an error in Go.
        if window[at + 147] not in b"\0 " or window[at + 136 : at + 147].strip(_OCTAL_DIGITS):
            numeric(window[at + 136 : at + 148])
        if kind < 0:
            _bad("a numeric field of a header is not a number")
        stop = window.find(b"\0", at, at + 100)
        name = window[at : at + 100 if stop < 0 else stop]
        if prefix:
            name = prefix + b"/" + name
        mode, uid, gid = owner
        if kind == REGULAR and not self._extended:
            # The plain case: nothing extends this header.
            if size < 0:
                _bad("negative size")
            content = size if size < PEEK else PEEK
            start = at + BLOCK
            if end - start < content and not self._last:
                return 0
            member = Member(name, kind, mode, uid, gid, size, link, major, minor, None, self._base + start)
            self._sink = self._visitor.member(member, window[start : start + content])
            self._left = size
            self._pad = -size & 511
            return BLOCK
        if kind in _EXTENDED:
            self._special(kind, size)
            return BLOCK
        return self._full_header(
            window, at, end, Member(name, kind, mode, uid, gid, size, link, major, minor, self._records), gnu
        )

    def _full_header(self, window: bytes, at: int, end: int, member: Member, gnu: bool) -> int:
        """A header with extensions or of another type than `0`, as Go's next() finishes it."""
        if member.size < 0 and member.type not in _HEADER_ONLY:
            _bad("negative size")
        if member.records:
            _merge(member, member.records)
        if self._long_name:
            member.name = self._long_name
        if self._long_link:
            member.link = self._long_link
        if member.type == 0:
            member.type = DIRECTORY if member.name.endswith(b"/") else REGULAR
        physical = 0 if member.type in _HEADER_ONLY else member.size
        if physical < 0:
            _bad("negative size")
        member.offset = self._base + at + BLOCK
        old_sparse = member.type == GNU_SPARSE
        version = "" if old_sparse else _sparse_version(member.records)
        content = 0 if old_sparse or version else min(physical, PEEK)
        if end - at < BLOCK + content and not self._last:
            return 0
        if self._long_name and member.records and member.records.get(b"path") not in (None, b"", self._long_name):
            self._visitor.note("ambiguous-name", member.name)
        self._records, self._long_name, self._long_link, self._extended = None, b"", b"", 0
        self._left = physical
        self._pad = -physical & 511
        if old_sparse:
            self._old_sparse(window[at : at + BLOCK], member, gnu)
        elif version:
            self._pax_sparse(version, member)
        else:
            self._sink = self._visitor.member(member, window[at + BLOCK : at + BLOCK + content])
        return BLOCK

    # extended headers

    def _special(self, kind: int, size: int) -> None:
        if size < 0:
            _bad("negative size")
        if size > self._limits.extended_header_bytes:
            _bad("an extended header is larger than its ceiling")
        self._extended += 1
        if self._extended > self._limits.extended_headers_in_a_row:
            _bad("too many extended headers in a row")
        self._left = size
        self._pad = -size & 511
        self._sink = _Collector(lambda body: self._extend(kind, body))

    def _extend(self, kind: int, body: bytes) -> None:
        if kind == _LONG_NAME:
            self._long_name = _until_nul(body)
        elif kind == _LONG_LINK:
            self._long_link = _until_nul(body)
        else:
            self._records = parse_pax(body)
        if kind == _GLOBAL:
            # Go hands it out as a member of its own and forgets every pending extension (hostile 17).
            if self._records and not _BASIC_KEYS.isdisjoint(self._records):
                self._visitor.note("global-pax", b"")
            self._records, self._long_name, self._long_link = None, b"", b""

    # sparse files

    def _old_sparse(self, block: bytes, member: Member, gnu: bool) -> None:
        if not gnu:
            _bad("a sparse member outside the GNU format")
        member.size = numeric(block[483:495])
        fragments: list[_Fragment] = []
        if _old_map(block[386:483], fragments):
            self._old_extension(member, fragments, self._left, self._pad, 0)
        else:
            self._sparse_content(member, fragments)

    def _old_extension(self, member: Member, fragments: list[_Fragment], left: int, pad: int, read: int) -> None:
        """Read one 512-byte continuation of an old GNU map; it lies before the content and counts to nobody's size."""
        if read > self._limits.sparse_map_bytes:
            _bad("a sparse map is larger than its ceiling")

        def taken(block: bytes) -> None:
            if _old_map(block, fragments):
                self._old_extension(member, fragments, left, pad, read + BLOCK)
                return
            self._left, self._pad = left, pad
            self._sparse_content(member, fragments)

        self._left, self._pad = BLOCK, 0
        self._sink = _Collector(taken)

    def _pax_sparse(self, version: str, member: Member) -> None:
        records = member.records or {}
        member.name = records.get(b"GNU.sparse.name") or member.name
        size = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
        if size:
            member.size = decimal(size)
        if version == "1.0":
            self._sink = _MapInContent(self._limits.sparse_map_bytes, lambda found: self._open_sparse(member, found))
            return
        self._sparse_content(member, _map_in_records(records))

    def _sparse_content(self, member: Member, fragments: list[_Fragment]) -> None:
        self._sink = self._open_sparse(member, fragments)

    def _open_sparse(self, member: Member, fragments: list[_Fragment]) -> Sink:
        if member.type in _HEADER_ONLY or not _valid_map(fragments, member.size):
            _bad("an impossible sparse map")
        holes = member.size - sum(fragment.length for fragment in fragments)
        expand = holes <= self._holes_left
        if expand:
            self._holes_left -= holes
        member.whole = expand
        return _SparseSink(self._visitor, member, fragments)


# pieces of headers


def _until_nul(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes) -> int:
    """Go's parseOctal: NUL and space trimmed from both ends, then octal digits up to a NUL."""
    digits = _until_nul(field.strip(b" \0"))
    if digits.strip(_OCTAL_DIGITS):
        _bad("a numeric field of a header is not a number")
    return int(digits, 8) if digits else 0


def numeric(field: bytes) -> int:
    """Go's parseNumeric: base-256 when the first bit is set, else octal. Raises Rejected beyond 64 bits."""
    first = field[0]
    if not first & 0x80:
        return _octal(field)
    bits = 8 * len(field)
    value = int.from_bytes(field, "big")
    if first & 0x40:
        value ^= (1 << bits) - 1
    value &= (1 << (bits - 1)) - 1
    if value >= _INT64:
        _bad("a base-256 number needs more than 64 bits")
    return ~value if first & 0x40 else value


def decimal(text: bytes) -> int:
    """Go's ParseInt(text, 10, 64): an optional sign and digits, nothing else."""
    if not _DECIMAL.fullmatch(text):
        return _long_decimal(text)
    value = int(text)
    if not -_INT64 <= value < _INT64:
        _bad("a decimal number needs more than 64 bits")
    return value


def _long_decimal(text: bytes) -> int:
    """Numbers with more than 40 characters are fine in Go only when they are leading zeros."""
    sign, digits = (text[:1], text[1:]) if text[:1] in (b"+", b"-") else (b"", text)
    if not digits.isdigit():
        _bad("a number of a pax record is not a number")
    return (
        decimal(sign + (digits.lstrip(b"0") or b"0"))
        if digits.startswith(b"0")
        else _bad("a decimal number needs more than 64 bits")
    )


def _check_sum(block: bytes, stored: bytes, total: int) -> None:
    """The checksum as unsigned (POSIX) or as signed bytes (Sun), written in any way Go reads."""
    value = _octal(stored)
    if value == total:
        return
    signed = total - 256 * sum(byte >= 0x80 for byte in block[:148] + block[156:])
    if value != signed:
        _bad("a header's checksum is wrong")


def _read_tail(tail: bytes) -> _Tail:
    """Fields from the type flag on. A field that is no number gives type -1: an error once the checksum held."""
    total = sum(tail)
    kind = tail[0]
    link = _until_nul(tail[1:101])
    magic, version = tail[101:107], tail[107:109]
    if magic == b"ustar\0":
        star = tail[352:356] == b"tar\0"
    elif magic == b"ustar " and version == b" \0":
        star = False
    else:
        return _Tail(total, kind, link, b"", 0, 0, False)
    prefix = b""
    gnu = magic == b"ustar "
    try:
        major, minor = numeric(tail[173:181]), numeric(tail[181:189])
        if star:
            prefix = _until_nul(tail[189:320])
            numeric(tail[320:332])
            numeric(tail[332:344])
        elif not gnu:
            prefix = _until_nul(tail[189:344])
    except Rejected:
        return _Tail(total, -1, link, b"", 0, 0, gnu)
    if gnu:
        prefix = _gnu_prefix(tail)
    return _Tail(total, kind, link, prefix, major, minor, gnu)


def _gnu_prefix(tail: bytes) -> bytes:
    """A prefix in a GNU header, written by Go before 1.8; read only where atime and ctime make no sense."""
    try:
        for field in (tail[189:201], tail[201:213]):
            if field[0]:
                numeric(field)
    except Rejected:
        prefix = _until_nul(tail[189:344])
        return prefix if prefix.isascii() else b""
    return b""


# pax records


def parse_pax(body: bytes) -> Records:
    """Go's parsePAX: every record or none; sparse 0.0 pairs become one 0.1 map. Raises Rejected("bad-tar")."""
    records: Records = {}
    sparse: list[bytes] = []
    at, end = 0, len(body)
    while at < end:
        space = body.find(b" ", at)
        if space < 0:
            _bad("a pax record has no length")
        length = decimal(body[at:space])
        if length < 5 or length > end - at or at + length <= space + 1 or body[at + length - 1] != 0x0A:
            _bad("a pax record has a wrong length")
        key, equals, value = body[space + 1 : at + length - 1].partition(b"=")
        at += length
        if not equals or not key or b"\0" in (value if key in _NO_NUL else key):
            _bad("a pax record is malformed")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if (len(sparse) % 2 == 0) != (key == b"GNU.sparse.offset") or b"," in value:
                _bad("a sparse map in pax records is out of order")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def _merge(member: Member, records: Records) -> None:
    """Go's mergePAX: empty values leave the header as it was; numbers and times must be well formed."""
    for key, value in records.items():
        if not value or key not in _BASIC_KEYS:
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
        _bad("a time of a pax record is not a number")


def xattr(member: Member, name: bytes) -> bytes:
    """Value of an extended attribute in the member's records; empty when there is none."""
    return (member.records or {}).get(_XATTR + name, b"")


# sparse maps


def _sparse_version(records: Records | None) -> str:
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


def _old_map(field: bytes, fragments: list[_Fragment]) -> bool:
    """Add the entries of one old GNU map; whether another block of it follows."""
    entries = len(field) // 24
    for at in range(0, entries * 24, 24):
        if not field[at]:
            break
        fragments.append(_Fragment(numeric(field[at : at + 12]), numeric(field[at + 12 : at + 24])))
    return field[entries * 24] > 0


def _map_in_records(records: Records) -> list[_Fragment]:
    count = decimal(records.get(b"GNU.sparse.numblocks", b""))
    text = records.get(b"GNU.sparse.map", b"")
    numbers = text.split(b",") if text else []
    if count < 0 or len(numbers) != 2 * count:
        _bad("a sparse map has another length than it says")
    return _pairs(numbers)


def _pairs(numbers: list[bytes]) -> list[_Fragment]:
    return [_Fragment(decimal(numbers[at]), decimal(numbers[at + 1])) for at in range(0, len(numbers), 2)]


def _valid_map(fragments: list[_Fragment], size: int) -> bool:
    """Go's validateSparseEntries."""
    if size < 0:
        return False
    done = 0
    for offset, length in fragments:
        if offset < 0 or length < 0 or offset + length > size or done > offset:
            return False
        done = offset + length
    return True


# sinks of our own


class _Collector:
    """Gathers a small content whole."""

    __slots__ = ("_body", "_then")

    def __init__(self, then: Callable[[bytes], None]) -> None:
        self._body = bytearray()
        self._then = then

    def feed(self, view: memoryview) -> None:
        self._body += view

    def close(self) -> None:
        self._then(bytes(self._body))


class _MapInContent:
    """A GNU sparse 1.0 content: whole blocks of decimal lines, then the data (Go's readGNUSparseMap1x0)."""

    __slots__ = ("_buffer", "_ceiling", "_inner", "_newlines", "_open", "_scanned")

    def __init__(self, ceiling: int, open_content: Callable[[list[_Fragment]], Sink]) -> None:
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
            if not 0 <= count < _INT64 // 2:
                _bad("a sparse map has an impossible length")
            if self._newlines > 2 * count:
                lines = bytes(self._buffer[: self._scanned]).split(b"\n", 2 * count + 1)
                self._inner = self._open(_pairs(lines[1 : 2 * count + 1]))
                return
        if self._scanned > self._ceiling:
            _bad("a sparse map is larger than its ceiling")

    def close(self) -> None:
        if self._inner is None:
            _bad("a sparse map ends too early")
        self._inner.close()


class _SparseSink:
    """Lays the stored fragments out over the logical file, with holes as zeros where they fit the layer's allowance."""

    __slots__ = ("_at", "_expand", "_fragments", "_head", "_index", "_member", "_opened", "_sink", "_spare", "_visitor")

    def __init__(self, visitor: Visitor, member: Member, fragments: list[_Fragment]) -> None:
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
                _bad("a sparse file has more data than its map")
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
            _bad("a sparse file has less data than its map")
        self._hole(self._member.size)
        if not self._opened:
            self._announce()
        if self._sink is not None:
            self._sink.close()
