"""Mirrors before a registry: what has a digest comes from them, what a name means does not, and names stay the registry's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from analyzers.oci import Platform
from service.errors import SourceError
from service.outbound import HostPolicy, Outbound
from service.registry.client import RegistryClient
from service.registry.mirrors import Mirror, Mirrored, Place, parse_mirror
from service.sources import Sighting
from service.sources.build import registry_source
from service.sources.settings import RegistrySettings
from tests import registry as real
from tests.conftest import absent
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, error, serving
from tests.fakes.server import Answer, Request
from tests.fakes.sink import Kept
from tests.make.images import Image, manifest_of
from tests.make.layers import sha256, tar_of
from tests.registry import Registry
from tests.service.clients import Keyring
from tests.service.watching import watched

LAYER = tar_of({"opt/app": b"abc" * 700_000})
IMAGE = Image(layers=(LAYER,), entrypoint=["/opt/app"])
(MANIFEST, BLOBS) = manifest_of(IMAGE, "none")
BIG = max(BLOBS, key=lambda blob: len(blob.data))


class Pair(NamedTuple):
    origin: FakeRegistry
    mirror: FakeRegistry
    client: Mirrored


@contextlib.asynccontextmanager
async def paired(*, prefix: str = "", asks_origin: bool = True) -> AsyncIterator[Pair]:
    """Both hold the image; below `prefix` at the mirror."""
    async with serving() as origin, serving() as mirror:
        origin.push("app:1", IMAGE, compression="none")
        mirror.push(f"{prefix}/app:1" if prefix else "app:1", IMAGE, compression="none")
        outbound = Outbound(HostPolicy([origin.host, mirror.host]))
        clock = Clock()

        def client(host: str, tries: int) -> RegistryClient:
            settings = RegistrySettings(host=host)
            return RegistryClient(settings, outbound, Keyring(), tries=tries, clock=clock, sleep=clock.sleep)

        mirrors = [Mirror(client(mirror.host, 1), prefix)]
        yield Pair(origin, mirror, Mirrored(client(origin.host, 2), mirrors, asks_origin=asks_origin))
        await outbound.close()


async def read(client: Mirrored) -> bytes:
    return b"".join([chunk async for chunk in client.blob("app", BIG.digest, len(BIG.data))])


def test_a_mirror_is_written_as_host_and_prefix() -> None:
    assert parse_mirror("cache.test:5000") == Place("cache.test:5000", "", False)
    assert parse_mirror("https://hub.test/proxy/docker/") == Place("hub.test", "proxy/docker", False)
    assert parse_mirror("http://127.0.0.1:5000") == Place("127.0.0.1:5000", "", True)


async def test_blobs_and_manifests_by_digest_come_from_the_mirror_and_tags_from_the_registry() -> None:
    async with paired() as pair:
        digest = await pair.client.head("app", "1")
        assert digest == sha256(MANIFEST)
        assert (await pair.client.manifest("app", digest))[0] == MANIFEST
        assert await read(pair.client) == BIG.data
        assert [request.method for request in pair.origin.requests] == ["HEAD"]
        assert (await pair.client.manifest("app", "1"))[0] == MANIFEST
        assert [request.method for request in pair.origin.requests] == ["HEAD", "GET"]


async def test_a_cache_may_keep_everything_below_a_prefix() -> None:
    async with paired(prefix="hub/library") as pair:
        assert await read(pair.client) == BIG.data
        assert not pair.origin.requests
        assert pair.mirror.requests[-1].path.startswith("/v2/hub/library/app/blobs/")


@pytest.mark.parametrize("answer", [error(404), error(500), error(403), b"no HTTP\r\n\r\n"])
async def test_a_mirror_that_fails_is_passed_over(answer: Answer | bytes) -> None:
    async with paired() as pair:
        pair.mirror.always("GET", "", answer)
        assert await read(pair.client) == BIG.data
        assert (await pair.client.manifest("app", sha256(MANIFEST)))[0] == MANIFEST


async def test_a_transfer_that_breaks_at_the_mirror_goes_on_at_the_registry() -> None:
    async with paired() as pair:
        head = Answer(200, {"Content-Length": str(len(BIG.data))}).head()
        pair.mirror.once("GET", "/blobs/", head + BIG.data[:1_000_000], error(404))
        assert await read(pair.client) == BIG.data
        (asked,) = pair.origin.requests
        assert asked.headers["range"] == "bytes=1000000-"


async def test_a_mirror_that_gives_wrong_bytes_is_not_asked_for_them_again() -> None:
    async with paired() as pair:
        pair.mirror.blobs[BIG.digest] = b"z" + BIG.data[1:]
        with pytest.raises(SourceError) as failure:
            await read(pair.client)
        assert (failure.value.code, failure.value.temporary) == ("digest-mismatch", True)
        assert await read(pair.client) == BIG.data
        assert len(pair.origin.requests) == 1


async def test_without_the_registry_the_mirrors_say_what_tags_mean() -> None:
    async with paired(prefix="hub", asks_origin=False) as pair:
        assert (await pair.client.catalog()).names == ["app"]
        listing = await pair.client.tags("app")
        assert listing is not None
        assert listing.names == ["1"]
        assert await pair.client.head("app", "1") == sha256(MANIFEST)
        assert await read(pair.client) == BIG.data
        assert not pair.origin.requests


async def test_no_credentials_of_the_registry_reach_a_mirror() -> None:
    """The mirror asks for some; it gets none, and the registry answers."""
    async with paired() as pair:
        pair.mirror.always("GET", "", Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}))
        assert await read(pair.client) == BIG.data
        assert not any(request.authorization for request in pair.mirror.requests)


@pytest.mark.registry
async def test_a_pull_through_cache_of_debian_s_registry_serves_what_another_one_has(registry: Registry) -> None:
    repository = "mirrored/app"
    registry.push(f"{repository}:1", IMAGE)
    with contextlib.ExitStack() as stack:
        try:
            cache = stack.enter_context(real.started(config={"proxy": {"remoteurl": f"http://{registry.host}"}}))
        except real.RegistryAbsent as error:
            absent(str(error))
        settings = RegistrySettings(host=registry.host, repositories=(repository,), mirrors=(f"http://{cache.host}",))
        source = registry_source(settings)
        try:
            async with watched(source) as watch:
                seen, _, whole = await watch.listing()
            assert whole
            sighting = Sighting(source.name, registry.host, repository, "1", seen[f"{repository}:1"])
            (found,) = await source.resolve(sighting, [])
            sink = Kept()
            await source.read(found, range(len(found.layers)), sink)
            assert found.sighting.registry == registry.host
            assert cache.requests("GET", f"/v2/{repository}/blobs/")
            assert cache.requests("GET", f"/v2/{repository}/manifests/sha256:")
            # What stands there besides was asked by the cache: what a tag means was asked of the registry.
            assert registry.requests("HEAD", f"/v2/{repository}/manifests/1")
            assert not cache.requests(part=f"/v2/{repository}/manifests/1")
        finally:
            await source.close()


async def test_platforms_of_one_registry_win_over_those_of_all() -> None:
    async with serving() as fake:
        fake.push("app:1", IMAGE, Image(layers=(LAYER,), entrypoint=["/a"], platform="linux/arm64"))
        source = registry_source(RegistrySettings(host=fake.host, platforms=("linux/arm64",)))
        sighting = Sighting(source.name, fake.host, "app", "1")
        assert [each.platform.architecture for each in await source.resolve(sighting, [Platform("linux", "amd64")])] == ["arm64"]
        await source.close()


async def test_of_many_versions_only_the_newest_are_looked_at_by_listing_and_by_name() -> None:
    async with serving() as fake:
        for tag in ("1.0", "1.9", "1.10", "latest"):
            fake.push(f"app:{tag}", IMAGE)
        source = registry_source(RegistrySettings(host=fake.host, newest=1, parallel=1))
        async with watched(source) as watch:
            seen, _, whole = await watch.listing()
        assert (sorted(seen), whole) == (["app:1.10", "app:latest"], True)
        assert [request.path.rpartition("/")[2] for request in fake.requests if request.method == "HEAD"] == ["1.10", "latest"]
        shown = {tag: str((await source.look("app", tag)).kind) for tag in ("1.0", "1.10", "latest", "3.0")}
        assert shown == {"1.0": "gone", "1.10": "appeared", "latest": "appeared", "3.0": "gone"}
        await source.close()


async def test_no_more_requests_at_a_time_than_are_allowed() -> None:
    async with serving() as fake:
        for number in range(12):
            fake.push(f"app:{number}", IMAGE)
        at_once: list[int] = []

        def count(request: Request) -> None:
            at_once.append(len(fake.open))

        fake.always("HEAD", "", count)
        source = registry_source(RegistrySettings(host=fake.host, parallel=2))
        async with watched(source) as watch:
            await watch.listing()
        assert max(at_once) == 2
        await source.close()
