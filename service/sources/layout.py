"""OCI image layouts on disk: one layout, or a folder of them. Watched by looking at each index.json.

A writer puts blobs first and index.json last (sources.md 1.7), so index.json is the only sign that is acted upon; one that is
half written does not parse and is looked at again. A copying tool may keep another order, so an absent blob may still come.
Files are opened without following links.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from analyzers.errors import Malformed, Rejected
from analyzers.oci import Descriptor, Digest, Index, Platform, is_attestation, parse_manifest
from service.blobs import collect, file_chunks, verified
from service.errors import SourceError
from service.registry.reference import is_tag, parse_image_name
from service.sources import EventKind, ImageEvent, ImageSource, LayerSink, LostImage, Sighting
from service.sources.manifests import images_of
from service.sources.settings import LayoutSettings

DOCUMENT_BYTES = 8 << 20
FULL_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
RELIST_SECONDS = 60.0
"""Pause between two full listings; between them only what changed is told."""
NAME_CHARACTERS = 512
REGISTRY = "oci-layout"
"""What stands in the registry label of an image that has no registry."""
RELIST_SECONDS = 60.0
"""Pause between two whole listings: what did not change is told again then, from memory."""
_Stamp = tuple[int, int, int]


class LayoutSource:
    """Implements Source over folders. `repository` of a sighting is the layout's folder, relative to the watched one."""

    kind = "layout"

    def __init__(
        self, settings: LayoutSettings, *, relist_seconds: float = RELIST_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = settings.source_name
        self._root = Path(settings.path)
        self._poll_seconds = settings.poll_seconds
        self._relist_seconds = relist_seconds
        self._clock = clock

    async def events(self) -> AsyncIterator[ImageEvent]:
        """Lists every layout, and between listings tells only of those whose index.json changed.

        Raises SourceError when the folder is not there.
        """
        stamps: dict[Path, _Stamp] = {}
        shown: dict[Path, list[Sighting]] = {}
        listing_at = self._clock()
        while True:
            listing = self._clock() >= listing_at
            now = await asyncio.to_thread(self._stamps)
            for folder in [known for known in shown if known not in now]:
                for sighting in shown.pop(folder):
                    yield ImageEvent(EventKind.GONE, sighting)
            for folder, stamp in now.items():
                if stamps.get(folder) == stamp:
                    for sighting in shown[folder] if listing else ():
                        yield ImageEvent(EventKind.APPEARED, sighting)
                    continue
                sightings = await self._list(folder)
                if sightings is None:
                    continue  # half written: the stamp stays old, so the next look reads it again
                stamps[folder] = stamp
                for sighting in shown.get(folder, []):
                    if _named(sighting) not in map(_named, sightings):
                        yield ImageEvent(EventKind.GONE, sighting)
                shown[folder] = sightings
                for sighting in sightings:
                    yield ImageEvent(EventKind.APPEARED, sighting)
            stamps = {folder: stamp for folder, stamp in stamps.items() if folder in now}
            if listing:
                # What cannot be read at the moment is not known to have gone.
                yield ImageEvent(EventKind.LISTED if stamps == now else EventKind.LISTED_PARTIALLY)
                listing_at = self._clock() + self._relist_seconds
            await asyncio.sleep(self._poll_seconds)

    def _stamps(self) -> dict[Path, _Stamp]:
        if not self._root.is_dir():
            raise SourceError(f"{self._root} is not a folder", code="not-found")
        indexes = [
            self._root / "index.json",
            *sorted(self._root.glob("*/index.json")),
            *sorted(self._root.glob("*/*/index.json")),
        ]
        stamps = {}
        for index in indexes:
            try:
                status = index.stat()
            except OSError:
                continue  # gone since the listing, or never there: that is what absence means here
            stamps[index.parent] = (status.st_mtime_ns, status.st_ino, status.st_size)
        return stamps

    async def _list(self, folder: Path) -> list[Sighting] | None:
        try:
            body = await collect(file_chunks(folder / "index.json"), DOCUMENT_BYTES)
            index = parse_manifest(body)
        except (Rejected, SourceError):
            return None
        if not isinstance(index, Index):
            return None
        repository = str(folder.relative_to(self._root))
        named = self._root.resolve().name if repository == "." else repository
        rows = _tagged([row for row in index.manifests if not is_attestation(row)])
        return [Sighting(self.name, REGISTRY, named, tag, row.digest) for tag, row in rows]

    def _folder(self, sighting: Sighting) -> Path:
        nested = self._root / sighting.repository
        return nested if (nested / "index.json").is_file() else self._root

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        folder = self._folder(sighting)
        digest = sighting.digest or await self._digest_of_tag(folder, sighting.tag)

        async def manifest(wanted: str) -> tuple[bytes, str]:
            return await collect(self._blob(folder, wanted), DOCUMENT_BYTES), ""

        async def config(descriptor: Descriptor) -> bytes:
            return await collect(self._blob(folder, descriptor.digest, descriptor.size), DOCUMENT_BYTES)

        body, content_type = await manifest(digest)
        return await images_of(sighting, body, content_type, platforms, manifest, config, absent_ok=True)

    async def _digest_of_tag(self, folder: Path, tag: str) -> str:
        sightings = await self._list(folder)
        if sightings is None:
            raise SourceError(_why_no_layout(folder), temporary=False, code="not-found")
        matching = [row.digest for row in sightings if not tag or row.tag == tag]
        if len(matching) != 1:
            has = ", ".join(sorted(row.tag or row.digest for row in sightings)) or "nothing"
            what = f"no image {tag!r}" if not matching else "several images; name one"
            raise SourceError(f"{folder} holds {what} (it has {has})", temporary=False, code="not-found")
        return matching[0]

    def _blob(self, folder: Path, digest: str, size: int | None = None) -> AsyncIterator[bytes]:
        checked = Digest(digest)
        return verified(file_chunks(folder / "blobs" / checked.algorithm / checked.hex, may_come=True), digest, size)

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        folder = self._folder(image.sighting)
        for index in sorted(wanted):
            layer = image.layers[index]
            await sink.blob(index, self._blob(folder, layer.digest, layer.size_bytes))

    async def close(self) -> None:
        """Nothing is held open."""


def _why_no_layout(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder"
    index = folder / "index.json"
    return f"{index} is not a readable OCI index" if index.exists() else f"{folder} is not an OCI layout: it has no index.json"


def _tagged(rows: list[Descriptor]) -> list[tuple[str, Descriptor]]:
    """Each image with its tag, every tag once: of two with one tag the last counts, unless their whole names tell them apart."""
    stated = [_stated_name(row) for row in rows]
    names: dict[str, set[str]] = {}
    for name in stated:
        names.setdefault(_tag_in(name), set()).add(name)
    found: dict[str, tuple[str, Descriptor]] = {}
    for row, name in zip(rows, stated, strict=True):
        tag = _tag_in(name)
        tag = name if len(names[tag]) > 1 else tag
        found[tag or row.digest] = (tag, row)
    return list(found.values())


def _stated_name(row: Descriptor) -> str:
    """What a writer called an image: skopeo a tag, BuildKit a whole name, containerd both. Empty when it says nothing usable."""
    name = row.annotations.get(REF_NAME, "") or row.annotations.get(FULL_NAME, "")
    return name if len(name) <= NAME_CHARACTERS else ""


def _tag_in(name: str) -> str:
    """The tag in a name, which may be only that; what is neither a tag nor the name of an image is kept as it is."""
    try:
        return name if is_tag(name) or not name else parse_image_name(name).tag
    except Malformed:
        return name


def _named(sighting: Sighting) -> tuple[str, str, str]:
    """Identity for vanishing: an untagged image is its digest, a tag may move to another."""
    return (sighting.repository, sighting.tag, "" if sighting.tag else sighting.digest)
