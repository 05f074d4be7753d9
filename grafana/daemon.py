"""The daemon's own health: its queue, its sources, its workers, its store."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.panels import AMBER, BLUE, GREEN, RED, Column, Panel, Query, bars, figure, lines, rows
from grafana.queries import DAEMON, largest, per_second


def daemon_panels() -> list[Panel]:
    oldest = f"time() - min(enoent_queue_oldest_timestamp_seconds{{{DAEMON}}}) or vector(0)"
    source = "source, kind"
    success = f"time() - {largest('enoent_source_last_success_timestamp_seconds', source)}"
    duration = per_second("enoent_analysis_duration_seconds_bucket", "le")
    hits = f'sum(rate(enoent_layer_requests_total{{{DAEMON}, result!="miss"}}[$__rate_interval]))'
    asked = f"sum(rate(enoent_layer_requests_total{{{DAEMON}}}[$__rate_interval]))"
    ended = "sum by ({0}) (increase({1}{{{2}}}[$__range])) > 0"
    columns = (Column("source", "source"), Column("kind", "kind"), Column("Value #up", "up", "bool_yes_no"),
               Column("Value #age", "last listed", units.DurationSeconds))  # fmt: skip
    return [
        figure("Queue", "Jobs that are not finished: due, to be tried again later, at hand, or given up.",
               Query(largest("enoent_queue_jobs", "state"), "{{state}}"))
        .height(5).span(6),
        figure("Oldest job", "How long the oldest job that is due or at hand has been there.", Query(oldest),
               unit=units.Seconds, steps={0: GREEN, 3600: AMBER, 6 * 3600: RED}).height(5).span(4),
        figure("Store takes writes", "1 while results can be written down; without that nothing new is analysed.",
               Query(f"min(enoent_store_writable{{{DAEMON}}})"), steps={0: RED, 1: GREEN}).height(5).span(4),
        rows("Sources", "Whether the last attempt at each source went well, and when it was last listed completely.",
             columns, Query(largest("enoent_source_up", source), ref="up"), Query(success, ref="age"), sort="last listed",
             empty="No source was asked yet.").height(5).span(10),
        lines("Analyses", "Examinations that ended, by outcome; anything but done is told on the image's page.",
              Query(per_second("enoent_analyses_total", "outcome"), "{{outcome}}"), unit=units.OpsPerSecond, stacked=True)
        .height(7).span(8),
        lines("Duration of analyses", "Half are done within the lower line, 19 of 20 within the upper.",
              Query(f"histogram_quantile(0.5, {duration})", "half", "A"),
              Query(f"histogram_quantile(0.95, {duration})", "19 of 20", "B"), unit=units.Seconds).height(7).span(8),
        lines("Layers not read again", "Share of wanted layers whose facts were at hand or being read already.",
              Query(f"{hits} / {asked}", "shared"), unit=units.PercentUnit, colours={"shared": BLUE}).height(7).span(8),
        lines("Streamed", "Bytes of layers and archives that sources gave.",
              Query(per_second("enoent_streamed_bytes_total", "source"), "{{source}}"), unit=units.BytesPerSecondIEC)
        .height(7).span(6),
        bars("Worker exits", "Worker processes that ended unasked in the time shown, by reason.",
             Query(ended.format("reason", "enoent_worker_exits_total", DAEMON), "{{reason}}"), unit=units.Short, colour=RED)
        .height(7).span(4),
        bars("Limits hit", "Ceilings that ended something in the time shown; the images concerned are unknown.",
             Query(ended.format("limit", "enoent_limit_hits_total", DAEMON), "{{limit}}"), unit=units.Short, colour=AMBER)
        .height(7).span(4),
        lines("Memory of the daemon", "Resident memory; its workers are processes of their own.",
              Query(f"max by (instance) (process_resident_memory_bytes{{{DAEMON}}})", "{{instance}}"), unit=units.BytesIEC)
        .height(7).span(10),
        lines("Requests answered", "Pages, API and scrapes, by class of status.",
              Query(per_second("enoent_http_requests_total", "status"), "{{status}}"), unit=units.RequestsPerSecond)
        .height(7).span(12),
        lines("Longest wait of the loop", "The longest time within a minute that the daemon let anybody wait.",
              Query(f"max(enoent_event_loop_delay_seconds{{{DAEMON}}})", "wait"), unit=units.Seconds).height(7).span(6),
        bars("Told", "Changes told to receivers in the time shown: sent, retried or given up.",
             Query(ended.format("receiver, outcome", "enoent_notices_total", DAEMON), "{{receiver}} {{outcome}}"),
             unit=units.Short).height(7).span(6),
        lines("Stored", "Bytes of stored facts and reports.",
              Query(f"max(enoent_store_bytes{{{DAEMON}}})", "facts and reports"), unit=units.BytesIEC).height(7).span(6),
        lines("Workers", "Worker processes by state.", Query(largest("enoent_workers", "state"), "{{state}}"),
              unit=units.Short, stacked=True).height(7).span(6),
        figure("Configuration in force", "1 while the last reading of the configuration went well.",
               Query(f"min(enoent_config_last_reload_successful{{{DAEMON}}})"), steps={0: RED, 1: GREEN}).height(7).span(4),
        figure("Series of images", "Series that a scrape carries for images.",
               Query(f"max(enoent_image_series{{{DAEMON}}})")).height(7).span(4),
        figure("Series not exported", "Series of images left out because of metrics.max_series; failing images stay first.",
               Query(f"max(enoent_image_series_dropped{{{DAEMON}}}) or vector(0)"), steps={0: GREEN, 1: RED})
        .height(7).span(4),
    ]  # fmt: skip


SECTIONS = (("The daemon", daemon_panels),)
