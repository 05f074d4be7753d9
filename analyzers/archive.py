"""Image archives read in one pass: what `docker save`, an engine's export and OCI tools write as one tar.

Knows the outer tar, keeps its JSON members whole and reads each layer as it streams by, because the manifest that names the
layers may come last. Refuses to know which image a member belongs to: the caller joins layers and manifest afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from analyzers.compression import PLAIN, Decompressor
from analyzers.errors import Rejected
from analyzers.facts import LayerFacts
from analyzers.layer import LayerReader, Ranges
from analyzers.limits import Limits
from analyzers.tar import TarReader
from analyzers.tar.members import LINK, REGULAR, SYMLINK, Member, Sink
from analyzers.unpack import clean_path

_NO_LAYERS = ("VERSION", "oci-layout")


class ArchiveFacts(NamedTuple):
    """An archive's content by member name (cleaned, as text)."""

    documents: dict[str, bytes]
    """JSON members whole, those below blobs/ included."""
    layers: dict[str, LayerFacts | Rejected]
    """Every other member that was read: a layer, or why it is none (a member whose bytes belie its digest included)."""
    links: dict[str, str]
    """Symbolic and hard links: member name to member name."""
    members: dict[str, tuple[int, int]]
    """Offset and size of every regular member; empty when the archive itself is compressed."""
    blobs: dict[str, tuple[str, int]]
    """Digest and size of the bytes of each layer that was read."""
    missed: dict[str, dict[bytes, Ranges]]
    """Layers that want a second pass (LayerReader.missed)."""
    known: frozenset[str]
    """Members that were not read because the caller knew them."""
    compression: str
    """How the archive itself was compressed: `plain`, `gzip` or `zstd`."""


class ArchiveReader:
    """Fed an archive in any chunks. Raises Rejected where the outer tar cannot be read (hostile A and B apply)."""

    def __init__(
        self,
        *,
        known: frozenset[str] = frozenset(),
        limits: Limits = Limits(),  # noqa: B008
        index_only: bool = False,
        known_ranges: Mapping[str, Mapping[bytes, Ranges]] | None = None,
    ) -> None:
        """`known`: member names or digests (diff IDs too, where members are named by them) that need not be read.

        `index_only` reads documents and says where each member lies, but reads no layer. `known_ranges` is the `missed` of
        an earlier pass.
        """
        self._limits = limits
        self._stream = Decompressor(limits)
        self._visitor = _ArchiveVisitor(known, limits, known_ranges or {}, index_only=index_only)
        self._tar = TarReader(self._visitor, limits)
        self._bytes_in = 0
        self._bytes_out = 0

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes. Raises Rejected."""
        self._bytes_in += len(chunk)
        if self._bytes_in > self._limits.compressed_image_bytes + self._limits.uncompressed_image_bytes:
            raise Rejected("too-large", "the archive is larger than an image may be")
        for window in self._stream.feed(chunk):
            self._take(window)

    def finish(self) -> ArchiveFacts:
        """All that was found. Raises Rejected when the archive ends too early."""
        for window in self._stream.finish():
            self._take(window)
        self._tar.finish()
        if self._stream.trailing and not self._tar.ended:
            raise Rejected("corrupt-archive", "the archive's compressed stream is broken")
        visitor = self._visitor
        return ArchiveFacts(
            documents=visitor.documents,
            layers=visitor.layers,
            links=visitor.links,
            members=visitor.members if self._stream.kind == PLAIN else {},
            blobs=visitor.blobs,
            missed=visitor.missed,
            known=frozenset(visitor.skipped),
            compression=self._stream.kind,
        )

    def _take(self, window: bytes) -> None:
        self._bytes_out += len(window)
        if self._bytes_out > self._limits.uncompressed_image_bytes:
            raise Rejected("too-large", "the archive is larger than an image may be")
        self._tar.feed(window)


class _ArchiveVisitor:
    """Sorts the members of the outer tar."""

    def __init__(
        self, known: frozenset[str], limits: Limits, known_ranges: Mapping[str, Mapping[bytes, Ranges]], *, index_only: bool
    ) -> None:
        self.documents: dict[str, bytes] = {}
        self.layers: dict[str, LayerFacts | Rejected] = {}
        self.links: dict[str, str] = {}
        self.members: dict[str, tuple[int, int]] = {}
        self.blobs: dict[str, tuple[str, int]] = {}
        self.missed: dict[str, dict[bytes, Ranges]] = {}
        self.skipped: set[str] = set()
        self._known = known
        self._known_ranges = known_ranges
        self._limits = limits
        self._index_only = index_only
        self._count = 0
        self._document_bytes = 0

    def note(self, code: str, name: bytes) -> None:
        """Oddities of the outer tar say nothing about an image."""

    def member(self, member: Member, head: bytes) -> Sink | None:
        self._count += 1
        if self._count > self._limits.archive_members:
            raise Rejected("too-large", f"the archive has more than {self._limits.archive_members} members")
        name = _name(member.name)
        if not name:
            return None
        if member.type in (LINK, SYMLINK):
            self._link(name, member)
            return None
        if member.type != REGULAR or not member.whole:
            return None
        self._forget(name)
        self.members[name] = (member.offset, member.size)
        if is_document(head) and member.size <= self._limits.manifest_bytes:
            return self._document(name, member.size)
        if self._index_only or name in _NO_LAYERS:
            return None
        if name in self._known or blob_digest(name) in self._known:
            self.skipped.add(name)
            return None
        return _LayerSink(LayerReader(limits=self._limits, known_ranges=self._known_ranges.get(name)), self._layer_done(name))

    def _forget(self, name: str) -> None:
        """A later member of the same name replaces the earlier one, as it would on disk."""
        for held in (self.documents, self.layers, self.links, self.blobs, self.missed):
            held.pop(name, None)
        self.skipped.discard(name)

    def _link(self, name: str, member: Member) -> None:
        target = member.link
        if member.type == SYMLINK and not target.startswith(b"/"):
            target = name.rpartition("/")[0].encode() + b"/" + target
        self._forget(name)
        self.links[name] = _name(target)

    def _document(self, name: str, size: int) -> Sink:
        self._document_bytes += size
        if self._document_bytes > self._limits.archive_documents_bytes:
            raise Rejected("too-large", "the archive has too many JSON members")

        def done(body: bytes) -> None:
            digest = blob_digest(name)
            if digest.startswith("sha256:") and digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
                self.layers[name] = Rejected("digest-mismatch", f"the bytes of {name[:150]} belie its name")
                return
            self.documents[name] = body

        return _DocumentSink(done)

    def _layer_done(self, name: str) -> Callable[[LayerReader, LayerFacts | Rejected], None]:
        def done(reader: LayerReader, found: LayerFacts | Rejected) -> None:
            digest = blob_digest(name)
            if digest.startswith("sha256:") and digest != reader.blob_digest:
                found = Rejected("digest-mismatch", f"the bytes of {name[:150]} belie its name")
            self.layers[name] = found
            self.blobs[name] = reader.blob_digest, reader.bytes_in
            if reader.missed and not isinstance(found, Rejected):
                self.missed[name] = reader.missed

        return done


def is_document(head: bytes) -> bool:
    """Whether content that begins so is JSON. No tar, gzip or zstd begins so: a tar header has NULs."""
    return head.lstrip(b" \t\r\n")[:1] in (b"{", b"[") and b"\0" not in head


def blob_digest(name: str) -> str:
    """`algorithm:hex` of a member named as in an OCI layout, else empty."""
    parts = name.split("/")
    return f"{parts[1]}:{parts[2]}" if len(parts) == 3 and parts[0] == "blobs" else ""


def _name(raw: bytes) -> str:
    """A member's cleaned name; empty for the root and for names that are no text."""
    try:
        return clean_path(raw)[0].decode()
    except UnicodeDecodeError:
        return ""


class _DocumentSink:
    __slots__ = ("_body", "_then")

    def __init__(self, then: Callable[[bytes], None]) -> None:
        self._body = bytearray()
        self._then = then

    def feed(self, view: memoryview) -> None:
        self._body += view

    def close(self) -> None:
        self._then(bytes(self._body))


class _LayerSink:
    """A layer inside the archive. What is wrong with it ends its own reading and no other's."""

    __slots__ = ("_found", "_reader", "_then")

    def __init__(self, reader: LayerReader, then: Callable[[LayerReader, LayerFacts | Rejected], None]) -> None:
        self._reader = reader
        self._then = then
        self._found: Rejected | None = None

    def feed(self, view: memoryview) -> None:
        try:
            self._reader.feed(view)
        except Rejected as rejected:
            self._found = rejected

    def close(self) -> None:
        found: LayerFacts | Rejected
        if self._found is not None:
            found = self._found
        else:
            try:
                found = self._reader.finish()
            except Rejected as rejected:
                found = rejected
        self._then(self._reader, found)
