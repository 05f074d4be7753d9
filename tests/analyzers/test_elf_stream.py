"""ElfReader fed in pieces: the same answer as for the whole file, whatever the pieces, within the bytes it may keep."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from analyzers.elf import ElfReader, ElfResult, read_elf
from analyzers.limits import Limits
from tests.analyzers.elf_programs import SOURCE, library

MIB = 1 << 20
NODE = Path("/usr/bin/node")


def fed(data: bytes, step: int, limits: Limits | None = None, known: tuple[tuple[int, int], ...] = ()) -> ElfResult:
    reader = ElfReader(len(data), limits or Limits(), known)
    view = memoryview(data)
    ceiling = (limits or Limits()).elf_kept_bytes
    for at in range(0, len(data), step):
        reader.feed(view[at : at + step])
        assert reader.held <= ceiling
    return reader.finish()


@pytest.fixture(scope="module")
def big() -> bytes:
    """A library of 12 MiB whose tables lie at both ends: the dynamic section follows the padding."""
    source = SOURCE + "const char padding[11 << 20] = {1}; const char *where = padding;"
    data = library("x86_64-linux-gnu", source).read_bytes()
    assert len(data) > 11 * MIB
    return data


@pytest.mark.toolchain
@pytest.mark.parametrize("step", [1, 7, 4096])
def test_any_chunk_size_gives_the_same_facts(step: int) -> None:
    data = library().read_bytes()
    assert fed(data, step) == read_elf(data)


@pytest.mark.toolchain
@pytest.mark.parametrize("step", [4000, 65536, 3 * MIB, 64 * MIB])
def test_a_big_file_is_read_fully_and_keeps_only_its_tables(big: bytes, step: int) -> None:
    whole = read_elf(big)
    result = fed(big, step)
    assert result == whole
    assert result.missed == ()
    reader = ElfReader(len(big))
    reader.feed(big)
    assert reader.held < 2 * MIB


@pytest.mark.toolchain
def test_a_dynamic_section_behind_the_ceiling_is_still_read_fully(big: bytes) -> None:
    """Decisions 1: the ceiling counts kept bytes, not the file's size."""
    result = fed(big, 65536, Limits(elf_kept_bytes=2 * MIB))
    assert result == read_elf(big)


def moved_tables(data: bytes) -> bytes:
    """The same library, its symbol and string tables moved into the middle of the padding, where no beginning or end reaches."""
    header = bytearray(data)
    (count,) = struct.unpack_from("<H", data, 56)
    places = [64 + 56 * at for at in range(count)]
    kinds = [struct.unpack_from("<I", data, place)[0] for place in places]
    at = places[kinds.index(2)]
    offset, vaddr, size = struct.unpack_from("<8xQQ8xQ", data, at)
    base = places[kinds.index(1)]
    start = struct.unpack_from("<16xQ", data, base)[0]
    tags = dict(struct.iter_unpack("<QQ", data[offset : offset + size]))
    middle = 6 * MIB
    for tag, length in ((5, tags[10]), (6, 24 * 30)):
        address = tags[tag]
        header[middle : middle + length] = data[address - start : address - start + length]
        for entry in range(offset, offset + size, 16):
            if struct.unpack_from("<Q", header, entry)[0] == tag:
                struct.pack_into("<Q", header, entry + 8, start + middle)
        middle += 64 << 10
    return bytes(header)


@pytest.mark.toolchain
def test_tables_found_too_late_cost_one_second_pass(big: bytes) -> None:
    data = moved_tables(big)
    whole = read_elf(data)
    assert whole.facts.soname == b"libx.so.1"
    limits = Limits(elf_kept_bytes=2 * MIB)
    first = fed(data, 65536, limits)
    assert first.missed
    assert first.unread == ""
    second = fed(data, 65536, limits, first.missed)
    assert second == whole


@pytest.mark.toolchain
def test_what_a_second_pass_cannot_keep_is_too_large(big: bytes) -> None:
    data = moved_tables(big)
    limits = Limits(elf_kept_bytes=64 << 10)
    first = fed(data, 4096, limits)
    second = fed(data, 4096, limits, ((0, 8 * MIB), *first.missed))
    assert second.unread == "elf-too-large"
    assert second.missed


@pytest.mark.toolchain
def test_mutants_of_a_big_file_never_raise_whatever_may_be_kept() -> None:
    """What two passes read without a gap is what is read from the whole."""
    data = bytearray(library("x86_64-linux-gnu", SOURCE + "const char padding[5 << 20] = {1};").read_bytes())
    dice = random.Random(4097)
    whole = 0
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(dice.choice((1, 2, 8))):
            changed[dice.choice((dice.randrange(0x1200), len(data) - 1 - dice.randrange(0x2000)))] = dice.randrange(256)
        limits = Limits(elf_kept_bytes=dice.choice((100_000, MIB, 64 * MIB)))
        step = dice.choice((4096, 65536, MIB))
        result = fed(bytes(changed), step, limits)
        if result.missed:
            result = fed(bytes(changed), step, limits, result.missed)
        if not result.missed and not result.unread:
            whole += 1
            assert result == read_elf(bytes(changed))
    assert whole > 30


def test_a_stock_node_is_read_in_one_pass() -> None:
    if not NODE.exists():
        pytest.skip("no node here")
    reader = ElfReader(NODE.stat().st_size)
    with NODE.open("rb") as file:
        while chunk := file.read(256 << 10):
            reader.feed(chunk)
            assert reader.held <= 64 * MIB
    result = reader.finish()
    assert result.missed == ()
    assert result.unread == ""
    assert b"libc.so.6" in result.facts.needed
    assert result.symbols is not None
    assert len(result.symbols.import_flags) > 100


@pytest.mark.toolchain
def test_a_file_shorter_than_announced_is_read_as_it_is() -> None:
    data = library().read_bytes()
    reader = ElfReader(len(data) + 100)
    reader.feed(data)
    assert reader.finish().facts.file_size == len(data)


@pytest.mark.toolchain
def test_h095_a_file_of_a_terabyte_costs_what_is_kept_of_it(big: bytes) -> None:
    """The announced size allocates nothing, and its middle is not kept."""
    reader = ElfReader(1 << 40, Limits(elf_kept_bytes=4 * MIB))
    generator = random.Random(95)
    reader.feed(big)
    for _ in range(64):
        reader.feed(generator.randbytes(1 << 16) * 16)
    result = reader.finish()
    assert result.facts.soname == b"libx.so.1"
    assert reader.held < 4 * MIB
    assert result.missed == ()
