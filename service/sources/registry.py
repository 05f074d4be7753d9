"""A registry as a source: catalog or configured repositories, their tags, and by HEAD the digest of each.

The listing is the truth and is made again at its interval; GET happens only for what the store does not know (hostile 60).
A repository that fails makes the listing partial: nothing is concluded from what it lacks.
"""

from __future__ import annotations

import asyncio
import fnmatch
import random
from collections.abc import AsyncIterator, Collection

import structlog

from analyzers.oci import Descriptor, Platform
from service.blobs import collect
from service.errors import SettingsError, SourceError
from service.outbound import Outbound
from service.registry.client import MANIFEST_BYTES, TRIES, RegistryClient
from service.registry.credentials import Credentials, credentials_for
from service.sources import EventKind, ImageEvent, ImageSource, LayerSink, LostImage, Sighting
from service.sources.manifests import images_of
from service.sources.settings import RegistrySettings

PARALLEL_HEADS = 4
PARALLEL_BLOBS = 2
_OF_THE_REGISTRY = frozenset({"unauthorized", "denied", "rate-limited", "unreachable", "tls", "slow"})
"""Failures that the next tag would meet as well."""
log = structlog.get_logger()


class RegistrySource:
    """Implements Source over one registry."""

    kind = "registry"

    def __init__(
        self, settings: RegistrySettings, outbound: Outbound, client: RegistryClient | None = None, tries: int = TRIES
    ) -> None:
        self.name = settings.source_name
        self._settings = settings
        self._outbound = outbound
        self._client = client or RegistryClient(settings, outbound, self._credentials, tries=tries)

    @property
    def client(self) -> RegistryClient:
        """What it asks the registry with."""
        return self._client

    async def _credentials(self) -> Credentials:
        try:
            return await credentials_for(self._settings)
        except SettingsError as error:
            raise SourceError(str(error), code="unauthorized") from error

    async def events(self) -> AsyncIterator[ImageEvent]:
        while True:
            complete, answered = True, False
            repositories = list(self._settings.repositories)
            if not repositories:
                listing = await self._client.catalog()
                repositories, complete = listing.names, listing.complete
            failed: SourceError | None = None
            for repository in repositories:
                try:
                    async for event in self._repository(repository):
                        if event.kind is EventKind.LISTED_PARTIALLY:
                            complete = False
                        else:
                            yield event
                    answered = True
                except SourceError as error:
                    complete, failed = False, error
                    log.warning("repository listing failed", source=self.name, repository=repository, error=str(error))
            if failed is not None and not answered:
                raise failed
            yield ImageEvent(EventKind.LISTED if complete else EventKind.LISTED_PARTIALLY)
            # One jittered timer, so that many daemons do not ask at the same second.
            await asyncio.sleep(self._settings.poll_seconds * random.uniform(0.9, 1.1))

    async def _repository(self, repository: str) -> AsyncIterator[ImageEvent]:
        """The tags of one repository; LISTED_PARTIALLY stands for what could not be seen. Raises SourceError."""
        listing = await self._client.tags(repository)
        if listing is None:
            return
        tags = [tag for tag in listing.names if self._is_wanted(tag)]
        for start in range(0, len(tags), PARALLEL_HEADS):
            batch = tags[start : start + PARALLEL_HEADS]
            digests = await asyncio.gather(*(self._client.head(repository, tag) for tag in batch), return_exceptions=True)
            for tag, digest in zip(batch, digests, strict=True):
                if isinstance(digest, BaseException):
                    yield self._unseen(repository, tag, digest)
                    continue
                kind = EventKind.GONE if digest is None else EventKind.APPEARED
                yield ImageEvent(kind, Sighting(self.name, self._settings.host, repository, tag, digest or ""))
        if not listing.complete:
            yield ImageEvent(EventKind.LISTED_PARTIALLY)

    def _unseen(self, repository: str, tag: str, error: BaseException) -> ImageEvent:
        """A tag that alone is broken does not hide the others; what would meet them as well is raised."""
        if not isinstance(error, SourceError) or error.code in _OF_THE_REGISTRY:
            raise error
        log.warning("tag look failed", source=self.name, repository=repository, tag=tag, error=str(error))
        return ImageEvent(EventKind.LISTED_PARTIALLY)

    def watches(self, repository: str, tag: str) -> bool:
        repositories = self._settings.repositories
        return (not repositories or repository in repositories) and (not tag or self._is_wanted(tag))

    def _is_wanted(self, tag: str) -> bool:
        return any(fnmatch.fnmatchcase(tag, pattern) for pattern in self._settings.tags)

    async def look(self, repository: str, tag: str) -> ImageEvent:
        digest = await self._client.head(repository, tag)
        kind = EventKind.GONE if digest is None else EventKind.APPEARED
        return ImageEvent(kind, Sighting(self.name, self._settings.host, repository, tag, digest or ""))

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        client, repository = self._client, sighting.repository

        async def manifest(digest: str) -> tuple[bytes, str]:
            return await client.manifest(repository, digest)

        async def config(descriptor: Descriptor) -> bytes:
            return await collect(client.blob(repository, descriptor.digest, descriptor.size), MANIFEST_BYTES)

        body, content_type = await client.manifest(repository, sighting.digest or sighting.tag)
        return await images_of(sighting, body, content_type, platforms, manifest, config)

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        slots = asyncio.Semaphore(PARALLEL_BLOBS)

        async def one(index: int) -> None:
            layer = image.layers[index]
            async with slots:
                await sink.blob(index, self._client.blob(image.sighting.repository, layer.digest, layer.size_bytes))

        tasks = [asyncio.create_task(one(index)) for index in sorted(wanted)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self._outbound.close()
