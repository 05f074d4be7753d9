"""What programs read: the JSON of a scan and its schema, SARIF, rules; and golden text for people.

`--update-golden` writes tests/golden anew; look at the difference before you commit it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from analyzers.finding import Finding, Severity, State, Verdict
from analyzers.rules import RULES
from service.errors import SourceError
from service.registry.reference import parse_reference
from service.report_text import scan_lines
from service.sarif import sarif_log
from service.scan import SCHEMA, Scan, ScannedImage, exit_status, failed_scan, worst
from service.terminal import paint
from tests.make.command import Command
from tests.make.images import Image, oci_layout
from tests.make.layers import program, tar_of
from tests.make.reports import failing, starting
from tests.make.schema import SCHEMA as SCHEMA_FILE
from tests.make.schema import strict, text
from tests.make.starts import TRUE, tiny

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
BASE = tar_of({"bin/sh": TRUE, "lib/ld-musl-x86_64.so.1": TRUE, "etc/os-release": "ID=alpine\nVERSION_ID=3.20\n"})
PROGRAM = tar_of({"srv/report": program(tiny(interp=b"/lib64/ld-linux-x86-64.so.2"))})
HISTORY = ("/bin/sh -c #(nop) ADD file:7c1b in / ", "COPY /out/report /srv/report # buildkit")
ON_MUSL = Image(layers=(BASE, PROGRAM), entrypoint=["/srv/report"], history=HISTORY)
SHELL = Image(layers=(BASE,), cmd=["/bin/sh"], user="1000:1000", working_dir="/srv", history=HISTORY[:1])
LOST = Image(layers=(BASE, PROGRAM), entrypoint=["report", "--all"], env=["PATH=/usr/bin:/bin"], history=HISTORY)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    arm = Image(layers=SHELL.layers, cmd=SHELL.cmd, platform="linux/arm64")
    return oci_layout(tmp_path / "shop", {"musl": ON_MUSL, "shell": SHELL, "lost": LOST, "both": [SHELL, arm]}, "plain")


def scanned(report: Any, **changes: Any) -> ScannedImage:
    values: dict[str, Any] = {
        "platform": "linux/amd64", "exit_status": 2 if report is None else exit_status(report),
        "outcome": "done" if report else "truncated", "detail": "" if report else "the tar ends inside a member",
        "image_id": "sha256:1", "manifest_digest": "sha256:2", "compressed_layer_bytes": (), "report": report,
    }  # fmt: skip
    return ScannedImage(**(values | changes))


def scan_of(*images: ScannedImage) -> Scan:
    statuses = [image.exit_status for image in images]
    return Scan(schema=SCHEMA, reference="shop/app:1", answered_by="", exit_status=worst(statuses), error="", images=images)


def test_the_schema_in_docs_is_that_of_the_structs() -> None:
    assert SCHEMA_FILE.read_text() == text(), "run `python -m tests.make.schema`"


@pytest.mark.parametrize("tag", ["musl", "shell", "both", "nope"])
def test_what_scan_prints_is_what_the_schema_describes(enoent: Command, layout: Path, tag: str) -> None:
    said = enoent("scan", f"oci:{layout}:{tag}", "--format", "json")
    jsonschema.Draft202012Validator(strict(json.loads(text()))).validate(said.json)
    assert said.json["exit_status"] == said.status
    assert said.json["schema"] == "1"
    assert bool(said.json["error"]) == (tag == "nope")


def test_the_same_image_gives_the_same_bytes(enoent: Command, layout: Path) -> None:
    first = enoent("scan", f"oci:{layout}:musl", "--format", "json", "--no-cache")
    assert enoent("scan", f"oci:{layout}:musl", "--format", "json").out == first.out


def test_json_says_why_an_image_has_no_report(enoent: Command, layout: Path) -> None:
    answer = msgspec.to_builtins(scan_of(scanned(None), scanned(failing())))
    assert answer["exit_status"] == 1
    assert [image["outcome"] for image in answer["images"]] == ["truncated", "done"]
    assert answer["images"][0]["report"] is None
    gone = failed_scan(parse_reference("app:1"), SourceError("down"))
    assert (gone.exit_status, gone.error, gone.images) == (2, "down", ())


# SARIF: what the specification asks of the properties that we write (SARIF 2.1.0, sections 3.14 to 3.52).

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
RUN = {
    "type": "object",
    "required": ["tool", "results", "invocations", "automationDetails"],
    "properties": {
        "tool": {
            "type": "object", "required": ["driver"], "properties": {"driver": {
                "type": "object", "required": ["name", "rules", "semanticVersion"], "properties": {"rules": {
                    "type": "array", "uniqueItems": True, "items": {
                        "type": "object", "required": ["id", "shortDescription", "fullDescription", "help"],
                        "properties": {
                            "shortDescription": TEXT, "fullDescription": TEXT, "help": TEXT,
                            "defaultConfiguration": {"properties": {"level": {"enum": ["none", "note", "warning", "error"]}}},
                        },
                    },
                }},
            }},
        },
        "results": {"type": "array", "items": {
            "type": "object", "required": ["ruleId", "message", "level", "locations", "partialFingerprints"],
            "properties": {
                "ruleIndex": {"type": "integer", "minimum": 0}, "message": TEXT,
                "level": {"enum": ["none", "note", "warning", "error"]},
                "locations": {"type": "array", "minItems": 1, "items": {
                    "type": "object", "required": ["physicalLocation"],
                    "properties": {"message": TEXT, "physicalLocation": {
                        "type": "object", "required": ["artifactLocation", "region"], "properties": {
                            "artifactLocation": {"required": ["uri"], "properties": {
                                "uri": {"type": "string", "pattern": "^[A-Za-z0-9._~%/-]+$"},
                            }},
                            "region": {"properties": {"startLine": {"type": "integer", "minimum": 1}}},
                        },
                    }},
                }},
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }},
        "invocations": {"type": "array", "minItems": 1, "items": {
            "type": "object", "required": ["executionSuccessful"],
            "properties": {
                "executionSuccessful": {"type": "boolean"}, "exitCode": {"type": "integer"},
                "toolExecutionNotifications": {"items": {"required": ["message"], "properties": {"message": TEXT}}},
            },
        }},
        "originalUriBaseIds": {"additionalProperties": {"type": "object"}},
    },
}  # fmt: skip
SARIF = {
    "type": "object", "required": ["version", "runs"], "additionalProperties": False,
    "properties": {"$schema": {"type": "string"}, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": RUN}},
}  # fmt: skip


@pytest.mark.parametrize(("tag", "results", "successful"), [
    ("musl", ["elf.glibc-program-on-musl"], True), ("shell", [], True), ("nope", [], False),
])  # fmt: skip
def test_sarif_has_every_finding_at_its_path_and_layer(
    enoent: Command, layout: Path, tag: str, results: list[str], successful: bool
) -> None:
    said = enoent("scan", f"oci:{layout}:{tag}", "--format", "sarif")
    jsonschema.Draft202012Validator(SARIF).validate(said.json)
    (run,) = said.json["runs"]
    assert [result["ruleId"] for result in run["results"]] == results
    assert run["invocations"][0]["executionSuccessful"] is successful
    assert run["invocations"][0]["exitCode"] == said.status
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": "srv/report", "uriBaseId": "IMAGEROOT"}
        assert location["logicalLocations"][0]["name"] == "layer 1"
        assert location["message"]["text"] == "COPY /out/report /srv/report"


def test_sarif_is_one_run_a_platform_and_tells_what_is_undecided() -> None:
    unknown = starting(verdict=Verdict(state=State.UNKNOWN, why_unknown="this loader is not emulated"))
    log = sarif_log(scan_of(scanned(failing()), scanned(unknown), scanned(None)))
    jsonschema.Draft202012Validator(SARIF).validate(msgspec.to_builtins(log))
    told = [[note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]] for run in log["runs"]]
    assert told == [[], ["this loader is not emulated"], ["truncated: the tar ends inside a member"]]
    assert [run["invocations"][0]["executionSuccessful"] for run in log["runs"]] == [True, False, False]


def test_in_sarif_nothing_of_an_image_becomes_a_link_or_a_placeholder() -> None:
    evil = Finding("load.refused", Severity.FATAL, "[press here](https://evil.test) {0}", "/a [b](c)/%2e%2e/\\x1b?#", 0)
    (run,) = sarif_log(scan_of(scanned(failing(findings=(evil,)))))["runs"]
    result = run["results"][0]
    assert result["message"]["text"].startswith("\\[press here\\](https://evil.test) {{0}}")
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20%5Bb%5D%28c%29/%252e%252e/%5Cx1b%3F%23"


def test_fingerprints_stay_while_the_image_is_built_anew() -> None:
    def prints(report: Any) -> list[str]:
        return [
            result["partialFingerprints"]["enoentFinding/v1"]
            for result in sarif_log(scan_of(scanned(report)))["runs"][0]["results"]
        ]

    assert prints(failing(7)) == prints(failing(8))
    assert len(set(prints(failing(7)))) == 2


# Rules


def test_rules_lists_every_rule_with_severity_title_and_remedy(enoent: Command) -> None:
    said = enoent("rules")
    assert said.status == 0
    for rule in RULES.values():
        assert re.search(rf"^{re.escape(rule.id)} +{rule.severity}$", said.out, re.MULTILINE), rule.id
        assert " ".join(rule.remedy.split()) in said.prose
        assert rule.title in said.prose


def test_rules_can_be_named_and_read_by_programs(enoent: Command) -> None:
    said = enoent("rules", "elf.no-loader", "script.c*", "--format", "json")
    assert [rule["id"] for rule in said.json] == ["elf.no-loader", "script.crlf", "script.closed-to-user"]
    assert said.json[0]["severity"] == "fatal"
    assert said.json[0]["remedy"] == RULES["elf.no-loader"].remedy
    assert "K15" in enoent("rules", "elf.no-loader").out


# Text


@pytest.mark.parametrize("tag", ["musl", "shell", "lost", "both"])
def test_text_is_as_it_was_approved(enoent: Command, layout: Path, tag: str, pytestconfig: pytest.Config) -> None:
    said = enoent("scan", f"oci:{layout}:{tag}")
    shown = said.out.replace(str(layout), "shop")
    golden = GOLDEN / f"scan-{tag}.txt"
    if pytestconfig.getoption("--update-golden"):
        golden.write_text(shown)
    assert shown == golden.read_text()


def test_no_line_of_80_columns_is_longer_but_for_what_must_not_be_broken() -> None:
    for report in (failing(), starting(), failing(findings=(), chain=())):
        shown = paint(scan_lines(scan_of(scanned(report, compressed_layer_bytes=(1, 2)))))
        assert max(map(len, shown.splitlines())) <= 80
        assert not re.search(r" $", shown, re.MULTILINE)


def test_colour_changes_nothing_but_colour() -> None:
    scan = scan_of(scanned(failing()))
    coloured = paint(scan_lines(scan), colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == paint(scan_lines(scan))
    assert "\x1b[1;31mexec /usr/local/bin/report: no such file or directory\x1b[0m" in coloured


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert paint(scan_lines(scan_of(scanned(failing()), scanned(starting()))), ascii_only=True).isascii()


def test_the_golden_folder_has_no_strangers() -> None:
    assert {path.name for path in GOLDEN.glob("scan-*.txt")} == {f"scan-{tag}.txt" for tag in ("musl", "shell", "lost", "both")}
