"""Archives on disk: `docker save` and the tar of an OCI layout. The outer tar is parsed in a worker; blobs are read in place.

One pass tells where each member lies and gives the small JSON documents; layers are then ranges of the file. An archive that
is compressed as a whole is read once more instead, from end to end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from analyzers.errors import Rejected
from analyzers.oci import Descriptor, Digest, Index, Platform, load_json, parse_config, parse_manifest
from service.blobs import collect, file_chunks, verified
from service.errors import SourceError
from service.sources import EventKind, ImageEvent, ImageSource, LayerSink, LayerSource, LostImage, Sighting
from service.sources.manifests import images_of, sha256

DOCUMENT_BYTES = 8 << 20


class Archive(Protocol):
    """What a worker tells of an archive."""

    @property
    def documents(self) -> Mapping[str, bytes]: ...
    @property
    def links(self) -> Mapping[str, str]: ...
    @property
    def members(self) -> Mapping[str, tuple[int, int]]: ...


IndexArchive = Callable[[AsyncIterator[bytes]], Awaitable[Archive]]
"""Reads an archive in a worker, without its layers."""


class ArchiveSource:
    """Implements Source over one file."""

    kind = "archive"

    def __init__(self, path: str, index_archive: IndexArchive) -> None:
        self.name = "archive"
        self._path = Path(path).resolve()  # a person may name a link; nothing below follows one
        self._index_archive = index_archive
        self._archive: Archive | None = None

    async def events(self) -> AsyncIterator[ImageEvent]:
        """A file is looked at once: it shows what it holds and ends."""
        yield ImageEvent(EventKind.APPEARED, Sighting(self.name, "archive", str(self._path), ""))
        yield ImageEvent(EventKind.LISTED)

    async def _opened(self) -> Archive:
        if self._archive is None:
            if not self._path.is_file():
                raise SourceError(f"{self._path} is not a file", temporary=False, code="not-found")
            self._archive = await self._index_archive(file_chunks(self._path))
        return self._archive

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        archive = await self._opened()
        if "manifest.json" in archive.documents:
            images = self._docker_images(sighting, archive)
        elif "index.json" in archive.documents:
            images = await self._oci_images(sighting, archive, platforms)
        else:
            raise SourceError(f"{self._path} is neither a docker nor an OCI archive", temporary=False, code="not-an-archive")
        wanted = [
            image
            for image in images
            if not platforms or any((image.platform.os, image.platform.architecture) == (p.os, p.architecture) for p in platforms)
        ]
        if not wanted:
            raise SourceError(f"{self._path} has no image for that platform", temporary=False, code="no-such-platform")
        return wanted

    def _docker_images(self, sighting: Sighting, archive: Archive) -> list[ImageSource | LostImage]:
        rows = load_json(archive.documents["manifest.json"], DOCUMENT_BYTES)
        if not isinstance(rows, list):
            raise Rejected("bad-json", "manifest.json is not a list")
        return [self._docker_image(sighting, archive, row) for row in rows]

    def _docker_image(self, sighting: Sighting, archive: Archive, row: Any) -> ImageSource:
        if not isinstance(row, dict) or not isinstance(row.get("Config"), str) or not isinstance(row.get("Layers"), list):
            raise Rejected("bad-json", "manifest.json names no config or no layers")
        names = [str(name) for name in row["Layers"]]
        body = archive.documents.get(row["Config"])
        if body is None:
            raise Rejected("missing-blob", "the archive lacks the config that its manifest names")
        config = parse_config(body)
        if len(config.diff_ids) != len(names):
            raise Rejected("config-mismatch", f"{len(names)} layers but {len(config.diff_ids)} diff IDs")
        layers = tuple(
            LayerSource(diff_id=diff_id, size_bytes=self._place(archive, name)[1] if archive.members else 0)
            for name, diff_id in zip(names, config.diff_ids, strict=True)
        )
        return ImageSource(sighting, config.platform, "", sha256(body), body, config, layers)

    async def _oci_images(
        self, sighting: Sighting, archive: Archive, platforms: Collection[Platform]
    ) -> list[ImageSource | LostImage]:
        async def manifest(digest: str) -> tuple[bytes, str]:
            return await collect(self._blob(archive, digest), DOCUMENT_BYTES), ""

        async def config(descriptor: Descriptor) -> bytes:
            return await collect(self._blob(archive, descriptor.digest, descriptor.size), DOCUMENT_BYTES)

        body = archive.documents["index.json"]
        if not isinstance(parse_manifest(body), Index):
            raise Rejected("bad-json", "index.json is not an index")
        return await images_of(sighting, body, "", platforms, manifest, config, absent_ok=True)

    def _blob(self, archive: Archive, digest: str, size: int | None = None) -> AsyncIterator[bytes]:
        checked = Digest(digest)
        name = f"blobs/{checked.algorithm}/{checked.hex}"
        if name in archive.documents:
            return verified(_whole(archive.documents[name]), digest, size)
        offset, length = self._place(archive, name)
        return verified(file_chunks(self._path, offset, length), digest, size)

    def _place(self, archive: Archive, name: str) -> tuple[int, int]:
        """Where a member lies; a link leads to another member. Raises SourceError."""
        for _ in range(8):
            if name in archive.members:
                return archive.members[name]
            if name not in archive.links:
                break
            name = archive.links[name]
        raise SourceError(f"{self._path} lacks {name}", temporary=False, code="not-found")

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        archive = await self._opened()
        if not archive.members:
            # The archive itself is compressed: no layer can be read without all that stands before it.
            await sink.archive(file_chunks(self._path))
            return
        names = self._layer_names(archive, image)
        for index in sorted(wanted):
            layer = image.layers[index]
            if names is None:
                await sink.blob(index, self._blob(archive, layer.digest, layer.size_bytes))
            else:
                await sink.blob(index, file_chunks(self._path, *self._place(archive, names[index])))

    def _layer_names(self, archive: Archive, image: ImageSource) -> list[str] | None:
        """Member names of a docker archive's layers, or None for an OCI archive."""
        if image.manifest_digest:
            return None
        for row in load_json(archive.documents["manifest.json"], DOCUMENT_BYTES):
            if sha256(archive.documents[row["Config"]]) == image.image_id:
                return [str(name) for name in row["Layers"]]
        raise SourceError(f"{self._path} changed while it was read", code="moved")

    async def close(self) -> None:
        """Nothing is held open."""


async def _whole(document: bytes) -> AsyncIterator[bytes]:
    yield document
