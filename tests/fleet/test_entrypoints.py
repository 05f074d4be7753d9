"""Real scripts of packages: how many are followed to the program they run, and that the page about them is current."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.entrypoints import PAGE, ROWS, Result, page, result_of


@pytest.fixture(scope="module")
def results() -> list[Result]:
    try:
        return [result_of(row) for row in ROWS]
    except ToolAbsent as error:
        absent(str(error))


def test_four_of_five_real_scripts_are_followed_to_their_end(
    results: list[Result], record_property: Callable[[str, object], None]
) -> None:
    reached = sum(each.seen for each in results)
    record_property("summary", f"entrypoints: {reached} of {len(results)} real scripts followed to the end")
    assert len(results) >= 30
    assert reached >= 0.8 * len(results)


def test_no_real_script_is_foretold_to_fail(results: list[Result]) -> None:
    assert not [each for each in results if each.why.startswith("foretold to fail")]


def test_the_page_of_entrypoints_is_current(results: list[Result]) -> None:
    assert PAGE.read_text() == page(results), "run python -m tests.make.entrypoints"
