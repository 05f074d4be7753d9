"""Work to do, as rows: submitted once, leased with a fence, repeated with growing pauses, given up after worker deaths.

The only file that knows the table `job`; another queue engine may take its place without touching anything else. A job is
named by kind and key, so submitting it again is free. Nothing here is truth: what a finished job gave stands in the
store, and the next listing submits whatever was lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database
from service.schema import JOB
from service.settings import JobSettings

LEASE_SECONDS = 900.0
PRIORITY_NEW = 100
"""An image that has no report yet."""
PRIORITY_ASKED = 200
"""A person asked for it."""
PRIORITY_JUDGE = 50
"""New rules over stored facts: cheap, and the old report is still shown."""
PRIORITY_RESCAN = 10
"""New readers over layers read before."""

QUEUED, LEASED, POISONED = "queued", "leased", "poisoned"

Clock = Callable[[], float]
Draw = Callable[[], float]
"""A number from 0 to 1: the jitter."""


class Wish(msgspec.Struct, frozen=True):
    """A job to be: what kind, about what, with what in hand, how soon."""

    kind: str
    key: str
    payload: bytes = b""
    priority: int = PRIORITY_NEW
    fresh: bool = False
    """It is about something new: earlier tries and deaths do not count, and a poisoned job waits again."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One leased job. `fence` grows with every lease; only its holder's word counts."""

    id: int
    kind: str
    key: str
    payload: bytes
    fence: int
    tries: int
    deaths: int
    priority: int
    submitted_at: float


class QueueState(msgspec.Struct, frozen=True):
    """What the metrics show of the queue."""

    queued: int
    """Their time has come."""
    retrying: int
    """They wait for the time of their next try."""
    leased: int
    poisoned: int
    oldest_submitted_at: float
    """Of those whose time has come and those at hand; 0 when there are none."""


class Work:
    """The queue. All methods are short transactions; none waits for work."""

    def __init__(self, database: Database, settings: JobSettings, clock: Clock = time.time, draw: Draw = random.random) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._draw = draw

    async def reconcile(self) -> int:
        """At start: what an earlier process held is free again. Says how many jobs that were."""
        async with self._database.writing() as connection:
            freed = await connection.execute(
                sa.update(JOB).where(JOB.c.state == LEASED).values(state=QUEUED, lease_until=0, run_at=0)
            )
        return int(freed.rowcount)

    async def submit(self, kind: str, key: str, payload: bytes, priority: int = PRIORITY_NEW) -> bool:
        """Asks for work. A waiting job takes the newer payload and the higher priority; a running one runs again after.

        A poisoned job stays so until `forgive`. Says whether the job is new.
        """
        return await self.submit_many([Wish(kind, key, payload, priority)]) == 1

    async def submit_many(self, wishes: Iterable[Wish]) -> int:
        """The same for many at once, in one transaction; says how many are new."""
        async with self._database.writing() as connection:
            return await self.submit_within(connection, wishes)

    async def submit_within(self, connection: AsyncConnection, wishes: Iterable[Wish]) -> int:
        """The same as part of a transaction that also writes down why: both or neither."""
        now = self._clock()
        added = 0
        for wish in wishes:
            row = {
                "kind": wish.kind, "key": wish.key, "payload": wish.payload, "priority": wish.priority,
                "state": QUEUED, "run_at": 0, "submitted_at": now, "updated_at": now,
            }  # fmt: skip
            new = await connection.scalar(insert(JOB).values(row).on_conflict_do_nothing().returning(JOB.c.id))
            if new is not None:
                added += 1
                continue
            if wish.fresh:
                await connection.execute(_forgiven(wish.kind, wish.key))
            named = sa.and_(JOB.c.kind == wish.kind, JOB.c.key == wish.key, JOB.c.state != POISONED)
            change = {
                "payload": wish.payload, "priority": sa.func.max(JOB.c.priority, wish.priority), "updated_at": now,
                "again": sa.case((JOB.c.state == LEASED, 1), else_=JOB.c.again),
            }  # fmt: skip
            await connection.execute(sa.update(JOB).where(named).values(change))
        return added

    async def waiting_within(self, connection: AsyncConnection, kind: str) -> int:
        """How many jobs of a kind there are, as part of a transaction."""
        return int(await connection.scalar(sa.select(sa.func.count()).select_from(JOB).where(JOB.c.kind == kind)) or 0)

    async def forgive(self, kind: str, key: str) -> None:
        """Forgets the deaths of a job that a person wants tried once more."""
        async with self._database.writing() as connection:
            await connection.execute(_forgiven(kind, key))

    async def keep_kinds(self, kinds: Collection[str]) -> int:
        """Drops every job of another kind, such as those of a source that is no longer watched; says how many."""
        async with self._database.writing() as connection:
            dropped = await connection.execute(sa.delete(JOB).where(JOB.c.kind.not_in(kinds)))
        return int(dropped.rowcount)

    async def lease(self, kinds: Collection[str] | None = None) -> Job | None:
        """The next job whose time has come: highest priority first, then the oldest. None when none is due."""
        now = self._clock()
        longest = self._settings.retry_longest_seconds
        # A clock that was set back must not keep a job waiting beyond the longest pause (hostile 112).
        due = sa.or_(JOB.c.run_at <= now, JOB.c.run_at > now + longest)
        free = sa.or_(
            sa.and_(JOB.c.state == QUEUED, due),
            sa.and_(JOB.c.state == LEASED, sa.or_(JOB.c.lease_until < now, JOB.c.lease_until > now + 2 * LEASE_SECONDS)),
        )
        query = sa.select(JOB.c.id).where(free).order_by(JOB.c.priority.desc(), JOB.c.submitted_at, JOB.c.id).limit(1)
        if kinds is not None:
            query = query.where(JOB.c.kind.in_(kinds))
        async with self._database.reading() as connection:
            if await connection.scalar(query) is None:
                return None
        async with self._database.writing() as connection:
            statement = (
                sa.update(JOB)
                .where(JOB.c.id == query.scalar_subquery())
                .values(
                    state=LEASED, lease_until=now + LEASE_SECONDS, fence=JOB.c.fence + 1, tries=JOB.c.tries + 1,
                    again=0, updated_at=now,
                )
                .returning(*JOB.c)
            )  # fmt: skip
            row = (await connection.execute(statement)).first()
        if row is None:
            return None
        return Job(
            id=row.id, kind=row.kind, key=row.key, payload=row.payload, fence=row.fence, tries=row.tries,
            deaths=row.deaths, priority=row.priority, submitted_at=row.submitted_at,
        )  # fmt: skip

    async def renew(self, job: Job) -> bool:
        """Holds a long job for another term. False when it was taken away."""
        return await self._change(job, lease_until=self._clock() + LEASE_SECONDS)

    async def done(self, job: Job) -> bool:
        """It is finished; if it was submitted meanwhile, it waits again. False when it was taken away."""
        held = sa.and_(JOB.c.id == job.id, JOB.c.fence == job.fence, JOB.c.state == LEASED)
        async with self._database.writing() as connection:
            gone = await connection.execute(sa.delete(JOB).where(held, JOB.c.again == 0))
        return bool(gone.rowcount) or await self._begin_again(job)

    async def retry(self, job: Job, error: str, retry_after: float = 0.0) -> bool:
        """It is tried again after a pause drawn below a bound that doubles with each try (full jitter)."""
        if await self._begin_again(job):
            return True
        pause = max(self._pause(job.tries), min(retry_after, self._settings.retry_longest_seconds))
        return await self._change(job, state=QUEUED, run_at=self._clock() + pause, lease_until=0, error=error[:1000])

    async def hand_back(self, job: Job) -> bool:
        """It was cut short by our own stopping: it counts as not tried."""
        return await self._change(job, state=QUEUED, run_at=0, lease_until=0, tries=JOB.c.tries - 1)

    async def died(self, job: Job, error: str) -> bool:
        """A worker died over it. After `jobs.deaths` of these it is poisoned; says whether it is now (hostile 114)."""
        if await self._begin_again(job):
            return False
        poisoned = job.deaths + 1 >= self._settings.deaths
        state = POISONED if poisoned else QUEUED
        run_at = 0.0 if poisoned else self._clock() + self._pause(job.tries)
        await self._change(job, state=state, deaths=JOB.c.deaths + 1, run_at=run_at, lease_until=0, error=error[:1000])
        return poisoned

    async def next_due(self, kinds: Collection[str] | None = None) -> float | None:
        """Seconds until the next waiting job is due, 0 when one is, None when none waits; of these kinds or of all."""
        query = sa.select(sa.func.min(JOB.c.run_at)).where(JOB.c.state == QUEUED)
        if kinds is not None:
            query = query.where(JOB.c.kind.in_(kinds))
        async with self._database.reading() as connection:
            run_at = await connection.scalar(query)
        return None if run_at is None else max(0.0, min(run_at - self._clock(), self._settings.retry_longest_seconds))

    async def state(self) -> QueueState:
        """Counts by state, and since when the oldest waits."""
        state = sa.case((sa.and_(JOB.c.state == QUEUED, JOB.c.run_at > self._clock()), "retrying"), else_=JOB.c.state)
        query = sa.select(state, sa.func.count(), sa.func.min(JOB.c.submitted_at)).group_by(state)
        async with self._database.reading() as connection:
            found = {state: (count, oldest) for state, count, oldest in await connection.execute(query)}
        return QueueState(
            queued=found.get(QUEUED, (0, 0))[0],
            retrying=found.get("retrying", (0, 0))[0],
            leased=found.get(LEASED, (0, 0))[0],
            poisoned=found.get(POISONED, (0, 0))[0],
            oldest_submitted_at=min((found[state][1] for state in (QUEUED, LEASED) if state in found), default=0.0),
        )

    def _pause(self, tries: int) -> float:
        bound = min(self._settings.retry_first_seconds * 2.0 ** min(tries - 1, 30), self._settings.retry_longest_seconds)
        return self._draw() * bound

    async def _begin_again(self, job: Job) -> bool:
        """A job that was submitted while it ran is about something newer than what came of it: it begins afresh."""
        return await self._change(job, only_again=True, state=QUEUED, tries=0, deaths=0, run_at=0, lease_until=0, error="")

    async def _change(self, job: Job, *, only_again: bool = False, **values: object) -> bool:
        held = sa.and_(JOB.c.id == job.id, JOB.c.fence == job.fence, JOB.c.state == LEASED)
        if only_again:
            held = sa.and_(held, JOB.c.again == 1)
        async with self._database.writing() as connection:
            changed = await connection.execute(sa.update(JOB).where(held).values(updated_at=self._clock(), **values))
        return bool(changed.rowcount)


def _forgiven(kind: str, key: str) -> sa.Update:
    """Tries and deaths of this job, if there is one, are as if they had not been."""
    return (
        sa.update(JOB)
        .where(JOB.c.kind == kind, JOB.c.key == key)
        .values(state=sa.case((JOB.c.state == POISONED, QUEUED), else_=JOB.c.state), deaths=0, tries=0, run_at=0)
    )
