"""What `strip` would take away is told as strip itself does it, and section headers that lie tell nothing absurd."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from analyzers.elf import ElfReader, read_elf
from analyzers.facts import ElfFacts
from tests.conftest import absent
from tests.make import elves

pytestmark = pytest.mark.toolchain

ALIGNMENT = 4096
"""What strip may gain or lose besides: names of sections, their headers, padding."""
GO = "package main\n\nfunc main() { println(1) }\n"
RUST = 'fn main() { println!("x"); }\n'


def gcc(*flags: str) -> bytes:
    return elves.build(["gcc", *flags, "a.c", "-o", "out"], {"a.c": elves.HELLO.encode()}, "out")


def rust(*flags: str) -> bytes:
    return elves.build(["rustc", *flags, "a.rs", "-o", "out"], {"a.rs": RUST.encode()}, "out")


def stripped(data: bytes) -> bytes:
    return elves.build(["strip", "elf"], {"elf": data}, "elf")


PROGRAMS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "C with debug information": (lambda: gcc("-g"), True),
    "C without": (lambda: gcc(), False),
    "C linked statically": (lambda: gcc("-static"), False),
    "C stripped": (lambda: gcc("-s"), False),
    "Go": (lambda: elves.go(GO), True),
    "Go without both": (lambda: elves.go(GO, "-ldflags=-s -w"), False),
    "Rust": (lambda: rust("-g"), True),
    "Rust stripped": (lambda: rust("-C", "strip=symbols"), False),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_told_is_what_strip_takes(name: str) -> None:
    make, debug = PROGRAMS[name]
    try:
        data = make()
        saved = len(data) - len(stripped(data))
    except elves.ToolAbsent as error:
        absent(str(error))
    facts = read_elf(data).facts
    assert abs(facts.debug_bytes + facts.symbol_bytes - saved) < ALIGNMENT
    assert (facts.debug_bytes > 0) == debug
    assert read_elf(stripped(data)).facts.symbol_bytes == 0
    reader = ElfReader(len(data))
    reader.whole = False
    reader.feed(data)
    fed = reader.finish()
    assert (fed.facts.debug_bytes, fed.facts.symbol_bytes, fed.missed) == (facts.debug_bytes, facts.symbol_bytes, ())


SHOFF, SHENTSIZE, SHNUM = (40, "Q"), (58, "H"), (60, "H")


def patched(data: bytes, *changes: tuple[tuple[int, str], int]) -> ElfFacts:
    made = bytearray(data)
    for (offset, code), value in changes:
        struct.pack_into("<" + code, made, offset, value)
    return read_elf(bytes(made)).facts


def sections(data: bytes, change: Callable[[bytearray, int], None]) -> ElfFacts:
    """With `change` made to every section header that no segment loads."""
    made = bytearray(data)
    (start,), (count,) = (struct.unpack_from("<" + code, data, at) for at, code in (SHOFF, SHNUM))
    for at in range(start, start + 64 * count, 64):
        if not struct.unpack_from("<Q", made, at + 8)[0] & 2:
            change(made, at)
    return read_elf(bytes(made)).facts


@pytest.fixture(scope="module")
def honest() -> bytes:
    try:
        return gcc("-g")
    except elves.ToolAbsent as error:
        absent(str(error))


def test_sizes_that_lie_never_exceed_the_file(honest: bytes) -> None:
    facts = sections(honest, lambda made, at: struct.pack_into("<QQ", made, at + 24, 0, (1 << 64) - 1))
    assert facts.debug_bytes + facts.symbol_bytes <= len(honest)
    facts = sections(honest, lambda made, at: struct.pack_into("<Q", made, at + 24, (1 << 64) - 1))
    assert (facts.debug_bytes, facts.symbol_bytes) == (0, 0)


def test_bytes_that_several_sections_claim_count_once(honest: bytes) -> None:
    facts = sections(honest, lambda made, at: struct.pack_into("<QQ", made, at + 24, 4096, 1000))
    assert facts.debug_bytes + facts.symbol_bytes == 1000


@pytest.mark.parametrize(
    "change", [(SHNUM, 0), (SHNUM, 65_535), (SHENTSIZE, 1), (SHENTSIZE, 0), (SHOFF, (1 << 64) - 1), (SHOFF, 1 << 40)]
)
def test_headers_that_cannot_be_read_tell_nothing(honest: bytes, change: tuple[tuple[int, str], int]) -> None:
    facts = patched(honest, change)
    assert (facts.debug_bytes, facts.symbol_bytes) == (0, 0)
    assert facts.interp == b"/lib64/ld-linux-x86-64.so.2"


def test_an_object_for_the_linker_needs_its_symbols(honest: bytes) -> None:
    made = elves.build(["gcc", "-g", "-c", "a.c", "-o", "out"], {"a.c": elves.HELLO.encode()}, "out")
    facts = read_elf(made).facts
    assert (facts.debug_bytes, facts.symbol_bytes) == (0, 0)
