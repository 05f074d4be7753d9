"""Every glibc case run by real loaders: the lines and the exit status must be those that are foretold for that release."""

from __future__ import annotations

import pytest

from analyzers.finding import State
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.glibc_cache_cases import CACHES
from tests.make.glibc_cases import LOADER, STARTED, Case, foretell
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
        items = case.items()
        start = foretell(case, loader)
    except ToolAbsent as error:
        absent(str(error))
    with unpacked({LOADER: loader, **items}) as root:
        ended = run(root, case.cmd, env=case.env, cwd=case.working_dir, user=case.user, proc=case.proc)
    assert start.loaded is not None
    assert start.state is not State.UNKNOWN
    code = start.loaded.exit_code or STARTED
    # What a process says while it dies of a signal is not foretold.
    lines = ended.lines if start.loaded.crash else tuple(line.decode() for line in start.loaded.lines)
    told = ended.lines if release_of(release) >= case.told_whole_since else ended.lines[:1]
    assert (told, ended.crash or ended.exit_code) == (lines, start.loaded.crash or code)
