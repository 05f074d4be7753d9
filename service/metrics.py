"""Every metric there is: name, kind, help and labels in one table; what is counted; and the text a scrape gets.

Two parts: the daemon's own numbers, small and written at each scrape, and the samples of the images, which are written in
a thread after a change (stack.md 2.5: label text once a row, values joined) and served from memory, so that a scrape waits
neither for the store nor for a rendering (hostile 127). Samples come from the current rows alone: who vanished has none.
Knows no request and no store. The form is Prometheus text 0.0.4.
"""

from __future__ import annotations

import asyncio
import bisect
import gzip
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog
from isal import igzip
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from analyzers.finding import Severity, show
from service.fleet import Fleet, FleetRow, Standing

log = structlog.get_logger()

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES_AN_IMAGE = 15
MAX_LABEL_CHARACTERS = 256
RENDER_SECONDS = 5.0
"""A big fleet is written anew at most this often."""
WAIT_SECONDS = 0.12
"""A scrape that finds the text out of date waits this long for a new one, then takes the old."""
POLL_SECONDS = 0.5


class Metric(NamedTuple):
    """One row of docs/metrics.md."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


IMAGE = ("source", "registry", "repository", "tag", "platform")

IMAGE_METRICS = (
    Metric("enoent_image_info", "gauge", "One for each tag and platform: what the image is. The only place of its digest.",
           (*IMAGE, "os", "libc", "digest")),
    Metric("enoent_image_compressed_bytes", "gauge", "Bytes of the layers as transported.", IMAGE),
    Metric("enoent_image_uncompressed_bytes", "gauge", "Bytes of the layers as unpacked tars.", IMAGE),
    Metric("enoent_image_wasted_bytes", "gauge", "Bytes that a later layer hides or replaces.", IMAGE),
    Metric("enoent_image_layers", "gauge", "Number of layers.", IMAGE),
    Metric("enoent_image_start_verdict", "gauge",
           "One for the verdict that holds: starts, fails or unknown; a failing one carries why in reason.",
           (*IMAGE, "verdict", "reason")),
    Metric("enoent_image_findings", "gauge",
           "Findings by rule and severity; what goes beyond seven is summed by severity under the rule other.",
           (*IMAGE, "rule", "severity")),
    Metric("enoent_image_report_complete", "gauge", "One when nothing of the image was left unread, else zero.", IMAGE),
    Metric("enoent_image_analysed_timestamp_seconds", "gauge", "When the image was last analysed.", IMAGE),
)  # fmt: skip
"""Written from the rows; at most MAX_SERIES_AN_IMAGE samples each."""

FLEET_METRICS = (
    Metric("enoent_fleet_images", "gauge", "Tagged images by verdict: starts, fails, unknown or waiting.",
           ("source", "registry", "verdict", "reason")),
    Metric("enoent_fleet_untagged_images", "gauge", "Images without a tag; they are counted here and nowhere else.",
           ("source", "registry")),
    Metric("enoent_fleet_finding_images", "gauge", "Tagged images that have a finding of this rule.", ("rule", "severity")),
    Metric("enoent_image_series", "gauge", "Series of images that are exported."),
    Metric("enoent_image_series_dropped", "gauge", "Series of images that are not exported because of metrics.max_series."),
    Metric("enoent_image_series_overflow_total", "counter", "Series left out because of metrics.max_series, over all writings."),
)  # fmt: skip

DAEMON_METRICS = (
    Metric("enoent_build_info", "gauge", "One; the version of the program, of its readers and of its rules.",
           ("version", "facts_version", "rules_version")),
    Metric("enoent_config_last_reload_successful", "gauge", "One when the last reading of the configuration went well."),
    Metric("enoent_config_last_reload_success_timestamp_seconds", "gauge", "When the configuration in force was read."),
    Metric("enoent_config_limit", "gauge", "Ceilings in force, in the unit that their name ends in.", ("limit",)),
    Metric("enoent_queue_jobs", "gauge",
           "Jobs that are not finished: queued (due), retrying (due later), leased (at hand) or poisoned (given up).",
           ("state",)),
    Metric("enoent_queue_oldest_timestamp_seconds", "gauge",
           "When the oldest job that is due or at hand came in; absent without one."),
    Metric("enoent_analyses_total", "counter", "Examinations of images that ended, by outcome.", ("outcome",)),
    Metric("enoent_analysis_duration_seconds", "histogram", "Duration of examinations of images."),
    Metric("enoent_streamed_bytes_total", "counter", "Bytes of layers and archives that sources gave.", ("source",)),
    Metric("enoent_layer_requests_total", "counter",
           "Layers that examinations wanted: hit (facts were at hand), shared (being read already) or miss (read).",
           ("result",)),
    Metric("enoent_source_up", "gauge", "One when the last attempt at the source went well.", ("source", "kind")),
    Metric("enoent_source_last_success_timestamp_seconds", "gauge", "When the source was last listed completely.",
           ("source", "kind")),
    Metric("enoent_source_events_total", "counter", "What sources told, by kind.", ("source", "event")),
    Metric("enoent_reconcile_missed_total", "counter", "Changes that no event told and a listing found.", ("source",)),
    Metric("enoent_limit_hits_total", "counter", "Times that a ceiling ended something.", ("limit",)),
    Metric("enoent_worker_exits_total", "counter", "Worker processes that ended unasked.", ("reason",)),
    Metric("enoent_workers", "gauge", "Worker processes, by state.", ("state",)),
    Metric("enoent_event_loop_delay_seconds", "gauge", "Longest time that the daemon's loop let anybody wait, over a minute."),
    Metric("enoent_store_writable", "gauge", "One when the store took the last write, else zero."),
    Metric("enoent_store_bytes", "gauge", "Bytes of stored facts and reports."),
    Metric("enoent_store_evicted_layers_total", "counter", "Layers whose facts were removed to stay below state.max_bytes."),
    Metric("enoent_http_requests_total", "counter", "Requests answered, by route and status class.", ("route", "status")),
)  # fmt: skip

METRICS = (*IMAGE_METRICS, *FLEET_METRICS, *DAEMON_METRICS)
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_VERDICTS = {
    Standing.STARTS: "starts",
    Standing.FAILS: "fails",
    Standing.UNKNOWN: "unknown",
    Standing.WAITING: "waiting",
}


class Metrics:
    """The daemon's own numbers. Counters only grow; a gauge that nobody set has no sample (hostile 125)."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._by_name = {metric.name: metric for metric in METRICS}
        self._values: dict[str, dict[tuple[str, ...], float]] = {metric.name: {} for metric in METRICS}
        self._durations = [0] * (len(BUCKETS) + 1)
        self._duration_sum = 0.0
        self._observers: list[Callable[[Metrics], None]] = []
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def add(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Counts; `by` is not negative. Labels in the order of the table."""
        values = self._values[self._checked(name, labels, "counter")]
        values[labels] = values.get(labels, 0.0) + max(0.0, by)

    def set(self, name: str, *labels: str, to: float | None) -> None:
        """Sets a gauge; None takes its sample away."""
        self._put(self._values[self._checked(name, labels, "gauge")], labels, to)

    def set_total(self, name: str, *labels: str, to: float) -> None:
        """A counter that is kept elsewhere; it never falls here."""
        values = self._values[self._checked(name, labels, "counter")]
        values[labels] = max(values.get(labels, 0.0), to)

    def analysed(self, outcome: str, duration_seconds: float) -> None:
        """One examination ended."""
        self.add("enoent_analyses_total", outcome)
        self._durations[bisect.bisect_left(BUCKETS, duration_seconds)] += 1
        self._duration_sum += duration_seconds

    def at_scrape(self, observe: Callable[[Metrics], None]) -> None:
        """`observe` is called before each scrape; it reads memory only and never waits."""
        self._observers.append(observe)

    def value(self, name: str, *labels: str) -> float | None:
        """What a sample has now; None when there is none."""
        return self._values[name].get(labels)

    def text(self) -> bytes:
        """The daemon's own samples."""
        for observe in self._observers:
            observe(self)
        for status in self.fleet.sources():
            labels = (status.name, status.kind)
            self.set("enoent_source_up", *labels, to=None if status.up is None else float(status.up))
            success = status.last_success or None
            self.set("enoent_source_last_success_timestamp_seconds", *labels, to=success)
        self._forget_gone_sources()
        lines: list[str] = []
        for metric in DAEMON_METRICS:
            if metric.kind == "histogram":
                lines += _head(metric)
                lines += self._histogram(metric.name)
            elif self._values[metric.name]:
                lines += _head(metric)
                lines += _samples(metric, self._values[metric.name])
        return ("\n".join(lines) + "\n").encode() + generate_latest(self._process)

    def _checked(self, name: str, labels: tuple[str, ...], kind: str) -> str:
        metric = self._by_name[name]
        if metric.kind != kind or len(labels) != len(metric.labels):
            raise ValueError(f"{name} is a {metric.kind} with labels {metric.labels}")
        return name

    @staticmethod
    def _put(values: dict[tuple[str, ...], float], labels: tuple[str, ...], to: float | None) -> None:
        if to is None:
            values.pop(labels, None)
        else:
            values[labels] = to

    def _forget_gone_sources(self) -> None:
        known = {(status.name, status.kind) for status in self.fleet.sources()}
        for name in ("enoent_source_up", "enoent_source_last_success_timestamp_seconds"):
            for labels in [labels for labels in self._values[name] if labels not in known]:
                del self._values[name][labels]

    def _histogram(self, name: str) -> list[str]:
        lines, below = [], 0
        for bound, count in zip((*map(_number, BUCKETS), "+Inf"), self._durations, strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{name}_sum {_number(self._duration_sum)}", f"{name}_count {below}"]


class Rendering(NamedTuple):
    """The samples of the images as one scrape gets them, plain and compressed."""

    revision: int
    plain: bytes
    zipped: bytes
    series: int
    dropped: int
    cache: dict[tuple[str, ...], tuple[FleetRow, tuple[str, ...]]]
    """Text of each row by family, kept for the next writing."""


EMPTY = Rendering(-1, b"", b"", 0, 0, {})


class Exposition:
    """The whole text of a scrape. `keep_fresh` runs for ever in one task; `scrape` never waits for long."""

    def __init__(self, fleet: Fleet, metrics: Metrics, max_series: int) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._max_series = max_series
        self._rendering = EMPTY
        self._overflow = 0
        self._task: asyncio.Task[None] | None = None
        self._took_seconds = 0.0

    async def keep_fresh(self) -> None:
        """Writes the images' samples anew after changes, at most every RENDER_SECONDS for a big fleet."""
        while True:
            if self._rendering.revision != self._fleet.revision:
                await self._render()
                await asyncio.sleep(RENDER_SECONDS if self._took_seconds > WAIT_SECONDS else POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def scrape(self, *, zipped: bool) -> bytes:
        """All samples; those of the images are at most WAIT_SECONDS late, or as old as RENDER_SECONDS."""
        if self._rendering.revision != self._fleet.revision:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._render())
            await asyncio.wait([self._task], timeout=WAIT_SECONDS)
        own = self._metrics.text() + self._overflow_text()
        if zipped:
            # Members of a gzip file may follow each other (RFC 1952, 2.2); the big one is not compressed again.
            return gzip.compress(own, 1, mtime=0) + self._rendering.zipped
        return own + self._rendering.plain

    async def _render(self) -> None:
        started = time.monotonic()
        revision, rows = self._fleet.revision, self._fleet.rows()
        rendering = await asyncio.to_thread(render, revision, rows, self._max_series, self._rendering.cache)
        if rendering.revision > self._rendering.revision:
            self._rendering = rendering
            self._overflow += rendering.dropped
        self._took_seconds = time.monotonic() - started

    def _overflow_text(self) -> bytes:
        values = (self._rendering.series, self._rendering.dropped, self._overflow)
        lines: list[str] = []
        for metric, value in zip(FLEET_METRICS[3:], values, strict=True):
            lines += [*_head(metric), f"{metric.name} {value}"]
        return ("\n".join(lines) + "\n").encode()


def render(
    revision: int,
    rows: Sequence[FleetRow],
    max_series: int,
    cache: dict[tuple[str, ...], tuple[FleetRow, tuple[str, ...]]] | None = None,
) -> Rendering:
    """The samples of all rows. When they are too many, failing images stay first, then those analysed last."""
    tagged = [row for row in rows if row.tag and row.standing is not Standing.ARTIFACT]
    known = cache or {}
    kept: dict[tuple[str, ...], tuple[FleetRow, tuple[str, ...]]] = {}
    for row in tagged:
        found = known.get(row.key)
        kept[row.key] = found if found is not None and found[0] is row else (row, _row_text(row))
    chosen = _within(tagged, kept, max_series)
    families: list[list[str]] = [[] for _ in IMAGE_METRICS]
    names: set[str] = set()
    series = 0
    for row in chosen:
        text = kept[row.key][1]
        if text[0] in names:
            continue
        # Two names that are cut or cleaned to the same labels would make the whole scrape invalid.
        names.add(text[0])
        for family, part in zip(families, text[1:], strict=True):
            if part:
                family.append(part)
                series += part.count("\n")
    total = sum(_series_of(kept[row.key][1]) for row in tagged)
    parts: list[str] = []
    for metric, family in zip(IMAGE_METRICS, families, strict=True):
        if family:
            parts += ["\n".join(_head(metric)), "\n", *family]
    parts += _fleet_text(rows, tagged)
    plain = "".join(parts).encode()
    return Rendering(revision, plain, igzip.compress(plain, 1), series, total - series, kept)


def _within(
    tagged: list[FleetRow], kept: dict[tuple[str, ...], tuple[FleetRow, tuple[str, ...]]], max_series: int
) -> list[FleetRow]:
    total = sum(_series_of(kept[row.key][1]) for row in tagged)
    if total <= max_series:
        return tagged
    left = max_series
    chosen: set[tuple[str, ...]] = set()
    for row in sorted(tagged, key=lambda row: (row.standing is not Standing.FAILS, -row.analysed_at)):
        left -= _series_of(kept[row.key][1])
        if left < 0:
            break
        chosen.add(row.key)
    return [row for row in tagged if row.key in chosen]


def _series_of(text: tuple[str, ...]) -> int:
    return sum(part.count("\n") for part in text[1:])


def _row_text(row: FleetRow) -> tuple[str, ...]:
    """The labels of a row, then its samples by family in the order of IMAGE_METRICS."""
    labels = _labels(IMAGE, (row.source, row.registry, row.repository, row.tag, row.platform))
    info = _labels(("os", "libc", "digest"), (row.os, row.libc, row.short_digest))
    analysed = row.state is not None
    judged = row.standing in (Standing.STARTS, Standing.FAILS, Standing.UNKNOWN)
    verdict = _labels(("verdict", "reason"), (_VERDICTS.get(row.standing, ""), row.reason or ""))
    values: tuple[tuple[bool, str, float], ...] = (
        (True, f"{labels},{info}", 1),
        (row.compressed_bytes > 0, labels, row.compressed_bytes),
        (analysed, labels, row.size_bytes),
        (analysed, labels, row.wasted_bytes),
        (analysed, labels, len(row.layers)),
        (judged, f"{labels},{verdict}", 1),
    )
    head = tuple(
        f"{metric.name}{{{text}}} {_number(value)}\n" if there else ""
        for metric, (there, text, value) in zip(IMAGE_METRICS, values, strict=False)
    )
    findings = "".join(
        f"{IMAGE_METRICS[6].name}{{{labels},{_labels(('rule', 'severity'), (rule, severity))}}} {count}\n"
        for rule, severity, count in _few_findings(row)
    )
    complete = f"{IMAGE_METRICS[7].name}{{{labels}}} {int(row.complete)}\n" if judged else ""
    at = f"{IMAGE_METRICS[8].name}{{{labels}}} {_number(row.analysed_at)}\n" if row.analysed_at else ""
    return (labels, *head, findings, complete, at)


def _few_findings(row: FleetRow) -> list[tuple[str, str, int]]:
    """At most seven samples with true sums by severity: the worst by rule, the others together."""
    room = MAX_SERIES_AN_IMAGE - len(IMAGE_METRICS) + 1
    for listed in range(min(len(row.findings), room), -1, -1):
        rest: Counter[Severity] = Counter()
        for found in row.findings[listed:]:
            rest[found.severity] += found.count
        if listed + len(rest) <= room:
            own = [(found.rule, str(found.severity), found.count) for found in row.findings[:listed]]
            return own + [("other", str(severity), count) for severity, count in rest.items()]
    return []


def _fleet_text(rows: Iterable[FleetRow], tagged: Iterable[FleetRow]) -> list[str]:
    images: Counter[tuple[str, ...]] = Counter()
    untagged: Counter[tuple[str, ...]] = Counter()
    findings: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if not row.tag and row.standing is not Standing.ARTIFACT:
            untagged[row.source, row.registry] += 1
    for row in tagged:
        images[row.source, row.registry, _VERDICTS[row.standing], row.reason or ""] += 1
        findings.update((found.rule, str(found.severity)) for found in row.findings)
    parts: list[str] = []
    for metric, counted in zip(FLEET_METRICS, (images, untagged, findings), strict=False):
        if counted:
            parts += ["\n".join((*_head(metric), *_samples(metric, dict(sorted(counted.items()))))), "\n"]
    return parts


def _samples(metric: Metric, values: dict[tuple[str, ...], float] | dict[tuple[str, ...], int]) -> list[str]:
    return [
        f"{metric.name}{{{_labels(metric.labels, labels)}}} {_number(value)}" if labels else f"{metric.name} {_number(value)}"
        for labels, value in values.items()
    ]


def _head(metric: Metric) -> tuple[str, str]:
    return f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(f'{name}="{_label(value)}"' for name, value in zip(names, values, strict=True))


def _label(value: str) -> str:
    """A value that every parser reads: printable, bounded, with the three escapes of the text form."""
    if not value.isprintable():
        value = show(value.encode("utf-8", "backslashreplace"))
    value = value[:MAX_LABEL_CHARACTERS]
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return value


def _number(value: float) -> str:
    whole = int(value)
    return str(whole) if whole == value else repr(float(value))
