"""The bytes of one file that were kept, and the memory that its PT_LOAD segments would become.

Addresses are followed as the loaders do: whole pages are mapped, later segments lie over earlier ones, what is past the
file part of a segment reads as zeros. A read outside everything gives fewer bytes, never an error. What was asked for and
had not been kept is remembered in `missed`, so that a second pass can bring it (decisions 1).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from analyzers.facts import Segment

PAGE = 4096
PT_LOAD = 1
OVERLAPPING = 128
"""Of segments that overlap, which no linker makes, so many are followed."""
ZEROS = 64 << 10
"""The most zero-filled bytes one read gives: nothing of interest lies in .bss."""


class FileBytes:
    """Kept pieces of a file, sorted by offset and disjoint."""

    __slots__ = ("missed", "pieces", "size", "starts")

    def __init__(self, size: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        self.size = size
        self.pieces = pieces
        self.starts = [start for start, _ in pieces]
        self.missed: list[tuple[int, int]] = []
        """Ranges (start, end) that were asked for, exist in the file, and were not kept."""

    def whole(self) -> bytes:
        """All bytes if the file was kept in one piece, else nothing."""
        return self.pieces[0][1] if len(self.pieces) == 1 and len(self.pieces[0][1]) == self.size else b""

    def peek(self, offset: int, size: int) -> bytes:
        """As `read`, for bytes that may not be needed: nothing is remembered as missed."""
        before = len(self.missed)
        data = self.read(offset, size)
        del self.missed[before:]
        return data

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of [offset, offset+size) that exist; stops before the first one that was not kept."""
        end = min(offset + size, self.size)
        if offset < 0 or offset >= end:
            return b""
        at = bisect_right(self.starts, offset) - 1
        found: list[bytes] = []
        position = offset
        while 0 <= at < len(self.pieces) and position < end:
            start, data = self.pieces[at]
            if start > position or start + len(data) <= position:
                break
            found.append(data[position - start : end - start])
            position += len(found[-1])
            at += 1
        if position < end:
            self.missed.append((position, end))
        return found[0] if len(found) == 1 else b"".join(found)


class Run(NamedTuple):
    """Where one PT_LOAD lies: [start, file_end) comes from the file, up to memory_end follow zeros."""

    start: int
    file_end: int
    memory_end: int
    delta: int
    """Address minus file offset."""


class Place(NamedTuple):
    """What an address means: a file offset, how many file bytes follow there, and how many bytes in all."""

    offset: int
    file_bytes: int
    memory_bytes: int


class Memory:
    """A file's address space before relocation."""

    __slots__ = ("disjoint", "file", "mask", "runs", "starts")

    def __init__(self, file: FileBytes, segments: Sequence[Segment], bits: int) -> None:
        self.file = file
        self.mask = (1 << bits) - 1
        runs = [map_segment(segment, file.size) for segment in segments if segment.type == PT_LOAD]
        ordered = sorted(runs)
        self.disjoint = all(run.memory_end <= after.start for run, after in pairwise(ordered))
        self.runs = ordered if self.disjoint else runs[: -OVERLAPPING - 1 : -1]
        """By address; where some overlap, the last of the file first, because later segments lie over earlier ones."""
        self.starts = [run.start for run in ordered] if self.disjoint else []

    def find(self, address: int) -> Place | None:
        """Where the byte at `address` comes from; None when nothing is mapped there."""
        address &= self.mask
        if self.disjoint:
            at = bisect_right(self.starts, address) - 1
            runs = self.runs[at : at + 1] if at >= 0 else ()
        else:
            runs = self.runs
        for run in runs:
            if run.start <= address < run.memory_end:
                return Place(address - run.delta, max(run.file_end - address, 0), run.memory_end - address)
        return None

    def read(self, address: int, size: int) -> bytes:
        """At most `size` bytes from `address`, ending where the segment ends."""
        place = self.find(address)
        if place is None:
            return b""
        data = self.file.read(place.offset, min(size, place.file_bytes))
        if len(data) == size or len(data) < place.file_bytes:
            return data
        return data + bytes(min(size - len(data), place.memory_bytes - len(data), ZEROS))

    def peek(self, address: int, size: int) -> bytes:
        """File bytes from `address` that were kept, at most `size`; nothing is remembered as missed."""
        place = self.find(address)
        return b"" if place is None else self.file.peek(place.offset, min(size, place.file_bytes))

    def room(self, address: int) -> int:
        """How many bytes of file content a table at `address` can have; 0 when nothing is mapped there."""
        place = self.find(address)
        return 0 if place is None else max(0, min(place.file_bytes, self.file.size - place.offset))


def map_segment(segment: Segment, file_size: int) -> Run:
    """Pages are mapped whole when address and offset agree modulo the page; then the file also fills the page's rest."""
    start, delta = segment.vaddr, segment.vaddr - segment.offset
    file_end = start + segment.filesz
    memory_end = start + max(segment.memsz, segment.filesz)
    if delta % PAGE == 0:
        start -= start % PAGE
        memory_end += -memory_end % PAGE
        if segment.memsz <= segment.filesz:
            file_end += -file_end % PAGE
    return Run(start, min(file_end, file_size + delta), memory_end, delta)
