"""Images from layer tars and a config: `docker save` archives for an engine, OCI layouts for everything else.

Times and orders are fixed, so the same arguments give the same digests.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.make.layers import Blob, blob, sha256

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
CREATED = "2024-01-01T00:00:00Z"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's image: its layers as plain tars, and what its config says. None leaves a key out."""

    layers: tuple[bytes, ...]
    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    env: Sequence[str] | None = None
    user: str | None = None
    working_dir: str | None = None
    labels: Mapping[str, str] | None = None
    history: Sequence[str] = ()
    """`created_by` of each layer; empty: one made up for each."""
    platform: str = "linux/amd64"
    """os/architecture[/variant]."""

    def config(self) -> bytes:
        """The image config as JSON bytes; its sha256 is the image ID."""
        system, architecture, *variant = self.platform.split("/")
        options = {
            "Entrypoint": self.entrypoint,
            "Cmd": self.cmd,
            "Env": self.env,
            "User": self.user,
            "WorkingDir": self.working_dir,
            "Labels": self.labels,
        }
        history = self.history or [f"COPY layer-{number} /" for number in range(len(self.layers))]
        document = {
            "architecture": architecture,
            "os": system,
            **({"variant": variant[0]} if variant else {}),
            "created": CREATED,
            "config": {key: value for key, value in options.items() if value is not None},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in self.layers]},
            "history": [{"created": CREATED, "created_by": text} for text in history],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def image_id(self) -> str:
        return sha256(self.config())


def docker_archive(images: Mapping[str, Image]) -> bytes:
    """One `docker save` archive of all images by tag; a layer that several share is in it once."""
    buffer, layers, manifest = io.BytesIO(), dict[str, bytes](), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for tag, image in images.items():
            config = image.config()
            name = sha256(config).removeprefix("sha256:") + ".json"
            members = [sha256(layer).removeprefix("sha256:") + "/layer.tar" for layer in image.layers]
            layers.update(zip(members, image.layers, strict=True))
            _add(tar, name, config)
            manifest.append({"Config": name, "RepoTags": [tag], "Layers": members})
        for member, layer in layers.items():
            _add(tar, member, layer)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def manifest_of(image: Image, compression: str = "gzip") -> tuple[bytes, list[Blob]]:
    """The OCI manifest of an image, and every blob it names (config first)."""
    layers = [blob(layer, compression) for layer in image.layers]
    config = Blob(image.config(), CONFIG, "")
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(config.data, CONFIG),
        "layers": [_descriptor(layer.data, layer.media_type) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode(), [config, *layers]


def index_of(manifests: Mapping[str, bytes]) -> bytes:
    """An image index of manifests by platform."""
    children = [{**_descriptor(body, MANIFEST), "platform": _platform(platform)} for platform, body in manifests.items()]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}, separators=(",", ":")).encode()


def _descriptor(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def _platform(text: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False))


def oci_layout(folder: Path, images: Mapping[str, Image | Sequence[Image]], compression: str = "gzip") -> Path:
    """An OCI image layout at `folder`; several images under one tag become an index of their platforms."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data: bytes) -> None:
        (blobs / sha256(data).removeprefix("sha256:")).write_bytes(data)

    entries = []
    for tag, one_or_more in images.items():
        children = {}
        for image in [one_or_more] if isinstance(one_or_more, Image) else one_or_more:
            body, parts = manifest_of(image, compression)
            children[image.platform] = body
            for data in (body, *(part.data for part in parts)):
                put(data)
        single = isinstance(one_or_more, Image)
        body = next(iter(children.values())) if single else index_of(children)
        put(body)
        descriptor = _descriptor(body, MANIFEST if single else INDEX)
        entries.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}})
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    (folder / "index.json").write_text(json.dumps(index, separators=(",", ":")))
    return folder
