"""A BuildKit as a source: an engine's real one, dialled as a standalone one is, and a fake one for what that does not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from analyzers.finding import State
from analyzers.oci import Platform
from service.errors import SourceError
from service.memory import Memory
from service.pipeline import Examined, Examiner
from service.rpc.dialling import Channel, dial
from service.settings import Workers
from service.sources import EventKind, ImageEvent, ImageSource, Sighting
from service.sources.build import registry_source
from service.sources.buildkit import UNTAGGED, BuildkitSource
from service.sources.contents import Registries
from service.sources.settings import BuildkitSettings, RegistrySettings
from service.worker import Pool
from tests.buildkit import MESSAGES, SOLVE, UPDATE, Standalone, buildx, solve_request, standalone
from tests.conftest import absent
from tests.engine import Engine, EngineAbsent, started
from tests.fakes.buildkit import DELETED, FakeBuildkit, buildkit_at
from tests.fakes.sink import Kept
from tests.make.certificates import Authority
from tests.make.images import Image
from tests.make.layers import script, sha256, tar_of
from tests.registry import Registry
from tests.service.parts import assembled
from tests.service.watching import watched

BROKEN = b"#!/opt/none\n"
DOCKERFILE = b'FROM scratch\nCOPY run /bin/run\nENTRYPOINT ["/bin/run"]\n'
BUILDS = 300
AT_ONCE = 30


def image(name: str) -> Image:
    return Image(layers=(tar_of({"bin/run": script("#!/opt/none\n"), "etc/name": name}),), entrypoint=["/bin/run"])


def source_of(address: str, *registries: RegistrySettings, poll_seconds: float = 60.0, **more: str) -> BuildkitSource:
    settings = BuildkitSettings(address=address, name="test", poll_seconds=poll_seconds, **more)
    return BuildkitSource(settings, Registries(lambda: registries, registry_source))


async def failure_of(call: object) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await call
    return failure.value


async def examined_of(source: BuildkitSource, digest: str) -> Examined:
    async with Pool(Workers(parallel=1)) as pool:
        (examined,) = await Examiner(Memory(), pool).examine(source, Sighting("test", "buildkit", UNTAGGED, "", digest))
    return examined


async def told_of(source: BuildkitSource, digest: str, kind: EventKind = EventKind.APPEARED) -> ImageEvent:
    """The event of this digest."""
    async with asyncio.timeout(60):
        async with contextlib.aclosing(source.events()) as events:
            async for event in events:
                if event.kind is kind and event.sighting is not None and event.sighting.digest == digest:
                    return event
    raise AssertionError("the events ended")


# A real BuildKit


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of this file's own, whose images are in containerd: its history is looked at as a whole."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(started({"features": {"containerd-snapshotter": True}}, in_memory=True))
        except EngineAbsent as error:
            absent(str(error))
        yield running


@pytest.fixture
def builder(engine: Engine, tmp_path: Path) -> Iterator[Standalone]:
    with standalone(engine, tmp_path) as running:
        yield running


@pytest.mark.docker
async def test_a_build_is_judged_from_the_builder_s_own_store_and_names_itself(builder: Standalone) -> None:
    """With its provenance, which is an image of no platform in the index, and which nobody is told of."""
    made = buildx(builder.engine, {"Dockerfile": DOCKERFILE, "run": BROKEN}, "-t", "own/app:1")
    source = source_of(builder.address)
    event = await told_of(source, made["containerimage.digest"])
    assert event.build is not None
    assert event.build.ref == made["buildx.build.ref"].rpartition("/")[2]
    examined = await examined_of(source, made["containerimage.digest"])
    await source.close()
    verdict = json.loads(examined.report)["verdict"]
    assert (verdict["state"], str(examined.image.platform)) == (State.FAILS, "linux/amd64")
    assert examined.image.manifest_digest != made["containerimage.digest"]
    assert examined.layers_read == 1
    assert verdict["message"].splitlines()[0] in builder.engine.run("own/app:1").stderr


@pytest.mark.docker
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed", "estargz"])
async def test_a_layer_is_read_however_it_was_exported(builder: Standalone, compression: str) -> None:
    output = f"type=image,name=own/{compression}:1,compression={compression},force-compression=true,oci-mediatypes=true"
    made = buildx(builder.engine, {"Dockerfile": DOCKERFILE, "run": BROKEN + compression.encode()}, "--output", output)
    source = source_of(builder.address)
    examined = await examined_of(source, made["containerimage.digest"])
    await source.close()
    (layer,) = examined.image.layers
    kinds = {"gzip": "tar+gzip", "estargz": "tar+gzip", "zstd": "tar+zstd", "uncompressed": "tar"}
    assert layer.media_type.endswith(f".{kinds[compression]}")
    assert json.loads(examined.report)["verdict"]["state"] == State.FAILS


@pytest.mark.docker
async def test_a_build_that_fails_has_no_image_and_one_deleted_from_the_history_leaves(builder: Standalone) -> None:
    buildx(builder.engine, {"Dockerfile": b"FROM scratch\nCOPY absent /\n"}, check=False)
    made = buildx(builder.engine, {"Dockerfile": DOCKERFILE, "run": BROKEN + b"leaves"})
    digest, ref = made["containerimage.digest"], made["buildx.build.ref"].rpartition("/")[2]
    source = source_of(builder.address)
    async with watched(source, 60) as watch:
        seen, _, whole = await watch.listing()
        assert whole
        assert digest in seen.values()  # builds without a name share their key here; the last counts
        channel = dial(builder.address, "test")
        await channel.ask(UPDATE, MESSAGES["UpdateRequest"](ref=ref, delete=True), MESSAGES["Nothing"])
        await channel.close()
        await watch.until(EventKind.GONE, f"{UNTAGGED}:")
    await source.close()


@pytest.mark.docker
async def test_a_builder_behind_certificates_is_watched_by_who_has_one(engine: Engine, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.server("127.0.0.1")
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = context.verify_mode.CERT_REQUIRED
    cert, key = authority.client("enoent")
    made = buildx(engine, {"Dockerfile": DOCKERFILE, "run": BROKEN + b"tls"})
    with standalone(engine, tmp_path, context) as running:
        source = source_of(running.address, ca=str(authority.ca_file), cert=str(cert), key=str(key))
        examined = await examined_of(source, made["containerimage.digest"])
        await source.close()
        assert examined.outcome == "done"
        stranger = source_of(running.address, ca=str(authority.ca_file))
        told = await failure_of(told_of(stranger, made["containerimage.digest"]))
        await stranger.close()
        assert told.code in ("tls", "unreachable")
        absent_file = source_of(running.address, ca=str(tmp_path / "absent.pem"))
        assert "absent.pem" in str(await failure_of(told_of(absent_file, "")))


@pytest.mark.docker
async def test_h109_a_build_that_ends_while_contact_is_lost_is_caught_up_with(builder: Standalone) -> None:
    source = source_of(builder.address)
    async with watched(source, 60) as watch:
        await watch.listing()
        builder.close()
        told = await failure_of(_forever(watch))
        assert told.temporary
    made = buildx(builder.engine, {"Dockerfile": DOCKERFILE, "run": BROKEN + b"meanwhile"})
    builder.open()
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await told_of(source, made["containerimage.digest"])).build is not None
                break
            except SourceError:
                await asyncio.sleep(0.1)  # a channel pauses between two attempts
    await source.close()


async def _forever(watch: object) -> None:
    while True:
        await watch.next()  # type: ignore[attr-defined]


@pytest.mark.docker
async def test_three_hundred_builds_at_once_all_have_their_verdict(builder: Standalone, tmp_path: Path) -> None:
    channel = Channel(f"unix:{builder.address.removeprefix('unix://')}", "test")
    slots = asyncio.Semaphore(AT_ONCE)

    async def build(number: int) -> None:
        async with slots:
            await channel.ask(SOLVE, solve_request(f"many{number}", f"own/many:{number}", BROKEN), MESSAGES["Nothing"])

    async with assembled(tmp_path / "state") as parts:
        follower = parts.follower(source_of(builder.address, poll_seconds=2.0))
        following = asyncio.create_task(follower.follow())
        async with asyncio.TaskGroup() as group:
            for number in range(BUILDS):
                group.create_task(build(number))

        def refs() -> set[str]:
            return {row.build.ref for row in parts.fleet.rows() if row.build is not None}

        async with asyncio.timeout(120):
            while not {f"many{number}" for number in range(BUILDS)} <= refs():  # noqa: ASYNC110 - rows ring no bell
                await asyncio.sleep(0.05)
        following.cancel()
        await parts.work_off()
        rows = [row for row in parts.fleet.rows() if row.build is not None and row.build.ref.startswith("many")]
        assert len(rows) == BUILDS
        assert {row.state for row in rows} == {State.FAILS}
        await follower.source.close()
    await channel.close()


# A fake BuildKit


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeBuildkit]:
    async with buildkit_at(tmp_path) as running:
        yield running


async def test_every_name_of_a_build_shows_it_and_the_last_build_of_a_name_counts(fake: FakeBuildkit) -> None:
    """Records come sorted by their random refs, not by time (sources.md 1.4)."""
    old, new, other = (fake.keep(image(name)) for name in ("old", "new", "other"))
    fake.records = [
        fake.built("a", new, "shop/api:1,registry.example/shop/api:latest", at=20, frontend="dockerfile.v0"),
        fake.built("b", old, "shop/api:1", at=10),
        fake.built("c", other, "registry.example/shop/other", attrs={"push-by-digest": "true"}),
        fake.built("d", other, "UPPER case"),
        fake.built("e", ""),
        fake.built("f", old, "shop/failed:1", error={"code": 2, "message": "failed to solve"}),
    ]
    source = source_of(fake.address)
    async with watched(source) as watch:
        seen, _, whole = await watch.listing()
    await source.close()
    assert whole
    assert seen == {"shop/api:1": new, "shop/api:latest": new, "shop/other:": other, f"{UNTAGGED}:": other}


async def test_what_a_build_was_made_from_is_told_without_secrets(fake: FakeBuildkit) -> None:
    digest = fake.keep(image("a"))
    attrs = {"vcs:source": "https://ann:s3cret@git.example/shop/api.git?token=s3cret", "vcs:revision": "abc"}
    attrs["build-arg:KEY"] = "s3cret"
    fake.records = [fake.built("a", digest, "shop/api:1", frontend="dockerfile.v0", frontend_attrs=attrs)]
    source = source_of(fake.address)
    build = (await told_of(source, digest)).build
    await source.close()
    assert build is not None
    assert (build.frontend, build.source) == ("dockerfile.v0", "https://git.example/shop/api.git#abc")


async def test_h106_builds_told_twice_in_reverse_or_while_the_listing_is_made_end_in_the_same_state(fake: FakeBuildkit) -> None:
    digests = {name: fake.keep(image(name)) for name in ("one", "two", "three")}
    builds = [fake.built(name, digest, f"shop/{name}:1", at=at) for at, (name, digest) in enumerate(digests.items())]
    fake.records = builds[:1]

    def meanwhile() -> None:
        """After the history was looked up and before the answer is there: a build ends, and the first is deleted."""
        fake.listing = lambda: None
        fake.tell(builds[1])
        fake.tell(fake.built("one", ""), DELETED)

    fake.listing = meanwhile
    source = source_of(fake.address)
    shown: dict[str, str] = {}
    async with asyncio.timeout(30), contextlib.aclosing(source.events()) as events:
        async for event in events:
            if event.sighting is not None and event.kind is EventKind.APPEARED:
                shown[event.sighting.repository] = event.sighting.digest
            elif event.sighting is not None:
                shown.pop(event.sighting.repository, None)
            elif "shop/two" in shown:
                for build in (builds[2], builds[1], builds[2], builds[1]):
                    fake.tell(build)
            if shown == {"shop/two": digests["two"], "shop/three": digests["three"]}:
                break
    await source.close()


@pytest.mark.registry
async def test_a_layer_that_the_builder_never_had_is_read_from_the_registry_that_is_configured(
    fake: FakeBuildkit, registry: Registry
) -> None:
    """A base that was never unpacked is not there: it went from registry to registry (sources.md 1.5)."""
    wanted = image("lazy")
    registry.push("lazy/app:1", wanted)
    digest = fake.keep(wanted)
    (found,) = await source_of(fake.address).resolve(Sighting("test", registry.host, "lazy/app", "1", digest), ())
    assert isinstance(found, ImageSource)
    layer = found.layers[0].digest
    del fake.blobs[layer]
    source = source_of(fake.address, RegistrySettings(host=registry.host))
    kept = Kept()
    await source.read(found, [0], kept)
    await source.close()
    assert sha256(kept.blobs[0]) == layer
    stranger = source_of(fake.address)
    told = await failure_of(stranger.read(found, [0], Kept()))
    await stranger.close()
    assert (told.code, layer in str(told)) == ("layers-missing", True)


@pytest.mark.registry
async def test_an_image_whose_documents_were_pruned_is_read_from_the_registry(fake: FakeBuildkit, registry: Registry) -> None:
    wanted = image("pruned")
    digest = registry.push("pruned/app:1", wanted)
    sighting = Sighting("test", registry.host, "pruned/app", "1", digest)
    source = source_of(fake.address, RegistrySettings(host=registry.host))
    (found,) = await source.resolve(sighting, [Platform("linux", "amd64")])
    assert isinstance(found, ImageSource)
    assert found.image_id == wanted.image_id
    await source.close()
    stranger = source_of(fake.address)
    assert (await failure_of(stranger.resolve(sighting, ()))).code == "not-found"
    await stranger.close()


async def test_bytes_of_another_digest_are_not_believed(fake: FakeBuildkit) -> None:
    digest = fake.keep(image("true"))
    source = source_of(fake.address)
    (found,) = await source.resolve(Sighting("test", "buildkit", UNTAGGED, "", digest), ())
    assert isinstance(found, ImageSource)
    layer = found.layers[0].digest
    for wrong, code in ((bytes(found.layers[0].size_bytes), "digest-mismatch"), (bytes(9_000_000), "size-mismatch")):
        fake.blobs[layer] = wrong
        assert (await failure_of(source.read(found, [0], Kept()))).code == code
    fake.blobs[digest] = b"{}"
    assert (await failure_of(source.resolve(found.sighting, ()))).code == "digest-mismatch"
    await source.close()


async def test_a_builder_too_old_for_a_history_is_said_to_be(fake: FakeBuildkit) -> None:
    fake.refused = grpc.StatusCode.UNIMPLEMENTED
    source = source_of(fake.address)
    told = await failure_of(told_of(source, ""))
    await source.close()
    assert (told.code, told.temporary) == ("unsupported", False)


async def test_a_builder_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    source = source_of(f"unix://{tmp_path}/absent.sock")
    told = await failure_of(told_of(source, ""))
    await source.close()
    assert (told.code, told.temporary) == ("unreachable", True)


@pytest.mark.parametrize("kept_oldest", [False, True])
async def test_h109_a_history_pruned_while_contact_was_lost_is_a_gap_that_is_stated(
    fake: FakeBuildkit, tmp_path: Path, kept_oldest: bool
) -> None:
    """Where an older build is still there nothing newer was pruned, and nothing is stated."""
    old = fake.built("old", fake.keep(image("old")), "shop/old:1", at=1_000)
    gone = fake.built("gone", fake.keep(image("gone")), "shop/gone:1", at=1_001)
    new = fake.built("new", fake.keep(image("new")), "shop/new:1", at=2_000_000)
    fake.records = [old, gone]
    for number, records in enumerate(([old, gone], [*([old] if kept_oldest else []), new])):
        fake.records = records
        async with assembled(tmp_path / "state") as parts:
            parts.clock.now += number * 2_000_000
            follower = parts.follower(source_of(fake.address))
            following = asyncio.create_task(follower.follow())
            if number:
                # As the daemon does at its start: what is stored is shown until the source has spoken.
                await parts.ledger.recall(["test"], parts.examiner.profile)
            async with asyncio.timeout(30):
                while not follower.status.up:  # noqa: ASYNC110 - a status rings no bell
                    await asyncio.sleep(0.01)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await follower.source.close()
            names = {row.repository for row in parts.fleet.rows()}
            remark = follower.status.remark
    assert names == {"shop/new", *(["shop/old"] if kept_oldest else [])}
    assert ("gone" in remark) is not kept_oldest
