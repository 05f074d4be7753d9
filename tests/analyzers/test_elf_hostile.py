"""ELF files that a hostile hand made: rows 78 to 97 of docs/hostile.md. None raises, none takes long, none is called clean."""

from __future__ import annotations

import functools
import os
import random
import re
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from analyzers.elf import ElfReader, ElfResult, read_elf
from analyzers.facts import ElfFacts
from tests.analyzers.elf_programs import (
    PT_DYNAMIC,
    PT_INTERP,
    PT_LOAD,
    PT_NOTE,
    SOURCE,
    TARGETS,
    Patch,
    compiled,
    exports,
    imports,
    library,
)

pytestmark = pytest.mark.toolchain
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SONAME, DT_RUNPATH = 1, 4, 5, 6, 10, 14, 29
DT_RELA, DT_RELASZ, DT_RELAENT, DT_RELR, DT_RELRSZ = 7, 8, 9, 36, 35
DT_BIND_NOW, PT_GNU_RELRO = 24, 0x6474E552
DT_GNU_HASH, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFEF5, 0x6FFFFFFE, 0x6FFFFFFF
HUGE = 1 << 62
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
PROGRAM = "int main(void) { return 0; }"


@functools.cache
def sample() -> bytes:
    return library("x86_64-linux-gnu", SOURCE, "-Wl,--hash-style=both", "-Wl,-rpath,/opt").read_bytes()


@functools.cache
def program() -> bytes:
    return compiled("x86_64-linux-gnu.2.28", PROGRAM).read_bytes()


def quick(data: bytes, seconds: float = 5.0) -> ElfResult:
    begin = time.process_time()
    result = read_elf(data)
    assert time.process_time() - begin < seconds
    return result


def names(result: ElfResult) -> set[bytes]:
    return {symbol.name for symbol in exports(result.symbols)}


def with_needed(patch: Patch, text: bytes) -> list[tuple[int, int]]:
    """The file's tags with a string table of our own."""
    return [(tag, value) for tag, value in patch.tags() if tag not in (DT_STRTAB, DT_STRSZ)] + [
        (DT_STRTAB, patch.place(text)), (DT_STRSZ, len(text)),
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [
    {40: ("Q", HUGE)}, {60: ("H", 65535)}, {58: ("H", 0)}, {62: ("H", 65535)}, {40: ("Q", 0), 60: ("H", 0), 62: ("H", 0)},
    {40: ("Q", 64), 58: ("H", 64), 60: ("H", 0)},
])  # fmt: skip
def test_h078_section_headers_may_lie_or_be_absent(fields: dict[int, tuple[str, int]]) -> None:
    patch = Patch(sample())
    for offset, (code, value) in fields.items():
        patch.header(offset, code, value)
    result = quick(patch.bytes())
    good = read_elf(sample())
    assert result.symbols == good.symbols
    # All that is ever taken from them is how much strip would spare; without them that is nothing.
    assert (result.facts.debug_bytes, result.facts.symbol_bytes) == (0, 0) or fields == {62: ("H", 65535)}
    hints = {"debug_bytes": 0, "symbol_bytes": 0}
    assert msgspec.structs.replace(result.facts, **hints) == msgspec.structs.replace(good.facts, **hints)


def test_h079_program_header_counts_are_bounded_by_the_file() -> None:
    for fields, defect in (
        ({56: ("H", 65535)}, "truncated-program-headers"), ({54: ("H", 0)}, "bad-phentsize"), ({54: ("H", 55)}, "bad-phentsize"),
        ({32: ("Q", HUGE)}, "truncated-program-headers"), ({32: ("Q", (1 << 64) - 1)}, "truncated-program-headers"),
    ):  # fmt: skip
        patch = Patch(sample())
        for offset, (code, value) in fields.items():
            patch.header(offset, code, value)
        assert defect in quick(patch.bytes()).facts.defects
    many = Patch(sample() + sample()[64:120] * 65535).header(32, "Q", len(sample())).header(56, "H", 65535)
    assert len(quick(many.bytes()).facts.segments) == 65535


def test_h080_truncation_at_every_byte_gives_facts_and_says_so() -> None:
    data = sample()
    for end in [*range(1101), *range(4096, len(data), 4096), len(data) - 1]:
        facts = read_elf(data[:end]).facts
        loads = [segment for segment in facts.segments if segment.type == PT_LOAD]
        cut = any(segment.offset + segment.filesz > end for segment in loads)
        if end < 64:
            assert "truncated-header" in facts.defects
        elif end < 64 + 56 * facts.phnum:
            assert "truncated-program-headers" in facts.defects
        assert cut == ("truncated-segment" in facts.defects)


@pytest.mark.parametrize(("tag", "label"), [(DT_STRTAB, "DT_STRTAB"), (DT_SYMTAB, "DT_SYMTAB"), (DT_SONAME, "DT_SONAME")])
@pytest.mark.parametrize("value", [-1 << 40, HUGE, 0x5000_0000])
def test_h081_addresses_outside_the_file_are_named(tag: int, label: str, value: int) -> None:
    result = quick(Patch(sample()).set_tag(tag, value).bytes())
    assert f"bad-dynamic:{label}" in result.facts.defects


def test_h081_a_needed_name_outside_the_strings_is_named_and_the_others_stay() -> None:
    patch = Patch(sample())
    text = b"\0libgood.so\0"
    tags = [*with_needed(patch, text), (DT_NEEDED, 1), (DT_NEEDED, HUGE), (DT_NEEDED, 1)]
    facts = quick(patch.new_tags(tags).bytes()).facts
    assert facts.needed == (b"libgood.so", b"libgood.so")
    assert "bad-dynamic:DT_NEEDED" in facts.defects


def test_h082_the_dynamic_section_is_found_by_address_and_bounded_by_its_segment() -> None:
    good = read_elf(sample())
    for change in ({"offset": HUGE}, {"offset": 0}, {"filesz": HUGE}, {"filesz": 16}):
        patch = Patch(sample())
        patch.segment(patch.segment_at(PT_DYNAMIC), **change)
        result = quick(patch.bytes())
        assert (result.facts.needed, result.facts.soname, result.symbols) == (good.facts.needed, good.facts.soname, good.symbols)
    endless = Patch(sample())
    text = b"\0name\0"
    tags = [*with_needed(endless, text), (DT_NEEDED, 1)]
    fill = (-len(endless.tail) - 16 * len(tags)) % 4096 // 16  # no zeros follow up to the end of the page
    endless.tail += bytes(-len(endless.tail) % 16)
    result = quick(endless.new_tags([*tags, *[(DT_BIND_NOW, 1)] * fill], end=False).bytes())
    assert result.facts.needed == (b"name",)
    assert "unterminated-dynamic" in result.facts.defects
    twice = Patch(sample())
    other = twice.place(struct.pack("<QQQQ", DT_BIND_NOW, 0, 0, 0))
    twice.segment(twice.segment_at(PT_GNU_RELRO), kind=PT_DYNAMIC, vaddr=other, filesz=32, memsz=32)
    facts = quick(twice.bytes()).facts
    assert facts.bind_now
    assert facts.soname is None


def version_record(file: int, aux: int, following: int, count: int = 1) -> bytes:
    return struct.pack("<HHIII", 1, count, file, aux, following)


def version_entry(name: int, following: int) -> bytes:
    return struct.pack("<IHHII", 0, 0, 2, name, following)


@pytest.mark.parametrize("records", [
    version_record(1, 16, 0, 65535) + version_entry(6, 0),
    version_record(1, 16, 1) + version_entry(6, 1) * 300,
    version_record(1, 16, 16, 65535) + version_entry(6, 0) + version_entry(6, 16) * 3000,
    version_record(1, 0xFFFFFFF0, 0xFFFFFFF0),
    b"\1\0" * 400_000,
    b"\1\0\0\0" * 200_000,
])  # fmt: skip
def test_h083_version_records_are_visited_once_and_end(records: bytes) -> None:
    patch = Patch(sample())
    tags = with_needed(patch, b"\0file\0V_1\0")
    address = patch.place(records)
    result = quick(patch.new_tags([*tags, (DT_VERNEED, address), (DT_VERNEEDNUM, 1 << 32)]).bytes())
    assert len(result.facts.verneed) <= 65535


def test_h083_an_unknown_version_of_the_records_is_told() -> None:
    patch = Patch(sample())
    tags = with_needed(patch, b"\0file\0V_1\0")
    record = struct.pack("<HHIII", 9, 1, 1, 16, 0) + version_entry(6, 0)
    facts = quick(patch.new_tags([*tags, (DT_VERNEED, patch.place(record))]).bytes()).facts
    assert facts.verneed_version == 9
    good = quick(Patch(program()).bytes()).facts
    assert good.verneed_version == 1


def gnu_hash(buckets: int, first: int, bloom: int, shift: int, rest: bytes) -> bytes:
    return struct.pack("<IIII", buckets, first, bloom, shift) + rest


@pytest.mark.parametrize("table", [
    gnu_hash(0, 1, 1, 6, bytes(64)),
    gnu_hash(0xFFFFFFFF, 1, 1, 6, bytes(64)),
    gnu_hash(1, 1, 0xFFFFFFFF, 6, bytes(64)),
    gnu_hash(1, 0xFFFFFFFF, 1, 6, b"\xff" * 8 + b"\xff" * 4 + bytes(64)),
    gnu_hash(1, 1, 1, 6, b"\xff" * 8 + b"\xff" * 4 + bytes(64)),
    gnu_hash(1, 1, 1, 6, b"\xff" * 8 + b"\1\0\0\0" + bytes(100_000)),
    gnu_hash(100_000, 1, 1, 6, b"\xff" * 8 + b"\1\0\0\0" * 100_000 + bytes(64)),
    gnu_hash(1, 1, 3, 99, b"\xff" * 24 + b"\1\0\0\0" + b"\1\0\0\0"),
    b"\1\0",
])  # fmt: skip
def test_h084_gnu_hash_tables_end_where_the_file_ends(table: bytes) -> None:
    patch = Patch(sample())
    tags = [(tag, value) for tag, value in patch.tags() if tag != DT_GNU_HASH]
    result = quick(patch.new_tags([*tags, (DT_GNU_HASH, patch.place(table))]).bytes())
    assert not names(result)
    assert {symbol.name for symbol in imports(result.symbols)} >= {b"wanted_data", b"wanted_call"}


def test_h084_chains_that_begin_where_the_file_ends_reach_nothing() -> None:
    patch = Patch(sample())
    table = gnu_hash(1, 1, 1, 6, b"\xff" * 8 + b"\1\0\0\0")
    address = patch.place(bytes(4096 - len(table)) + table) + 4096 - len(table)
    result = quick(patch.set_tag(DT_GNU_HASH, address).bytes())
    assert not names(result)
    assert "bad-dynamic:DT_GNU_HASH" in result.facts.defects


@pytest.mark.parametrize("table", [
    struct.pack("<II", 1, 0xFFFFFFFF) + bytes(64), struct.pack("<II", 0xFFFFFFFF, 4) + bytes(64),
    struct.pack("<III", 1, 4, 1) + struct.pack("<IIII", 0, 2, 1, 0), struct.pack("<III", 1, 4, 0xFFFFFF) + bytes(16), b"\1",
    struct.pack("<II", 0, 0),
])  # fmt: skip
def test_h084_sysv_hash_tables_with_cycles_or_wild_counts_end(table: bytes) -> None:
    patch = Patch(library("x86_64-linux-gnu", SOURCE, "-Wl,--hash-style=sysv").read_bytes())
    tags = [(tag, value) for tag, value in patch.tags() if tag != DT_HASH]
    result = quick(patch.new_tags([*tags, (DT_HASH, patch.place(table))]).bytes())
    assert {symbol.name for symbol in imports(result.symbols)} >= {b"wanted_data", b"wanted_call"}


def test_h085_two_hundred_thousand_needed_are_cut_with_a_reason() -> None:
    patch = Patch(sample())
    tags = with_needed(patch, b"\0libx.so\0")
    result = quick(patch.new_tags([*tags, *[(DT_NEEDED, 1)] * 200_000, (DT_SONAME, 1)]).bytes())
    assert len(result.facts.needed) == 4096
    assert result.unread == "needed-limit"
    assert "needed-limit" in result.facts.defects
    assert result.facts.soname == b"libx.so"
    assert len(result.facts.tags) == 8192


def test_h086_a_string_table_without_end_is_not_read_over_and_over() -> None:
    patch = Patch(sample())
    tags = with_needed(patch, b"a" * (4 << 20))
    result = quick(patch.new_tags([*tags, *[(DT_NEEDED, at) for at in range(20_000)]]).bytes(), 2.0)
    assert "bad-dynamic:DT_NEEDED" in result.facts.defects
    assert sum(map(len, result.facts.needed)) <= 4 << 20


def test_h087_symbol_names_outside_long_or_not_text_are_bytes_or_nothing() -> None:
    def renamed(text: bytes, offset: int) -> ElfResult:
        patch = Patch(sample())
        (at,) = (patch.value(DT_SYMTAB),)
        load = next(segment for segment in read_elf(sample()).facts.segments if segment.type == PT_LOAD)
        place = at - load.vaddr + load.offset + 24
        struct.pack_into("<I", patch.data, place, offset)
        tags = [(tag, value) for tag, value in patch.tags() if tag not in (DT_STRTAB, DT_STRSZ)]
        old = patch.data[patch.value(DT_STRTAB) - load.vaddr + load.offset :][: patch.value(DT_STRSZ)]
        table = bytes(old) + text
        return quick(patch.new_tags([*tags, (DT_STRTAB, patch.place(table)), (DT_STRSZ, len(table))]).bytes())

    length = Patch(sample()).value(DT_STRSZ)
    odd = b"\xff\xfe@@x@@y"
    assert odd in {symbol.name for symbol in imports(renamed(odd + b"\0", length).symbols)} | names(renamed(odd + b"\0", length))
    for text, offset in ((b"", 0xFFFFFFF0), (b"n" * (1 << 20), length)):
        assert "bad-symbol-name" in renamed(text, offset).facts.defects


def test_h088_notes_and_interpreters_with_wild_sizes_are_capped() -> None:
    data = program()
    for change in ({"filesz": HUGE}, {"filesz": 1}, {"filesz": 0}, {"offset": HUGE}, {"filesz": 5}):
        patch = Patch(data)
        patch.segment(patch.segment_at(PT_INTERP), **change)
        assert "bad-interp" in quick(patch.bytes()).facts.defects
    for text in (b"relative/ld.so\0", b"/lib\n/ld.so\0"):
        patch = Patch(data)
        place = patch.segment_at(PT_INTERP)
        (offset,) = struct.unpack_from("<8xQ", patch.data, place)
        patch.data[offset : offset + len(text)] = text
        patch.segment(place, filesz=len(text))
        facts = quick(patch.bytes()).facts
        assert facts.interp == text[:-1]
        assert facts.interp_terminated
    for header in (struct.pack("<III", 0xFFFFFFFF, 4, 1), struct.pack("<III", 4, 0xFFFFFFFF, 3), struct.pack("<III", 0, 0, 0)):
        patch = Patch(data)
        at = len(patch.data)
        patch.data += header * 5000
        place = patch.segment_at(PT_DYNAMIC)
        patch.segment(place, kind=PT_NOTE, offset=at, filesz=1 << 40)
        assert {"bad-note", "note-limit"} & set(quick(patch.bytes()).facts.defects)


@pytest.mark.parametrize("change", [
    {"vaddr": 0}, {"vaddr": (1 << 64) - 0x1000}, {"memsz": (1 << 64) - 1}, {"filesz": HUGE}, {"align": 3}, {"align": 0},
    {"memsz": 0}, {"offset": 1}, {"kind": 0},
])  # fmt: skip
@pytest.mark.parametrize("index", [0, 1])
def test_h089_odd_load_segments_keep_their_numbers(change: dict[str, int], index: int) -> None:
    patch = Patch(sample())
    place = patch.segment_at(PT_LOAD, index)
    at = (place - 64) // 56
    facts = quick(patch.segment(place, **change).bytes()).facts  # type: ignore[arg-type]
    name, value = next(iter(change.items()))
    assert getattr(facts.segments[at], "type" if name == "kind" else name) == value
    none = Patch(sample())
    for number in range(4):
        none.segment(none.segment_at(PT_LOAD), kind=0x12345 + number)
    assert "bad-dynamic:PT_DYNAMIC" in quick(none.bytes()).facts.defects


def test_h089_many_overlapping_segments_stay_cheap() -> None:
    load = sample()[64:][: 56 * 20]
    record = next(load[at : at + 56] for at in range(0, len(load), 56) if load[at] == PT_LOAD)
    data = Patch(sample() + record * 60_000 + sample()[64 : 64 + 56 * 12])
    data.header(32, "Q", len(sample())).header(56, "H", 60_012)
    quick(data.bytes(), 3.0)


def test_h090_foreign_class_order_machine_and_kind_are_kept_for_the_judge() -> None:
    data = sample()
    for offset, value, field in ((4, 1, "bits"), (4, 7, "bits"), (5, 2, "little"), (5, 9, "little")):
        changed = bytearray(data)
        changed[offset] = value
        facts = quick(bytes(changed)).facts
        assert getattr(facts, field) == {(4, 1): 32, (4, 7): 0, (5, 2): False, (5, 9): True}[offset, value]
    wild = quick(Patch(data).header(18, "H", 0xFFFF).header(16, "H", 4).bytes()).facts
    assert (wild.machine, wild.type) == (0xFFFF, 4)
    assert wild.soname == b"libx.so.1"


def test_h091_compressed_sections_are_never_looked_at() -> None:
    name = b"\1\0\0\0" + struct.pack("<IQQQQIIQQ", 1, 0x800, 0, 64, HUGE, 0, 0, 1, 0)
    patch = Patch(sample() + name * 4).header(40, "Q", len(sample())).header(60, "H", 4).header(58, "H", 64)
    assert quick(patch.bytes()).symbols == read_elf(sample()).symbols


def test_h092_relocation_sizes_and_entries_are_bounded_and_named() -> None:
    for tag, value, label in ((DT_RELASZ, 1 << 60, "DT_RELA"), (DT_RELAENT, 0, "DT_RELAENT"), (DT_RELA, HUGE, "DT_RELA")):
        result = quick(Patch(sample()).set_tag(tag, value).bytes())
        assert f"bad-dynamic:{label}" in result.facts.defects
    patch = Patch(sample())
    relr = patch.place(b"\xff" * 65536)
    facts = quick(patch.new_tags([*patch.tags(), (DT_RELR, relr), (DT_RELRSZ, 1 << 60), (0x6000000F, relr)]).bytes()).facts
    assert facts.has_relr
    wild = Patch(sample())
    table = wild.place(random.Random(92).randbytes(24 * 100_000))
    tags = [(tag, value) for tag, value in wild.tags() if tag not in (DT_RELA, DT_RELASZ)]
    result = quick(wild.new_tags([*tags, (DT_RELA, table), (DT_RELASZ, 24 * 100_000)]).bytes())
    assert len(result.facts.relocation_types) <= 256


def test_h093_a_run_path_of_ten_thousand_entries_is_kept_as_written() -> None:
    for path in (
        b":".join(b"/opt/%d" % number for number in range(10_000)),
        b"$ORIGIN/" * 4000,
        b"${LIB" * 4000,
        b"",
        b"../../x",
    ):
        patch = Patch(sample())
        tags = [(tag, value) for tag, value in with_needed(patch, b"\0" + path + b"\0") if tag != DT_RUNPATH]
        assert quick(patch.new_tags([*tags, (DT_RUNPATH, 1)]).bytes()).facts.runpath == path


def test_h096_odd_kinds_of_elf_are_recorded_for_what_they_are() -> None:
    relocatable = compiled("x86_64-linux-gnu", PROGRAM, "-c").read_bytes()
    assert (quick(relocatable).facts.type, quick(relocatable).facts.segments, quick(relocatable).symbols) == (1, (), None)
    filter_program = compiled("bpfel-freestanding", PROGRAM, "-c").read_bytes()
    assert quick(filter_program).facts.machine == 247
    packed = Patch(program())
    packed.segment(packed.segment_at(PT_DYNAMIC), kind=0)
    facts = quick(packed.bytes()).facts
    assert (facts.dynamic, facts.needed) == (False, ())
    image = bytearray(program())
    image[8:11] = b"AI\2"  # an AppImage: a program with something behind it
    facts = quick(bytes(image) + b"hsqs" + bytes(100_000)).facts
    assert facts.ident[8:11] == b"AI\2"
    assert facts.needed == read_elf(program()).facts.needed


MUTANTS = 20_000 if os.environ.get("ENOENT_TEST_FULL") else 700
MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    lambda dice, data: data.__setitem__(dice.randrange(len(data)), dice.randrange(256)),
    lambda dice, data: data.__setitem__(dice.randrange(min(len(data), 1200)), dice.choice((0, 1, 0x7F, 0x80, 0xFF))),
    lambda dice, data: struct.pack_into("<I", data, dice.randrange(len(data) - 8), dice.choice((0, 1, 0xFFFFFFFF, 1 << 31))),
    lambda dice, data: struct.pack_into("<Q", data, dice.randrange((len(data) - 8) // 8) * 8, dice.getrandbits(64)),
    lambda dice, data: data.__delitem__(slice(dice.randrange(64, len(data)), None)),
)


def test_h097_seeded_mutants_of_real_files_never_raise_nor_linger() -> None:
    """0 uncaught, none beyond the five seconds of row 97; feeding in pieces gives what reading whole gives."""
    seeds = [library(target).read_bytes() for target in TARGETS]
    seeds += [sample(), program(), LOADER.read_bytes(), Path("/bin/ls").read_bytes()]
    dice = random.Random(97)
    for count in range(MUTANTS):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 2, 4, 16))):
            if len(data) > 128:
                dice.choice(MUTATIONS)(dice, data)
        begin = time.process_time()
        result = read_elf(bytes(data))
        assert time.process_time() - begin < 5
        if count % 16 == 0:
            reader = ElfReader(len(data))
            reader.feed(data)
            assert reader.finish() == result
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(result.facts), type=ElfFacts) == result.facts


@pytest.mark.skipif(not LOADER.exists(), reason="no glibc loader here")
def test_h097_mutants_that_the_loader_lists_need_what_we_say_they_need(tmp_path: Path) -> None:
    """The loader's `--list` maps and walks a file without running any of its code."""
    data = Path("/bin/ls").read_bytes()
    dynamic = next(segment for segment in read_elf(data).facts.segments if segment.type == PT_DYNAMIC)
    spots = (range(0x300), range(0x40, 0x2000), range(dynamic.offset, dynamic.offset + dynamic.filesz))
    dice = random.Random(9797)
    listed = 0
    for _ in range(120):
        changed = bytearray(data)
        for _ in range(dice.choice((1, 1, 2))):
            changed[dice.choice(dice.choice(spots))] = dice.choice((0, 1, 255, dice.randrange(256)))
        path = tmp_path / "mutant"
        path.write_bytes(changed)
        try:
            done = subprocess.run([str(LOADER), "--list", str(path)], capture_output=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            continue
        needed = set(read_elf(bytes(changed)).facts.needed)
        if done.returncode == 0 and b"statically linked" not in done.stdout:
            listed += 1
            found = set(re.findall(rb"^\t(.*?) (?:=>|\()", done.stdout, re.MULTILINE))
            assert needed - {b""} <= found
            assert needed or not {b"libc.so.6"} & found
        absent = re.search(rb"libraries: (.*?): cannot open shared object file", done.stderr)
        if absent and absent[1] != bytes(path):
            assert absent[1] in needed
    assert listed > 50


def test_h097_memory_stays_bounded_for_tables_of_garbage() -> None:
    """6 MiB that are string table, symbol table, hash and relocations at once."""
    patch = Patch(sample())
    garbage = random.Random(1097).randbytes(6 << 20)
    at = patch.place(garbage)
    size = len(garbage)
    sizes = [(DT_STRSZ, size), (DT_RELASZ, size), (2, size), (20, 7)]
    tables = (DT_STRTAB, DT_SYMTAB, DT_RELA, DT_HASH, DT_VERNEED, 0x6FFFFFFC, 0x6FFFFFF0, 23)
    patch.new_tags([*[(tag, at) for tag in tables], *sizes, (DT_GNU_HASH, at + 64)])
    struct.pack_into("<IIII", patch.tail, 64, 1000, 1, 1, 6)
    data = patch.bytes()
    tracemalloc.start()
    quick(data, 20.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 160 << 20
