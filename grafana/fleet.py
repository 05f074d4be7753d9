"""The fleet overview: what fails, what is risky, whose it is, what is big and what grows."""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.panels import AMBER, GREEN, RED, Column, Panel, Query, bars, figure, lines, rows
from grafana.queries import DAEMON, IMAGE, LEGEND, OVER_TIME, PAGE, described, image, largest, of_team, verdicts

ISA = 'isa!=""'
NEW = 'rule!=""'
NAME = (
    Column("registry", "registry"),
    Column("repository", "repository", link=PAGE),
    Column("tag", "tag", link=OVER_TIME, told="Over time"),
    Column("platform", "platform"),
)


def verdict_panels() -> list[Panel]:
    waiting = f'sum(enoent_fleet_images{{{DAEMON}, registry=~"$registry", verdict="waiting"}}) or vector(0)'
    over_time = f"count by (verdict) ({image('enoent_image_start_verdict', labels='verdict')})"
    fails = image("enoent_image_start_verdict", 'verdict="fails"', "reason")
    colours = {"starts": GREEN, "fails": RED, "unknown": AMBER}
    return [
        figure("Will not start", "Images whose next start fails, whatever the reason.", Query(verdicts("fails")),
               steps={0: GREEN, 1: RED}).height(4).span(5),
        figure("Unknown", "Images that could not be analysed, or only in part. Not known is not good.",
               Query(verdicts("unknown")), steps={0: GREEN, 1: AMBER}).height(4).span(5),
        figure("Starts", "Images that will start.", Query(verdicts("starts")), steps={0: GREEN}).height(4).span(5),
        figure("Waiting", "Images seen but not analysed yet; narrowed by registry only.", Query(waiting)).height(4).span(4),
        figure("Sources failing", "Sources whose last attempt failed: what is pushed there goes unseen.",
               Query(f"count({largest('enoent_source_up', 'source, kind')} == 0) or vector(0)"), steps={0: GREEN, 1: RED})
        .height(4).span(5),
        lines("Verdicts over time", "Chosen images by verdict.", Query(over_time, "{{verdict}}"), unit=units.Short,
              colours=colours, stacked=True).height(8).span(12),
        bars("Why they will not start", "Failing images by reason. interpreter_absent is the classic: the file is there, and "
             "the kernel says no such file or directory.", Query(f"count by (reason) ({fails})", "{{reason}}"),
             unit=units.Short, colour=RED).height(8).span(12),
    ]  # fmt: skip


def failing_panels() -> list[Panel]:
    fails = image("enoent_image_start_verdict", 'verdict="fails"', "reason")
    joined = f"{fails} * on ({IMAGE}) group_left (team, os, libc, digest) {described('team, os, libc, digest')}"
    columns = (*NAME, Column("team", "team"), Column("reason", "reason", colour=RED), Column("os", "os"),
               Column("libc", "libc"), Column("digest", "digest"))  # fmt: skip
    new, team = image("enoent_image_new_rules", NEW, "rule"), described("team")
    news = (*NAME, Column("team", "team"), Column("rule", "rule", colour=RED), Column("Value", "new rules", "short"))
    return [
        rows("What fails", "Every image that will not start, and why. A click on its name opens the page that explains it.",
             columns, Query(joined), sort="reason", empty="Nothing fails.",
             hidden=("Time", "Value", "source")).height(9).span(24),
        rows("Made worse by the last push", "Images whose last push brought a rule that says that something fails, now or "
             "later; how many rules, and one of them by name.", news, Query(f"{new} * on ({IMAGE}) group_left (team) {team}"),
             sort="new rules", empty="No push brought anything that fails.", hidden=("Time", "source")).height(7).span(24),
    ]  # fmt: skip


def risk_panels() -> list[Panel]:
    later = image("enoent_image_findings", 'severity="later"', "rule, severity")
    warnings = image("enoent_image_findings", 'severity="warning"', "rule, severity")
    starting = image("enoent_image_start_verdict", 'verdict="starts"')
    risk = f"topk(20, {image('enoent_image_risk')} > 0 and on ({IMAGE}) {starting})"
    by_rule = f"count by (rule, severity) ({image('enoent_image_findings', labels='rule, severity')})"
    columns = (*NAME, Column("Value #risk", "risk", "short"), Column("Value #later", "fails later", "short", colour=AMBER),
               Column("Value #warnings", "warnings", "short"))  # fmt: skip
    return [
        rows("Risky", "Images that start and yet have parts that fail when they are used, by their risk score (docs/metrics.md "
             "has the formula), with the counts that it is made from.", columns, Query(risk, ref="risk"),
             Query(f"sum by ({IMAGE}) ({later}) and on ({IMAGE}) {risk}", ref="later"),
             Query(f"sum by ({IMAGE}) ({warnings}) and on ({IMAGE}) {risk}", ref="warnings"), sort="risk",
             empty="No finding besides those that keep images from starting.", hidden=("Time", "source")).height(9).span(14),
        bars("Findings by rule", "Images that have a finding of the rule. An image tells its four worst by name, the others "
             "as other.", Query(by_rule, "{{rule}} ({{severity}})"), unit=units.Short, colour=AMBER).height(9).span(10),
    ]  # fmt: skip


def team_panels() -> list[Panel]:
    fails = image("enoent_image_start_verdict", 'verdict="fails"')
    columns = (Column("team", "team"), Column("Value #images", "images", "short"),
               Column("Value #fails", "will not start", "short", colour=RED), Column("Value #risk", "highest risk", "short"),
               Column("Value #unique", "own bytes", units.BytesIEC),
               Column("Value #growth", "grown by last pushes", units.BytesIEC))  # fmt: skip
    return [
        rows("Teams", "Images by the team that the configuration names as owner; without a name are those of nobody. Own bytes "
             "are in no image of another name.", columns,
             Query(f"count by (team) ({described('team')})", ref="images"),
             Query(f"count by (team) ({of_team(fails)})", ref="fails"),
             Query(f"max by (team) ({of_team(image('enoent_image_risk'))})", ref="risk"),
             Query(f"sum by (team) ({of_team(image('enoent_image_unique_bytes'))})", ref="unique"),
             Query(f"sum by (team) ({of_team(image('enoent_image_growth_bytes'))})", ref="growth"), sort="will not start",
             empty="No image is chosen.").height(8).span(12),
        bars("Bases", "Images by the system they are built on; without a name are those that have none.",
             Query(f"count by (os) ({described('os')})", "{{os}}"), unit=units.Short).height(8).span(6),
        bars("Processor levels", "Images by the x86-64 level that their start needs; nodes below it end them with an illegal "
             "instruction.", Query(f'count by (isa) ({image("enoent_image_info", ISA, "isa")})', "{{isa}}"), unit=units.Short,
             colour=AMBER).height(8).span(6),
    ]  # fmt: skip


def size_panels() -> list[Panel]:
    size, packed = image("enoent_image_uncompressed_bytes"), image("enoent_image_compressed_bytes")
    smallest = image("enoent_image_uncompressed_bytes", smallest=True)
    unique, growth = image("enoent_image_unique_bytes"), image("enoent_image_growth_bytes")
    return [
        bars("Biggest", "Bytes of the files of all layers; the ten biggest.", Query(f"topk(10, {size})", LEGEND),
             unit=units.BytesIEC).height(10).span(8),
        bars("Wasted", "Bytes that a later layer hides or replaces, yet everyone pulls; the ten worst.",
             Query(f"topk(10, {image('enoent_image_wasted_bytes')} > 0)", LEGEND), unit=units.BytesIEC, colour=AMBER)
        .height(10).span(8),
        bars("Fastest growing", "Bytes above the smallest size that the tag had in the time shown; the ten that grew most.",
             Query(f"topk(10, {size} - {smallest} > 0)", LEGEND), unit=units.BytesIEC, colour=RED).height(10).span(8),
        bars("Grown by the last push", "Bytes that the last push of a tag added; the ten that grew most.",
             Query(f"topk(10, {growth} > 0)", LEGEND), unit=units.BytesIEC, colour=RED).height(10).span(8),
        bars("Only theirs", "Bytes of layers that no other image of the fleet has: what deleting the image would free; the ten "
             "biggest.", Query(f"topk(10, {unique} > 0)", LEGEND), unit=units.BytesIEC).height(10).span(8),
        lines("Sharing", "The whole fleet, whatever is chosen: each image counted whole, and each layer counted once.",
              Query(f"max(enoent_fleet_image_bytes{{{DAEMON}}})", "without sharing"),
              Query(f"max(enoent_fleet_layer_bytes{{{DAEMON}}})", "each layer once", "B"), unit=units.BytesIEC)
        .height(10).span(8),
        lines("Bytes over time", "All chosen images together, a shared layer counted in each: as unpacked and, where the source "
              "tells, as transported.", Query(f"sum({size})", "unpacked"), Query(f"sum({packed})", "transported", "B"),
              unit=units.BytesIEC).height(7).span(12),
        lines("Bytes by repository", "The ten repositories whose tags weigh most, as unpacked.",
              Query(f"topk(10, sum by (repository) ({size}))", "{{repository}}"), unit=units.BytesIEC).height(7).span(12),
    ]  # fmt: skip


SECTIONS = (
    ("Verdicts", verdict_panels),
    ("What fails", failing_panels),
    ("Risk", risk_panels),
    ("Whose, and on what", team_panels),
    ("Size and growth", size_panels),
)
