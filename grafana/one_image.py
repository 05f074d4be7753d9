"""One image over time: its verdict, its risk, what was found in it, what it weighs."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.panels import AMBER, GREEN, RED, Column, Panel, Query, lines, rows, states
from grafana.queries import LEGEND, PAGE, described, image

STATES = {0: ("starts", GREEN), 1: ("unknown", AMBER), 2: ("will not start", RED)}
NAME = "registry, repository, tag, platform"


def verdict_panels() -> list[Panel]:
    fails, unknown, starts = (
        image("enoent_image_start_verdict", f'verdict="{verdict}"') for verdict in ("fails", "unknown", "starts")
    )
    joined = f"{image('enoent_image_risk')} * on (source, {NAME}) group_left (team, os, libc, isa, digest) "
    what = described("team, os, libc, isa, digest")
    columns = (Column("tag", "tag", link=PAGE), Column("platform", "platform"), Column("team", "team"), Column("os", "os"),
               Column("libc", "libc"), Column("isa", "processor"), Column("digest", "digest"),
               Column("Value", "risk", "short"))  # fmt: skip
    return [
        states("Verdict", "What each tag and platform would do when started. A gap is a time without the daemon or the tag.",
               Query(f"2 * {fails} or {unknown} or 0 * {starts}", LEGEND), STATES).height(6).span(24),
        rows("What it is now", "The image behind each tag, with its risk score.", columns, Query(joined + what), sort="risk",
             empty="No image is chosen.", hidden=("Time", "source", "registry", "repository")).height(6).span(24),
    ]  # fmt: skip


def finding_panels() -> list[Panel]:
    found = image("enoent_image_findings", labels="rule, severity")
    columns = (Column("severity", "severity"), Column("rule", "rule"), Column("tag", "tag", link=PAGE),
               Column("platform", "platform"), Column("Value", "findings", "short"))  # fmt: skip
    return [
        lines("Risk", "Risk score from 0 to 100; 100 will not start, 70 is unknown.", Query(image("enoent_image_risk"), LEGEND),
              unit=units.Short).height(8).span(12),
        rows("Findings", "Findings by rule; the four worst rules by name, the others as other.", columns, Query(found),
             sort="findings", empty="Nothing was found.", hidden=("Time", "source", "registry", "repository"))
        .height(8).span(12),
    ]  # fmt: skip


def size_panels() -> list[Panel]:
    def over_time(title: str, told: str, metric: str) -> Panel:
        return lines(title, told, Query(image(metric), LEGEND), unit=units.BytesIEC).height(7).span(8)

    return [
        over_time("Unpacked", "Bytes of the files of all layers.", "enoent_image_uncompressed_bytes"),
        over_time("To pull", "Bytes of the layers as transported, where the source tells.", "enoent_image_compressed_bytes"),
        over_time("Wasted bytes", "Bytes that a later layer hides or replaces.", "enoent_image_wasted_bytes"),
        over_time("Its own", "Bytes of layers that no other image of the fleet has.", "enoent_image_unique_bytes"),
        over_time("Growth", "Change of the unpacked size by the last push.", "enoent_image_growth_bytes"),
        lines("Layers", "Number of layers.", Query(image("enoent_image_layers"), LEGEND), unit=units.Short).height(7).span(8),
    ]


SECTIONS = (("Does it start", verdict_panels), ("Risk and findings", finding_panels), ("Size", size_panels))
