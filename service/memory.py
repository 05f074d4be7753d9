"""What a single scan remembers: the same meanings as the store's, kept in this process and gone with it.

Facts stay packed, so that even a large image costs a few dozen MiB. No file is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from analyzers.frames import LayerRead
from service.remembered import Refusal, StoredImage, StoredLayer
from service.sources import ImageSource


class Memory:
    """A Remembering without a disk."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[StoredLayer, str, dict[str, list[bytes]]]] = {}
        self._blobs: dict[str, str] = {}
        self._refusals: dict[tuple[str, str], Refusal] = {}
        self._reports: dict[str, bytes] = {}
        self._images: dict[str, StoredImage] = {}

    async def diff_id_of(self, blob_digest: str) -> str:
        return self._blobs.get(blob_digest, "")

    async def find_layer(self, diff_id: str, facts_version: str) -> StoredLayer | None:
        found = [layer for layer, version, _ in self._layers.values() if layer.diff_id == diff_id and version == facts_version]
        return min(found, key=lambda layer: layer.coverage, default=None)

    async def sections(self, key: str) -> dict[str, list[bytes]]:
        return self._layers[key][2] if key in self._layers else {}

    async def put_layer(self, read: LayerRead, facts_version: str, sections: dict[str, list[bytes]]) -> None:
        stored = StoredLayer(read.key, read.diff_id, read.coverage, read.verified, read.bytes_out)
        self._layers.setdefault(read.key, (stored, facts_version, sections))
        if read.blob_digest:
            self._blobs.setdefault(read.blob_digest, read.diff_id)

    async def forget_layer(self, key: str) -> None:
        self._layers.pop(key, None)

    async def touch(self, keys: Collection[str]) -> None:
        """Nothing leaves for want of room, so nothing need be noted."""

    def pin(self, keys: Collection[str]) -> None:
        """Nothing leaves for want of room, so nothing need be held."""

    def unpin(self, keys: Collection[str]) -> None:
        """See `pin`."""

    async def refusal(self, digest: str, facts_version: str) -> Refusal | None:
        return self._refusals.get((digest, facts_version))

    async def put_refusal(self, digest: str, facts_version: str, refusal: Refusal) -> None:
        self._refusals[digest, facts_version] = refusal

    async def report(self, key: str) -> bytes | None:
        return self._reports.get(key)

    async def put_report(self, image: ImageSource, layers: Sequence[str], key: str, rules_version: str, body: bytes) -> None:
        self._reports[key] = body
        self._images[image.image_id] = StoredImage(image.image_id, str(image.platform), image.config_body, tuple(layers))

    async def image(self, image_id: str) -> StoredImage | None:
        return self._images.get(image_id)
