"""The cases of tests/make/musl_cases.py asked of the real loaders: every line on stderr, the exit status, the signal."""

from __future__ import annotations

import pytest

from tests.make.layers import tar_of
from tests.make.musl_cases import Case, root_of
from tests.make.musl_elves import RELEASES
from tests.make.musl_glibc_cases import CASES
from tests.oracle.musl_roots import actual, config_of, foretell, musl_layer, needs_tools, predicted, read_layer, unpacked


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_real_loader_agrees(case: Case, release: str) -> None:
    with needs_tools():
        musl = musl_layer(release)
        tar = tar_of(root_of(case, release))
    below = [] if case.bare else [musl]
    config = config_of(case.cmd, case.env, case.user, case.working_dir)
    start = foretell([*(each.facts for each in below), read_layer(tar)], config, proc=case.proc)
    with unpacked(*(each.tar for each in below), tar) as root:
        ended = actual(root, start, proc=case.proc)
    assert (ended.lines, ended.exit_code, ended.signal) == case.expected(release)
    assert ended == predicted(start)
