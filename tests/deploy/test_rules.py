"""Alert rules: promtool accepts and tests them, each is explained, each reason has its own, and a scraped fleet fires them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from analyzers.finding import Reason
from service.metrics import METRICS
from service.settings import MetricsSettings
from tests.conftest import absent
from tests.deploy.conftest import Scraped
from tests.prometheus import DEPLOY

DOCS = Path(__file__).resolve().parents[2] / "docs" / "alerts.md"
GROUPS = yaml.safe_load((DEPLOY / "enoent.rules.yml").read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = [rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule]
TEST_FILES = sorted(DEPLOY.glob("*.test.yml"))


def promtool(*words: str) -> str:
    program = shutil.which("promtool")
    if program is None:
        absent("no promtool: run tests/setup/debian.sh")
    done = subprocess.run([program, *words], cwd=DEPLOY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.promtool
def test_promtool_takes_the_configuration_and_the_rules() -> None:
    assert "SUCCESS: prometheus.yml is valid" in promtool("check", "config", "prometheus.yml")
    assert f"SUCCESS: {len(ALERTS) + len(RECORDED)} rules found" in promtool("check", "rules", "enoent.rules.yml")


@pytest.mark.promtool
@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_promtool_sees_every_alert_fire_and_be_quiet(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path.name)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    groups = [group for path in TEST_FILES for group in yaml.safe_load(path.read_text())["tests"]]
    asked = [[case for case in group["alert_rule_test"] if case["alertname"] == alert] for group in groups]
    assert any(case["exp_alerts"] for cases in asked for case in cases)
    assert any(cases and not any(case["exp_alerts"] for case in cases) for cases in asked)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_is_wrong_and_where_it_is_explained(alert: str) -> None:
    rule = ALERTS[alert]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{alert.lower()}"
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert not rule["annotations"]["summary"].rstrip().endswith(".")


def test_the_docs_explain_every_alert_and_no_other() -> None:
    assert re.findall(r"^## (Enoent\w+)$", DOCS.read_text(), re.MULTILINE) == list(ALERTS)


def test_every_reason_not_to_start_has_exactly_one_alert() -> None:
    groups = [re.findall(r'reason=~?"([a-z_|]+)"', rule["expr"]) for rule in ALERTS.values()]
    told = [reason for found in groups for group in found for reason in group.split("|")]
    assert sorted(told) == sorted(Reason)


def test_no_such_file_or_directory_can_be_alerted_on_by_itself() -> None:
    assert 'reason="interpreter_absent"' in ALERTS["EnoentNoSuchFileOrDirectory"]["expr"]


def test_every_metric_of_the_rules_exists() -> None:
    known = {metric.name for metric in METRICS}
    expressions = [rule["expr"] for group in GROUPS for rule in group["rules"]]
    assert {name for expression in expressions for name in re.findall(r"enoent_\w+", expression)} <= known
    assert {name for expression in expressions for name in re.findall(r"image:\w+:\w+", expression)} == set(RECORDED)


def routed(**labels: str) -> str:
    """Who is told of an alert, as Alertmanager's own tool says."""
    program = shutil.which("amtool")
    if program is None:
        absent("no amtool: run tests/setup/debian.sh")
    asked = [f"{name}={value}" for name, value in labels.items()]
    command = [program, "config", "routes", "test", "--config.file=alertmanager.yml", *asked]
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.promtool
def test_the_example_of_alertmanager_tells_teams_of_their_images_and_platform_people_of_the_rest() -> None:
    assert routed(alertname="EnoentNewlyFails", severity="critical", team="payments", tag="1.0") == "payments-page"
    assert routed(alertname="EnoentGrowthJump", severity="warning", team="payments", tag="1.0") == "payments"
    assert routed(alertname="EnoentNewlyFails", severity="critical", tag="1.0") == "platform-page"
    assert routed(alertname="EnoentDown", severity="critical", job="enoent") == "platform-page"
    assert routed(alertname="EnoentBehind", severity="warning", job="enoent") == "platform"


def test_the_example_of_alertmanager_does_not_tell_the_same_image_twice() -> None:
    """What a push broke is one alert; the alert of its reason is silenced, those of other images are not."""
    [inhibition] = yaml.safe_load((DEPLOY / "alertmanager.yml").read_text())["inhibit_rules"]
    assert inhibition["source_matchers"] == ["alertname = EnoentNewlyFails"]
    assert set(inhibition["equal"]) == {"source", "registry", "repository", "tag", "platform"}
    silenced = re.findall(r"Enoent\w+", inhibition["target_matchers"][0])
    assert silenced == [name for name, rule in ALERTS.items() if "reason=" in rule["expr"]]


def test_the_scrape_takes_all_series_there_can_be() -> None:
    """Above sample_limit Prometheus drops the whole scrape."""
    [scrape] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["sample_limit"] > MetricsSettings().max_series + 5000
    assert scrape["job_name"] == "enoent"


@pytest.mark.promtool
def test_a_scraped_fleet_fires_one_alert_for_each_failing_image(scraped: Scraped) -> None:
    def firing() -> set[tuple[str, str]]:
        return {
            (alert["labels"]["alertname"], alert["annotations"]["summary"])
            for alert in scraped.prometheus.alerts()
            if alert["state"] == "firing"
        }

    wanted = {
        ("EnoentNoSuchFileOrDirectory", "registry.example.test/shop/report:1.0 will not start: no such file or directory"),
        ("EnoentLibrariesDoNotFit", "tool:dev will not start: its libraries do not fit"),
    }
    scraped.prometheus.until(lambda: firing() == wanted, f"{wanted} but {firing()}")


@pytest.mark.promtool
def test_what_is_not_wrong_long_enough_is_only_pending(scraped: Scraped) -> None:
    def pending() -> set[str]:
        return {alert["labels"]["alertname"] for alert in scraped.prometheus.alerts() if alert["state"] == "pending"}

    scraped.prometheus.until(lambda: pending() == {"EnoentVerdictUnknown", "EnoentSourceFailing"}, "the two that wait")
