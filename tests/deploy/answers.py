"""What each query of the dashboards must give for a fleet: computed here from its rows, apart from all metrics code.

A model is the whole answer, so that a sample too many is as wrong as one that is missing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from analyzers.finding import Severity
from grafana.build import FOLDER
from service.fleet import FleetRow, Standing
from service.metrics import IMAGE
from tests.deploy.scraped import WORKER_AFTER, WORKER_BEFORE
from tests.prometheus import Labels

FILTERS = ("team", "registry", "repository", "tag", "platform")


class Target(NamedTuple):
    panel: dict[str, Any]
    ref: str
    expr: str

    @property
    def name(self) -> tuple[str, str]:
        return self.panel["title"], self.ref


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def targets(document: dict[str, Any]) -> Iterator[Target]:
    for panel in panels(document):
        for target in panel["targets"]:
            yield Target(panel, target["refId"], target["expr"])


TARGETS = [target for path in sorted(FOLDER.glob("*.json")) for target in targets(load(path))]


def named(target: Target) -> str:
    return f"{target.name[0]} {target.ref}"


Model = dict[Labels, Any]
"""The whole answer: labels to the value, or to a function that says whether a value is right."""


def labels(row: FleetRow, *more: str) -> Labels:
    values = {name: getattr(row, name) for name in (*IMAGE, *more)}
    return frozenset((name, str(value)) for name, value in values.items() if value)


def of(**values: str) -> Labels:
    return frozenset(values.items())


def each(rows: list[FleetRow], value: Callable[[FleetRow], float], *more: str) -> Model:
    """One sample an image, those of value 0 left out."""
    return {labels(row, *more): value(row) for row in rows if value(row)}


def counted(rows: list[FleetRow], standing: Standing) -> Model:
    return {of(): sum(row.standing is standing for row in rows)}


def positive(value: float) -> bool:
    return value > 0


def later(row: FleetRow) -> int:
    return row.count(Severity.LATER)


def warnings(row: FleetRow) -> int:
    return row.count(Severity.WARNING)


def failing_rows(rows: list[FleetRow]) -> Model:
    return {
        labels(row, "team", "reason", "os", "libc") | {("digest", row.short_digest)}: 1
        for row in rows
        if row.standing is Standing.FAILS
    }


def made_worse(rows: list[FleetRow]) -> Model:
    return {labels(row, "team") | {("rule", row.new_rules[0])}: len(row.new_rules) for row in rows if row.new_rules}


def risk(row: FleetRow) -> int:
    """Of one that starts; the formula of docs/metrics.md anew."""
    found = [each for each in row.findings if not each.rule.startswith("size.")]
    bad, poor = (sum(each.count for each in found if each.severity is level) for level in (Severity.LATER, Severity.WARNING))
    return min(69, round(100 * (1 - 0.7**bad * 0.95**poor))) if row.standing is Standing.STARTS else 0


def score(row: FleetRow) -> int:
    return {Standing.FAILS: 100, Standing.UNKNOWN: 70}.get(row.standing, risk(row))


def own_bytes(row: FleetRow) -> int:
    """In the made fleet images share their lowest layer and no other."""
    return sum(row.layer_bytes[1:])


def risky(rows: list[FleetRow]) -> list[FleetRow]:
    return [row for row in rows if risk(row)]


def analysed(rows: list[FleetRow]) -> list[FleetRow]:
    return [row for row in rows if row.state is not None]


def described(rows: list[FleetRow]) -> Model:
    """What an image is, with its score."""
    return {labels(row, "team", "os", "libc") | described_by(row): score(row) for row in analysed(rows)}


def described_by(row: FleetRow) -> Labels:
    level = {("isa", f"x86-64-v{row.isa_level}")} if row.isa_level else set()
    return frozenset({("digest", row.short_digest), *level})


def every(rows: list[FleetRow], value: Callable[[FleetRow], float]) -> Model:
    """One sample for each that was analysed, zeros too."""
    return {labels(row): value(row) for row in analysed(rows)}


def verdict_of(row: FleetRow) -> int:
    return {Standing.STARTS: 0, Standing.UNKNOWN: 1, Standing.FAILS: 2}[row.standing]


def judged(rows: list[FleetRow]) -> list[FleetRow]:
    return [row for row in rows if row.standing in (Standing.STARTS, Standing.UNKNOWN, Standing.FAILS)]


def found(rows: list[FleetRow]) -> Model:
    return {
        labels(row) | {("rule", each.rule), ("severity", str(each.severity))}: each.count for row in rows for each in row.findings
    }


def by_team(rows: list[FleetRow], value: Callable[[FleetRow], float | None], join: Callable[[list[float]], float]) -> Model:
    """None leaves a row out."""
    values: dict[Labels, list[float]] = {}
    for row in rows:
        number = value(row)
        if number is not None:
            values.setdefault(of(team=row.team) if row.team else of(), []).append(number)
    return {team: join(numbers) for team, numbers in values.items()}


def images_by_rule(rows: list[FleetRow]) -> Model:
    found = Counter((found.rule, str(found.severity)) for row in rows for found in row.findings)
    return {of(rule=rule, severity=severity): count for (rule, severity), count in found.items()}


def by(rows: list[FleetRow], field: Callable[[FleetRow], str | None], name: str, weight: Callable[[FleetRow], int]) -> Model:
    found: Counter[str] = Counter()
    for row in rows:
        found[field(row) or ""] += weight(row)
    return {of(**{name: value}): count for value, count in found.items() if value and count}


def total(rows: list[FleetRow], size: Callable[[FleetRow], int]) -> Model:
    return {of(): sum(map(size, rows))} if any(map(size, rows)) else {}


JUDGED = {Standing.STARTS: "starts", Standing.FAILS: "fails", Standing.UNKNOWN: "unknown"}
IMAGES: dict[tuple[str, str], Callable[[list[FleetRow]], Model]] = {
    ("Will not start", "A"): lambda rows: counted(rows, Standing.FAILS),
    ("Unknown", "A"): lambda rows: counted(rows, Standing.UNKNOWN),
    ("Starts", "A"): lambda rows: counted(rows, Standing.STARTS),
    ("Verdicts over time", "A"): lambda rows: by(rows, lambda row: JUDGED.get(row.standing), "verdict", lambda row: 1),
    ("Why they will not start", "A"): lambda rows: by(rows, lambda row: row.reason, "reason", lambda row: 1),
    ("What fails", "A"): failing_rows,
    ("Made worse by the last push", "A"): made_worse,
    ("Risky", "risk"): lambda rows: each(rows, risk),
    ("Risky", "later"): lambda rows: each(risky(rows), later),
    ("Risky", "warnings"): lambda rows: each(risky(rows), warnings),
    ("Teams", "images"): lambda rows: by_team(rows, lambda row: 1, sum),
    ("Teams", "fails"): lambda rows: by_team(rows, lambda row: 1 if row.standing is Standing.FAILS else None, sum),
    ("Teams", "risk"): lambda rows: by_team(rows, lambda row: score(row) if row.state else None, max),
    ("Teams", "unique"): lambda rows: by_team(rows, lambda row: own_bytes(row) if row.state else None, sum),
    ("Teams", "growth"): lambda rows: by_team(rows, lambda row: row.growth_bytes, sum),
    ("Bases", "A"): lambda rows: {
        of(os=name) if name else of(): sum(row.os == name for row in rows) for name in {row.os for row in rows}
    },
    ("Processor levels", "A"): lambda rows: by(
        rows, lambda row: f"x86-64-v{row.isa_level}" if row.isa_level else "", "isa", lambda row: 1
    ),
    ("Grown by the last push", "A"): lambda rows: each(rows, lambda row: max(0, row.growth_bytes or 0)),
    ("Only theirs", "A"): lambda rows: each(rows, own_bytes),
    ("Verdict", "A"): lambda rows: {labels(row): verdict_of(row) for row in judged(rows)},
    ("What it is now", "A"): described,
    ("Risk", "A"): lambda rows: every(rows, score),
    ("Findings", "A"): found,
    ("Unpacked", "A"): lambda rows: every(rows, lambda row: row.size_bytes),
    ("To pull", "A"): lambda rows: each(rows, lambda row: row.compressed_bytes),
    ("Wasted bytes", "A"): lambda rows: every(rows, lambda row: row.wasted_bytes),
    ("Its own", "A"): lambda rows: every(rows, own_bytes),
    ("Growth", "A"): lambda rows: {labels(row): row.growth_bytes for row in rows if row.growth_bytes is not None},
    ("Layers", "A"): lambda rows: every(rows, lambda row: len(row.layers)),
    ("Findings by rule", "A"): images_by_rule,
    ("Biggest", "A"): lambda rows: each(rows, lambda row: row.size_bytes),
    ("Wasted", "A"): lambda rows: each(rows, lambda row: row.wasted_bytes),
    ("Fastest growing", "A"): lambda rows: each(
        rows, lambda row: WORKER_AFTER - WORKER_BEFORE if row.repository == "shop/worker" else 0
    ),
    ("Bytes over time", "A"): lambda rows: total(rows, lambda row: row.size_bytes),
    ("Bytes over time", "B"): lambda rows: total(rows, lambda row: row.compressed_bytes),
    ("Bytes by repository", "A"): lambda rows: by(rows, lambda row: row.repository, "repository", lambda row: row.size_bytes),
}  # fmt: skip


def filled(expression: str, chosen: dict[str, str]) -> str:
    """As Grafana sends it: All is the variable's own pattern, a value is escaped for a regular expression."""
    values = {"__rate_interval": "30s", "__range": "5m", "job": "enoent", **dict.fromkeys(FILTERS, ".*"), **chosen}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


def fits(row: FleetRow, chosen: dict[str, str]) -> bool:
    return all(getattr(row, name) in value.split("|") for name, value in chosen.items())


def check(found: dict[Labels, float], model: Model, asked: str) -> None:
    assert set(found) == set(model), asked
    for name, wanted in model.items():
        right = wanted(found[name]) if callable(wanted) else found[name] == wanted
        assert right, f"{asked}: {dict(name)} is {found[name]}, wanted {wanted}"
