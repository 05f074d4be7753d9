"""What a source of images is: sightings to look at, and a way to read what was sighted.

The protocol was held against every source planned: registries and layouts open one blob at a time;
Docker's export is one archive with all layers in its own order; BuildKit and containerd open blobs
by digest and may lose one while it is read. So the *source* drives the reading and a sink receives
either single blobs or a whole archive, in any order, and the same layer may arrive twice.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from analyzers.errors import EnoentError
from analyzers.oci import ImageConfig, Platform


class Sighting(msgspec.Struct, frozen=True):
    """A name under which a source shows an image: what people see and what metrics are keyed by."""

    source: str
    """Name of the source in the settings."""
    registry: str
    repository: str
    tag: str
    """Empty for an image without a tag."""
    digest: str = ""
    """Digest the source claims: of the manifest or index (registry, layout) or its image id (Docker). A hint."""


class Build(msgspec.Struct, frozen=True):
    """A build that made an image, as its builder recorded it. Nothing is concluded from it: it is for people."""

    ref: str
    """Name of the build at its builder; the last part of `buildx.build.ref`."""
    frontend: str = ""
    """What understood the build's description, such as `dockerfile.v0`; empty where it was not recorded."""
    source: str = ""
    """Repository and revision that were built, where the client recorded them."""
    completed_at: float = 0.0


class EventKind(enum.StrEnum):
    APPEARED = "appeared"
    GONE = "gone"
    LISTED = "listed"
    """End of a listing: whatever was sighted before and not since its start has gone. No sighting."""
    LISTED_PARTIALLY = "listed-partially"
    """End of a listing that is known to have holes: nothing may be concluded from absence."""


class ImageEvent(msgspec.Struct, frozen=True):
    """A hint to look, not a truth."""

    kind: EventKind
    sighting: Sighting | None = None
    build: Build | None = None
    """The build that made what is sighted, where the source knows of one."""
    reaches_back: float = 0.0
    """Of a listing of what happened: what happened before this time may have left it unseen. 0: it shows what is there."""


class LayerSource(msgspec.Struct, frozen=True):
    """One layer as the source names it."""

    digest: str = ""
    """Blob digest; empty where the source has none (Docker's export)."""
    diff_id: str = ""
    """Claimed by the config; verified while reading."""
    size_bytes: int = 0
    """Bytes to be transported, 0 when unknown."""
    media_type: str = ""
    foreign: bool = False
    """Has `urls` and is not distributable: never fetched (hostile.md 52)."""


class ImageSource(msgspec.Struct, frozen=True):
    """One image of one platform, resolved: its verified config and its layers in order."""

    sighting: Sighting
    platform: Platform
    manifest_digest: str
    """Empty where there is no manifest."""
    image_id: str
    """Digest of `config_body`, computed by us."""
    config_body: bytes
    config: ImageConfig
    layers: tuple[LayerSource, ...]
    compressed_bytes: int = 0


class LostImage(NamedTuple):
    """One platform of a name that cannot be had, while others can: a mirror without that child, a manifest that is refused."""

    platform: Platform
    error: EnoentError


class LayerSink(Protocol):
    """Takes layer bytes; implemented by pipeline.py. Bytes go straight to a worker."""

    async def blob(self, index: int, chunks: AsyncIterator[bytes]) -> None:
        """Layer `index` of the image as stored. The iterator raises if digest or size do not hold."""

    async def archive(self, chunks: AsyncIterator[bytes]) -> None:
        """A Docker or OCI archive that holds wanted layers among others."""


class Source(Protocol):
    """Life cycle: `events` runs for ever in one task; `resolve` and `read` are called by many; `close` once."""

    name: str
    kind: str

    def events(self) -> AsyncIterator[ImageEvent]:
        """Lists first (ending in LISTED), then follows, listing again by itself at its interval.

        Raises SourceError when contact is lost; the caller starts it again with growing pauses.
        """

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> Sequence[ImageSource | LostImage]:
        """The images behind a sighting, for those platforms (empty: all). Raises SourceError, NotAnImage, Rejected where there
        is none at all, and where trying again may help.
        """

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        """Gives the wanted layers (indexes) to the sink, in any order."""

    async def close(self) -> None: ...


@runtime_checkable
class LooksByName(Protocol):
    """A source that can be asked for one name, besides its listing."""

    def watches(self, repository: str, tag: str) -> bool:
        """Whether the settings have it watched; without a tag, whether any tag of the repository may be."""

    async def look(self, repository: str, tag: str) -> ImageEvent:
        """Whether the name is there now, and what it shows. Raises SourceError."""
