"""One ELF file's bytes, fed in order, become its facts; only the ranges that matter are kept (decisions 1).

Small files are kept whole. Of a big one its beginning and its latest part are kept, within the ceiling, until PT_DYNAMIC has
passed by and told where its tables lie; from then on only those. Tables that had left by then are reported in `missed`, and a
second pass with them as `known_ranges` reads them. Nothing here raises on any bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from analyzers.elf.dynamic import (
    DT_AUDIT,
    DT_AUXILIARY,
    DT_BIND_NOW,
    DT_DEPAUDIT,
    DT_FILTER,
    DT_FLAGS,
    DT_FLAGS_1,
    DT_GNU_HASH,
    DT_HASH,
    DT_NEEDED,
    DT_RELR,
    DT_RPATH,
    DT_RUNPATH,
    DT_SONAME,
    DT_STRSZ,
    DT_STRTAB,
    DT_SYMBOLIC,
    DT_TEXTREL,
    DT_VERSYM,
    DYNAMIC_BYTES,
    RUN_PATH_BYTES,
    TABLE_SIZES,
    TABLES,
    TAG_LIMIT,
    Dynamic,
    dynamic_segment,
    read_dynamic,
    read_name,
    read_names,
    read_version_definitions,
    read_version_needs,
)
from analyzers.elf.gobuild import read_go_build
from analyzers.elf.header import Header, header_bytes, read_header, read_segments
from analyzers.elf.identity import MARKS, Traits, identify
from analyzers.elf.layouts import Layouts
from analyzers.elf.marks import MarkSearch
from analyzers.elf.memory import PT_LOAD, FileBytes, Memory
from analyzers.elf.notes import (
    INTERP_BYTES,
    NOTE_BYTES,
    PT_INTERP,
    go_windows,
    note_segments,
    read_interp,
    read_notes,
    read_tls,
    stack_executable,
)
from analyzers.elf.ranges import cut, join_ranges, range_bytes
from analyzers.elf.relocations import Relocations, read_relocations, writes_text
from analyzers.elf.sections import read_strippable, section_range
from analyzers.elf.symbols import read_symbols, symbol_room
from analyzers.errors import Rejected
from analyzers.facts import ElfFacts, Segment, SymbolFacts
from analyzers.limits import Limits

WHOLE_BYTES = 4 << 20
"""Files up to this size are kept whole: every loader and libc is smaller, and their strings are wanted (G2)."""
BLOCK_BYTES = 1 << 20
HEAD_BYTES = 4_096
ET_EXEC, ET_DYN = 2, 3
UNKNOWN_TABLE_BYTES = 16 << 20
"""What is kept of a table whose size no tag tells, where no other table follows it."""
DF_SYMBOLIC, DF_TEXTREL, DF_1_PIE = 2, 4, 0x08000000
DEFAULT_LIMITS = Limits()


class ElfResult(NamedTuple):
    """What reading one ELF file gave."""

    facts: ElfFacts
    symbols: SymbolFacts | None
    missed: tuple[tuple[int, int], ...] = ()
    """Ranges (start, end) found to be needed after they had passed: a second pass takes them as `known_ranges`."""
    unread: str = ""
    """Why the facts are not whole: `elf-too-large`, `needed-limit` or `symbol-limit`; else empty."""


class ElfReader:
    """Fed one file's bytes in order; `finish` gives the facts. `size` is the file's size as its tar header tells."""

    __slots__ = (
        "due", "head", "held", "kept", "known", "layout", "limits", "marks", "plan", "position", "segments", "settled", "size",
        "whole",
    )  # fmt: skip

    def __init__(self, size: int, limits: Limits = DEFAULT_LIMITS, known_ranges: tuple[tuple[int, int], ...] = ()) -> None:
        self.size = size
        self.limits = limits
        self.known = known_ranges
        self.whole = size <= min(WHOLE_BYTES, limits.elf_kept_bytes)
        self.kept: list[tuple[int, bytes]] = []
        self.held = 0
        """Bytes kept so far."""
        self.head = 0
        """How many of `kept` are the file's beginning; those after it slide along, the oldest leaving first."""
        self.position = 0
        self.due = min(HEAD_BYTES, size)
        """The position at which something new can be learned."""
        self.plan = [(0, self.due), *known_ranges]
        """Ranges that are wanted, as far as known."""
        self.layout: Layouts | None = None
        self.segments: tuple[Segment, ...] = ()
        self.settled = False
        """Whether the plan has PT_DYNAMIC's tables too, so that nothing else need be kept."""
        self.marks: MarkSearch | None = MarkSearch()
        """None as soon as the file is known to be no static program."""

    def feed(self, chunk: bytes | memoryview) -> None:
        if self.whole:
            self.keep(self.position, bytes(chunk))
            self.position += len(chunk)
            return
        for at in range(0, len(chunk), BLOCK_BYTES):
            block = bytes(chunk[at : at + BLOCK_BYTES])
            self.feed_block(block)
            if self.marks is not None and self.layout is not None:
                self.marks.see(block)

    def leave_out(self, count: int) -> None:
        """So many bytes do not come. Only where the file is not to be known whole."""
        if self.whole:
            raise Rejected("left-out", "a small ELF file is read whole")
        self.position += count

    def feed_block(self, block: bytes) -> None:
        start = self.position
        self.position += len(block)
        if self.settled:
            for piece in cut([(start, block)], self.plan):
                if self.held + len(piece[1]) <= self.limits.elf_kept_bytes:
                    self.keep(*piece)
            return
        self.keep(start, block)
        if self.held <= self.limits.elf_kept_bytes * 3 // 4 and self.head == len(self.kept) - 1:
            self.head += 1
        while self.held > self.limits.elf_kept_bytes and self.head < len(self.kept):
            self.drop_oldest()
        if self.held > self.limits.elf_kept_bytes:  # everything is wanted: the latest has to go
            self.held -= len(self.kept.pop()[1])
            self.head = len(self.kept)
        if self.position >= self.due:
            self.learn()

    def keep(self, start: int, data: bytes) -> None:
        if data:
            self.kept.append((start, data))
            self.held += len(data)

    def drop_oldest(self) -> None:
        """Lets go of the oldest block behind the beginning, but for what is wanted of it."""
        start, data = self.kept.pop(self.head)
        left = cut([(start, data)], self.plan)
        self.kept[self.head : self.head] = left
        self.head += len(left)
        self.held -= len(data) - sum(len(piece) for _, piece in left)

    def learn(self) -> None:
        """Makes the plan as soon as the headers have passed, and settles it as soon as PT_DYNAMIC has."""
        file = FileBytes(self.size, self.kept)
        ignored: set[str] = set()
        if self.layout is None:
            header, layout = read_header(file, ignored)
            end = min(header.phoff + header.phentsize * header.phnum, self.size)
            if self.position < end:
                self.due = end
                return
            self.segments = read_segments(file, header, layout, ignored)
            self.layout = layout
            if header.entry == 0 or any(segment.type == PT_INTERP for segment in self.segments):
                self.marks = None  # a library, which nothing enters, or a program with a loader
            self.plan = join_ranges([*header_ranges(self.size, header, layout, self.segments), *self.known])
            at = dynamic_range(Memory(file, self.segments, layout.bits), self.segments)
            self.due = min(at[1], self.size) if at else 0
            if self.position < self.due:
                return
        memory = Memory(file, self.segments, self.layout.bits)
        dynamic = read_dynamic(memory, self.segments, self.layout, ignored)
        if dynamic is not None and any(tag in (DT_NEEDED, DT_SONAME) for tag, _ in dynamic.pairs):
            self.marks = None
        self.plan = join_ranges([*self.plan, *table_ranges(memory, dynamic, self.layout)])
        self.settled = True
        self.kept = cut(self.kept, self.plan)
        self.held = sum(len(data) for _, data in self.kept)

    def finish(self) -> ElfResult:
        """The facts of what was fed, however broken. A file shorter than announced is read as it is."""
        size = self.position if self.position < self.size else self.size
        pieces = [(0, b"".join([data for _, data in self.kept]))] if self.whole else self.kept
        file = FileBytes(size, pieces)
        facts, symbols = read_facts(file, self.limits)
        if self.marks is not None:
            facts = with_marks(facts, self.marks, pieces[0][1] if self.whole and pieces else b"")
        missed = self.all_missed(file) if file.missed else []
        unread = ""
        if missed and (self.known or range_bytes(missed) > self.limits.elf_kept_bytes):
            unread = "elf-too-large"
        else:
            unread = next((name for name in ("needed-limit", "symbol-limit") if name in facts.defects), "")
        return ElfResult(facts, symbols, tuple(missed), unread)

    def all_missed(self, file: FileBytes) -> list[tuple[int, int]]:
        """What was asked for and, where that fits, the rest of the plan: one more pass shall be enough."""
        asked = join_ranges(file.missed)
        for start, end in self.plan:
            file.read(start, end - start)
        planned = join_ranges(file.missed)
        return planned if range_bytes(planned) <= self.limits.elf_kept_bytes else asked


def plan_ranges(size: int, pieces: Sequence[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """What of a file larger than WHOLE_BYTES the reader keeps, as far as these pieces of it tell; sorted and disjoint."""
    file = FileBytes(size, sorted(pieces))
    ignored: set[str] = set()
    header, layout = read_header(file, ignored)
    segments = read_segments(file, header, layout, ignored)
    memory = Memory(file, segments, layout.bits)
    dynamic = read_dynamic(memory, segments, layout, ignored)
    tables = table_ranges(memory, dynamic, layout)
    return join_ranges([(0, min(HEAD_BYTES, size)), *header_ranges(size, header, layout, segments), *tables, *file.missed])


def read_elf(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ElfResult:
    """The facts of a file whose bytes are all at hand."""
    file = FileBytes(len(data), [(0, data)])
    facts, symbols = read_facts(file, limits)
    facts = with_marks(facts, MarkSearch(), data)
    unread = next((name for name in ("needed-limit", "symbol-limit") if name in facts.defects), "")
    return ElfResult(facts, symbols, (), unread)


def with_marks(facts: ElfFacts, marks: MarkSearch, unseen: bytes) -> ElfFacts:
    """The facts with the marks of a static program; `unseen` is what the search was not shown yet."""
    if facts.interp is not None or facts.needed or facts.soname is not None:
        return facts
    marks.see(unseen)
    return msgspec.structs.replace(facts, static_marks=tuple(sorted(marks.found))) if marks.found else facts


def dynamic_range(memory: Memory, segments: tuple[Segment, ...]) -> tuple[int, int] | None:
    segment = dynamic_segment(segments)
    place = memory.find(segment.vaddr) if segment else None
    if segment is None or place is None:
        return None
    return place.offset, place.offset + min(segment.filesz, DYNAMIC_BYTES, place.file_bytes)


def header_ranges(size: int, header: Header, layout: Layouts, segments: tuple[Segment, ...]) -> list[tuple[int, int]]:
    """What the headers make worth keeping: themselves, PT_DYNAMIC, PT_INTERP, notes, and Go's mark."""
    ranges = [(0, header_bytes(layout.bits)), (header.phoff, header.phoff + header.phentsize * header.phnum)]
    ranges.append(section_range(header, layout))
    at = dynamic_range(Memory(FileBytes(size, []), segments, layout.bits), segments)
    if at:
        ranges.append(at)
    interp = next((segment for segment in segments if segment.type == PT_INTERP), None)
    if interp is not None:
        end = interp.offset + interp.filesz
        ranges += [(interp.offset, min(end, interp.offset + INTERP_BYTES)), (max(end - 1, 0), end)]
    for segment in note_segments(segments, set()):
        ranges.append((segment.offset, segment.offset + min(segment.filesz, NOTE_BYTES)))
    ranges += [(offset, offset + length) for offset, length in go_windows(segments)]
    return [(max(start, 0), min(end, size)) for start, end in join_ranges(ranges)]


def table_ranges(memory: Memory, dynamic: Dynamic | None, layout: Layouts) -> list[tuple[int, int]]:
    """The file ranges of the dynamic section's tables; one of unknown size reaches to the next table."""
    if dynamic is None:
        return []
    last = dynamic.last
    starts = sorted({last[tag] for tag in TABLES if tag in last})
    ranges = []
    for tag in TABLES:
        place = memory.find(last[tag]) if tag in last else None
        if place is None or tag == DT_RELR:
            continue
        if tag in TABLE_SIZES:
            length = last.get(TABLE_SIZES[tag], 0)
        elif tag == DT_STRTAB and DT_STRSZ in last:
            length = last[DT_STRSZ]
        else:
            following = next((start for start in starts if start > last[tag]), None)
            length = following - last[tag] if following is not None else UNKNOWN_TABLE_BYTES
        ranges.append((place.offset, min(place.offset + min(length, place.file_bytes), memory.file.size)))
    return ranges


def read_facts(file: FileBytes, limits: Limits) -> tuple[ElfFacts, SymbolFacts | None]:
    """All facts that the kept bytes give; `file.missed` then tells what else would have been looked at."""
    defects: set[str] = set()
    header, layout = read_header(file, defects)
    segments = read_segments(file, header, layout, defects)
    memory = Memory(file, segments, layout.bits)
    if any(segment.type == PT_LOAD and segment.offset + segment.filesz > file.size for segment in segments):
        defects.add("truncated-segment")
    strippable = read_strippable(file, header, layout)
    interp = read_interp(file, segments, defects)
    is_go, go_build = read_go_build(file, segments)
    notes = read_notes(file, segments, header.machine, header.little, defects)
    facts = {
        "file_size": file.size, "ident": header.ident, "bits": header.bits, "little": header.little, "type": header.type,
        "machine": header.machine, "version": header.version, "entry": header.entry, "flags": header.flags,
        "ehsize": header.ehsize, "phoff": header.phoff, "phentsize": header.phentsize, "phnum": header.phnum,
        "segments": segments, "interp": interp.path, "interp_terminated": interp.terminated, "interp_size": interp.size,
        "gnu_stack_executable": stack_executable(segments), "tls": read_tls(segments), "abi_tag": notes.abi_tag,
        "build_id": notes.build_id, "x86_isa_needed": notes.x86_isa_needed, "dlopen_notes": notes.dlopen,
        "go_build_info": is_go, "go_build": go_build,
        "debug_bytes": strippable.debug_bytes, "symbol_bytes": strippable.symbol_bytes,
    }  # fmt: skip
    dynamic = read_dynamic(memory, segments, layout, defects)
    symbols = None
    if dynamic is not None:
        said, symbols = read_dynamic_facts(memory, dynamic, layout, header.machine, limits, defects)
        facts |= said | {"text_relocations": said["textrel"] and writes_text(memory, dynamic, layout, segments)}
    marks = exported_marks(symbols)
    traits = Traits(
        soname=read_name(dynamic, DT_SONAME, "DT_SONAME", defects) if dynamic else None,
        has_interp=interp.path is not None,
        needed=dynamic is not None and any(tag == DT_NEEDED for tag, _ in dynamic.pairs),
        program=header.entry != 0 and (dynamic is None or bool(dynamic.last.get(DT_FLAGS_1, 0) & DF_1_PIE)),
        abi_tag=notes.abi_tag is not None,
        exports=marks,
    )
    whole = file.whole() if file.size <= WHOLE_BYTES and header.type in (ET_EXEC, ET_DYN) else b""
    identity = identify(whole, traits)
    return (
        ElfFacts(
            **facts,  # type: ignore[arg-type]
            loader=identity.loader,
            libc_version=identity.libc_version,
            static_libc=identity.static_libc,
            exports_libc_start={b"__libc_start_main", b"stdin"} <= marks,
            defects=tuple(sorted(defects)),
        ),
        symbols,
    )


def read_dynamic_facts(
    memory: Memory, dynamic: Dynamic, layout: Layouts, machine: int, limits: Limits, defects: set[str]
) -> tuple[dict[str, object], SymbolFacts | None]:
    last = dynamic.last
    needs, verneed_version = read_version_needs(memory, dynamic, layout, limits, defects)
    definitions, verdef_version = read_version_definitions(memory, dynamic, layout, limits, defects)
    room = symbol_room(memory, dynamic, layout, limits)
    relocations: Relocations = read_relocations(memory, dynamic, layout, machine, room, defects)
    symbols = read_symbols(memory, dynamic, layout, machine, relocations, needs, definitions, limits, defects)
    said: dict[str, object] = {
        "dynamic": True,
        "soname": read_name(dynamic, DT_SONAME, "DT_SONAME", defects),
        "needed": read_names(dynamic, DT_NEEDED, limits.needed, defects),
        "rpath": read_name(dynamic, DT_RPATH, "DT_RPATH", defects, RUN_PATH_BYTES),
        "runpath": read_name(dynamic, DT_RUNPATH, "DT_RUNPATH", defects, RUN_PATH_BYTES),
        "dt_flags": last.get(DT_FLAGS, 0),
        "dt_flags_1": last.get(DT_FLAGS_1, 0),
        "bind_now": DT_BIND_NOW in last,
        "symbolic": DT_SYMBOLIC in last or bool(last.get(DT_FLAGS, 0) & DF_SYMBOLIC),
        "textrel": DT_TEXTREL in last or bool(last.get(DT_FLAGS, 0) & DF_TEXTREL),
        "filters": read_names(dynamic, DT_FILTER, limits.needed, defects),
        "auxiliaries": read_names(dynamic, DT_AUXILIARY, limits.needed, defects),
        "audits": read_names(dynamic, DT_AUDIT, limits.needed, defects),
        "dep_audits": read_names(dynamic, DT_DEPAUDIT, limits.needed, defects),
        "verneed": needs,
        "verdef": definitions,
        "verneed_version": verneed_version,
        "verdef_version": verdef_version,
        "has_versym": DT_VERSYM in last,
        "has_gnu_hash": DT_GNU_HASH in last,
        "has_sysv_hash": DT_HASH in last,
        "has_relr": DT_RELR in last,
        "relocation_types": relocations.types,
        "plt_relocation_types": relocations.plt_types,
        "tags": dynamic.pairs[:TAG_LIMIT],
    }
    return said, symbols


def exported_marks(symbols: SymbolFacts | None) -> frozenset[bytes]:
    """Which of the names that tell loaders and libcs apart this file exports."""
    if symbols is None:
        return frozenset()
    names = b"\0" + symbols.export_names + b"\0"
    return frozenset(mark for mark in MARKS if b"\0" + mark + b"\0" in names)
