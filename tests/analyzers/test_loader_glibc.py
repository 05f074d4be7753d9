"""glibc's loader from facts: every case of tests/make/glibc_cases.py, and what the record of a load tells."""

from __future__ import annotations

import pytest

from analyzers.finding import State
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.glibc_cache_cases import CACHES
from tests.make.glibc_cases import Case, foretell
from tests.make.glibc_command_cases import COMMANDS
from tests.make.glibc_loaders import RELEASES, loader_of, release_of
from tests.make.glibc_search_cases import SEARCH
from tests.make.glibc_start_cases import LIBC, MAPPING, PRELOADS, VERSIONS
from tests.make.glibc_symbol_cases import SYMBOLS

CASES = (*SEARCH, *CACHES, *MAPPING, *PRELOADS, *VERSIONS, *SYMBOLS, *LIBC, *COMMANDS)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, release: str) -> None:
    try:
        loader = loader_of(release)
        if not case.holds(release_of(release)):
            pytest.skip("another release")
        start = foretell(case, loader)
    except ToolAbsent as error:
        absent(str(error))
    assert start.why_unknown == ""
    loaded = start.loaded
    assert loaded is not None
    lines = tuple(line.decode() for line in loaded.lines)
    assert (lines, loaded.crash, loaded.exit_code or 0) == (case.lines, case.crash, case.exit_code)
    assert start.state is (State.FAILS if case.exit_code or case.crash else State.STARTS)
