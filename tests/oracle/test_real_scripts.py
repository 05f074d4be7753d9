"""The shell scripts of a whole system: those foretold to fail fail just so, and the others find every command that they want."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analyzers.finding import State
from analyzers.oci import ImageConfig
from analyzers.profile import DEFAULT_PROFILE
from analyzers.rootfs import Rootfs
from analyzers.start import DEFAULT_PATH, NO_OVERRIDES, Start, foretell_start
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.oracle.chroots import run
from tests.oracle.real_roots import System, whole

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real-roots")]
FAILS_EARLIER = {"/var/lib/dpkg/info/python3-numpy.postinst"}
"""A Python program before the one foretold to fail wants files of /usr/share, which this root was made without."""
_ENV = (f"PATH={DEFAULT_PATH.decode()}", "HOME=/root", "HOSTNAME=container")


class Foretold(NamedTuple):
    command: tuple[str, ...]
    start: Start


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    try:
        return whole("trixie", tmp_path_factory.mktemp("scripts") / "trixie")
    except ToolAbsent as error:
        absent(str(error))


@pytest.fixture(scope="module")
def foretold(system: System) -> list[Foretold]:
    return list(_foretold(system))


def _foretold(system: System) -> Iterator[Foretold]:
    rootfs = Rootfs(system.layers)
    for path in sorted(system.layers[0].scripts):
        node = rootfs.resolve(b"/" + path).node
        if node is None or not node.entry.mode & 0o111 or rootfs.head(node) is None:
            continue
        for words in ((), ("--help",), ("start",)):
            command = ("/" + path.decode(), *words)
            yield Foretold(command, foretell_start(rootfs, ImageConfig(entrypoint=command), DEFAULT_PROFILE, NO_OVERRIDES))


def test_scripts_that_are_foretold_to_fail_fail_just_so(system: System, foretold: list[Foretold]) -> None:
    failing = [each for each in foretold if each.start.state is State.FAILS]
    assert len(failing) > 20
    wrong = []
    for each in failing:
        ended = run(Path(system.folder), each.command, env=_ENV)
        lines = tuple(line.decode() for line in each.start.lines)
        if each.command[0] in FAILS_EARLIER:
            assert ended.exit_code, each
        elif (lines, each.start.exit_code) != (ended.lines, ended.exit_code):
            wrong.append((each.command, lines, each.start.exit_code, ended))
    assert wrong == []


def test_most_scripts_are_followed(foretold: list[Foretold]) -> None:
    assert sum(not each.start.assumptions for each in foretold) > 0.8 * len(foretold)


def test_programs_that_are_foretold_to_start_miss_no_command(system: System, foretold: list[Foretold]) -> None:
    """Of those that users call, asked for their help: what they miss is what was said."""
    for each in foretold:
        if each.start.state is State.STARTS and each.command[0].startswith("/usr/bin/") and each.command[1:] == ("--help",):
            ended = run(Path(system.folder), each.command, env=_ENV)
            told = {line.decode() for line in each.start.lines}
            missed = {line for line in ended.lines if line.endswith(": not found") or "command not found" in line}
            assert missed <= told or each.start.assumptions, (each.command, missed)
