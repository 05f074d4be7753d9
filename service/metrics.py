"""Every metric there is: name, kind, help and labels in one table, and the daemon's own numbers.

The daemon's numbers are small and written at each scrape; the samples of the images are image_samples.py's. Knows no request
and no store.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from service.exposition import END, Metric, head_text, number_text, samples_text
from service.fleet import Fleet

MAX_SERIES_AN_IMAGE = 16
"""Of one without silenced findings; those have one series more."""
IMAGE = ("source", "registry", "repository", "tag", "platform")

IMAGE_METRICS = (
    Metric("enoent_image_info", "gauge",
           "One for each tag and platform: what the image is, and what its start asks of the host (isa, the largest page_size of "
           "a kernel that can map it, the oldest kernel). The only place of its digest.",
           (*IMAGE, "team", "os", "libc", "isa", "page_size", "kernel", "digest")),
    Metric("enoent_image_compressed_bytes", "gauge", "Bytes of the layers as transported.", IMAGE),
    Metric("enoent_image_uncompressed_bytes", "gauge", "Bytes of the files of all layers, unpacked, hidden ones too.", IMAGE),
    Metric("enoent_image_wasted_bytes", "gauge", "Bytes of files that a later layer hides or replaces.", IMAGE),
    Metric("enoent_image_unique_bytes", "gauge", "Bytes of files in layers that no other image of the fleet has.", IMAGE),
    Metric("enoent_image_growth_bytes", "gauge",
           "Change of the unpacked size by the last push of this tag; absent before there were two.", IMAGE),
    Metric("enoent_image_new_rules", "gauge",
           "Rules of fatal and later findings that the last push of this tag brought, one of them in rule; absent before two.",
           (*IMAGE, "rule")),
    Metric("enoent_image_risk", "gauge", "Risk score from 0 to 100: the formula of docs/metrics.md over verdict and findings.",
           IMAGE),
    Metric("enoent_image_layers", "gauge", "Number of layers.", IMAGE),
    Metric("enoent_image_start_verdict", "gauge",
           "One for the verdict that holds: starts, fails or unknown; a failing one carries why in reason, and true in silenced "
           "where the configuration silences that.",
           (*IMAGE, "verdict", "reason", "silenced")),
    Metric("enoent_image_findings", "gauge",
           "Findings that are not silenced, by rule and severity; what goes beyond four is summed by severity under the rule "
           "other.",
           (*IMAGE, "rule", "severity")),
    Metric("enoent_image_silenced_findings", "gauge", "Findings that the configuration silences; absent without any.", IMAGE),
    Metric("enoent_image_report_complete", "gauge", "One when nothing of the image was left unread, else zero.", IMAGE),
    Metric("enoent_image_analysed_timestamp_seconds", "gauge", "When the image was last analysed.", IMAGE),
)  # fmt: skip
"""Written from the rows; at most MAX_SERIES_AN_IMAGE samples each."""

FLEET_METRICS = (
    Metric("enoent_fleet_images", "gauge", "Tagged images by verdict: starts, fails, unknown or waiting.",
           ("source", "registry", "verdict", "reason")),
    Metric("enoent_fleet_untagged_images", "gauge", "Images without a tag; they are counted here and nowhere else.",
           ("source", "registry")),
    Metric("enoent_fleet_excluded_images", "gauge",
           "Tagged images without series of their own because of metrics.exclude; all other sums have them."),
    Metric("enoent_fleet_layer_bytes", "gauge", "Bytes of the files of all distinct layers: the fleet when each is kept once."),
    Metric("enoent_fleet_image_bytes", "gauge", "Bytes of the files of all distinct images, as if they shared nothing."),
    Metric("enoent_fleet_layers", "gauge", "Number of distinct layers."),
    Metric("enoent_fleet_finding_images", "gauge", "Tagged images that have a finding of this rule that is not silenced.",
           ("rule", "severity")),
    Metric("enoent_fleet_silenced_images", "gauge", "Tagged images that have a silenced finding of this rule.",
           ("rule", "severity")),
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
    Metric("enoent_hook_requests_total", "counter",
           "Deliveries to hooks: accepted, or refused: unauthorized, not-ours, malformed, too-large, slow, limited, unavailable.",
           ("hook", "outcome")),
    Metric("enoent_hook_events_total", "counter",
           "Events told to hooks: taken (looked at), unwatched, ignored (pulls, blobs, no tag) or replayed.",
           ("hook", "outcome")),
    Metric("enoent_hook_lag_seconds", "gauge",
           "Of the last event that was looked at: seconds from its time, by the sender's clock, to the end of the look.",
           ("hook",)),
    Metric("enoent_notices_total", "counter", "Changes told to receivers: sent, retried or given-up.", ("receiver", "outcome")),
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

    def text(self, *, open_metrics: bool = False) -> bytes:
        """The daemon's own samples, in the text form or as OpenMetrics without its end."""
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
                lines += head_text(metric, open_metrics=open_metrics)
                lines += self._histogram(metric.name)
            elif self._values[metric.name]:
                lines += head_text(metric, open_metrics=open_metrics)
                lines += samples_text(metric, self._values[metric.name])
        write = openmetrics.generate_latest if open_metrics else generate_latest
        return ("\n".join(lines) + "\n").encode() + write(self._process).removesuffix(END)

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
        for bound, count in zip((*map(repr, BUCKETS), "+Inf"), self._durations, strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{name}_sum {number_text(self._duration_sum)}", f"{name}_count {below}"]
