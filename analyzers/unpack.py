"""What is left of a layer once its members were unpacked in order: the last of equal paths, links in parents followed.

Mirrors containerd's pkg/archive applyNaive and continuity's fs.RootPath inside one layer (hostile 1-4, 7, 8, 10, 11). Refuses
to know other layers: parents that only a lower layer has as links are followed by rootfs.py. Nothing is ever written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from analyzers.entries import Columns, Entries, Row, merge_runs
from analyzers.errors import Rejected
from analyzers.facts import Kind
from analyzers.limits import Limits

_LINKS_WALKED = 255
"""continuity fs.RootPath gives up after as many."""
_REMEMBERED = 200_000


class Mark(NamedTuple):
    """A whiteout of `path`, or an opaque marker in the directory `path`."""

    serial: int
    opaque: bool
    path: bytes


class _TooMuch(Exception):
    """Following the links of one layer took more steps than its ceiling."""


class _Effort:
    """Steps left for following links: what bounds chains of links times depth times members (hostile 5, 28)."""

    __slots__ = ("_left",)

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Raises _TooMuch when nothing is left."""
        self._left -= steps
        if self._left < 0:
            raise _TooMuch


class Settled(NamedTuple):
    """A layer at rest."""

    entries: Entries
    whiteouts: tuple[bytes, ...]
    opaques: tuple[bytes, ...]
    places: dict[int, bytes]
    """Final path of each member whose content was kept, by serial."""
    duplicates: list[bytes]
    dropped: list[bytes]
    """Paths below links that were too many to be replayed: the layer is PARTIAL."""


class Extras(NamedTuple):
    """What few members have, by serial."""

    devices: dict[int, tuple[int, int]]
    capabilities: dict[int, bytes]
    kept: frozenset[int]
    """Members whose content was kept."""
    link_parents: frozenset[bytes] = frozenset()
    """Directories that hard links lead into."""


def clean_path(name: bytes) -> tuple[bytes, bool]:
    """`name` inside the root, and whether it tried to leave it (hostile 1). Lexical, as Go's filepath.Clean."""
    if name[:2] == b"./":
        name = name[2:]
    if name[-1:] == b"/":
        name = name.rstrip(b"/")
    if b"//" not in name and b"/." not in name and name[:1] not in (b".", b"/"):
        return name, False
    kept: list[bytes] = []
    escaped = False
    for part in name.split(b"/"):
        if part == b"..":
            if kept:
                kept.pop()
            else:
                escaped = True
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept), escaped


def settle(runs: Sequence[Columns], marks: Sequence[Mark], extras: Extras, limits: Limits) -> Settled:
    """Unpack. Raises Rejected: `parent-not-directory`, `symlink-loop` where the runtime could not unpack either."""
    small = sum(len(run) for run in runs) <= limits.layer_replay_entries
    duplicates = _Duplicates()
    if len(runs) == 1 and runs[0].unique:
        settled = _adopt(runs[0], extras)
    else:
        settled = _collect(duplicates.last(merge_runs(runs, consume=not small)), extras)
    whiteouts = {mark.path for mark in marks if not mark.opaque}
    opaques = {mark.path for mark in marks if mark.opaque}
    dropped: list[bytes] = []
    effort = _Effort(limits.layer_replay_steps)
    try:
        if duplicates.tangled or _has_overlap(settled[0], marks, extras.link_parents, effort):
            if small:
                rows = sorted((row for run in runs for row in run.rows()), key=lambda row: row.serial)
                replay = _Replay(rows, marks, effort)
                settled = _collect(iter(replay.result()), extras)
                whiteouts, opaques = replay.whiteouts, replay.opaques
            else:
                settled, dropped = _without_overlap(settled, effort)
    except _TooMuch:
        # Whether links lead elsewhere stays unknown: the whole layer is named as not read whole.
        dropped = [b""]
    entries, places = settled
    entries.columns.serials = None
    return Settled(entries, tuple(sorted(whiteouts)), tuple(sorted(opaques)), places, duplicates.paths, dropped)


def _adopt(run: Columns, extras: Extras) -> tuple[Entries, dict[int, bytes]]:
    """A layer of one run without duplicates is its own result."""
    wanted = extras.kept.union(extras.devices, extras.capabilities)
    numbers = {serial: row for row, serial in enumerate(run.serials or ()) if serial in wanted} if wanted else {}
    devices = {numbers[serial]: device for serial, device in extras.devices.items()}
    capabilities = {numbers[serial]: value for serial, value in extras.capabilities.items()}
    entries = Entries.from_columns(run, devices, capabilities)
    return entries, {serial: entries.path(numbers[serial]) for serial in extras.kept}


def _collect(rows: Iterator[Row], extras: Extras) -> tuple[Entries, dict[int, bytes]]:
    """Rows, unique and sorted, as Entries; extras find their row numbers."""
    columns = Columns()
    devices: dict[int, tuple[int, int]] = {}
    capabilities: dict[int, bytes] = {}
    places: dict[int, bytes] = {}
    wanted = extras.kept.union(extras.devices, extras.capabilities)

    def watched() -> Iterator[Row]:
        for number, row in enumerate(rows):
            serial = row[1]
            if serial in wanted:
                if serial in extras.kept:
                    places[serial] = row[0]
                if serial in extras.devices:
                    devices[number] = extras.devices[serial]
                if serial in extras.capabilities:
                    capabilities[number] = extras.capabilities[serial]
            yield row

    columns.extend(watched())
    return Entries.from_columns(columns, devices, capabilities), places


class _Duplicates:
    """Keeps the last of equal paths, and notices when order decides more than that."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.tangled = False

    def last(self, rows: Iterable[Row]) -> Iterator[Row]:
        held: Row | None = None
        for row in rows:
            if held is not None:
                if held[0] == row[0]:
                    self._count(held, row)
                else:
                    yield held
            held = row
        if held is not None:
            yield held

    def _count(self, old: Row, new: Row) -> None:
        both_directories = old[2] == new[2] == Kind.DIRECTORY
        # A replaced file may live on in its hard links; a replaced directory takes all below it away.
        self.tangled = self.tangled or not both_directories
        if (not both_directories or old[3:6] != new[3:6]) and (not self.paths or self.paths[-1] != new[0]):
            self.paths.append(new[0])


def _has_overlap(entries: Entries, marks: Sequence[Mark], link_parents: frozenset[bytes], effort: _Effort) -> bool:
    """Whether anything lies below a path that this layer has as something other than a directory."""
    marked = link_parents.union(mark.path if mark.opaque else mark.path.rpartition(b"/")[0] for mark in marks)
    fine = {b""}
    if any(_covered(entries, parent, fine, effort) for parent in marked):
        return True
    for number in range(len(entries.columns.blocks)):
        parents = {path.rpartition(b"/")[0] for path in entries.columns.block(number).paths}
        if any(_covered(entries, parent, fine, effort) for parent in parents - fine):
            return True
        if len(fine) > _REMEMBERED:
            fine = {b""}
    return False


def _covered(entries: Entries, directory: bytes, fine: set[bytes], effort: _Effort) -> bool:
    """Whether `directory` is, or lies below, a non-directory of `entries`; `fine` remembers those that do not."""
    climbed = []
    while directory not in fine:
        effort.spend(1)
        index = entries.find(directory)
        if index >= 0 and entries.kind(index) is not Kind.DIRECTORY:
            return True
        climbed.append(directory)
        directory = directory.rpartition(b"/")[0]
    fine.update(climbed)
    return False


def _without_overlap(
    settled: tuple[Entries, dict[int, bytes]], effort: _Effort
) -> tuple[tuple[Entries, dict[int, bytes]], list[bytes]]:
    entries, places = settled
    fine = {b""}
    below = {entry.path for entry in entries if _covered(entries, entry.path.rpartition(b"/")[0], fine, effort)}
    kept = Entries(entry for entry in entries if entry.path not in below)
    return (kept, {serial: path for serial, path in places.items() if path not in below}), sorted(below)


class _Node:
    """A member while the layer is replayed; `inode` is what its path led to when it was made a hard link."""

    __slots__ = ("inode", "row")

    def __init__(self, row: Row, inode: _Node | None = None) -> None:
        self.row = row
        self.inode = inode or self


class _Replay:
    """The members one by one, for layers in which order decides."""

    def __init__(self, rows: Sequence[Row], marks: Sequence[Mark], effort: _Effort) -> None:
        self._effort = effort
        self.whiteouts: set[bytes] = set()
        self.opaques: set[bytes] = set()
        self._nodes: dict[bytes, _Node] = {}
        self._emptied: dict[bytes, int] = {}
        """Serial at which all below a path went away."""
        waiting = iter(marks)
        mark = next(waiting, None)
        for row in rows:
            while mark is not None and mark.serial < row.serial:
                self._mark(mark)
                mark = next(waiting, None)
            self._add(row)
        while mark is not None:
            self._mark(mark)
            mark = next(waiting, None)

    def _mark(self, mark: Mark) -> None:
        if mark.opaque:
            self.opaques.add(self._locate(mark.path + b"/.")[:-2] if mark.path else b"")
        else:
            self.whiteouts.add(self._locate(mark.path))

    def _add(self, row: Row) -> None:
        path = self._locate(row.path)
        inode = None
        if row.kind == Kind.HARDLINK:
            target = self._locate(row.link)
            found = self._alive(target)
            inode = found.inode if found else None
            row = row._replace(link=target)
        old = self._alive(path)
        directory = row.kind == Kind.DIRECTORY
        if old is not None and old.row.kind != Kind.DIRECTORY and directory:
            # What a lower layer had here went away with the file: nothing of it shows in the new directory.
            self.opaques.add(path)
        if not directory:
            self._emptied[path] = row.serial
        self._nodes[path] = _Node(row._replace(path=path), inode)

    def _alive(self, path: bytes) -> _Node | None:
        node = self._nodes.get(path)
        if node is None:
            return None
        at = path
        self._effort.spend(path.count(b"/") + 1)
        while at:
            at = at.rpartition(b"/")[0]
            if at and self._emptied.get(at, -1) > node.row.serial:
                return None
        return node

    def _locate(self, path: bytes) -> bytes:
        """`path` with every link in its parents followed inside the root; the last component is not followed."""
        walked = 0
        parts = path.split(b"/")
        at = 0
        while at < len(parts) - 1:
            self._effort.spend(at // 16 + 1)
            place = b"/".join(parts[: at + 1])
            node = self._alive(place)
            inode = node.inode.row if node else None
            if inode is None or inode.kind == Kind.DIRECTORY:
                at += 1
                continue
            if inode.kind == Kind.HARDLINK:
                at += 1  # its target is in a lower layer, if anywhere
                continue
            if inode.kind != Kind.SYMLINK:
                raise Rejected("parent-not-directory", "a member lies below something that is not a directory")
            walked += 1
            if walked > _LINKS_WALKED:
                raise Rejected("symlink-loop", "the parents of a member are a loop of symbolic links")
            base = b"" if inode.link.startswith(b"/") else b"/".join(parts[:at])
            target = clean_path(b"/" + base + b"/" + inode.link)[0]
            rest = parts[at + 1 :]
            parts = target.split(b"/") + rest if target else rest
            at = 0
        return b"/".join(parts)

    def result(self) -> list[Row]:
        """The rows that are left, sorted by path."""
        rows = []
        homes: dict[int, bytes] = {}
        for path in sorted(self._nodes):
            node = self._alive(path)
            if node is None:
                continue
            row, inode = node.row, node.inode
            if inode is not node:
                target = self._alive(row.link)
                if target is None or target.inode is not inode:
                    home = homes.setdefault(id(inode), path)
                    row = inode.row._replace(path=path) if home == path else row._replace(link=home)
            rows.append(row)
        return rows
