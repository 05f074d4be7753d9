"""Images of a content store (BuildKit's, containerd's, an engine's): what is there by digest, the rest from a registry.

A store may lose a blob at any time, even while it is read: base layers that were never pulled, what was pruned, what a
Kubernetes node discards once it is unpacked. The registry named by the image has it still, if it is one that is configured.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from analyzers.oci import Descriptor, Platform
from service.blobs import collect
from service.errors import SourceError
from service.registry.client import MANIFEST_BYTES, RegistryClient
from service.rpc.content import ContentStore
from service.sources import ImageSource, LayerSink, LayerSource, LostImage, Sighting
from service.sources.manifests import images_of
from service.sources.registry import RegistrySource
from service.sources.settings import RegistrySettings

PARALLEL_BLOBS = 2


class Registries:
    """Clients of configured registries, made when first asked for. `configured` is asked each time: settings change."""

    def __init__(
        self, configured: Callable[[], Sequence[RegistrySettings]], make: Callable[[RegistrySettings], RegistrySource]
    ) -> None:
        self._configured = configured
        self._make = make
        self._made: dict[RegistrySettings, RegistrySource] = {}

    def of(self, host: str) -> RegistryClient | None:
        """A client of this registry, or None where it is not configured: no other is asked."""
        settings = next((each for each in self._configured() if each.host == host), None)
        if settings is None:
            return None
        if settings not in self._made:
            self._made[settings] = self._make(settings)
        return self._made[settings].client

    async def close(self) -> None:
        for source in self._made.values():
            await source.close()
        self._made.clear()


class StoredImages:
    """Reads images whose manifests are in a content store."""

    def __init__(self, name: str, content: ContentStore, registries: Registries | None = None) -> None:
        self._name = name
        self._content = content
        self._registries = registries

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        """As Source.resolve; of an index, the children that are there."""

        async def manifest(digest: str) -> tuple[bytes, str]:
            try:
                return await collect(self._content.blob(digest), MANIFEST_BYTES), ""
            except SourceError as error:
                client = self._instead(sighting, error)
                return await client.manifest(sighting.repository, digest)

        async def config(descriptor: Descriptor) -> bytes:
            try:
                return await collect(self._content.blob(descriptor.digest, descriptor.size), MANIFEST_BYTES)
            except SourceError as error:
                client = self._instead(sighting, error)
                return await collect(client.blob(sighting.repository, descriptor.digest, descriptor.size), MANIFEST_BYTES)

        body, stated = await manifest(sighting.digest)
        return await images_of(sighting, body, stated, platforms, manifest, config, absent_ok=True)

    def _instead(self, sighting: Sighting, error: SourceError) -> RegistryClient:
        """The registry that an image is named after, when the store does not have it. Raises the store's error otherwise."""
        client = self._registries.of(sighting.registry) if self._registries is not None else None
        if error.code != "not-found" or client is None:
            raise error
        return client

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        """As Source.read. Raises SourceError `layers-missing` for what neither store nor registry has."""
        slots = asyncio.Semaphore(PARALLEL_BLOBS)

        async def one(index: int) -> None:
            async with slots:
                await self._layer(image, index, sink)

        tasks = [asyncio.create_task(one(index)) for index in sorted(wanted)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _layer(self, image: ImageSource, index: int, sink: LayerSink) -> None:
        layer = image.layers[index]
        try:
            await sink.blob(index, self._content.blob(layer.digest, layer.size_bytes))
        except SourceError as error:
            try:
                client = self._instead(image.sighting, error)
                await sink.blob(index, _from(client, image.sighting.repository, layer))
            except SourceError as missing:
                if missing.code != "not-found":
                    raise
                raise SourceError(
                    f"{self._name} does not have layer {index} ({layer.digest}) any more", code="layers-missing"
                ) from missing


def _from(client: RegistryClient, repository: str, layer: LayerSource) -> AsyncIterator[bytes]:
    return client.blob(repository, layer.digest, layer.size_bytes)
