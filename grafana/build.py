"""The dashboards as code: `python -m grafana.build` writes grafana/dashboards/*.json, which are checked in.

What is asked of Prometheus stands here, each question once. Every series of an image is first reduced to one by `max by`,
so that two daemons that watch the same registry, or one that came back under another address, count an image once.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row, TextBoxVariable
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as words
from grafana_foundation_sdk.models import units

from grafana.panels import AMBER, BLUE, DATASOURCE, GREEN, RED, Column, Panel, Query, bars, figure, lines, rows

FOLDER = Path(__file__).resolve().parent / "dashboards"
DAEMON = 'job=~"$job"'
CHOSEN = f'{DAEMON}, registry=~"$registry", repository=~"$repository", tag=~"$tag", platform=~"$platform"'
IMAGE = "source, registry, repository, tag, platform"
LEGEND = "{{repository}}:{{tag}} {{platform}}"
PAGE = "${page}/?repository=${__data.fields.repository:percentencode}&tag=${__data.fields.tag:percentencode}"
"""The fleet page of the daemon, filtered to the image of a row."""
NAME = (
    Column("registry", "registry"),
    Column("repository", "repository", link=PAGE),
    Column("tag", "tag", link=PAGE),
    Column("platform", "platform"),
)
RISK_OF_LATER = 10


def image(metric: str, matchers: str = "", labels: str = "", *, smallest: bool = False) -> str:
    """One series for each image that is chosen, keeping `labels` too; `smallest` is the least value of the time shown."""
    chosen = f"{metric}{{{CHOSEN}{', ' if matchers else ''}{matchers}}}"
    by = f"{IMAGE}, {labels}" if labels else IMAGE
    return f"min by ({by}) (min_over_time({chosen}[$__range]))" if smallest else f"max by ({by}) ({chosen})"


def verdicts(verdict: str) -> str:
    """How many chosen images have it; 0 when none has."""
    counted = image("enoent_image_start_verdict", f'verdict="{verdict}"', "reason")
    return f"count({counted}) or vector(0)"


def largest(metric: str, by: str) -> str:
    """A gauge of the daemon; the largest where several run."""
    return f"max by ({by}) ({metric}{{{DAEMON}}})"


def per_second(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{DAEMON}}}[$__rate_interval]))"


def verdict_panels() -> list[Panel]:
    waiting = f'sum(enoent_fleet_images{{{DAEMON}, registry=~"$registry", verdict="waiting"}}) or vector(0)'
    over_time = f"count by (verdict) ({image('enoent_image_start_verdict', labels='verdict')})"
    fails = image("enoent_image_start_verdict", 'verdict="fails"', "reason")
    colours = {"starts": GREEN, "fails": RED, "unknown": AMBER}
    return [
        figure("Will not start", "Images whose next start fails, whatever the reason.", Query(verdicts("fails")),
               steps={0: GREEN, 1: RED}).height(4).span(6),
        figure("Unknown", "Images that could not be analysed, or only in part. Not known is not good.",
               Query(verdicts("unknown")), steps={0: GREEN, 1: AMBER}).height(4).span(6),
        figure("Starts", "Images that will start.", Query(verdicts("starts")), steps={0: GREEN}).height(4).span(6),
        figure("Waiting", "Images seen but not analysed yet; narrowed by registry only.", Query(waiting)).height(4).span(6),
        lines("Verdicts over time", "Chosen images by verdict.", Query(over_time, "{{verdict}}"), unit=units.Short,
              colours=colours, stacked=True).height(8).span(12),
        bars("Why they will not start", "Failing images by reason. interpreter_absent is the classic: the file is there, and "
             "the kernel says no such file or directory.", Query(f"count by (reason) ({fails})", "{{reason}}"),
             unit=units.Short, colour=RED).height(8).span(12),
    ]  # fmt: skip


def failing_panels() -> list[Panel]:
    # Two daemons may see a moved tag at different times; one description is enough, and a second would break the join.
    info = f"topk by ({IMAGE}) (1, {image('enoent_image_info', labels='os, libc, digest')})"
    fails = image("enoent_image_start_verdict", 'verdict="fails"', "reason")
    joined = f"{fails} * on ({IMAGE}) group_left (os, libc, digest) {info}"
    columns = (*NAME, Column("reason", "reason", colour=RED), Column("os", "os"), Column("libc", "libc"),
               Column("digest", "digest"))  # fmt: skip
    return [
        rows("What fails", "Every image that will not start, and why. A click on its name opens the page that explains it.",
             columns, Query(joined), sort="reason", empty="Nothing fails.",
             hidden=("Time", "Value", "source")).height(9).span(24),
    ]  # fmt: skip


def risk_panels() -> list[Panel]:
    later = image("enoent_image_findings", 'severity="later"', "rule, severity")
    warnings = image("enoent_image_findings", 'severity="warning"', "rule, severity")
    risk = f"topk(20, sum by ({IMAGE}) ({RISK_OF_LATER} * {later} or {warnings}))"
    by_rule = f"count by (rule, severity) ({image('enoent_image_findings', labels='rule, severity')})"
    columns = (*NAME, Column("Value #risk", "risk", "short"), Column("Value #later", "fails later", "short", colour=AMBER),
               Column("Value #warnings", "warnings", "short"))  # fmt: skip
    return [
        rows("Risky", "Images that start and yet have parts that fail when they are used. Risk is ten for each of those and one "
             "for each warning.", columns, Query(risk, ref="risk"),
             Query(f"sum by ({IMAGE}) ({later}) and on ({IMAGE}) {risk}", ref="later"),
             Query(f"sum by ({IMAGE}) ({warnings}) and on ({IMAGE}) {risk}", ref="warnings"), sort="risk",
             empty="No finding besides those that keep images from starting.", hidden=("Time", "source")).height(9).span(14),
        bars("Findings by rule", "Images that have a finding of the rule. An image tells its four worst by name, the others "
             "as other.", Query(by_rule, "{{rule}} ({{severity}})"), unit=units.Short, colour=AMBER).height(9).span(10),
    ]  # fmt: skip


def size_panels() -> list[Panel]:
    size, packed = image("enoent_image_uncompressed_bytes"), image("enoent_image_compressed_bytes")
    smallest = image("enoent_image_uncompressed_bytes", smallest=True)
    return [
        bars("Biggest", "Bytes of the layers as unpacked; the ten biggest.", Query(f"topk(10, {size})", LEGEND),
             unit=units.BytesIEC).height(10).span(8),
        bars("Wasted", "Bytes that a later layer hides or replaces, yet everyone pulls; the ten worst.",
             Query(f"topk(10, {image('enoent_image_wasted_bytes')} > 0)", LEGEND), unit=units.BytesIEC, colour=AMBER)
        .height(10).span(8),
        bars("Grown", "Bytes above the smallest size that the tag had in the time shown; the ten that grew most.",
             Query(f"topk(10, {size} - {smallest} > 0)", LEGEND), unit=units.BytesIEC, colour=RED).height(10).span(8),
        lines("Bytes over time", "All chosen images together, a shared layer counted in each: as unpacked and, where the source "
              "tells, as transported.", Query(f"sum({size})", "unpacked"), Query(f"sum({packed})", "transported", "B"),
              unit=units.BytesIEC).height(7).span(12),
        lines("Bytes by repository", "The ten repositories whose tags weigh most, as unpacked.",
              Query(f"topk(10, sum by (repository) ({size}))", "{{repository}}"), unit=units.BytesIEC).height(7).span(12),
    ]  # fmt: skip


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
        .height(7).span(6),
        figure("Series not exported", "Series of images left out because of metrics.max_series; failing images stay first.",
               Query(f"max(enoent_image_series_dropped{{{DAEMON}}}) or vector(0)"), steps={0: GREEN, 1: RED})
        .height(7).span(4),
    ]  # fmt: skip


SECTIONS = (
    ("Verdicts", verdict_panels),
    ("What fails", failing_panels),
    ("Risk", risk_panels),
    ("Size and growth", size_panels),
    ("The daemon", daemon_panels),
)


def choice(name: str, label: str, metric: str, matchers: str) -> QueryVariable:
    """A variable whose values are those of a label; All matches images that lack the label too."""
    made = QueryVariable(name).label(label).datasource(DATASOURCE)
    within = f"{metric}{{{matchers}}}" if matchers else metric
    made = made.query({"query": f"label_values({within}, {name})", "refId": name, "qryType": 1})
    made = made.refresh(words.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(words.VariableSort.ALPHABETICAL_ASC)
    return made.multi(True).include_all(True).all_value(".*").current(words.VariableOption(text="All", value="$__all"))


def fleet() -> Dashboard:
    """What fails, what is risky, what is big and grows, and how the daemon does."""
    made = Dashboard("enoent / fleet").uid("enoent-fleet").tags(["enoent"]).readonly().timezone("browser")
    made = made.description("Container images that will not start, before anyone starts them.")
    made = made.time("now-24h", "now").refresh("1m").tooltip(words.DashboardCursorSync.CROSSHAIR)
    registry = 'registry=~"$registry"'
    made = made.variables([
        DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        choice("job", "Job", "enoent_build_info", ""),
        choice("registry", "Registry", "enoent_image_info", DAEMON),
        choice("repository", "Repository", "enoent_image_info", f"{DAEMON}, {registry}"),
        choice("tag", "Tag", "enoent_image_info", f'{DAEMON}, {registry}, repository=~"$repository"'),
        choice("platform", "Platform", "enoent_image_info", f'{DAEMON}, {registry}, repository=~"$repository"'),
        TextBoxVariable("page").label("Address of enoent").default_value("http://localhost:8736"),
    ])  # fmt: skip
    for title, panels in SECTIONS:
        made = made.with_row(Row(title))
        for panel in panels():
            made = made.with_panel(panel)
    return made


DASHBOARDS = {"fleet": fleet}


def written(made: Dashboard) -> str:
    """The JSON of a dashboard, the same bytes each time. Panels are numbered in their order."""
    document = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(written(make()))
