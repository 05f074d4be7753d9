"""The samples of the images, written from the fleet's rows in a thread after a change and served from memory.

Label text is written once a row and kept while the row stays the same (stack.md 2.5); a scrape waits neither for the store
nor for a rendering (hostile 127). Samples come from the current rows alone: who vanished has none.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from isal import igzip

from analyzers.finding import Severity
from service.exposition import END, head_text, labels_text, number_text, samples_text
from service.fleet import Fleet, FleetRow, Standing
from service.metrics import FLEET_METRICS, IMAGE, IMAGE_METRICS, MAX_SERIES_AN_IMAGE, Metrics
from service.owners import NOTHING, NamePatterns
from service.risk import FindingCount
from service.sharing import Sharing, find_sharing

RENDER_SECONDS = 5.0
"""A big fleet is written anew at most this often."""
WAIT_SECONDS = 0.12
"""A scrape that finds the text out of date waits this long for a new one, then takes the old."""
POLL_SECONDS = 0.5
_END_ZIPPED = gzip.compress(END, 1, mtime=0)
_VERDICTS = {
    Standing.STARTS: "starts",
    Standing.FAILS: "fails",
    Standing.UNKNOWN: "unknown",
    Standing.WAITING: "waiting",
}


class Written(NamedTuple):
    """The samples of one row, and what they were written from."""

    row: FleetRow
    unique_bytes: int | None
    labels: str
    families: tuple[str, ...]
    """In the order of IMAGE_METRICS; empty where a family has no sample of it."""

    @property
    def series(self) -> int:
        return sum(part.count("\n") for part in self.families)


class Rendering(NamedTuple):
    """The samples of the images as one scrape gets them, plain and compressed."""

    revision: int
    plain: bytes
    zipped: bytes
    series: int
    dropped: int
    cache: dict[tuple[str, ...], Written]
    """Kept for the next writing."""
    sharing: Sharing


EMPTY = Rendering(-1, b"", b"", 0, 0, {}, Sharing({}, 0, 0, 0))


class Exposition:
    """The whole text of a scrape. `keep_fresh` runs for ever in one task; `scrape` never waits for long."""

    def __init__(self, fleet: Fleet, metrics: Metrics, max_series: int, exclude: Sequence[str] = ()) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._max_series = max_series
        self._excluded = NamePatterns(exclude)
        self._rendering = EMPTY
        self._overflow = 0
        self._task: asyncio.Task[None] | None = None
        self._took_seconds = 0.0

    @property
    def sharing(self) -> Sharing:
        """What images share, as of the last writing."""
        return self._rendering.sharing

    async def keep_fresh(self) -> None:
        """Writes the images' samples anew after changes, at most every RENDER_SECONDS for a big fleet."""
        while True:
            if self._rendering.revision != self._fleet.revision:
                await self._render()
                await asyncio.sleep(RENDER_SECONDS if self._took_seconds > WAIT_SECONDS else POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def scrape(self, *, zipped: bool, open_metrics: bool = False) -> bytes:
        """All samples; those of the images are at most WAIT_SECONDS late, or as old as RENDER_SECONDS."""
        if self._rendering.revision != self._fleet.revision:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._render())
            await asyncio.wait([self._task], timeout=WAIT_SECONDS)
        own = self._metrics.text(open_metrics=open_metrics) + self._overflow_text(open_metrics)
        if zipped:
            # Members of a gzip file may follow each other (RFC 1952, 2.2); the big one is not compressed again.
            return gzip.compress(own, 1, mtime=0) + self._rendering.zipped + (_END_ZIPPED if open_metrics else b"")
        return own + self._rendering.plain + (END if open_metrics else b"")

    async def _render(self) -> None:
        started = time.monotonic()
        revision, rows = self._fleet.revision, self._fleet.rows()
        rendering = await asyncio.to_thread(render, revision, rows, self._max_series, self._rendering.cache, self._excluded)
        if rendering.revision > self._rendering.revision:
            self._rendering = rendering
            self._overflow += rendering.dropped
        self._took_seconds = time.monotonic() - started

    def _overflow_text(self, open_metrics: bool) -> bytes:
        values = {
            "enoent_image_series": self._rendering.series,
            "enoent_image_series_dropped": self._rendering.dropped,
            "enoent_image_series_overflow_total": self._overflow,
        }
        return "".join(_family(name, {(): value}, open_metrics) for name, value in values.items()).encode()


def render(
    revision: int,
    rows: Sequence[FleetRow],
    max_series: int,
    cache: dict[tuple[str, ...], Written] | None = None,
    excluded: NamePatterns = NOTHING,
) -> Rendering:
    """The samples of all rows. When they are too many, failing images stay first, then those analysed last; what is
    excluded has no series of its own.
    """
    every = [row for row in rows if row.tag and row.standing is not Standing.ARTIFACT]
    tagged = [row for row in every if not excluded.fit(row.registry, row.repository)]
    sharing = find_sharing(rows)
    known = cache or {}
    kept: dict[tuple[str, ...], Written] = {}
    for row in tagged:
        share = sharing.by_image.get(row.image_id)
        unique = None if share is None else share.unique_bytes
        found = known.get(row.key)
        same = found is not None and found.row is row and found.unique_bytes == unique
        kept[row.key] = found if found is not None and same else _write(row, unique)
    total = sum(written.series for written in kept.values())
    families: list[list[str]] = [[] for _ in IMAGE_METRICS]
    names: set[str] = set()
    series = 0
    for row in tagged if total <= max_series else _within(tagged, kept, max_series):
        written = kept[row.key]
        if written.labels in names:
            continue
        # Two names that are cut or cleaned to the same labels would make the whole scrape invalid.
        names.add(written.labels)
        for family, part in zip(families, written.families, strict=True):
            if part:
                family.append(part)
        series += written.series
    parts: list[str] = []
    for metric, family in zip(IMAGE_METRICS, families, strict=True):
        if family:
            parts += ["\n".join(head_text(metric)), "\n", *family]
    parts += _fleet_text(rows, every, sharing, len(every) - len(tagged))
    plain = "".join(parts).encode()
    return Rendering(revision, plain, igzip.compress(plain, 1), series, total - series, kept, sharing)


def _within(tagged: list[FleetRow], kept: dict[tuple[str, ...], Written], max_series: int) -> list[FleetRow]:
    left = max_series
    chosen: set[tuple[str, ...]] = set()
    for row in sorted(tagged, key=lambda row: (row.standing is not Standing.FAILS, -row.analysed_at)):
        left -= kept[row.key].series
        if left < 0:
            break
        chosen.add(row.key)
    return [row for row in tagged if row.key in chosen]


def _write(row: FleetRow, unique_bytes: int | None) -> Written:
    """What is not known has no sample."""
    labels = labels_text(IMAGE, (row.source, row.registry, row.repository, row.tag, row.platform))
    isa = f"x86-64-v{row.isa_level}" if row.isa_level else ""
    fit = [("page_size", str(row.max_page_size))] if row.max_page_size else []
    fit += [("kernel", row.kernel)] if row.kernel else []
    described = (("team", row.team), ("os", row.os), ("libc", row.libc), ("isa", isa), *fit, ("digest", row.short_digest))
    info = labels_text([name for name, _ in described], [value for _, value in described])
    analysed = row.state is not None
    judged = row.standing in (Standing.STARTS, Standing.FAILS, Standing.UNKNOWN)
    verdict = labels_text(("verdict", "reason"), (_VERDICTS.get(row.standing, ""), row.reason or ""))
    new_rule = labels_text(("rule",), (row.new_rules[0] if row.new_rules else "",))
    if row.hushed:
        verdict += ',silenced="true"'
    silenced = sum(found.count for found in row.silenced)
    samples: dict[str, list[tuple[str, float]]] = {
        "enoent_image_info": [(f"{labels},{info}", 1)],
        "enoent_image_compressed_bytes": [(labels, row.compressed_bytes)] if row.compressed_bytes else [],
        "enoent_image_uncompressed_bytes": [(labels, row.size_bytes)] if analysed else [],
        "enoent_image_wasted_bytes": [(labels, row.wasted_bytes)] if analysed else [],
        "enoent_image_unique_bytes": [(labels, unique_bytes)] if analysed and unique_bytes is not None else [],
        "enoent_image_growth_bytes": [(labels, row.growth_bytes)] if row.growth_bytes is not None else [],
        "enoent_image_new_rules": [(f"{labels},{new_rule}", len(row.new_rules))] if row.new_rules is not None else [],
        "enoent_image_risk": [(labels, row.risk)] if row.risk is not None else [],
        "enoent_image_layers": [(labels, len(row.layers))] if analysed else [],
        "enoent_image_start_verdict": [(f"{labels},{verdict}", 1)] if judged else [],
        "enoent_image_findings": [
            (f"{labels},{labels_text(('rule', 'severity'), (rule, severity))}", count)
            for rule, severity, count in _few_findings(row.loud)
        ],
        "enoent_image_silenced_findings": [(labels, silenced)] if silenced else [],
        "enoent_image_report_complete": [(labels, int(row.complete))] if judged else [],
        "enoent_image_analysed_timestamp_seconds": [(labels, row.analysed_at)] if row.analysed_at else [],
    }
    families = tuple(
        "".join(f"{metric.name}{{{text}}} {number_text(value)}\n" for text, value in samples[metric.name])
        for metric in IMAGE_METRICS
    )
    return Written(row, unique_bytes, labels, families)


def _few_findings(findings: Sequence[FindingCount]) -> list[tuple[str, str, int]]:
    """At most four samples with true sums by severity: the worst by rule, the others together."""
    room = MAX_SERIES_AN_IMAGE - len(IMAGE_METRICS) + 2
    for listed in range(min(len(findings), room), -1, -1):
        rest: Counter[Severity] = Counter()
        for found in findings[listed:]:
            rest[found.severity] += found.count
        if listed + len(rest) <= room:
            own = [(found.rule, str(found.severity), found.count) for found in findings[:listed]]
            return own + [("other", str(severity), count) for severity, count in rest.items()]
    return []


def _fleet_text(rows: Iterable[FleetRow], tagged: Iterable[FleetRow], sharing: Sharing, excluded: int) -> list[str]:
    images: Counter[tuple[str, ...]] = Counter()
    untagged: Counter[tuple[str, ...]] = Counter()
    findings: Counter[tuple[str, ...]] = Counter()
    silenced: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if not row.tag and row.standing is not Standing.ARTIFACT:
            untagged[row.source, row.registry] += 1
    for row in tagged:
        images[row.source, row.registry, _VERDICTS[row.standing], row.reason or ""] += 1
        findings.update((found.rule, str(found.severity)) for found in row.loud)
        silenced.update((found.rule, str(found.severity)) for found in row.silenced)
    totals: dict[str, dict[tuple[str, ...], int]] = {
        "enoent_fleet_images": images,
        "enoent_fleet_untagged_images": untagged,
        "enoent_fleet_finding_images": findings,
        "enoent_fleet_excluded_images": {(): excluded},
        "enoent_fleet_silenced_images": silenced,
        "enoent_fleet_layer_bytes": {(): sharing.layer_bytes},
        "enoent_fleet_image_bytes": {(): sharing.image_bytes},
        "enoent_fleet_layers": {(): sharing.layers},
    }
    return [_family(name, dict(sorted(values.items()))) for name, values in totals.items() if values]


_FLEET = {metric.name: metric for metric in FLEET_METRICS}


def _family(name: str, values: dict[tuple[str, ...], int], open_metrics: bool = False) -> str:
    metric = _FLEET[name]
    return "\n".join((*head_text(metric, open_metrics=open_metrics), *samples_text(metric, values))) + "\n"
