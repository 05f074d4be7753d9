"""A layer that comes in pieces, without what no reader wants, gives the facts of the whole one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import msgspec
import pytest

from analyzers import frames
from analyzers.elf.reader import HEAD_BYTES, ElfReader, plan_ranges, read_elf
from analyzers.errors import Rejected
from analyzers.facts import LayerFacts, Verified
from analyzers.layer import LayerReader
from analyzers.limits import Limits
from analyzers.readers import READERS
from analyzers.tar.members import PEEK
from analyzers.wire import pack
from tests.make.elves import c, caller, library
from tests.make.layers import file, hardlink, program, script, sha256, symlink, tar_of

LARGE = b"L" * (2 << 20)
LAYER = tar_of(
    {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" * 40, "bin/run": script("#!/bin/sh\n" + "x" * 2000),
        "opt/elf": program(b"\x7fELF" + bytes(5000)), "opt/large": file(LARGE), "opt/plain": file(b"p" * 5000),
        "opt/short": file(b"s"), "opt/empty": file(b""), "opt/" + "n" * 200: file(b"q" * 700), "opt/hard": hardlink("opt/plain"),
        "opt/soft": symlink("plain"),
    },
    whiteouts=["opt/gone"],
    opaques=["srv"],
)  # fmt: skip


def cut(tar: bytes, *, wanted: bool = True) -> Iterator[tuple[bytes, int]]:
    """The tar in pieces: after each file that no reader wants (with `wanted` False: after every file) its rest is left out."""
    done = 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        for member in opened:
            if not member.isreg() or member.size <= PEEK:
                continue
            head = tar[member.offset_data : member.offset_data + PEEK]
            if wanted and any(reader.wants(member.name.encode(), head) for reader in READERS):
                continue
            kept = member.offset_data + PEEK
            yield tar[done:kept], member.size - PEEK
            done = kept + member.size - PEEK
    yield tar[done:], 0


def facts_of(pieces: Iterator[tuple[bytes, int]], limits: Limits | None = None) -> LayerFacts:
    reader = LayerReader(said_diff_id=sha256(LAYER), limits=limits or Limits())
    for data, left_out in pieces:
        reader.feed_piece(data, left_out)
    return reader.finish()


def whole() -> LayerFacts:
    reader = LayerReader()
    reader.feed(LAYER)
    return reader.finish()


def told(facts: LayerFacts, *, digests: bool = True) -> list[object]:
    """Everything that facts say, but how they came about."""
    entries = [each if digests or each.sha256 == b"" else msgspec.structs.replace(each, sha256=b"") for each in facts.entries]
    rest = (facts.whiteouts, facts.opaques, facts.texts, facts.heads, facts.unread, facts.notes, facts.coverage)
    return [entries, facts.diff_id, facts.size_bytes, facts.elf, facts.symbols, *rest]


def test_all_that_readers_want_is_as_in_the_whole_layer() -> None:
    there, pieces = whole(), facts_of(cut(LAYER))
    assert (there.verified, pieces.verified) == (Verified.STREAM, Verified.LOCAL)
    assert told(pieces, digests=False) == told(there, digests=False)
    assert told(facts_of(iter([(LAYER, 0)]))) == told(there)
    lost = {each.path for each, other in zip(there.entries, pieces.entries, strict=True) if each != other}
    assert lost == {b"opt/large"}, "only a large file has lost its digest"
    assert pack(pieces)


@pytest.mark.parametrize("size", [1, 100, 511, 512, 513, 70_000])
def test_pieces_may_be_cut_anywhere(size: int) -> None:
    cuts: list[tuple[bytes, int]] = []
    for data, left_out in cut(LAYER):
        parts = [data[at : at + size] for at in range(0, len(data), size)] if size > 1 else [data[:1], data[1:]]
        cuts += [(part, 0) for part in parts[:-1]] + [(parts[-1], left_out)]
    assert told(facts_of(iter(cuts))) == told(facts_of(cut(LAYER)))


def test_what_a_reader_wants_may_not_be_left_out() -> None:
    with pytest.raises(Rejected) as refused:
        facts_of(cut(LAYER, wanted=False))
    assert refused.value.code == "left-out"


@pytest.mark.parametrize("left_out", [1, 4745])
def test_no_more_may_be_left_out_than_a_file_has(left_out: int) -> None:
    at = LAYER.index(b"p" * 300)
    with pytest.raises(Rejected) as refused:
        facts_of(iter([(LAYER[: at + 256], 4744), (b"", left_out)]))
    assert refused.value.code == "left-out"


def test_what_is_left_out_counts_against_the_ceiling_of_bytes() -> None:
    facts = facts_of(cut(LAYER), Limits(uncompressed_layer_bytes=1 << 20))
    assert facts.coverage == "partial"
    assert facts.diff_id == ""


def test_pieces_travel_whole_in_a_frame() -> None:
    sent = [(b"abc", 0), (b"", 7), (b"d" * 600, 1 << 40)]
    body = b"".join(frames.piece(*each) for each in sent)
    assert list(frames.pieces(memoryview(body))) == sent
    for end in (1, 11, 13, len(body) - 1):
        with pytest.raises(frames.ProtocolBroken):
            list(frames.pieces(memoryview(body)[:end]))


def planned(elf: bytes) -> list[tuple[int, int]]:
    """Ranges as an overlay reader comes to them: asked for until nothing more is wanted."""
    have: list[tuple[int, int]] = [(0, HEAD_BYTES)]
    for _ in range(5):
        ranges = plan_ranges(len(elf), [(start, elf[start:end]) for start, end in have])
        if ranges == have:
            break
        have = ranges
    return have


def test_of_a_large_elf_file_the_planned_ranges_give_all_its_facts() -> None:
    elf = c("char large[6 << 20] = {1};\n" + caller("libone.so"), libs={"libone.so": library("libone.so")})
    ranges = planned(elf)
    assert sum(end - start for start, end in ranges) < len(elf) // 4  # one MiB of data is where Go would have its mark
    reader = ElfReader(len(elf))
    at = 0
    for start, end in ranges:
        if start > at:
            reader.leave_out(start - at)
        reader.feed(elf[start:end])
        at = end
    reader.leave_out(len(elf) - at)
    sparse, whole_file = reader.finish(), read_elf(elf)
    assert sparse.missed == ()
    assert (sparse.facts, sparse.symbols) == (whole_file.facts, whole_file.symbols)


@pytest.mark.parametrize("cut", [0, 4, 64, 4096, 100_000])
def test_a_plan_for_a_broken_file_ends(cut: int) -> None:
    elf = c(caller("libone.so"), libs={"libone.so": library("libone.so")})
    claimed = 1 << 40
    ranges = plan_ranges(claimed, [(0, elf[:cut])])
    assert all(0 <= start < end <= claimed for start, end in ranges)


def test_a_small_elf_file_is_not_to_be_left_out_in_part() -> None:
    with pytest.raises(Rejected):
        ElfReader(1000).leave_out(1)
