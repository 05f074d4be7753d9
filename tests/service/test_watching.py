"""A source is followed: what it shows is asked for once, what it no longer shows leaves as decisions 17 says."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from service import ledger as ledger_module
from service import watching
from service.errors import SourceError
from service.fleet import FleetRow, Standing
from service.history import Also, Change
from service.jobs import look_of
from service.sources import EventKind, ImageEvent, Sighting
from service.watching import AGREEING_LISTINGS, PAUSE_LONGEST_SECONDS, Follower, pause_after
from tests.fakes.source import MemorySource
from tests.make.reports import failing
from tests.service.parts import Clock, Parts, assembled, until

WHOLE, PARTIAL = ImageEvent(EventKind.LISTED), ImageEvent(EventKind.LISTED_PARTIALLY)


def named(tag: str, digest: str = "sha256:" + "a" * 64, source: str = "memory") -> Sighting:
    return Sighting(source, "registry.test", "app", tag, digest)


def shown(*sightings: Sighting) -> list[ImageEvent]:
    return [ImageEvent(EventKind.APPEARED, sighting) for sighting in sightings]


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with assembled(tmp_path) as made:
        yield made


@pytest.fixture
def follower(parts: Parts) -> Follower:
    return parts.follower(MemorySource())


@contextlib.asynccontextmanager
async def following(follower: Follower) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def tags(parts: Parts) -> list[str]:
    return [row.tag for row in parts.fleet.rows()]


async def stored_tags(parts: Parts) -> list[str]:
    return [row.sighting.tag for row in await parts.store.sightings()]


async def jobs(parts: Parts) -> list[Sighting]:
    found = []
    while (job := await parts.work.lease()) is not None:
        found.append(look_of(job.payload).sighting)
    return found


async def settle(parts: Parts, sighting: Sighting) -> None:
    """As if it had been examined: it fails, and no job is left."""
    (row,) = parts.fleet.named(sighting)
    verdict = failing(2)
    done = msgspec.structs.replace(
        row, platform="linux/amd64", outcome="done", state=verdict.verdict.state, reason=verdict.verdict.reason, report_key="k"
    )
    await parts.ledger.record(sighting, [done])
    while (job := await parts.work.lease()) is not None:
        await parts.work.done(job)


async def test_a_name_told_again_and_again_is_one_row_and_one_job(parts: Parts, follower: Follower) -> None:
    for _ in range(3):
        await follower.take([*shown(named("1"), named("2")), WHOLE])
    assert tags(parts) == await stored_tags(parts) == ["1", "2"]
    assert {row.standing for row in parts.fleet.rows()} == {Standing.WAITING}
    assert await jobs(parts) == [named("1"), named("2")]
    assert parts.metrics.value("enoent_source_events_total", "memory", "appeared") == 6


async def test_a_name_whose_digest_is_known_is_not_asked_for_again(parts: Parts, follower: Follower) -> None:
    await follower.take(shown(named("1")))
    await settle(parts, named("1"))
    await follower.take([*shown(named("1")), WHOLE])
    assert await jobs(parts) == []
    assert parts.fleet.rows()[0].standing is Standing.FAILS


async def test_a_moved_tag_waits_for_its_new_verdict_and_the_old_one_is_gone_at_once(parts: Parts, follower: Follower) -> None:
    await follower.take(shown(named("1")))
    await settle(parts, named("1"))
    first_seen = parts.fleet.rows()[0].first_seen
    parts.clock.now += 100
    moved = named("1", "sha256:" + "b" * 64)
    await follower.take(shown(moved))
    (row,) = parts.fleet.rows()
    assert (row.standing, row.digest, row.first_seen, row.report_key) == (Standing.WAITING, moved.digest, first_seen, "")
    (stored,) = await parts.store.sightings()
    assert (stored.outcome, stored.sighting.digest, stored.first_seen) == ("queued", moved.digest, first_seen)
    assert await jobs(parts) == [moved]


async def test_what_became_of_an_image_is_not_shown_under_a_tag_that_moved_meanwhile(parts: Parts, follower: Follower) -> None:
    await follower.take(shown(named("1")))
    (old,) = parts.fleet.named(named("1"))
    moved = named("1", "sha256:" + "b" * 64)
    await follower.take(shown(moved))
    await parts.ledger.record(named("1"), [msgspec.structs.replace(old, outcome="done")])
    assert [row.outcome for row in parts.fleet.rows()] == ["queued"]
    assert [row.sighting.digest for row in await parts.store.sightings()] == [moved.digest]


async def test_a_name_that_left_is_not_brought_back_by_a_late_examination(parts: Parts, follower: Follower) -> None:
    await follower.take(shown(named("1")))
    (old,) = parts.fleet.named(named("1"))
    await follower.take([ImageEvent(EventKind.GONE, named("1"))])
    await parts.ledger.record(named("1"), [msgspec.structs.replace(old, outcome="done")])
    assert tags(parts) == await stored_tags(parts) == []


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_tag_that_moves_while_its_verdict_is_written_down_waits_for_the_new_one(
    parts: Parts, follower: Follower, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    await follower.take(shown(named("1")))
    (row,) = parts.fleet.named(named("1"))
    verdict = failing(2).verdict
    done = msgspec.structs.replace(row, platform="linux/amd64", outcome="done", state=verdict.state, report_key="k")
    moved = named("1", "sha256:" + "b" * 64)
    note = parts.ledger.history.note

    async def meanwhile(rows: Sequence[FleetRow], also: Also | None = None) -> list[Change]:
        await follower.take([ImageEvent(EventKind.GONE, moved)] if leaves else shown(moved))
        return await note(rows, also)

    monkeypatch.setattr(parts.ledger.history, "note", meanwhile)
    await parts.ledger.record(named("1"), [done])
    assert [(shown.outcome, shown.digest) for shown in parts.fleet.rows()] == ([] if leaves else [("queued", moved.digest)])


async def test_a_name_that_is_said_to_be_gone_leaves_at_once(parts: Parts, follower: Follower) -> None:
    await follower.take([*shown(named("1"), named("2")), WHOLE])
    await follower.take([ImageEvent(EventKind.GONE, named("1"))])
    assert tags(parts) == await stored_tags(parts) == ["2"]


async def test_a_name_that_listings_lack_leaves_when_three_agree(parts: Parts, follower: Follower) -> None:
    await follower.take([*shown(named("1"), named("2")), WHOLE])
    for _ in range(AGREEING_LISTINGS - 1):
        await follower.take([*shown(named("2")), WHOLE])
        assert tags(parts) == ["1", "2"]
    await follower.take([*shown(named("2")), WHOLE])
    assert tags(parts) == await stored_tags(parts) == ["2"]
    assert parts.metrics.value("enoent_reconcile_missed_total", "memory") == 1


async def test_a_name_that_is_shown_in_between_stays(parts: Parts, follower: Follower) -> None:
    await follower.take([*shown(named("1")), WHOLE])
    for events in ([WHOLE], [WHOLE], [*shown(named("1")), WHOLE], [WHOLE], [WHOLE]):
        await follower.take(events)
    assert tags(parts) == ["1"]
    await follower.take([WHOLE])
    assert tags(parts) == []


async def test_misses_are_counted_across_a_restart(parts: Parts, follower: Follower) -> None:
    await follower.take([*shown(named("1")), WHOLE])
    await follower.take([WHOLE])
    await follower.take([WHOLE])
    source = MemorySource()
    async with following(parts.follower(source)):
        await until(lambda: not tags(parts))


async def test_nothing_is_concluded_from_a_partial_listing(parts: Parts, follower: Follower) -> None:
    await follower.take([*shown(named("1")), WHOLE])
    for _ in range(5):
        await follower.take([PARTIAL])
    assert tags(parts) == ["1"]
    status = follower.status
    assert (status.up, status.error) == (True, "parts of it could not be listed")


@pytest.mark.parametrize("kind", ["docker", "layout"])
async def test_what_one_listing_of_a_folder_or_an_engine_lacks_is_gone(parts: Parts, kind: str) -> None:
    source = MemorySource()
    source.kind = kind
    follower = parts.follower(source)
    await follower.take([*shown(named("1"), named("2")), WHOLE])
    await follower.take([*shown(named("2")), WHOLE])
    assert tags(parts) == ["2"]


async def test_names_of_one_source_are_not_judged_by_the_listing_of_another(parts: Parts) -> None:
    first, second = parts.follower(MemorySource("first")), parts.follower(MemorySource("second"))
    await first.take([*shown(named("1", source="first")), WHOLE])
    for _ in range(AGREEING_LISTINGS):
        await second.take([WHOLE])
    assert tags(parts) == ["1"]


async def test_a_lost_source_is_shown_as_down_and_taken_up_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "pause_after", lambda *_: 0.01)
    source = MemorySource("registry")
    follower = parts.follower(source)
    source.down = True
    async with following(follower):
        await until(lambda: follower.status.up is False)
        assert follower.status.error == "registry is down"
        assert parts.fleet.sources()[0].last_success == 0
        source.down = False
        await until(lambda: follower.status.up is True)
    assert parts.fleet.sources()[0].last_success == parts.clock.now
    assert parts.fleet.sources()[0].error == ""


async def test_events_between_two_listings_are_worked_off_as_they_come(parts: Parts) -> None:
    source = MemorySource()
    async with following(parts.follower(source)):
        await until(lambda: source.listings == 1)
        await source.push("1")
        await until(lambda: tags(parts) == ["1"])
        await source.delete("1")
        await until(lambda: tags(parts) == [])


async def test_a_defect_in_a_source_is_told_and_is_not_its_end(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "pause_after", lambda *_: 0.01)

    class Broken(MemorySource):
        async def events(self) -> AsyncIterator[ImageEvent]:
            if not self.listings:
                self.listings += 1
                raise RuntimeError("a defect")
            async for event in super().events():
                yield event

    source = Broken()
    follower = parts.follower(source)
    async with following(follower):
        await until(lambda: follower.status.up is True)


async def test_contact_is_taken_up_after_pauses_that_grow_up_to_a_bound(parts: Parts) -> None:
    bounds = [1, 2, 4, 8, 16, 32, 60, 60]
    for failures, bound in enumerate(bounds, 1):
        for _ in range(20):
            assert bound / 2 <= pause_after(failures) <= bound
    assert pause_after(1, 30.0) == 30.0
    assert pause_after(1, 1e9) == 60 * PAUSE_LONGEST_SECONDS


async def test_what_a_source_tells_while_the_store_is_locked_is_not_lost(
    parts: Parts, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "PAUSE_FIRST_SECONDS", 0.05)
    other = sqlite3.connect(parts.store.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    taking = asyncio.create_task(follower.take([*shown(named("1")), WHOLE]))
    await until(lambda: parts.ledger.trouble)
    assert "locked" in parts.ledger.trouble
    other.execute("ROLLBACK")
    other.close()
    await taking
    assert parts.ledger.trouble == ""
    assert await stored_tags(parts) == ["1"]
    assert await jobs(parts) == [named("1")]


async def test_a_name_that_is_no_text_is_passed_over_and_the_others_are_not(parts: Parts, follower: Follower) -> None:
    odd = Sighting("memory", "oci-layout", "caf\udce9", "1", "sha256:" + "c" * 64)
    await follower.take([*shown(odd, named("1")), WHOLE])
    assert tags(parts) == ["1"]


async def test_a_source_that_asks_for_peace_is_left_in_peace(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Sequence[float]] = []

    def pause(*arguments: float) -> float:
        waited.append(arguments)
        return 0.01

    monkeypatch.setattr(watching, "pause_after", pause)

    class Limited(MemorySource):
        async def events(self) -> AsyncIterator[ImageEvent]:
            if len(waited) < 2:
                raise SourceError("too many requests", code="rate-limited", retry_after=17.0)
            async for event in super().events():
                yield event

    follower = parts.follower(Limited())
    async with following(follower):
        await until(lambda: follower.status.up is True)
    assert waited == [(1, 17.0), (2, 17.0)]


async def test_the_time_a_name_was_last_seen_is_written_now_and_then(parts: Parts, follower: Follower) -> None:
    clock: Clock = parts.clock
    await follower.take([*shown(named("1")), WHOLE])
    clock.now += 60
    await follower.take([*shown(named("1")), WHOLE])
    assert (await parts.store.sightings())[0].last_seen == clock.now - 60
    clock.now += 3600
    await follower.take([*shown(named("1")), WHOLE])
    assert (await parts.store.sightings())[0].last_seen == parts.fleet.rows()[0].last_seen == clock.now
