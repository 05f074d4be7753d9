"""One pass over a layer: digests, entries, whiteouts, and what the readers want of its files.

Fed the blob as it arrives, in any chunks; keeps nothing but facts. Mirrors what containerd does with each tar member
(pkg/archive applyNaive); refuses to know other layers, verdicts, and where the bytes came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from analyzers.compression import PLAIN, Decompressor, expected_compression
from analyzers.elf import ElfReader
from analyzers.entries import Columns
from analyzers.errors import Rejected
from analyzers.facts import Coverage, ElfFacts, Kind, LayerFacts, LayerNote, SymbolFacts, Unread, Verified
from analyzers.jar_facts import JarFacts
from analyzers.jars import JarReader
from analyzers.limits import Limits
from analyzers.packages import PACKAGE_ENDINGS, PackageSink, database_of
from analyzers.readers import (
    CONTENT_ENDINGS,
    ELF_MAGIC,
    SCRIPT_ENDINGS,
    SMALL_TEXT_BYTES,
    SOURCED_FOLDERS,
    wants_class,
    wants_jar,
    wants_script,
    wants_small_text,
    wants_text,
)
from analyzers.sinks import HashSink, TextSink
from analyzers.tar import TarReader
from analyzers.tar.members import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SYMLINK, Member, Sink, xattr
from analyzers.unpack import Extras, Mark, clean_path, settle

Ranges = tuple[tuple[int, int], ...]
_ROWS_A_RUN = 65_536
_KINDS = {
    REGULAR: Kind.FILE,
    LINK: Kind.HARDLINK,
    SYMLINK: Kind.SYMLINK,
    CHARACTER: Kind.CHARACTER_DEVICE,
    BLOCK_DEVICE: Kind.BLOCK_DEVICE,
    DIRECTORY: Kind.DIRECTORY,
    FIFO: Kind.FIFO,
}
_OPAQUE = b".wh..wh..opq"
_READ_ENDINGS = (*CONTENT_ENDINGS, *PACKAGE_ENDINGS, *SCRIPT_ENDINGS)
_COMPONENT_BYTES = 255
"""NAME_MAX of every file system images are unpacked on."""
_NOBODY = 0xFFFFFFFF
_ELF_START = ELF_MAGIC[:2]
_CAPABILITY = b"security.capability"


class _LayerVisitor:
    """Turns members into rows, and gives their content to the readers that want it."""

    def __init__(self, limits: Limits, known_ranges: Mapping[bytes, Ranges]) -> None:
        self.limits = limits
        self.known_ranges = known_ranges
        self.runs: list[Columns] = []
        self.rows: list[list[object]] = []
        self.marks: list[Mark] = []
        self.devices: dict[int, tuple[int, int]] = {}
        self.capabilities: dict[int, bytes] = {}
        self.elf: dict[bytes, ElfFacts] = {}
        self.symbols: dict[bytes, SymbolFacts] = {}
        self.symbol_bytes = 0
        self.texts: dict[int, bytes] = {}
        self.text_bytes = 0
        self.heads: dict[int, bytes] = {}
        self.jars: dict[bytes, JarFacts] = {}
        self.classes: dict[int, bytes] = {}
        self.class_bytes = 0
        self.packages: dict[bytes, bytes] = {}
        self.scripts: dict[int, bytes] = {}
        self.script_bytes = 0
        self.link_parents: set[bytes] = set()
        self.missed: dict[bytes, Ranges] = {}
        self.unread: list[Unread] = []
        self.notes: dict[LayerNote, None] = {}
        self.full = False
        """A ceiling on entries was met: members that follow are not looked at."""
        self.partial = False
        self.reading: bytes | None = None
        """The ELF file or jar whose content is passing."""
        self._serial = 0
        self._kept_bytes = 0

    # the tar reader's visitor

    def note(self, code: str, name: bytes, detail: str = "") -> None:
        if len(self.notes) < self.limits.layer_notes:
            self.notes[LayerNote(code, name, detail)] = None

    def member(self, member: Member, head: bytes) -> Sink | None:
        if self.full:
            return None
        if len(self.rows) >= _ROWS_A_RUN:
            self.flush()
        serial = self._serial = self._serial + 1
        if serial > self.limits.layer_entries:
            self._stop_at("entry-limit")
            return None
        path = member.name
        # Most names are clean already; the longer way costs as much as the rest of this method.
        if (
            b"//" in path
            or b"/." in path
            or path[:1] in b"./"
            or path[-1:] == b"/"
            or len(path) > _COMPONENT_BYTES
            or member.records
        ):
            path = self._path(path)
        if b".wh." in path and path.rpartition(b"/")[2].startswith(b".wh."):
            self._whiteout(serial, path)
            return None
        uid, gid = member.uid, member.gid
        if not (0 <= uid < _NOBODY and 0 <= gid < _NOBODY):
            uid, gid = _owner(uid), _owner(gid)
        if member.type == REGULAR and path:
            row: list[object] = [path, serial, 0, member.mode & 0o7777, uid, gid, member.size, b"", b""]
            self.rows.append(row)
            if member.records:
                self._capability(serial, member)
            first = head[:2]
            if (
                first == _ELF_START
                or first == b"#!"
                or member.size >= self.limits.hash_floor_bytes
                or path.endswith(_READ_ENDINGS)
                or path.startswith(SOURCED_FOLDERS)
            ):
                return self._content(row, serial, member, path, head)
            return None
        kind = _KINDS.get(member.type)
        if kind is None:
            raise Rejected("unknown-type", f"a tar member has the type {chr(member.type)!r}")
        if path or kind is Kind.DIRECTORY:
            row = [path, serial, int(kind), member.mode & 0o7777, uid, gid, 0, b"", b""]
            self.rows.append(row)
            if member.records:
                self._capability(serial, member)
            if kind is not Kind.DIRECTORY:
                self._special(row, serial, kind, member)
        return None

    def _path(self, name: bytes) -> bytes:
        path, escaped = clean_path(name)
        if len(path) > _COMPONENT_BYTES:
            self._check_length(path)
        if b"\0" in path:
            raise Rejected("bad-tar", "a NUL byte in a name")
        if escaped:
            self.note("path-escape", path)
        return path

    def _check_length(self, path: bytes) -> None:
        if len(path) > self.limits.path_bytes:
            raise Rejected("bad-tar", f"a path is longer than {self.limits.path_bytes} bytes")
        if any(len(part) > _COMPONENT_BYTES for part in path.split(b"/")):
            raise Rejected("bad-tar", f"a name is longer than {_COMPONENT_BYTES} bytes")

    def _whiteout(self, serial: int, path: bytes) -> None:
        """containerd validateWhiteout and the OCI layer specification (hostile 7-10)."""
        directory, slash, name = path.rpartition(b"/")
        if name == _OPAQUE:
            self._mark(Mark(serial, True, directory))
            return
        hidden = name[4:]
        if hidden in (b"", b".", b".."):
            raise Rejected("invalid-whiteout", f"a whiteout is named {name.decode()}")
        self._mark(Mark(serial, False, directory + slash + hidden))

    def _mark(self, mark: Mark) -> None:
        if len(self.marks) >= self.limits.layer_whiteouts:
            self._stop_at("entry-limit")
            return
        self.marks.append(mark)

    def _special(self, row: list[object], serial: int, kind: Kind, member: Member) -> None:
        if kind is Kind.SYMLINK:
            if not 0 < len(member.link) < self.limits.path_bytes or b"\0" in member.link:
                raise Rejected("bad-tar", "a symbolic link to nothing, or to a path longer than the kernel takes")
            row[7] = member.link
        elif kind is Kind.HARDLINK:
            target = row[7] = self._path(member.link)
            self.link_parents.add(target.rpartition(b"/")[0])
        elif kind is not Kind.FIFO and len(self.devices) < self.limits.layer_devices:
            self.devices[serial] = (member.major & 0xFFFFFFFF, member.minor & 0xFFFFFFFF)
        elif kind is not Kind.FIFO:
            self._stop_at("entry-limit")

    def _capability(self, serial: int, member: Member) -> None:
        value = xattr(member, _CAPABILITY)
        if not value:
            return
        if len(value) > self.limits.capability_bytes or len(self.capabilities) >= self.limits.layer_capabilities:
            self.note("xattr-dropped", clean_path(member.name)[0])
            self.partial = True
            return
        self.capabilities[serial] = value

    # content

    def _content(self, row: list[object], serial: int, member: Member, path: bytes, head: bytes) -> Sink | None:
        size = member.size
        if head[:4] == ELF_MAGIC:
            if not member.whole or len(self.elf) >= self.limits.layer_elf_files:
                self.unreadable(path, "elf-too-large" if not member.whole else "elf-limit")
                return None
            return _ElfSink(self, row, ElfReader(size, self.limits, self.known_ranges.get(path, ())), path)
        if head[:2] == b"#!":
            if len(self.heads) < self.limits.layer_heads:
                self.heads[serial] = head[: self.limits.script_head_bytes]
            else:
                self.unreadable(path, "script-limit")
        if wants_jar(path, head):
            if member.whole and len(self.jars) < self.limits.layer_jars:
                return _JarSink(self, row, JarReader(size, self.limits, self.known_ranges.get(path, ())), path)
            self.unreadable(path, "jar-too-large" if not member.whole else "jar-limit")
        if wants_class(path, head) and self.room_for_classes(path, len(path)):
            self.classes[serial] = head[4:8]
        if wants_text(path, head):
            if size <= self.limits.text_file_bytes and self.text_bytes + size <= self.limits.layer_text_bytes and member.whole:
                self.text_bytes += size
                return TextSink(lambda body: self._text(serial, row, body))
            self.unreadable(path, "text-too-large")
        fits = size <= SMALL_TEXT_BYTES and self.text_bytes + size <= self.limits.layer_text_bytes
        if fits and member.whole and wants_small_text(path, head):
            self.text_bytes += size
            return TextSink(lambda body: self._text(serial, row, body))
        if path.endswith(PACKAGE_ENDINGS) and member.whole and database_of(path):
            return _PackageSink(row, PackageSink(path, self.packages), hashed=size >= self.limits.hash_floor_bytes)
        room = min(self.limits.script_bytes, self.limits.layer_script_bytes - self.script_bytes)
        if size <= room and member.whole and wants_script(path, head):
            self.script_bytes += size
            return TextSink(lambda body: self.scripts.__setitem__(serial, body))
        if size >= self.limits.hash_floor_bytes and member.whole:
            return HashSink(row)
        return None

    def room_for_classes(self, path: bytes, more: int) -> bool:
        """Whether so many bytes of class names may still be kept; the layer is PARTIAL if not."""
        self.class_bytes += more
        if self.class_bytes > self.limits.layer_class_bytes:
            self.unreadable(path, "class-limit")
            return False
        return True

    def _text(self, serial: int, row: list[object], body: bytes) -> None:
        self.texts[serial] = body
        if len(body) >= self.limits.hash_floor_bytes:
            row[8] = hashlib.sha256(body).digest()

    def unreadable(self, path: bytes, reason: str) -> None:
        """A wanted file could not be read whole: the layer is PARTIAL."""
        self.partial = True
        if len(self.unread) < self.limits.layer_unread:
            self.unread.append(Unread(path, reason))

    # ceilings

    def _stop_at(self, reason: str) -> None:
        self.full = True
        self.partial = True
        self.note(reason, b"")

    def flush(self) -> None:
        """Pending rows become a sorted run."""
        if not self.rows:
            return
        self.rows.sort(key=_by_path)
        run = Columns(serials=True)
        run.extend(self.rows)
        run.unique = len({row[0] for row in self.rows}) == len(self.rows)
        self.runs.append(run)
        self.rows = []
        self._kept_bytes += run.kept_bytes
        if self._kept_bytes > self.limits.layer_name_bytes:
            self._stop_at("entry-limit")


def _by_path(row: list[object]) -> bytes:
    return row[0]  # type: ignore[return-value]


def _owner(number: int) -> int:
    """chown takes 32 bits, and -1 leaves the owner as it is: root, who unpacked the file."""
    number &= _NOBODY
    return 0 if number == _NOBODY else number


class _PackageSink:
    """A package database; one that is big is hashed too, as every big file is."""

    __slots__ = ("_hash", "_packages", "_row")

    def __init__(self, row: list[object], packages: PackageSink, *, hashed: bool) -> None:
        self._row = row
        self._packages = packages
        self._hash = hashlib.sha256() if hashed else None

    def feed(self, view: memoryview) -> None:
        self._packages.feed(view)
        if self._hash is not None:
            self._hash.update(view)

    def close(self) -> None:
        self._packages.close()
        if self._hash is not None:
            self._row[8] = self._hash.digest()


class _ElfSink:
    __slots__ = ("_hash", "_path", "_reader", "_row", "_visitor")

    def __init__(self, visitor: _LayerVisitor, row: list[object], reader: ElfReader, path: bytes) -> None:
        self._visitor = visitor
        self._row = row
        self._reader = reader
        self._path = path
        self._hash = hashlib.sha256()
        visitor.reading = path

    def feed(self, view: memoryview) -> None:
        self._hash.update(view)
        self._reader.feed(view)

    def close(self) -> None:
        visitor = self._visitor
        visitor.reading = None
        digest = self._row[8] = self._hash.digest()
        if digest in visitor.elf:
            return
        result = self._reader.finish()
        if result.missed:
            visitor.missed[self._path] = result.missed
            visitor.unreadable(self._path, "elf-missed-ranges")
        if result.unread:
            visitor.unreadable(self._path, result.unread)
        visitor.elf[digest] = result.facts
        if result.symbols is None:
            return
        symbols = result.symbols
        visitor.symbol_bytes += len(symbols.import_names) + len(symbols.export_names) + 2 * len(symbols.relocation_symbols)
        if visitor.symbol_bytes > visitor.limits.layer_symbol_bytes:
            visitor.unreadable(self._path, "symbol-limit")
            return
        visitor.symbols[digest] = result.symbols


class _JarSink:
    __slots__ = ("_hash", "_path", "_reader", "_row", "_visitor")

    def __init__(self, visitor: _LayerVisitor, row: list[object], reader: JarReader, path: bytes) -> None:
        self._visitor = visitor
        self._row = row
        self._reader = reader
        self._path = path
        self._hash = hashlib.sha256()
        visitor.reading = path

    def feed(self, view: memoryview) -> None:
        self._hash.update(view)
        self._reader.feed(view)

    def close(self) -> None:
        visitor = self._visitor
        visitor.reading = None
        digest = self._row[8] = self._hash.digest()
        if digest in visitor.jars:
            return
        result = self._reader.finish()
        if result.missed:
            visitor.missed[self._path] = result.missed
            visitor.unreadable(self._path, "jar-missed-ranges")
        if result.unread:
            visitor.unreadable(self._path, result.unread)
        for defect in result.facts.defects:
            visitor.note(defect, self._path)
        if visitor.room_for_classes(self._path, len(result.facts.class_names)):
            visitor.jars[digest] = result.facts


class LayerReader:
    """Fed one layer blob; `finish` gives its facts. After a Rejected, feeding goes on to hash and nothing else."""

    def __init__(
        self,
        *,
        media_type: str = "",
        limits: Limits = Limits(),  # noqa: B008
        known_ranges: Mapping[bytes, Ranges] | None = None,
        blob_digest: str = "",
    ) -> None:
        """`known_ranges`: what an earlier pass over the same bytes left in `missed`. `blob_digest`: what the feeder checks
        itself, so that the bytes need not be hashed twice.
        """
        self.bytes_in = 0
        self.bytes_out = 0
        self._media_type = media_type
        self._limits = limits
        self._named = blob_digest
        self._blob = None if blob_digest else hashlib.sha256()
        self._diff = hashlib.sha256()
        self._stream = Decompressor(limits)
        self._visitor = _LayerVisitor(limits, known_ranges or {})
        self._tar = TarReader(self._visitor, limits)
        self._stopped = False

    @property
    def blob_digest(self) -> str:
        """`sha256:...` of everything fed so far, or the digest that the feeder vouches for."""
        return self._named if self._blob is None else f"sha256:{self._blob.hexdigest()}"

    @property
    def diff_id(self) -> str:
        """`sha256:...` of the uncompressed stream so far; empty once reading stopped before its end."""
        if self._stopped:
            return ""
        plain = self._stream.kind in (PLAIN, "") and self._blob is not None
        return self.blob_digest if plain else f"sha256:{self._diff.hexdigest()}"

    @property
    def missed(self) -> dict[bytes, Ranges]:
        """Byte ranges of ELF files and jars found to be needed too late; a second pass with `known_ranges` reads them."""
        return self._visitor.missed

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes of the blob. Raises Rejected with a code of docs/hostile.md."""
        self.bytes_in += len(chunk)
        if self._blob is not None:
            self._blob.update(chunk)
        if self._stopped:
            return
        if self.bytes_in > self._limits.compressed_layer_bytes:
            self._stop("too-large")
            return
        try:
            for window in self._stream.feed(chunk):
                self._take(window)
                if self._stopped:
                    return
        except Rejected:
            self._stopped = True
            raise

    def finish(self) -> LayerFacts:
        """The facts. Raises Rejected when the stream or the tar ends too early, or could not be unpacked."""
        visitor, limits = self._visitor, self._limits
        if not self._stopped:
            self._end()
        if self._stopped and visitor.reading is not None:
            visitor.unreadable(visitor.reading, "too-large")
        visitor.flush()
        extras = Extras(
            visitor.devices,
            visitor.capabilities,
            frozenset(visitor.texts.keys() | visitor.heads.keys() | visitor.classes.keys() | visitor.scripts.keys()),
            frozenset(visitor.link_parents),
        )
        runs, visitor.runs = visitor.runs, []
        settled = settle(runs, visitor.marks, extras, limits)
        for path in settled.duplicates:
            visitor.note("duplicate-entry", path)
        for path in settled.dropped:
            visitor.unreadable(path, "entry-limit")
        hashes = settled.entries.columns.hashes
        present = {bytes(hashes[at : at + 32]) for at in range(0, len(hashes), 32)}
        return LayerFacts(
            diff_id=self.diff_id,
            size_bytes=self.bytes_out,
            entries=settled.entries,
            whiteouts=settled.whiteouts,
            opaques=settled.opaques,
            elf={digest: visitor.elf[digest] for digest in sorted(visitor.elf) if digest in present},
            symbols={digest: visitor.symbols[digest] for digest in sorted(visitor.symbols) if digest in present},
            texts=_placed(visitor.texts, settled.places),
            heads=_placed(visitor.heads, settled.places),
            jars={digest: visitor.jars[digest] for digest in sorted(visitor.jars) if digest in present},
            classes=_placed(visitor.classes, settled.places),
            packages=visitor.packages,
            scripts=_placed(visitor.scripts, settled.places),
            unread=tuple(visitor.unread),
            notes=tuple(visitor.notes),
            coverage=Coverage.PARTIAL if visitor.partial else Coverage.FULL,
            verified=Verified.STREAM,
        )

    def _take(self, window: bytes) -> None:
        self.bytes_out += len(window)
        if self.bytes_out > self._limits.uncompressed_layer_bytes:
            self._stop("too-large")
            return
        if self._stream.kind != PLAIN or self._blob is None:
            self._diff.update(window)
        if not self._visitor.full:
            self._tar.feed(window)

    def _end(self) -> None:
        try:
            for window in self._stream.finish():
                self._take(window)
            if self._stopped:
                return
            if not self._visitor.full:
                self._tar.finish()
        except Rejected:
            self._stopped = True
            raise
        if self._stream.trailing and not self._tar.ended and not self._visitor.full:
            raise Rejected("corrupt-layer", f"the {self._stream.kind} stream goes on with something else before the tar ends")
        self._remark()

    def _remark(self) -> None:
        if self._tar.trailing or self._stream.trailing:
            self._visitor.note("trailing-data", b"")
        promised = expected_compression(self._media_type)
        if promised and promised != self._stream.kind:
            self._visitor.note("media-type-mismatch", b"", f"labelled {promised}, is {self._stream.kind}")
        large = self.bytes_out > self._limits.expansion_warn_after_bytes
        if large and self.bytes_out > self._limits.expansion_warn_ratio * self.bytes_in:
            self._visitor.note("expansion-ratio", b"", f"{self.bytes_in} bytes become {self.bytes_out}")

    def _stop(self, reason: str) -> None:
        """The rest is hashed and not looked at: PARTIAL."""
        self._stopped = True
        self._visitor.partial = True
        self._visitor.note(reason, b"")


def _placed(kept: Mapping[int, bytes], places: Mapping[int, bytes]) -> dict[bytes, bytes]:
    return dict(sorted((places[serial], body) for serial, body in kept.items() if serial in places))
