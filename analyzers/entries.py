"""The entries of one layer as columns sorted by path; an Entry is a view made on demand.

Knows how to keep millions of paths in little memory: names and link targets lie in zstd blocks of at most 256 rows, numbers
in typed arrays of 19 bytes a row, and what few entries have (digests, device numbers, capabilities) apart. Refuses to know
what an entry means: order, uniqueness and cleaning are the reader's work (layer.py).
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

from analyzers.compression import zstd
from analyzers.facts import Entry, Kind

ROWS_A_BLOCK = 256
BYTES_A_BLOCK = 256 << 10
"""A block closes before its names pass this, so that a stored chunk of some blocks stays below 1 MiB."""
CACHED_BLOCKS = 256
_LEVEL = 1
_KINDS = tuple(Kind)
_HASH_BYTES = 32


class Row(NamedTuple):
    """One entry on its way into columns. `serial` is its place in the tar: of equal paths the higher one wins."""

    path: bytes
    serial: int
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    link: bytes
    sha256: bytes


class Block(NamedTuple):
    """Paths and link targets of consecutive rows."""

    paths: list[bytes]
    links: list[bytes]


class Columns:
    """Rows in the order they were appended, compact. The stored form of `Entries`, and of a reader's sorted runs."""

    __slots__ = (
        "blocks",
        "gids",
        "hashed",
        "hashes",
        "heads",
        "kinds",
        "kept_bytes",
        "modes",
        "serials",
        "sizes",
        "starts",
        "uids",
        "unique",
    )

    def __init__(self, *, serials: bool = False) -> None:
        self.kinds = bytearray()
        self.modes = array("H")
        self.uids = array("I")
        self.gids = array("I")
        self.sizes = array("Q")
        self.serials = array("I") if serials else None
        self.hashed = array("I")
        """Row numbers that have a content digest, rising; the digests lie in `hashes`."""
        self.hashes = bytearray()
        self.blocks: list[bytes] = []
        self.starts = array("I")
        """First row of each block."""
        self.heads: list[bytes] = []
        """First path of each block."""
        self.unique = False
        """Rows are known to have distinct paths."""
        self.kept_bytes = 0
        """Bytes of all compressed blocks."""

    def __len__(self) -> int:
        return len(self.kinds)

    def extend(self, rows: Iterable[Row | Sequence[object]]) -> None:
        """Append rows, which are Rows or sequences of the same nine items."""
        source = iter(rows)
        while batch := list(islice(source, ROWS_A_BLOCK)):
            self._append(batch)

    def _append(self, batch: list[Sequence[object]]) -> None:  # type: ignore[explicit-any,unused-ignore]
        paths, serials, kinds, modes, uids, gids, sizes, links, hashes = zip(*batch, strict=True)
        start = len(self.kinds)
        self.kinds.extend(kinds)
        self.modes.extend(modes)
        self.uids.extend(uids)
        self.gids.extend(gids)
        self.sizes.extend(sizes)
        if self.serials is not None:
            self.serials.extend(serials)
        if any(hashes):
            for row, digest in enumerate(hashes, start):
                if digest:
                    self.hashed.append(row)
                    self.hashes += digest
        self._pack(start, paths, links)

    def _pack(self, start: int, paths: tuple[bytes, ...], links: tuple[bytes, ...]) -> None:
        raw = b"\0".join(paths + links)
        if len(raw) > BYTES_A_BLOCK and len(paths) > 1:
            half = len(paths) // 2
            self._pack(start, paths[:half], links[:half])
            self._pack(start + half, paths[half:], links[half:])
            return
        self.add_block(start, paths[0], raw)

    def add_block(self, start: int, head: bytes, raw: bytes) -> None:
        """Append one block of NUL-joined names whose first row is `start` and whose first path is `head`."""
        packed = zstd.compress(raw, _LEVEL)
        self.starts.append(start)
        self.heads.append(head)
        self.blocks.append(packed)
        self.kept_bytes += len(packed)

    def block(self, number: int) -> Block:
        """The names of one block."""
        items = self.raw_block(number).split(b"\0")
        half = len(items) // 2
        return Block(items[:half], items[half:])

    def raw_block(self, number: int) -> bytes:
        """NUL-joined paths, then link targets, of one block."""
        return zstd.decompress(self.blocks[number])

    def hashed_between(self, first: int, end: int) -> tuple[int, int]:
        """Where in `hashed` the rows from `first` to before `end` lie."""
        return bisect_left(self.hashed, first), bisect_left(self.hashed, end)

    def rows(self, *, consume: bool = False) -> Iterator[Row]:
        """Every row in order; `consume` lets go of each block once it was read."""
        serials = self.serials if self.serials is not None else range(len(self))
        hashed = iter(zip(self.hashed, range(0, len(self.hashes), _HASH_BYTES), strict=True))
        next_hashed, at = next(hashed, (-1, 0))
        row = 0
        for number in range(len(self.blocks)):
            paths, links = self.block(number)
            if consume:
                self.blocks[number] = b""
            for path, link in zip(paths, links, strict=True):
                digest = b""
                if row == next_hashed:
                    digest = bytes(self.hashes[at : at + _HASH_BYTES])
                    next_hashed, at = next(hashed, (-1, 0))
                yield Row(
                    path,
                    serials[row],
                    self.kinds[row],
                    self.modes[row],
                    self.uids[row],
                    self.gids[row],
                    self.sizes[row],
                    link,
                    digest,
                )
                row += 1


def merge_runs(runs: Sequence[Columns], *, consume: bool = True) -> Iterator[Row]:
    """Rows of sorted runs in the order of (path, serial)."""
    if len(runs) == 1:
        return runs[0].rows(consume=consume)
    return heapq.merge(*(run.rows(consume=consume) for run in runs))


class Entries:
    """An immutable set of entries with unique paths, sorted by path as bytes."""

    __slots__ = ("_cache", "capabilities", "columns", "devices")

    def __init__(self, entries: Iterable[Entry]) -> None:
        ordered = sorted(entries, key=lambda entry: entry.path)
        columns = Columns()
        columns.extend(
            Row(e.path, 0, e.kind, e.mode, e.uid, e.gid, e.size, e.link, e.sha256) for e in ordered
        )  # fmt: skip
        self._adopt(
            columns,
            {row: e.device for row, e in enumerate(ordered) if e.device != (0, 0)},
            {row: e.capability for row, e in enumerate(ordered) if e.capability},
        )

    @classmethod
    def from_columns(cls, columns: Columns, devices: dict[int, tuple[int, int]], capabilities: dict[int, bytes]) -> Entries:
        """Columns whose rows are unique and sorted by path, with what few rows have, by row number."""
        made = cls.__new__(cls)
        made._adopt(columns, devices, capabilities)
        return made

    def _adopt(self, columns: Columns, devices: dict[int, tuple[int, int]], capabilities: dict[int, bytes]) -> None:
        self.columns = columns
        self.devices = devices
        self.capabilities = capabilities
        self._cache: dict[int, Block] = {}

    def __len__(self) -> int:
        return len(self.columns.kinds)

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(
            (
                self._entry(row, path, link)
                for row, (path, link) in enumerate(zip(*self.columns.block(number), strict=True), start)
            )
            for number, start in enumerate(self.columns.starts)
        )

    def paths(self) -> Iterator[bytes]:
        """Every path in order, at a tenth of what the entries cost."""
        return chain.from_iterable(self.columns.block(number).paths for number in range(len(self.columns.blocks)))

    def outlines(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """(path, kind, size, content digest) of every entry in order, cheaper than the entries."""
        columns, digest_bytes = self.columns, range(0, len(self.columns.hashes), _HASH_BYTES)
        digests = {
            row: bytes(columns.hashes[at : at + _HASH_BYTES]) for row, at in zip(columns.hashed, digest_bytes, strict=True)
        }
        for number, start in enumerate(columns.starts):
            paths = columns.block(number).paths
            rows = range(start, start + len(paths))
            kinds, sizes = columns.kinds[start : rows.stop], columns.sizes[start : rows.stop]
            yield from zip(paths, kinds, sizes, map(digests.get, rows, repeat(b"")), strict=False)

    def __getitem__(self, index: int) -> Entry:
        number, block = self._locate(index)
        offset = index - self.columns.starts[number]
        return self._entry(index, block.paths[offset], block.links[offset])

    def path(self, index: int) -> bytes:
        """The path of row `index`, cheaper than the whole entry."""
        number, block = self._locate(index)
        return block.paths[index - self.columns.starts[number]]

    def kind(self, index: int) -> Kind:
        """The kind of row `index`, without touching any name."""
        return _KINDS[self.columns.kinds[index]]

    def find(self, path: bytes) -> int:
        """Index of the entry at `path`, or -1."""
        columns = self.columns
        number = bisect_right(columns.heads, path) - 1
        if number < 0:
            return -1
        paths = self._block(number).paths
        offset = bisect_left(paths, path)
        return columns.starts[number] + offset if offset < len(paths) and paths[offset] == path else -1

    def get(self, path: bytes) -> Entry | None:
        """The entry at `path`, or None."""
        index = self.find(path)
        return None if index < 0 else self[index]

    def below(self, directory: bytes) -> range:
        """Indexes of every entry below `directory` at any depth, not counting itself."""
        if not directory:
            return range(1 if self.columns.heads and self.columns.heads[0] == b"" else 0, len(self))
        return range(self._first_from(directory + b"/"), self._first_from(directory + b"0"))

    def starting(self, prefix: bytes) -> range:
        """Indexes of every entry whose path begins with `prefix`, which is not empty and does not end in 0xff."""
        return range(self._first_from(prefix), self._first_from(prefix[:-1] + bytes((prefix[-1] + 1,))))

    def names(self, directory: bytes) -> Iterator[bytes]:
        """First components of what lies below `directory`, some more than once, without a look at all that is deeper."""
        prefix = directory + b"/" if directory else b""
        rows = self.below(directory) if directory else range(len(self))
        at = rows.start
        while at < rows.stop:
            name, slash, _ = self.path(at)[len(prefix) :].partition(b"/")
            if name:
                yield name
            at = max(at + 1, self._first_from(prefix + name + b"0")) if slash else at + 1

    def _first_from(self, path: bytes) -> int:
        number = bisect_right(self.columns.heads, path) - 1
        return 0 if number < 0 else self.columns.starts[number] + bisect_left(self._block(number).paths, path)

    def _locate(self, index: int) -> tuple[int, Block]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self.columns.starts, index) - 1
        return number, self._block(number)

    def _block(self, number: int) -> Block:
        block = self._cache.get(number)
        if block is None:
            if len(self._cache) >= CACHED_BLOCKS:
                del self._cache[next(iter(self._cache))]
            block = self._cache[number] = self.columns.block(number)
        return block

    def _entry(self, row: int, path: bytes, link: bytes) -> Entry:
        columns = self.columns
        at = bisect_left(columns.hashed, row)
        digest = b""
        if at < len(columns.hashed) and columns.hashed[at] == row:
            digest = bytes(columns.hashes[at * _HASH_BYTES : (at + 1) * _HASH_BYTES])
        return Entry(
            path=path,
            kind=_KINDS[columns.kinds[row]],
            mode=columns.modes[row],
            uid=columns.uids[row],
            gid=columns.gids[row],
            size=columns.sizes[row],
            link=link,
            device=self.devices.get(row, (0, 0)),
            capability=self.capabilities.get(row, b""),
            sha256=digest,
        )
