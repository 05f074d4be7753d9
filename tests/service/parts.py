"""The daemon's parts put together around sources in memory, for tests of what happens between events and verdicts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from service.examining import Examining
from service.fleet import Fleet
from service.ledger import Ledger
from service.metrics import Metrics
from service.pipeline import Examiner
from service.settings import JobSettings, StateSettings, Workers
from service.sources import Source
from service.store import Store
from service.watching import Follower
from service.work import Work
from service.worker import Pool

WAIT_SECONDS = 60.0


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Parts:
    """Everything but the web; `sources` are given by the test."""

    def __init__(self, store: Store, pool: Pool, clock: Clock, settings: JobSettings) -> None:
        self.clock = clock
        self.store = store
        self.work = Work(store.database, settings, clock, lambda: 1.0)
        self.fleet = Fleet()
        self.metrics = Metrics(self.fleet)
        self.ledger = Ledger(store, self.work, self.fleet, clock)
        self.examiner = Examiner(store, pool)
        self.sources: dict[str, Source] = {}
        self.examining = Examining(self.ledger, self.examiner, self.sources, self.metrics, settings)

    def follower(self, source: Source) -> Follower:
        self.sources[source.name] = source
        return Follower(source, self.ledger, self.metrics)

    async def work_off(self) -> None:
        """Runs every job that is due now, also those that these ask for."""
        running = asyncio.create_task(self.examining.run())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while (state := await self.work.state()).queued or state.leased:  # noqa: ASYNC110 - rows ring no bell
                    await asyncio.sleep(0.01)
        finally:
            await self.examining.stop(5)
            await running
            self.examining = Examining(self.ledger, self.examiner, self.sources, self.metrics, self.work._settings)

    def outcomes(self) -> dict[str, str]:
        """Outcome by tag (and platform where there are several)."""
        rows = self.fleet.rows()
        several = len({row.tag for row in rows}) < len(rows)
        return {f"{row.tag} {row.platform}" if several else row.tag: row.outcome for row in rows}


@contextlib.asynccontextmanager
async def assembled(folder: Path, settings: JobSettings | None = None, clock: Clock | None = None) -> AsyncIterator[Parts]:
    """Parts over a store in `folder`; a second time there, they go on with its content."""
    clock = clock or Clock()
    store = await Store.open(StateSettings(dir=str(folder), min_free_bytes=0), clock)
    async with Pool(Workers(parallel=2)) as pool:
        yield Parts(store, pool, clock, settings or JobSettings(parallel=4))
    await store.close()


async def until(true: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Waits until `true()` is."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
