"""A source in memory: images made by tests/make, every request counted, faults on demand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection

from analyzers.oci import Platform, parse_config, parse_platform
from service.errors import SourceError
from service.sources import EventKind, ImageEvent, ImageSource, LayerSink, LayerSource, Sighting
from tests.make.images import Image
from tests.make.layers import Blob, blob, sha256

PIECE_BYTES = 64 << 10


class MemorySource:
    """Shows `images` by tag; `events` lists them and then gives what `push` and `delete` put in."""

    kind = "memory"

    def __init__(self, name: str = "memory", compression: str = "gzip") -> None:
        self.name = name
        self.images: dict[str, list[Image]] = {}
        self.reads: Counter[str] = Counter()
        """How often each layer's blob was asked for, by digest."""
        self.resolved = 0
        self.fail: Callable[[str], None] | None = None
        """Called with the digest before each read; may raise."""
        self.spoil: Callable[[bytes], bytes] | None = None
        self.pause = 0.0
        """Seconds between pieces."""
        self.listings = 0
        self.listed = EventKind.LISTED
        self.down = False
        self._compression = compression
        self._blobs: dict[str, Blob] = {}
        self._events: asyncio.Queue[ImageEvent | None] = asyncio.Queue()

    def sighting(self, tag: str) -> Sighting:
        return Sighting(self.name, "registry.test", "app", tag, self.digest(tag))

    def digest(self, tag: str) -> str:
        return sha256("".join(image.image_id for image in self.images.get(tag, ())).encode())

    def put(self, tag: str, *images: Image) -> Sighting:
        self.images[tag] = list(images)
        return self.sighting(tag)

    async def push(self, tag: str, *images: Image) -> Sighting:
        """Like `put`, and an event tells of it."""
        sighting = self.put(tag, *images)
        await self._events.put(ImageEvent(EventKind.APPEARED, sighting))
        return sighting

    async def delete(self, tag: str) -> None:
        """The tag goes, and an event tells of it."""
        sighting = self.sighting(tag)
        del self.images[tag]
        await self._events.put(ImageEvent(EventKind.GONE, sighting))

    async def list_again(self) -> None:
        """The next listing comes now."""
        await self._events.put(None)

    async def events(self) -> AsyncIterator[ImageEvent]:
        while True:
            if self.down:
                raise SourceError(f"{self.name} is down")
            for tag in list(self.images):
                yield ImageEvent(EventKind.APPEARED, self.sighting(tag))
            self.listings += 1
            yield ImageEvent(self.listed)
            while (event := await self._events.get()) is not None:
                yield event

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource]:
        self.resolved += 1
        if self.down:
            raise SourceError(f"{self.name} is down")
        if sighting.tag not in self.images:
            raise SourceError(f"no tag {sighting.tag}", temporary=False, code="not-found")
        images = self.images[sighting.tag]
        return [self._source(sighting, image) for image in images if not platforms or parse_platform(image.platform) in platforms]

    def _source(self, sighting: Sighting, image: Image) -> ImageSource:
        blobs = [blob(layer, self._compression) for layer in image.layers]
        self._blobs.update({made.digest: made for made in blobs})
        body = image.config()
        return ImageSource(
            sighting=self.sighting(sighting.tag), platform=parse_platform(image.platform),
            manifest_digest=sha256(b"manifest of " + body), image_id=image.image_id, config_body=body,
            config=parse_config(body),
            layers=tuple(LayerSource(made.digest, made.diff_id, len(made.data), made.media_type) for made in blobs),
            compressed_bytes=sum(len(made.data) for made in blobs),
        )  # fmt: skip

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        for index in wanted:
            digest = image.layers[index].digest
            self.reads[digest] += 1
            if self.fail is not None:
                self.fail(digest)
            await sink.blob(index, self._pieces(digest))

    async def _pieces(self, digest: str) -> AsyncIterator[bytes]:
        data = self._blobs[digest].data
        if self.spoil is not None:
            data = self.spoil(data)
        for start in range(0, len(data), PIECE_BYTES):
            if self.pause:
                await asyncio.sleep(self.pause)
            yield data[start : start + PIECE_BYTES]
        if sha256(data) != digest:
            raise SourceError("the digest does not hold", code="digest-mismatch")

    async def close(self) -> None:
        """Nothing is held."""
