"""Row 50 of the failures' list: the host's driver must come from the host, and a copy in the image is the fault."""

from __future__ import annotations

import pytest

from analyzers.driver import judge_driver
from analyzers.rootfs import Rootfs
from tests.make.views import elf, elf_facts, layer


def found(path: str, soname: str) -> list[str]:
    return [each.message for each in judge_driver(Rootfs([layer({path: elf(elf_facts(soname=soname.encode()))})]))]


def test_f50_a_copy_of_the_driver_in_the_image_is_the_fault() -> None:
    (message,) = found("usr/lib/x86_64-linux-gnu/libcuda.so.535.54.03", "libcuda.so.1")
    assert message.endswith(": libcuda.so.535.54.03")


@pytest.mark.parametrize(
    ("path", "soname"),
    [
        ("usr/local/cuda/lib64/stubs/libcuda.so", "libcuda.so.1"),
        ("usr/local/cuda-12.2/compat/libcuda.so.1", "libcuda.so.1"),
        ("usr/local/cuda/lib64/libcudart.so.12", "libcudart.so.12"),
    ],
)
def test_f50_what_is_made_to_be_brought_is_no_fault(path: str, soname: str) -> None:
    assert found(path, soname) == []
