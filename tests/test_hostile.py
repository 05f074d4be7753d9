"""docs/hostile.md is held to the tests: every row that was promised has one, and the page names none that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "hostile.md"
ROWS = range(1, 145)
FOUNDATION = {*range(1, 104), 104, 113, 114, 117, 118, 120, 122, *range(124, 129), 142, 143}
_ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"def (test_(?:h\d{3}_)+\w+)")


class Row(NamedTuple):
    what: str
    answer: str
    test: str


def page() -> dict[int, Row]:
    rows = _ROW.findall(PAGE.read_text())
    assert len({row[0] for row in rows}) == len(rows), "a row stands twice"
    return {int(number): Row(*rest) for number, *rest in rows}


def names_by_row() -> dict[int, set[str]]:
    """Names of tests by each number in them; one test may prove several rows."""
    found: dict[int, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in _TEST.findall(path.read_text()):
            for number in re.findall(r"h(\d{3})_", name):
                found.setdefault(int(number), set()).add(name)
    return found


def test_every_promised_row_has_a_test() -> None:
    assert not FOUNDATION - set(names_by_row())


def test_the_page_tells_of_every_row_in_order() -> None:
    assert list(page()) == list(ROWS)


def test_the_page_names_a_test_that_exists_or_says_that_there_is_none() -> None:
    known = names_by_row()
    for number, row in page().items():
        if number in known:
            assert row.test.strip("`") in known[number], f"row {number} names {row.test}; it has {sorted(known[number])}"
        else:
            assert re.fullmatch(r"(issue \d+|later): not yet", row.test), f"row {number} has no test"
            assert number not in FOUNDATION, f"row {number}"


def test_numbers_of_tests_are_rows() -> None:
    assert set(names_by_row()) <= set(ROWS)
