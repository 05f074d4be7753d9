"""What an examination needs remembered, and the data it gets back: the seam between pipeline and store.

`Store` keeps it in a database, `Memory` in the process of one scan. Everything is keyed by digests computed by us.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from analyzers.frames import LayerRead
from service.sources import ImageSource


class StoredLayer(msgspec.Struct, frozen=True):
    """Facts of one layer that are at hand."""

    key: str
    diff_id: str
    coverage: str
    verified: str
    bytes_out: int = 0


class StoredImage(msgspec.Struct, frozen=True):
    """An image that was examined: all that judging it again needs."""

    image_id: str
    platform: str
    config: bytes
    """The config's own bytes."""
    layers: tuple[str, ...]
    """Keys of its layers' facts, lowest first."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a blob cannot be analysed."""

    code: str
    detail: str


class Remembering(Protocol):
    """Facts of layers, refusals, images and reports. Each write is whole or absent; writing twice is harmless."""

    async def diff_id_of(self, blob_digest: str) -> str:
        """The diff ID that we computed from the bytes of this blob, or empty."""

    async def find_layer(self, diff_id: str, facts_version: str) -> StoredLayer | None:
        """The best facts of this layer: a full reading before a partial one."""

    async def sections(self, key: str) -> dict[str, list[bytes]]:
        """The packed facts of one layer; empty when they are not at hand."""

    async def put_layer(self, read: LayerRead, facts_version: str, sections: dict[str, list[bytes]]) -> None:
        """Facts, and the pair of digests that leads to them."""

    async def forget_layer(self, key: str) -> None:
        """Drops facts that turned out unusable."""

    async def touch(self, keys: Collection[str]) -> None:
        """These facts were used."""

    def pin(self, keys: Collection[str]) -> None:
        """These facts are in use: they do not leave for want of room until as many `unpin`."""

    def unpin(self, keys: Collection[str]) -> None:
        """Ends a `pin`."""

    async def refusal(self, digest: str, facts_version: str) -> Refusal | None:
        """Why this blob was refused by readers of this version, or None."""

    async def put_refusal(self, digest: str, facts_version: str, refusal: Refusal) -> None:
        """Final for these bytes and this version of the readers."""

    async def report(self, key: str) -> bytes | None:
        """The report of this key."""

    async def put_report(self, image: ImageSource, layers: Sequence[str], key: str, rules_version: str, body: bytes) -> None:
        """A report with its image, its manifest and its findings."""

    async def image(self, image_id: str) -> StoredImage | None:
        """Config and layer keys of an image examined before."""
