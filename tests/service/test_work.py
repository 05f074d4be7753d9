"""Jobs as rows: deduplication, leases with a fence, backoff, poison."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.database import Database
from service.settings import JobSettings
from service.work import LEASE_SECONDS, PRIORITY_NEW, PRIORITY_RESCAN, Job, Wish, Work


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def work(tmp_path: Path, clock: Clock) -> AsyncIterator[Work]:
    database = await Database.open(tmp_path)
    yield Work(database, JobSettings(), clock, lambda: 1.0)
    await database.close()


async def leased(work: Work) -> Job:
    job = await work.lease()
    assert job is not None
    return job


async def test_a_job_submitted_twice_is_one_job_with_the_newer_payload_and_the_higher_priority(work: Work) -> None:
    assert await work.submit("examine", "a", b"1", 10)
    assert not await work.submit("examine", "a", b"2", 50)
    assert not await work.submit("examine", "a", b"3", 20)
    job = await leased(work)
    assert (job.payload, job.priority) == (b"3", 50)
    assert await work.lease() is None


async def test_new_images_go_before_rescans_and_the_oldest_before_the_newest(work: Work, clock: Clock) -> None:
    await work.submit("examine", "rescan", b"", PRIORITY_RESCAN)
    for name in ("first", "second"):
        clock.now += 1
        await work.submit("examine", name, b"", PRIORITY_NEW)
    assert [(await leased(work)).key for _ in range(3)] == ["first", "second", "rescan"]


async def test_a_job_submitted_while_it_runs_runs_again(work: Work) -> None:
    await work.submit("examine", "a", b"old")
    job = await leased(work)
    await work.submit("examine", "a", b"new")
    assert await work.lease() is None
    assert await work.done(job)
    assert (await leased(work)).payload == b"new"


async def test_a_lease_that_ran_out_is_taken_over_and_the_late_word_is_refused(work: Work, clock: Clock) -> None:
    await work.submit("examine", "a", b"")
    late = await leased(work)
    clock.now += LEASE_SECONDS + 1
    heir = await leased(work)
    assert heir.fence > late.fence
    assert not await work.done(late)
    assert not await work.retry(late, "too late")
    assert await work.done(heir)


async def test_a_renewed_lease_is_kept(work: Work, clock: Clock) -> None:
    await work.submit("examine", "a", b"")
    job = await leased(work)
    clock.now += LEASE_SECONDS - 1
    assert await work.renew(job)
    clock.now += LEASE_SECONDS - 1
    assert await work.lease() is None


async def test_pauses_double_up_to_the_longest_and_are_never_longer(work: Work, clock: Clock) -> None:
    await work.submit("examine", "a", b"")
    pauses = []
    for _ in range(9):
        job = await leased(work)
        await work.retry(job, "unreachable")
        pause = await work.next_due()
        assert pause is not None
        assert await work.lease() is None
        pauses.append(pause)
        clock.now += pause
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


async def test_who_waits_for_one_kind_is_not_woken_for_another(work: Work) -> None:
    await work.submit("examine", "a", b"")
    await work.submit("tell chat", "1", b"")
    told = await work.lease(["tell chat"])
    assert told is not None
    await work.retry(told, "the receiver is down")
    assert await work.next_due() == 0
    assert await work.next_due(["tell chat"]) == 60
    assert await work.next_due(["tell mail"]) is None


async def test_the_other_side_s_wish_to_wait_is_heeded_up_to_an_hour(work: Work) -> None:
    await work.submit("examine", "a", b"")
    await work.retry(await leased(work), "rate limited", retry_after=1e9)
    assert await work.next_due() == 3600


async def test_a_clock_set_back_a_day_does_not_keep_a_job_waiting(work: Work, clock: Clock) -> None:
    await work.submit("examine", "a", b"")
    await work.retry(await leased(work), "unreachable")
    clock.now -= 86_400
    assert await work.lease() is not None


async def test_h114_three_worker_deaths_poison_a_job_also_across_restarts(work: Work, clock: Clock) -> None:
    await work.submit("examine", "a", b"")
    for expected in (False, False, True):
        job = await leased(work)
        assert await work.died(job, "worker died: signal-11") is expected
        assert await work.reconcile() == 0
        clock.now += 3600
    assert await work.lease() is None
    assert not await work.submit("examine", "a", b"again")
    assert await work.lease() is None
    assert (await work.state()).poisoned == 1
    await work.forgive("examine", "a")
    assert (await leased(work)).deaths == 0


async def test_reconcile_frees_what_a_killed_process_held(work: Work) -> None:
    await work.submit("examine", "a", b"")
    await leased(work)
    assert await work.lease() is None
    assert await work.reconcile() == 1
    assert (await leased(work)).tries == 2


async def test_a_job_handed_back_counts_as_not_tried(work: Work) -> None:
    await work.submit("examine", "a", b"")
    await work.hand_back(await leased(work))
    assert (await leased(work)).tries == 1


async def test_h113_ten_thousand_pushes_wait_as_one_row_a_tag_and_the_age_of_the_oldest_is_known(
    work: Work, clock: Clock
) -> None:
    started = clock.now
    await work.submit("examine", "old", b"", PRIORITY_RESCAN)
    clock.now += 60
    pushes = [Wish("examine", f"registry/app:{number % 2000}", b"%d" % number) for number in range(10_000)]
    assert await work.submit_many(pushes) == 2000
    state = await work.state()
    assert (state.queued, state.oldest_submitted_at) == (2001, started)
    assert (await leased(work)).payload == b"8000"
