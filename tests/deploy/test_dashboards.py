"""Dashboards: they are what the builder writes, they keep the rules of good ones, and every query gives what is known.

No Grafana can be had for tests. What stands for it: its SDK's types, which read the checked-in file; the rules of its
dashboard linter that apply here; and a real Prometheus, asked every query with every value of every variable, whose whole
answers must be those of a model computed here from the fleet itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import DASHBOARDS, FOLDER, written
from service.fleet import FleetRow
from service.metrics import METRICS
from tests.deploy.answers import (
    FILTERS,
    IMAGES,
    TARGETS,
    Model,
    Target,
    check,
    filled,
    fits,
    load,
    named,
    of,
    panels,
    positive,
    targets,
)
from tests.deploy.conftest import Scraped
from tests.deploy.scraped import LISTED_SECONDS, OLDEST_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PROVISIONING = ROOT / "grafana" / "provisioning"
FILES = sorted(FOLDER.glob("*.json"))
HISTOGRAM = ("_bucket", "_sum", "_count")
FOREIGN = {"process_resident_memory_bytes"}
"""Samples of prometheus_client's own collector; that they are there is shown by the scrape."""


# The file


def test_every_dashboard_is_what_its_builder_writes() -> None:
    assert [path.stem for path in FILES] == sorted(DASHBOARDS)
    for name, make in DASHBOARDS.items():
        assert (FOLDER / f"{name}.json").read_text() == written(make()), "run: python -m grafana.build"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_types_of_grafana_read_every_dashboard(path: Path) -> None:
    read = Dashboard.from_json(load(path))
    assert read.panels
    assert read.schema_version == 41


# The rules of grafana/dashboard-linter


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestLint:
    def test_a_dashboard_has_its_own_uid_and_is_not_edited_in_place(self, path: Path) -> None:
        document = load(path)
        assert document["uid"] == f"enoent-{path.stem}"
        assert document["editable"] is False
        assert "id" not in document
        assert re.fullmatch(r"\d+m", document["refresh"])

    def test_the_datasource_is_a_variable_everywhere(self, path: Path) -> None:
        document = load(path)
        variables = {variable["name"]: variable for variable in document["templating"]["list"]}
        assert variables["datasource"]["type"] == "datasource"
        assert variables["datasource"]["query"] == "prometheus"
        users = [*panels(document), *(target for panel in panels(document) for target in panel["targets"])]
        users += [variable for variable in variables.values() if variable["type"] == "query"]
        assert {user["datasource"]["uid"] for user in users} == {"${datasource}"}

    def test_variables_offer_all_and_follow_the_time_shown(self, path: Path) -> None:
        variables = [variable for variable in load(path)["templating"]["list"] if variable["type"] == "query"]
        assert [variable["name"] for variable in variables] == (["job"] if path.stem == "daemon" else ["job", *FILTERS])
        for variable in variables:
            assert variable["refresh"] == 2
            if path.stem == "image" and variable["name"] == "repository":
                assert not variable["includeAll"], "one at a time"
                continue
            assert variable["includeAll"]
            assert variable["multi"]
            # Not .+ as the linter has it: images of a Docker engine have no registry, and All must show them.
            assert variable["allValue"] == ".*"

    def test_every_panel_says_what_it_shows_and_in_which_unit(self, path: Path) -> None:
        shown = panels(load(path))
        titles = [panel["title"] for panel in shown]
        assert len(titles) == len(set(titles))
        for panel in shown:
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["targets"], panel["title"]

    def test_panels_fill_the_grid_without_covering_each_other(self, path: Path) -> None:
        taken: dict[tuple[int, int], str] = {}
        for panel in load(path)["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert taken.setdefault((x, y), panel["title"]) == panel["title"]
        assert len(taken) == 24 * (1 + max(y for _, y in taken))

    def test_every_query_is_of_the_chosen_job(self, path: Path) -> None:
        for target in targets(load(path)):
            selectors = re.findall(r"\{([^}]*)\}", target.expr)
            assert selectors, named(target)
            assert all(selector.startswith('job=~"$job"') for selector in selectors), named(target)

    def test_counters_are_shown_as_rates_and_rates_take_grafanas_interval(self, path: Path) -> None:
        counters = {metric.name for metric in METRICS if metric.kind == "counter"}
        for target in targets(load(path)):
            for name in counters & set(re.findall(r"\w+", target.expr)):
                assert re.search(rf"sum(?: by \([^)]*\))? \((?:rate|increase)\({name}|sum\(rate\({name}", target.expr), named(
                    target
                )
            for function, interval in re.findall(r"(rate|increase|min_over_time)\([^\[]*\[([^\]]*)\]", target.expr):
                assert interval == ("$__rate_interval" if function == "rate" else "$__range"), named(target)


def metric_names(expression: str) -> set[str]:
    return set(re.findall(r"([a-z_]+)\{", expression))


def test_every_metric_of_every_dashboard_exists(scraped: Scraped) -> None:
    known = {metric.name for metric in METRICS}
    known |= {metric.name + suffix for metric in METRICS if metric.kind == "histogram" for suffix in HISTOGRAM}
    there = {name for name in scraped.prometheus.ask("label/__name__/values") if name in FOREIGN}
    for path in FILES:
        document = load(path)
        asked = set().union(*(metric_names(target.expr) for target in targets(document)))
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                asked |= set(re.findall(r"label_values\((\w+)", variable["query"]["query"]))
        assert asked <= known | there


# What the queries give

DAEMON: dict[tuple[str, str], Model] = {
    ("Queue", "A"): {of(state="queued"): 3, of(state="leased"): 1},
    ("Oldest job", "A"): {of(): lambda value: value >= OLDEST_SECONDS},
    ("Store takes writes", "A"): {of(): 1},
    ("Series not exported", "A"): {of(): 0},
    ("Series of images", "A"): {of(): positive},
    ("Sources failing", "A"): {of(): 1},
    ("Requests answered", "A"): {of(status="2xx"): positive},
    ("Longest wait of the loop", "A"): {of(): 0.25},
    ("Told", "A"): {of(receiver="chat", outcome="sent"): positive},
    ("Stored", "A"): {of(): 123_456},
    ("Workers", "A"): {of(state="idle"): 2},
    ("Configuration in force", "A"): {of(): 1},
    # Base layers of Debian and Alpine once, and the one layer of its own that each of six images has.
    ("Sharing", "B"): {of(): 77_800_000 + 7_800_000 + 4 * 12_300_000 + 2 * 6_100_000},
    ("Sharing", "A"): {of(): 4 * (77_800_000 + 12_300_000) + 2 * (7_800_000 + 6_100_000)},
    ("Sources", "up"): {of(source="production", kind="registry"): 1, of(source="docker", kind="docker"): 0},
    ("Sources", "age"): {of(source="production", kind="registry"): lambda value: value >= LISTED_SECONDS},
    ("Analyses", "A"): {of(outcome="done"): positive},
    ("Duration of analyses", "A"): {of(): pytest.approx(1.75)},
    ("Duration of analyses", "B"): {of(): pytest.approx(2.425)},
    ("Layers not read again", "A"): {of(): pytest.approx(0.75)},
    ("Streamed", "A"): {of(source="production"): positive},
    ("Worker exits", "A"): {of(reason="memory"): positive},
    ("Limits hit", "A"): {of(limit="cpu_seconds"): positive},
}
ELSEWHERE = {("Waiting", "A"), ("Memory of the daemon", "A")}
"""Asked by a test of their own."""


def choices(rows: list[FleetRow]) -> Iterator[dict[str, str]]:
    yield {}
    for name in FILTERS:
        for value in sorted({getattr(row, name) for row in rows} - {""}):
            yield {name: value}
    yield {"registry": "registry.example.test", "repository": "shop/api", "tag": "1.0", "platform": "linux/arm64"}
    yield {"repository": "shop/api|shop/report"}
    yield {"repository": "no/such"}


def test_every_query_has_a_known_answer() -> None:
    assert {target.name for target in TARGETS} == {*IMAGES, *DAEMON, *ELSEWHERE}


@pytest.mark.promtool
@pytest.mark.parametrize("target", [target for target in TARGETS if target.name in IMAGES], ids=named)
def test_a_query_about_images_gives_what_the_fleet_has_for_every_choice(scraped: Scraped, target: Target) -> None:
    tagged = [row for row in scraped.world.fleet.rows() if row.tag]
    answers = set()
    for chosen in choices(tagged):
        model = IMAGES[target.name]([row for row in tagged if fits(row, chosen)])
        asked = filled(target.expr, chosen)
        check(scraped.prometheus.query(asked), model, asked)
        answers.add(frozenset((name, value) for name, value in model.items() if not callable(value)))
    assert len(answers) > 1, "the choice makes no difference"


@pytest.mark.promtool
@pytest.mark.parametrize("target", [target for target in TARGETS if target.name in DAEMON], ids=named)
def test_a_query_about_the_daemon_gives_what_it_did(scraped: Scraped, target: Target) -> None:
    asked = filled(target.expr, {})
    check(scraped.prometheus.query(asked), DAEMON[target.name], asked)
    assert not {value for value in scraped.prometheus.query(filled(target.expr, {"job": "other"})).values() if value}


@pytest.mark.promtool
def test_what_waits_is_counted_by_registry(scraped: Scraped) -> None:
    [waiting] = [target for target in TARGETS if target.name[0] == "Waiting"]
    assert scraped.prometheus.query(filled(waiting.expr, {})) == {of(): 1}
    assert scraped.prometheus.query(filled(waiting.expr, {"registry": "other.example.test"})) == {of(): 0}


@pytest.mark.promtool
def test_the_memory_shown_is_that_of_the_daemon(scraped: Scraped) -> None:
    [memory] = [target for target in TARGETS if target.name[0] == "Memory of the daemon"]
    [(name, value)] = scraped.prometheus.query(filled(memory.expr, {})).items()
    assert dict(name)["instance"].startswith("127.0.0.1:")
    assert value > 1 << 20


@pytest.mark.promtool
def test_the_variables_offer_what_the_fleet_has(scraped: Scraped) -> None:
    rows = [row for row in scraped.world.fleet.rows() if row.tag]
    for variable in load(FOLDER / "fleet.json")["templating"]["list"]:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        offered = scraped.prometheus.ask(f"label/{match[2]}/values", **{"match[]": filled(match[1], {})})
        wanted = ["enoent"] if match[2] == "job" else sorted({getattr(row, match[2]) for row in rows} - {""})
        assert offered == wanted


# Provisioning


def test_provisioned_files_name_the_prometheus_and_the_folder_of_the_compose_file() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text())["services"]
    [datasource] = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    scraping = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert datasource["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "enoent.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounts["../grafana/dashboards"] == provider["options"]["path"]
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
