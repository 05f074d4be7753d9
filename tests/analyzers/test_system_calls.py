"""What a confined worker can no longer ask of the kernel: by the kernel itself, and by the filter's own arithmetic."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

from analyzers.system_calls import REFUSED, X32_BIT, filter_program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386 = 0x40000003
CHILD = """
import os, socket
from analyzers.__main__ import Confinement, confine

attempts = {
    "inet": lambda: socket.socket(socket.AF_INET),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "pair": socket.socketpair,
    "exec": lambda: os.execv("/bin/true", ["true"]),
}
assert confine(Confinement())["system_calls"] == "filtered"
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, "allowed")
    except PermissionError:
        print(name, "refused")
os.pipe()
open("/proc/self/stat").close()
"""


@pytest.mark.skipif(os.uname().machine not in REFUSED, reason=f"no table for {os.uname().machine}")
def test_h143_a_confined_process_opens_no_socket_and_runs_no_program() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["inet refused", "unix refused", "pair refused", "exec refused"]


def refuses(program: bytes, architecture: int, number: int) -> bool:
    """What the kernel would answer, by the rules of classic BPF."""
    instructions = list(struct.iter_unpack("<HBBI", program))
    at, held = 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x20:
            held = {0: number, 4: architecture}[value]
        elif code in (0x15, 0x35):
            at += if_true if (held == value if code == 0x15 else held >= value) else if_false
        else:
            assert code == 0x06
            assert value in (0x7FFF0000, 0x00050001)
            return value != 0x7FFF0000


@pytest.mark.parametrize("machine", REFUSED)
def test_exactly_the_named_calls_are_refused(machine: str) -> None:
    program, architecture = filter_program(machine), ARCHITECTURES[machine]
    assert {number for number in range(600) if refuses(program, architecture, number)} == set(REFUSED[machine].values())


@pytest.mark.parametrize("machine", REFUSED)
def test_calls_by_another_table_are_refused_whole(machine: str) -> None:
    program = filter_program(machine)
    assert all(refuses(program, I386, number) for number in range(600))
    assert all(refuses(program, ARCHITECTURES[machine], X32_BIT + number) for number in range(600))


def test_a_machine_without_a_table_has_no_filter() -> None:
    assert filter_program("riscv64") == b""
