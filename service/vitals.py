"""The daemon's pulse: does the store take writes, how stands the queue, does the loop turn; and what makes us unready.

Looked at in a task of its own and kept in memory, so that neither a scrape nor a health check waits for a database
(hostile 127). Ready means: the store takes writes, the first attempt of every source was made, we are not stopping
(decisions 16); a source that is slow to answer or has much to list is waited for only so long.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence

import structlog

from service.errors import StoreError
from service.examining import Examining
from service.ledger import Ledger
from service.metrics import Metrics
from service.pipeline import Examiner
from service.work import QueueState

log = structlog.get_logger()

LOOK_SECONDS = 2.0
STALE_SECONDS = 10.0
"""A look that takes longer than this says by itself that the store does not answer."""
FIRST_TRY_SECONDS = 15.0
"""So long after the start, a first attempt that has not ended counts as made."""
SUM_SECONDS = 30.0
"""Pause between two summings of what is stored."""
JOURNAL_BYTES = 32 << 20
"""A journal beyond this is folded back (hostile 118)."""
BEAT_SECONDS = 0.1
BEATS = 600
"""A minute of them."""


class Vitals:
    """Runs for ever in two tasks, `watch` and `beat`; everything else reads memory."""

    def __init__(self, ledger: Ledger, metrics: Metrics, examiner: Examiner, examining: Examining) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._examiner = examiner
        self._examining = examining
        self._queue: QueueState | None = None
        self._stored_bytes: int | None = None
        self._looked_at = time.monotonic()
        self._delays: deque[float] = deque(maxlen=BEATS)
        self.starting = "starting"
        """What is still to be done before work begins; empty afterwards."""
        self.began_at = math.inf
        """When it began, by the monotonic clock."""
        self.stopping = False
        metrics.at_scrape(self._observe)

    async def watch(self) -> None:
        """Looks at store and queue, every LOOK_SECONDS."""
        summed_at = 0.0
        while True:
            try:
                await self._ledger.store.writable()
                self._queue = await self._ledger.work.state()
                if time.monotonic() - summed_at > SUM_SECONDS:
                    self._stored_bytes = await self._ledger.store.stored_bytes()
                    summed_at = time.monotonic()
                if self._ledger.store.database.journal_bytes > JOURNAL_BYTES:
                    await self._ledger.store.database.checkpoint()
            except StoreError as error:
                self._ledger.note_trouble(str(error))
            else:
                self._ledger.note_trouble("")
            self._looked_at = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    async def beat(self) -> None:
        """Notes how late the loop lets a sleeper wake."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            self._delays.append(max(0.0, time.monotonic() - before - BEAT_SECONDS))

    @property
    def longest_delay_seconds(self) -> float | None:
        """Of the last minute; None before there was any."""
        return max(self._delays, default=None)

    async def unready(self) -> Sequence[str]:
        """Why not, a sentence each (service.routes.Readiness); waits for nothing."""
        reasons = []
        if self.stopping:
            reasons.append("stopping")
        if self.starting:
            reasons.append(self.starting)
        if self._ledger.trouble:
            reasons.append(f"the store takes no writes: {self._ledger.trouble}")
        elif time.monotonic() - self._looked_at > STALE_SECONDS:
            reasons.append("the store does not answer")
        if time.monotonic() < self.began_at + FIRST_TRY_SECONDS:
            untried = [status.name for status in self._ledger.fleet.sources() if status.up is None]
            reasons += [f"source {name} was not tried yet" for name in untried]
        return reasons

    def _observe(self, metrics: Metrics) -> None:
        """At each scrape, from memory alone. What is not known yet has no sample (hostile 125)."""
        if self._queue is not None:
            for state in ("queued", "retrying", "leased", "poisoned"):
                metrics.set("enoent_queue_jobs", state, to=getattr(self._queue, state))
            metrics.set("enoent_queue_oldest_timestamp_seconds", to=self._queue.oldest_submitted_at or None)
        metrics.set("enoent_store_bytes", to=self._stored_bytes)
        metrics.set("enoent_store_writable", to=0.0 if self._ledger.trouble else 1.0)
        metrics.set("enoent_event_loop_delay_seconds", to=self.longest_delay_seconds)
        metrics.set_total("enoent_store_evicted_layers_total", to=self._ledger.store.evicted)
        metrics.set_total("enoent_layer_requests_total", "hit", to=self._examiner.cache_hits)
        metrics.set_total("enoent_layer_requests_total", "shared", to=self._examiner.shared_reads)
        stats = self._examiner.pool.stats
        metrics.set("enoent_workers", "busy", to=stats.busy)
        metrics.set("enoent_workers", "idle", to=stats.alive - stats.busy)
        for reason, count in stats.exits.items():
            metrics.set_total("enoent_worker_exits_total", reason, to=count)
