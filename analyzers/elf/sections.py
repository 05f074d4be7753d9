"""What `strip` would take away: the symbol table and the debug information, by the section headers.

Nobody needs section headers to start a program, so they may lie; they are a hint about size and nothing else. Whatever they
say is cut to the file, and no byte counts twice. Names of sections are not looked at: where they lie is known only after
they have passed by in the stream. Symbol tables have a type of their own; debug information is what no segment loads and
comes in several sections at least (`.debug_info`, `.debug_abbrev` and `.debug_line` always go together).
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.elf.header import Header
from analyzers.elf.layouts import Layouts
from analyzers.elf.memory import FileBytes
from analyzers.elf.ranges import join_ranges, range_bytes

SECTION_LIMIT = 4_096
"""Of more sections nothing is said; a program has some forty."""
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB = 1, 2, 3
SHF_ALLOC, SHF_MERGE = 0x2, 0x10
ET_EXEC, ET_DYN = 2, 3
FEWEST_DEBUG_SECTIONS = 3
"""Fewer are somebody's payload or a remark such as `.comment`."""


class Strippable(NamedTuple):
    """Bytes of the file that are not needed to run it."""

    debug_bytes: int = 0
    symbol_bytes: int = 0
    """Of the symbol table and its names; the dynamic one is not meant."""


def section_range(header: Header, layout: Layouts) -> tuple[int, int]:
    """Where the section headers lie; empty where there are none, too many, or of another size than records have."""
    if not 0 < header.shnum <= SECTION_LIMIT or header.shentsize != layout.section.format.size:
        return 0, 0
    return header.shoff, header.shoff + header.shnum * header.shentsize


def read_strippable(file: FileBytes, header: Header, layout: Layouts) -> Strippable:
    """Of a program or a library; nothing where the headers were not kept. Objects of a linker need their symbols."""
    start, end = section_range(header, layout)
    table = file.peek(start, end - start)
    if header.type not in (ET_EXEC, ET_DYN) or not end or len(table) < end - start:
        return Strippable()
    sections = [layout.section.pick(row) for row in layout.section.format.iter_unpack(table)]
    symbols, debug, payloads = [], [], 0
    for kind, flags, offset, size, link in sections:
        place = (min(offset, file.size), min(offset + size, file.size))
        if flags & SHF_ALLOC:
            continue
        if kind == SHT_SYMTAB:
            symbols.append(place)
            if link < len(sections) and sections[link][0] == SHT_STRTAB and not sections[link][1] & SHF_ALLOC:
                _, _, names, length, _ = sections[link]
                symbols.append((min(names, file.size), min(names + length, file.size)))
        elif kind == SHT_PROGBITS:
            debug.append(place)
            payloads += not flags & SHF_MERGE
    if payloads < FEWEST_DEBUG_SECTIONS:
        debug = []
    all_bytes = range_bytes(join_ranges([*debug, *symbols]))
    symbol_bytes = range_bytes(join_ranges(symbols))
    return Strippable(all_bytes - symbol_bytes, symbol_bytes)
