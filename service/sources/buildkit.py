"""A BuildKit as a source: its history says what was built, its content store has it, the registry what it has no longer.

A history is a record of what happened and forgets: what has left it is gone from here as well, and where it may have
forgotten what nobody saw, the listing says how far back it reaches (hostile 109).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable

import structlog

from analyzers.errors import Malformed
from analyzers.oci import Platform
from service.errors import SettingsError, SourceError
from service.registry.reference import parse_image_name
from service.rpc.content import ContentStore
from service.rpc.dialling import Certificates, Channel, dial
from service.rpc.history import BuildHistory, BuildRecord
from service.sources import Build, EventKind, ImageEvent, ImageSource, LayerSink, LostImage, Sighting
from service.sources.builds import BuildBook
from service.sources.contents import Registries, StoredImages
from service.sources.settings import BuildkitSettings

REGISTRY = "buildkit"
"""What stands in the registry label of a build without a name."""
UNTAGGED = "<untagged>"
SETTLE_SECONDS = 0.2
log = structlog.get_logger()


class BuildkitSource:
    """Implements Source over one standalone BuildKit."""

    kind = "buildkit"

    def __init__(self, settings: BuildkitSettings, registries: Registries) -> None:
        self.name = settings.name
        self._settings = settings
        self._registries = registries
        self._channel: Channel | None = None

    def _connected(self) -> Channel:
        """The channel; it dials by itself. Raises SourceError."""
        if self._channel is None:
            settings = self._settings
            certificates = Certificates(settings.ca, settings.cert, settings.key, settings.server_name)
            try:
                self._channel = dial(settings.address, self.name, certificates, insecure=settings.insecure)
            except SettingsError as error:
                raise SourceError(str(error), code="tls") from error
        return self._channel

    async def events(self) -> AsyncIterator[ImageEvent]:
        """Subscribes first and lists second. Raises SourceError when the stream ends."""
        stirred = asyncio.Event()
        book = BuildBook(BuildHistory(self._connected()), stirred)
        shown: dict[Sighting, tuple[Sighting, Build]] = {}
        # Nothing tells when a subscription has begun, so the first listing is followed by another at once (hostile 106).
        pause = SETTLE_SECONDS
        try:
            await book.relist()
            listing = True
            while True:
                stirred.clear()
                now = self._shown(book.in_order())
                for name, (sighting, _) in shown.items():
                    if name not in now:
                        yield ImageEvent(EventKind.GONE, sighting)
                for name, (sighting, build) in now.items():
                    if listing or shown.get(name) != (sighting, build):
                        yield ImageEvent(EventKind.APPEARED, sighting, build)
                shown = now
                if listing:
                    yield ImageEvent(EventKind.LISTED, reaches_back=book.reaches_back())
                book.check()
                listing = not await _set_within(stirred, pause)
                if listing:
                    pause = self._settings.poll_seconds
                    await book.relist()
        finally:
            await book.close()

    def _shown(self, records: Iterable[BuildRecord]) -> dict[Sighting, tuple[Sighting, Build]]:
        """What each name shows: the last build of it counts."""
        found = {}
        for record in records:
            for output in record.outputs:
                for sighting in self._sightings(output.names, output.digest):
                    name = Sighting(sighting.source, sighting.registry, sighting.repository, sighting.tag)
                    found[name if sighting.tag else sighting] = (sighting, record.build)
        return found

    def _sightings(self, names: Iterable[str], digest: str) -> list[Sighting]:
        found = []
        for name in names:
            try:
                reference = parse_image_name(name)
            except Malformed:
                log.warning("name passed over", source=self.name, name=name[:100])
                continue
            found.append(Sighting(self.name, reference.registry, reference.repository, reference.tag, digest))
        return found or [Sighting(self.name, REGISTRY, UNTAGGED, "", digest)]

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        return await self._images().resolve(sighting, platforms)

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        await self._images().read(image, wanted, sink)

    def _images(self) -> StoredImages:
        return StoredImages(self.name, ContentStore(self._connected()), self._registries)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        await self._registries.close()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
