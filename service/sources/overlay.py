"""Layers of a Docker engine read where they lie: the overlay2 directories of a data root that can be read.

Beside each layer's files the engine keeps tar-split.json.gz: every header of the layer's tar, in order. Headers from there and
files from the directory make the very tar that an export would give, so the readers see the same members, whiteouts and hard
links; only that what no reader wants is left out, and so never read. The diff ID is then the engine's word and not ours:
facts from here are `local`, and serve this source alone (decisions 2).

Everything below `diff/` is hostile: it is opened name by name beneath its directory, and no link is followed. Whatever is
not as expected raises NotInPlace, and the caller takes the export.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import os
import stat
import threading
import zlib
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from analyzers.elf.reader import HEAD_BYTES, WHOLE_BYTES
from analyzers.frames import DATA_BYTES, piece
from analyzers.limits import Limits
from analyzers.oci import Digest
from analyzers.readers import ELF_MAGIC, READERS
from analyzers.tar.members import PEEK
from service.errors import SourceError

LINE_BYTES = 4 << 20
"""One header with its extensions, in base64; tar allows less."""
HASH_FLOOR_BYTES = Limits().hash_floor_bytes
READ_BYTES = DATA_BYTES - (64 << 10)
OPEN_DIRECTORIES = 32
PLAN_ROUNDS = 5
PLANNED_BYTES = 32 << 20
"""A file of which more is wanted is read whole."""
DOCUMENT_BYTES = 4096
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HEADER, _CONTENT = 2, 1


class NotInPlace(SourceError):
    """A layer cannot be read in place; the export can still be had."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=False, code="not-in-place")


class _Record(msgspec.Struct, frozen=True):
    """One line of tar-split: bytes of the tar itself, or a file whose content belongs there."""

    type: int
    name: str = ""
    name_raw: bytes | None = None
    """The name where it is no Unicode."""
    size: int = 0
    payload: bytes | None = None
    """Of a header its bytes; of a file a checksum."""


_READERS = tuple(reader.wants for reader in READERS if reader.name not in ("head", "class"))
"""Those two look at the first bytes alone, which are always there."""
_DECODE = msgspec.json.Decoder(_Record).decode


Plan = Callable[[int, Sequence[tuple[int, bytes]]], Awaitable[Sequence[tuple[int, int]]]]
"""Which ranges of an ELF file of this size are wanted, as far as these pieces of it tell."""
Plans = dict[tuple[bytes, int], Sequence[tuple[int, int]]]
"""By path and size; a file that is not here is read whole."""
Read = TypeVar("Read")


class OverlayStore:
    """The layers below one data root. `open_store` says whether there is one."""

    def __init__(self, root: Path) -> None:
        self._layers = root / "image" / "overlay2" / "layerdb" / "sha256"
        self._directories = root / "overlay2"

    async def plans(self, diff_ids: Sequence[str], index: int, plan: Plan) -> Plans:
        """What of each large ELF file of a layer is to be read. Raises NotInPlace, and whatever `plan` raises."""
        chain = chain_id(diff_ids[: index + 1])
        files = await asyncio.to_thread(_told, lambda: self._large_files(chain, diff_ids[index]))
        plans: Plans = {}
        for (path, size), head in files.items():
            pieces = [(0, head)]
            for _ in range(PLAN_ROUNDS):
                ranges = await plan(size, pieces)
                if sum(end - start for start, end in ranges) > PLANNED_BYTES:
                    break
                lacking = _outside(ranges, pieces)
                if not lacking:
                    plans[path, size] = tuple(ranges)
                    break
                more = await asyncio.to_thread(_told, lambda p=path, r=lacking: self._ranges(chain, p, r))
                pieces = sorted([*pieces, *more])
        return plans

    def _large_files(self, chain: str, diff_id: str) -> dict[tuple[bytes, int], bytes]:
        """The beginning of each ELF file that is too large to be read whole, by path and size."""
        found = {}
        with self._opened(chain, diff_id) as (split, tree):
            for record in _records(split):
                if record.type == _CONTENT and record.size > WHOLE_BYTES:
                    parts = _parts(record.name_raw or record.name.encode())
                    head = tree.read(parts, 0, HEAD_BYTES)
                    if head.startswith(ELF_MAGIC):
                        found[b"/".join(parts), record.size] = head
        return found

    def _ranges(self, chain: str, path: bytes, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, bytes]]:
        cache_id = (self._layers / Digest(chain).hex / "cache-id").read_text()
        with _Tree(self._directories / cache_id / "diff") as tree:
            return [(start, tree.read(path.split(b"/"), start, end - start)) for start, end in ranges]

    async def layer(self, diff_ids: Sequence[str], index: int, plans: Plans | None = None) -> AsyncGenerator[bytes, None]:
        """Pieces for LayerReader.feed_piece of one layer of an image. Raises NotInPlace."""
        chain = chain_id(diff_ids[: index + 1])
        reading = _Reading(self._pieces(chain, diff_ids[index], plans or {}))
        try:
            while (chunk := await asyncio.to_thread(reading.step)) is not None:
                yield chunk
        finally:
            await asyncio.to_thread(reading.close)

    def _pieces(self, chain: str, diff_id: str, plans: Plans) -> Generator[bytes, None, None]:
        with self._opened(chain, diff_id) as (split, tree):
            alike = _alike(split)
            split.seek(0)
            yield from _joined(_tar(split, tree, alike, plans))

    @contextlib.contextmanager
    def _opened(self, chain: str, diff_id: str) -> Iterator[tuple[gzip.GzipFile, _Tree]]:
        """Headers and files of a layer. Raises NotInPlace where they are not, or are not the same afterwards."""
        place = self._layers / Digest(chain).hex
        if (place / "diff").read_text() != diff_id:
            raise NotInPlace(f"{chain} is another layer there")
        cache_id = (place / "cache-id").read_text()
        if not cache_id.isalnum():
            raise NotInPlace(f"{chain} has no directory there")
        with contextlib.ExitStack() as stack:
            split = stack.enter_context(gzip.open(place / "tar-split.json.gz"))
            yield split, stack.enter_context(_Tree(self._directories / cache_id / "diff"))
        # It may have been removed and made anew while it was read.
        if (place / "cache-id").read_text() != cache_id:
            raise NotInPlace(f"{chain} was changed while it was read")


def open_store(info: dict[str, Any]) -> OverlayStore | None:
    """The layers of an engine by its own description of itself; None where they cannot be read here as they lie there."""
    status = {str(row[0]): str(row[1]) for row in info.get("DriverStatus") or [] if isinstance(row, list) and len(row) == 2}
    root = info.get("DockerRootDir")
    # Without a native diff a directory is not the layer: parts of its files lie in lower ones.
    if info.get("Driver") != "overlay2" or status.get("Native Overlay Diff") != "true" or not isinstance(root, str) or not root:
        return None
    place = Path(root)
    readable = os.access(place / "overlay2", os.R_OK | os.X_OK) and os.access(place / "image" / "overlay2" / "layerdb", os.R_OK)
    return OverlayStore(place) if readable else None


def chain_id(diff_ids: Sequence[str]) -> str:
    """The name of a stack of layers: of its topmost by all below it (OCI image specification, layer chain ID)."""
    chain, *above = diff_ids
    for diff_id in above:
        chain = "sha256:" + hashlib.sha256(f"{chain} {diff_id}".encode()).hexdigest()
    return chain


def _told(read: Callable[[], Read]) -> Read:
    """What `read` gives. Raises NotInPlace for whatever the disk or the engine's own files have against it."""
    try:
        return read()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, msgspec.DecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NotInPlace(f"a layer cannot be read in place: {reason}") from error


def _outside(ranges: Sequence[tuple[int, int]], pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """What of the ranges no piece holds."""
    lacking = []
    for start, end in ranges:
        at = start
        for begun, data in pieces:
            if begun <= at < begun + len(data):
                at = min(end, begun + len(data))
            elif at < begun < end:
                lacking.append((at, begun))
                at = min(end, begun + len(data))
        if at < end:
            lacking.append((at, end))
    return lacking


class _Reading:
    """Steps that are made in threads, one after another; a step whose waiter was cancelled ends before the close."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._turn = threading.Lock()

    def step(self) -> bytes | None:
        """The next chunk, None at the end. Raises NotInPlace."""
        with self._turn:
            return _told(lambda: next(self._chunks, None))

    def close(self) -> None:
        with self._turn:
            self._chunks.close()


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces put together, each whole, up to DATA_BYTES."""
    waiting: list[bytes] = []
    size = 0
    for each in pieces:
        if size + len(each) > DATA_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
        waiting.append(each)
        size += len(each)
    if waiting:
        yield b"".join(waiting)


def _records(split: gzip.GzipFile) -> Iterator[_Record]:
    while line := split.readline(LINE_BYTES):
        if len(line) >= LINE_BYTES:
            raise NotInPlace("a header of its tar is too long")
        yield _DECODE(line)


def _alike(split: gzip.GzipFile) -> frozenset[int]:
    """Sizes of large files that several files have: only those can be doubles, and are worth reading for their digest."""
    sizes = Counter(record.size for record in _records(split) if record.type == _CONTENT and record.size >= HASH_FLOOR_BYTES)
    return frozenset(size for size, files in sizes.items() if files > 1)


def _tar(split: gzip.GzipFile, tree: _Tree, alike: frozenset[int], plans: Plans) -> Iterator[bytes]:
    """The tar in pieces: headers as tar-split keeps them, of files what a reader wants."""
    for record in _records(split):
        if record.type == _HEADER:
            raw = record.payload or b""
            for start in range(0, len(raw), READ_BYTES):
                yield piece(raw[start : start + READ_BYTES])
        elif record.type == _CONTENT and record.size > 0:
            parts = _parts(record.name_raw or record.name.encode())
            if planned := plans.get((b"/".join(parts), record.size)):
                yield from _planned(tree, parts, record.size, planned)
            else:
                yield from _content(tree, parts, record.size, record.size in alike)


def _planned(tree: _Tree, parts: list[bytes], size: int, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The ranges of a large ELF file; what lies between is left out."""
    for (start, end), (following, _) in zip(ranges, [*ranges[1:], (size, size)], strict=True):
        for at in range(start, end, READ_BYTES):
            until = min(at + READ_BYTES, end)
            yield piece(tree.read(parts, at, until - at), following - end if until == end else 0)


def _parts(name: bytes) -> list[bytes]:
    """The way from the layer's root to a file. Raises NotInPlace for one that leads out of it."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts or b"\0" in name:
        raise NotInPlace("a name of its tar leads out of the layer")
    return parts


def _content(tree: _Tree, parts: list[bytes], size: int, alike: bool) -> Iterator[bytes]:
    descriptor = tree.open(parts)
    try:
        head = os.pread(descriptor, min(PEEK, size), 0)
        path = b"/".join(parts)
        wanted = alike or any(wants(path, head) for wants in _READERS)
        if len(head) < min(PEEK, size):
            raise NotInPlace("a file is shorter than its layer says")
        if not wanted:
            yield piece(head, size - len(head))
            return
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise NotInPlace("a file is not what its layer says")
        done = 0
        while done < size:
            part = os.pread(descriptor, min(READ_BYTES, size - done), done)
            if not part:
                raise NotInPlace("a file is shorter than its layer says")
            done += len(part)
            yield piece(part)
    finally:
        os.close(descriptor)


class _Tree:
    """Opens files beneath one directory, name by name; the directories used last stay open."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def __enter__(self) -> _Tree:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (*self._open.values(), self._root):
            os.close(descriptor)

    def open(self, parts: list[bytes]) -> int:
        """A file. Raises OSError, also for any link on the way."""
        return os.open(parts[-1], _FILE, dir_fd=self._directory(parts[:-1]))

    def read(self, parts: list[bytes], start: int, size: int) -> bytes:
        """So many bytes of a file. Raises OSError, and NotInPlace where it has fewer."""
        descriptor = self.open(parts)
        try:
            data = os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)
        if len(data) < size:
            raise NotInPlace("a file is shorter than its layer says")
        return data

    def _directory(self, parts: list[bytes]) -> int:
        depth = len(parts)
        while depth and b"/".join(parts[:depth]) not in self._open:
            depth -= 1
        held = self._root
        if depth:
            held = self._open[b"/".join(parts[:depth])]
            self._open.move_to_end(b"/".join(parts[:depth]))
        for at in range(depth, len(parts)):
            held = self._open[b"/".join(parts[: at + 1])] = os.open(parts[at], _DIRECTORY, dir_fd=held)
            if len(self._open) > OPEN_DIRECTORIES:
                os.close(self._open.popitem(last=False)[1])
        return held
