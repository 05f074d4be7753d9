"""A registry with mirrors before it: what has a digest is asked of them first, what a name means only of the registry itself.

A mirror can lie about nothing: its bytes are verified, and one that gave wrong bytes is not asked for them again. One that
fails or lacks a blob is passed over, in the middle of a transfer too. A mirror gets its own credentials and never those of
the registry, and its host is never part of a name (sources.md 3.3).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, TypeVar

import structlog

from analyzers.oci import Digest
from service.blobs import verified
from service.errors import SettingsError, SourceError
from service.registry.client import RegistryClient
from service.registry.listing import Listing

DISTRUSTED = 1000
"""Pairs of mirror and digest that are remembered."""
_MIRROR = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>[^/\s@?#]+)(?:/(?P<prefix>[a-z0-9._/-]*[a-z0-9]))?/?")
Answer = TypeVar("Answer")
log = structlog.get_logger()


class Place(NamedTuple):
    """Where a mirror is, as the settings write it: `host[:port][/prefix]`, with `http://` where it has no TLS."""

    host: str
    prefix: str
    plain: bool


def parse_mirror(text: str) -> Place:
    """Raises SettingsError."""
    found = _MIRROR.fullmatch(text)
    if found is None:
        raise SettingsError(f"registries: mirrors: {text[:100]!r} is not host[:port][/prefix]")
    return Place(found["host"], found["prefix"] or "", found["scheme"] == "http")


class Mirror(NamedTuple):
    """A client of a mirror; repositories lie below its prefix there."""

    client: RegistryClient
    prefix: str

    def repository(self, repository: str) -> str:
        return f"{self.prefix}/{repository}" if self.prefix else repository


class Mirrored:
    """What a registry source asks, answered by mirrors and the registry. `asks_origin`: else the mirrors are all there is."""

    def __init__(self, origin: RegistryClient, mirrors: Sequence[Mirror] = (), *, asks_origin: bool = True) -> None:
        self._origin = Mirror(origin, "")
        self._mirrors = tuple(mirrors)
        self._named = (self._origin,) if asks_origin or not mirrors else self._mirrors
        """Who is asked what a name means."""
        self._all = (*self._mirrors, self._origin) if asks_origin or not mirrors else self._mirrors
        self._distrusted: dict[tuple[str, str], None] = {}

    async def catalog(self) -> Listing:
        """Every repository; of a mirror, those below its prefix."""
        return await self._first(self._named, _catalog)

    async def tags(self, repository: str) -> Listing | None:
        """As RegistryClient.tags."""
        return await self._first(self._named, lambda place: place.client.tags(place.repository(repository)))

    async def head(self, repository: str, reference: str) -> str | None:
        """As RegistryClient.head."""
        return await self._first(self._named, lambda place: place.client.head(place.repository(repository), reference))

    async def manifest(self, repository: str, reference: str) -> tuple[bytes, str]:
        """As RegistryClient.manifest; a tag is asked of who knows what it means, a digest of everybody in turn."""
        places = self._all if ":" in reference else self._named
        return await self._first(places, lambda place: place.client.manifest(place.repository(repository), reference))

    async def _first(self, places: Sequence[Mirror], ask: Callable[[Mirror], Awaitable[Answer]]) -> Answer:
        """The first answer; of failures, the last one's, which is the registry's own where it was asked."""
        *before, last = places
        for place in before:
            try:
                return await ask(place)
            except SourceError as error:
                log.debug("mirror passed over", mirror=place.client.host, error=str(error))
        return await ask(last)

    async def blob(self, repository: str, digest: str, size: int | None) -> AsyncGenerator[bytes, None]:
        """As RegistryClient.blob, from whoever goes on with it. Raises SourceError unless digest and size hold."""
        gave: list[Mirror] = []
        chunks = verified(self._from_all(repository, Digest(digest), size, gave), digest, size)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        except SourceError as error:
            if error.code in ("digest-mismatch", "size-mismatch"):
                self._distrust(gave, digest)
            raise

    async def _from_all(
        self, repository: str, digest: Digest, size: int | None, gave: list[Mirror]
    ) -> AsyncGenerator[bytes, None]:
        done = 0
        places = [place for place in self._all if (place.client.host, str(digest)) not in self._distrusted]
        for place in places or self._all:
            chunks = place.client.blob_from(place.repository(repository), digest, size, done)
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        if place not in gave:
                            gave.append(place)
                        done += len(chunk)
                        yield chunk
                return
            except SourceError as error:
                if place is (places or self._all)[-1]:
                    raise
                log.debug("mirror passed over", mirror=place.client.host, error=str(error))

    def _distrust(self, gave: Sequence[Mirror], digest: str) -> None:
        for place in gave:
            if place is not self._origin:
                self._distrusted[place.client.host, digest] = None
                log.warning("mirror gives wrong bytes", mirror=place.client.host, digest=digest)
        while len(self._distrusted) > DISTRUSTED:
            del self._distrusted[next(iter(self._distrusted))]


async def _catalog(place: Mirror) -> Listing:
    listing = await place.client.catalog()
    if not place.prefix:
        return listing
    below = f"{place.prefix}/"
    names = [name.removeprefix(below) for name in listing.names if name.startswith(below)]
    return Listing(names, complete=listing.complete)
