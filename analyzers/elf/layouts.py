"""How the records of an ELF file lie in its bytes, taken from pyelftools' structures (decisions 11).

pyelftools owns the knowledge which field has which width in which class; we turn its structures into `struct` formats
once, so that whole tables are unpacked at a stroke. `ELFFile` is never made: it follows section headers and raises.
"""

from __future__ import annotations

import functools
import struct
import sys
from array import array
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from elftools.elf.structs import ELFStructs

IDENT_BYTES = 16
SEGMENT_FIELDS = ("p_type", "p_flags", "p_offset", "p_vaddr", "p_filesz", "p_memsz", "p_align")
HEADER_FIELDS = (
    "e_type", "e_machine", "e_version", "e_entry", "e_phoff", "e_flags", "e_ehsize", "e_phentsize", "e_phnum", "e_shoff",
    "e_shentsize", "e_shnum",
)  # fmt: skip
SECTION_FIELDS = ("sh_type", "sh_flags", "sh_offset", "sh_size", "sh_link")
SYMBOL_FIELDS = ("st_name", "st_info", "st_other", "st_shndx", "st_value")


class Record(NamedTuple):
    """One pyelftools structure as a `struct` format; `pick` selects the fields we keep, in our order."""

    format: struct.Struct
    names: tuple[str, ...]
    offsets: dict[str, int]
    pick: Any


class Layouts(NamedTuple):
    """The records of one class and byte order, and the array code of its word."""

    bits: int
    little: bool
    header: Record
    """What follows e_ident."""
    segment: Record
    section: Record
    symbol: Record
    dynamic: Record
    word: str
    word_bytes: int


def record(fields: Sequence[Any], wanted: tuple[str, ...], order: str) -> Record:
    codes, names, offsets = "", [], {}
    for field in fields:
        inner = field
        while hasattr(inner, "subcon"):
            inner = inner.subcon
        if hasattr(inner, "nested") or hasattr(inner, "subcons"):  # st_info and st_other are bit structures of one byte
            code = "B"
        elif hasattr(inner, "packer"):
            code = inner.packer.format[-1]
        else:  # a computed value occupies no bytes
            continue
        offsets[field.name] = struct.calcsize(order + codes)
        codes += code
        names.append(field.name)
    return Record(struct.Struct(order + codes), tuple(names), offsets, itemgetter(*[names.index(name) for name in wanted]))


@functools.cache
def layouts(bits: int, little: bool) -> Layouts:
    """The layouts for ELFCLASS32 or ELFCLASS64 in the given byte order."""
    structs = ELFStructs(little_endian=little, elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    order = "<" if little else ">"
    return Layouts(
        bits=bits,
        little=little,
        header=record(structs.Elf_Ehdr.subcons[1:], HEADER_FIELDS, order),
        segment=record(structs.Elf_Phdr.subcons, SEGMENT_FIELDS, order),
        section=record(structs.Elf_Shdr.subcons, SECTION_FIELDS, order),
        symbol=record(structs.Elf_Sym.subcons, SYMBOL_FIELDS, order),
        dynamic=record(structs.Elf_Dyn.subcons, ("d_tag", "d_val"), order),
        word="Q" if bits == 64 else "I",
        word_bytes=bits // 8,
    )


def numbers(code: str, data: bytes | memoryview, little: bool) -> array[int]:
    """A table of unsigned numbers (`H`, `I` or `Q`) in the file's byte order; a partial last one is dropped."""
    table: array[int] = array(code)
    table.frombytes(data[: len(data) - len(data) % table.itemsize])
    if little != (sys.byteorder == "little"):
        table.byteswap()
    return table
