"""Silences: known findings stay in sight and in the report, and make nobody's alert, exit status or webhook go off."""

from __future__ import annotations

import datetime
import gzip
import json
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiohttp.test_utils import TestClient, TestServer

from analyzers.finding import Severity
from service.errors import SettingsError
from service.fleet import FleetRow
from service.image_samples import render
from service.settings import load_settings
from service.silencing import Silences, SilenceSettings, day_of
from service.sources import EventKind, ImageEvent
from tests.daemon import live, write_config
from tests.fakes.source import MemorySource
from tests.make.command import Command
from tests.make.images import Image, oci_layout
from tests.make.layers import file, tar_of
from tests.make.reports import failing, row, starting
from tests.make.schema import strict, text
from tests.make.site import World
from tests.make.starts import TRUE
from tests.service.parts import assembled

LATER = "2999-12-31"
OVER = "2020-01-31"
TODAY = datetime.date(2026, 11, 24)
RULE = "elf.interpreter-absent"


def silence(rule: str = RULE, **changes: Any) -> SilenceSettings:
    return SilenceSettings(
        **({"rule": rule, "reason": "moved to musl in May, T-17", "until": datetime.date.fromisoformat(LATER)} | changes)
    )


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    items = {"app": file("no program", 0o755), "ok": TRUE, "etc/os-release": "ID=alpine\n"}
    broken = Image(layers=(tar_of(items),), entrypoint=["/app"])
    return oci_layout(tmp_path / "shop", {"broken": broken}, "plain")


def scan(enoent: Command, layout: Path, *words: str, **silenced: Any) -> Any:
    rows = [{"rule": "script.no-interpreter-line", "reason": "a fixture, T-17", "until": LATER} | silenced]
    return enoent("scan", f"oci:{layout}:broken", "--config", write_config(enoent.home, {"silence": rows}), *words)


# The command line


def test_a_silenced_failure_is_told_with_its_reason_and_does_not_count(enoent: Command, layout: Path) -> None:
    assert enoent("scan", f"oci:{layout}:broken").status == 1
    said = scan(enoent, layout)
    assert said.status == 0
    assert "will not start, which is silenced" in said.first_line
    assert "exec /app: exec format error" in said.out
    assert "silenced until 2999-12-31: a fixture, T-17" in said.prose


def test_the_settings_beside_a_scan_silence_it_without_being_named(
    enoent: Command, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(enoent.home, {"silence": [{"rule": "script.*", "reason": "a fixture", "until": LATER}]})
    monkeypatch.chdir(enoent.home)
    assert enoent("scan", f"oci:{layout}:broken").status == 0


def test_a_silence_for_another_repository_or_path_silences_nothing(enoent: Command, layout: Path) -> None:
    assert scan(enoent, layout, repository="registry.example/*").status == 1
    assert scan(enoent, layout, path="/opt/*").status == 1
    assert scan(enoent, layout, path="/app").status == 0
    assert scan(enoent, layout, repository="oci:*").status == 0


def test_an_expired_silence_is_told_and_its_finding_is_back(enoent: Command, layout: Path) -> None:
    said = scan(enoent, layout, until=OVER)
    assert said.status == 1
    assert "ended with 2020-01-31" in said.err
    assert "silenced" not in said.first_line


def test_json_keeps_the_finding_and_names_what_silences_it(enoent: Command, layout: Path) -> None:
    said = scan(enoent, layout, "--format", "json")
    jsonschema.Draft202012Validator(strict(json.loads(text()))).validate(said.json)
    image = said.json["images"][0]
    assert image["report"] == scan(enoent, layout, "--format", "json", until=OVER).json["images"][0]["report"]
    assert image["report"]["verdict"]["state"] == "fails"
    (found,) = image["silenced"]
    assert image["report"]["findings"][found["finding"]]["rule"] == found["rule"] == "script.no-interpreter-line"
    assert (found["reason"], found["until"], image["exit_status"]) == ("a fixture, T-17", "2999-12-31", 0)


def test_sarif_says_that_a_result_is_suppressed_and_why(enoent: Command, layout: Path) -> None:
    said = scan(enoent, layout, "--format", "sarif")
    results = {each["ruleId"]: each for each in said.json["runs"][0]["results"]}
    assert results["script.no-interpreter-line"]["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "a fixture, T-17 (until 2999-12-31)"}
    ]
    assert "suppressions" not in scan(enoent, layout, "--format", "sarif", until=OVER).json["runs"][0]["results"][0]


def test_what_could_not_be_decided_is_not_made_clean_by_a_silence(enoent: Command, layout: Path) -> None:
    said = enoent("scan", f"oci:{layout}:gone", "--config", write_config(enoent.home, {"silence": [_row("*")]}))
    assert said.status == 2


def test_the_doctor_tells_of_expired_silences(enoent: Command) -> None:
    config = write_config(enoent.home, {"silence": [_row("size.*", until=OVER), _row("elf.*")]})
    said = enoent("doctor", "--config", config)
    assert "the silence of size.* (known) ended with 2020-01-31" in said.prose
    assert "elf.*" not in said.out


def _row(rule: str, **changes: Any) -> dict[str, Any]:
    return {"rule": rule, "reason": "known", "until": LATER} | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "elf.no-loadr"}, r"silence\[0\].rule: no rule is called 'elf.no-loadr' \(did you mean elf.no-loader\?\)"),
        ({"reason": ""}, r"silence\[\.\.\.\]|silence\[0\]"),
        ({"until": "soon"}, r"silence\[\.\.\.\]|silence\[0\]"),
        ({"repo": "x"}, r"silence\[0\].repo: no such setting"),
    ],
)
def test_a_silence_that_says_too_little_or_names_no_rule_is_refused(tmp_path: Path, changes: Any, words: str) -> None:
    config = write_config(tmp_path, {"silence": [_row("elf.no-loader") | changes]})
    with pytest.raises(SettingsError, match=words):
        load_settings(config, {})


# The fleet


def shown(report: Any, *silences: SilenceSettings, repository: str = "shop/report") -> FleetRow:
    return row(report, repository, "1.0", silences=Silences(silences, TODAY))


def samples(shown_row: FleetRow, name: str) -> list[str]:
    plain = gzip.decompress(render(1, [shown_row], 10_000).zipped).decode()
    return [line for line in plain.splitlines() if line.startswith(name + ("{" if "{" not in name else ""))]


def test_the_verdict_metric_stays_true_and_says_that_it_is_silenced() -> None:
    (verdict,) = samples(shown(failing(1), silence()), "enoent_image_start_verdict")
    assert verdict.endswith('verdict="fails",reason="interpreter_absent",silenced="true"} 1')
    (loud,) = samples(shown(failing(1)), "enoent_image_start_verdict")
    assert loud.endswith('verdict="fails",reason="interpreter_absent"} 1')


def test_silenced_findings_leave_the_series_by_rule_and_are_counted_apart() -> None:
    made = shown(failing(1), silence())
    assert [found.rule for found in made.findings] == [RULE, "size.deleted-later"]
    assert [line for line in samples(made, "enoent_image_findings") if RULE in line] == []
    assert samples(made, "enoent_image_silenced_findings")[0].endswith("} 1")
    assert samples(made, "enoent_fleet_silenced_images") == [f'enoent_fleet_silenced_images{{rule="{RULE}",severity="fatal"}} 1']
    assert samples(shown(failing(1)), "enoent_image_silenced_findings") == []
    assert (made.risk, shown(failing(1)).risk) == (0, 100)


def test_what_a_start_asks_of_the_host_is_on_the_info_series_alone() -> None:
    made = shown(starting(1, x86_level=2, max_page_size=16384, kernel="3.7.0"))
    (info,) = samples(made, "enoent_image_info")
    assert 'isa="x86-64-v2",page_size="16384",kernel="3.7.0",digest=' in info
    assert "page_size" not in samples(shown(starting(1)), "enoent_image_info")[0]


def test_a_failure_is_hushed_only_where_all_its_fatal_findings_are() -> None:
    assert shown(failing(1), silence()).hushed
    assert not shown(failing(1), silence("size.*")).hushed
    assert not shown(failing(1), silence(repository="*/other")).hushed
    assert not shown(starting(1), silence()).hushed


async def test_page_and_api_show_a_silenced_finding_as_such() -> None:
    world = World()
    world.fleet.silences = Silences([silence(repository="registry.example.test/shop/*")], TODAY)
    report = failing(2)
    world.show(report, "shop/report", "1.0", silences=world.fleet.silences)
    world.show(failing(3), "bank/report", "1.0", silences=world.fleet.silences)
    async with TestClient(TestServer(world.app())) as client:
        page = await (await client.get(f"/images/{report.image_id}")).text()
        assert "Will not start" in page
        assert "moved to musl in May, T-17" in page
        document = await (await client.get(f"/api/v1/images/{report.image_id}")).json()
        assert [(each["rule"], each["until"]) for each in document["silenced"]] == [(RULE, "2999-12-31")]
        assert document["report"]["findings"][0]["rule"] == RULE
        listing = await (await client.get(f"/api/v1/findings/{RULE}")).json()
        assert {item["image"]["repository"]: len(item["silenced"]) for item in listing["items"]} == {
            "shop/report": 1, "bank/report": 0,
        }  # fmt: skip
        counted = {item["rule"]: item for item in (await (await client.get("/api/v1/findings")).json())["items"]}
        assert (counted[RULE]["images"], counted[RULE]["findings"], counted[RULE]["silenced"]) == (1, 1, 1)
        assert "silenced" in await (await client.get(f"/findings/{RULE}")).text()
        assert "1 silenced" in await (await client.get("/")).text()


async def test_a_silence_ends_with_its_day_without_a_restart(tmp_path: Path) -> None:
    async with assembled(tmp_path) as parts:
        own = [SilenceSettings(rule="path.absent", reason="known", until=day_of(parts.clock()))]
        parts.fleet.silences = Silences(own, day_of(parts.clock()))
        source = MemorySource()
        source.put("1", Image(layers=(tar_of({"a": "1"}),), entrypoint=["/app"]))
        await parts.follower(source).take([ImageEvent(EventKind.APPEARED, source.sighting("1")), ImageEvent(EventKind.LISTED)])
        await parts.work_off()
        assert [made.hushed for made in parts.fleet.rows()] == [True]
        parts.clock.now += 86_400
        await parts.ledger.renew_silences(Silences(own, day_of(parts.clock())))
        assert [(made.hushed, made.count(Severity.FATAL)) for made in parts.fleet.rows()] == [(False, 1)]
        longer = [SilenceSettings(rule="path.*", reason="known", until=day_of(parts.clock()))]
        await parts.ledger.renew_silences(Silences(longer, day_of(parts.clock())))
        assert [made.hushed for made in parts.fleet.rows()] == [True]


async def test_nobody_is_told_of_a_failure_that_is_silenced(tmp_path: Path) -> None:
    async with assembled(tmp_path / "state") as parts:
        asked: list[Any] = []
        parts.ledger.wishes_of = lambda changes: asked.extend(changes) or ()
        await parts.ledger._note([shown(failing(1), silence())])
        await parts.ledger._note([shown(failing(2), repository="shop/other")])
        assert [change.after.repository for change in asked] == ["shop/other"]
        assert len(await parts.ledger.history.latest()) == 2


def test_a_reload_puts_silences_into_force_and_tells_of_those_that_have_expired(tmp_path: Path) -> None:
    oci_layout(tmp_path / "layouts" / "app", {"1": Image(layers=(tar_of({"a": "1"}),), entrypoint=["/app"])})
    settings = {"layouts": [{"path": str(tmp_path / "layouts"), "name": "builds", "poll_seconds": 0.1}]}
    with live(tmp_path, settings) as daemon:
        daemon.until_settled(1)
        assert daemon.total("enoent_image_start_verdict", verdict="fails", reason="path") == 1
        for silences, silenced in (([_row("path.absent")], 1.0), ([_row("path.absent", until=OVER)], None)):
            write_config(tmp_path, {**settings, "silence": silences})
            daemon.signal(signal.SIGHUP)
            daemon.until(lambda: daemon.total("enoent_image_silenced_findings") == silenced)  # noqa: B023 - asked at once
            assert daemon.total("enoent_image_start_verdict", verdict="fails", reason="path") == 1
            assert daemon.total("enoent_image_start_verdict", verdict="fails", silenced="true") == silenced
        assert daemon.until(lambda: daemon.logged("silence expired", rule="path.absent", until=OVER))
