"""A push-fed tar reader that sees exactly the members Go's archive/tar sees, because that is what container runtimes use.

Knows ustar, v7, star, pax, GNU long names and all GNU sparse formats, with Go's own leniencies and refusals (archive/tar
reader.go and strconv.go of Go 1.19). Refuses to know what a name means, and touches nothing but the bytes it is fed. What Go
answers with an error is `Rejected("bad-tar")`; what ends too early is `Rejected("truncated")`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from analyzers.errors import Rejected
from analyzers.limits import Limits
from analyzers.tar.fields import (
    BASIC_KEYS,
    OCTAL_DIGITS,
    Tail,
    check_sum,
    decimal,
    merge,
    numeric,
    parse_pax,
    read_tail,
    refuse,
    until_nul,
)
from analyzers.tar.members import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    LINK,
    PEEK,
    REGULAR,
    SYMLINK,
    Member,
    Records,
    Sink,
    Sparing,
    Visitor,
)
from analyzers.tar.sparse import Fragment, MapInContent, SparseSink, is_valid_map, map_in_records, old_map, sparse_version

GNU_SPARSE = ord("S")
_HEADER_ONLY = frozenset((LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"xgLK"
_EXTENDED = frozenset((_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK))
_ZERO = bytes(BLOCK)
_MEMO_SIZE = 2048


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
        self._tails: dict[bytes, Tail] = {}
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

    def leave_out(self, count: int) -> None:
        """`count` bytes of the content at hand will not come, because nobody wants them. Raises Rejected where somebody does."""
        if self._sink is not None:
            if not isinstance(self._sink, Sparing):
                raise Rejected("left-out", "content that is wanted was left out")
            self._sink.spare(count)
        if self._carry or count > self._left:
            raise Rejected("left-out", "more was left out than the content of a file")
        self._left -= count
        self._base += count

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
                refuse("one zero block and then something else")
            self.ended = True
            return 2 * BLOCK
        raw_tail = window[at + 156 : at + BLOCK]
        tail = self._tails.get(raw_tail)
        if tail is None:
            if len(self._tails) >= _MEMO_SIZE:
                self._tails.clear()
            tail = self._tails[raw_tail] = read_tail(raw_tail)
        # Sum of 148 bytes fits below adler32's modulus, so its low half is the exact sum.
        tail_total, kind, link, prefix, major, minor, gnu = tail
        total = (zlib.adler32(window[at : at + 148], 0) & 0xFFFF) + 256 + tail_total
        stored = window[at + 148 : at + 156]
        if self._sums.get(stored) != total:
            if stored != b"%06o\0 " % total:
                check_sum(window[at : at + BLOCK], stored, total)
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
        if window[at + 135] in b"\0 " and not raw_size.strip(OCTAL_DIGITS):
            size = int(raw_size, 8)
        else:
            size = numeric(window[at + 124 : at + 136])
        # Nothing needs the time, but one that is no number is an error in Go.
        if window[at + 147] not in b"\0 " or window[at + 136 : at + 147].strip(OCTAL_DIGITS):
            numeric(window[at + 136 : at + 148])
        if kind < 0:
            refuse("a numeric field of a header is not a number")
        stop = window.find(b"\0", at, at + 100)
        name = window[at : at + 100 if stop < 0 else stop]
        if prefix:
            name = prefix + b"/" + name
        mode, uid, gid = owner
        if kind == REGULAR and not self._extended:
            # The plain case: nothing extends this header.
            if size < 0:
                refuse("negative size")
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
            refuse("negative size")
        if member.records:
            merge(member, member.records)
        if self._long_name:
            member.name = self._long_name
        if self._long_link:
            member.link = self._long_link
        if member.type == 0:
            member.type = DIRECTORY if member.name.endswith(b"/") else REGULAR
        physical = 0 if member.type in _HEADER_ONLY else member.size
        if physical < 0:
            refuse("negative size")
        member.offset = self._base + at + BLOCK
        old_sparse = member.type == GNU_SPARSE
        version = "" if old_sparse else sparse_version(member.records)
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
            refuse("negative size")
        if size > self._limits.extended_header_bytes:
            refuse("an extended header is larger than its ceiling")
        self._extended += 1
        if self._extended > self._limits.extended_headers_in_a_row:
            refuse("too many extended headers in a row")
        self._left = size
        self._pad = -size & 511
        self._sink = _Collector(lambda body: self._extend(kind, body))

    def _extend(self, kind: int, body: bytes) -> None:
        if kind == _LONG_NAME:
            self._long_name = until_nul(body)
        elif kind == _LONG_LINK:
            self._long_link = until_nul(body)
        else:
            self._records = parse_pax(body)
        if kind == _GLOBAL:
            # Go hands it out as a member of its own and forgets every pending extension (hostile 17).
            if self._records and not BASIC_KEYS.isdisjoint(self._records):
                self._visitor.note("global-pax", b"")
            self._records, self._long_name, self._long_link = None, b"", b""

    # sparse files

    def _old_sparse(self, block: bytes, member: Member, gnu: bool) -> None:
        if not gnu:
            refuse("a sparse member outside the GNU format")
        member.size = numeric(block[483:495])
        fragments: list[Fragment] = []
        if old_map(block[386:483], fragments):
            self._old_extension(member, fragments, self._left, self._pad, 0)
        else:
            self._sparse_content(member, fragments)

    def _old_extension(self, member: Member, fragments: list[Fragment], left: int, pad: int, read: int) -> None:
        """Read one 512-byte continuation of an old GNU map; it lies before the content and counts to nobody's size."""
        if read > self._limits.sparse_map_bytes:
            refuse("a sparse map is larger than its ceiling")

        def taken(block: bytes) -> None:
            if old_map(block, fragments):
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
            self._sink = MapInContent(self._limits.sparse_map_bytes, lambda found: self._open_sparse(member, found))
            return
        self._sparse_content(member, map_in_records(records))

    def _sparse_content(self, member: Member, fragments: list[Fragment]) -> None:
        self._sink = self._open_sparse(member, fragments)

    def _open_sparse(self, member: Member, fragments: list[Fragment]) -> Sink:
        if member.type in _HEADER_ONLY or not is_valid_map(fragments, member.size):
            refuse("an impossible sparse map")
        holes = member.size - sum(fragment.length for fragment in fragments)
        expand = holes <= self._holes_left
        if expand:
            self._holes_left -= holes
        member.whole = expand
        return SparseSink(self._visitor, member, fragments)


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
