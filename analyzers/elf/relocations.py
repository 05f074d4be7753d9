"""Which symbols the dynamic relocations refer to, and when a loader looks them up (G52).

Everything in DT_REL and DT_RELA outside the DT_JMPREL range is bound before the entry point; inside DT_JMPREL only the
architecture's JUMP_SLOT waits for the first call. RELR entries name no symbols. Tables are unpacked as arrays of words, and
only distinct r_info values are looked at: a relocation costs about 30 ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analyzers.elf.bindings import RUN_LIMIT, Run, global_got, runs_of
from analyzers.elf.dynamic import (
    DT_JMPREL,
    DT_PLTREL,
    DT_PLTRELSZ,
    DT_REL,
    DT_RELA,
    DT_RELAENT,
    DT_RELASZ,
    DT_RELENT,
    DT_RELRENT,
    DT_RELSZ,
    Dynamic,
)
from analyzers.elf.layouts import Layouts, numbers
from analyzers.elf.memory import OVERLAPPING, PT_LOAD, Memory
from analyzers.facts import Segment, SymbolFlag

START, CALL, COPY = int(SymbolFlag.START), int(SymbolFlag.CALL), int(SymbolFlag.COPY)
EM_MIPS = 8
PF_W = 2

JUMP_SLOT = {3: 7, 6: 7, 62: 7, 183: 1026, 40: 22, 20: 21, 21: 21, 22: 11, 243: 5, 258: 5, 8: 127, 2: 21, 18: 21, 43: 21,
             4: 21, 42: 164, 0x9026: 26}  # fmt: skip
"""R_*_JUMP_SLOT by e_machine."""
COPY_TYPE = {3: 5, 6: 5, 62: 5, 183: 1024, 40: 20, 20: 19, 21: 19, 22: 9, 243: 4, 258: 4, 8: 126, 2: 19, 18: 19, 43: 19,
             4: 19, 42: 162, 0x9026: 24}  # fmt: skip
WHOLE_PLT_LAZY = frozenset({20, 21})
"""powerpc skips the whole PLT range in lazy mode."""

BLOCK = 1 << 16
TYPE_LIMIT = 256
RELOCATION_BYTES = 256 << 20
TEXT_BYTES = 1 << 20
"""Relocations of text come early in their table; so much of it is looked at for them."""


class Relocations(NamedTuple):
    """`flags[i]` holds the START, CALL and COPY bits of symbol i."""

    flags: bytearray
    types: tuple[int, ...]
    plt_types: tuple[int, ...]
    plt_runs: list[Run]
    """DT_JMPREL in order; on MIPS the global GOT before it."""
    runs: list[Run]
    """DT_REL and DT_RELA in order, whole: where DT_JMPREL is the tail of one, once more (musl)."""


class Part(NamedTuple):
    """One table of relocations."""

    address: int
    size: int
    addends: bool
    plt: bool
    cut: bool = False
    """DT_JMPREL was its tail."""


def parts(dynamic: Dynamic, layout: Layouts, defects: set[str]) -> list[Part]:
    """The tables; where DT_JMPREL is the tail of DT_REL or DT_RELA it is cut off there (dynamic-link.h)."""
    last = dynamic.last
    word = layout.word_bytes
    for tag, expected, name in ((DT_RELAENT, 3, "DT_RELAENT"), (DT_RELENT, 2, "DT_RELENT"), (DT_RELRENT, 1, "DT_RELRENT")):
        if last.get(tag, expected * word) != expected * word:
            defects.add(f"bad-dynamic:{name}")
    plt_address, plt_size = last.get(DT_JMPREL, 0), last.get(DT_PLTRELSZ, 0) if DT_JMPREL in last else 0
    plt_addends = last.get(DT_PLTREL, DT_RELA) != DT_REL
    if plt_size and last.get(DT_PLTREL) not in (DT_REL, DT_RELA):
        defects.add("bad-dynamic:DT_PLTREL")
    found = []
    for tag, size_tag, addends in ((DT_REL, DT_RELSZ, False), (DT_RELA, DT_RELASZ, True)):
        if tag not in last:
            continue
        address, size = last[tag], last.get(size_tag, 0)
        cut = bool(addends == plt_addends and plt_size and address + size == plt_address + plt_size)
        if cut:
            size = max(size - plt_size, 0)
        found.append(Part(address, size, addends, plt=False, cut=cut))
    if plt_size:
        found.append(Part(plt_address, plt_size, plt_addends, plt=True))
    return found


def read_relocations(
    memory: Memory, dynamic: Dynamic, layout: Layouts, machine: int, symbol_room: int, defects: set[str]
) -> Relocations:
    """`symbol_room` is how many symbols the mapped symbol table can hold at most."""
    flags = bytearray(symbol_room)
    types: tuple[set[int], set[int]] = (set(), set())
    plt_runs: list[Run] = global_got(dynamic, layout) if machine == EM_MIPS else []
    runs: list[Run] = []
    # DT_JMPREL first: its runs are wanted again where it is the tail of another table.
    for part in sorted(parts(dynamic, layout, defects), key=lambda part: not part.plt):
        room = memory.room(part.address)
        if part.size > room:
            defects.add("bad-dynamic:DT_JMPREL" if part.plt else "bad-dynamic:DT_RELA" if part.addends else "bad-dynamic:DT_REL")
        data = memory.read(part.address, min(part.size, room, RELOCATION_BYTES))
        step = layout.word_bytes * (3 if part.addends else 2)
        view = memoryview(data)
        kinds = types[part.plt]
        for begin in range(0, len(data) - step + 1, step * BLOCK):
            words = numbers(layout.word, view[begin : begin + step * BLOCK], layout.little)
            found = runs_of(words[1 :: step // layout.word_bytes])
            mark(flags, kinds, {info for info, _ in found}, layout, machine, part.plt)
            into = plt_runs if part.plt else runs
            if len(into) <= RUN_LIMIT:
                into += found
        if part.cut:
            runs += plt_runs
    if len(types[0]) > TYPE_LIMIT or len(types[1]) > TYPE_LIMIT:
        defects.add("relocation-types")
    return Relocations(flags, tuple(sorted(types[0])[:TYPE_LIMIT]), tuple(sorted(types[1])[:TYPE_LIMIT]), plt_runs, runs)


def writes_text(memory: Memory, dynamic: Dynamic, layout: Layouts, segments: Sequence[Segment]) -> bool:
    """Whether a relocation lies in a segment without write permission; some linkers say DT_TEXTREL without need."""
    closed = [(each.vaddr, each.vaddr + each.memsz) for each in segments if each.type == PT_LOAD and not each.flags & PF_W]
    ignored: set[str] = set()
    for part in parts(dynamic, layout, ignored):
        data = memory.read(part.address, min(part.size, memory.room(part.address), TEXT_BYTES))
        places = numbers(layout.word, data, layout.little)[:: 3 if part.addends else 2]
        if any(low <= place < high for low, high in closed[:OVERLAPPING] for place in places):
            return True
    return False


def mark(flags: bytearray, kinds: set[int], infos: Iterable[int], layout: Layouts, machine: int, plt: bool) -> None:
    room = len(flags)
    copy_type, slot = COPY_TYPE.get(machine, -1), JUMP_SLOT.get(machine, -1)
    lazy_all = machine in WHOLE_PLT_LAZY or slot < 0
    for info in infos:
        if layout.bits == 32:
            symbol, kind = info >> 8, info & 0xFF
        elif machine == EM_MIPS:  # three one-byte types beside a 32-bit symbol, in byte order of the file
            symbol, kind = (info & 0xFFFFFFFF, info >> 56) if layout.little else (info >> 32, info & 0xFF)
        else:
            symbol, kind = info >> 32, info & 0xFFFFFFFF
        if len(kinds) <= TYPE_LIMIT:
            kinds.add(kind)
        if not symbol or symbol >= room:
            continue
        if plt and (lazy_all or kind == slot):
            flags[symbol] |= CALL
        else:
            flags[symbol] |= START | COPY if kind == copy_type else START
