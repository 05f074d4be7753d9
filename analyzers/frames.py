"""The words between the daemon and a worker process: frames on a pipe, and the messages inside them.

A frame is a nine-byte header (length, kind, request) and at most one MiB of body. One request is open at a time; its id
lets either side drop what belongs to an earlier one. Layer bytes and stored sections travel raw; everything else is a
msgpack Struct checked by type on both sides. Knows no pipe, no process and no clock: `__main__` and service/worker.py do.

    daemon                                  worker
    [MORE] MESSAGE   ─────────────────────► a Request
    DATA ... END     ─────────────────────► (layer, archive)      ◄─── PROGRESS
    PART ... END     ─────────────────────► (judge, ldd, after WANT)
                     ◄───────────────────── PART ... [MORE] MESSAGE Answer
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from analyzers.errors import EnoentError
from analyzers.limits import Limits
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile

MAX_BODY_BYTES = (1 << 20) + (64 << 10)
"""One MiB of data and the wrapping of a PART; a longer frame is a broken peer."""
DATA_BYTES = 1 << 20
PART_BYTES = DATA_BYTES + (32 << 10)
"""Room for one zstd chunk of 1 MiB that would not shrink, so that a stored chunk is never split."""
MAX_MESSAGE_BYTES = 64 << 20
"""All MORE frames of one message together."""
HEADER_BYTES = 9
_HEADER = struct.Struct("<IBI")
_PIECE = struct.Struct("<IQ")

EXIT_MEMORY = 86
"""Exit status of a worker that met MemoryError: its address space was full."""
EXIT_PROTOCOL = 87
"""Exit status of a worker that could not understand its peer."""


class ProtocolBroken(EnoentError):
    """The peer sent something that is not a frame or not the message that belongs here."""


class FrameKind(enum.IntEnum):
    MESSAGE = 1
    DATA = 2
    """Bytes of a layer or an archive, in order."""
    END = 3
    """No more DATA or PART of this request."""
    ABORT = 4
    """The source failed: forget this request; no answer is wanted but `Failed("aborted")`."""
    PART = 5
    """One chunk of a stored section or of a long result."""
    MORE = 6
    """The beginning of a MESSAGE that is longer than one frame; the rest follows."""


class Header(NamedTuple):
    length: int
    kind: FrameKind
    request: int


def header(kind: FrameKind, request: int, length: int) -> bytes:
    """The nine bytes that go before a body."""
    return _HEADER.pack(length, kind, request)


def parse_header(raw: bytes | memoryview) -> Header:
    """Raises ProtocolBroken for an unknown kind or a body beyond MAX_BODY_BYTES."""
    length, kind, request = _HEADER.unpack(raw)
    if length > MAX_BODY_BYTES or kind not in FrameKind._value2member_map_:
        raise ProtocolBroken(f"not a frame: length {length}, kind {kind}")
    return Header(length, FrameKind(kind), request)


# What the daemon asks


class ReadLayer(msgspec.Struct, frozen=True, tag="layer"):
    """One layer blob follows as DATA. Answered by PARTs (its sections) and LayerRead."""

    media_type: str = ""
    limits: Limits = Limits()
    known_ranges: bytes = b""
    """msgpack of what an earlier pass reported as missed; empty in a first pass (decisions 1)."""
    blob_digest: str = ""
    """Digest that the daemon itself checks while it sends: END comes only where it holds. Empty: the worker computes one."""


class ReadInPlace(msgspec.Struct, frozen=True, tag="in-place"):
    """Pieces of one layer's tar (`piece`) follow as DATA, without what no reader wants. Answered by PARTs and LayerRead."""

    diff_id: str
    """Said by who has the layer; it cannot be computed from a part of it."""
    source: str
    """Whom the facts may serve (decisions 2)."""
    limits: Limits = Limits()


class PlanElf(msgspec.Struct, frozen=True, tag="plan-elf"):
    """Which ranges of a large ELF file to read in place, as far as these pieces of it tell. Answered by Planned."""

    size: int
    pieces: tuple[tuple[int, bytes], ...]


class ReadArchive(msgspec.Struct, frozen=True, tag="archive"):
    """A docker or OCI archive follows as DATA. Answered by PARTs and ArchiveRead."""

    known: tuple[str, ...] = ()
    """Member names and digests whose layers need not be read."""
    index_only: bool = False
    limits: Limits = Limits()
    known_ranges: bytes = b""
    """msgpack of ArchiveRead.missed of an earlier pass; empty in a first pass."""


class JudgeImage(msgspec.Struct, frozen=True, tag="judge"):
    """Judge one image by the facts of its layers. Answered by Want, then by PARTs (the report) and Judged."""

    image_id: str
    config: ImageConfig
    layers: tuple[str, ...]
    """Keys of the layers' facts, lowest first; the same key may stand twice."""
    profile: HostProfile = HostProfile()
    overrides: bytes = b""
    """msgpack of start.Overrides; empty for the image's own settings."""


class ListObjects(msgspec.Struct, frozen=True, tag="ldd"):
    """List what each ELF object of an image would load. Answered by Want, PARTs (JSON lines) and Listed."""

    image_id: str
    config: ImageConfig
    layers: tuple[str, ...]
    paths: tuple[bytes, ...] = ()
    all_elf: bool = False
    profile: HostProfile = HostProfile()
    overrides: bytes = b""


Request = ReadLayer | ReadInPlace | PlanElf | ReadArchive | JudgeImage | ListObjects


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One piece of a section, of a document or of a long result: `owner` is a layer's key or an archive's member."""

    owner: str
    name: str
    body: bytes


# What a worker answers


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of every worker, after it has confined itself."""

    pid: int
    facts_version: str
    rules_version: str
    confined: dict[str, str]
    """What was asked of the kernel (`network`, `memory`, ...) and what came of it: `none`, `1024 MiB`, `refused: EPERM`."""


class Want(msgspec.Struct, frozen=True, tag="want"):
    """The layers whose facts the worker does not hold; their PARTs and END must follow."""

    layers: tuple[str, ...]


class LayerRead(msgspec.Struct, frozen=True, tag="layer-read"):
    """What one pass over a layer gave."""

    key: str
    """Key of these facts: diff ID, facts version, coverage and verification (decisions 2)."""
    blob_digest: str
    diff_id: str
    """Computed from the uncompressed bytes; the blob's digest where reading stopped before their end."""
    coverage: str
    verified: str
    bytes_in: int
    bytes_out: int
    entries: int
    unread: tuple[tuple[str, str], ...] = ()
    """The first few files that a reader wanted and could not read: shown path, reason."""
    missed: bytes = b""
    """msgpack for ReadLayer.known_ranges of a second pass; empty when nothing was missed."""


class MemberRead(msgspec.Struct, frozen=True, tag="member-read"):
    """One layer of an archive: its facts travelled as PARTs owned by `name`, or it was rejected."""

    name: str
    read: LayerRead | None = None
    code: str = ""
    detail: str = ""


class ArchiveRead(msgspec.Struct, frozen=True, tag="archive-read"):
    """What one pass over an archive gave; documents travelled as PARTs owned by their name."""

    members: tuple[MemberRead, ...]
    links: dict[str, str]
    places: dict[str, tuple[int, int]]
    """Offset and size of every regular member; empty when the archive itself is compressed."""
    missed: bytes = b""
    """msgpack for ReadArchive.known_ranges of a second pass; empty when nothing was missed."""
    known: tuple[str, ...] = ()
    """Members that were passed over because the daemon knew them."""
    compression: str = ""
    """How the archive itself was compressed: `plain`, `gzip` or `zstd`."""


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """Start and end of each, sorted and disjoint."""

    ranges: tuple[tuple[int, int], ...]


class Judged(msgspec.Struct, frozen=True, tag="judged"):
    """The report travelled as PARTs named `report`."""


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """The listing travelled as PARTs named `lines`."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The bytes were refused (analyzers.errors.Rejected), or the request was aborted (`aborted`)."""

    code: str
    detail: str


Result = LayerRead | ArchiveRead | Planned | Judged | Listed | Failed


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """A worker's last word on a request, with what the pool needs to know of the worker."""

    result: Result
    rss_bytes: int
    """Resident memory after the request."""
    cpu_seconds: float
    """CPU time the request took."""
    holds: tuple[str, ...]
    """Keys of the layers now in the worker's cache."""


Reply = Hello | Want | Answer

_REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLY: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_PART = msgspec.msgpack.Decoder(Part)
_ENCODE = msgspec.msgpack.Encoder().encode


def encode(message: msgspec.Struct) -> bytes:
    """A message as the body of a MESSAGE or PART frame."""
    return _ENCODE(message)


def decode_request(body: bytes) -> Request:
    """Raises ProtocolBroken."""
    try:
        return _REQUEST.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolBroken(f"not a request: {error}") from error


def decode_part(body: bytes | memoryview) -> Part:
    """Raises ProtocolBroken."""
    try:
        return _PART.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolBroken(f"not a part: {error}") from error


def decode_reply(body: bytes) -> Reply:
    """Raises ProtocolBroken."""
    try:
        return _REPLY.decode(body)
    except msgspec.DecodeError as error:
        raise ProtocolBroken(f"not a reply: {error}") from error


def piece(data: bytes, left_out: int = 0) -> bytes:
    """Bytes of a tar, and how many of a file's content are left out behind them. A DATA frame holds whole pieces."""
    return _PIECE.pack(len(data), left_out) + data


def pieces(body: memoryview) -> Iterator[tuple[bytes, int]]:
    """The pieces of one DATA frame. Raises ProtocolBroken."""
    at = 0
    while at < len(body):
        if len(body) - at < _PIECE.size:
            raise ProtocolBroken("half a piece")
        length, left_out = _PIECE.unpack_from(body, at)
        at += _PIECE.size
        if length > len(body) - at:
            raise ProtocolBroken("half a piece")
        yield bytes(body[at : at + length]), left_out
        at += length


def message_frames(request: int, message: msgspec.Struct) -> Iterator[bytes]:
    """The frames of one message, each whole: as many MORE as its length needs, then the MESSAGE."""
    body = _ENCODE(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ProtocolBroken(f"message of {len(body)} bytes")
    start = 0
    while len(body) - start > MAX_BODY_BYTES:
        yield header(FrameKind.MORE, request, DATA_BYTES) + body[start : start + DATA_BYTES]
        start += DATA_BYTES
    yield header(FrameKind.MESSAGE, request, len(body) - start) + body[start:]


def part_frames(request: int, owner: str, name: str, body: bytes) -> Iterator[bytes]:
    """The PART frames that carry `body`, in order; an empty body still makes one."""
    for start in range(0, max(len(body), 1), PART_BYTES):
        part = _ENCODE(Part(owner, name, body[start : start + PART_BYTES]))
        yield header(FrameKind.PART, request, len(part)) + part


def layer_key(diff_id: str, facts_version: str, coverage: str, verified: str) -> str:
    """The name under which facts of a layer are stored, cached and asked for (decisions 2)."""
    return f"{diff_id}|{facts_version}|{coverage}|{verified}"
