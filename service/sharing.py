"""What images of the fleet share: bytes that only one of them has, the image that another was built on, and exact totals.

Layers are the same when their diff IDs are; a layer counts once however many names and images have it. Pure functions of the
fleet's rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from service.fleet import FleetRow


class Share(NamedTuple):
    """What one image shares with the others."""

    unique_bytes: int
    """Uncompressed bytes of layers that no other image of the fleet has."""
    shared_bytes: int
    base: str
    """Name of the fleet's image whose layers are the longest beginning of this one's; empty where there is none."""
    base_layers: int


class Sharing(NamedTuple):
    """The whole fleet's sharing."""

    by_image: Mapping[str, Share]
    """By image ID."""
    layer_bytes: int
    """Uncompressed bytes of all distinct layers: what the fleet takes when each is kept once."""
    image_bytes: int
    """The sum over all distinct images: what it would take without sharing."""
    layers: int


def find_sharing(rows: Iterable[FleetRow]) -> Sharing:
    """The sharing of these rows. Several names of one image are one image."""
    images: dict[str, FleetRow] = {}
    for row in rows:
        known = images.get(row.image_id)
        if row.image_id and row.layers and (known is None or _better_name(row, known)):
            images[row.image_id] = row
    owners: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    for image_id, row in images.items():
        for diff_id, size in zip(row.layers, row.layer_bytes, strict=False):
            owners.setdefault(diff_id, set()).add(image_id)
            sizes[diff_id] = size
    chains = {image_id: _chains(row.layers) for image_id, row in images.items()}
    whole = _whole_chains(images, chains)
    shares = {image_id: _share(row, owners, sizes, whole, chains[image_id]) for image_id, row in images.items()}
    total = sum(sum(sizes.get(diff_id, 0) for diff_id in row.layers) for row in images.values())
    return Sharing(shares, sum(sizes.values()), total, len(sizes))


def _better_name(row: FleetRow, known: FleetRow) -> bool:
    """A tag says more than none; else the first in the order of names."""
    return (not row.tag, row.name) < (not known.tag, known.name)


def _chains(layers: Sequence[str]) -> list[bytes]:
    """One digest for each beginning of a list of layers."""
    chain, chains = hashlib.sha256(), []
    for diff_id in layers:
        chain.update(diff_id.encode() + b" ")
        chains.append(chain.digest())
    return chains


def _whole_chains(images: Mapping[str, FleetRow], chains: Mapping[str, list[bytes]]) -> dict[bytes, FleetRow]:
    """The image of each whole list of layers; of several with the same layers the first by name."""
    whole: dict[bytes, FleetRow] = {}
    for image_id, row in images.items():
        chain = chains[image_id][-1]
        if chain not in whole or _better_name(row, whole[chain]):
            whole[chain] = row
    return whole


def _share(
    row: FleetRow,
    owners: Mapping[str, set[str]],
    sizes: Mapping[str, int],
    whole: Mapping[bytes, FleetRow],
    chains: Sequence[bytes],
) -> Share:
    own = sum(sizes.get(diff_id, 0) for diff_id in row.layers if len(owners[diff_id]) == 1) if row.layer_bytes else 0
    total = sum(sizes.get(diff_id, 0) for diff_id in row.layers)
    for count in range(len(chains) - 1, 0, -1):
        base = whole.get(chains[count - 1])
        if base is not None:
            return Share(own, total - own, base.name, count)
    return Share(own, total - own, "", 0)
