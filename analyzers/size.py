"""How many bytes each layer has, and how many of them a later layer hides or replaces.

A byte is wasted once, in the layer that brought it, however often it is hidden. Counts file contents, not tar
headers; hard links have no bytes of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from analyzers.contents import Weighing
from analyzers.facts import Kind, LayerFacts
from analyzers.rootfs import Rootfs

_FILE, _DIRECTORY, _HARDLINK = int(Kind.FILE), int(Kind.DIRECTORY), int(Kind.HARDLINK)


class LayerSize(NamedTuple):
    """Of one layer: bytes of its files, those of them that are hidden, and how many entries it has."""

    file_bytes: int
    wasted_bytes: int
    entries: int


class ImageSize(NamedTuple):
    layers: tuple[LayerSize, ...]
    files: int
    """Regular files (hard links included) that are visible in the end."""
    elf_files: int
    """Those among them that are ELF files."""


def measure(rootfs: Rootfs, weighing: Weighing | None = None) -> ImageSize:
    """One pass over all entries in the order of their paths, directories being looked up once each.

    `weighing` is shown every visible regular file on the way.
    """
    rootfs = rootfs.image()
    count = len(rootfs.layers)
    bytes_of, wasted, entries = [0] * count, [0] * count, [0] * count
    elf = [facts.elf for facts in rootfs.layers]
    files = elf_files = 0
    parent: bytes | None = None
    holders: frozenset[int] = frozenset()
    last, shown = b"", False
    streams = [_rows(index, facts) for index, facts in enumerate(rootfs.layers)]
    for path, order, kind, size, sha256 in heapq.merge(*streams):
        index = -order
        entries[index] += 1
        if path != last:
            last, shown = path, False
        if kind == _DIRECTORY:
            shown = True
            continue
        directory = path.rpartition(b"/")[0]
        if directory != parent:
            parent, holders = directory, rootfs.holders(directory)
        visible = not shown and index in holders and not rootfs.hidden_above(path, index)
        shown = True
        if kind == _FILE:
            bytes_of[index] += size
            wasted[index] += 0 if visible else size
        if visible and kind in (_FILE, _HARDLINK):
            files += 1
            facts_of = elf[index].get(sha256) if sha256 else None
            elf_files += facts_of is not None
            if weighing is not None and kind == _FILE:
                weighing.see(path, size, index, sha256, facts_of)
    sizes = tuple(LayerSize(*each) for each in zip(bytes_of, wasted, entries, strict=True))
    return ImageSize(sizes, files, elf_files)


def _rows(index: int, facts: LayerFacts) -> Iterator[tuple[bytes, int, int, int, bytes]]:
    """(path, layer negated so that the topmost comes first, kind, size, content digest)."""
    for path, kind, size, sha256 in facts.entries.outlines():
        if path:
            yield path, -index, kind, size, sha256
