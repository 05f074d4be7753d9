"""Scripts and wrappers on a real engine: whether the program at their end runs, and every line and status where it does not."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from analyzers.finding import Report, Stage, State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine, RunResult
from tests.fleet.engine_words import MARK, profile_of, seen
from tests.fleet.foretold import Foreteller
from tests.fleet.run import in_threads, load, run
from tests.fleet.script_images import IMAGES, ScriptImage
from tests.make.elves import ToolAbsent

pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("scripts"), pytest.mark.timeout(900)]
_PID = re.compile(r"(?<=tini \()\d+(?=\))|(?<=catatonit:)\d+(?=\))")
_NO_PROGRAM = {"no_command_given"}
"""Ends well without a program."""


class Outcome(NamedTuple):
    ran: RunResult
    report: Report


def _tag(image: ScriptImage) -> str:
    return f"scripts/{image.id}:1"


@pytest.fixture(scope="module")
def outcomes(engine: Engine) -> dict[str, Outcome]:
    try:
        made = {image.id: image.image() for image in IMAGES}
    except ToolAbsent as error:
        absent(str(error))
    load(engine, {_tag(image): made[image.id] for image in IMAGES})
    foreteller = Foreteller()
    reports = {id: foreteller.image(each, profile_of(engine), NO_OVERRIDES) for id, each in made.items()}
    ran = in_threads(lambda image: run(engine, _tag(image), f"scripts-{image.id}"), IMAGES)
    return {image.id: Outcome(each, reports[image.id]) for image, each in zip(IMAGES, ran, strict=True)}


def _lines(ran: RunResult) -> list[str]:
    return [_PID.sub("7", line) for line in seen(ran).lines]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.id)
def test_the_end_of_a_script_is_foretold_to_the_letter(image: ScriptImage, outcomes: dict[str, Outcome]) -> None:
    ran, report = outcomes[image.id]
    verdict = report.verdict
    said = _lines(ran)
    if ran.stdout.startswith(MARK) or image.id in _NO_PROGRAM:
        assert verdict.state is State.STARTS, (verdict, ran)
        assert verdict.stage is Stage.STARTED
        told = [each.message.partition(": ")[2] for each in report.findings if each.rule == "shell.wants-absent-command"]
        assert told == [line for line in said if line in told], (told, ran)
        assert len(report.assumptions) == 2 or image.id in UNSURE, report.assumptions
        return
    assert verdict.state is State.FAILS, (report.assumptions, ran)
    assert list(verdict.lines) == said, ran
    assert verdict.exit_code == ran.exit_code, ran
    assert verdict.message in said


UNSURE = {"made_on_the_way", "exec_of_text"}
"""What the script makes, or what another file without `#!` does, is not in the image to be read."""


def test_there_are_enough_of_them() -> None:
    assert len(IMAGES) >= 100
    assert len({image.id for image in IMAGES}) == len(IMAGES)
