"""Hints on their way to a look: rows of the queue, worked off by asking the registry for that one tag (HEAD).

A hint is written down before the sender is told so, and its row goes only after the look was taken in; killed in between,
the look is made again. The key of a row is the tag, so a hundred hints of one tag are one look. What the look shows is
taken in by the follower of the source, in the order of its listings, so the final state is that of the registry whatever
came late, twice or out of order (hostile 107, 108).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from service.errors import SourceError
from service.hooks.senders import Hint
from service.ledger import Ledger
from service.metrics import Metrics
from service.sources import EventKind, ImageEvent, Sighting
from service.work import PRIORITY_ASKED, Job, Wish

log = structlog.get_logger()

IDLE_SECONDS = 30.0
PARALLEL = 4
"""Looks at a time at one registry, so that one that is down holds up no other."""
LATE_TRIES = 4
"""Looks at a tag that does not show yet what its sender said: some registries tell of a push before every part of them has it."""
_KIND = "look "


class Pending(msgspec.Struct, frozen=True):
    """What a look has in hand."""

    hook: str
    hint: Hint


class Looked(Protocol):
    """The follower of a source that can be asked for one tag (service.watching.Follower)."""

    async def look(self, repository: str, tag: str) -> ImageEvent:
        """Asks, takes in what was seen, and gives it. Raises SourceError."""

    def names_with(self, repository: str, digest: str) -> Sequence[Sighting]:
        """The tags of a repository that are known to show this digest."""


def look_kind(source: str) -> str:
    """The kind of all looks at one source."""
    return _KIND + source


def look(source: str, hook: str, hint: Hint) -> Wish:
    """A wish to look. Its key is the tag, or the digest where no tag was told."""
    key = json.dumps((hint.repository, hint.tag or hint.digest))
    return Wish(look_kind(source), key, msgspec.msgpack.encode(Pending(hook, hint)), PRIORITY_ASKED, fresh=True)


class Looking:
    """Works hints off. `run` goes on until it is cancelled; `followers` is looked at anew for each hint."""

    def __init__(self, ledger: Ledger, metrics: Metrics, followers: Mapping[str, Looked], sources: Sequence[str]) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._followers = followers
        self._kinds = [look_kind(name) for name in dict.fromkeys(sources)]
        self._running: dict[asyncio.Task[None], str] = {}
        self.wake = asyncio.Event()
        """Set when hints were written down."""

    @property
    def kinds(self) -> Sequence[str]:
        return self._kinds

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while self._kinds:
                self.wake.clear()
                taken = Counter(self._running.values())
                kinds = [kind for kind in self._kinds if taken[kind] < PARALLEL]
                job = await self._lease(kinds) if kinds else None
                if job is None:
                    await self._wait(kinds)
                    continue
                task = group.create_task(self._work_off(job), name=f"{job.kind} {job.key}")
                self._running[task] = job.kind
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self.wake.set()

    async def _lease(self, kinds: Sequence[str]) -> Job | None:
        return await self._ledger.persist(lambda: self._ledger.work.lease(kinds))

    async def _wait(self, kinds: Sequence[str]) -> None:
        """Until one of these may be due, a look ends or a hint comes."""
        due = await self._ledger.persist(lambda: self._ledger.work.next_due(kinds)) if kinds else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(due, 0.5))):
                await self.wake.wait()

    async def _work_off(self, job: Job) -> None:
        pending = msgspec.msgpack.decode(job.payload, type=Pending)
        source = job.kind.removeprefix(_KIND)
        follower = self._followers.get(source)
        work, persist = self._ledger.work, self._ledger.persist
        try:
            settled = follower is None or await self._look(follower, pending, job.tries)
        except SourceError as error:
            log.warning("hint look failed", source=source, hook=pending.hook, error=str(error))
            failed, wait = str(error), error.retry_after
            if error.temporary or error.code in ("unauthorized", "denied"):
                await persist(lambda: work.retry(job, failed, wait))
                return
            settled = True  # the next listing tells of it in its own words
        except Exception as defect:
            # A defect over one hint stops no other; the next listing finds what it would have shown.
            log.exception("hint defect", source=source, hook=pending.hook, error=type(defect).__name__)
            settled = True
        if settled:
            await persist(lambda: work.done(job))
        else:
            await persist(lambda: work.retry(job, "it does not show yet what was told"))

    async def _look(self, follower: Looked, pending: Pending, tries: int) -> bool:
        """Whether nothing more is to be done about this hint."""
        hint = pending.hint
        if not hint.tag:
            for sighting in follower.names_with(hint.repository, hint.digest):
                await follower.look(hint.repository, sighting.tag)
            return True
        event = await follower.look(hint.repository, hint.tag)
        seen = event.sighting.digest if event.kind is EventKind.APPEARED and event.sighting else ""
        late = not hint.gone and seen != (hint.digest or seen or "?")
        if hint.at and not (late and tries < LATE_TRIES):
            lag = max(0.0, self._ledger.clock() - hint.at)
            self._metrics.set("enoent_hook_lag_seconds", pending.hook, to=lag)
        return not late or tries >= LATE_TRIES
