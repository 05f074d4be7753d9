"""Zip archives read by their central directory, honest and hostile; what Python's own zipfile writes is the reference."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib

from analyzers.elf.memory import FileBytes
from analyzers.facts import Coverage, LayerFacts
from analyzers.jars import JarReader, read_jar
from analyzers.layer import LayerReader
from analyzers.limits import Limits
from analyzers.zip import Budget, read_beginning, read_directory, read_entry
from tests.make.java import jar
from tests.make.tars import END, member

CLASS = b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(200)
"""Of Java 8, as far as a version goes."""


def kept(data: bytes) -> FileBytes:
    return FileBytes(len(data), [(0, data)])


def contents(data: bytes, limits: Limits = Limits()) -> dict[bytes, bytes | None]:  # noqa: B008
    directory = read_directory(kept(data), limits.jar_entries, limits.jar_directory_bytes)
    budget = Budget(limits.jar_inflated_bytes)
    return {entry.name: read_entry(kept(data), entry, budget).data for entry in directory.entries}


def layer(tar: bytes, limits: Limits = Limits()) -> LayerFacts:  # noqa: B008
    reader = LayerReader(limits=limits)
    for at in range(0, len(tar), 1 << 16):
        reader.feed(tar[at : at + (1 << 16)])
    return reader.finish()


def central(name: bytes, compressed: int, size: int, crc: int, offset: int, method: int = 8) -> bytes:
    return (
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, method, 0, 0, crc, compressed, size, len(name), *[0] * 5, offset) + name
    )


def local(name: bytes, body: bytes, size: int, crc: int, method: int = 8) -> bytes:
    return struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, method, 0, 0, crc, len(body), size, len(name), 0) + name + body


def end(count: int, length: int, offset: int, comment: bytes = b"") -> bytes:
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, offset, len(comment)) + comment


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


# -- honest archives --


def test_stored_and_deflated_entries_are_read_as_they_were_written() -> None:
    chance = random.Random(1)
    files = {f"d/{number}": chance.randbytes(number * 37) + bytes(number * 100) for number in range(60)}
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert contents(jar(files, compression=how)) == {name.encode(): body for name, body in files.items()}


def test_what_stands_before_the_archive_and_in_its_comment_is_no_matter() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a", b"x" * 50)
        archive.comment = b"a comment with PK\5\6 in it and some more bytes behind"
    assert contents(b"#!/bin/sh\nexit 1\n" + made.getvalue()) == {b"a": b"x" * 50}


def test_zip64_places_and_sizes() -> None:
    body = deflated(b"y" * 1000)
    crc = zlib.crc32(b"y" * 1000)
    extra = struct.pack("<2H3Q", 1, 24, 1000, len(body), 0)
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 8, 0, 0, crc, *[0xFFFFFFFF] * 2, 1, len(extra), *[0] * 4, 0xFFFFFFFF)
    entry += b"a" + extra
    data = local(b"a", body, 1000, crc)
    at = len(data)
    data += entry + struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    data += struct.pack("<4sLQL", b"PK\6\7", 0, at + len(entry), 1) + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    assert contents(data) == {b"a": b"y" * 1000}


def test_the_beginning_of_an_entry_costs_no_more_than_its_code_tables() -> None:
    body = CLASS + random.Random(2).randbytes(50_000)
    data = jar({"A.class": body})
    entry = read_directory(kept(data), 10, 1000).entries[0]
    partly = FileBytes(len(data), [(0, data[:400])])
    assert read_beginning(partly, entry, 8).data == CLASS[:8]
    assert partly.missed == []


# -- hostile ones --


def test_h098_overlapping_entries_are_told_and_inflate_within_one_budget() -> None:
    plain = bytes(5_000_000)
    body, crc = deflated(plain), zlib.crc32(plain)
    data = local(b"a.so", body, len(plain), crc)
    entries = b"".join(central(b"%d.jar" % number, len(body), len(plain), crc, 0) for number in range(2000))
    bomb = data + entries + end(2000, len(entries), len(data))
    result = read_jar(bomb, Limits(jar_inflated_bytes=16_000_000))
    assert "zip-overlap" in result.facts.defects
    assert result.unread == "jar-limit"
    assert len(result.facts.nested) <= 3
    facts = layer(member(b"app/bomb.jar", bomb) + END, Limits(jar_inflated_bytes=16_000_000))
    assert "zip-overlap" in {note.code for note in facts.notes}
    assert facts.coverage is Coverage.PARTIAL


def test_h098_an_entry_that_inflates_to_more_than_it_says_is_broken_not_inflated() -> None:
    body = deflated(bytes(5_000_000))
    data = local(b"a", body, 10, 0)
    data += (entry := central(b"a", len(body), 10, 0, 0)) + end(1, len(entry), len(data))
    assert contents(data) == {b"a": None}


def test_h099_a_directory_beyond_its_ceilings_is_not_walked() -> None:
    one = central(b"a", 0, 0, 0, 0)
    many = one * 70_000
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 70_000, 70_000, len(many), 0)
    data = many + wide + struct.pack("<4sLQL", b"PK\6\7", 0, len(many), 1) + end(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    found = read_directory(kept(data), Limits().jar_entries, Limits().jar_directory_bytes)
    assert (found.entries, found.over_limit) == ((), True)
    # One that says less than it has is walked up to the ceiling.
    told_less = many + end(100, len(many), 0)
    found = read_directory(kept(told_less), 1000, len(many))
    assert (len(found.entries), found.over_limit) == (1000, True)
    facts = layer(member(b"app/wide.jar", data) + END)
    assert [(each.path, each.reason) for each in facts.unread] == [(b"app/wide.jar", "jar-limit")]


def test_h100_jars_in_jars_are_read_to_the_second_depth_under_one_budget() -> None:
    made = jar({"deep/Deep.class": CLASS})
    for number in range(10):
        made = jar({f"{number}.jar": made, f"C{number}.class": CLASS})
    facts = read_jar(made).facts
    depth = 0
    while facts.nested:
        (facts,), depth = facts.nested, depth + 1
        assert facts.newest == 52
    assert depth == 2
    twenty = jar({f"{number}.jar": jar({"big": bytes(100_000)}) for number in range(20)}, compression=zipfile.ZIP_STORED)
    assert read_jar(twenty, Limits(jar_inflated_bytes=1000)).unread == "jar-limit"


def test_h101_the_central_directory_counts_and_a_mismatch_is_told() -> None:
    body, crc = deflated(CLASS), zlib.crc32(CLASS)
    data = local(b"Innocent.class", body, len(CLASS), crc)
    entry = central(b"pack/Main.class", len(body), len(CLASS), crc, 0)
    # Behind the comment that the first end record announces stands another, which nobody counts.
    archive = data + entry + end(1, len(entry), len(data), b"some comment" + bytes(40))
    facts = read_jar(archive).facts
    assert facts.versions() == {b"pack/Main": (52, 0)}
    assert facts.defects == ("zip-mismatch",)
    for broken in (archive[:-10] + b"PK\5\6" + bytes(6), data + entry + end(1, len(entry) + 7, len(data))):
        assert read_jar(broken).facts.defects, broken[-40:]


def test_h102_one_broken_jar_among_500_is_told_and_the_others_are_read() -> None:
    good = [jar({"A.class": CLASS, "n": b"%d" % number}) for number in range(499)]
    bad = bytearray(good[0])
    bad[bad.index(b"A.class") + 9 : bad.index(b"A.class") + 40] = bytes(31)
    members = [member(b"lib/%d.jar" % number, body) for number, body in enumerate([*good, bytes(bad)])]
    facts = layer(b"".join(members) + END)
    assert len(facts.jars) == 500
    assert sum(each.versions() == {b"A": (52, 0)} for each in facts.jars.values()) == 499
    assert [(note.code, note.path) for note in facts.notes] == [("zip-entry-broken", b"lib/499.jar")]
    assert facts.coverage is Coverage.FULL


def test_nothing_is_raised_whatever_the_bytes() -> None:
    chance = random.Random(3)
    whole = jar({"A.class": CLASS, "lib/x.jar": jar({"B.class": CLASS}), "n/lib.so": b"\x7fELF" + bytes(90)}, Main_Class="A")
    for _ in range(400):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        reader = JarReader(len(body))
        reader.feed(bytes(body)[: chance.choice((len(body), len(body), chance.randrange(len(body))))])
        assert reader.finish().facts.size <= len(whole)
