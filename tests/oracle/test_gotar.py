"""Our tar reader against Go's archive/tar: the same members, the same fields, and an error where Go has one."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyzers.errors import Rejected
from analyzers.tar import TarReader
from analyzers.tar.members import Member, xattr
from tests.make.tars import (
    END,
    GNU,
    V7,
    base256,
    header,
    long_name,
    member,
    old_sparse,
    padded,
    pax,
    record,
    sparse_0_1,
    sparse_1_0,
)

SOURCE = Path(__file__).parent / "gotar"
READ_BY_GO = 1 << 20
Listing = dict[str, Any]


@pytest.fixture(scope="session")
def go_tar(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], list[Listing]]:
    """Lists many tars with Go at once."""
    if shutil.which("go") is None:
        pytest.skip("no Go compiler on this machine")
    place = tmp_path_factory.mktemp("gotar")
    command = ["go", "build", "-o", str(place / "gotar"), "."]
    subprocess.run(command, cwd=SOURCE, check=True, timeout=240, capture_output=True)

    def listings(tars: list[bytes]) -> list[Listing]:
        stdin = b"".join(struct.pack("<Q", len(tar)) + tar for tar in tars)
        done = subprocess.run([str(place / "gotar")], input=stdin, capture_output=True, check=True, timeout=240)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return listings


class Lister:
    """A visitor that writes down what the Go program writes down."""

    def __init__(self) -> None:
        self.members: list[Listing] = []

    def note(self, code: str, name: bytes) -> None:
        pass

    def member(self, member: Member, head: bytes) -> Body:
        self.members.append(
            {
                "Name": member.name.hex(), "Link": member.link.hex(), "Type": member.type, "Size": member.size,
                "Mode": member.mode, "Uid": member.uid, "Gid": member.gid, "Major": member.major, "Minor": member.minor,
                "Capability": xattr(member, b"security.capability").hex(), "Body": "",
            }
        )  # fmt: skip
        return Body(self.members[-1], head)


class Body:
    def __init__(self, item: Listing, head: bytes) -> None:
        self._item = item
        self._head = head
        self._hash = hashlib.sha256()
        self._first = b""

    def feed(self, view: memoryview) -> None:
        self._hash.update(view)
        if len(self._first) < len(self._head):
            self._first += bytes(view)

    def close(self) -> None:
        assert self._first.startswith(self._head), "the head shown with a member is not its content"
        if self._item["Size"] <= READ_BY_GO:
            self._item["Body"] = self._hash.hexdigest()


def ours(tar: bytes, step: int) -> Listing:
    lister = Lister()
    reader = TarReader(lister)
    try:
        for start in range(0, len(tar), step):
            reader.feed(tar[start : start + step])
        reader.finish()
    except Rejected as rejected:
        return {"Members": lister.members, "Error": str(rejected)}
    return {"Members": lister.members, "Error": ""}


def difference(tar: bytes, go: Listing, step: int = 1 << 18) -> str:
    mine = ours(tar, step)
    if bool(mine["Error"]) != bool(go["Error"]):
        unread = any(item["Size"] > READ_BY_GO for item in go["Members"])
        if unread and "sparse" in mine["Error"]:
            return ""  # the Go program does not read what is logically huge, so it cannot see what we see
        return f"ours {mine['Error'] or 'fine'!r}, Go's {go['Error'] or 'fine'!r}"
    if not go["Error"]:
        return "" if mine["Members"] == go["Members"] else f"ours {mine['Members']}\nGo's {go['Members']}"
    # Where both fail, members announced so far agree; one may be told of the failing member and the other not.
    shared = min(len(mine["Members"]), len(go["Members"]))
    names = ("Name", "Type", "Size", "Link")
    same = all(mine["Members"][i][key] == go["Members"][i][key] for i in range(shared) for key in names)
    close = abs(len(mine["Members"]) - len(go["Members"])) <= 1
    return "" if same and close else f"before the error: ours {mine['Members']}\nGo's {go['Members']}"


A = member(b"a", b"first")
Z = member(b"z", b"last")


def star(prefix: bytes = b"dir", atime: bytes = b"00000000000\0", ctime: bytes = b"00000000000\0") -> bytes:
    return prefix.ljust(131, b"\0") + atime + ctime + bytes(8) + b"tar\0"


INNER = member(b"inner", b"y")
FOUR = [(0, b"a"), (600, b"b"), (1200, b"c"), (1800, b"d")]
HAND_MADE: dict[str, bytes] = {
    "empty": b"",
    "only-end": END,
    "plain": A + Z + END,
    "no-trailer": A + Z,
    "one-zero-block-at-end": A + bytes(512),
    "one-zero-block-and-a-cut-one": A + bytes(700),
    "one-zero-block-then-members": A + bytes(512) + Z + END,
    "two-zero-blocks-then-members": A + END + Z,
    "trailing-garbage": A + END + b"garbage" * 100,
    "cut-in-header": A + Z[:300],
    "cut-in-data": member(b"a", b"x" * 600)[: 512 + 550],
    "cut-in-padding": A[: 512 + 100],
    "cut-right-after-data": A[: 512 + 5],
    "bad-checksum-first": member(b"a", b"1", checksum=1) + Z + END,
    "bad-checksum-middle": A + member(b"b", b"2", checksum=1) + Z + END,
    "signed-checksum": header(b"\xff\xfe", checksum=sum(header(b"\xff\xfe")[:148] + header(b"\xff\xfe")[156:]) + 256 - 512) + END,
    "checksum-with-spaces": header(b"a", checksum=b"  %o\0" % (sum(header(b"a")[:148] + header(b"a")[156:]) + 256)) + END,
    "checksum-not-octal": header(b"a", checksum=b"0O1234\0 ") + END,
    "checksum-underscore": header(b"a", checksum=b"01_123\0 ") + END,
    "name-without-nul": member(b"n" * 100, b"x") + END,
    "prefix": member(b"name", b"x", prefix=b"some/where") + END,
    "prefix-full": member(b"n" * 100, b"x", prefix=b"p" * 155) + END,
    "empty-name": member(b"", b"x") + Z + END,
    "v7": member(b"a", b"x", magic=V7) + Z + END,
    "v7-directory-by-slash": header(b"d/", kind=b"\0", size=512, magic=V7) + Z + END,
    "regular-with-slash": member(b"d/", b"x") + Z + END,
    "type-nul": member(b"a", b"x", kind=b"\0") + END,
    "star": header(b"a", tail=star()) + END,
    "star-bad-time": header(b"a", tail=star(atime=b"zzzzzzzzzzzz")) + END,
    "gnu": member(b"a", b"x", magic=GNU) + END,
    "gnu-prefix-from-old-go": header(b"a", magic=GNU, tail=b"prefix/of/old/go".ljust(155, b"\0") + bytes(12)) + END,
    "gnu-prefix-not-ascii": header(b"a", magic=GNU, tail="prefix/of/öld/go".encode().ljust(155, b"\0") + bytes(12)) + END,
    "gnu-times": header(b"a", magic=GNU, tail=b"00000000001\0" * 2) + END,
    "negative-size": member(b"a", b"", size=base256(-512, 12)) + Z + END,
    "negative-size-later": A + member(b"b", b"", size=base256(-512, 12)) + Z + END,
    "negative-size-directory": header(b"d", kind=b"5", size=base256(-512, 12)) + Z + END,
    "size-2-62": member(b"a", b"x", size=base256(1 << 62, 12)) + Z + END,
    "size-2-63": member(b"a", b"x", size=base256(1 << 63, 12)) + Z + END,
    "size-2-90": member(b"a", b"x", size=b"\x80\xff" + bytes(10)) + Z + END,
    "size-negative-huge": member(b"a", b"x", size=b"\xc0" + bytes(11)) + Z + END,
    "size-base256": member(b"a", b"12345", size=base256(5, 12)) + Z + END,
    "size-spaces": member(b"a", b"12345", size=b"         5 \0") + Z + END,
    "size-nine": member(b"a", b"12345", size=b"00000000009\0") + Z + END,
    "size-twelve-digits": member(b"a", b"12345", size=b"000000000005") + Z + END,
    "size-empty": member(b"a", b"", size=bytes(12)) + Z + END,
    "size-sign": member(b"a", b"12345", size=b"+0000000005\0") + Z + END,
    "size-nul-inside": member(b"a", b"12345", size=b"0000005\0zzz\0") + Z + END,
    "mode-bad": header(b"a", mode=b"zzz") + END,
    "mode-base256": header(b"a", mode=base256(0o755, 8)) + END,
    "uid-negative": header(b"a", uid=base256(-1, 8)) + END,
    "uid-base256": header(b"a", uid=base256(1 << 40, 8)) + END,
    "mtime-bad": header(b"a", mtime=b"yesterday") + END,
    "mtime-negative": header(b"a", mtime=base256(-5, 12)) + END,
    "device-numbers": header(b"c", kind=b"3", major=7, minor=0o7777777) + END,
    "device-numbers-base256": header(b"c", kind=b"4", major=base256(1 << 40, 8), minor=base256(-3, 8)) + END,
    "device-numbers-bad": header(b"c", kind=b"0", major=b"x") + END,
    "links": header(b"l", kind=b"2", link=b"../x") + header(b"h", kind=b"1", link=b"a" * 100) + END,
    **{f"payload-type-{kind}": header(b"p", kind=b"%d" % kind, size=1024) + INNER + Z + END for kind in range(8)},
    **{f"unknown-type-{kind}": header(b"p", kind=kind.encode(), size=5) + padded(b"12345") + Z + END for kind in "ZXVAMNDI7"},
    "pax-path": pax({"path": b"long/" * 60 + b"x"}) + A + Z + END,
    "pax-all": pax({"path": b"p", "linkpath": b"q", "uid": b"12", "gid": b"13", "mtime": b"1.5", "uname": b"u"}) + A + Z + END,
    "pax-size-larger": pax({"size": b"1024"}) + member(b"a", b"x" * 5) + member(b"inner", b"y") + Z + END,
    "pax-size-smaller": pax({"size": b"0"}) + member(b"a", member(b"inner", b"y")) + Z + END,
    "pax-size-then-long-name": pax({"size": b"2048"}) + long_name(b"long-name-x") + member(b"f", b"x" * 16) + INNER + END,
    "pax-size-negative": pax({"size": b"-1"}) + A + Z + END,
    "pax-size-negative-directory": pax({"size": b"-1"}) + header(b"d", kind=b"5") + Z + END,
    "pax-size-hex": pax({"size": b"0x10"}) + A + Z + END,
    "pax-size-space": pax({"size": b" 5"}) + A + Z + END,
    "pax-size-plus": pax({"size": b"+5"}) + A + Z + END,
    "pax-size-underscore": pax({"size": b"0_5"}) + A + Z + END,
    "pax-size-long-zeros": pax({"size": b"0" * 99 + b"5"}) + A + Z + END,
    "pax-size-5000-digits": pax({"size": b"9" * 5000}) + A + Z + END,
    "pax-size-empty": pax({"size": b""}) + A + Z + END,
    "pax-size-bad-on-link": pax({"size": b"x"}) + header(b"l", kind=b"2", link=b"t") + Z + END,
    "pax-path-empty": pax({"path": b""}) + A + END,
    "pax-path-nul": pax({"path": b"a\0b"}) + A + END,
    "pax-xattr-nul": pax({"SCHILY.xattr.security.capability": b"\1\0\0\2"}) + A + END,
    "pax-key-nul": pax(record(b"k\0k", b"v")) + A + END,
    "pax-key-empty": pax(record(b"", b"v")) + A + END,
    "pax-repeated-key": pax(record(b"path", b"one") + record(b"path", b"two")) + A + END,
    "pax-length-short": pax(b"5 path=abc\n") + A + END,
    "pax-length-long": pax(b"99 path=abc\n") + A + END,
    "pax-length-zero": pax(b"0 path=abc\n") + A + END,
    "pax-length-signed": pax(b"+13 path=abc\n") + A + END,
    "pax-length-zeros": pax(b"00000000000000000000000000000000000000000000000059 path=abc\n") + A + END,
    "pax-no-newline": pax(b"12 path=abcd") + A + END,
    "pax-no-space": pax(b"12path=abcd\n") + A + END,
    "pax-no-equals": pax(b"12 pathabcd\n") + A + END,
    "pax-only-length": pax(b"3 \n") + A + END,
    "pax-five": pax(b"5 a=\n") + pax(b"5 a=b") + A + END,
    "pax-empty-body": pax(b"") + A + END,
    "pax-mtime-400-digits": pax({"mtime": b"9" * 400}) + A + END,
    "pax-mtime-fraction": pax({"mtime": b"-1.000000000000000001"}) + A + END,
    "pax-mtime-bad-fraction": pax({"mtime": b"1.x"}) + A + END,
    "pax-mtime-empty-seconds": pax({"mtime": b".5"}) + A + END,
    "pax-atime-bad": pax({"atime": b"x"}) + A + END,
    "pax-twice": pax({"path": b"one", "uid": b"5"}) + pax({"gid": b"7"}) + A + END,
    "pax-at-end": A + pax({"path": b"x"}),
    "pax-at-end-with-trailer": A + pax({"path": b"x"}) + END,
    "pax-and-long-name": pax({"path": b"pax-name"}) + long_name(b"gnu-name") + A + END,
    "long-name-and-pax": long_name(b"gnu-name") + pax({"path": b"pax-name"}) + A + END,
    "long-link": long_name(b"target", b"K") + header(b"l", kind=b"2", link=b"short") + Z + END,
    "long-name-empty": member(b"L", b"", kind=b"L") + A + END,
    "long-name-nul-inside": long_name(b"abc\0def") + A + END,
    "long-name-directory": long_name(b"dir/") + header(b"x", kind=b"\0") + END,
    "long-name-negative": header(b"L", kind=b"L", size=base256(-1, 12)) + A + END,
    "long-name-1-mib": long_name(b"n" * ((1 << 20) - 1)) + A + END,
    "long-name-over-1-mib": long_name(b"n" * (1 << 20)) + A + END,
    "global": pax({"path": b"g", "size": b"3"}, b"g") + A + Z + END,
    "global-broken": pax(b"nonsense", b"g") + A + Z + END,
    "global-bad-number": pax({"size": b"x"}, b"g") + A + Z + END,
    "global-between": pax({"path": b"x"}) + pax({"comment": b"c"}, b"g") + A + Z + END,
    "global-after-long-name": long_name(b"gnu") + pax({"comment": b"c"}, b"g") + A + Z + END,
    "old-sparse": old_sparse(b"s", 2000, [(0, b"abc"), (1000, b"def")]) + Z + END,
    "old-sparse-more": old_sparse(b"s", 9000, FOUR, more=((4000, b"eee"),)) + Z + END,
    "old-sparse-not-gnu": old_sparse(b"s", 2000, [(0, b"abc")], magic=b"ustar\x0000") + Z + END,
    "old-sparse-beyond": old_sparse(b"s", 4, [(2, b"abc")]) + Z + END,
    "old-sparse-cut": old_sparse(b"s", 9000, [(0, b"a")], more=((4000, b"eee"),))[:700],
    "sparse-1.0": sparse_1_0(b"s", 2000, [(0, b"abc"), (1000, b"def")]) + Z + END,
    "sparse-1.0-hole-first": sparse_1_0(b"s", 9000, [(5000, b"abc")]) + Z + END,
    "sparse-1.0-empty": sparse_1_0(b"s", 0, []) + Z + END,
    "sparse-1.0-hole-only": sparse_1_0(b"s", 3000, []) + Z + END,
    "sparse-1.0-count-small": sparse_1_0(b"s", 2000, [(0, b"abc"), (1000, b"def")], count=1) + Z + END,
    "sparse-1.0-count-large": sparse_1_0(b"s", 2000, [(0, b"abc")], count=3) + Z + END,
    "sparse-1.0-count-huge": sparse_1_0(b"s", 2000, [(0, b"abc")], count=10**12) + Z + END,
    "sparse-1.0-count-negative": sparse_1_0(b"s", 2000, [(0, b"abc")], count=-1) + Z + END,
    "sparse-1.0-overlap": sparse_1_0(b"s", 2000, [(0, b"abcdef"), (3, b"def")]) + Z + END,
    "sparse-1.0-no-content": pax({"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0"}) + member(b"s", b"") + Z + END,
    "sparse-1.0-directory": pax({"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0"}) + header(b"d", kind=b"5") + Z + END,
    "sparse-0.1": sparse_0_1(b"s", 2000, [(0, b"abc"), (1000, b"def")]) + Z + END,
    "sparse-0.1-blocks-wrong": sparse_0_1(b"s", 2000, [(0, b"abc")], blocks=2) + Z + END,
    "sparse-0.1-unreferenced": pax({"GNU.sparse.map": b"0,1", "GNU.sparse.numblocks": b"1", "GNU.sparse.size": b"9"})
    + member(b"s", b"abc") + Z + END,
    "sparse-0.1-missing": pax({"GNU.sparse.map": b"0,5", "GNU.sparse.numblocks": b"1", "GNU.sparse.size": b"9"})
    + member(b"s", b"abc") + Z + END,
    "sparse-0.1-directory": pax({"GNU.sparse.map": b"0,1", "GNU.sparse.numblocks": b"1"}) + header(b"d", kind=b"5") + Z + END,
    "sparse-0.0": pax(record(b"GNU.sparse.numblocks", b"1") + record(b"GNU.sparse.offset", b"2")
    + record(b"GNU.sparse.numbytes", b"3") + record(b"GNU.sparse.size", b"9")) + member(b"s", b"abc") + Z + END,
    "sparse-0.0-order": pax(record(b"GNU.sparse.numbytes", b"3") + record(b"GNU.sparse.offset", b"2")) + A + END,
    "sparse-unknown-version": pax({"GNU.sparse.major": b"2", "GNU.sparse.minor": b"0", "GNU.sparse.name": b"n"}) + A + Z + END,
    "sparse-name-nul": pax({"GNU.sparse.major": b"0", "GNU.sparse.minor": b"1", "GNU.sparse.name": b"n\0m",
    "GNU.sparse.map": b"", "GNU.sparse.numblocks": b"0"}) + member(b"s", b"") + Z + END,
}  # fmt: skip


def test_hand_made_tars_are_read_as_go_reads_them(go_tar: Callable[[list[bytes]], list[Listing]]) -> None:
    listings = go_tar(list(HAND_MADE.values()))
    found = {
        (name, step): text
        for (name, tar), go in zip(HAND_MADE.items(), listings, strict=True)
        for step in ((1 << 18, 700, 1) if len(tar) < 20_000 else (1 << 18, 700))
        if (text := difference(tar, go, step))
    }
    assert found == {}


def mutate(tar: bytes, chance: random.Random) -> bytes:
    """One to four changes of a kind that real damage and real malice make."""
    body = bytearray(tar)
    for _ in range(chance.randint(1, 4)):
        if not body:
            break
        at = chance.randrange(len(body))
        kind = chance.randrange(7)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            body[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del body[at:]
        elif kind == 3:
            start = at - at % 512
            body[start:start] = body[start : start + 512 * chance.randint(1, 3)]
        elif kind == 4:
            start = at - at % 512
            del body[start : start + 512]
        elif kind == 5:
            field, width = chance.choice(
                ((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
            )
            start = at - at % 512 + field
            body[start : start + width] = chance.choice(
                (bytes(width), b"0" * width, b"7" * width, b" " * width, b"\xff" * width, b"/" * width)
            )
        else:
            body[at:at] = chance.choice((b"\0", b"\n", b" ", b"1", b"="))
        if chance.random() < 0.8:
            mend(body)
    return bytes(body)


def mend(body: bytearray) -> None:
    """Makes the checksum of every block that looks like a header right again, so that mutants get further."""
    for start in range(0, len(body) - 511, 512):
        block = body[start : start + 512]
        if block[257:262] == b"ustar" or block[154:156] == b"\0 ":
            total = sum(block[:148]) + sum(block[156:]) + 256
            body[start + 148 : start + 156] = b"%06o\0 " % total


def test_seeded_mutants_are_read_as_go_reads_them(go_tar: Callable[[list[bytes]], list[Listing]]) -> None:
    chance = random.Random(20261124)
    seeds = [tar for tar in HAND_MADE.values() if 0 < len(tar) < 20_000]
    mutants = [mutate(chance.choice(seeds) + chance.choice(seeds), chance) for _ in range(1500)]
    found = [(mutant, text) for mutant, go in zip(mutants, go_tar(mutants), strict=True) if (text := difference(mutant, go))]
    assert found == []
