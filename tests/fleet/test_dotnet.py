"""What is foretold of .NET applications is what a real .NET Core 3.1 host says, to the last letter (failures 36, 37)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from analyzers.finding import Report, Stage, State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine, RunResult
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.run import in_threads, load, run
from tests.make.dotnet import config, root
from tests.make.elves import ToolAbsent
from tests.make.images import Image
from tests.make.layers import Item, file, tar_of

APP = "dotnet /app/app.dll"
GARBAGE = file(b"no assembly")


def app(settings: Item) -> dict[str, Item]:
    return {"app/app.dll": GARBAGE, "app/app.runtimeconfig.json": settings}


FAILING: dict[str, tuple[dict[str, Item], str, tuple[str, ...]]] = {
    "an_application_for_6": (app(config("6.0.0")), APP, ()),
    "an_application_for_2_1": (app(config("2.1.0")), APP, ()),
    "a_later_patch": (app(config("3.1.30")), APP, ()),
    "roll_forward_disabled": (app(config("3.1.0", rollForward="Disable")), APP, ()),
    "roll_forward_of_patches": (app(config("3.0.0", rollForward="LatestPatch")), APP, ()),
    "a_web_application": (app(config("3.1.0", "3.1.0")), APP, ()),
    "a_web_framework_alone": (app(config("3.1.0", name="Microsoft.AspNetCore.App")), APP, ()),
    "no_application": ({"app/other.dll": GARBAGE}, APP, ()),
}
RESOLVING: dict[str, tuple[dict[str, Item], str, tuple[str, ...]]] = {
    "an_application_for_3_1": (app(config("3.1.0")), APP, ()),
    "an_application_for_3_0": (app(config("3.0.0")), APP, ()),
    "major_in_the_config": (app(config("2.1.0", rollForward="Major")), APP, ()),
    "major_in_the_environment": (app(config("2.1.0")), APP, ("DOTNET_ROLL_FORWARD=Major",)),
    "major_on_the_command_line": (app(config("2.1.0")), "dotnet --roll-forward LatestMajor /app/app.dll", ()),
    "invariant_mode": (app(config("3.1.0", configProperties={"System.Globalization.Invariant": True})), APP, ()),
}


class Outcome(NamedTuple):
    ran: RunResult
    report: Report


@pytest.fixture(scope="module")
def outcomes(engine: Engine) -> dict[str, Outcome]:
    try:
        base = tar_of(root())
    except ToolAbsent as error:
        absent(str(error))
    cases = {**FAILING, **RESOLVING}
    # The host looks for the user's home before it reads anything.
    images = {
        id: Image(layers=(base, tar_of(items)), cmd=tuple(cmd.split()), env=("HOME=/", *env))
        for id, (items, cmd, env) in cases.items()
    }
    load(engine, {f"dotnet/{id}:1": image for id, image in images.items()})
    foreteller, profile = Foreteller(), profile_of(engine)
    ran = in_threads(lambda id: run(engine, f"dotnet/{id}:1", f"dotnet-{id}"), cases)
    return {id: Outcome(each, foreteller.image(images[id], profile, NO_OVERRIDES)) for id, each in zip(cases, ran, strict=True)}


pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("id", FAILING)
def test_row_36_what_the_host_refuses_is_foretold_word_for_word(id: str, outcomes: dict[str, Outcome]) -> None:
    ran, report = outcomes[id]
    verdict = report.verdict
    assert (verdict.state, verdict.stage) == (State.FAILS, Stage.STARTED), (verdict, ran)
    assert list(verdict.lines) == ran.stderr.rstrip("\n").split("\n")
    assert verdict.exit_code == ran.exit_code


@pytest.mark.parametrize("id", RESOLVING)
def test_row_36_where_a_framework_fits_the_host_goes_on_and_nothing_is_foretold(id: str, outcomes: dict[str, Outcome]) -> None:
    ran, report = outcomes[id]
    assert "framework" not in ran.stderr, ran
    assert "Unhandled exception" in ran.stderr
    assert report.verdict.state is State.STARTS


def test_row_37_icu_is_missed_where_it_is_not_there_and_invariant_mode_is_off(outcomes: dict[str, Outcome]) -> None:
    for id in RESOLVING:
        ran, report = outcomes[id]
        told = [each.message for each in report.findings if each.rule == "dotnet.no-icu"]
        assert bool(told) == ("a valid ICU package" in ran.stderr), (id, ran)
        assert all(each in ran.stderr for each in told)
    assert outcomes["an_application_for_3_1"].report.findings
