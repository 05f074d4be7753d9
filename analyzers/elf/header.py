"""The file header and the program headers, their numbers kept as they stand.

Nothing is judged here: the kernel's and the loaders' own checks (K12, G30, M14) are repeated elsewhere on these numbers.
A file whose EI_CLASS or EI_DATA is neither value is read as its e_machine usually is, since x86-64 and arm64 kernels
ignore both (K13). Mirrors elf(5).
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.elf.layouts import IDENT_BYTES, Layouts, layouts
from analyzers.elf.memory import FileBytes
from analyzers.facts import Segment

MAGIC = b"\x7fELF"
NARROW_MACHINES = frozenset({2, 3, 4, 6, 8, 15, 20, 40, 42, 92, 93, 94, 195, 252})
"""Machines whose programs are usually ELFCLASS32: sparc, 386, m68k, 486, mips, hppa, ppc, arm, sh, or1k, arc, csky."""
SEGMENT_LIMIT = 65_535


class Header(NamedTuple):
    """e_ident and the rest of Elf_Ehdr; zeros where the file is too short."""

    ident: bytes
    bits: int
    little: bool
    type: int = 0
    machine: int = 0
    version: int = 0
    entry: int = 0
    phoff: int = 0
    flags: int = 0
    ehsize: int = 0
    phentsize: int = 0
    phnum: int = 0
    shoff: int = 0
    shentsize: int = 0
    shnum: int = 0


def header_bytes(bits: int) -> int:
    return 52 if bits == 32 else 64


def read_header(file: FileBytes, defects: set[str]) -> tuple[Header, Layouts]:
    ident = file.read(0, IDENT_BYTES)
    bits = {1: 32, 2: 64}.get(ident[4] if len(ident) > 4 else 0, 0)
    little = len(ident) < 6 or ident[5] != 2
    if not bits:
        defects.add("bad-class")
    if len(ident) > 5 and ident[5] not in (1, 2):
        defects.add("bad-encoding")
    machine = int.from_bytes(file.read(18, 2), "little" if little else "big")
    layout = layouts(bits or (32 if machine in NARROW_MACHINES else 64), little)
    rest = file.read(IDENT_BYTES, layout.header.format.size)
    if len(rest) < layout.header.format.size:
        defects.add("truncated-header")
        return Header(ident, bits, little), layout
    return Header(ident, bits, little, *layout.header.pick(layout.header.format.unpack(rest))), layout


def read_segments(file: FileBytes, header: Header, layout: Layouts, defects: set[str]) -> tuple[Segment, ...]:
    """The program headers that exist; a table entry smaller than a record cannot be read by anybody."""
    record, step = layout.segment, header.phentsize
    if step < record.format.size:
        if header.phnum:
            defects.add("bad-phentsize")
        return ()
    if step != record.format.size:
        defects.add("bad-phentsize")
    count = min(header.phnum, SEGMENT_LIMIT)
    data = file.read(header.phoff, count * step)
    if len(data) < count * step:
        defects.add("truncated-program-headers")
    whole = len(data) // step
    if step == record.format.size:
        rows = record.format.iter_unpack(data[: whole * step])
    else:
        rows = (record.format.unpack_from(data, index * step) for index in range(whole))
    pick = record.pick
    return tuple([Segment(*pick(row)) for row in rows])
