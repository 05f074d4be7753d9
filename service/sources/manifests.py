"""From a manifest or an index to the images behind it, one a platform; the same for every source that has manifests.

Indexes are walked, not analysed: attestations and foreign platforms are passed over, depth and cycles are bounded
(hostile 47). The config is read and its digest computed by us; artifacts that are no image raise NotAnImage (hostile 55).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection

from analyzers.errors import Rejected
from analyzers.finding import show
from analyzers.oci import (
    INDEX_ENTRIES,
    Descriptor,
    Index,
    Manifest,
    Platform,
    is_attestation,
    is_image_config,
    is_layer,
    parse_config,
    parse_manifest,
)
from service.errors import NotAnImage, SourceError
from service.sources import ImageSource, LayerSource, LostImage, Sighting

INDEX_DEPTH = 4
FetchManifest = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Body and content type of the manifest with this digest; the body has been verified."""
FetchConfig = Callable[[Descriptor], Awaitable[bytes]]


def sha256(body: bytes) -> str:
    """`sha256:...` of these bytes."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


async def images_of(
    sighting: Sighting,
    body: bytes,
    content_type: str,
    platforms: Collection[Platform],
    fetch_manifest: FetchManifest,
    fetch_config: FetchConfig,
    *,
    absent_ok: bool = False,
) -> list[ImageSource | LostImage]:
    """Every image behind these bytes, for those platforms (none named: all). Raises Rejected, NotAnImage, SourceError.

    One platform that is refused or not there is told beside the others; where nothing is left, its error is raised.

    `absent_ok`: children of an index that the source does not have are passed over (layouts, pulls of one platform).
    """
    found: list[ImageSource] = []
    lost: list[LostImage] = []
    seen: set[str] = set()
    artifacts: list[NotAnImage] = []
    foreign: set[Platform] = set()
    absent: list[SourceError] = []
    others: set[Platform] = set()

    async def walk(document: bytes, stated: str, depth: int) -> None:
        digest = sha256(document)
        if digest in seen:
            return
        seen.add(digest)
        if len(seen) > INDEX_ENTRIES:
            raise Rejected("manifest-too-large", f"more than {INDEX_ENTRIES} manifests below one name")
        parsed = parse_manifest(document, stated)
        if isinstance(parsed, Manifest):
            try:
                image = await _image(sighting, parsed, digest, fetch_config)
            except NotAnImage as artifact:
                artifacts.append(artifact)
                return
            if not platforms or _wanted(image.platform, platforms):
                found.append(image)
            else:
                others.add(image.platform)
            return
        if depth >= INDEX_DEPTH:
            raise Rejected("manifest-too-large", f"indexes nested deeper than {INDEX_DEPTH}")
        await children(parsed, depth)

    async def children(index: Index, depth: int) -> None:
        for child in index.manifests:
            if is_attestation(child) or child.digest in seen:
                continue
            if child.platform is not None and child.platform.os not in ("", "linux"):
                foreign.add(child.platform)
                continue
            if platforms and child.platform is not None and not _wanted(child.platform, platforms):
                others.add(child.platform)
                continue
            try:
                document, stated = await fetch_manifest(child.digest)
                await walk(document, stated or child.media_type, depth + 1)
            except SourceError as error:
                if absent_ok and error.code == "not-found":
                    absent.append(error)
                elif error.temporary:
                    raise
                else:
                    lost.append(LostImage(child.platform or Platform(), error))
            except Rejected as error:
                if error.code == "manifest-too-large":
                    raise  # the bounds are those of the whole
                lost.append(LostImage(child.platform or Platform(), error))

    await walk(body, content_type, 0)
    if found:
        return [*found, *lost]
    if lost or absent or artifacts:
        raise (*(each.error for each in lost), *absent, *artifacts)[0]
    if foreign and not others:
        raise Rejected("unsupported", f"only images for {', '.join(sorted(map(str, foreign)))[:200]}")
    if not platforms:
        raise NotAnImage("an index without images")
    wanted, there = (", ".join(sorted(map(str, each)))[:500] for each in (platforms, others))
    raise SourceError(
        f"no image for {wanted}" + (f"; there are {there}" if there else ""), temporary=False, code="no-such-platform"
    )


def _wanted(platform: Platform, platforms: Collection[Platform]) -> bool:
    """A platform named without a variant means every variant of it."""
    return any(
        platform == wanted or (not wanted.variant and (platform.os, platform.architecture) == (wanted.os, wanted.architecture))
        for wanted in platforms
    )


async def _image(sighting: Sighting, manifest: Manifest, digest: str, fetch_config: FetchConfig) -> ImageSource:
    layer_types = [layer.media_type for layer in manifest.layers]
    none_fits = bool(layer_types) and not any(map(is_layer, layer_types))
    if manifest.artifact_type or none_fits or not is_image_config(manifest.config.media_type):
        kind = manifest.artifact_type or (layer_types[0] if none_fits else manifest.config.media_type)
        raise NotAnImage(f"an artifact of type {show(kind.encode()[:100])}, not an image")
    body = await fetch_config(manifest.config)
    config = parse_config(body)
    if config.diff_ids and len(config.diff_ids) != len(manifest.layers):
        raise Rejected("config-mismatch", f"{len(manifest.layers)} layers but {len(config.diff_ids)} diff IDs")
    diff_ids = config.diff_ids or ("",) * len(manifest.layers)
    layers = tuple(
        LayerSource(
            digest=str(layer.digest),  # a plain string: the store packs what stands here
            diff_id=diff_id,
            size_bytes=layer.size,
            media_type=layer.media_type,
            foreign=bool(layer.urls),
        )
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True)
    )
    return ImageSource(
        sighting=sighting,
        platform=config.platform,
        manifest_digest=digest,
        image_id=sha256(body),
        config_body=body,
        config=config,
        layers=layers,
        compressed_bytes=sum(layer.size_bytes for layer in layers),
    )
