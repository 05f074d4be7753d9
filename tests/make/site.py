"""The web application over a fleet made by hand, and the store's two answers kept in a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from analyzers.finding import Report
from analyzers.rules import RULES
from service.fleet import Fleet, FleetRow
from service.history import Change, Moment
from service.metrics import Metrics
from service.remedies import Learned
from service.running import Running
from service.settings import Settings
from service.sources import LayerSource, Sighting
from service.web import make_app
from tests.make.reports import row


class KeptReports:
    """Reports by key, as the store gives them; `asked` counts."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.layers: dict[str, tuple[LayerSource, ...]] = {}
        self.packages: dict[str, Learned] = {}
        self.asked = 0

    async def report(self, key: str) -> bytes | None:
        self.asked += 1
        return self.bodies.get(key)

    async def packages_of(self, report: Report) -> dict[str, Learned]:
        return {library: found for library, found in self.packages.items() if library in report.missing}

    async def layers_of(self, manifest_digest: str) -> tuple[LayerSource, ...]:
        return self.layers.get(manifest_digest, ())


class KeptHistory:
    """Changes as the history gives them, the newest first."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    async def latest(self, limit: int = 50) -> list[Change]:
        return self.changes[:limit]

    async def of_tag(self, registry: str, repository: str, tag: str, platform: str = "", limit: int = 100) -> list[Moment]:
        moments = [change.after for change in self.changes]
        found = [each for each in moments if (each.registry, each.repository, each.tag) == (registry, repository, tag)]
        return [each for each in found if platform in ("", each.platform)][:limit]

    async def moment(self, number: int) -> Moment | None:
        return next((change.after for change in self.changes if change.after.id == number), None)


class World:
    """A fleet, its reports, its metrics and what was asked to be examined anew."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.reports = KeptReports()
        self.history = KeptHistory()
        self.metrics = Metrics(self.fleet)
        self.rescanned: list[Sighting] = []
        self.unready: list[str] = []
        self.running: tuple[Running, ...] = ()

    def show(self, report: Report | None, repository: str, tag: str = "latest", **changes: Any) -> FleetRow:
        """Puts an image under a name into the fleet."""
        made = row(report, repository, tag, **changes)
        if report is not None:
            self.reports.bodies[made.report_key] = msgspec.json.encode(report)
        self.fleet.upsert(made)
        return made

    async def rescan(self, sightings: Sequence[Sighting]) -> int:
        self.rescanned += sightings
        return len(sightings)

    async def readiness(self) -> Sequence[str]:
        return self.unready

    def app(self, **changes: Any) -> web.Application:
        values: dict[str, Any] = {
            "fleet": self.fleet, "reports": self.reports, "history": self.history, "metrics": self.metrics, "rescan": self.rescan,
            "running": lambda: self.running,
            "readiness": self.readiness, "settings": Settings(), "rules": RULES, "version": "0.1.0",
        }  # fmt: skip
        return make_app(**(values | changes))
