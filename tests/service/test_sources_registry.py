"""A registry as a source, against Debian's docker-registry: what is noticed, what it costs, and what is no image."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from analyzers.errors import Rejected
from analyzers.finding import State
from analyzers.oci import Platform
from service.errors import NotAnImage, SourceError
from service.memory import Memory
from service.outbound import HostPolicy, Outbound
from service.pipeline import Examiner
from service.registry.client import RegistryClient
from service.settings import Workers
from service.sources import EventKind, Sighting
from service.sources.registry import RegistrySource
from service.sources.settings import RegistrySettings
from service.worker import Pool
from tests import registry as real
from tests.conftest import absent
from tests.fakes.clock import Clock
from tests.fakes.registry import FakeRegistry, error, serving
from tests.fakes.server import Answer
from tests.fakes.sink import Kept
from tests.make.images import CONFIG, INDEX, MANIFEST, Image, index_of, manifest_of
from tests.make.layers import script, sha256, tar_of
from tests.service.clients import Keyring
from tests.service.watching import watched

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})
ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


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


def source_at(
    host: str, *repositories: str, tags: Sequence[str] = ("*",), clock: Clock | None = None, poll_seconds: float = 0.01
) -> RegistrySource:
    settings = RegistrySettings(
        host=host, name="test", repositories=repositories, tags=tuple(tags), poll_seconds=poll_seconds
    )  # fmt: skip
    outbound = Outbound(HostPolicy([host]))
    clock = clock or Clock()
    client = RegistryClient(settings, outbound, Keyring(), clock=clock, sleep=clock.sleep)
    return RegistrySource(settings, outbound, client)


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


def put_index(fake: FakeRegistry, children: Sequence[dict[str, object]]) -> Sighting:
    digest = fake.put("a", "1", json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode(), INDEX)
    return Sighting("test", fake.host, "a", "1", digest)


def child(fake: FakeRegistry, body: bytes, media_type: str = MANIFEST, **more: object) -> dict[str, object]:
    fake.put("a", sha256(body), body, media_type)
    return {"mediaType": media_type, "digest": sha256(body), "size": len(body), **more}


def artifact(config_type: str, layer_type: str, artifact_type: str = "") -> bytes:
    def descriptor(media_type: str, data: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    fields: dict[str, object] = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config_type, b"{}"),
        "layers": [descriptor(layer_type, b"x")],
    }  # fmt: skip
    return json.dumps(fields | ({"artifactType": artifact_type} if artifact_type else {})).encode()


IN_TOTO = artifact("application/vnd.oci.empty.v1+json", "application/vnd.in-toto+json")
ARTIFACTS = {
    "signature": artifact(CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"),
    "attestation": artifact(CONFIG, "application/vnd.in-toto+json"),
    "sbom": artifact("application/vnd.oci.empty.v1+json", "application/spdx+json", "application/spdx+json"),
    "chart": artifact("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
    "build cache": artifact("application/vnd.buildkit.cacheconfig.v0", "application/vnd.oci.image.layer.v1.tar+gzip"),
    "unknown": artifact("application/x-\x1b[31m", "application/octet-stream"),
}


@pytest.mark.parametrize("kind", ARTIFACTS)
async def test_h055_what_is_no_image_says_so_and_is_not_tried_again(fake: FakeRegistry, kind: str) -> None:
    digest = fake.put("a", "1", ARTIFACTS[kind])
    source = source_at(fake.host)
    with pytest.raises(NotAnImage) as refusal:
        await source.resolve(Sighting("test", fake.host, "a", "1", digest), ())
    await source.close()
    assert not refusal.value.temporary
    assert str(refusal.value).isprintable()
    assert not fake.asked("GET", "/blobs/")


async def test_h055_attestations_beside_an_image_are_passed_over_whether_marked_or_not(fake: FakeRegistry) -> None:
    wanted = manifest_of(image("a"))[0]
    fake.push("a:x", image("a"))
    unknown = {"os": "unknown", "architecture": "unknown"}
    sighting = put_index(
        fake,
        [
            child(fake, IN_TOTO, annotations=ATTESTATION),
            child(fake, IN_TOTO + b" ", platform=unknown),
            child(fake, IN_TOTO + b"  "),
            child(fake, wanted, platform={"os": "linux", "architecture": "amd64"}),
        ],
    )
    source = source_at(fake.host)
    (found,) = await source.resolve(sighting, ())
    await source.close()
    assert found.manifest_digest == sha256(wanted)
    asked = [each.path.rpartition("/")[2] for each in fake.asked("GET", "/manifests/")]
    assert sha256(IN_TOTO) not in asked
    assert sha256(IN_TOTO + b" ") not in asked


async def test_h055_an_index_of_artifacts_alone_is_no_image(fake: FakeRegistry) -> None:
    source = source_at(fake.host)
    for children in ([], [child(fake, IN_TOTO)], [child(fake, IN_TOTO, annotations=ATTESTATION)]):
        with pytest.raises(NotAnImage):
            await source.resolve(put_index(fake, children), ())
    await source.close()


async def test_h056_windows_beside_linux_is_passed_over_and_alone_is_unsupported(fake: FakeRegistry) -> None:
    fake.push("a:x", image("a"))
    windows = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}
    foreign = child(fake, manifest_of(image("a"))[0] + b" ", platform=windows)
    linux = child(fake, manifest_of(image("a"))[0], platform={"os": "linux", "architecture": "amd64"})
    source = source_at(fake.host)
    (found,) = await source.resolve(put_index(fake, [foreign, linux]), ())
    assert str(found.platform) == "linux/amd64"
    with pytest.raises(Rejected, match="windows/amd64") as refusal:
        await source.resolve(put_index(fake, [foreign]), ())
    assert refusal.value.code == "unsupported"
    await source.close()


async def test_h047_indexes_are_walked_four_deep_and_a_thousand_wide_and_no_further(fake: FakeRegistry) -> None:
    fake.push("a:x", image("a"))
    body = index_of({"linux/amd64": manifest_of(image("a"))[0]})
    source = source_at(fake.host)
    for depth in range(1, 9):
        sighting = put_index(fake, [child(fake, body, INDEX)])
        body = fake.manifests["a", "1"][0]
        if depth < 4:
            assert len(await source.resolve(sighting, ())) == 1
        else:
            with pytest.raises(Rejected, match="nested deeper"):
                await source.resolve(sighting, ())
    empty = [child(fake, b'{"manifests": [], "n": %d}' % number, INDEX) for number in range(2000)]
    indexes = [json.dumps({"manifests": empty[start : start + 100]}).encode() for start in range(0, 2000, 100)]
    with pytest.raises(Rejected, match="1000 manifests"):
        await source.resolve(put_index(fake, [child(fake, each, INDEX) for each in indexes]), ())
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
    fake.always("GET", f"/blobs/{json.loads(manifest_of(image('a'))[0])['layers'][0]['digest']}", error(404))
    source = source_at(fake.host, clock=clock)
    (found,) = await source.resolve(Sighting("test", fake.host, "a", "1"), ())
    ended: list[int] = []

    class Slow(Kept):
        async def blob(self, index: int, chunks: AsyncIterator[bytes]) -> None:
            try:
                await super().blob(index, chunks)
            finally:
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
