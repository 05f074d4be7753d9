"""The dashboards as code: `python -m grafana.build` writes grafana/dashboards/*.json, which are checked in.

What is asked of Prometheus stands in fleet.py, one_image.py and daemon.py; what they have in common in queries.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    TextBoxVariable,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as words

from grafana import daemon, fleet, one_image
from grafana.panels import DATASOURCE, Panel
from grafana.queries import DAEMON, INFO, TEAM

FOLDER = Path(__file__).resolve().parent / "dashboards"
TAG = "enoent"
Sections = Sequence[tuple[str, Callable[[], list[Panel]]]]


def choice(name: str, label: str, metric: str, matchers: str, *, one: bool = False) -> QueryVariable:
    """A variable whose values are those of a label; All matches images that lack the label too. With `one` there is no All."""
    made = QueryVariable(name).label(label).datasource(DATASOURCE)
    within = f"{metric}{{{matchers}}}" if matchers else metric
    made = made.query({"query": f"label_values({within}, {name})", "refId": name, "qryType": 1})
    made = made.refresh(words.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(words.VariableSort.ALPHABETICAL_ASC)
    if one:
        return made.multi(False).include_all(False)
    return made.multi(True).include_all(True).all_value(".*").current(words.VariableOption(text="All", value="$__all"))


def _dashboard(name: str, told: str, variables: Sequence[object], sections: Sections) -> Dashboard:
    made = Dashboard(f"enoent / {name}").uid(f"enoent-{name}").tags([TAG]).readonly().timezone("browser").description(told)
    made = made.time("now-24h", "now").refresh("1m").tooltip(words.DashboardCursorSync.CROSSHAIR)
    link = DashboardLink("enoent").type(words.DashboardLinkType.DASHBOARDS).tags([TAG])
    made = made.links([link.as_dropdown(False).include_vars(False).keep_time(True)])
    first = DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    made = made.variables([first, choice("job", "Job", "enoent_build_info", ""), *variables])
    for title, panels in sections:
        made = made.with_row(Row(title))
        for panel in panels():
            made = made.with_panel(panel)
    return made


def _images(*, one: bool = False) -> list[object]:
    """The variables by which images are chosen; with `one` a single repository."""
    of_team = f"{DAEMON}, {TEAM}"
    of_registry = f'{of_team}, registry=~"$registry"'
    chosen = f'{of_registry}, repository=~"$repository"'
    return [
        choice("team", "Team", INFO, DAEMON),
        choice("registry", "Registry", INFO, of_team),
        choice("repository", "Repository", INFO, of_registry, one=one),
        choice("tag", "Tag", INFO, chosen),
        choice("platform", "Platform", INFO, chosen),
        TextBoxVariable("page").label("Address of enoent").default_value("http://localhost:8736"),
    ]


DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "fleet": lambda: _dashboard(
        "fleet", "Container images that will not start, before anyone starts them.", _images(), fleet.SECTIONS
    ),
    "image": lambda: _dashboard(
        "image", "One repository over time: whether its tags start, what they weigh.", _images(one=True), one_image.SECTIONS
    ),
    "daemon": lambda: _dashboard("daemon", "How enoent itself does.", (), daemon.SECTIONS),
}


def written(made: Dashboard) -> str:
    """The JSON of a dashboard, the same bytes each time. Panels are numbered in their order."""
    document = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(written(make()))
