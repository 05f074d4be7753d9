"""Jobs become outcomes: wrong bytes are final, wrong servers are tried again, our own defects are told, and others go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from analyzers.errors import Rejected
from analyzers.oci import Platform
from analyzers.readers import FACTS_VERSION
from service import pipeline
from service.errors import NotAnImage, SourceError, WorkerDied
from service.examining import judge_error
from service.fleet import FleetRow, Standing
from service.jobs import JUDGE, examine_kind
from service.schema import FINDING, IMAGE, JOB, LAYER, REPORT, SIGHTING
from service.settings import JobSettings
from service.sources import EventKind, ImageEvent, ImageSource, Sighting
from service.work import PRIORITY_RESCAN
from tests.fakes.source import MemorySource
from tests.make.images import Image
from tests.make.layers import program, script, tar_of
from tests.service.parts import Clock, Parts, assembled, until

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/data": program(os.urandom(200_000))})


def image(name: str = "app", platform: str = "linux/amd64", base: bytes = BASE) -> Image:
    """It fails for want of its interpreter."""
    own = tar_of({"bin/run": script("#!/opt/none\n"), f"etc/{name}": name})
    return Image(layers=(base, own), entrypoint=["/bin/run"], platform=platform)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with assembled(tmp_path) as made:
        yield made


async def show(parts: Parts, source: MemorySource) -> None:
    """A whole listing of the source is worked off by its follower."""
    follower = parts.follower(source)
    events = [ImageEvent(EventKind.APPEARED, source.sighting(tag)) for tag in source.images]
    await follower.take([*events, ImageEvent(EventKind.LISTED)])


def the_row(parts: Parts) -> FleetRow:
    (row,) = parts.fleet.rows()
    return row


async def test_an_image_is_examined_shown_and_stored(parts: Parts) -> None:
    source = MemorySource()
    source.put("1", image())
    await show(parts, source)
    await parts.work_off()
    row = the_row(parts)
    assert (row.standing, row.outcome, row.reason, row.platform) == (Standing.FAILS, "done", "interpreter_absent", "linux/amd64")
    assert row.analysed_at == parts.clock.now
    assert len(row.layers) == 2
    (stored,) = await parts.store.sightings()
    assert (stored.image_id, stored.report_key) == (image().image_id, row.report_key)
    assert await parts.store.report(row.report_key) is not None
    assert parts.metrics.value("enoent_analyses_total", "done") == 1
    assert parts.metrics.value("enoent_streamed_bytes_total", "memory") == row.compressed_bytes
    assert (await parts.work.state()).queued == 0


async def test_h060_ten_tags_of_one_digest_are_resolved_once(parts: Parts) -> None:
    source = MemorySource()
    for number in range(10):
        source.put(str(number), image())
    await show(parts, source)
    await parts.work_off()
    assert source.resolved == 1
    assert set(parts.outcomes().values()) == {"done"}
    assert len(parts.outcomes()) == 10
    source.put("late", image())
    await show(parts, source)
    await parts.work_off()
    assert source.resolved == 1
    assert parts.outcomes()["late"] == "done"


async def test_every_platform_of_a_name_is_a_row_and_one_that_cannot_be_analysed_does_not_hide_the_other(parts: Parts) -> None:
    source = MemorySource(compression="plain")
    source.put("1", image(), image("arm", "linux/arm64", base=b"this is no tar" * 100))
    await show(parts, source)
    await parts.work_off()
    outcomes = parts.outcomes()
    assert outcomes.pop("1 linux/amd64") == "done"
    assert outcomes == {"1 linux/arm64": "bad-tar"}
    bad = next(row for row in parts.fleet.rows() if row.platform == "linux/arm64")
    assert (bad.standing, bool(bad.detail)) == (Standing.UNKNOWN, True)
    assert (await parts.work.state()).queued == 0


async def test_a_source_that_is_down_is_tried_again_and_meanwhile_says_why(parts: Parts) -> None:
    source = MemorySource("hub")
    source.put("1", image())
    await show(parts, source)
    source.down = True
    await parts.work_off()
    row = the_row(parts)
    assert (row.outcome, row.detail, row.standing, row.analysed_at) == ("unreachable", "hub is down", Standing.UNKNOWN, 0.0)
    state = await parts.work.state()
    assert (state.queued, state.retrying) == (0, 1)
    source.down = False
    parts.clock.now += 3600
    await parts.work_off()
    assert the_row(parts).outcome == "done"
    assert (await parts.work.state()).retrying == 0


async def test_a_failed_try_does_not_take_away_a_verdict_that_is_there(parts: Parts) -> None:
    source = MemorySource()
    source.put("1", image())
    await show(parts, source)
    await parts.work_off()
    before = the_row(parts)
    source.down = True
    assert await parts.ledger.rescan([before.sighting]) == 1
    await parts.work_off()
    assert the_row(parts) == before
    assert (await parts.work.state()).retrying == 1


@pytest.mark.parametrize(
    ("raised", "outcome", "retried"),
    [
        (NotAnImage("an artifact of type signature, not an image"), "not-an-image", False),
        (Rejected("ambiguous-manifest", "two keys"), "ambiguous-manifest", False),
        (SourceError("no image for linux/s390x", temporary=False, code="no-such-platform"), "no-such-platform", False),
        (SourceError("3 bytes, not 5", temporary=False, code="size-mismatch"), "size-mismatch", False),
        (SourceError("longer than 3 bytes", code="size-mismatch"), "size-mismatch", True),
        (SourceError("refuses these credentials", temporary=False, code="unauthorized"), "unauthorized", True),
        (SourceError("429", code="rate-limited", retry_after=5.0), "rate-limited", True),
        (RuntimeError("a defect"), "defect", False),
    ],
)
async def test_what_goes_wrong_with_a_name_is_its_outcome_and_another_is_not_touched(
    parts: Parts, raised: Exception, outcome: str, retried: bool
) -> None:
    class Refusing(MemorySource):
        async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource]:
            if sighting.tag == "bad":
                raise raised
            return await super().resolve(sighting, platforms)

    source = Refusing()
    source.put("bad", image("bad"))
    source.put("good", image("good"))
    await show(parts, source)
    await parts.work_off()
    assert parts.outcomes() == {"bad": outcome, "good": "done"}
    assert parts.metrics.value("enoent_analyses_total", outcome) == 1
    state = await parts.work.state()
    assert (state.retrying, state.queued, state.poisoned) == (int(retried), 0, 0)


async def test_an_artifact_is_not_among_the_images_and_not_looked_at_again(parts: Parts) -> None:
    class Signature(MemorySource):
        async def resolve(self, *_: object) -> list[ImageSource]:  # type: ignore[override]
            self.resolved += 1
            raise NotAnImage("an artifact of type signature, not an image")

    source = Signature()
    source.put("sig", image())
    for _ in range(3):
        await show(parts, source)
        await parts.work_off()
    assert the_row(parts).standing is Standing.ARTIFACT
    assert source.resolved == 1


async def test_h114_an_image_that_kills_its_worker_three_times_is_final_also_after_a_restart(tmp_path: Path) -> None:
    source = MemorySource()
    poison, healthy = image("poison", base=tar_of({"a": "a"})), image("healthy", base=tar_of({"b": "b"}))
    source.put("poison", poison)
    source.put("healthy", healthy)
    reads: list[str] = []
    clock = Clock()

    async with assembled(tmp_path, clock=clock) as parts:
        await show(parts, source)
        digest = (await source.resolve(source.sighting("poison"), ()))[0].layers[0].digest

        def kill(wanted: str) -> None:
            if wanted == digest:
                reads.append(wanted)
                raise WorkerDied("signal-11")

        source.fail = kill
        for expected in ("a worker died over it (signal-11); it is tried again",) * 2 + ("worker-died: signal-11",):
            await parts.work_off()
            row = next(row for row in parts.fleet.rows() if row.tag == "poison")
            assert (row.outcome, row.detail) == ("worker-died", expected)
            clock.now += 3600
        assert parts.outcomes()["healthy"] == "done"
        await parts.work_off()
    async with assembled(tmp_path, clock=clock) as parts:
        await parts.ledger.recall({"memory"}, parts.examiner.profile)
        await show(parts, source)
        await parts.work_off()
        assert (await parts.work.state()).poisoned == 1
        assert len(reads) == 3
        source.fail = None
        source.put("poison", image("mended"))
        await show(parts, source)
        await parts.work_off()
        assert parts.outcomes() == {"poison": "done", "healthy": "done"}
        assert (await parts.work.state()).poisoned == 0


async def test_a_person_may_ask_for_a_poisoned_image_once_more(parts: Parts) -> None:
    source = MemorySource()
    source.put("1", image())

    def kill(_: str) -> None:
        raise WorkerDied("memory")

    source.fail = kill
    await show(parts, source)
    for _ in range(3):
        await parts.work_off()
        parts.clock.now += 3600
    assert the_row(parts).detail == "worker-died: memory"
    assert parts.metrics.value("enoent_limit_hits_total", "worker-memory") == 3
    source.fail = None
    await parts.ledger.rescan([the_row(parts).sighting])
    await parts.work_off()
    assert the_row(parts).outcome == "done"


async def test_what_is_stopped_in_the_middle_is_handed_back_as_if_not_tried(parts: Parts) -> None:
    source = MemorySource()
    source.put("1", image())
    source.pause = 5.0
    await show(parts, source)
    running = asyncio.create_task(parts.examining.run())
    await until(lambda: source.reads)
    await parts.examining.stop(0.05)
    await running
    async with parts.store.database.reading() as connection:
        (job,) = (await connection.execute(sa.select(JOB.c.state, JOB.c.tries, JOB.c.deaths))).all()
    assert tuple(job) == ("queued", 0, 0)
    assert the_row(parts).standing is Standing.WAITING


async def test_new_rules_judge_the_fleet_again_without_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource()
    for tag in ("1", "2"):
        source.put(tag, image())
    async with assembled(tmp_path) as parts:
        await show(parts, source)
        await parts.work_off()
        old = parts.fleet.rows()
    monkeypatch.setattr(pipeline, "RULES_VERSION", "start-99")
    source.down = True
    async with assembled(tmp_path) as parts:
        parts.follower(source)
        await parts.ledger.recall({"memory"}, parts.examiner.profile)
        assert [row.report_key for row in parts.fleet.rows()] == [row.report_key for row in old]
        parts.clock.now += 50
        await parts.work_off()
        new = parts.fleet.rows()
        assert {row.report_key for row in new}.isdisjoint({row.report_key for row in old})
        assert {row.analysed_at for row in new} == {parts.clock.now}
        assert [row.message for row in new] == [row.message for row in old]
        assert {row.report_key for row in await parts.store.sightings()} == {row.report_key for row in new}
        assert (await parts.work.state()).retrying == 0
    assert max(source.reads.values()) == 1


async def test_new_readers_read_again_at_lowest_priority_while_the_old_report_is_shown(tmp_path: Path) -> None:
    source = MemorySource()
    for tag in ("1", "2"):
        source.put(tag, image())
    async with assembled(tmp_path) as parts:
        await show(parts, source)
        await parts.work_off()
        old = parts.fleet.rows()
        await _as_by_older_readers(parts)
    async with assembled(tmp_path) as parts:
        parts.follower(source)
        await parts.ledger.recall({"memory"}, parts.examiner.profile)
        assert [row.message for row in parts.fleet.rows()] == [row.message for row in old]
        async with parts.store.database.reading() as connection:
            jobs = (await connection.execute(sa.select(JOB.c.kind, JOB.c.priority))).all()
        assert [tuple(job) for job in jobs] == [(examine_kind("memory"), PRIORITY_RESCAN)] * 2
        await parts.work_off()
        assert set(source.reads.values()) == {2}
        assert [row.message for row in parts.fleet.rows()] == [row.message for row in old]
        assert await parts.store.layer_keys([old[0].image_id]) == {old[0].image_id: await _keys_now(parts, old[0])}


async def _keys_now(parts: Parts, row: FleetRow) -> tuple[str, ...]:
    found = [await parts.store.find_layer(diff_id, FACTS_VERSION) for diff_id in row.layers]
    return tuple(layer.key for layer in found if layer is not None)


async def _as_by_older_readers(parts: Parts) -> None:
    """Facts and reports as a version before this one would have left them."""
    async with parts.store.database.writing() as connection:
        for row in (await connection.execute(sa.select(LAYER.c.id, LAYER.c.key))).all():
            older = {"key": row.key.replace(FACTS_VERSION, "entries0"), "facts_version": "entries0"}
            await connection.execute(sa.update(LAYER).where(LAYER.c.id == row.id).values(older))
        for row in (await connection.execute(sa.select(IMAGE.c.image_id, IMAGE.c.layers))).all():
            keys = [key.replace(FACTS_VERSION, "entries0") for key in msgspec.msgpack.decode(row.layers)]
            await connection.execute(
                sa.update(IMAGE).where(IMAGE.c.image_id == row.image_id).values(layers=msgspec.msgpack.encode(keys))
            )
        await connection.execute(sa.delete(FINDING))
        await connection.execute(sa.update(REPORT).values(key="older-" + REPORT.c.key))
        await connection.execute(sa.update(SIGHTING).values(report_key="older-" + SIGHTING.c.report_key))


async def test_no_source_takes_every_turn_when_there_are_others(tmp_path: Path) -> None:
    async with assembled(tmp_path, JobSettings(parallel=4)) as parts:
        slow, quick = MemorySource("slow"), MemorySource("quick")
        slow.pause = 30.0
        for number in range(8):
            slow.put(str(number), image(f"slow{number}", base=tar_of({"s": str(number)})))
        quick.put("1", Image(layers=(), entrypoint=["/absent"]))
        await show(parts, slow)
        await show(parts, quick)
        running = asyncio.create_task(parts.examining.run())
        await until(lambda: [row.outcome for row in parts.fleet.rows() if row.source == "quick"] == ["done"])
        await until(lambda: parts.examining.at_hand == 3)
        await parts.examining.stop(0)
        await running


async def test_jobs_of_a_source_that_is_no_longer_watched_are_dropped(parts: Parts) -> None:
    source = MemorySource("old")
    source.put("1", image())
    await show(parts, source)
    assert await parts.work.keep_kinds([JUDGE, examine_kind("new")]) == 1
    assert (await parts.work.state()).queued == 0


def test_a_server_that_refuses_for_good_is_asked_again_after_the_longest_pause() -> None:
    outcome, detail, ending = judge_error(SourceError("refused", temporary=False, code="denied"), 0, 3)
    assert (outcome, detail, ending.again, ending.retry_after) == ("denied", "refused", True, float("inf"))


def test_a_worker_that_cannot_be_had_is_not_the_image_s_fault() -> None:
    outcome, _, ending = judge_error(WorkerDied("start"), 2, 3)
    assert (outcome, ending.again, ending.death) == ("no-worker", True, "")
