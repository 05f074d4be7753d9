"""From a push to an alert, all parts real: Debian's registry, the daemon as a process, a Prometheus with the shipped rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest

from analyzers.finding import Reason, State
from service.api import ImageItem
from service.fleet import FindingCount, FleetRow
from service.tiny_elf import dynamic_program, static_program
from tests.conftest import absent
from tests.daemon import LiveDaemon, live
from tests.deploy.answers import IMAGES, TARGETS, check, filled, named, of
from tests.make.images import Image
from tests.make.layers import program, tar_of
from tests.prometheus import Prometheus, PrometheusAbsent, started
from tests.registry import Registry

pytestmark = [pytest.mark.promtool, pytest.mark.registry, pytest.mark.xdist_group("push to alert")]

BROKEN, GOOD = "alerts/broken", "alerts/good"
IDLE = {"Worker exits", "Limits hit", "Told"}
"""Nothing goes wrong here and nobody is told, so these have no bar."""
OF_THE_WHOLE = {("Only theirs", "A"), ("Its own", "A"), ("Teams", "unique")}
"""What an image has alone depends on what else the registry holds by now."""
GLIBC_LOADER = "/lib64/ld-linux-x86-64.so.2"


class Watched(NamedTuple):
    registry: Registry
    daemon: LiveDaemon
    prometheus: Prometheus


def image(content: bytes, *, padding: int = 0) -> Image:
    layer = tar_of({"app": program(content), "etc/padding": "x" * padding})
    return Image(layers=(layer,), entrypoint=["/app"])


@pytest.fixture(scope="module")
def watched(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two images pushed, seen and scraped; nobody told the daemon their names."""
    settings = {
        "registries": [{"host": registry.host, "name": "production", "poll_seconds": 0.5}],
        "owners": [{"team": "payments", "images": ["*/alerts/*"]}],
    }
    with live(tmp_path_factory.mktemp("daemon"), settings) as daemon:
        try:
            scraping = started(tmp_path_factory.mktemp("prometheus"), daemon.url.removeprefix("http://"))
            with scraping as prometheus:
                prometheus.until(lambda: prometheus.query('up{job="enoent"} == 1'), "the daemon")
                registry.push(f"{GOOD}:1.0", image(static_program("hello")))
                registry.push(f"{BROKEN}:1.0", image(dynamic_program("hello", GLIBC_LOADER, ("libc.so.6",)), padding=5000))
                daemon.until(lambda: {item["repository"] for item in daemon.images()} >= {GOOD, BROKEN})
                daemon.until_settled()
                yield Watched(registry, daemon, prometheus)
        except PrometheusAbsent as error:
            absent(str(error))


def row_of(item: dict[str, object]) -> FleetRow:
    """The row behind an item of the API."""
    read = msgspec.convert(item, ImageItem)
    return FleetRow(
        source=read.source, registry=read.registry, repository=read.repository, tag=read.tag, platform=read.platform,
        manifest_digest=read.manifest_digest, image_id=read.image_id, outcome=read.outcome,
        state=State(read.standing) if read.standing in tuple(State) else None,
        reason=Reason(read.reason) if read.reason else None, os=read.os, libc=read.libc,
        compressed_bytes=read.compressed_bytes, size_bytes=read.uncompressed_bytes, wasted_bytes=read.wasted_bytes,
        team=read.team, growth_bytes=read.growth_bytes, new_rules=read.new_rules, isa_level=read.isa_level,
        layers=("",) * read.layers,
        findings=tuple(FindingCount(found.rule, found.severity, found.count) for found in read.findings),
    )  # fmt: skip


def test_every_panel_shows_what_the_live_daemon_knows(watched: Watched) -> None:
    prometheus, daemon = watched.prometheus, watched.daemon
    ours = 'enoent_image_start_verdict{repository=~"alerts/.+"}'
    prometheus.until(lambda: len(prometheus.query(ours)) == 2, "both verdicts")
    rows = [row_of(item) for item in daemon.images()]
    assert {(row.repository, str(row.state), row.reason) for row in rows if row.repository in (GOOD, BROKEN)} == {
        (GOOD, "starts", None),
        (BROKEN, "fails", Reason.INTERPRETER_ABSENT),
    }
    for target in TARGETS:
        asked = filled(target.expr, {"repository": f"{GOOD}|{BROKEN}"})
        if target.name in OF_THE_WHOLE:
            assert prometheus.query(asked) or target.name[0] == "Only theirs", named(target)
        elif target.name in IMAGES:
            chosen = [row for row in rows if row.repository in (GOOD, BROKEN)]
            check(prometheus.query(asked), IMAGES[target.name](chosen), asked)
        elif target.panel["title"] not in IDLE:
            prometheus.until(lambda asked=asked: prometheus.query(asked), named(target))  # type: ignore[misc]
    [sources] = [target for target in TARGETS if target.name == ("Sources", "up")]
    assert prometheus.query(filled(sources.expr, {})) == {of(source="production", kind="registry"): 1}


def test_a_pushed_image_that_will_not_start_fires_its_alert_and_the_alert_leads_to_the_page(watched: Watched) -> None:
    prometheus, daemon = watched.prometheus, watched.daemon

    def firing() -> list[dict[str, dict[str, str]]]:
        alerts = [alert for alert in prometheus.alerts() if alert["state"] == "firing"]
        return [alert for alert in alerts if alert["labels"].get("repository") in (GOOD, BROKEN)]

    prometheus.until(firing, "an alert")
    [alert] = firing()
    labels, annotations = alert["labels"], alert["annotations"]
    assert labels["alertname"] == "EnoentNoSuchFileOrDirectory"
    assert (labels["severity"], labels["registry"], labels["tag"]) == ("critical", watched.registry.host, "1.0")
    assert labels["team"] == "payments"
    summary = f"{watched.registry.host}/{BROKEN}:1.0 will not start: no such file or directory"
    assert annotations["summary"] == summary
    path = re.search(r"(/\?\S+)$", annotations["description"])
    assert path is not None
    page = daemon.get(path[1])
    assert "exec /app: no such file or directory" in page
    assert GOOD not in page


def test_a_mended_push_takes_the_failing_series_away(watched: Watched) -> None:
    prometheus, daemon = watched.prometheus, watched.daemon
    watched.registry.push(f"{BROKEN}:1.0", image(static_program("mended")))
    wanted = f'enoent_image_start_verdict{{repository="{BROKEN}", verdict="starts"}} == 1'
    prometheus.until(lambda: prometheus.query(wanted), "the mended image")
    assert prometheus.query(f'enoent_image_start_verdict{{repository="{BROKEN}", verdict="fails"}}') == {}
    [item] = daemon.images(repository=BROKEN)
    assert item["standing"] == "starts"


def test_a_push_that_breaks_a_tag_that_started_fires_another_alert(watched: Watched) -> None:
    prometheus = watched.prometheus
    prometheus.until(lambda: prometheus.query(f'enoent_image_start_verdict{{repository="{GOOD}", verdict="starts"}}'), "a start")
    watched.registry.push(f"{GOOD}:1.0", image(dynamic_program("hello", GLIBC_LOADER, ("libc.so.6",))))

    def firing() -> set[tuple[str, str]]:
        alerts = [alert["labels"] for alert in prometheus.alerts() if alert["state"] == "firing"]
        return {(labels["alertname"], labels["team"]) for labels in alerts if labels.get("repository") == GOOD}

    wanted = {("EnoentNewlyFails", "payments"), ("EnoentNoSuchFileOrDirectory", "payments")}
    prometheus.until(lambda: firing() == wanted, "both alerts")
