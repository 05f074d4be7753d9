"""Every case of tests/make/glibc_cases.py run by real glibc loaders: the lines and the exit status must be those foretold."""

from __future__ import annotations

import pytest

from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.glibc_cache_cases import CACHES
from tests.make.glibc_cases import LOADER, STARTED, Case
from tests.make.glibc_command_cases import COMMANDS
from tests.make.glibc_loaders import RELEASES, loader_of, release_of
from tests.make.glibc_search_cases import SEARCH
from tests.make.glibc_start_cases import LIBC, MAPPING, PRELOADS, VERSIONS
from tests.make.glibc_symbol_cases import SYMBOLS
from tests.oracle.chroots import run, unpacked

CASES = (*SEARCH, *CACHES, *MAPPING, *PRELOADS, *VERSIONS, *SYMBOLS, *LIBC, *COMMANDS)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", [case for case in CASES if not case.why_no_oracle], ids=lambda case: case.id)
def test_a_real_loader_agrees(case: Case, release: str) -> None:
    try:
        loader = loader_of(release)
        if not case.holds(release_of(release)):
            pytest.skip("another release")
        items = case.items()
    except ToolAbsent as error:
        absent(str(error))
    with unpacked({LOADER: loader, **items}) as root:
        ended = run(root, case.cmd, env=case.env, cwd=case.working_dir, user=case.user, proc=case.proc)
    # What a process says while it dies of a signal is not foretold.
    lines = () if case.crash else ended.lines
    assert (lines, ended.crash or ended.exit_code) == (case.lines, case.crash or case.exit_code or STARTED)
