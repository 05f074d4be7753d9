"""Whole systems, as they are and mutilated: what is foretold of their ELF files is what their own loaders say of them.

A seeded sample of the files of each root and form; all with ENOENT_TEST_FULL=1. docs/agreement.md has the counts of a whole run.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.oracle.agreement import PAGE, PAIRS, Systems, ask, excuse_lines, unexcused
from tests.oracle.comparison import LIMITS

FULL = os.environ.get("ENOENT_TEST_FULL") == "1"
SAMPLES = {"whole": 150}
SAMPLE = 40

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real-roots")]


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Systems:
    if os.geteuid() != 0:
        absent("chroot needs root")
    return Systems(tmp_path_factory.mktemp("systems"))


@pytest.mark.parametrize(("root", "form"), PAIRS)
def test_files_of_a_system_end_as_its_own_loader_ends_them(systems: Systems, root: str, form: str) -> None:
    try:
        agreement = ask(systems, root, form, None if FULL else SAMPLES.get(form, SAMPLE))
    except ToolAbsent as error:
        absent(str(error))
    assert agreement.files >= SAMPLE
    assert agreement.starts > 0
    assert unexcused(root, form, agreement) == []


def _section(title: str) -> list[str]:
    found = re.search(rf"^## {title}\n\n(.*?)\n(?=\n##|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1].splitlines()


def test_the_page_names_exactly_the_differences_that_are_excused() -> None:
    assert _section("Differences that stay") == (excuse_lines() or ["None."])


def test_the_page_names_every_limit_of_the_listings() -> None:
    told = [re.sub(r" \([\d,]+ listings\)", "", line) for line in _section("Where a listing is no witness")]
    assert told == [f"- **{name}**: {reason}" for name, reason in LIMITS.items()]


def test_the_page_has_every_root_in_every_form() -> None:
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| [\d,]+ \|", PAGE.read_text(), re.MULTILINE)
    assert tuple(rows) == PAIRS
