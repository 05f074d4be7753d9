"""Members as Go's archive/tar has them. The comparison with Go itself is tests/oracle/test_gotar.py; here are its reasons."""

from __future__ import annotations

import random
import time

import pytest

from analyzers.errors import Rejected
from analyzers.limits import Limits
from analyzers.tar import TarReader
from analyzers.tar.fields import numeric, parse_pax
from analyzers.tar.members import Member, xattr
from tests.make.tars import (
    BLOCK,
    END,
    base256,
    header,
    long_name,
    member,
    octal,
    old_sparse,
    padded,
    pax,
    record,
    sparse_0_1,
    sparse_1_0,
)

A = member(b"a", b"first")
Z = member(b"z", b"last")


class Seen:
    """A visitor that keeps every member and its content."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.bodies: list[bytearray] = []
        self.notes: list[tuple[str, bytes]] = []

    def note(self, code: str, name: bytes) -> None:
        self.notes.append((code, name))

    def member(self, member: Member, head: bytes) -> Seen:
        self.members.append(member)
        self.bodies.append(bytearray())
        return self

    def feed(self, view: memoryview) -> None:
        self.bodies[-1] += view

    def close(self) -> None:
        self.bodies[-1] += b""


def read(tar: bytes, step: int = 1 << 18, limits: Limits | None = None) -> Seen:
    seen = Seen()
    reader = TarReader(seen, limits or Limits())
    for at in range(0, len(tar), step):
        reader.feed(tar[at : at + step])
    reader.finish()
    return seen


def names(tar: bytes) -> list[bytes]:
    return [item.name for item in read(tar).members]


def code(tar: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Rejected) as caught:
        read(tar, limits=limits)
    return caught.value.code


@pytest.mark.parametrize("step", [1, 100, 511, 513, 1 << 18])
def test_members_and_content_do_not_depend_on_the_chunks(step: int) -> None:
    tar = A + pax({"path": b"long/" * 50}) + member(b"x", bytes(range(256)) * 9) + sparse_1_0(b"s", 3000, [(5, b"abc")]) + Z + END
    seen = read(tar, step)
    assert [item.name for item in seen.members] == [b"a", b"long/" * 50, b"s", b"z"]
    assert seen.bodies == [b"first", bytes(range(256)) * 9, bytes(5) + b"abc" + bytes(2992), b"last"]
    assert [tar[item.offset : item.offset + 2] for item in seen.members if item.name in (b"a", b"z")] == [b"fi", b"la"]


def test_h012_a_negative_size_is_a_bad_tar_wherever_it_stands() -> None:
    negative = member(b"b", b"", size=base256(-512, 12))
    assert code(negative + Z + END) == "bad-tar"
    assert code(A + negative + Z + END) == "bad-tar"


def test_h013_a_size_of_two_to_the_62_is_truncated_without_reading_or_allocating_it() -> None:
    started = time.process_time()
    assert code(member(b"a", b"x", size=base256(1 << 62, 12))) == "truncated"
    assert time.process_time() - started < 5  # the wrong way takes minutes


def test_h014_the_size_of_a_pax_header_wins_over_the_headers() -> None:
    larger = pax({"size": b"1024"}) + header(b"a", size=5) + member(b"inner", b"y") + Z + END
    assert names(larger) == [b"a", b"z"]
    smaller = pax({"size": b"0"}) + member(b"a", member(b"inner", b"y")) + Z + END
    assert names(smaller) == [b"a", b"inner", b"z"]


def test_h015_a_pax_size_is_for_the_file_and_not_for_the_long_name_between() -> None:
    tar = pax({"size": b"512"}) + long_name(b"long-name-13x") + header(b"f", size=16) + member(b"hidden", b"") + Z + END
    assert names(tar) == [b"long-name-13x", b"z"]


@pytest.mark.parametrize("long_name_first", [True, False])
def test_h016_a_gnu_name_wins_over_a_pax_path_and_is_remarked_on(long_name_first: bool) -> None:
    both = [pax({"path": b"pax-name"}), long_name(b"gnu-name")]
    seen = read(b"".join(reversed(both) if long_name_first else both) + A + END)
    assert [item.name for item in seen.members] == [b"gnu-name"]
    assert seen.notes == [("ambiguous-name", b"gnu-name")]


def test_h016_the_same_name_said_twice_is_not_ambiguous() -> None:
    assert read(pax({"path": b"name"}) + long_name(b"name") + A + END).notes == []


def test_h017_a_global_header_changes_no_member_and_is_remarked_on() -> None:
    seen = read(pax({"path": b"everywhere", "size": b"3"}, b"g") + A + Z + END)
    assert [(item.name, item.size) for item in seen.members] == [(b"a", 5), (b"z", 4)]
    assert seen.notes == [("global-pax", b"")]
    assert read(pax({"comment": b"git commit"}, b"g") + A + END).notes == []


@pytest.mark.parametrize(
    "records",
    [
        b"99 path=abc\n",
        b"5 path=abc\n",
        b"0 path=abc\n",
        b"12 path=abcd",
        b"12path=abcd\n",
        b"12 pathabcd\n",
        record(b"path", b"a\0b"),
        record(b"k\0", b"v"),
        record(b"", b"v"),
        record(b"size", b"0x10"),
        record(b"size", b" 5"),
        record(b"size", b"-1"),
        record(b"size", b"9" * 5000),
        record(b"uid", b"1_0"),
    ],
)
def test_h018_a_broken_pax_record_is_a_bad_tar(records: bytes) -> None:
    assert code(pax(records) + A + Z + END) == "bad-tar"


def test_h018_an_empty_value_keeps_the_headers_own() -> None:
    assert names(pax({"path": b""}) + A + END) == [b"a"]


def test_h019_a_wrong_checksum_is_a_bad_tar() -> None:
    assert code(A + member(b"b", b"2", checksum=1) + Z + END) == "bad-tar"


def test_h020_ends_are_those_of_go() -> None:
    assert code(A + bytes(BLOCK) + Z + END) == "bad-tar"
    assert names(A + END + Z) == [b"a"]
    assert names(A + END + b"garbage" * 99) == [b"a"]
    assert names(A + Z) == [b"a", b"z"]
    assert names(A + bytes(BLOCK)) == [b"a"]
    assert names(b"") == []
    assert code(A + Z[:300]) == "truncated"


def test_h020_what_follows_the_end_is_remarked_on_unless_it_is_zeros() -> None:
    for rest, remarked in ((b"", False), (bytes(9000), False), (bytes(9000) + b"x", True)):
        reader = TarReader(Seen())
        for at in range(0, len(A + END + rest), 1000):
            reader.feed((A + END + rest)[at : at + 1000])
        reader.finish()
        assert reader.ended
        assert reader.trailing is remarked


def test_h021_extended_headers_have_a_size_and_a_number() -> None:
    assert code(pax({"path": b"x"}) * 2000 + A + END) == "bad-tar"
    assert names(pax({"path": b"x"}) * 128 + A + END) == [b"x"]
    assert code(header(b"x", kind=b"x", size=100 << 20) + bytes(1 << 20)) == "bad-tar"
    assert len(names(long_name(b"n" * ((1 << 20) - 1)) + A + END)[0]) == (1 << 20) - 1
    assert code(pax({"comment": b"x"}, b"g") * 200 + A + END) == "bad-tar"


def test_h022_a_sparse_size_is_logical_only() -> None:
    huge = 10**12
    for tar in (
        sparse_1_0(b"s", huge, [(7, b"abc")]),
        sparse_0_1(b"s", huge, [(7, b"abc")]),
        old_sparse(b"s", huge % 8**11, [(7, b"abc")]),
    ):
        seen = read(tar + Z + END)
        assert [item.name for item in seen.members] == [b"s", b"z"]
        assert not seen.members[0].whole
        assert seen.bodies == [b"", b"last"]


def test_h022_a_sparse_map_has_a_ceiling_and_is_never_believed() -> None:
    assert code(sparse_1_0(b"s", 10, [(0, b"abc")], count=10**12) + END) == "bad-tar"
    body = b"1000000\n" + b"1\n" * (1 << 20)
    records = {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0"}
    assert code(pax(records) + member(b"s", body) + END) == "bad-tar"
    endless = (octal(0, 12) + octal(0, 12)) * 21 + b"\1" + bytes(7)
    assert (
        code(old_sparse(b"s", 10, [(0, b"")], more=((0, b""),))[: 2 * BLOCK - 8] + b"\1" + bytes(7) + endless * 3000) == "bad-tar"
    )


def test_h022_holes_are_zeros_within_the_layers_allowance() -> None:
    limits = Limits(sparse_hole_bytes=5000)
    seen = read(sparse_1_0(b"one", 4000, [(3000, b"abc")]) + sparse_1_0(b"two", 4000, [(3000, b"abc")]) + END, limits=limits)
    assert [item.whole for item in seen.members] == [True, False]
    assert seen.bodies == [bytes(3000) + b"abc" + bytes(997), b""]


def test_h023_times_beyond_64_bits_are_a_bad_tar() -> None:
    assert code(pax({"mtime": b"9" * 400}) + A + END) == "bad-tar"
    assert code(pax({"mtime": str(1 << 63).encode()}) + A + END) == "bad-tar"
    assert names(pax({"mtime": b"-1.5"}) + A + END) == [b"a"]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_h024_types_without_content_have_none_whatever_their_size_says(kind: bytes) -> None:
    inner = member(b"inner", b"x" * 512)
    assert names(header(b"p", kind=kind, size=len(inner)) + inner + Z + END) == [b"p", b"inner", b"z"]


def test_h025_a_regular_name_with_a_slash_stays_a_file_and_type_nul_becomes_a_directory() -> None:
    seen = read(member(b"dir/", b"x") + header(b"dir/", kind=b"\0") + END)
    assert [chr(item.type) for item in seen.members] == ["0", "5"]


def test_h027_a_record_of_two_megabytes_of_digits_costs_linear_time() -> None:
    body = (b"1234567890 " * 200_000)[: (1 << 20) - 1]
    started = time.process_time()
    for _ in range(5):
        with pytest.raises(Rejected, match="bad-tar"):
            parse_pax(body)
    assert time.process_time() - started < 5  # the wrong way takes minutes


def test_h029_numbers_are_taken_as_they_are() -> None:
    seen = read(
        header(b"c", kind=b"3", major=base256(1 << 40, 8), minor=base256(-3, 8), mode=0o4755, uid=base256(1 << 40, 8)) + END
    )
    item = seen.members[0]
    assert (item.major, item.minor, item.mode, item.uid) == (1 << 40, -3, 0o4755, 1 << 40)


def test_h030_a_million_attributes_are_bounded_by_their_header() -> None:
    records = b"".join(record(b"SCHILY.xattr.user.%d" % number, b"") for number in range(30_000))
    seen = read(pax(records + record(b"SCHILY.xattr.security.capability", b"\1\0")) + A + END)
    assert xattr(seen.members[0], b"security.capability") == b"\1\0"
    assert code(pax(records * 2) + A + END) == "bad-tar"


def test_numbers_are_read_as_go_reads_them() -> None:
    assert numeric(b"0000755\0") == 0o755
    assert numeric(b"  755 \0 ") == 0o755
    assert numeric(bytes(8)) == 0
    assert numeric(base256(-1, 12)) == -1
    assert numeric(base256((1 << 63) - 1, 12)) == (1 << 63) - 1
    for field in (base256(1 << 63, 12), base256(-(1 << 63) - 1, 12), b"0o17\0\0\0\0", b"9\0", b"1 2\0"):
        with pytest.raises(Rejected, match="bad-tar"):
            numeric(field)


def test_nothing_but_rejected_escapes_whatever_the_bytes() -> None:
    chance = random.Random(97)
    codes = set()
    good = (
        A
        + pax({"path": b"p", "size": b"4"})
        + Z
        + sparse_1_0(b"s", 900, [(5, b"abc")])
        + old_sparse(b"o", 900, [(5, b"abc")])
        + long_name(b"n")
        + A
    )
    for _ in range(3000):
        body = bytearray(good + END)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(body))
            body[at] = chance.choice((0, 0x20, 0x30, 0x37, 0x80, 0xFF, chance.randrange(256)))
            if chance.random() < 0.7:
                start = at - at % BLOCK
                block = body[start : start + BLOCK]
                body[start + 148 : start + 156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 256)
        try:
            read(bytes(body), step=chance.choice((1 << 18, 777)))
        except Rejected as rejected:
            codes.add(rejected.code)
    assert codes == {"bad-tar", "truncated"}


def test_padding_may_be_missing_at_the_very_end() -> None:
    assert names(A[: BLOCK + 5]) == [b"a"]
    assert padded(b"first") == A[BLOCK:]
