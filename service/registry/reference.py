"""Image references as people type them: parsed, normalised, printed. Names follow the distribution grammar."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from analyzers.errors import Malformed
from analyzers.oci import Digest

Transport = Literal["registry", "docker", "oci", "oci-archive", "docker-archive"]

DOCKER_HUB = "docker.io"
_HUB_ALIASES = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MAX_REPOSITORY = 255


class Reference(msgspec.Struct, frozen=True):
    """What a person names. `registry` and `repository` are empty for everything but a registry."""

    transport: Transport
    registry: str = ""
    """Host and port as in names: `docker.io`, never its API host."""
    repository: str = ""
    tag: str = ""
    digest: str = ""
    place: str = ""
    """docker: the image's name or id. oci, archives: a path."""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        if self.transport != "registry":
            return f"{self.transport}:{self.place}{tag}"
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def is_repository(text: str) -> bool:
    """Whether a text can be the name of a repository of a registry."""
    return len(text) <= MAX_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether a text can be a tag."""
    return _TAG.fullmatch(text) is not None


def parse_image_name(text: str) -> Reference:
    """The name of an image as engines and tools write it: always of a registry, so `docker:26` is the image `docker`.

    Raises Malformed.
    """
    if len(text) > 4096 or not text.isprintable():
        raise Malformed(f"not an image name: {text[:100]!r}")
    return _registry(text)


def parse_reference(text: str) -> Reference:
    """The image a person means. Raises Malformed with a sentence that tells the expected form."""
    if not text or len(text) > 4096 or any(character.isspace() or not character.isprintable() for character in text.strip(" ")):
        raise Malformed(f"not an image reference: {text[:100]!r}")
    text = text.strip(" ")
    transport, colon, place = text.partition(":")
    match transport:
        case "docker" if colon and not place.startswith("//"):
            return _named("docker", place)
        case "oci" if colon:
            return _layout(place)
        case "oci-archive" if colon:
            return _named("oci-archive", place)
        case "docker-archive" if colon:
            return _named("docker-archive", place)
    return _registry(text.removeprefix("docker://"))


def _named(transport: Transport, place: str) -> Reference:
    if not place:
        raise Malformed(f"{transport}: names nothing; write {transport}:NAME")
    return Reference(transport, place=place)


def _layout(place: str) -> Reference:
    """`oci:DIR[:TAG]`: a colon after the last slash begins a tag."""
    folder, slash, last = place.rpartition("/")
    name, colon, tag = last.partition(":")
    if colon and not is_tag(tag):
        raise Malformed(f"not a tag: {tag[:100]!r} in oci:{place[:100]}")
    if not name and not slash:
        raise Malformed("oci: names no folder; write oci:DIR or oci:DIR:TAG")
    return Reference("oci", place=folder + slash + name, tag=tag)


def _registry(text: str) -> Reference:
    name, at, digest = text.partition("@")
    if at:
        digest = Digest(digest)
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost" or host != host.lower()):
        host, rest = DOCKER_HUB, name
    if host in _HUB_ALIASES:
        host = DOCKER_HUB
    repository, colon, tag = rest.partition(":")
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _HOST.fullmatch(host) or not _port_fits(host):
        raise Malformed(f"not a registry host: {host[:100]!r} in {text[:100]!r}")
    if not is_repository(repository):
        raise Malformed(f"not a repository name (lower case, digits, separators): {repository[:100]!r} in {text[:100]!r}")
    if colon and not is_tag(tag):
        raise Malformed(f"not a tag: {tag[:100]!r} in {text[:100]!r}")
    if not tag and not digest:
        tag = "latest"
    return Reference("registry", registry=host, repository=repository, tag=tag, digest=digest)


def _port_fits(host: str) -> bool:
    port = re.search(r":(\d+)$", host)
    return port is None or 0 < int(port.group(1)) < 65536
