"""Jobs are leased and run, some at a time; what came of each is written down, and decides whether it is tried again.

Knows outcomes: their bytes are wrong (a stored outcome, final), their server is wrong (tried again with growing pauses, for
ever), a worker died (three times, then final), we are wrong (told once, with its traceback). No source takes every turn.
Refuses to know how anything is read or judged: that is pipeline.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec
import structlog

from analyzers.errors import EnoentError, Rejected
from analyzers.finding import Report
from analyzers.oci import Platform, parse_config, parse_platform
from service.errors import NotAnImage, SourceError, StoreError, WorkerDied
from service.fleet import FleetRow, make_row
from service.jobs import JUDGE, Look, examination, examine_kind, look_of
from service.ledger import Ledger, is_current_report
from service.metrics import Metrics
from service.pipeline import Examined, Examiner
from service.running import Board
from service.settings import JobSettings
from service.sources import ImageSource, LayerSource, LostImage, Sighting, Source
from service.store import SightingRow
from service.work import LEASE_SECONDS, PRIORITY_RESCAN, Job

log = structlog.get_logger()

IDLE_SECONDS = 30.0
"""Longest wait before the queue is looked at without having been told to."""
CAP_SHARE = 0.75
"""Share of the turns that one source may take when there are others."""
FINAL_CODES = frozenset({"not-an-image", "no-such-platform", "manifest-too-large", "size-mismatch"})
"""Failures of a source that no other try can mend, since they are about bytes that have a digest."""
_LIMIT = re.compile(r"[a-z-]*(?:-limit|too-large|too-many-members|zstd-window)")
_LIMIT_DEATHS = frozenset({"memory", "cpu", "deadline"})


class Ending(msgspec.Struct, frozen=True):
    """What is to become of the job."""

    again: bool = False
    retry_after: float = 0.0
    death: str = ""
    """Why a worker died over it."""
    error: str = ""


class Attempted(msgspec.Struct, frozen=True):
    """What became of one image of a name, or (without an image) of the name as a whole."""

    outcome: str
    detail: str = ""
    ending: Ending = Ending()
    image: ImageSource | None = None
    platform: str = ""
    """Empty for the name as a whole."""
    examined: Examined | None = None
    duration_seconds: float = 0.0


class _Turn:
    """Names with one digest, one after another."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Examining:
    """Runs jobs until it is told to stop. `sources` is looked at anew for each job."""

    def __init__(
        self,
        ledger: Ledger,
        examiner: Examiner,
        sources: Mapping[str, Source],
        metrics: Metrics,
        settings: JobSettings,
        platforms: Collection[Platform] = (),
    ) -> None:
        self._ledger = ledger
        self._examiner = examiner
        self._sources = sources
        self._metrics = metrics
        self._settings = settings
        self._platforms = platforms
        self._running: dict[asyncio.Task[None], str] = {}
        self._digests: dict[tuple[str, str], _Turn] = {}
        self._stopping = False
        self.board = Board()
        """What is being examined at the moment."""

    async def run(self) -> None:
        """Leases and runs until `stop`; returns when nothing is at hand any more."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._ledger.wake.clear()
                kinds = self._open_kinds()
                job = await self._lease(kinds) if kinds else None
                if job is None:
                    await self._wait(bool(kinds))
                    continue
                task = group.create_task(self._run(job), name=f"{job.kind} {job.key}")
                self._running[task] = job.kind
                task.add_done_callback(self._ended)

    async def stop(self, grace_seconds: float) -> None:
        """Takes no more work; what is at hand may go on for so long, then it is handed back."""
        self._stopping = True
        self._ledger.wake.set()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_seconds)
        for task in list(self._running):
            task.cancel()

    @property
    def at_hand(self) -> int:
        return len(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._ledger.wake.set()

    async def _lease(self, kinds: Collection[str]) -> Job | None:
        return await self._ledger.persist(lambda: self._ledger.work.lease(kinds))

    def _open_kinds(self) -> list[str]:
        """The kinds of which one more job may begin."""
        if len(self._running) >= self._settings.parallel:
            return []
        taken = Counter(self._running.values())
        cap = self._settings.parallel
        if len(self._sources) > 1:
            cap = max(1, math.ceil(cap * CAP_SHARE))
        kinds = [examine_kind(name) for name in self._sources]
        return [kind for kind in (*kinds, JUDGE) if taken[kind] < cap]

    async def _wait(self, looked: bool) -> None:
        """Until there may be something to do."""
        timeout = IDLE_SECONDS
        if looked:
            due = await self._ledger.persist(self._ledger.work.next_due)
            timeout = IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(due, 0.5))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ledger.wake.wait()

    # One job

    async def _run(self, job: Job) -> None:
        """Works a job off and settles it; cut short, it is handed back."""
        holding = asyncio.create_task(self._hold(job))
        try:
            ending = await self._work_off(job)
            await self._ledger.persist(lambda: self._settle(job, ending))
        except asyncio.CancelledError:
            # Should the store refuse even this, the next start frees the lease (Work.reconcile).
            with contextlib.suppress(StoreError):
                await self._ledger.work.hand_back(job)
            raise
        finally:
            holding.cancel()

    async def _hold(self, job: Job) -> None:
        """Renews the lease of a long job."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._ledger.persist(lambda: self._ledger.work.renew(job))

    async def _settle(self, job: Job, ending: Ending) -> None:
        work = self._ledger.work
        if ending.death:
            await work.died(job, ending.error)
        elif ending.again:
            await work.retry(job, ending.error, ending.retry_after)
        else:
            await work.done(job)

    async def _work_off(self, job: Job) -> Ending:
        if job.kind == JUDGE:
            return await self._judge_again(job.key)
        look = look_of(job.payload)
        sighting = look.sighting
        source = self._sources.get(sighting.source)
        if source is None or not self._ledger.is_current(sighting):
            return Ending()
        with structlog.contextvars.bound_contextvars(source=source.name, image=_shown_name(sighting)):
            async with self._turn_of(source.name, sighting.digest):
                if not look.asked and await self._copy_known(sighting):
                    return Ending()
                attempted = await self._examine(source, look, job)
                await self._record(sighting, attempted)
        return _worst([each.ending for each in attempted])

    @contextlib.asynccontextmanager
    async def _turn_of(self, source: str, digest: str) -> AsyncIterator[None]:
        """Names of one source with the same digest go one after another: the later ones copy what the first became."""
        if not digest:
            yield
            return
        turn = self._digests.setdefault((source, digest), _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._digests[source, digest]

    async def _copy_known(self, sighting: Sighting) -> bool:
        """Another name with the same digest was examined: its rows are this name's too, without any request (hostile 60)."""
        store, profile = self._ledger.store, self._examiner.profile
        known = await self._ledger.persist(lambda: store.resolved(sighting.source, sighting.digest))
        if not known or any(_name(row.sighting) == _name(sighting) for row in known):
            return False
        bodies = await self._ledger.persist(lambda: store.reports({row.report_key for row in known}))
        layers = await self._ledger.persist(lambda: store.layer_keys({row.image_id for row in known}))
        for each in known:
            if each.report_key not in bodies or not is_current_report(each, layers.get(each.image_id, ()), profile):
                return False
        rows = [self._copied(sighting, row, msgspec.json.decode(bodies[row.report_key], type=Report)) for row in known]
        await self._ledger.record(sighting, rows)
        for row in rows:
            self._metrics.analysed(row.outcome, 0.0)
        log.info("image known", digest=sighting.digest, platforms=len(rows))
        return True

    def _copied(self, sighting: Sighting, known: SightingRow, report: Report) -> FleetRow:
        return make_row(
            sighting, known.platform, report, outcome=known.outcome, silences=self._ledger.fleet.silences,
            manifest_digest=known.manifest_digest,
            report_key=known.report_key, compressed_bytes=known.compressed_bytes, analysed_at=known.analysed_at,
            first_seen=self._first_seen(sighting), last_seen=self._ledger.clock(),
        )  # fmt: skip

    async def _examine(self, source: Source, look: Look, job: Job) -> list[Attempted]:
        started = time.monotonic()
        try:
            images = await source.resolve(look.sighting, self._platforms)
        except Exception as error:  # noqa: BLE001 - sorted out in `_failed`, which tells defects apart
            return [await self._failed(error, job, None, "", started)]
        return [await self._examine_image(source, image, job) for image in images]

    async def _examine_image(self, source: Source, image: ImageSource | LostImage, job: Job) -> Attempted:
        started = time.monotonic()
        platform = str(image.platform)
        if isinstance(image, LostImage):
            return await self._failed(image.error, job, None, platform, started)
        try:
            with self.board.metering(self._metrics, source.name, image) as meter:
                examined = await self._examiner.examine_image(source, image, progress=meter)
        except Exception as error:  # noqa: BLE001 - as above
            return await self._failed(error, job, image, platform, started)
        duration = time.monotonic() - started
        return Attempted(examined.outcome, examined.detail, Ending(), image, platform, examined, duration)

    async def _failed(self, error: Exception, job: Job, image: ImageSource | None, platform: str, started: float) -> Attempted:
        """What an error means. A store that refuses is waited for; the job then begins again."""
        if isinstance(error, StoreError):
            self._ledger.note_trouble(str(error))
            await self._ledger.persist(self._ledger.store.writable)
            return Attempted("queued", "", Ending(again=True, error=str(error)), image, platform)
        outcome, detail, ending = judge_error(error, job.deaths, self._settings.deaths)
        if outcome == "defect":
            log.error("image defect", exc_info=error)
        return Attempted(outcome, detail, ending, image, platform, None, time.monotonic() - started)

    # Writing down

    async def _record(self, sighting: Sighting, attempted: Sequence[Attempted]) -> None:
        """The rows of the name: a failed try does not take away what an earlier one found of the same digest."""
        known = {row.platform: row for row in self._ledger.fleet.named(sighting) if row.report_key}
        rows: list[FleetRow] = []
        for each in attempted:
            if (each.ending.again or each.ending.death) and (each.platform in known if each.platform else known):
                rows += [known[each.platform]] if each.platform else known.values()
            elif each.outcome != "queued":
                rows.append(self._row(sighting, each))
            self._tell(each)
        if rows:
            await self._ledger.record(sighting, rows)

    def _row(self, sighting: Sighting, each: Attempted) -> FleetRow:
        image, examined = each.image, each.examined
        report = msgspec.json.decode(examined.report, type=Report) if examined and examined.report else None
        return make_row(
            sighting, each.platform, report, outcome=each.outcome, detail=each.detail, silences=self._ledger.fleet.silences,
            manifest_digest=image.manifest_digest if image else "", image_id=image.image_id if image else "",
            report_key=examined.report_key if examined else "", compressed_bytes=image.compressed_bytes if image else 0,
            analysed_at=0.0 if each.ending.again or each.ending.death else self._ledger.clock(),
            first_seen=self._first_seen(sighting), last_seen=self._ledger.clock(),
        )  # fmt: skip

    def _first_seen(self, sighting: Sighting) -> float:
        return min((row.first_seen for row in self._ledger.fleet.named(sighting)), default=self._ledger.clock())

    def _tell(self, each: Attempted) -> None:
        """The one line of a finished image, and its counts."""
        self._metrics.analysed(each.outcome, each.duration_seconds)
        image, examined = each.image, each.examined
        values: dict[str, object] = {"outcome": each.outcome}
        if each.detail:
            values["detail"] = each.detail
        if image is not None:
            values |= {"platform": str(image.platform), "image_id": image.image_id, "layers": len(image.layers)}
        if examined is not None:
            self._metrics.add("enoent_layer_requests_total", "miss", by=examined.layers_read)
            values |= {"read": examined.layers_read, "bytes": examined.bytes_read}
        if examined is not None and examined.report:
            report = msgspec.json.decode(examined.report, type=Report)
            values |= {"verdict": str(report.verdict.state), "findings": len(report.findings)}
            if report.verdict.reason:
                values["reason"] = str(report.verdict.reason)
            if examined.layers_read:
                self._count_limits([text.rpartition(": ")[2] for text in report.incomplete])
        self._count_limits([each.outcome] if each.ending.death == "" else [f"worker-{each.ending.death}"])
        log.info("image done", **values, duration_seconds=round(each.duration_seconds, 3))

    def _count_limits(self, words: Sequence[str]) -> None:
        for word in words:
            if _LIMIT.fullmatch(word) or word.removeprefix("worker-") in _LIMIT_DEATHS:
                self._metrics.add("enoent_limit_hits_total", word)

    # Newer rules

    async def _judge_again(self, image_id: str) -> Ending:
        """By stored facts alone. Where they are gone or of other readers, the layers are read again at lowest priority."""
        rows = [row for row in self._ledger.fleet.of_image(image_id) if row.image_id == image_id and row.report_key]
        if not rows:
            return Ending()
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(source=rows[0].source, image=_shown_name(rows[0].sighting)):
            try:
                image = await self._remembered(rows[0])
                examined = await self._examiner.judge_again(image) if image else None
            except StoreError as error:
                self._ledger.note_trouble(str(error))
                return Ending(again=True, error=str(error))
            except EnoentError as error:
                _, detail, ending = judge_error(error, 0, self._settings.deaths)
                log.warning("image judge failed", error=detail)
                return ending
            if examined is None or not examined.report:
                await self._ledger.submit([examination(row.sighting, PRIORITY_RESCAN) for row in rows])
                return Ending()
            report = msgspec.json.decode(examined.report, type=Report)
            await self._ledger.record_judgement(image_id, examined.report_key, report)
            self._metrics.analysed("done", time.monotonic() - started)
            log.info("image judged again", verdict=str(report.verdict.state), names=len(rows))
        return Ending()

    async def _remembered(self, row: FleetRow) -> ImageSource | None:
        """An image examined before, put together from the store alone."""
        stored = await self._ledger.store.image(row.image_id)
        if stored is None:
            return None
        config = parse_config(stored.config)
        layers = await self._ledger.store.layers_of(row.manifest_digest) if row.manifest_digest else ()
        return ImageSource(
            sighting=row.sighting, platform=parse_platform(stored.platform), manifest_digest=row.manifest_digest,
            image_id=stored.image_id, config_body=stored.config, config=config,
            layers=layers or tuple(LayerSource(diff_id=diff_id) for diff_id in config.diff_ids),
            compressed_bytes=row.compressed_bytes,
        )  # fmt: skip


def judge_error(error: Exception, deaths: int, most_deaths: int) -> tuple[str, str, Ending]:
    """Outcome, detail and what becomes of the job."""
    if isinstance(error, NotAnImage):
        return error.code, str(error), Ending()
    if isinstance(error, Rejected):
        return error.code, error.detail, Ending()
    if isinstance(error, SourceError):
        if error.code in FINAL_CODES and not error.temporary:
            return error.code, str(error), Ending()
        wait = error.retry_after if error.temporary else math.inf
        return error.code, str(error), Ending(again=True, retry_after=wait, error=str(error))
    if isinstance(error, WorkerDied):
        if error.reason in ("start", "closing"):
            return "no-worker", "no worker process could be had", Ending(again=True, error=str(error))
        if deaths + 1 >= most_deaths:
            return "worker-died", f"worker-died: {error.reason}", Ending(death=error.reason, error=str(error))
        detail = f"a worker died over it ({error.reason}); it is tried again"
        return "worker-died", detail, Ending(death=error.reason, error=str(error))
    return "defect", f"an error of ours: {type(error).__name__}", Ending()


def _worst(endings: Sequence[Ending]) -> Ending:
    """One job, several images: a death weighs most, then the longest wait."""
    deaths = [ending for ending in endings if ending.death]
    again = [ending for ending in endings if ending.again]
    if deaths:
        return deaths[0]
    return max(again, key=lambda ending: ending.retry_after) if again else Ending()


def _name(sighting: Sighting) -> tuple[str, str, str]:
    return (sighting.registry, sighting.repository, sighting.tag)


def _shown_name(sighting: Sighting) -> str:
    return make_row(sighting, "", None, outcome="").name
