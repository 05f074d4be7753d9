"""The system calls that a worker gives up: the program by which the kernel refuses them from then on (seccomp, mode 2).

A namespace without a network would do for sockets, but inside containers making one is itself refused; this filter is not.
Pure: it makes the bytes, `__main__` hands them to the kernel. The numbers are those of each machine's own table; a call by
another table (int 0x80, x32) is refused whole, for its numbers mean something else.
"""

from __future__ import annotations

import struct

EPERM = 1
X32_BIT = 0x40000000
# linux/audit.h: the ELF machine, marked as 64 bit and little endian.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
REFUSED: dict[str, dict[str, int]] = {
    "x86_64": {"socket": 41, "socketpair": 53, "execve": 59, "ptrace": 101, "execveat": 322, "io_uring_setup": 425},
    "aarch64": {"ptrace": 117, "socket": 198, "socketpair": 199, "execve": 221, "execveat": 281, "io_uring_setup": 425},
}
"""Sockets of any kind, also by way of io_uring; other programs; and other processes of the same user."""

# linux/bpf_common.h: load a word at an offset of struct seccomp_data, jump if equal or not below, return.
_LOAD, _JUMP_EQUAL, _JUMP_NOT_BELOW, _RETURN = 0x20, 0x15, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | EPERM


def filter_program(machine: str) -> bytes:
    """An array of struct sock_filter for this machine (as uname calls it); empty for one without a table here."""
    if machine not in REFUSED:
        return b""
    numbers = sorted(REFUSED[machine].values())
    tests = [(_JUMP_NOT_BELOW, X32_BIT), *((_JUMP_EQUAL, number) for number in numbers)]
    program = [
        (_LOAD, 0, 0, _OFFSET_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        # Whoever fits jumps over the tests that follow and over the leave to go on.
        *((code, len(tests) - place, 0, value) for place, (code, value) in enumerate(tests)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
