"""One namespace of a containerd as a source: its images by name, its content store, and its events as a bell.

Events are not replayed, so contact begins with a subscription and a listing, in that order, and an event leads to a listing.
Kubernetes names one pull by tag, by digest and by the config's digest; those that say nothing more than another are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable

from analyzers.errors import Malformed
from analyzers.oci import Platform
from service.errors import SourceError
from service.registry.reference import Reference, parse_image_name
from service.rpc.content import ContentStore
from service.rpc.dialling import Channel, dial
from service.rpc.messages import CONTAINERD
from service.sources import EventKind, ImageEvent, ImageSource, LayerSink, LostImage, Sighting
from service.sources.contents import Registries, StoredImages
from service.sources.settings import ContainerdSettings

SUBSCRIBE = "/containerd.services.events.v1.Events/Subscribe"
LIST = "/containerd.services.images.v1.Images/List"
REGISTRY = "containerd"
"""What stands in the registry label of an image without a name."""
UNTAGGED = "<untagged>"
SETTLE_SECONDS = 0.2
"""A pull tells of up to three names; one listing serves them."""
DANGLING = "moby-dangling"
"""How an engine's containerd calls an image that lost its name."""


class ContainerdSource:
    """Implements Source over the namespace that its settings name."""

    kind = "containerd"

    def __init__(self, settings: ContainerdSettings, registries: Registries) -> None:
        self.name = settings.name
        (self._namespace,) = settings.namespaces
        self._settings = settings
        self._registries = registries
        self._channel: Channel | None = None

    def _connected(self) -> Channel:
        if self._channel is None:
            self._channel = dial(self._settings.address, self.name)
        return self._channel

    async def events(self) -> AsyncIterator[ImageEvent]:
        """Raises SourceError when the subscription ends."""
        stirred = asyncio.Event()
        listening = asyncio.create_task(self._listen(stirred))
        shown: dict[tuple[str, str, str], Sighting] = {}
        # Nothing tells when a subscription has begun, so the first listing is followed by another at once (hostile 106).
        pause = SETTLE_SECONDS
        try:
            while True:
                stirred.clear()
                now = {_name(sighting): sighting for sighting in await self._list()}
                for name, sighting in shown.items():
                    if name not in now:
                        yield ImageEvent(EventKind.GONE, sighting)
                for sighting in now.values():
                    yield ImageEvent(EventKind.APPEARED, sighting)
                shown = now
                yield ImageEvent(EventKind.LISTED)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await stirred.wait()
                pause = self._settings.poll_seconds
                if listening.done():
                    listening.result()
                    raise SourceError(f"{self.name}: containerd was stopped")
                await asyncio.sleep(SETTLE_SECONDS)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, stirred: asyncio.Event) -> None:
        """Rings for each change of an image of the namespace."""
        wanted = CONTAINERD["SubscribeRequest"](filters=[f'topic~="^/images/",namespace=={self._namespace}'])
        envelopes = self._connected().stream(SUBSCRIBE, wanted, CONTAINERD["Envelope"])
        try:
            async for envelope in envelopes:
                if envelope.namespace == self._namespace:
                    stirred.set()
        finally:
            await envelopes.aclose()
            stirred.set()

    async def _list(self) -> list[Sighting]:
        answer = await self._connected().ask(
            LIST, CONTAINERD["ListRequest"](), CONTAINERD["ListAnswer"], [("containerd-namespace", self._namespace)]
        )
        return sightings_of(self.name, [(image.name, image.target.digest) for image in answer.images])

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        return await self._images().resolve(sighting, platforms)

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        await self._images().read(image, wanted, sink)

    def _images(self) -> StoredImages:
        return StoredImages(self.name, ContentStore(self._connected(), self._namespace), self._registries)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        await self._registries.close()


def sightings_of(source: str, images: Iterable[tuple[str, str]]) -> list[Sighting]:
    """Names of the images, given with their digests; an image that has no name with a tag is shown once, by its digest."""
    tagged: list[Sighting] = []
    others: dict[str, Sighting] = {}
    for name, digest in images:
        reference = _reference(name)
        if reference is None:
            others.setdefault(digest, Sighting(source, REGISTRY, UNTAGGED, "", digest))
        elif not reference.tag:
            others[digest] = Sighting(source, reference.registry, reference.repository, "", digest)
        else:
            tagged.append(Sighting(source, reference.registry, reference.repository, reference.tag, digest))
    known = {sighting.digest for sighting in tagged}
    return tagged + [sighting for digest, sighting in others.items() if digest not in known]


def _reference(name: str) -> Reference | None:
    """The name as one of a registry; None for `sha256:...` of Kubernetes, and for whatever else a client called an image."""
    if name.startswith(("sha256:", DANGLING + "@")):
        return None
    try:
        return parse_image_name(name)
    except Malformed:
        return None


def _name(sighting: Sighting) -> tuple[str, str, str]:
    return (sighting.registry, sighting.repository, sighting.tag or sighting.digest)
