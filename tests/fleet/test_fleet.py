"""The fleet: every image is run by a real engine, and what is foretold from its bytes is what is seen, to the last letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from analyzers.finding import Report
from tests.conftest import absent
from tests.engine import Engine, RunResult
from tests.fleet.engine_words import MARK, disagreements, profile_of, seen
from tests.fleet.foretold import Foreteller
from tests.fleet.image import FleetImage
from tests.fleet.rule_table import ELSEWHERE, EXCEPTIONS, IMAGES, WANTED, images_by_rule
from tests.fleet.run import build, in_threads, load, run, save, tag_of
from tests.make.elves import ToolAbsent


class Outcome(NamedTuple):
    ran: RunResult
    report: Report


@pytest.fixture(scope="module")
def outcomes(engine: Engine) -> dict[str, Outcome]:
    """All images built, loaded, run and foretold."""
    try:
        by_hand = {image.id: image.image() for image in IMAGES if not image.dockerfile}
        from_files = [image for image in IMAGES if image.dockerfile]
        load(engine, {tag_of(image): by_hand[image.id] for image in IMAGES if not image.dockerfile})
        build(engine, from_files)
    except ToolAbsent as error:
        absent(str(error))
    asked = {image.id: (profile_of(engine, dac_override=not image.drop_capabilities), image.overrides) for image in IMAGES}
    foreteller = Foreteller()
    reports = {id: foreteller.image(image, *asked[id]) for id, image in by_hand.items()}
    saved = foreteller.saved(save(engine, from_files), {tag_of(image): asked[image.id] for image in from_files})
    reports |= {image.id: saved[tag_of(image)] for image in from_files}
    ran = in_threads(lambda image: run(engine, tag_of(image), f"fleet-{image.id}", *image.options()), IMAGES)
    return {image.id: Outcome(each, reports[image.id]) for image, each in zip(IMAGES, ran, strict=True)}


# The first test waits for the compilers; on a machine that has built nothing before, that takes minutes.
pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(1500)]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.id)
def test_an_image_is_what_its_name_says(image: FleetImage, outcomes: dict[str, Outcome]) -> None:
    ran = outcomes[image.id].ran
    if image.crashes:
        assert (ran.exit_code, ran.stdout) == (image.crashes, ""), ran
    elif image.fails:
        assert image.fails in ran.stderr, ran
        assert ran.exit_code, ran
        assert not ran.stdout, ran
    else:
        assert ran.stdout == (image.prints or MARK + "\n"), ran
        assert ran.exit_code == 0, ran
        assert (image.warns in ran.stderr) if image.warns else not ran.stderr, ran


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.id)
def test_what_is_foretold_is_what_is_seen(image: FleetImage, outcomes: dict[str, Outcome]) -> None:
    ran, report = outcomes[image.id]
    wrong = disagreements(seen(ran), report)
    if image.id in EXCEPTIONS:
        assert wrong, f"{image.id} agrees now: take it off EXCEPTIONS"
        return
    assert not wrong, "\n    ".join([image.id, *wrong])


def test_the_share_of_exceptions_is_small_and_said(record_property: Callable[[str, object], None]) -> None:
    share = len(EXCEPTIONS) / len(IMAGES)
    record_property("summary", f"fleet: {len(IMAGES)} images, {len(EXCEPTIONS)} listed exceptions ({share:.1%})")
    assert set(EXCEPTIONS) <= {image.id for image in IMAGES}
    assert share <= 0.01


def test_every_rule_has_an_image_or_a_place_elsewhere() -> None:
    found = images_by_rule()
    assert [rule for rule in WANTED if rule not in found and rule not in ELSEWHERE] == []
    assert [rule for rule in ELSEWHERE if rule in found] == []


def test_image_names_are_unique() -> None:
    assert len({image.id for image in IMAGES}) == len(IMAGES) >= 40
