"""Examination: each layer is read once, nothing unverified is kept, and new rules need no network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzers.errors import Rejected
from analyzers.finding import Report, State
from analyzers.oci import Platform
from analyzers.profile import HostProfile
from analyzers.start import Overrides
from service import pipeline
from service.errors import SourceError, WorkerDied
from service.memory import Memory
from service.pipeline import Examined, Examiner, report_key
from service.settings import StateSettings, Workers
from service.sources import ImageSource, LayerSink, Sighting
from service.store import Store
from service.worker import Pool
from tests.fakes.source import MemorySource
from tests.make.images import Image
from tests.make.layers import program, script, tar_of

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/data": program(os.urandom(200_000))})


def image(
    name: str = "app", *, entrypoint: str = "/bin/run", layers: tuple[bytes, ...] = (BASE,), platform: str = "linux/amd64"
) -> Image:
    own = tar_of({"bin/run": script("#!/opt/none\n"), f"etc/{name}": name})
    return Image(layers=(*layers, own), entrypoint=["/bin/run"], platform=platform)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(Workers(parallel=2)) as pool:
        yield pool


@pytest.fixture(params=["memory", "store"])
async def examiner(request: pytest.FixtureRequest, pool: Pool, tmp_path: Path) -> AsyncIterator[Examiner]:
    if request.param == "memory":
        yield Examiner(Memory(), pool)
        return
    store = await Store.open(StateSettings(dir=str(tmp_path), min_free_bytes=0))
    yield Examiner(store, pool)
    await store.close()


def report_of(examined: Examined) -> Report:
    return msgspec.json.decode(examined.report, type=Report)


async def test_an_image_is_examined_from_its_name_to_its_report(examiner: Examiner) -> None:
    source = MemorySource()
    told: list[tuple[int, int, int, str]] = []
    (examined,) = await examiner.examine(
        source, source.put("1", image()), progress=lambda index, _, done, total, state: told.append((index, done, total, state))
    )
    assert examined.outcome == "done"
    assert report_of(examined).verdict.state is State.FAILS
    assert report_of(examined).image_id == image().image_id
    assert (examined.layers_read, examined.image.compressed_bytes) == (2, examined.bytes_read)
    for index, layer in enumerate(examined.image.layers):
        states = [state for at, _, _, state in told if at == index]
        assert states[0] == "reading"
        assert (index, layer.size_bytes, layer.size_bytes, "done") in told


async def test_an_image_known_already_is_neither_read_nor_judged_again(examiner: Examiner) -> None:
    source = MemorySource()
    first = await examiner.examine(source, source.put("1", image()))
    busy = examiner.pool.stats.started
    states: list[str] = []
    second = await examiner.examine(source, source.put("2", image()), progress=lambda *told: states.append(told[4]))
    assert second[0].report == first[0].report
    assert second[0].layers_read == 0
    assert states == ["known", "known"]
    assert max(source.reads.values()) == 1
    assert examiner.pool.stats.started == busy


async def test_a_layer_that_arrives_ten_times_together_is_read_once(examiner: Examiner) -> None:
    source = MemorySource()
    source.pause = 0.01
    sightings = [source.put(str(number), image(str(number))) for number in range(10)]
    found = await asyncio.gather(*(examiner.examine(source, sighting) for sighting in sightings))
    assert len(source.reads) == 11
    assert set(source.reads.values()) == {1}
    assert sum(examined.layers_read for (examined,) in found) == 11
    assert {report_of(examined).verdict.state for (examined,) in found} == {State.FAILS}


async def test_a_layer_that_lands_between_the_look_at_it_and_the_claim_is_not_read_again(pool: Pool) -> None:
    class Late(Memory):
        """Its second look of all takes as long as the first image's whole examination."""

        looks = 0
        looking = asyncio.Event()
        landed = asyncio.Event()

        async def diff_id_of(self, blob_digest: str) -> str:
            self.looks += 1
            if self.looks == 2:
                self.looking.set()
                await self.landed.wait()
            return await super().diff_id_of(blob_digest)

    source, memory = MemorySource(), Late()
    examiner = Examiner(memory, pool)
    second = asyncio.create_task(examiner.examine(source, source.put("2", image("two"))))
    await memory.looking.wait()
    await examiner.examine(source, source.put("1", image("one")))
    memory.landed.set()
    await second
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == 3


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stacks=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=2, max_size=10),
    pause=st.sampled_from([0.0, 0.002]),
)
async def test_any_images_together_read_each_layer_once(pool: Pool, stacks: list[list[int]], pause: float) -> None:
    source, examiner = MemorySource(), Examiner(Memory(), pool)
    source.pause = pause
    tars = [tar_of({f"f{number}": str(number)}) for number in range(6)]
    sightings = [
        source.put(str(at), Image(layers=tuple(tars[number] for number in stack), entrypoint=["/f0"]))
        for at, stack in enumerate(stacks)
    ]
    found = await asyncio.gather(*(examiner.examine(source, sighting) for sighting in sightings))
    assert {examined.outcome for (examined,) in found} == {"done"}
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == len({number for stack in stacks for number in stack})


async def test_when_the_reader_of_a_shared_layer_is_cancelled_another_image_reads_it(examiner: Examiner) -> None:
    source = MemorySource()
    source.pause = 0.2
    first = asyncio.create_task(examiner.examine(source, source.put("1", image("a"))))
    await asyncio.sleep(0.3)
    second = asyncio.create_task(examiner.examine(source, source.put("2", image("b"))))
    await asyncio.sleep(0.1)
    first.cancel()
    (examined,) = await second
    assert examined.outcome == "done"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_new_rules_judge_stored_facts_without_the_source(examiner: Examiner, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource()
    (old,) = await examiner.examine(source, source.put("1", image()))
    monkeypatch.setattr(pipeline, "RULES_VERSION", "start-99")
    source.down = True
    new = await examiner.judge_again(old.image)
    assert new is not None
    assert new.report_key != old.report_key
    assert report_of(new).verdict == report_of(old).verdict
    assert max(source.reads.values()) == 1


async def test_judging_again_is_declined_when_facts_are_gone(examiner: Examiner, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource()
    (old,) = await examiner.examine(source, source.put("1", image()))
    await examiner.memory.forget_layer(old.layers[0])
    assert await examiner.judge_again(old.image) is None


async def test_overrides_give_a_report_of_their_own(examiner: Examiner) -> None:
    source = MemorySource()
    sighting = source.put("1", image())
    (plain,) = await examiner.examine(source, sighting)
    (other,) = await examiner.examine(source, sighting, overrides=Overrides(entrypoint=("/absent",)))
    assert plain.report_key != other.report_key
    assert "/absent" in report_of(other).verdict.message
    (again,) = await examiner.examine(source, sighting)
    assert again.report == plain.report


async def test_every_platform_is_examined_or_those_asked_for(examiner: Examiner) -> None:
    source = MemorySource()
    sighting = source.put("1", image(), image(platform="linux/arm64"))
    found = await examiner.examine(source, sighting)
    assert [str(examined.image.platform) for examined in found] == ["linux/amd64", "linux/arm64"]
    (one,) = await examiner.examine(source, sighting, [Platform("linux", "arm64")])
    assert str(one.image.platform) == "linux/arm64"


async def test_h050_bytes_that_are_not_what_was_asked_for_leave_nothing_behind(examiner: Examiner) -> None:
    source = MemorySource()
    sighting = source.put("1", image())
    source.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(SourceError) as failure:
        await examiner.examine(source, sighting)
    assert failure.value.code == "digest-mismatch"
    source.spoil = None
    (examined,) = await examiner.examine(source, sighting)
    assert examined.outcome == "done"


async def test_h037_a_corrupt_layer_that_is_what_was_asked_for_is_final_and_not_read_twice(examiner: Examiner) -> None:
    source = MemorySource(compression="plain")
    broken = Image(layers=(BASE, b"this is no tar" * 100), entrypoint=["/bin/run"])
    for tag in ("1", "2"):
        (examined,) = await examiner.examine(source, source.put(tag, broken))
        assert examined.outcome not in ("done", "")
        assert examined.report == b""
    assert set(source.reads.values()) == {1}


async def test_h097_a_worker_s_death_is_told_and_another_image_is_not_touched(examiner: Examiner) -> None:
    source = MemorySource()
    poison, healthy = source.put("poison", image("poison", layers=())), source.put("healthy", image("healthy"))

    (examined,) = await examiner.examine(source, healthy)
    source.pause = 1.0
    task = asyncio.create_task(examiner.examine(source, poison))
    await asyncio.sleep(0.3)
    source.pause = 0.0
    for process in list(examiner.pool._busy):
        process.child.kill()
    with pytest.raises(WorkerDied, match="signal-9"):
        await task
    assert examined.outcome == "done"
    (late,) = await examiner.examine(source, poison)
    assert late.outcome == "done"


async def test_a_name_that_is_not_there_is_not_tried_again(examiner: Examiner) -> None:
    with pytest.raises(SourceError) as failure:
        await examiner.examine(MemorySource(), Sighting("memory", "registry.test", "app", "absent"))
    assert not failure.value.temporary


async def test_facts_that_cannot_be_read_are_dropped_and_read_again(pool: Pool) -> None:
    memory = Memory()
    source, examiner = MemorySource(), Examiner(memory, pool)
    sighting = source.put("1", image())
    (examined,) = await examiner.examine(source, sighting)
    layer, version, _ = memory._layers[examined.layers[0]]
    memory._layers[examined.layers[0]] = (layer, version, {"entries": [b"damaged"]})
    memory._reports.clear()
    async with Pool(Workers(parallel=1)) as cold:
        fresh = Examiner(memory, cold)
        with pytest.raises(SourceError, match="cannot be read"):
            await fresh.examine(source, sighting)
        (again,) = await fresh.examine(source, sighting)
    assert again.report == examined.report


async def test_a_foreign_layer_is_never_fetched(examiner: Examiner) -> None:
    source = MemorySource()
    sighting = source.put("1", image())
    (found,) = await source.resolve(sighting, ())
    layers = (msgspec.structs.replace(found.layers[0], foreign=True), *found.layers[1:])
    examined = await examiner.examine_image(source, msgspec.structs.replace(found, layers=layers))
    assert examined.outcome == "foreign-layer"
    assert not source.reads


def test_a_report_is_named_by_all_it_depends_on() -> None:
    named = report_key("id", ["a", "b"], HostProfile(), None)
    assert named == report_key("id", ["a", "b"], HostProfile(), Overrides())
    others = [
        report_key("other", ["a", "b"], HostProfile(), None),
        report_key("id", ["b", "a"], HostProfile(), None),
        report_key("id", ["a", "b"], HostProfile(runc_version=(1, 2)), None),
        report_key("id", ["a", "b"], HostProfile(), Overrides(user="1")),
    ]
    assert len({named, *others}) == 5


async def test_a_refusal_is_told_as_rejected_when_the_name_itself_is_at_fault(examiner: Examiner) -> None:
    class Refusing(MemorySource):
        async def resolve(self, *_: object) -> list[object]:  # type: ignore[override]
            raise Rejected("ambiguous-manifest", "two keys")

    with pytest.raises(Rejected):
        await examiner.examine(Refusing(), Sighting("memory", "r", "a", "1"))


async def test_a_layer_that_vanishes_while_it_is_read_is_taken_from_another_place(examiner: Examiner) -> None:
    """BuildKit and containerd open blobs by digest and may lose one in the middle (sources.md 1.5, 4.1): the source tries its
    next opener with the same sink, gives layers in any order, and may give one twice.
    """

    class Losing(MemorySource):
        async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
            async def lost(digest: str) -> AsyncIterator[bytes]:
                async for piece in self._pieces(digest):
                    yield piece[:100]
                    raise SourceError("collected meanwhile", code="not-found")

            for index in sorted(wanted, reverse=True):
                digest = image.layers[index].digest
                with pytest.raises(SourceError, match="collected meanwhile"):
                    await sink.blob(index, lost(digest))
                await sink.blob(index, self._pieces(digest))
            await sink.blob(min(wanted), self._pieces(image.layers[min(wanted)].digest))

    source = Losing()
    (examined,) = await examiner.examine(source, source.put("1", image()))
    assert (examined.outcome, examined.layers_read) == ("done", 2)
    (again,) = await examiner.examine(source, source.put("2", image()))
    assert again.layers_read == 0


async def test_a_layer_that_a_source_does_not_have_is_its_failure_and_a_later_source_heals_it(examiner: Examiner) -> None:
    """Base layers that a builder never unpacked: another source may offer them (sources.md 1.7)."""

    class Lacking(MemorySource):
        async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
            await super().read(image, [index for index in wanted if index], sink)
            if 0 in wanted:
                raise SourceError("a lazy layer", code="not-found")

    builder, registry = Lacking("builder"), MemorySource("registry")
    with pytest.raises(SourceError, match="a lazy layer"):
        await examiner.examine(builder, builder.put("1", image()))
    (examined,) = await examiner.examine(registry, registry.put("1", image()))
    assert (examined.outcome, examined.layers_read) == ("done", 1)
    (healed,) = await examiner.examine(builder, builder.put("1", image()))
    assert (healed.outcome, healed.layers_read) == ("done", 0)
