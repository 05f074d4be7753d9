"""The stored form: what goes in comes out, in chunks of bounded size, and bytes that are not ours are refused."""

from __future__ import annotations

import pytest

from analyzers.compression import zstd
from analyzers.entries import Entries
from analyzers.errors import Rejected
from analyzers.facts import Coverage, ElfFacts, Entry, Kind, LayerFacts, LayerNote, SymbolFacts, Unread
from analyzers.wire import CHUNK_BYTES, SECTIONS, pack, unpack


def layer(files: int = 3) -> LayerFacts:
    entries = [
        Entry(
            b"usr/lib/file-%06d" % number,
            Kind.FILE,
            0o644,
            1000,
            100,
            number,
            sha256=number.to_bytes(32, "big") if number % 3 == 0 else b"",
        )
        for number in range(files)
    ]
    entries.append(Entry(b"dev/null", Kind.CHARACTER_DEVICE, 0o666, 0, 0, 0, device=(1, 3)))
    entries.append(Entry(b"bin", Kind.SYMLINK, 0o777, 0, 0, 0, link=b"usr/bin"))
    entries.append(Entry(b"bin2/ping", Kind.FILE, 0o755, 0, 0, 5, capability=b"\x01\0\0\2"))
    digest = bytes(32)
    return LayerFacts(
        diff_id="sha256:" + "0" * 64,
        size_bytes=77,
        entries=Entries(entries),
        whiteouts=(b"etc/gone", b"usr/gone"),
        opaques=(b"var",),
        elf={digest: ElfFacts(file_size=9, ident=b"\x7fELF", bits=64, little=True, needed=(b"libc.so.6",))},
        symbols={digest: SymbolFacts(import_names=b"puts")},
        texts={b"etc/passwd": b"root:x:0:0::/:/bin/sh\n"},
        heads={b"bin/run": b"#!/bin/sh\n"},
        unread=(Unread(b"x", "elf-too-large"),),
        notes=(LayerNote("path-escape", b"y", "z"),),
        coverage=Coverage.PARTIAL,
    )


def as_mapping(facts: LayerFacts) -> dict[str, list[bytes]]:
    return {section.name: section.chunks for section in pack(facts)}


def said(facts: LayerFacts) -> list[object]:
    return [list(facts.entries), *(getattr(facts, name) for name in facts.__slots__ if name != "entries")]


@pytest.mark.parametrize("files", [0, 1, 300, 20_000])
def test_what_is_packed_comes_back(files: int) -> None:
    facts = layer(files)
    assert said(unpack(as_mapping(facts))) == said(facts)


def test_every_section_has_a_known_name_and_chunks_of_at_most_one_mebibyte() -> None:
    sections = pack(layer(60_000))
    assert tuple(section.name for section in sections) == SECTIONS
    assert len(sections[0].chunks) > 1
    for section in sections:
        assert all(len(zstd.decompress(chunk)) <= CHUNK_BYTES for chunk in section.chunks)


def test_symbols_that_were_not_asked_for_are_none() -> None:
    sections = as_mapping(layer())
    del sections["symbols"]
    facts = unpack(sections)
    assert facts.symbols is None
    assert facts.elf


def test_one_record_larger_than_a_chunk_is_cut_and_joined() -> None:
    facts = layer()
    assert facts.symbols is not None
    facts.symbols[bytes(32)] = SymbolFacts(import_names=bytes(3 << 20))
    assert said(unpack(as_mapping(facts))) == said(facts)


def test_the_same_facts_give_the_same_bytes() -> None:
    assert pack(layer(500)) == pack(unpack(as_mapping(layer(500))))


def test_sections_that_are_not_ours_are_rejected() -> None:
    good = as_mapping(layer(2000))
    bomb = zstd.compress(bytes(64 << 20))
    for entries in ([], [b"not zstd"], [zstd.compress(b"\xff" * 99)], good["elf"], [good["entries"][0][:-9]], [bomb]):
        with pytest.raises(Rejected, match="bad-facts"):
            unpack({**good, "entries": entries})
