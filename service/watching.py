"""A source followed for months: events become changes of names, lost contact is taken up, a listing heals what was missed.

Knows when a name counts as gone (decisions 17): at once when the source says so, after one whole listing of a folder or an
engine, after three that agree of a registry, whose listings may be stale. Refuses to know how any source listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncGenerator, Iterable, Sequence

import msgspec
import structlog

from analyzers.errors import EnoentError
from service.errors import SourceError
from service.fleet import SourceStatus
from service.ledger import Ledger
from service.metrics import Metrics
from service.sources import EventKind, ImageEvent, LooksByName, Sighting, Source

log = structlog.get_logger()

WAITING_EVENTS = 1000
"""Events taken from a source and not yet worked off; a faster source waits."""
BATCH = 500
"""Most events that become one transaction."""
PAUSE_FIRST_SECONDS = 1.0
PAUSE_LONGEST_SECONDS = 60.0
AGREEING_LISTINGS = 3
LOCAL_KINDS = frozenset({"buildkit", "containerd", "docker", "layout"})
"""Their listing is the thing itself: what one whole listing lacks is not there."""
REMARK_SECONDS = 86_400.0
"""How long a gap is spoken of."""
SEEN_SECONDS = 600.0
"""How old the time at which a name was last seen may become before it is written anew."""


def pause_after(failures: int, retry_after: float = 0.0) -> float:
    """Seconds before contact is tried again after so many failures in a row: grows, drawn at random, never below the wish
    of the other side.
    """
    bound = min(PAUSE_FIRST_SECONDS * 2.0 ** min(failures - 1, 30), PAUSE_LONGEST_SECONDS)
    return max(random.uniform(bound / 2, bound), min(retry_after, 60 * PAUSE_LONGEST_SECONDS))


class Follower:
    """Follows one source. `follow` runs until it is cancelled."""

    def __init__(self, source: Source, ledger: Ledger, metrics: Metrics) -> None:
        self.source = source
        self._ledger = ledger
        self._metrics = metrics
        self._seen: set[Sighting] = set()
        """Names shown since the listing began."""
        self._missed: dict[Sighting, int] = {}
        """Whole listings in a row that lacked a name."""
        self._looked: set[Sighting] = set()
        """Names that were looked at by themselves since the listing began: what the listing saw of them may be older."""
        self._turn = asyncio.Lock()
        """Events are taken in one after another, whether a listing or a look brings them."""
        self._failures = 0
        self._contact = 0.0
        """When the source was last known to be followed; 0: never."""
        self._resuming = True
        """Until the first whole listing after a time without contact."""
        self._remarked_at = 0.0
        self._passes = 1 if source.kind in LOCAL_KINDS else AGREEING_LISTINGS
        self.status = SourceStatus(name=source.name, kind=source.kind)

    async def follow(self) -> None:
        """For ever: follows, and takes up contact again when it is lost."""
        self._show()
        stored = await self._ledger.persist(lambda: self._ledger.store.sightings(self.source.name))
        self._missed = {_name(row.sighting): row.missing for row in stored if row.missing}
        self._contact = max((row.last_seen for row in stored), default=0.0)
        while True:
            retry_after = 0.0
            try:
                await self._follow_once()
                error = "its events ended"
            except EnoentError as failure:
                error = str(failure)
                retry_after = failure.retry_after if isinstance(failure, SourceError) else 0.0
            except Exception as defect:
                # A defect in one source does not stop the others.
                error = f"internal error: {type(defect).__name__}"
                log.exception("source defect", source=self.source.name)
            self._failures += 1
            self._lose_contact()
            if self.status.up is not False:
                log.warning("source lost", source=self.source.name, error=error)
            self._show(up=False, error=error)
            await asyncio.sleep(pause_after(self._failures, retry_after))

    async def _follow_once(self) -> None:
        """Until contact is lost. Raises what the source raised."""
        self._seen.clear()
        self._looked.clear()
        queue: asyncio.Queue[ImageEvent | None] = asyncio.Queue(WAITING_EVENTS)
        pump = asyncio.create_task(self._pump(queue))
        try:
            while not (pump.done() and queue.empty()):
                events = [await queue.get()]
                while len(events) < BATCH and not queue.empty():
                    events.append(queue.get_nowait())
                await self._take_listed([event for event in events if event is not None])
            await pump
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, queue: asyncio.Queue[ImageEvent | None]) -> None:
        """Moves events into the queue; None wakes a reader that would wait for more than there is."""
        events = self.source.events()
        try:
            async for event in events:
                await queue.put(event)
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()
            if not queue.full():
                queue.put_nowait(None)

    # Looks

    def watches(self, repository: str, tag: str) -> bool:
        """Whether a name is among those that the source is to watch; never, where it cannot be asked for one name."""
        return isinstance(self.source, LooksByName) and self.source.watches(repository, tag)

    async def look(self, repository: str, tag: str) -> ImageEvent:
        """Asks the source for one name and takes in what it shows now. Raises SourceError."""
        if not isinstance(self.source, LooksByName):
            raise SourceError(f"{self.source.name} cannot be asked for one name", temporary=False, code="unsupported")
        event = await self.source.look(repository, tag)
        async with self._turn:
            if event.sighting is not None:
                self._looked.add(_name(event.sighting))
            await self._take([event])
        return event

    def names_with(self, repository: str, digest: str) -> list[Sighting]:
        """The tags of a repository that are known to show this digest."""
        named = [name for name in self._ledger.fleet.names_of(self.source.name) if name.repository == repository and name.tag]
        return [name for name in named if any(row.digest == digest for row in self._ledger.fleet.named(name))]

    async def _take_listed(self, events: Sequence[ImageEvent]) -> None:
        """What a listing saw of a name before that was looked at by itself must not undo it: where they differ, who is
        right is asked once more.
        """
        async with self._turn:
            doubtful = [event for event in events if self._is_doubtful(event)]
            await self._take([event for event in events if event not in doubtful] if doubtful else events)
        for event in doubtful:
            assert event.sighting is not None
            with contextlib.suppress(SourceError):  # the next listing tells
                await self.look(event.sighting.repository, event.sighting.tag)

    def _is_doubtful(self, event: ImageEvent) -> bool:
        if event.sighting is None or _name(event.sighting) not in self._looked:
            return False
        rows = self._ledger.fleet.named(event.sighting)
        shown = rows[0].digest if rows else ""
        return shown != (event.sighting.digest if event.kind is EventKind.APPEARED else "")

    async def take(self, events: Iterable[ImageEvent]) -> None:
        """Works off some events, those of one kind in a row together."""
        async with self._turn:
            await self._take(events)

    async def _take(self, events: Iterable[ImageEvent]) -> None:
        for kind, group in itertools.groupby(events, key=lambda event: event.kind):
            told = list(group)
            self._metrics.add("enoent_source_events_total", self.source.name, str(kind), by=len(told))
            await self._ledger.note_builds({e.sighting.digest: e.build for e in told if e.sighting and e.build})
            sightings = [event.sighting for event in told if event.sighting is not None and _is_text(event.sighting)]
            if kind is EventKind.APPEARED:
                await self._appeared(sightings)
            elif kind is EventKind.GONE:
                await self._gone(sightings)
            else:
                await self._listed(whole=kind is EventKind.LISTED, reaches_back=told[-1].reaches_back)

    async def _appeared(self, sightings: Sequence[Sighting]) -> None:
        changed: dict[Sighting, Sighting] = {}
        again: dict[Sighting, Sighting] = {}
        stale = self._ledger.clock() - SEEN_SECONDS
        for sighting in sightings:
            name = _name(sighting)
            self._seen.add(name)
            rows = self._ledger.fleet.named(sighting)
            if not rows or (sighting.digest and rows[0].digest != sighting.digest):
                changed[name] = sighting
            elif self._missed.pop(name, 0) or rows[0].last_seen < stale:
                again[name] = sighting
        await self._ledger.appear(tuple(changed.values()))
        await self._ledger.see_again(tuple(again.values()))

    async def _gone(self, sightings: Sequence[Sighting]) -> None:
        for sighting in sightings:
            self._seen.discard(_name(sighting))
            self._missed.pop(_name(sighting), None)
        await self._ledger.leave(sightings)

    async def _listed(self, *, whole: bool, reaches_back: float) -> None:
        self._failures = 0
        if whole:
            self._remark_gap(reaches_back, gone=await self._conclude())
        self._seen.clear()
        self._looked.clear()
        if self.status.up is not True:
            log.info("source listed", source=self.source.name, names=len(self._ledger.fleet.names_of(self.source.name)))
        if whole:
            self._show(up=True, last_success=self._ledger.clock())
        else:
            self._show(up=True, error="parts of it could not be listed")

    def _lose_contact(self) -> None:
        if not self._resuming:
            self._resuming, self._contact = True, self._ledger.clock()

    def _remark_gap(self, reaches_back: float, gone: int) -> None:
        """Says so when a history forgot what it showed before, and may so have forgotten what came and went unseen
        (hostile 109).
        """
        now = self._ledger.clock()
        if self._resuming and gone and reaches_back > self._contact > 0:
            log.warning("source gap", source=self.source.name, names_gone=gone, unseen_since=self._contact)
            remark = f"after a time without contact {gone} known names had left the history: others may have come and gone unseen"
            self.status = msgspec.structs.replace(self.status, remark=remark)
            self._remarked_at = now
        elif self.status.remark and now - self._remarked_at > REMARK_SECONDS:
            self.status = msgspec.structs.replace(self.status, remark="")
        self._resuming = False

    async def _conclude(self) -> int:
        """What a whole listing lacks is counted as missing, and gone when that was so often enough; says how many went."""
        lacking = [name for name in self._ledger.fleet.names_of(self.source.name) if name not in self._seen]
        gone: list[Sighting] = []
        missing: list[Sighting] = []
        for name in lacking:
            self._missed[name] = self._missed.get(name, 0) + 1
            (gone if self._missed[name] >= self._passes else missing).append(name)
        for name in gone:
            del self._missed[name]
        if missing:
            await self._ledger.persist(lambda: self._ledger.store.count_missing(missing))
        await self._ledger.leave(gone)
        if gone:
            self._metrics.add("enoent_reconcile_missed_total", self.source.name, by=len(gone))
        return len(gone)

    def _show(self, *, up: bool | None = None, last_success: float = 0.0, error: str = "") -> None:
        self.status = msgspec.structs.replace(
            self.status, up=up, last_success=last_success or self.status.last_success, error=error
        )
        self._ledger.fleet.note_source(self.status)


def _name(sighting: Sighting) -> Sighting:
    """A tag is the same name whatever it points to; without a tag the digest is the name."""
    return msgspec.structs.replace(sighting, digest="") if sighting.tag else sighting


def _is_text(sighting: Sighting) -> bool:
    """Names that are no Unicode (folders may be called anything) can be neither stored nor shown: they are passed over."""
    try:
        "".join(msgspec.structs.astuple(sighting)).encode()
    except UnicodeEncodeError:
        log.warning("name passed over", source=sighting.source, repository=repr(sighting.repository))
        return False
    return True
