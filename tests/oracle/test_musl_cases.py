"""The cases of tests/make/musl_cases.py asked of the real loaders: every line on stderr, the exit status, the signal."""

from __future__ import annotations

import pytest

from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.layers import tar_of
from tests.make.musl_cases import CASES, RELEASES, Case, root_of
from tests.oracle.musl_roots import actual, config_of, foretell, predicted, read_layer, unpacked


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", [case for case in CASES if not case.oracle], ids=lambda case: case.id)
def test_the_real_loader_agrees(case: Case, release: str) -> None:
    try:
        tar = tar_of(root_of(case, release))
    except ToolAbsent as error:
        absent(str(error))
    start = foretell([read_layer(tar)], config_of(case.cmd, case.env, case.user, case.working_dir), proc=case.proc)
    with unpacked(tar) as root:
        ended = actual(root, start, proc=case.proc)
    assert (ended.lines, ended.exit_code, ended.signal) == case.expected(release)
    assert ended == predicted(start)
