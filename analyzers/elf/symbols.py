"""The dynamic symbols: how many there are, which are reachable, and what they want or offer.

The number of symbols is written nowhere in a dynamic section; as for the loader it follows from the hash tables, and for
objects that export nothing from the relocations and from where the next table begins. A symbol counts as an export when a
lookup could find it (G47): GNU hash first, else the System V one. Tables are read by column; a symbol costs about 1 us.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import msgspec

from analyzers.elf.bindings import FINDABLE, Table, collect_bindings
from analyzers.elf.dynamic import (
    DT_AARCH64_VARIANT_PCS,
    DT_GNU_HASH,
    DT_HASH,
    DT_MIPS_GOTSYM,
    DT_MIPS_SYMTABNO,
    DT_SYMENT,
    DT_SYMTAB,
    DT_VERSYM,
    NAME_BYTES,
    TABLES,
    Dynamic,
)
from analyzers.elf.hashes import Lookup, drop_stale, read_gnu_hash, read_sysv_hash
from analyzers.elf.layouts import Layouts, numbers
from analyzers.elf.memory import Memory
from analyzers.elf.relocations import CALL, COPY, EM_MIPS, START, Relocations
from analyzers.facts import SymbolFacts, SymbolFlag, VersionDefinition, VersionNeed
from analyzers.limits import Limits

WEAK, TLS = int(SymbolFlag.WEAK), int(SymbolFlag.TLS)
HIDDEN_VERSION, IFUNC, LOW_INDEX = int(SymbolFlag.HIDDEN_VERSION), int(SymbolFlag.IFUNC), int(SymbolFlag.LOW_INDEX)
VALUELESS = int(SymbolFlag.VALUELESS)
EM_AARCH64 = 183
STB_WEAK, STT_TLS, STT_GNU_IFUNC, SHN_ABS = 2, 6, 10, 0xFFF1
STO_AARCH64_VARIANT_PCS = 0x80
STO_MIPS_PLT = 8
HIDDEN_VISIBILITY = bytes(int(other & 3 in (1, 2)) for other in range(256))
NAMES_BYTES = 64 << 20
"""All symbol names of one object together; a longer sum is one string referred to over and over (hostile 86)."""
SYMBOL_NAME_BYTES = 64 << 10

# By st_info: what a symbol's binding and type make of it. Bindings GLOBAL, WEAK and GNU_UNIQUE take part in lookups; types
# NOTYPE, OBJECT, FUNC, COMMON, TLS and GNU_IFUNC can be found (G47).
GLOBAL_BINDING = bytes(int(info >> 4 in (1, 2, 10)) for info in range(256))
FINDABLE_TYPE = bytes(int(info & 15 in (0, 1, 2, 5, 6, 10)) for info in range(256))
KIND_FLAGS = bytes(
    (WEAK if info >> 4 == STB_WEAK else 0) | (TLS if info & 15 == STT_TLS else 0) | (IFUNC if info & 15 == STT_GNU_IFUNC else 0)
    for info in range(256)
)


class Columns(NamedTuple):
    """The symbol table by column."""

    names: array[int]
    infos: bytes
    others: bytes
    sections: array[int]
    values: array[int]

    @property
    def size(self) -> int:
        return len(self.names)


def symbol_room(memory: Memory, dynamic: Dynamic, layout: Layouts, limits: Limits) -> int:
    """How many symbols can lie between DT_SYMTAB and the end of its segment's file part."""
    address = dynamic.last.get(DT_SYMTAB)
    return 0 if address is None else min(memory.room(address) // layout.symbol.format.size, limits.symbols)


def read_columns(memory: Memory, address: int, count: int, layout: Layouts) -> Columns:
    size = layout.symbol.format.size
    data = memory.read(address, count * size)
    data = data[: len(data) - len(data) % size]
    at = layout.symbol.offsets
    return Columns(
        names=numbers("I", data, layout.little)[at["st_name"] // 4 :: size // 4],
        infos=data[at["st_info"] :: size],
        others=data[at["st_other"] :: size],
        sections=numbers("H", data, layout.little)[at["st_shndx"] // 2 :: size // 2],
        values=numbers(layout.word, data, layout.little)[at["st_value"] // layout.word_bytes :: size // layout.word_bytes],
    )


def count_symbols(dynamic: Dynamic, layout: Layouts, room: int, lookup: Lookup | None, flags: bytearray) -> int:
    """The least number that every table agrees with; at most `room`."""
    used = max(len(flags.rstrip(b"\0")), dynamic.last.get(DT_MIPS_SYMTABNO, 0), lookup.size if lookup else 0)
    if lookup is None or not lookup.exact:
        start = dynamic.last[DT_SYMTAB]
        following = min((dynamic.last[tag] for tag in TABLES if dynamic.last.get(tag, 0) > start), default=0)
        used = max(used, (following - start) // layout.symbol.format.size)
    return min(used, room)


def read_symbols(
    memory: Memory,
    dynamic: Dynamic,
    layout: Layouts,
    machine: int,
    relocations: Relocations,
    needs: tuple[VersionNeed, ...],
    definitions: tuple[VersionDefinition, ...],
    limits: Limits,
    defects: set[str],
) -> SymbolFacts | None:
    """None without a symbol table."""
    address = dynamic.last.get(DT_SYMTAB)
    flags = relocations.flags
    room = len(flags)
    if address is None or not room:
        return None
    if dynamic.last.get(DT_SYMENT, layout.symbol.format.size) != layout.symbol.format.size:
        defects.add("bad-dynamic:DT_SYMENT")
    lookup = None
    if DT_GNU_HASH in dynamic.last:  # where both tables are present glibc and musl use this one alone
        lookup = read_gnu_hash(memory, dynamic, layout, room, defects)
    elif DT_HASH in dynamic.last:
        lookup = read_sysv_hash(memory, dynamic, layout, machine, room, defects)
    count = count_symbols(dynamic, layout, room, lookup, flags)
    columns = read_columns(memory, address, count, layout)
    if machine == EM_MIPS:
        mark_global_got(dynamic, columns, flags)
    if machine == EM_AARCH64 and DT_AARCH64_VARIANT_PCS in dynamic.last:
        for index, other in enumerate(columns.others):
            if other & STO_AARCH64_VARIANT_PCS and flags[index] & CALL:
                flags[index] |= START
    versym = numbers("H", memory.read(dynamic.last[DT_VERSYM], 2 * count) if DT_VERSYM in dynamic.last else b"", layout.little)
    if DT_VERSYM in dynamic.last and len(versym) < columns.size:
        defects.add("bad-dynamic:DT_VERSYM")
    reach = bytearray(columns.size)
    if lookup is not None:
        drop_stale(lookup, lambda index: dynamic.strings.get(columns.names[index]) if index < columns.size else None)
        reach[: len(lookup.reach)] = lookup.reach[: columns.size]
    versym = versym[: columns.size] + array("H", bytes(2 * max(columns.size - len(versym), 0)))
    facts, import_at = collect(dynamic, columns, versym, flags, reach, version_names(needs, definitions), limits, defects)
    table = Table(columns.infos, columns.sections, columns.values, versym, reach, import_at)

    def name_of(index: int) -> bytes | None:
        return dynamic.strings.get(columns.names[index], SYMBOL_NAME_BYTES)

    def offered() -> frozenset[bytes]:
        names = zip(facts.export_names.split(b"\0"), facts.export_flags, strict=False)
        return frozenset(name for name, bits in names if not bits & (HIDDEN_VERSION | IFUNC | VALUELESS))

    bindings = collect_bindings(relocations.plt_runs, relocations.runs, table, layout, machine, name_of, offered, defects)
    return msgspec.structs.replace(
        facts,
        plt_names=b"\0".join(filter(None, map(name_of, plt_symbols(columns, reach, machine)))),
        hidden_names=b"\0".join(filter(None, map(name_of, hidden_symbols(columns, versym, reach)))),
        own_names=bindings.own_names,
        relocation_kinds=bindings.kinds,
        relocation_symbols=bindings.symbols,
        relocation_kind_indexes=bindings.kind_indexes,
        relocation_counts=bindings.counts,
        relocation_plt_runs=bindings.plt_runs,
    )


def plt_symbols(columns: Columns, reach: bytearray, machine: int) -> list[int]:
    """Undefined functions with an address, which a program linked to a fixed place gives its PLT entries (G47, M23)."""
    undefined = [index for index, section in enumerate(columns.sections) if not section]
    found = [index for index in undefined if reach[index] and columns.values[index]]
    if machine == EM_MIPS:
        found = [index for index in found if columns.others[index] & STO_MIPS_PLT]
    return [index for index in found if FINDABLE[columns.infos[index]] and columns.infos[index] & 15 != STT_TLS]


def hidden_symbols(columns: Columns, versym: array[int], reach: bytearray) -> list[int]:
    """What only a loader finds that looks at no visibility; linkers leave no such symbols in the table."""
    if not columns.others.translate(HIDDEN_VISIBILITY).strip(b"\0"):
        return []
    return [
        index
        for index, other in enumerate(columns.others)
        if HIDDEN_VISIBILITY[other]
        and reach[index]
        and columns.sections[index]
        and FINDABLE[columns.infos[index]]
        and (columns.values[index] or columns.infos[index] & 15 == STT_TLS)
        and not versym[index] & 0x8000
    ]


def version_names(needs: tuple[VersionNeed, ...], definitions: tuple[VersionDefinition, ...]) -> dict[int, bytes]:
    """Version names by index; definitions come last, as in dl-version.c, and the base definition names nothing (G48)."""
    names = {need.index & 0x7FFF: need.version for need in needs}
    names.update({definition.index & 0x7FFF: definition.version for definition in definitions if not definition.base})
    return names


def mark_global_got(dynamic: Dynamic, columns: Columns, flags: bytearray) -> None:
    """MIPS binds the symbols from DT_MIPS_GOTSYM on through the GOT; functions with a stub (a value) wait for their call."""
    first, end = dynamic.last.get(DT_MIPS_GOTSYM), dynamic.last.get(DT_MIPS_SYMTABNO, 0)
    if first is None:
        return
    for index in range(first, min(end, columns.size, len(flags))):
        if columns.sections[index] == 0:
            flags[index] |= CALL if columns.values[index] and columns.infos[index] & 15 == 2 else START


def collect(
    dynamic: Dynamic,
    columns: Columns,
    versym: array[int],
    flags: bytearray,
    reach: bytearray,
    version_by_index: dict[int, bytes],
    limits: Limits,
    defects: set[str],
) -> tuple[SymbolFacts, dict[int, int]]:
    """The facts without their relocations, and the imports' positions by symbol index."""
    versions = (b"", *dict.fromkeys(name for name in version_by_index.values() if name))
    position = {name: at for at, name in enumerate(versions)}
    versioned = bool(version_by_index) or any(versym)
    of_version = {}
    for version in set(versym):
        index = version & 0x7FFF
        bits = (HIDDEN_VERSION if version & 0x8000 else 0) | (LOW_INDEX if index < 3 and versioned else 0)
        of_version[version] = position.get(version_by_index.get(index, b""), 0), bits
    strings = dynamic.strings
    data, find, size = strings.data, strings.data.find, len(strings.data)
    import_names: list[bytes] = []
    import_versions: list[int] = []
    import_flags = bytearray()
    export_names: list[bytes] = []
    export_versions: list[int] = []
    export_flags = bytearray()
    import_at: dict[int, int] = {}
    spent = 0
    table = (columns.names, columns.infos, columns.others, columns.sections, columns.values)
    rows = zip(range(columns.size), *table, versym, flags, reach, strict=False)
    for symbol, offset, info, other, section, value, version, bound, found in rows:
        if not GLOBAL_BINDING[info] or other & 3 in (1, 2) or not offset:
            continue  # STB_LOCAL, hidden and internal symbols need no lookup and are not found (G47, G53)
        if section:
            offered = found and FINDABLE_TYPE[info] and (value or section == SHN_ABS or info & 15 == STT_TLS)
            wanted = bound & COPY
            if not offered and not wanted:
                continue
        else:
            offered, wanted = 0, 1
        end = find(b"\0", offset, offset + NAME_BYTES) if offset < size else -1
        if end >= 0:
            name = data[offset:end]
        else:
            longer = strings.get(offset, SYMBOL_NAME_BYTES)
            spent += SYMBOL_NAME_BYTES
            if longer is None:
                defects.add("bad-symbol-name")
                if spent > 4 * NAMES_BYTES:
                    defects.add("symbol-limit")
                    break
                continue
            name = longer
        spent += len(name)
        if spent > NAMES_BYTES + 4 * size:
            defects.add("symbol-limit")
            break
        version_at, version_bits = of_version[version]
        if wanted:
            import_at[symbol] = len(import_names)
            import_names.append(name)
            import_versions.append(version_at)
            import_flags.append(bound | (KIND_FLAGS[info] & 3))
        if offered:
            export_names.append(name)
            export_versions.append(version_at)
            export_flags.append(KIND_FLAGS[info] | version_bits | (0 if value or info & 15 == STT_TLS else VALUELESS))
    facts = SymbolFacts(
        versions=versions,
        import_names=b"\0".join(import_names),
        import_versions=little_endian(import_versions),
        import_flags=bytes(import_flags),
        export_names=b"\0".join(export_names),
        export_versions=little_endian(export_versions),
        export_flags=bytes(export_flags),
    )
    return facts, import_at


def little_endian(indexes: list[int]) -> bytes:
    return numbers("H", array("H", indexes).tobytes(), True).tobytes() if indexes else b""
