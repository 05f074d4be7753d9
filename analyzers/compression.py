"""Plain, gzip and zstd streams, recognised by their first bytes as containerd does, inflated in bounded windows.

Knows members and frames, their ends and their ceilings; refuses to know what the bytes mean. The label (media type) is only
compared, never believed (hostile 39). Mirrors containerd pkg/archive/compression DetectCompression and Go's gzip reader.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from isal import igzip_lib

from analyzers.errors import Rejected
from analyzers.limits import Limits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Decompressor", "expected_compression", "sniff", "zstd"]

PLAIN, GZIP, ZSTD = "plain", "gzip", "zstd"
_LEAD_BYTES = 18
"""Enough for every magic here and for a whole zstd frame header."""
_FIRST_SLICE = 1 << 10
_LARGEST_SLICE = 64 << 10
"""Input is handed over in slices that start small after each member, so that many tiny members cost linear time (hostile 34)."""
_UNSUPPORTED = (
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_ERRORS = (cast("type[Exception]", igzip_lib.IsalError), zstd.ZstdError, EOFError)
_ONE_BLOCK = bytes(128)
"""isal's CRC leaves the upper halves of the vector registers in use, and with them so SHA-256 takes a third longer on AMD's Zen
(measured: 1.31 instead of 1.78 GB/s). OpenSSL's SHA-512 ends by clearing them; one block of it costs half a microsecond."""
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


def sniff(head: bytes) -> str:
    """`gzip`, `zstd`, `plain`, or the name of a compression no runtime of ours unpacks; `head` is the first 18 bytes or all."""
    if head.startswith(b"\x1f\x8b\x08"):
        return GZIP
    if _is_zstd(head):
        return ZSTD
    for magic, name in _UNSUPPORTED:
        if head.startswith(magic) and (name != "bzip2" or head[4:10] in _BZIP2_BLOCKS):
            return name
    return PLAIN


def expected_compression(media_type: str) -> str:
    """What a media type promises, or "" when it promises nothing."""
    lowered = media_type.lower().partition(";")[0].strip()
    for suffix, kind in (("gzip", GZIP), ("zstd", ZSTD), (".tar", PLAIN)):
        if lowered.endswith(suffix):
            return kind
    return ""


def _is_zstd(head: bytes) -> bool:
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return True
    return len(head) >= 8 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


class _Inner(Protocol):
    """What isal's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes: ...


class Decompressor:
    """A stream of one blob: feed it in any chunks, take windows of at most `limits.window_bytes`.

    Raises Rejected: `unsupported-compression`, `corrupt-layer`, `zstd-window`, `too-many-members`.
    """

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008
        self.kind = ""
        """What the bytes are, once that is known."""
        self.trailing = False
        """Bytes followed the last member that are no member; they were not looked at (hostile 36)."""
        self._limits = limits
        self._lead = b""
        self._inner: _Inner | None = None
        self._begin: Callable[[bytes], _Inner | None] = self._begin_gzip
        self._members = 0
        self._slice = _LARGEST_SLICE
        self._silent = 0
        self._clearing = hashlib.sha512()

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The windows that `chunk` makes available."""
        if self.trailing:
            return
        if not self.kind:
            self._lead += bytes(chunk)
            if len(self._lead) < _LEAD_BYTES:
                return
            chunk, self._lead = self._lead, b""
            self._choose(chunk[:_LEAD_BYTES])
        if self.kind == PLAIN:
            yield from self._windows(chunk)
        else:
            yield from self._inflate(chunk, last=False)

    def finish(self) -> Iterator[bytes]:
        """The rest. Raises Rejected when the stream ends inside a member (hostile 37, 38)."""
        rest, self._lead = self._lead, b""
        if not self.kind:
            self._choose(rest)
        if self.kind == PLAIN:
            yield from self._windows(rest)
            return
        if rest:
            yield from self._inflate(rest, last=True)
        if self._inner is not None:
            raise Rejected("corrupt-layer", f"the {self.kind} stream ends too early")

    def _choose(self, head: bytes) -> None:
        kind = sniff(head)
        if kind not in (PLAIN, GZIP, ZSTD):
            raise Rejected("unsupported-compression", f"compressed with {kind}")
        self.kind = kind
        self._begin = self._begin_gzip if kind == GZIP else self._begin_zstd

    def _windows(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        size = self._limits.window_bytes
        if len(chunk) <= size:
            if chunk:
                yield bytes(chunk)
            return
        view = memoryview(chunk)
        for start in range(0, len(view), size):
            yield bytes(view[start : start + size])

    def _inflate(self, chunk: bytes | memoryview, *, last: bool) -> Iterator[bytes]:
        view = memoryview(self._lead + bytes(chunk)) if self._lead else memoryview(chunk)
        self._lead = b""
        window = self._limits.window_bytes
        at, end = 0, len(view)
        while at < end:
            inner = self._inner
            if inner is None:
                if end - at < _LEAD_BYTES and not last:
                    self._lead = bytes(view[at:])
                    return
                inner = self._inner = self._begin(bytes(view[at : at + _LEAD_BYTES]))
                if inner is None:
                    self.trailing = True
                    return
            piece = view[at : at + self._slice]
            at += len(piece)
            out = self._step(inner, piece, window)
            while True:
                if out:
                    self._silent = 0
                    yield out
                if inner.eof or inner.needs_input:
                    break
                out = self._step(inner, b"", window)
            if inner.eof:
                at -= len(inner.unused_data)
                self._inner = None
                self._slice = _FIRST_SLICE
                continue
            self._slice = min(self._slice * 2, _LARGEST_SLICE)
            self._silent += len(piece)
            if self._silent > self._limits.gzip_header_bytes + _LARGEST_SLICE and self.kind == GZIP:
                raise Rejected("corrupt-layer", "a gzip header is longer than its ceiling")

    def _step(self, inner: _Inner, piece: bytes | memoryview, window: int) -> bytes:
        try:
            out = inner.decompress(piece, window)
        except _ERRORS as error:
            raise Rejected("corrupt-layer", f"{self.kind}: {str(error)[:150]}") from error
        if self.kind == GZIP:
            self._clearing.update(_ONE_BLOCK)  # see there
        return out

    def _count(self, ceiling: int) -> None:
        self._members += 1
        self._silent = 0
        if self._members > ceiling:
            raise Rejected("too-many-members", f"more than {ceiling} {self.kind} members in one stream")

    def _begin_gzip(self, head: bytes) -> _Inner | None:
        if not head.startswith(b"\x1f\x8b"):
            return None
        self._count(self._limits.gzip_members)
        made: _Inner = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return made

    def _begin_zstd(self, head: bytes) -> _Inner | None:
        if not _is_zstd(head):
            return None
        self._count(self._limits.zstd_frames)
        window = zstd_window(head)
        if window > self._limits.zstd_window_bytes:
            raise Rejected("zstd-window", f"a zstd frame wants a window of {window} bytes")
        log = max(self._limits.zstd_window_bytes.bit_length() - 1, 10)
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: log})


def zstd_window(head: bytes) -> int:
    """Window size in bytes that a zstd frame header asks for (RFC 8878 3.1.1.1.2); 0 for a skippable or cut one."""
    if not head.startswith(b"\x28\xb5\x2f\xfd") or len(head) < 6:
        return 0
    descriptor = head[4]
    if not descriptor & 0x20:
        exponent, mantissa = head[5] >> 3, head[5] & 7
        base = 1 << (10 + exponent)
        return base + (base >> 3) * mantissa
    at = 5 + (0, 1, 2, 4)[descriptor & 3]
    width = (1, 2, 4, 8)[descriptor >> 6]
    field = head[at : at + width]
    if len(field) < width:
        return 0
    size: int = struct.unpack("<" + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], field)[0]
    return size + 256 if width == 2 else size
