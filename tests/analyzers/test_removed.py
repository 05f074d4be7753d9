"""What a build took away again is found, with the layers that had it and took it, and told with the failure it causes."""

from __future__ import annotations

import pytest

from analyzers.finding import Finding, Severity
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from analyzers.removed import Removal, removals
from analyzers.rootfs import Rootfs
from tests.make.starts import TRUE
from tests.make.views import Item, elf, elf_facts, file, folder, layer, script, symlink

LIBC = "lib/libc.so"
HISTORY = (("ADD rootfs /", False), ("ENV A=1", True), ("COPY app /app", False), ("RUN rm -f /lib/libc.so", False))


def found(*layers: tuple[dict[str, Item | bytes | str], tuple[str, ...]], base: bytes = b"libc.so") -> list[Removal]:
    return list(removals(Rootfs([layer(items, whiteouts=gone) for items, gone in layers]), base))


def test_a_deleted_file_names_who_had_it_and_who_took_it() -> None:
    assert found(({LIBC: "x"}, ()), ({"app": "x"}, ()), ({}, (LIBC,)), ({"more": "x"}, ())) == [Removal(LIBC.encode(), 0, 2)]


@pytest.mark.parametrize("taking", [
    ({}, ("lib",)), ({"lib": "a file in its place"}, ()), ({"lib": symlink("usr/lib")}, ()),
])  # fmt: skip
def test_a_deleted_or_covered_folder_takes_all_below_it(taking: tuple[dict[str, Item | bytes | str], tuple[str, ...]]) -> None:
    assert found(({LIBC: "x"}, ()), taking) == [Removal(LIBC.encode(), 0, 1)]


def test_what_was_brought_again_is_not_gone() -> None:
    assert found(({LIBC: "x"}, ()), ({}, (LIBC,)), ({LIBC: "y"}, ())) == []


def test_the_last_removal_counts() -> None:
    assert found(({LIBC: "x"}, ()), ({}, (LIBC,)), ({LIBC: "y"}, ()), ({}, (LIBC,))) == [Removal(LIBC.encode(), 2, 3)]


def test_folders_and_other_names_are_left_out() -> None:
    assert found(({"lib/libc.so": folder(), "lib/xlibc.so": "x"}, ()), ({}, ("lib/libc.so", "lib/xlibc.so"))) == []


def fatal(*layers: tuple[dict[str, Item | bytes | str], tuple[str, ...]], cmd: tuple[str, ...]) -> Finding:
    config = ImageConfig(cmd=cmd, history=HISTORY[: len(layers) + 1])
    report = judge_image("sha256:0", config, [layer(items, whiteouts=gone) for items, gone in layers])
    return next(each for each in report.findings if each.severity is Severity.FATAL)


@pytest.mark.parametrize(("had", "gone", "cmd"), [
    ({"bin/bash": TRUE}, "bin/bash", "/run.sh"),
    ({"opt/tool": TRUE}, "opt/tool", "/opt/tool"),
    ({"bin/tool": TRUE}, "bin/tool", "tool"),
    ({"lib/ld.so": TRUE}, "lib/ld.so", "/app"),
])  # fmt: skip
def test_a_start_that_fails_for_want_of_it_says_so(had: dict[str, Item | bytes | str], gone: str, cmd: str) -> None:
    program = elf(elf_facts(b"/lib/ld.so", needed=(b"libc.so",)))
    own: dict[str, Item | bytes | str] = {"run.sh": script("#!/bin/bash\n"), "app": program, "etc/x": file("x")}
    finding = fatal((had, ()), (own, ()), ({}, (gone,)), cmd=(cmd,))
    assert f"/{gone} was there: layer 0 (ADD rootfs /) brought it and layer 2 (RUN rm -f /lib/libc.so) deleted it." in finding.why


def test_without_history_the_layers_are_named_alone() -> None:
    report = judge_image("sha256:0", ImageConfig(cmd=("/x",)), [layer({"x": TRUE}), layer({}, whiteouts=("x",))])
    assert "/x was there: layer 0 brought it and layer 1 deleted it." in report.findings[0].why


def test_a_name_that_lies_beside_path_is_told() -> None:
    finding = fatal(({"opt/bin/server": TRUE}, ()), cmd=("server",))
    assert "A file of that name lies at /opt/bin/server, and PATH does not name /opt/bin." in finding.why
    assert "Use /opt/bin/server, or add /opt/bin to PATH." in finding.remedies
