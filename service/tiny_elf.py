"""The smallest ELF programs that say a line and stop, put together byte by byte: no compiler is needed.

Static, or dynamic with an interpreter and a list of needed libraries; for x86-64 and arm64. They are real programs: kernel
and loaders accept them. Layout by the ELF gABI: two PT_LOAD segments, the second holds the dynamic section, which
glibc's loader writes to.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_PAGE = 0x1000
_WRITABLE = 0x10000
"""Address of the second segment: one 64 KiB page above the first, so that hosts with such pages map it too."""
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_PHDR, _PT_GNU_STACK = 1, 2, 3, 6, 0x6474E551
_DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_RUNPATH = 1, 4, 5, 6, 10, 11, 29
_STATIC_BASE = 0x400000


class Machine(NamedTuple):
    """What differs between architectures, by their OCI name."""

    e_machine: int
    glibc_loader: str
    musl_loader: str
    triplet: str


MACHINES = {
    "amd64": Machine(62, "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", "x86_64-linux-gnu"),
    "arm64": Machine(183, "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1", "aarch64-linux-gnu"),
}


def _amd64(text: bytes) -> bytes:
    """write(1, text), exit_group(0); the text follows the code."""
    head = b"\xb8\x01\0\0\0\xbf\x01\0\0\0"
    tail = b"\xba" + struct.pack("<I", len(text)) + b"\x0f\x05\xb8\xe7\0\0\0\x31\xff\x0f\x05"
    return head + b"\x48\x8d\x35" + struct.pack("<I", len(tail)) + tail + text


def _arm64(text: bytes) -> bytes:
    distance = 7 * 4
    address_of_text = 0x10000001 | (distance & 3) << 29 | (distance >> 2) << 5
    words = (
        0xD2800020, address_of_text, 0xD2800002 | len(text) << 5, 0xD2800808, 0xD4000001, 0xD2800000, 0xD2800BC8, 0xD4000001,
    )  # fmt: skip
    return struct.pack("<8I", *words) + text


_CODE = {"amd64": _amd64, "arm64": _arm64}


def _header(kind: int, machine: int, entry: int, segments: Sequence[tuple[int, ...]]) -> bytes:
    """ELF header and program headers; a segment is (type, flags, offset, address, size, align)."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    for type_, flags, offset, address, size, align in segments:
        header += struct.pack("<IIQQQQQQ", type_, flags, offset, address, address, size, size, align)
    return header


def static_program(text: str, architecture: str = "amd64") -> bytes:
    """A static program that prints `text` and a newline."""
    code = _CODE[architecture](text.encode() + b"\n")
    start = 64 + 2 * 56
    size = start + len(code)
    segments = ((_PT_LOAD, 5, 0, _STATIC_BASE, size, _WRITABLE), (_PT_GNU_STACK, 6, 0, 0, 0, 16))
    return _header(_ET_EXEC, MACHINES[architecture].e_machine, _STATIC_BASE + start, segments) + code


def dynamic_program(
    text: str, interpreter: str, needed: Sequence[str], *, runpath: str = "", architecture: str = "amd64"
) -> bytes:
    """A position-independent program that asks `interpreter` to load `needed`, then prints `text`."""
    start = 64 + 6 * 56
    interp = interpreter.encode() + b"\0"
    strings, offsets = b"\0", []
    for name in (*needed, *([runpath] if runpath else [])):
        offsets.append(len(strings))
        strings += name.encode() + b"\0"
    strings_at = start + len(interp)
    symbols_at = (strings_at + len(strings) + 7) & ~7
    hash_at = symbols_at + 24
    code_at = hash_at + 16
    code = _CODE[architecture](text.encode() + b"\n")
    first = bytearray(start) + interp + strings
    first += bytes(symbols_at - len(first)) + bytes(24) + struct.pack("<4I", 1, 1, 0, 0) + code
    tags = [(_DT_NEEDED, offset) for offset in offsets[: len(needed)]]
    tags += [(_DT_RUNPATH, offset) for offset in offsets[len(needed) :]]
    tags += [(_DT_HASH, hash_at), (_DT_STRTAB, strings_at), (_DT_SYMTAB, symbols_at), (_DT_STRSZ, len(strings)), (_DT_SYMENT, 24)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in [*tags, (0, 0)])
    dynamic_at = (len(first) + _PAGE - 1) & ~(_PAGE - 1)
    address = _WRITABLE + dynamic_at
    segments = (
        (_PT_PHDR, 4, 64, 64, 6 * 56, 8),
        (_PT_INTERP, 4, start, start, len(interp), 1),
        (_PT_LOAD, 5, 0, 0, len(first), _WRITABLE),
        (_PT_LOAD, 6, dynamic_at, address, len(dynamic), _WRITABLE),
        (_PT_DYNAMIC, 6, dynamic_at, address, len(dynamic), 8),
        (_PT_GNU_STACK, 6, 0, 0, 0, 16),
    )
    first[:start] = _header(_ET_DYN, MACHINES[architecture].e_machine, code_at, segments)
    return bytes(first) + bytes(dynamic_at - len(first)) + dynamic
