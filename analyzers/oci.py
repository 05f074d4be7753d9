"""Digests, descriptors, indexes, manifests, image configs and platforms, and their strict parsing.

Words as in the OCI image specification: a *digest* names bytes as transported, a *diff ID* the
uncompressed tar of a layer, the *image ID* is the digest of the config.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from analyzers.errors import Malformed, Rejected
from analyzers.finding import show

JSON_BYTES = 8 << 20
JSON_DEPTH = 64
JSON_CONTAINERS = 100_000
"""Objects and lists in one document: decoding millions of empty ones would hold up the daemon for seconds."""
INDEX_ENTRIES = 1_000
IMAGE_LAYERS = 500
HISTORY_ENTRIES = 10_000

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",  # what the first registries served configs as
)

# Brackets outside strings; a string is consumed whole so that brackets in it do not count.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """`algorithm:hex`, checked at birth (sha256 and sha512 only; hostile.md 48)."""

    __slots__ = ()

    def __new__(cls, text: str) -> Digest:
        if not _DIGEST.fullmatch(text):
            raise Malformed(f"not a sha256 or sha512 digest: {text[:100]!r}")
        return super().__new__(cls, text)

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """os/architecture[/variant], normalised as containerd does (A5)."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Healthcheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """HEALTHCHECK: `test` is empty, ("NONE",), ("CMD", ...) or ("CMD-SHELL", text)."""

    test: tuple[str, ...] = ()


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of an image config that a verdict or a page needs."""

    platform: Platform = Platform()
    entrypoint: tuple[str, ...] | None = None
    """None when unset; `("",)` is kept as written (C2)."""
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    shell: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    stop_signal: str = ""
    labels: dict[str, str] = {}
    diff_ids: tuple[str, ...] = ()
    history: tuple[tuple[str, bool], ...] = ()
    """(created_by, empty_layer) in order."""
    created: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    """(code, detail) of oddities that become findings, such as `config-mismatch`."""


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Names a blob: what it is, its digest and its size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = {}
    urls: tuple[str, ...] = ()
    """Present on foreign (non-distributable) layers; never fetched (hostile 52)."""
    artifact_type: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """One image of one platform."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""


class Index(msgspec.Struct, frozen=True):
    """Manifests by platform; attestations are among them."""

    media_type: str
    manifests: tuple[Descriptor, ...]


def load_json(body: bytes, limit: int = JSON_BYTES) -> Any:
    """Decoded JSON that Go's decoder would read the same way. Raises Rejected (hostile 44-46).

    Refused: more than `limit` bytes, depth over 64, more than 100,000 objects and lists, a byte-order mark, invalid UTF-8, NaN
    and infinities, numbers beyond a double or 20 digits, trailing bytes, and names that stand twice in one object. Names that
    differ from a known one only by case are for `_object` to refuse, since labels and annotations may have them.
    """
    if len(body) > limit:
        raise Rejected("manifest-too-large", f"{len(body)} bytes of JSON, more than {limit}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("bad-json", f"not UTF-8 at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise Rejected("bad-json", "begins with a byte-order mark")
    _check_depth(body)
    try:
        return json.loads(
            text, object_pairs_hook=_unique_object, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_number
        )
    except json.JSONDecodeError as error:
        raise Rejected("bad-json", f"{error.msg} at character {error.pos}") from None


def _check_depth(body: bytes) -> None:
    depth = seen = 0
    if body.count(b"{") + body.count(b"[") <= JSON_DEPTH:
        return  # a list of names, however long
    for bracket in _BRACKETS.finditer(body):
        mark = bracket.group()
        if mark in (b"{", b"["):
            depth += 1
            seen += 1
            if depth > JSON_DEPTH:
                raise Rejected("bad-json", f"nested deeper than {JSON_DEPTH}")
            if seen > JSON_CONTAINERS:
                raise Rejected("bad-json", f"more than {JSON_CONTAINERS} objects and lists")
        elif mark in (b"}", b"]"):
            depth -= 1


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Rejected("ambiguous-manifest", "a name stands twice in one object")
    return made


def _fold(key: str) -> str:
    """As encoding/json compares names: Unicode simple folding, so that the long s and the Kelvin sign count."""
    return key.casefold()


def _refuse_constant(text: str) -> Any:
    raise Rejected("bad-json", f"{text} is not JSON")


def _integer(text: str) -> int:
    if len(text) > 20:
        raise Rejected("bad-json", "a number of more than 20 digits")
    return int(text)


def _number(text: str) -> float:
    if len(text) > 400:
        raise Rejected("bad-json", "a number of more than 400 characters")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Rejected("bad-json", "a number beyond a double")
    return value


def _object(value: Any, what: str, known: frozenset[str]) -> dict[str, Any]:
    """`value` as an object whose names are spelled as the specification does, or not known at all (hostile 44)."""
    if not isinstance(value, dict):
        raise Rejected("bad-json", f"{what} is not an object")
    folded = {_fold(name): name for name in known}
    for key in value:
        meant = folded.get(_fold(key))
        if meant is not None and meant != key:
            raise Rejected("ambiguous-manifest", f"{what} spells {meant!r} as {show(key.encode()[:60])!r}")
    return value


def _text(value: Any, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Rejected("bad-json", f"{what} is not a string")
    return value


def _texts(value: Any, what: str, limit: int = 100_000) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > limit or not all(isinstance(item, str) for item in value):
        raise Rejected("bad-json", f"{what} is not a list of strings")
    return tuple(value)


def _strings(value: Any, what: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise Rejected("bad-json", f"{what} is not an object of strings")
    return value


_PLATFORM_KEYS = frozenset({"os", "architecture", "variant", "os.version", "os.features"})
_DESCRIPTOR_KEYS = frozenset({"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"})
_MANIFEST_KEYS = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers"}
)


def parse_descriptor(value: Any, what: str = "descriptor") -> Descriptor:
    """A descriptor out of decoded JSON. Raises Rejected (hostile 48, 49)."""
    fields = _object(value, what, _DESCRIPTOR_KEYS)
    size = fields.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise Rejected("size-mismatch", f"{what} has no usable size")
    try:
        digest = Digest(_text(fields.get("digest"), f"{what}.digest"))
    except Malformed as error:
        raise Rejected("bad-digest", str(error)) from None
    platform = fields.get("platform")
    return Descriptor(
        media_type=_text(fields.get("mediaType"), f"{what}.mediaType"),
        digest=digest,
        size=size,
        platform=None if platform is None else _platform(_object(platform, f"{what}.platform", _PLATFORM_KEYS)),
        annotations=_strings(fields.get("annotations"), f"{what}.annotations"),
        urls=_texts(fields.get("urls"), f"{what}.urls"),
        artifact_type=_text(fields.get("artifactType"), f"{what}.artifactType"),
    )


def _platform(fields: dict[str, Any]) -> Platform:
    return normalise(
        _text(fields.get("os"), "os"), _text(fields.get("architecture"), "architecture"), _text(fields.get("variant"), "variant")
    )


def parse_manifest(body: bytes, content_type: str = "") -> Manifest | Index:
    """A manifest or an index, decided by its own fields. Raises Rejected (hostile 43-49, 56).

    `content_type` is what the registry said; where it contradicts `mediaType` the document is ambiguous (CVE-2021-41190).
    """
    fields = _object(load_json(body), "manifest", _MANIFEST_KEYS)
    media_type = _text(fields.get("mediaType"), "mediaType")
    stated = content_type.partition(";")[0].strip()
    if fields.get("schemaVersion") == 1 or "fsLayers" in fields:
        raise Rejected("unsupported", "a schema 1 manifest")
    if media_type and stated in (*MANIFEST_TYPES, *INDEX_TYPES) and stated != media_type:
        raise Rejected("ambiguous-manifest", f"served as {stated} but says {show(media_type.encode()[:100])}")
    is_index, is_image = "manifests" in fields, "config" in fields or "layers" in fields
    kind = media_type or (stated if stated in (*MANIFEST_TYPES, *INDEX_TYPES) else "")
    if is_index and is_image:
        raise Rejected("ambiguous-manifest", "both an index and a manifest")
    if (is_index and kind in MANIFEST_TYPES) or (is_image and kind in INDEX_TYPES):
        raise Rejected("ambiguous-manifest", f"its fields do not fit {kind}")
    if is_index:
        manifests = _list(fields["manifests"], "manifests", INDEX_ENTRIES)
        return Index(kind or INDEX_TYPES[0], tuple(parse_descriptor(row, f"manifests[{i}]") for i, row in enumerate(manifests)))
    if not is_image or "config" not in fields:
        raise Rejected("unsupported", "neither an image manifest nor an index")
    layers = _list(fields.get("layers"), "layers", IMAGE_LAYERS)
    return Manifest(
        kind or MANIFEST_TYPES[0],
        parse_descriptor(fields["config"], "config"),
        tuple(parse_descriptor(row, f"layers[{i}]") for i, row in enumerate(layers)),
        _text(fields.get("artifactType"), "artifactType"),
    )


def _list(value: Any, what: str, limit: int) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected("bad-json", f"{what} is not a list")
    if len(value) > limit:
        raise Rejected("manifest-too-large", f"{what} has {len(value)} items, more than {limit}")
    return value


def is_attestation(descriptor: Descriptor) -> bool:
    """An index entry that holds provenance or an SBOM rather than an image (sources.md 0)."""
    return (
        descriptor.annotations.get("vnd.docker.reference.type") == "attestation-manifest"
        or descriptor.platform == Platform("unknown", "unknown")
        or descriptor.media_type not in (*MANIFEST_TYPES, *INDEX_TYPES, "")
    )


def is_image_config(media_type: str) -> bool:
    """Whether a manifest with this config is an image; everything else is an artifact (hostile 55)."""
    return media_type in CONFIG_TYPES


def is_layer(media_type: str) -> bool:
    """Whether a blob of this type can be a layer. Signatures borrow the type of image configs, but not of layers."""
    return not media_type or ".layer." in media_type or ".rootfs." in media_type or media_type == "application/octet-stream"


_CONFIG_KEYS = frozenset({"architecture", "os", "variant", "config", "rootfs", "history", "created", "author"})
_RUN_KEYS = frozenset(
    {"Entrypoint", "Cmd", "Env", "User", "WorkingDir", "Shell", "Healthcheck", "StopSignal", "Labels", "Volumes", "ExposedPorts"}
)


def parse_config(body: bytes) -> ImageConfig:
    """An image config. Raises Rejected (hostile 44-46, 53, 56)."""
    fields = _object(load_json(body), "config", _CONFIG_KEYS)
    run = _object(fields.get("config") or {}, "config.config", _RUN_KEYS)
    rootfs = _object(fields.get("rootfs") or {}, "config.rootfs", frozenset({"type", "diff_ids"}))
    platform = _platform(fields)
    if platform.os and platform.os != "linux":
        raise Rejected("unsupported", f"an image for {show(platform.os.encode()[:60])}")
    notes: list[tuple[str, str]] = []
    if "diff_ids" not in rootfs:
        notes.append(("config-mismatch", "the config lists no diff IDs"))
    health = run.get("Healthcheck")
    return ImageConfig(
        platform=platform,
        entrypoint=None if run.get("Entrypoint") is None else _command(run["Entrypoint"], "Entrypoint"),
        cmd=None if run.get("Cmd") is None else _command(run["Cmd"], "Cmd"),
        env=_texts(run.get("Env"), "Env"),
        user=_text(run.get("User"), "User"),
        working_dir=_text(run.get("WorkingDir"), "WorkingDir"),
        shell=_texts(run.get("Shell"), "Shell"),
        healthcheck=None if health is None else _healthcheck(health),
        stop_signal=_text(run.get("StopSignal"), "StopSignal"),
        labels=_strings(run.get("Labels"), "Labels"),
        diff_ids=_texts(rootfs.get("diff_ids"), "rootfs.diff_ids"),
        history=_history(fields.get("history")),
        created=_text(fields.get("created"), "created"),
        notes=tuple(notes),
    )


def _command(value: Any, what: str) -> tuple[str, ...]:
    """A list, or the single string that the first Docker versions wrote, which moby still reads as one word."""
    return (value,) if isinstance(value, str) else _texts(value, what)


def _healthcheck(value: Any) -> Healthcheck:
    fields = _object(value, "Healthcheck", frozenset({"Test", "Interval", "Timeout", "StartPeriod", "Retries"}))
    return Healthcheck(_texts(fields.get("Test"), "Healthcheck.Test"))


def _history(value: Any) -> tuple[tuple[str, bool], ...]:
    rows = []
    for index, row in enumerate(_list(value, "history", HISTORY_ENTRIES)):
        fields = _object(row, f"history[{index}]", frozenset({"created_by", "empty_layer", "created", "author", "comment"}))
        rows.append((_text(fields.get("created_by"), "created_by")[:4096], fields.get("empty_layer") is True))
    return tuple(rows)


_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "i386": ("386", ""), "i486": ("386", ""),
    "i586": ("386", ""), "i686": ("386", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6"), "loongarch64": ("loong64", ""),
}  # fmt: skip
_DROPPED_VARIANTS = {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}


def normalise(os: str, architecture: str, variant: str = "") -> Platform:
    """The platform in containerd's spelling (A5)."""
    architecture, os = architecture.lower(), os.lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant.lower() or implied
    if architecture == "arm":
        variant = {"": "v7", "7": "v7", "6": "v6", "5": "v5", "8": "v8"}.get(variant, variant)
    if (architecture, variant) in _DROPPED_VARIANTS:
        variant = ""
    return Platform(os, architecture, variant)


def parse_platform(text: str) -> Platform:
    """`linux/arm64/v8`, `linux/amd64` or `arm64`, as people type it. Raises Malformed."""
    parts = text.strip().split("/")
    if not all(re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", part) for part in parts) or len(parts) > 3:
        raise Malformed(f"not a platform such as linux/amd64: {text[:100]!r}")
    if len(parts) == 1:
        parts = ["linux", *parts]
    return normalise(*parts)
