"""Seeded mutants of good images on a real engine: what is foretold of each is what is seen.

A program that says nothing of its own may have been started or not; it is then run once more with an entry point that
prints the mark (loader.md O1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence

import pytest

from analyzers.finding import Stage
from analyzers.profile import HostProfile
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import disagreements, profile_of, seen
from tests.fleet.foretold import Foreteller
from tests.fleet.mutants import Mutant, Origin, mutant, origin, with_marking_entry
from tests.fleet.rule_table import IMAGES
from tests.fleet.run import full, in_threads, load, run
from tests.make.elves import ToolAbsent

COUNT, FULL_COUNT = 200, 2000
FIRST = int(os.environ.get("ENOENT_TEST_SEED", "1"))
_TOGETHER = 200
_NEVER_AFTER_THE_START = re.compile(
    r"error while loading shared libraries: |version `.*' not found|^Error (loading|relocating) |Assertion `", re.MULTILINE
)
EXCEPTIONS = {
    r"^undecided: /(moved|etc/passwd|etc/group) was not (wholly )?read": "C18, G36, G39, M6: the few text files that rules "
    "need are kept by their names, so one that was moved and is linked to is not read; the report says so",
    r"^      \*\*\* stack smashing detected \*\*\*: terminated$": "G55: that a loader and a libc of two releases "
    "die together is foretold; what a broken stack lets them say is chance",
}
"""Departures that are known, by words, with the rule and the reason. At most one mutant in a hundred."""
pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("mutants"), pytest.mark.timeout(3600)]


def grounds(foreteller: Foreteller, profile: HostProfile) -> list[Origin]:
    """The good images, each with what its start looks at."""
    good = [image for image in IMAGES if image.good and not image.dockerfile]
    return [origin(image, foreteller.image(image.image(), profile, image.overrides)) for image in good]


def parts(mutants: Sequence[Mutant]) -> Iterator[Sequence[Mutant]]:
    for start in range(0, len(mutants), _TOGETHER):
        yield mutants[start : start + _TOGETHER]


def departures(engine: Engine, each: Mutant, foreteller: Foreteller, profile: HostProfile) -> list[str]:
    """Where its prediction departs from what is seen; it is run once more where its words leave the stage open."""
    report = foreteller.image(each.image, profile, each.base.overrides)
    real = seen(run(engine, each.tag, f"mutant-{each.seed}"))
    wrong = disagreements(real, report)
    if not wrong or real.stage not in (Stage.LOAD, Stage.CRASH) or _NEVER_AFTER_THE_START.search(real.text):
        return wrong
    marking = with_marking_entry(each, foreteller.program(each.image, profile))
    if marking is None:
        return wrong
    tag = f"marking/{each.seed}:1"
    load(engine, {tag: marking})
    again = seen(run(engine, tag, f"marking-{each.seed}"))
    engine.docker("rmi", "-f", tag)
    return disagreements(again, report) if again.stage is Stage.STARTED else wrong


def test_mutants_come_as_far_as_foretold(engine: Engine, record_property: Callable[[str, object], None]) -> None:
    count = FULL_COUNT if full() else COUNT
    foreteller, profile = Foreteller(), profile_of(engine)
    try:
        ground = grounds(foreteller, profile)
    except ToolAbsent as error:
        absent(str(error))
    departed = {}
    for some in parts([mutant(seed, ground) for seed in range(FIRST, FIRST + count)]):
        load(engine, {each.tag: each.image for each in some})
        for each, wrong in zip(some, in_threads(lambda each: departures(engine, each, foreteller, profile), some), strict=True):
            if wrong:
                departed[each.seed] = "\n".join([each.told, *wrong])
        engine.docker("rmi", "-f", *(each.tag for each in some))
    known = {seed for seed, told in departed.items() if any(re.search(words, told, re.MULTILINE) for words in EXCEPTIONS)}
    share = f"{len(known)} listed exceptions ({len(known) / count:.1%})"
    record_property("summary", f"mutants: seeds {FIRST} to {FIRST + count - 1}, {len(departed) - len(known)} depart, {share}")
    unlisted = [told for seed, told in departed.items() if seed not in known]
    assert not unlisted, f"{len(unlisted)} of {count} depart and are not listed\n" + "\n".join(unlisted)
    assert len(known) <= count / 100
