"""What a build took away again: files that a layer brought and a later one deleted or covered.

Looked for only after a start has failed for want of a file, since every path of every layer is read. Mirrors nothing; the
views are those of rootfs.py.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.oci import ImageConfig
from analyzers.rootfs import Rootfs
from analyzers.trail import layer_words, show_path


class Removal(NamedTuple):
    """A path, the layer that had it last, and the layer above which it is no more."""

    path: bytes
    had: int
    took: int


def removals(rootfs: Rootfs, base: bytes) -> Iterator[Removal]:
    """Every path whose last component is `base` that some layer had and the image has not, sorted."""
    had: dict[bytes, int] = {}
    for index, facts in enumerate(rootfs.layers):
        for entry in facts.entries:
            if entry.path.rpartition(b"/")[2] == base and entry.kind != Kind.DIRECTORY:
                had[entry.path] = index
    for path, index in sorted(had.items()):
        if not _stands(rootfs, path):
            # Nothing above `index` brings it again, so it stands up to some layer and is gone from there on.
            counts = range(index + 2, len(rootfs.layers) + 1)
            gone = bisect.bisect_left(counts, True, key=lambda count: not _stands(Rootfs(rootfs.layers[:count]), path))
            if gone < len(counts):
                yield Removal(path, index, counts[gone] - 1)


def tell_removal(rootfs: Rootfs, config: ImageConfig, base: bytes) -> str:
    """One sentence about the first of them; empty where nothing of that name was removed."""
    found = next(removals(rootfs, base), None) if base else None
    if found is None:
        return ""
    bringing, deleting = layer_words(config, found.had), layer_words(config, found.took)
    return f"{show_path(found.path)} was there: {bringing} brought it and {deleting} deleted it."


def _stands(rootfs: Rootfs, path: bytes) -> bool:
    return rootfs.resolve(b"/" + path, follow=False).node is not None
