"""Whole systems, as they are and mutilated: what is foretold of their ELF files is what their own loaders say of them.

A seeded sample of the files of each root and form; all with ENOENT_TEST_FULL=1. docs/agreement.md has the counts of a whole run.
"""

from __future__ import annotations

import os
import re

import pytest

from analyzers.accounts import Credentials
from analyzers.node import judge_node
from analyzers.plugins import Start
from analyzers.profile import DEFAULT_PROFILE
from analyzers.python import Imports, judge_python
from analyzers.pythons import find_interpreters
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.oracle.agreement import PAGE, PAIRS, Systems, ask, excuse_lines, limit_lines, read_page, sampled_lines, unexcused
from tests.oracle.architectures import ARCHITECTURES
from tests.oracle.forms import FOCUS

FULL = os.environ.get("ENOENT_TEST_FULL") == "1"
SAMPLES = {"whole": 300}
SAMPLE = 60
FOREIGN_SAMPLES = {"whole": 30}
FOREIGN_SAMPLE = 8
"""An emulator takes ten times as long as a machine."""

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real-roots")]


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Systems:
    if os.geteuid() != 0:
        absent("chroot needs root")
    return Systems(tmp_path_factory.mktemp("systems"))


@pytest.mark.parametrize(("root", "form"), PAIRS)
def test_files_of_a_system_end_as_its_own_loader_ends_them(systems: Systems, root: str, form: str) -> None:
    foreign = root in ARCHITECTURES
    sample = FOREIGN_SAMPLES.get(form, FOREIGN_SAMPLE) if foreign else SAMPLES.get(form, SAMPLE)
    try:
        agreement = ask(systems, root, form, None if FULL else sample)
    except ToolAbsent as error:
        absent(str(error))
    assert agreement.files >= min(sample, SAMPLE)
    assert agreement.starts > 0 or sample == FOREIGN_SAMPLE or form in FOCUS
    assert unexcused(root, form, agreement) == []


@pytest.mark.parametrize("root", ["alpine", "bookworm", "trixie"])
def test_nothing_of_a_system_s_own_python_is_called_broken(systems: Systems, root: str) -> None:
    """Every package that a distribution brings can be imported, its numpy and scipy too."""
    try:
        rootfs = systems[root].rootfs
    except ToolAbsent as error:
        absent(str(error))
    start = Start((b"PATH=/usr/local/bin:/usr/bin:/bin",), b"/", Credentials(0, 0, (), True), DEFAULT_PROFILE)
    assert [each.message for each in (*judge_python(rootfs, start), *judge_node(rootfs, start))] == []
    tried = list(Imports(rootfs, find_interpreters(rootfs, start.env), start).tried())
    assert len(tried) >= {"alpine": 0, "bookworm": 150, "trixie": 50}[root]


def _section(title: str) -> list[str]:
    found = re.search(rf"^## {title}\n\n(.*?)\n(?=\n##|\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1].splitlines()


def test_the_page_names_exactly_the_differences_that_are_excused() -> None:
    assert _section("Differences that stay") == (excuse_lines() or ["None."])


def test_the_page_names_every_limit_of_the_listings() -> None:
    assert _section("Where a listing is no witness") == limit_lines()


def test_the_page_has_every_root_in_every_form_or_says_which_it_has_not() -> None:
    rows, _ = read_page(PAGE.read_text())
    assert _section("Asked by the suite's samples only") == sampled_lines(rows)
    assert {"bookworm", "trixie", "alpine"} <= {root for root, _ in rows}
