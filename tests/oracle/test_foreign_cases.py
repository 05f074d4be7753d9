"""Loaders of other machines, run by qemu, beside what is foretold for images of these machines (rules A; T114 to T116)."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from analyzers.finding import State
from analyzers.linkage import GLIBC_LOADERS, MUSL_LOADERS
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.conftest import absent
from tests.fleet.engine_words import x86_level
from tests.make.elves import ToolAbsent
from tests.make.foreign_cases import CASES, GLIBC, MUSL, STARTED, Case, Tools, system_files
from tests.make.layers import Item, program, tar_of
from tests.make.views import layer
from tests.oracle.architectures import ARCHITECTURES, run_on
from tests.oracle.inside import Ended, Job
from tests.oracle.real_roots import lay_over


def _loader_path(architecture: str, libc: str) -> str:
    """As the machine's programs name it (A1): of several, the one this Debian architecture has."""
    own = ARCHITECTURES[architecture].platform.architecture
    files = system_files(architecture)
    for path in (GLIBC_LOADERS if libc == GLIBC else MUSL_LOADERS)[own]:
        if path.decode().rpartition("/")[2] in files:
            return path.decode().lstrip("/")
    raise ToolAbsent(f"the root of {architecture} has no loader of {libc}")


def _root(case: Case, tools: Tools) -> dict[str, Item | bytes | str]:
    path = _loader_path(tools.architecture, tools.libc)
    return {path: program(system_files(tools.architecture)[path.rpartition("/")[2]]), **case.items(tools)}


def _foretell(items: Mapping[str, Item | bytes | str], architecture: str, env: tuple[str, ...] = ()) -> Start:
    config = ImageConfig(platform=ARCHITECTURES[architecture].platform, cmd=("/x",), env=env)
    return foretell_start(Rootfs([layer(items)]), config, HostProfile(x86_level=x86_level()), NO_OVERRIDES)


def _run(items: Mapping[str, Item | bytes | str], architecture: str, start: Start, *options: bytes) -> Ended:
    with tempfile.TemporaryDirectory(prefix="foreign-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        lay_over(root, tar_of(items))
        (root / "proc").mkdir()
        (ended,) = run_on(ARCHITECTURES[architecture], root, [Job(b"/x", (b"/x",), start.env)], options)
    return ended


def _foretold(start: Start) -> tuple[tuple[str, ...], int]:
    assert start.state is not State.UNKNOWN, start.why_unknown
    assert start.loaded is not None, start.message
    if start.loaded.crash:
        return (), -signal.Signals[start.loaded.crash]
    return tuple(line.decode() for line in start.loaded.lines), start.loaded.exit_code or STARTED


@pytest.mark.parametrize("libc", [GLIBC, MUSL])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_loader_of_another_machine_does_what_is_foretold(architecture: str, libc: str) -> None:
    tools = Tools(architecture, libc)
    foretold, real, wanted = {}, {}, {}
    for case in CASES:
        if libc == MUSL and case.glibc_only:
            continue
        try:
            items = _root(case, tools)
            start = _foretell(items, architecture, case.env)
            ended = _run(items, architecture, start)
        except ToolAbsent as error:
            absent(str(error))
        foretold[case.id] = _foretold(start)
        real[case.id] = ended.lines, ended.code
        wanted[case.id] = case.end(tools)
    assert real == foretold
    assert {name: code for name, (_, code) in real.items()} == wanted


@pytest.mark.parametrize("libc", [GLIBC, MUSL])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a01_programs_name_the_loader_that_we_know_of(architecture: str, libc: str) -> None:
    """The linker's own table against ours."""
    tools = Tools(architecture, libc)
    try:
        items = {"x": CASES[0].items(tools)["x"], _loader_path(architecture, libc): program(b"")}
    except ToolAbsent as error:
        absent(str(error))
    executed = _foretell(items, architecture).execution
    assert executed is not None
    assert executed.culprit.decode() in (f"/{_loader_path(architecture, libc)}", "")
