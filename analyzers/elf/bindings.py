"""The dynamic relocations in order, as runs of one symbol and one type: the order in which loaders meet what they lack.

musl tells of every relocation whose symbol nobody defines, glibc of the first; both go through the tables from their beginning.
A relocation that cannot fail to find its symbol (it names none, or the object itself offers it) is kept by its type alone, so
that runs are few. The order here is musl's (`ldso/dynlink.c` reloc_all): the global GOT on MIPS, DT_JMPREL, DT_REL, DT_RELA.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import groupby, repeat
from operator import eq
from typing import NamedTuple

from analyzers.elf.dynamic import DT_MIPS_GOTSYM, DT_MIPS_SYMTABNO, Dynamic
from analyzers.elf.layouts import Layouts, numbers

EM_MIPS = 8
R_MIPS_JUMP_SLOT = 127
STT_TLS = 6
RUN_LIMIT = 1 << 20
"""Above it the order is not kept; which symbols are wanted is known all the same."""
KIND_LIMIT = 255
FINDABLE = bytes(int(info >> 4 in (1, 2, 10) and info & 15 in (0, 1, 2, 5, 6)) for info in range(256))
"""GLOBAL, WEAK and GNU_UNIQUE; NOTYPE, OBJECT, FUNC, COMMON and TLS: what every loader finds (G47, M23)."""

Run = tuple[int, int]
"""(r_info, how many in a row)."""


class Bindings(NamedTuple):
    """Columns of SymbolFacts."""

    own_names: bytes = b""
    kinds: tuple[int, ...] = ()
    symbols: bytes = b""
    kind_indexes: bytes = b""
    counts: bytes = b""
    plt_runs: int = 0


class Table(NamedTuple):
    """What must be known of the symbols, by index."""

    infos: bytes
    sections: Sequence[int]
    values: Sequence[int]
    versym: Sequence[int]
    reach: bytearray
    import_at: dict[int, int]
    """Symbol index to position among the imports."""


def runs_of(infos: array[int]) -> list[Run]:
    """The r_info of one block, run by run."""
    alike = leading_run(infos)
    runs = [(infos[0], alike)] if alike else []
    rest = infos[alike:]
    if any(map(eq, rest, rest[1:])):
        return runs + [(info, len(list(group))) for info, group in groupby(rest)]
    return runs + list(zip(rest, repeat(1)))


def leading_run(infos: array[int]) -> int:
    """How many at the beginning are alike: linkers put the relocations that name no symbol first, and they are most."""
    raw = infos.tobytes()
    size = infos.itemsize
    low, high = min(len(infos), 1), len(infos)
    first = raw[:size] * (len(infos) // 2 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if raw[low * size : middle * size] == first[: (middle - low) * size]:
            low = middle
        else:
            high = middle - 1
    return low


def global_got(dynamic: Dynamic, layout: Layouts) -> list[Run]:
    """MIPS: the symbols that the GOT itself binds, as the JUMP_SLOT relocations that musl makes of them."""
    first, end = dynamic.last.get(DT_MIPS_GOTSYM), dynamic.last.get(DT_MIPS_SYMTABNO, 0)
    if first is None:
        return []
    return [(join_info(index, R_MIPS_JUMP_SLOT, layout), 1) for index in range(first, min(end, first + RUN_LIMIT))]


def join_info(symbol: int, kind: int, layout: Layouts) -> int:
    """The r_info that `split_info` takes apart, for MIPS."""
    if layout.bits == 32:
        return symbol << 8 | kind
    return symbol | int.from_bytes(kind.to_bytes(4, "big"), "little") << 32 if layout.little else symbol << 32 | kind


def split_info(info: int, layout: Layouts, machine: int) -> tuple[int, int]:
    """(symbol, type) as musl's R_SYM and R_TYPE; on 64-bit MIPS the type is all three types."""
    if layout.bits == 32:
        return info >> 8, info & 0xFF
    if machine == EM_MIPS and layout.little:
        return info & 0xFFFFFFFF, int.from_bytes((info >> 32).to_bytes(4, "little"), "big") & 0x7FFFFFFF
    return info >> 32, info & 0x7FFFFFFF


def collect_bindings(
    plt: Sequence[Run],
    rest: Sequence[Run],
    table: Table,
    layout: Layouts,
    machine: int,
    name_of: Callable[[int], bytes | None],
    offered: Callable[[], frozenset[bytes]],
    defects: set[str],
) -> Bindings:
    """`plt` are the runs of DT_JMPREL; `offered` gives the names that lookups find in the object itself."""
    if len(plt) + len(rest) > RUN_LIMIT:
        defects.add("relocation-limit")
        return Bindings()
    own: dict[bytes, int] = {}
    known = {0: 0, **{symbol: at + 1 for symbol, at in table.import_at.items()}}
    kinds: dict[int, int] = {}
    symbols, indexes, counts = array("I"), bytearray(), array("I")
    plt_runs = 0
    wide = layout.bits == 64 and machine != EM_MIPS
    for part in (plt, rest):
        last = -1
        for info, count in part:
            symbol, kind = (info >> 32, info & 0x7FFFFFFF) if wide else split_info(info, layout, machine)
            at = known.get(symbol)
            if at is None:
                at = known[symbol] = place_of(symbol, table, own, name_of, offered)
            index = kinds.get(kind)
            if index is None:
                index = kinds[kind] = len(kinds)
                if index >= KIND_LIMIT:
                    defects.add("relocation-types")
                    return Bindings()
            both = at << 8 | index
            if both == last:
                counts[-1] += count
                continue
            last = both
            symbols.append(at)
            indexes.append(index)
            counts.append(count)
        if part is plt:
            plt_runs = len(counts)
    return Bindings(b"\0".join(own), tuple(kinds), words(symbols), bytes(indexes), words(counts), plt_runs)


def place_of(
    symbol: int,
    table: Table,
    own: dict[bytes, int],
    name_of: Callable[[int], bytes | None],
    offered: Callable[[], frozenset[bytes]],
) -> int:
    """Of a symbol that is not imported: 0 where the lookup cannot fail, else one more than its place behind the imports."""
    if symbol >= len(table.infos):
        return 0
    info = table.infos[symbol]
    if not info >> 4:  # STB_LOCAL: not looked up by name
        return 0
    found = table.reach[symbol] and table.sections[symbol] and (table.values[symbol] or info & 15 == STT_TLS)
    if found and FINDABLE[info] and not table.versym[symbol] & 0x8000:
        return 0
    name = name_of(symbol)
    if name is None or name in offered():
        return 0
    return own.setdefault(name, len(table.import_at) + len(own) + 1)


def words(column: array[int]) -> bytes:
    """u32, little-endian."""
    return numbers("I", column.tobytes(), True).tobytes()
