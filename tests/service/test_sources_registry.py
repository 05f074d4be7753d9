"""A registry as a source, against Debian's docker-registry: what is noticed, what it costs, and what is no image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from analyzers.finding import State
from analyzers.oci import Platform
from service.errors import SourceError
from service.memory import Memory
from service.pipeline import Examiner
from service.settings import Workers
from service.sources import EventKind, Sighting
from service.worker import Pool
from tests import registry as real
from tests.conftest import absent
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, error, serving
from tests.fakes.server import Answer, Request
from tests.fakes.sink import Kept
from tests.make.images import Image, manifest_of
from tests.make.layers import script, sha256, tar_of
from tests.service.clients import source_at
from tests.service.watching import watched

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})


def image(name: str, platform: str = "linux/amd64") -> Image:
    own = tar_of({"bin/run": script("#!/opt/none\n"), f"etc/{name}": name})
    return Image(layers=(BASE, own), entrypoint=["/bin/run"], platform=platform)


@pytest.fixture(scope="module")
def server() -> Iterator[real.Registry]:
    if reason := real.why_absent():
        absent(reason)
    with real.started() as registry:
        yield registry


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        yield registry


# Watching


@pytest.mark.registry
async def test_the_catalog_is_listed_and_looked_at_by_head_alone(server: real.Registry) -> None:
    expected = {f"cat/{name}:{tag}": server.push(f"cat/{name}:{tag}", image(name + tag)) for name in "ab" for tag in "12"}
    before = len(server.requests())
    source = source_at(server.host)
    async with watched(source) as watch:
        for _ in range(2):
            seen, gone, whole = await watch.listing()
            assert expected.items() <= seen.items()
            assert (gone, whole) == ([], True)
    await source.close()
    asked = server.requests()[before:]
    assert not [each for each in asked if each.method == "GET" and "/manifests/" in each.path]
    assert len([each for each in asked if each.method == "HEAD" and "/v2/cat/a/manifests/1" in each.path]) == 2


@pytest.mark.registry
async def test_a_tag_that_moves_or_goes_or_comes_is_noticed_at_the_next_listing(server: real.Registry) -> None:
    first, second, third = (server.push(f"move/app:{tag}", image(f"move{tag}")) for tag in "123")
    source = source_at(server.host, "move/app")
    async with watched(source) as watch:
        assert (await watch.listing())[0] == {"move/app:1": first, "move/app:2": second, "move/app:3": third}
        moved = server.push("move/app:1", image("moved"))
        server.delete("move/app", second)
        new = server.push("move/app:4", image("new"))
        while (found := (await watch.listing())[0]).get("move/app:4") is None:
            pass
        assert found == {"move/app:1": moved, "move/app:3": third, "move/app:4": new}
        for digest in (moved, third, new):
            server.delete("move/app", digest)
        while (emptied := await watch.listing())[0]:
            pass
        assert emptied == ({}, [], True)  # `"tags": null`
    await source.close()


@pytest.mark.registry
async def test_only_the_tags_that_were_asked_for_are_looked_at(server: real.Registry) -> None:
    for tag in ("1.0", "1.1", "2.0", "latest"):
        server.push(f"some/app:{tag}", image("some"))
    source = source_at(server.host, "some/app", tags=("1.*", "latest"))
    async with watched(source) as watch:
        assert (await watch.listing())[0].keys() == {"some/app:1.0", "some/app:1.1", "some/app:latest"}
    await source.close()
    assert not server.requests("HEAD", "/v2/some/app/manifests/2.0")


@pytest.mark.registry
async def test_a_repository_that_is_not_there_lists_nothing(server: real.Registry) -> None:
    source = source_at(server.host, "absent/app")
    async with watched(source) as watch:
        assert await watch.listing() == ({}, [], True)
    await source.close()


async def test_a_registry_that_is_down_is_an_error_however_many_repositories_are_watched(fake: FakeRegistry) -> None:
    fake.always("", "", b"")
    for repositories in (["a"], ["a", "b", "c"], []):
        source = source_at(fake.host, *repositories)
        async with watched(source) as watch:
            with pytest.raises(SourceError):
                await watch.listing()
        await source.close()


async def test_one_repository_that_fails_makes_the_listing_partial_and_hides_no_other(fake: FakeRegistry, clock: Clock) -> None:
    fake.push("a:1", image("a"))
    fake.push("c:1", image("c"))
    fake.once("GET", "/b/tags/list", error(403, "DENIED"))
    source = source_at(fake.host, "a", "b", "c", clock=clock)
    async with watched(source) as watch:
        seen, gone, whole = await watch.listing()
        assert (seen.keys(), gone, whole) == ({"a:1", "c:1"}, [], False)
        assert (await watch.listing())[2]
    await source.close()


async def test_one_tag_that_is_broken_makes_the_listing_partial_and_hides_no_other(fake: FakeRegistry, clock: Clock) -> None:
    for tag in ("1", "2", "3"):
        fake.push(f"a:{tag}", image(tag))
    fake.always("HEAD", "/manifests/1", error(500))
    source = source_at(fake.host, clock=clock)
    async with watched(source) as watch:
        for _ in range(3):
            seen, _, whole = await watch.listing()
            assert (seen.keys(), whole) == ({"a:2", "a:3"}, False)
    await source.close()


async def test_a_tag_that_is_listed_and_is_not_there_has_gone(fake: FakeRegistry) -> None:
    fake.push("a:1", image("a"))
    fake.push("a:2", image("a"))
    fake.once("HEAD", "/manifests/1", error(404, "MANIFEST_UNKNOWN"))
    source = source_at(fake.host)
    async with watched(source) as watch:
        seen, gone, whole = await watch.listing()
    await source.close()
    assert (seen.keys(), gone, whole) == ({"a:2"}, ["a:1"], True)


LIES = {"404": error(404, "NAME_UNKNOWN"), "empty": Answer(200, {}, b'{"tags": []}'), "null": Answer(200, {}, b'{"tags": null}')}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_h072_from_a_listing_that_lacks_all_the_source_concludes_nothing_itself(fake: FakeRegistry, lie: Answer) -> None:
    """What is absent from whole listings is counted by who follows the source, and gone only after three that agree."""
    digest = fake.push("a:1", image("a"))
    fake.once("GET", "/tags/list", Answer(200, {}, b'{"tags": ["1"]}'), lie)
    source = source_at(fake.host, "a")
    async with watched(source) as watch:
        assert await watch.listing() == ({"a:1": digest}, [], True)
        assert await watch.listing() == ({}, [], True)
        assert await watch.listing() == ({"a:1": digest}, [], True)
    await source.close()


async def test_h065_a_listing_that_continues_elsewhere_is_partial(fake: FakeRegistry) -> None:
    fake.push("a:1", image("a"))
    fake.always("GET", "/tags/list", Answer(200, {"Link": '<http://other.test/>; rel="next"'}, b'{"tags": ["1"]}'))
    source = source_at(fake.host, "a")
    async with watched(source) as watch:
        seen, _, whole = await watch.listing()
    await source.close()
    assert (seen.keys(), whole) == ({"a:1"}, False)


async def test_h071_a_registry_that_was_down_shows_all_its_tags_at_the_next_listing(fake: FakeRegistry, clock: Clock) -> None:
    fake.always("", "", b"no HTTP\r\n\r\n")
    source = source_at(fake.host, clock=clock)
    for _ in range(3):
        async with watched(source) as watch:
            with pytest.raises(SourceError):
                await watch.listing()
    fake.mend()
    for number in range(500):
        fake.put("a", f"t{number}", b'{"n": %d}' % number)
    clock.advance(100)
    async with watched(source) as watch:
        seen, _, whole = await watch.listing()
    await source.close()
    assert (len(seen), whole) == (500, True)


# Resolving


def platforms(*names: str) -> list[Platform]:
    return [Platform(*name.split("/")) for name in names]


@pytest.mark.registry
async def test_an_index_is_an_image_a_platform_or_those_asked_for(server: real.Registry) -> None:
    pair = [image("multi"), image("multi", "linux/arm64")]
    digest = server.push("multi/app:1", pair)
    source = source_at(server.host)
    sighting = Sighting("test", server.host, "multi/app", "1", digest)
    found = await source.resolve(sighting, ())
    assert [str(each.platform) for each in found] == ["linux/amd64", "linux/arm64"]
    assert [each.image_id for each in found] == [each.image_id for each in pair]
    (one,) = await source.resolve(sighting, platforms("linux/arm64"))
    assert (str(one.platform), one.manifest_digest) == ("linux/arm64", sha256(manifest_of(pair[1])[0]))
    with pytest.raises(SourceError, match="linux/s390x") as failure:
        await source.resolve(sighting, platforms("linux/s390x"))
    assert failure.value.code == "no-such-platform"
    await source.close()


async def test_h051_what_a_tag_named_when_it_was_seen_is_resolved_and_what_it_names_now_is_another(
    fake: FakeRegistry,
) -> None:
    old = fake.push("a:1", image("old"))
    new = fake.push("a:1", image("new"))
    source = source_at(fake.host)
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1", old), ())
    assert found.manifest_digest == old
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1"), ())
    assert found.manifest_digest == new
    del fake.manifests["a", old]
    with pytest.raises(SourceError) as failure:
        await source.resolve(Sighting("test", fake.host, "a", "1", old), ())
    assert failure.value.code == "not-found"
    await source.close()


async def test_h051_a_digest_that_head_told_wrongly_is_not_found_and_a_body_that_differs_is_refused(fake: FakeRegistry) -> None:
    true = fake.push("a:1", image("a"))
    other = fake.push("a:2", image("b"))
    fake.always("HEAD", "/manifests/1", Answer(200, {"Docker-Content-Digest": other}))
    source = source_at(fake.host)
    async with watched(source) as watch:
        seen, _, _ = await watch.listing()
    assert seen["a:1"] == other
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1", other), ())
    assert found.manifest_digest == other
    fake.manifests["a", other] = fake.manifests["a", true]
    with pytest.raises(SourceError) as failure:
        await source.resolve(Sighting("test", fake.host, "a", "1", other), ())
    assert failure.value.code == "digest-mismatch"
    await source.close()


async def test_h054_data_in_a_descriptor_is_not_taken_for_the_blob(fake: FakeRegistry) -> None:
    fake.push("a:x", image("a"))
    fields = json.loads(manifest_of(image("a"))[0])
    fields["config"]["data"] = "e30="
    for layer in fields["layers"]:
        layer["data"] = "bm90IHRoZSBsYXllcg=="
    digest = fake.put("a", "1", json.dumps(fields).encode())
    source = source_at(fake.host)
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1", digest), ())
    kept = Kept()
    await source.read(found, [0, 1], kept)
    await source.close()
    assert found.image_id == image("a").image_id
    assert [sha256(kept.blobs[at]) for at in (0, 1)] == [layer["digest"] for layer in fields["layers"]]


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "https://127.0.0.1/", "https://intranet/", "file:///etc/passwd"])
async def test_h052_a_layer_that_is_kept_elsewhere_is_not_asked_for_anywhere(fake: FakeRegistry, url: str) -> None:
    fake.push("a:x", image("a"))
    fields = json.loads(manifest_of(image("a"))[0])
    fields["layers"][1] |= {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": [url]}
    digest = fake.put("a", "1", json.dumps(fields).encode())
    source = source_at(fake.host)
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1", digest), ())
    assert [layer.foreign for layer in found.layers] == [False, True]
    async with Pool(Workers(parallel=1)) as pool:
        (examined,) = await Examiner(Memory(), pool).examine(source, Sighting("test", fake.host, "a", "1", digest))
    await source.close()
    assert examined.outcome == "foreign-layer"
    assert not [each for each in fake.asked("GET", "/blobs/") if fields["layers"][1]["digest"] in each.path]


# Reading


@pytest.mark.registry
async def test_a_layer_that_many_images_share_is_fetched_once(server: real.Registry) -> None:
    """Detect, resolve, read, judge: the straight line over a real registry, its log as witness."""
    names = [f"share/app:{number}" for number in range(6)]
    for number, name in enumerate(names):
        server.push(name, image(f"share{number}"))
    source = source_at(server.host, "share/app")
    async with watched(source) as watch:
        seen, _, _ = await watch.listing()
    async with Pool(Workers(parallel=2)) as pool:
        examiner = Examiner(Memory(), pool)
        for name in names:
            sighting = Sighting("test", server.host, "share/app", name.rpartition(":")[2], seen[name])
            (examined,) = await examiner.examine(source, sighting)
            assert examined.outcome == "done"
            report = json.loads(examined.report)
            assert report["verdict"]["state"] == State.FAILS
            assert report["image_id"] == examined.image.image_id
    await source.close()
    blobs = [each.path.rpartition("/")[2] for each in server.requests("GET", "/v2/share/app/blobs/")]
    assert len(blobs) == len(set(blobs))
    assert len(blobs) == 6 * 2 + 1  # a config and a layer each, and the base
    assert len(server.requests("GET", "/v2/share/app/manifests/")) == 6


@pytest.mark.registry
async def test_h050_a_layer_that_rotted_in_the_registry_is_told_and_leaves_other_images_alone(server: real.Registry) -> None:
    broken, healthy = Image(layers=(tar_of({"etc/rot": "x" * 5000}),), entrypoint=["/x"]), image("healthy")
    sightings = [
        Sighting("test", server.host, "rot/app", tag, server.push(f"rot/app:{tag}", which))
        for tag, which in (("broken", broken), ("healthy", healthy))
    ]
    layer = json.loads(manifest_of(broken)[0])["layers"][0]["digest"]
    path = server.blob_path(layer)
    data = path.read_bytes()
    source = source_at(server.host, "rot/app")
    async with Pool(Workers(parallel=1)) as pool:
        examiner = Examiner(Memory(), pool)
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(SourceError) as failure:
            await examiner.examine(source, sightings[0])
        assert (failure.value.code, failure.value.temporary) == ("digest-mismatch", True)
        (examined,) = await examiner.examine(source, sightings[1])
        assert examined.outcome == "done"
        path.write_bytes(data)
        (examined,) = await examiner.examine(source, sightings[0])
        assert examined.outcome == "done"
    await source.close()


async def test_when_one_layer_fails_the_reading_of_the_others_has_ended(fake: FakeRegistry, clock: Clock) -> None:
    """The caller may then read them again: no stream of the first reading is still writing."""
    fake.push("a:1", image("a"))
    first, second = (layer["digest"] for layer in json.loads(manifest_of(image("a"))[0])["layers"])

    async def stall(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n.")
        await asyncio.sleep(1000)

    fake.always("GET", f"/blobs/{second}", stall)
    fake.always("GET", f"/blobs/{first}", error(404))
    source = source_at(fake.host, clock=clock)
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1"), ())
    ended: list[int] = []

    class Slow(Kept):
        async def blob(self, index: int, chunks: AsyncIterator[bytes]) -> None:
            try:
                await super().blob(index, chunks)
            finally:
                await asyncio.sleep(0.05)  # as a worker that is told to stop
                ended.append(index)

    with pytest.raises(SourceError):
        await source.read(found, [0, 1], Slow())
    await source.close()
    assert sorted(ended) == [0, 1]


async def test_events_of_a_source_are_hints_by_name(fake: FakeRegistry) -> None:
    digest = fake.push("a/b:1", image("a"))
    source = source_at(fake.host)
    async with watched(source) as watch:
        assert await watch.next() == (EventKind.APPEARED, "a/b:1")
    (found,) = await source.resolve(Sighting("test", fake.host, "a/b", "1", digest), ())
    await source.close()
    assert found.sighting == Sighting("test", fake.host, "a/b", "1", digest)
    assert found.compressed_bytes == sum(layer.size_bytes for layer in found.layers) > 0
    assert isinstance(found.config.diff_ids, tuple)
