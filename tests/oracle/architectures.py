"""The machines whose loaders are asked: what stops a program at its entry point there, and which emulator runs it here.

Emulators are qemu's user mode, unpacked by tests/setup/foreign.sh and copied into a root when programs are run in it; the
kernel knows nothing of them. Where the name is empty the kernel runs such programs itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from analyzers.oci import Platform
from tests.make.elves import CACHE, ToolAbsent
from tests.oracle.inside import Ended, Job, run_inside

_EMULATOR = b"/.qemu"


class Architecture(NamedTuple):
    """A Debian architecture."""

    platform: Platform
    multiarch: str
    stop: bytes
    """exit_group(42) in its machine code."""
    qemu: str = ""
    stop_thumb: bytes = b""
    """The same for an entry point with an odd address (arm)."""


def _words(order: str, *words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little" if order == "<" else "big") for word in words)


_ARM_STOP = _words("<", 0xE3A0002A, 0xE3A070F8, 0xEF000000)
_THUMB_STOP = bytes.fromhex("2a20f82700df")
AMD64 = Architecture(Platform("linux", "amd64"), "x86_64-linux-gnu", bytes.fromhex("bf2a000000b8e70000000f05"))
ARCHITECTURES = {
    "arm64": Architecture(
        Platform("linux", "arm64", "v8"), "aarch64-linux-gnu", _words("<", 0xD2800540, 0xD2800BC8, 0xD4000001), "qemu-aarch64"
    ),
    "armhf": Architecture(Platform("linux", "arm", "v7"), "arm-linux-gnueabihf", _ARM_STOP, "qemu-arm", _THUMB_STOP),
    "armel": Architecture(Platform("linux", "arm", "v5"), "arm-linux-gnueabi", _ARM_STOP, "qemu-arm", _THUMB_STOP),
    "i386": Architecture(Platform("linux", "386"), "i386-linux-gnu", bytes.fromhex("bb2a000000b8fc000000cd80")),
    "mips64el": Architecture(
        Platform("linux", "mips64le"), "mips64el-linux-gnuabi64", _words("<", 0x24021455, 0x2404002A, 0x0000000C), "qemu-mips64el"
    ),
    "ppc64el": Architecture(
        Platform("linux", "ppc64le"), "powerpc64le-linux-gnu", _words("<", 0x380000EA, 0x3860002A, 0x44000002), "qemu-ppc64le"
    ),
    "s390x": Architecture(Platform("linux", "s390x"), "s390x-linux-gnu", bytes.fromhex("a729002a0af8"), "qemu-s390x"),
    "riscv64": Architecture(
        Platform("linux", "riscv64"), "riscv64-linux-gnu", _words("<", 0x02A00513, 0x05E00893, 0x00000073), "qemu-riscv64"
    ),
    "loong64": Architecture(
        Platform("linux", "loong64"), "loongarch64-linux-gnu", _words("<", 0x0280A804, 0x0281780B, 0x002B0000), "qemu-loongarch64"
    ),
}
"""By Debian's name; the roots are .cache/roots/NAME.tar."""


def run_on(architecture: Architecture, root: Path, jobs: Sequence[Job], options: Sequence[bytes] = ()) -> list[Ended]:
    """The jobs inside the root, by an emulator (with these options) where the kernel cannot. Raises ToolAbsent."""
    if not architecture.qemu:
        return run_inside(root, jobs)
    emulator = CACHE / "qemu/usr/bin" / architecture.qemu
    if not emulator.exists():
        raise ToolAbsent(f"no {architecture.qemu} in .cache/qemu: run tests/setup/foreign.sh")
    place = root / _EMULATOR.decode().lstrip("/")
    shutil.copy2(emulator, place)
    try:
        return run_inside(root, [_emulated(job, options) for job in jobs])
    finally:
        place.unlink()


def _emulated(job: Job, options: Sequence[bytes]) -> Job:
    """The variables are set for the emulated program only."""
    variables = [word for item in job.env for word in (b"-E", item)]
    return Job(_EMULATOR, (_EMULATOR, *options, *variables, b"-0", job.argv[0], job.path, *job.argv[1:]))
