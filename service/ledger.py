"""The fleet's books: every change of a name goes through here, to the queue, the store and the fleet in memory, in that order.

Truth is the store, the fleet in memory is what it says now, jobs are hints. A change is first shown, then asked for, then
written down: killed in between, the next listing finds the same change again. Writes wait for a store that takes none; what
became of a name is written only as long as the name still shows what was examined.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from analyzers.finding import Report, State
from analyzers.profile import HostProfile
from analyzers.readers import FACTS_VERSION
from service.builds import Builds
from service.errors import StoreError
from service.fleet import Fleet, FleetRow, make_row
from service.history import Change, History, Moment
from service.jobs import examination, judgement
from service.pipeline import report_key
from service.silencing import Silences
from service.sources import Build, Sighting
from service.store import SightingRow, Store
from service.work import PRIORITY_ASKED, PRIORITY_RESCAN, Wish, Work

log = structlog.get_logger()

PAUSE_FIRST_SECONDS = 1.0
PAUSE_LONGEST_SECONDS = 30.0
AT_ONCE = 200
"""Rows that are read back together at start; the loop turns in between."""
RETRIED = frozenset(
    {
        "bad-digest", "bad-encoding", "bad-range", "defect", "denied", "digest-mismatch", "facts-lost", "layers-missing",
        "moved", "no-worker", "not-found", "queued", "rate-limited", "redirects", "size-mismatch", "slow", "tls", "truncated",
        "unauthorized", "unreachable", "worker-died",
    }
)  # fmt: skip
"""Outcomes that are no last word: another try may end otherwise."""

Clock = Callable[[], float]
Written = TypeVar("Written")


class Ledger:
    """What is known of every name. All of it is used on one loop."""

    def __init__(self, store: Store, work: Work, fleet: Fleet, clock: Clock = time.time) -> None:
        self.store = store
        self.work = work
        self.fleet = fleet
        self.clock = clock
        self.builds = Builds(store.database)
        self.history = History(store.database, clock)
        self.wishes_of: Callable[[Sequence[Change]], Sequence[Wish]] = lambda changes: ()
        """What is to be done about changes of the fleet; asked for in the transaction that writes them down."""
        self.told = asyncio.Event()
        """Set when changes were written down."""
        self.wake = asyncio.Event()
        """Set when there may be something to do."""
        self.trouble = ""
        """Why the last write did not go through; empty when it did."""

    async def persist(self, write: Callable[[], Awaitable[Written]]) -> Written:
        """`write`, repeated until the store takes it. Each is one transaction, so nothing is half done in between."""
        pause = PAUSE_FIRST_SECONDS
        while True:
            try:
                written = await write()
            except StoreError as error:
                self.note_trouble(str(error))
            else:
                self.note_trouble("")
                return written
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_LONGEST_SECONDS)

    def note_trouble(self, trouble: str) -> None:
        """The store's state as the last write told it; logged when it changes."""
        if trouble and not self.trouble:
            log.error("store refuses", error=trouble)
        elif self.trouble and not trouble:
            log.info("store takes writes again")
        self.trouble = trouble

    # What sources tell

    async def appear(self, sightings: Sequence[Sighting]) -> None:
        """Names that are new, or that show another digest than before: they wait for their verdict."""
        if not sightings:
            return
        now = self.clock()
        for sighting in sightings:
            first = min((row.first_seen for row in self.fleet.named(sighting)), default=now)
            self.fleet.replace(sighting, [make_row(sighting, "", None, outcome="queued", first_seen=first, last_seen=now)])
        try:
            await self.submit([examination(sighting, fresh=True) for sighting in sightings])
            await self.persist(lambda: self.store.note_sightings(sightings))
        except Exception:
            # A defect. What nobody will examine must not stand there as waiting; the next listing finds it again.
            for sighting in sightings:
                self.fleet.remove(sighting)
            raise

    async def see_again(self, sightings: Sequence[Sighting]) -> None:
        """Names that still show what they showed."""
        if not sightings:
            return
        now = self.clock()
        for sighting in sightings:
            for row in self.fleet.named(sighting):
                self.fleet.upsert(msgspec.structs.replace(row, last_seen=now))
        await self.persist(lambda: self.store.note_sightings(sightings))

    async def note_builds(self, builds: Mapping[str, Build]) -> None:
        """What builds made, by digest; the images themselves may be known already, come later, or never."""
        news = self.fleet.news_of_builds(builds)
        if news:
            self.fleet.note_builds(news)
            await self.persist(lambda: self.builds.put(news))

    async def leave(self, sightings: Sequence[Sighting]) -> None:
        """Names that are no more: pages, API and metrics forget them at once."""
        if not sightings:
            return
        for sighting in sightings:
            self.fleet.remove(sighting)
        await self.persist(lambda: self.store.remove_sightings(sightings))

    async def submit(self, wishes: Sequence[Wish]) -> None:
        """Asks for work."""
        if wishes:
            await self.persist(lambda: self.work.submit_many(wishes))
            self.wake.set()

    async def rescan(self, sightings: Sequence[Sighting]) -> int:
        """A person wants these names examined anew, whatever became of them before. Raises StoreError."""
        wishes = [examination(sighting, PRIORITY_ASKED, fresh=True, asked=True) for sighting in sightings]
        await self.work.submit_many(wishes)
        self.wake.set()
        return len(wishes)

    # What examinations give

    def is_current(self, sighting: Sighting) -> bool:
        """Whether the name still shows this digest."""
        rows = self.fleet.named(sighting)
        return bool(rows) and rows[0].digest == sighting.digest

    async def record(self, sighting: Sighting, rows: Sequence[FleetRow]) -> None:
        """What an examination found replaces every row of the name, unless it meanwhile left or moved."""

        async def write() -> None:
            if self.is_current(sighting):
                await self.store.put_examined(sighting, [_stored(row) for row in rows])

        await self.persist(write)
        if self.is_current(sighting):
            noted = await self._note(rows)
            if self.is_current(sighting):
                self.fleet.replace(sighting, noted)

    async def record_judgement(self, image_id: str, key: str, report: Report) -> None:
        """A newer report of an image, under every name of it."""
        await self.persist(lambda: self.store.put_judged_again(image_id, key))
        named = [row for row in self.fleet.of_image(image_id) if row.image_id == image_id and row.report_key]
        for row in await self._note([renewed(row, key, report, self.clock(), self.fleet.silences) for row in named]):
            if any(shown.key == row.key and shown.image_id == image_id for shown in self.fleet.named(row.sighting)):
                self.fleet.upsert(row)

    async def _note(self, rows: Sequence[FleetRow]) -> list[FleetRow]:
        """Writes changes into the history and tells them; gives the rows with what their last push changed."""
        hushed = {_place(row) for row in rows if row.hushed}

        async def ask(connection: AsyncConnection, changes: Sequence[Change]) -> None:
            """Of a failure that is silenced nobody is told; it stands in the history all the same."""
            told = [each for each in changes if not (each.after.state == State.FAILS and _place(each.after) in hushed)]
            await self.work.submit_within(connection, self.wishes_of(told))

        changes = await self.persist(lambda: self.history.note(rows, ask))
        news = {_place(change.after): change for change in changes if change.before is not None}
        known = {_place(row): row for row in self.fleet.rows_of_names(rows)}
        if changes:
            self.told.set()
        return [_changed(row, news.get(_place(row)), known.get(_place(row))) for row in rows]

    # What is silenced

    async def renew_silences(self, silences: Silences) -> None:
        """Other silences are in force, or it is another day: every row that may be concerned is counted anew."""
        self.fleet.silences = silences
        rows = [row for row in self.fleet.rows() if row.report_key and self._may_be_silenced(row)]
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            bodies = await self.store.reports({row.report_key for row in some})
            for row in some:
                body = bodies.get(row.report_key)
                if body is not None and row in self.fleet.named(row.sighting):
                    report = msgspec.json.decode(body, type=Report)
                    counts = silences.counts(row.registry, row.repository, report)
                    self.fleet.upsert(msgspec.structs.replace(row, silenced=counts))
                await asyncio.sleep(0)

    def _may_be_silenced(self, row: FleetRow) -> bool:
        rules = (found.rule for found in row.findings)
        return bool(row.silenced) or self.fleet.silences.may_fit(row.registry, row.repository, rules)

    # Across a restart

    async def recall(self, sources: Collection[str], profile: HostProfile) -> None:
        """Fills the fleet from the store, for these sources, and asks for what is not settled or was judged by other rules.

        Old reports stay visible until the new ones are there (decisions 8).
        """
        self.fleet.note_builds(await self.builds.all())
        stored = [row for row in await self.store.sightings() if row.sighting.source in sources]
        changes = await self.history.last_changes()
        for start in range(0, len(stored), AT_ONCE):
            rows = stored[start : start + AT_ONCE]
            bodies = await self.store.reports({row.report_key for row in rows})
            layers = await self.store.layer_keys({row.image_id for row in rows})
            wishes = []
            shown_rows = []
            for row in rows:
                body = bodies.get(row.report_key)
                shown = _shown(row, msgspec.json.decode(body, type=Report) if body else None, self.fleet.silences)
                shown_rows.append(_changed(shown, changes.get(_place(shown)), None))
                self.fleet.upsert(shown_rows[-1])
                wish = _wish_for(row, layers.get(row.image_id, ()) if body else (), profile)
                wishes += [wish] if wish is not None else []
                await asyncio.sleep(0)
            await self.submit(wishes)
            # A daemon that was killed between a verdict and its history tells of it now.
            for shown in await self._note(shown_rows):
                self.fleet.upsert(shown)


def _place(named: FleetRow | Moment) -> tuple[str, str, str, str, str]:
    """Name and platform."""
    return named.source, named.registry, named.repository, named.tag, named.platform


def _changed(row: FleetRow, change: Change | None, known: FleetRow | None) -> FleetRow:
    """The row with what the last push changed: news, or what was known of it."""
    if change is not None:
        return msgspec.structs.replace(row, growth_bytes=change.growth_bytes, new_rules=change.new_rules)
    if known is not None:
        return msgspec.structs.replace(row, growth_bytes=known.growth_bytes, new_rules=known.new_rules)
    return row


def _wish_for(row: SightingRow, layers: tuple[str, ...], profile: HostProfile) -> Wish | None:
    """What a stored row needs: an examination, a judgement by new rules, or nothing."""
    if row.report_key and layers:
        if is_current_report(row, layers, profile):
            return None
        return examination(row.sighting, PRIORITY_RESCAN) if _by_other_readers(layers) else judgement(row.image_id)
    if row.outcome == "done" or is_retried(row.outcome):
        return examination(row.sighting)
    return None


def is_current_report(row: SightingRow, layers: tuple[str, ...], profile: HostProfile) -> bool:
    """Whether the row's report is what today's readers and rules give for this host; `layers` are its facts' keys."""
    return not _by_other_readers(layers) and row.report_key == report_key(row.image_id, layers, profile, None)


def _by_other_readers(layers: tuple[str, ...]) -> bool:
    return any(key.split("|")[1] != FACTS_VERSION for key in layers)


def is_retried(outcome: str) -> bool:
    """Whether another try may end otherwise."""
    return outcome in RETRIED or outcome.startswith("http-")


def renewed(row: FleetRow, key: str, report: Report, now: float, silences: Silences | None = None) -> FleetRow:
    """The same name with another report of the same image."""
    return make_row(
        row.sighting, row.platform, report, outcome="done", silences=silences,
        manifest_digest=row.manifest_digest, image_id=row.image_id,
        report_key=key, compressed_bytes=row.compressed_bytes, first_seen=row.first_seen, last_seen=row.last_seen,
        analysed_at=now,
    )  # fmt: skip


def _shown(row: SightingRow, report: Report | None, silences: Silences) -> FleetRow:
    return make_row(
        row.sighting, row.platform, report, silences=silences,
        outcome="queued" if row.outcome == "done" and report is None else row.outcome, detail=row.detail,
        manifest_digest=row.manifest_digest, image_id=row.image_id, report_key=row.report_key if report else "",
        compressed_bytes=row.compressed_bytes, first_seen=row.first_seen, last_seen=row.last_seen,
        analysed_at=row.analysed_at,
    )  # fmt: skip


def _stored(row: FleetRow) -> SightingRow:
    return SightingRow(
        sighting=row.sighting, platform=row.platform, manifest_digest=row.manifest_digest, image_id=row.image_id,
        compressed_bytes=row.compressed_bytes, outcome=row.outcome, detail=row.detail, report_key=row.report_key,
        first_seen=row.first_seen, last_seen=row.last_seen, analysed_at=row.analysed_at, missing=0,
    )  # fmt: skip
