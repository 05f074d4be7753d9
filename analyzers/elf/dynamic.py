"""The dynamic section and what its tags point to: names, run paths, version tables.

Addresses are followed through PT_LOAD, as loaders do; p_offset of PT_DYNAMIC is not believed (hostile 82). As in glibc's
elf_get_dynamic_info the last tag of a kind wins; DT_NEEDED and its like are lists. Mirrors elf/get-dynamic-info.h,
elf/dl-version.c and gABI chapter 5.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from analyzers.elf.layouts import Layouts, numbers
from analyzers.elf.memory import Memory
from analyzers.facts import Segment, VersionDefinition, VersionNeed
from analyzers.limits import Limits

PT_DYNAMIC = 2
DT_NEEDED, DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_RELAENT = 1, 2, 4, 5, 6, 7, 8, 9
DT_STRSZ, DT_SYMENT, DT_SONAME, DT_RPATH, DT_SYMBOLIC, DT_REL, DT_RELSZ, DT_RELENT, DT_PLTREL = 10, 11, 14, 15, 16, 17, 18, 19, 20
DT_TEXTREL, DT_JMPREL, DT_BIND_NOW, DT_RUNPATH, DT_FLAGS = 22, 23, 24, 29, 30
DT_RELRSZ, DT_RELR, DT_RELRENT = 35, 36, 37
DT_GNU_HASH, DT_DEPAUDIT, DT_AUDIT, DT_VERSYM = 0x6FFFFEF5, 0x6FFFFEFB, 0x6FFFFEFC, 0x6FFFFFF0
DT_FLAGS_1, DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFB, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
DT_MIPS_LOCAL_GOTNO, DT_MIPS_SYMTABNO, DT_MIPS_GOTSYM = 0x7000000A, 0x70000011, 0x70000013
DT_AARCH64_VARIANT_PCS = 0x70000005
DT_AUXILIARY, DT_FILTER = 0x7FFFFFFD, 0x7FFFFFFF

TABLES = {
    DT_HASH: "DT_HASH", DT_STRTAB: "DT_STRTAB", DT_SYMTAB: "DT_SYMTAB", DT_RELA: "DT_RELA", DT_REL: "DT_REL",
    DT_JMPREL: "DT_JMPREL", DT_RELR: "DT_RELR", DT_GNU_HASH: "DT_GNU_HASH", DT_VERSYM: "DT_VERSYM",
    DT_VERDEF: "DT_VERDEF", DT_VERNEED: "DT_VERNEED",
}  # fmt: skip
"""Tags whose value is the address of a table."""
TABLE_SIZES = {DT_RELA: DT_RELASZ, DT_REL: DT_RELSZ, DT_JMPREL: DT_PLTRELSZ, DT_RELR: DT_RELRSZ}
LISTS = {DT_NEEDED: "DT_NEEDED", DT_AUDIT: "DT_AUDIT", DT_DEPAUDIT: "DT_DEPAUDIT", DT_FILTER: "DT_FILTER",
         DT_AUXILIARY: "DT_AUXILIARY"}  # fmt: skip

DYNAMIC_BYTES = 8 << 20
"""Of a dynamic section without DT_NULL this much is read; 200,000 DT_NEEDED are half of it (hostile 85)."""
TAG_LIMIT = 8_192
NAME_BYTES = 4_096
RUN_PATH_BYTES = 1 << 20
NAMES_BYTES = 2 << 20
"""All names of one list together: a longer sum is one string referred to over and over (hostile 86)."""
TABLE_START_BYTES = 16 << 10
STRING_TABLE_BYTES = 64 << 20
VER_FLG_BASE, VER_FLG_WEAK = 1, 2


class Strings:
    """The dynamic string table; a string ends at its NUL, wherever DT_STRSZ says the table ends, as for the loader."""

    __slots__ = ("address", "data", "memory")

    def __init__(self, memory: Memory, address: int, size: int) -> None:
        self.memory = memory
        self.address = address
        self.data = memory.read(address, min(size, STRING_TABLE_BYTES))

    def get(self, offset: int, limit: int = NAME_BYTES) -> bytes | None:
        """The string at `offset`; None when nothing is mapped there or no NUL follows within `limit` bytes."""
        end = self.data.find(b"\0", offset, offset + limit + 1) if offset < len(self.data) else -1
        if end >= 0:
            return self.data[offset:end]
        data = self.memory.read(self.address + offset, limit + 1)
        end = data.find(b"\0")
        return data[:end] if end >= 0 else None


class Table:
    """A table of linked records whose size is written nowhere: its beginning is read at once, what lies farther singly."""

    __slots__ = ("address", "data", "memory")

    def __init__(self, memory: Memory, address: int) -> None:
        self.memory = memory
        self.address = address
        self.data = memory.peek(address, TABLE_START_BYTES)

    def get(self, position: int, size: int) -> bytes:
        if position + size <= len(self.data):
            return self.data[position : position + size]
        return self.memory.read(self.address + position, size)


class Dynamic(NamedTuple):
    """The dynamic section's tags in order, and by tag with the last one winning."""

    pairs: tuple[tuple[int, int], ...]
    last: dict[int, int]
    strings: Strings


def dynamic_segment(segments: tuple[Segment, ...]) -> Segment | None:
    """The last PT_DYNAMIC that has any size: both loaders let a later one replace an earlier one."""
    found = None
    for segment in segments:
        if segment.type == PT_DYNAMIC and segment.filesz:
            found = segment
    return found


def read_dynamic(memory: Memory, segments: tuple[Segment, ...], layout: Layouts, defects: set[str]) -> Dynamic | None:
    """None without a PT_DYNAMIC that has bytes."""
    segment = dynamic_segment(segments)
    if segment is None:
        return None
    for size in (min(segment.filesz, DYNAMIC_BYTES), DYNAMIC_BYTES):
        words = numbers(layout.word, memory.read(segment.vaddr, size), layout.little)
        tags = words[0::2]
        if 0 in tags:
            break
    else:
        defects.add("unterminated-dynamic")
    if not words:
        defects.add("bad-dynamic:PT_DYNAMIC")
        return None
    end = tags.index(0) if 0 in tags else len(words) // 2
    pairs = tuple(zip(tags[:end], words[1 : 2 * end : 2], strict=True))
    last = dict(pairs)
    address = last.get(DT_STRTAB)
    size = last.get(DT_STRSZ) or (memory.room(address) if address is not None else 0)
    for tag, name in TABLES.items():
        if tag in last and not memory.room(last[tag]) and last.get(TABLE_SIZES.get(tag, tag)):
            defects.add(f"bad-dynamic:{name}")
    if address is None:
        defects.add("bad-dynamic:DT_STRTAB")
    return Dynamic(pairs, last, Strings(memory, address or 0, size if address is not None else 0))


def read_names(dynamic: Dynamic, tag: int, limit: int, defects: set[str]) -> tuple[bytes, ...]:
    """The strings of every `tag`, in order; at most `limit`."""
    offsets = [value for key, value in dynamic.pairs if key == tag]
    if len(offsets) > limit:
        defects.add("needed-limit" if tag == DT_NEEDED else "list-limit")
    names = []
    room = NAMES_BYTES
    for offset in offsets[:limit]:
        name = dynamic.strings.get(offset)
        if name is None:
            defects.add(f"bad-dynamic:{LISTS[tag]}")
            continue
        room -= len(name)
        if room < 0:
            defects.add("needed-limit" if tag == DT_NEEDED else "list-limit")
            break
        names.append(name)
    return tuple(names)


def read_name(dynamic: Dynamic, tag: int, label: str, defects: set[str], limit: int = NAME_BYTES) -> bytes | None:
    """The string of a tag that counts once; None when it is absent or leads nowhere."""
    offset = dynamic.last.get(tag)
    if offset is None:
        return None
    name = dynamic.strings.get(offset, limit)
    if name is None:
        defects.add(f"bad-dynamic:{label}")
    return name


def read_version_needs(
    memory: Memory, dynamic: Dynamic, layout: Layouts, limits: Limits, defects: set[str]
) -> tuple[tuple[VersionNeed, ...], int]:
    """DT_VERNEED followed as dl-version.c does: by vn_next and vna_next, counts ignored; each place visited once."""
    start = dynamic.last.get(DT_VERNEED)
    if start is None:
        return (), 1
    order: Literal["little", "big"] = "little" if layout.little else "big"
    table = Table(memory, start)
    needs: list[VersionNeed] = []
    seen: set[int] = set()
    position = spent = 0
    while position not in seen:
        seen.add(position)
        record = table.get(position, 16)
        if len(record) < 16 or len(needs) >= limits.version_records or len(seen) > limits.version_records:
            defects.add("bad-dynamic:DT_VERNEED")
            break
        version = int.from_bytes(record[:2], order)
        if version != 1:
            return tuple(needs), version
        file_offset, aux, following = (int.from_bytes(record[at : at + 4], order) for at in (4, 8, 12))
        file = dynamic.strings.get(file_offset)
        place = position + aux
        while place not in seen and len(seen) <= limits.version_records:
            seen.add(place)
            entry = table.get(place, 16)
            if len(entry) < 16 or file is None:
                defects.add("bad-dynamic:DT_VERNEED")
                break
            flags, index = int.from_bytes(entry[4:6], order), int.from_bytes(entry[6:8], order)
            name_offset, step = int.from_bytes(entry[8:12], order), int.from_bytes(entry[12:16], order)
            name = dynamic.strings.get(name_offset)
            if name is None:
                defects.add("bad-dynamic:DT_VERNEED")
            else:
                spent += len(file) + len(name)
                if spent > NAMES_BYTES:
                    defects.add("version-limit")
                    return tuple(needs), 1
                needs.append(VersionNeed(file, name, bool(flags & VER_FLG_WEAK), index))
            if not step:
                break
            place += step
        if not following:
            break
        position += following
    return tuple(needs), 1


def read_version_definitions(
    memory: Memory, dynamic: Dynamic, layout: Layouts, limits: Limits, defects: set[str]
) -> tuple[tuple[VersionDefinition, ...], int]:
    """DT_VERDEF by vd_next; the first auxiliary record names the version, the others its parents."""
    start = dynamic.last.get(DT_VERDEF)
    if start is None:
        return (), 1
    order: Literal["little", "big"] = "little" if layout.little else "big"
    table = Table(memory, start)
    definitions: list[VersionDefinition] = []
    seen: set[int] = set()
    position = spent = 0
    while position not in seen:
        seen.add(position)
        record = table.get(position, 20)
        if len(record) < 20 or len(seen) > limits.version_records:
            defects.add("bad-dynamic:DT_VERDEF")
            break
        version, flags, index = (int.from_bytes(record[at : at + 2], order) for at in (0, 2, 4))
        if version != 1:
            return tuple(definitions), version
        aux, following = (int.from_bytes(record[at : at + 4], order) for at in (12, 16))
        entry = table.get(position + aux, 4)
        name = dynamic.strings.get(int.from_bytes(entry, order)) if len(entry) == 4 else None
        if name is None:
            defects.add("bad-dynamic:DT_VERDEF")
        else:
            spent += len(name)
            if spent > NAMES_BYTES:
                defects.add("version-limit")
                break
            definitions.append(VersionDefinition(name, index & 0x7FFF, bool(flags & VER_FLG_BASE)))
        if not following:
            break
        position += following
    return tuple(definitions), 1
