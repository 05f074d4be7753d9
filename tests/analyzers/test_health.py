"""HEALTHCHECK commands against the image (failures 47)."""

from __future__ import annotations

import pytest

from analyzers.finding import Severity, State
from analyzers.judges import judge_image
from analyzers.oci import Healthcheck, ImageConfig
from tests.make.layers import program
from tests.make.starts import tiny
from tests.make.views import layer, symlink

TRUE = program(tiny())
DEBIAN = {"bin/dash": TRUE, "bin/sh": symlink("dash"), "bin/app": TRUE, "bin/curl": TRUE}
PLAIN = {"app": TRUE}


def found(items: dict[str, object], *test: str) -> list[tuple[str, str]]:
    config = ImageConfig(cmd=("/bin/app" if "bin/app" in items else "/app",), healthcheck=Healthcheck(test))
    report = judge_image("x", config, [layer(items)])  # type: ignore[arg-type]
    assert report.verdict.state is State.STARTS
    findings = [each for each in report.findings if each.rule.startswith("health.")]
    assert all(each.severity is Severity.LATER for each in findings)
    return [(each.rule, each.message) for each in findings]


def test_f47_a_command_that_is_not_there() -> None:
    assert found(DEBIAN, "CMD", "wget", "-q", "localhost") == [
        ("health.command-absent", 'HEALTHCHECK: exec: "wget": executable file not found in $PATH')
    ]


@pytest.mark.parametrize(
    "text",
    [
        "wget -q localhost || exit 1",
        "wget -q localhost",
        "exec wget localhost",
        "if ! wget localhost; then exit 1; fi",
        "set -e; wget localhost",
    ],
)
def test_f47_a_text_whose_command_is_not_there(text: str) -> None:
    [(rule, message)] = found(DEBIAN, "CMD-SHELL", text)
    assert rule == "health.command-absent"
    assert "wget: not found" in message


@pytest.mark.parametrize(
    "text", ["curl -f localhost || exit 1", "wget localhost || curl -f localhost", "[ -f /tmp/ready ]", "test -e /x || exit 1"]
)
def test_f47_a_check_that_may_succeed_is_left_alone(text: str) -> None:
    assert found(DEBIAN, "CMD-SHELL", text) == []


def test_f47_the_shell_form_wants_a_shell() -> None:
    [(rule, message)] = found(PLAIN, "CMD-SHELL", "true")
    assert rule == "health.shell-absent"
    assert "/bin/sh" in message


@pytest.mark.parametrize("test", [(), ("NONE",), ("CMD",), ("CMD", "/app")])
def test_f47_no_check_and_a_good_one_say_nothing(test: tuple[str, ...]) -> None:
    assert found(PLAIN, *test) == []
