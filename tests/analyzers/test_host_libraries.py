"""Libraries that the host's driver brings (failures row 50): expected where they are missing, suspect where there is a copy."""

from __future__ import annotations

import pytest

from analyzers.finding import Report, Severity, State
from analyzers.host_libraries import brought_by_host, in_the_way
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig, Platform
from tests.conftest import absent
from tests.make.elves import MUSL_GCC, ToolAbsent, patched
from tests.make.glibc_cases import LOADER, MULTIARCH, lib, prog
from tests.make.glibc_loaders import loader_of
from tests.make.layers import Item, program
from tests.make.musl_elves import loader, main
from tests.make.roots import MUSL
from tests.make.views import layer


def report(items: dict[str, Item | bytes | str]) -> Report:
    try:
        return judge_image(
            "x", ImageConfig(cmd=("/x",), platform=Platform("linux", "amd64")), [layer({LOADER: loader_of("machine"), **items})]
        )  # fmt: skip
    except ToolAbsent as error:
        absent(str(error))


ASSUMED = "libcuda.so.1 is brought by the host's driver (NVIDIA container toolkit)."


def test_f50_a_driver_that_is_missing_is_an_assumption_and_no_alarm() -> None:
    made = report({"x": prog("libcuda.so.1", "liba.so"), "usr/lib/liba.so": lib("liba.so", "libnvidia-ml.so.1")})
    assert made.verdict.state is State.STARTS
    assert ASSUMED in made.assumptions
    assert "libnvidia-ml.so.1 is brought by the host's driver (NVIDIA container toolkit)." in made.assumptions
    told = [each for each in made.findings if each.rule == "load.host-library"]
    assert [(each.severity, each.subject, each.assumptions[0]) for each in told] == [
        (Severity.INFO, "/usr/lib/liba.so", made.assumptions[-1]),
        (Severity.INFO, "/x", ASSUMED),
    ]
    assert all(each.severity is Severity.INFO for each in made.findings)


def test_f50_functions_of_the_driver_are_not_looked_for() -> None:
    wants = prog("libcuda.so.1", source="int cuInit(unsigned); int (*pointer)(unsigned) = cuInit;", flags=("-Wl,-z,now",))
    assert report({"x": wants}).verdict.state is State.STARTS


def test_f50_what_else_is_missing_still_ends_it() -> None:
    made = report({"x": prog("libcuda.so.1", "libgone.so")})
    assert made.verdict.state is State.FAILS
    gone = "cannot open shared object file: No such file or directory"
    assert made.verdict.message == f"/x: error while loading shared libraries: libgone.so: {gone}"


def test_f50_a_file_that_is_there_and_is_no_library_is_refused_as_ever() -> None:
    made = report({"x": prog("libcuda.so.1"), f"{MULTIARCH}/libcuda.so.1": "GROUP ( libcuda.so )" * 8})
    assert made.verdict.message.endswith("/libcuda.so.1: invalid ELF header")


def test_f50_a_copy_in_the_image_is_the_fault() -> None:
    made = report({"x": prog("libcuda.so.1"), "usr/lib/libcuda.so.1": lib("libcuda.so.1")})
    assert made.verdict.state is State.STARTS
    assert ASSUMED not in made.assumptions
    assert [(each.rule, each.severity, each.subject) for each in made.findings] == [
        ("image.driver-library", Severity.WARNING, "/usr/lib/libcuda.so.1")
    ]


def test_f50_under_musl_no_toolkit_brings_anything() -> None:
    try:
        wants = program(patched(main(compiler=MUSL_GCC).content, "--add-needed", "libcuda.so.1"))
        items = {f"lib/{MUSL}": loader("1.2.5"), "x": wants}
    except ToolAbsent as error:
        absent(str(error))
    made = judge_image("x", ImageConfig(cmd=("/x",), platform=Platform("linux", "amd64")), [layer(items)])
    assert made.verdict.state is State.FAILS


@pytest.mark.parametrize(
    "name",
    [
        "libcuda.so.1", "libcudadebugger.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1", "libnvcuvid.so.1",
        "libnvidia-encode.so.1", "libGLX_nvidia.so.0", "libEGL_nvidia.so.0", "libnvoptix.so.1", "libnvidia-ml.so.550.54.14",
    ],
)  # fmt: skip
def test_f50_names_of_the_driver(name: str) -> None:
    assert brought_by_host(name.encode())


@pytest.mark.parametrize(
    "name",
    ["libcudart.so.12", "libcublas.so.12", "libcudnn.so.9", "libGL.so.1", "libEGL.so.1", "libOpenCL.so.1", "libnvinfer.so.10",
     "libnvrtc.so.12", "libnccl.so.2", "libnvidia-container.so.1", "xlibcuda.so.1", "libcuda.so.1.py"],
)  # fmt: skip
def test_f50_names_that_an_image_has_to_bring(name: str) -> None:
    assert not brought_by_host(name.encode())


def test_f50_folders_that_are_meant_for_a_copy() -> None:
    assert in_the_way(b"/usr/lib/x86_64-linux-gnu/libcuda.so.1")
    assert not in_the_way(b"/usr/local/cuda/compat/libcuda.so.1")
    assert not in_the_way(b"/usr/local/cuda/lib64/stubs/libcuda.so")
