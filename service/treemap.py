"""A treemap of an image's directories: rectangles whose areas are bytes, squarified (Bruls, Huizing and van Wijk, 2000).

Made on the server from the report's list of heaviest directories, so that it can be read without JavaScript and tested as
numbers. What a directory holds beyond its listed children is a rectangle of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from analyzers.finding import Weight

MAX_DEPTH = 3
SMALLEST_SIDE = 6.0
"""A rectangle with a side below this is drawn and not divided further."""
PADDING, HEADING = 2.0, 14.0


class Tile(msgspec.Struct, frozen=True):
    """One rectangle. `depth` 0 is a directory of the root; `own` is what a directory has besides its listed children."""

    path: str
    name: str
    size_bytes: int
    files: int
    share: float
    """Of the whole image, 0 to 1."""
    x: float
    y: float
    width: float
    height: float
    depth: int
    own: bool = False
    divided: bool = False
    """Other tiles lie on it."""


class Box(msgspec.Struct, frozen=True):
    """A rectangle to be divided."""

    x: float
    y: float
    width: float
    height: float


def treemap(directories: Sequence[Weight], files: Sequence[Weight], width: float, height: float) -> list[Tile]:
    """Tiles in drawing order, a directory before what lies in it; `files` are single big ones. Empty without bytes."""
    root = next((each for each in directories if each.path == "/"), None)
    if root is None or root.size_bytes <= 0:
        return []
    children: dict[str, list[Weight]] = {}
    for each in (*directories, *files):
        if each.path != "/" and each.size_bytes > 0:
            children.setdefault(each.path.rpartition("/")[0] or "/", []).append(each)
    return list(_divide(root, children, Box(0.0, 0.0, width, height), 0, root.size_bytes))


def _divide(directory: Weight, children: dict[str, list[Weight]], box: Box, depth: int, whole: int) -> Iterator[Tile]:
    parts = [(each, False) for each in children.get(directory.path, ())]
    left = directory.size_bytes - sum(each.size_bytes for each, _ in parts)
    if left > 0:
        files = max(0, directory.files - sum(each.files for each, _ in parts))
        parts.append((Weight(directory.path, left, files), True))
    parts.sort(key=lambda part: (-part[0].size_bytes, part[0].path))
    boxes = squarify([part[0].size_bytes for part in parts], box)
    for (weight, own), place in zip(parts, boxes, strict=True):
        inner = Box(place.x + PADDING, place.y + HEADING, place.width - 2 * PADDING, place.height - HEADING - PADDING)
        divided = not own and weight.path in children and depth + 1 < MAX_DEPTH and min(inner.width, inner.height) > SMALLEST_SIDE
        name = weight.path.rpartition("/")[2] or "/"
        yield Tile(weight.path, name, weight.size_bytes, weight.files, weight.size_bytes / whole,
                   place.x, place.y, place.width, place.height, depth, own, divided)  # fmt: skip
        if divided:
            yield from _divide(weight, children, inner, depth + 1, whole)


def squarify(sizes: Sequence[int], box: Box) -> list[Box]:
    """A box for each of the falling sizes, in their order; areas are in proportion and fill `box`."""
    total = sum(sizes)
    if not total:
        return []
    scale = box.width * box.height / total
    areas = [size * scale for size in sizes]
    placed: list[Box] = []
    at = 0
    while at < len(areas):
        side = min(box.width, box.height)
        end = at + 1
        while end < len(areas) and _worst(areas[at : end + 1], side) <= _worst(areas[at:end], side):
            end += 1
        row, box = _lay(areas[at:end], box)
        placed += row
        at = end
    return placed


def _worst(areas: Sequence[float], side: float) -> float:
    """The worst ratio of sides in a row of that length."""
    total = sum(areas)
    if not total or not side:
        return float("inf")
    return max(side * side * max(areas) / (total * total), total * total / (side * side * max(min(areas), 1e-12)))


def _lay(areas: Iterable[float], box: Box) -> tuple[list[Box], Box]:
    """The row along the shorter side, and what is left of the box."""
    row = list(areas)
    total = sum(row)
    placed = []
    if box.width >= box.height:
        thick = min(box.width, total / box.height) if box.height else 0.0
        y = box.y
        for area in row:
            height = min(box.y + box.height - y, area / thick) if thick else 0.0
            placed.append(Box(box.x, y, thick, height))
            y += height
        return placed, Box(box.x + thick, box.y, max(0.0, box.width - thick), box.height)
    # What is left after many rows may be a sliver in which rounding counts for more than areas.
    thick = min(box.height, total / box.width) if box.width else 0.0
    x = box.x
    for area in row:
        width = min(box.x + box.width - x, area / thick) if thick else 0.0
        placed.append(Box(x, box.y, width, thick))
        x += width
    return placed, Box(box.x, box.y + thick, box.width, max(0.0, box.height - thick))
