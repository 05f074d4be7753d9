"""A layer read in one pass: what stands in it, what was kept of its files, and what could not be read."""

from __future__ import annotations

import gzip
import hashlib
import random
import struct

import pytest

from analyzers.compression import zstd
from analyzers.errors import Rejected
from analyzers.facts import Coverage, Kind, LayerFacts, LayerNote, Unread
from analyzers.layer import LayerReader
from analyzers.limits import Limits
from analyzers.readers import FACTS_VERSION, READERS, TEXT_ENDINGS, wants_text
from tests.make.tars import BLOCK, END, GNU, base256, header, long_name, member, old_sparse, pax, record, sparse_1_0

ELF = b"\x7fELF\x02\x01\x01" + bytes(200)


def read(tar: bytes, *, step: int = 1 << 16, limits: Limits | None = None, **more: object) -> LayerFacts:
    reader = LayerReader(limits=limits or Limits(), **more)  # type: ignore[arg-type]
    for at in range(0, len(tar), step):
        reader.feed(tar[at : at + step])
    return reader.finish()


def code(tar: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Rejected) as caught:
        read(tar, limits=limits)
    return caught.value.code


def folder(name: bytes, mode: int = 0o755) -> bytes:
    return header(name, kind=b"5", mode=mode)


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, kind=b"1", link=target)


def paths(facts: LayerFacts) -> list[bytes]:
    return [entry.path for entry in facts.entries]


def found(facts: LayerFacts, path: bytes) -> tuple[Kind, int, bytes]:
    entry = facts.entries.get(path)
    assert entry is not None, f"{path!r} is not in {paths(facts)}"
    return entry.kind, entry.size, entry.link


def codes(facts: LayerFacts) -> list[str]:
    return [note.code for note in facts.notes]


# what is said of a layer


@pytest.mark.parametrize("step", [1, 333, 1 << 20])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_digests_and_sizes_are_those_of_the_bytes(step: int, pack: object) -> None:
    tar = folder(b"usr/") + member(b"usr/a", b"x" * 700) + END
    blob = pack(tar)  # type: ignore[operator]
    reader = LayerReader()
    for at in range(0, len(blob), step):
        reader.feed(memoryview(blob)[at : at + step])
    facts = reader.finish()
    assert facts.diff_id == reader.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert reader.blob_digest == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert (reader.bytes_in, reader.bytes_out, facts.size_bytes) == (len(blob), len(tar), len(tar))
    assert facts.coverage is Coverage.FULL


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_a_blob_whose_digest_is_checked_elsewhere_gives_the_same_facts(pack: object) -> None:
    tar = folder(b"usr/") + member(b"usr/a", b"x" * 700) + END
    blob = pack(tar)  # type: ignore[operator]
    reader = LayerReader(blob_digest="sha512:" + "5" * 128)
    reader.feed(blob)
    facts = reader.finish()
    assert reader.blob_digest == "sha512:" + "5" * 128
    assert facts.diff_id == reader.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()


def test_an_empty_layer_is_a_layer() -> None:
    for blob in (b"", END, gzip.compress(b""), gzip.compress(END)):
        facts = read(blob)
        assert len(facts.entries) == 0
        assert facts.coverage is Coverage.FULL


def test_every_kind_of_entry_is_kept_with_its_metadata() -> None:
    facts = read(
        folder(b"d/", 0o1777)
        + member(b"d/f", b"12345", mode=0o104755, uid=7, gid=8)
        + symlink(b"d/s", b"/abs//olute/../x")
        + hardlink(b"d/h", b"./d//f")
        + header(b"d/c", kind=b"3", major=1, minor=3, mode=0o666)
        + header(b"d/b", kind=b"4", major=8, minor=1)
        + header(b"d/p", kind=b"6")
        + END
    )
    assert {entry.path: (entry.kind, entry.mode, entry.size, entry.link, entry.device) for entry in facts.entries} == {
        b"d": (Kind.DIRECTORY, 0o1777, 0, b"", (0, 0)),
        b"d/f": (Kind.FILE, 0o4755, 5, b"", (0, 0)),
        b"d/s": (Kind.SYMLINK, 0o777, 0, b"/abs//olute/../x", (0, 0)),
        b"d/h": (Kind.HARDLINK, 0o644, 0, b"d/f", (0, 0)),
        b"d/c": (Kind.CHARACTER_DEVICE, 0o666, 0, b"", (1, 3)),
        b"d/b": (Kind.BLOCK_DEVICE, 0o644, 0, b"", (8, 1)),
        b"d/p": (Kind.FIFO, 0o644, 0, b"", (0, 0)),
    }


def test_a_capability_is_taken_from_the_pax_header() -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    facts = read(pax({"SCHILY.xattr.security.capability": capability}) + member(b"ping", b"x") + member(b"other", b"x") + END)
    assert [(entry.path, entry.capability) for entry in facts.entries] == [(b"other", b""), (b"ping", capability)]


# what is kept of files


def test_elf_files_have_facts_by_the_digest_of_their_content_whatever_their_name() -> None:
    facts = read(
        member(b"bin/a.txt", ELF) + member(b"bin/b", ELF) + member(b"bin/c", ELF + b"x") + member(b"short", b"\x7fEL") + END
    )
    digest = hashlib.sha256(ELF).digest()
    assert [entry.sha256 == digest for entry in facts.entries] == [True, True, False, False]
    assert set(facts.elf) == {digest, hashlib.sha256(ELF + b"x").digest()}
    assert facts.elf[digest].file_size == len(ELF)


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_scripts_have_their_first_256_bytes_kept(step: int) -> None:
    facts = read(
        member(b"a", b"#!/bin/sh\nexit") + member(b"b", b"#!" + b"x" * 999) + member(b"c", b"#") + member(b"d", b" #!") + END,
        step=step,
    )
    assert facts.heads == {b"a": b"#!/bin/sh\nexit", b"b": b"#!" + b"x" * 254}


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_the_few_text_files_that_rules_need_are_kept_whole(step: int) -> None:
    wanted = [b"etc/passwd", b"etc/group", b"usr/lib/os-release", b"etc/ld.so.cache", b"etc/ld.so.preload", b"etc/ld.so.conf",
              b"etc/ld.so.conf.d/x.conf", b"etc/ld-musl-x86_64.path", b"etc/nsswitch.conf", b"ld.so.conf.d/y.conf"]  # fmt: skip
    others = [b"etc/passwd-", b"etc/x.conf", b"etc/foo.path", b"etc/xpasswd", b"ld.so.conf.d/sub/y.conf"]
    body = bytes(range(256)) * 3
    facts = read(b"".join(member(name, body) for name in wanted + others) + member(b"group", b"") + END, step=step)
    assert facts.texts == {**dict.fromkeys(sorted(wanted), body), b"group": b""}


def test_the_cheap_first_look_misses_no_text_file() -> None:
    for name in (b"passwd", b"ld.so.cache", b"ld-musl-aarch64.path", b"ld.so.conf.d/a.conf", b"nsswitch.conf"):
        assert wants_text(b"etc/" + name, b"")
        assert name.endswith(TEXT_ENDINGS)


def test_content_is_hashed_from_the_floor_on() -> None:
    facts = read(member(b"at", b"x" * 1000) + member(b"below", b"x" * 999) + END, limits=Limits(hash_floor_bytes=1000))
    assert [entry.sha256 for entry in facts.entries] == [hashlib.sha256(b"x" * 1000).digest(), b""]


def test_the_facts_version_names_every_reader() -> None:
    assert all(f"{reader.name}{reader.version}" in FACTS_VERSION for reader in READERS)


def test_a_file_replaced_in_its_own_layer_leaves_nothing_of_itself() -> None:
    facts = read(
        member(b"etc/passwd", b"old") + member(b"run", b"#!/old\n") + member(b"prog", ELF) + member(b"x", b"keep")
        + member(b"etc/passwd", b"new") + member(b"run", b"plain") + symlink(b"prog", b"x") + END
    )  # fmt: skip
    assert facts.texts == {b"etc/passwd": b"new"}
    assert facts.heads == {}
    assert facts.elf == {}
    assert facts.symbols == {}
    assert found(facts, b"prog") == (Kind.SYMLINK, 0, b"x")


# second pass


def test_ranges_needed_too_late_are_named_and_a_second_pass_reads_them() -> None:
    """PT_DYNAMIC behind the tables it points to, in a file too large to be kept whole."""
    size = 3 << 20
    image = bytearray(size)
    phdrs = [(1, 4, 0, 0, 0, size, size, 4096), (2, 4, size - 4096, size - 4096, 0, 96, 96, 8)]
    image[:64] = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    for number, (kind, flags, offset, vaddr, paddr, filesz, memsz, align) in enumerate(phdrs):
        struct.pack_into("<IIQQQQQQ", image, 64 + 56 * number, kind, flags, offset, vaddr, paddr, filesz, memsz, align)
    image[200_000:200_020] = b"\0libc.so.6\0libm.so\0\0"
    struct.pack_into("<12Q", image, size - 4096, 5, 200_000, 10, 20, 1, 1, 1, 11, 0, 0, 0, 0)
    limits = Limits(elf_kept_bytes=64 << 10)
    tar = member(b"usr/lib/late.so", bytes(image)) + END
    first = LayerReader(limits=limits)
    first.feed(tar)
    facts = first.finish()
    assert set(first.missed) == {b"usr/lib/late.so"}
    assert facts.coverage is Coverage.PARTIAL
    assert facts.unread == (Unread(b"usr/lib/late.so", "elf-missed-ranges"),)
    second = LayerReader(limits=limits, known_ranges=first.missed)
    second.feed(tar)
    again = second.finish()
    assert second.missed == {}
    assert [elf.needed for elf in again.elf.values()] == [(b"libc.so.6", b"libm.so")]
    assert again.coverage is Coverage.FULL


# hostile.md A


def test_h001_names_are_cleaned_into_the_root_and_an_escape_is_remarked_on() -> None:
    facts = read(
        member(b"/abs", b"") + member(b"./dot//x/./y/", b"") + member(b"a/../../../up", b"") + member(b"in/../side", b"")
        + folder(b"./") + folder(b"../") + member(b"..", b"") + END
    )  # fmt: skip
    assert paths(facts) == [b"", b"abs", b"dot/x/y", b"side", b"up"]
    assert LayerNote("path-escape", b"up") in facts.notes
    assert LayerNote("path-escape", b"side") not in facts.notes


def test_h002_content_below_a_link_of_the_same_layer_belongs_to_the_path_inside_the_root() -> None:
    facts = read(
        symlink(b"out", b"../../..")
        + member(b"out/etc/passwd", b"root")
        + symlink(b"abs", b"/usr")
        + member(b"abs/bin/x", b"x")
        + END
    )
    assert paths(facts) == [b"abs", b"etc/passwd", b"out", b"usr/bin/x"]
    assert facts.texts == {b"etc/passwd": b"root"}


def test_h002_links_to_links_are_followed_and_relative_ones_from_where_they_stand() -> None:
    facts = read(folder(b"a") + symlink(b"a/l", b"../b") + symlink(b"b", b"c/d") + member(b"a/l/f", b"x") + END)
    assert paths(facts) == [b"a", b"a/l", b"b", b"c/d/f"]


def test_h003_the_target_of_a_hard_link_is_a_path_inside_the_root() -> None:
    facts = read(
        member(b"bin/a", b"x") + hardlink(b"b", b"/bin/a") + hardlink(b"c", b"../../bin/a") + hardlink(b"d", b"gone") + END
    )
    assert {path: found(facts, path)[2] for path in (b"b", b"c", b"d")} == {b"b": b"bin/a", b"c": b"bin/a", b"d": b"gone"}


def test_h003_a_hard_link_keeps_the_content_that_its_target_had() -> None:
    facts = read(member(b"a", ELF) + hardlink(b"b", b"a") + hardlink(b"c", b"b") + member(b"a", b"replaced") + END)
    assert found(facts, b"a") == (Kind.FILE, 8, b"")
    assert found(facts, b"b") == (Kind.FILE, len(ELF), b"")
    assert found(facts, b"c") == (Kind.HARDLINK, 0, b"b")
    assert set(facts.elf) == {hashlib.sha256(ELF).digest()}


def test_h003_a_hard_link_through_a_link_of_the_same_layer_leads_where_that_leads() -> None:
    facts = read(member(b"usr/bin/a", b"x") + symlink(b"bin", b"usr/bin") + hardlink(b"b", b"bin/a") + END)
    assert found(facts, b"b") == (Kind.HARDLINK, 0, b"usr/bin/a")


def test_h004_a_hard_link_to_a_symbolic_link_is_that_link_when_it_is_a_parent() -> None:
    facts = read(symlink(b"l", b"/target") + hardlink(b"h", b"l") + member(b"h/f", b"x") + END)
    assert found(facts, b"h") == (Kind.HARDLINK, 0, b"l")
    assert found(facts, b"target/f") == (Kind.FILE, 1, b"")


def test_h005_parents_that_loop_cannot_be_unpacked() -> None:
    assert code(symlink(b"a", b"b") + symlink(b"b", b"a") + member(b"a/f", b"x") + END) == "symlink-loop"
    facts = read(symlink(b"a", b"b") + symlink(b"b", b"a") + member(b"f", b"x") + END)
    assert paths(facts) == [b"a", b"b", b"f"]


def test_h005_chains_of_links_times_members_have_a_ceiling() -> None:
    chain = b"".join(symlink(b"l%d" % number, b"l%d/../l%d" % (number + 1, number + 1)) for number in range(200))
    tar = chain + b"".join(member(b"l0/f%d" % number, b"x") for number in range(300)) + END
    assert b"l200/f7" in paths(read(tar))
    facts = read(tar, limits=Limits(layer_replay_steps=20_000))
    assert facts.unread == (Unread(b"", "entry-limit"),)
    assert facts.coverage is Coverage.PARTIAL


def test_h006_a_directory_that_becomes_a_link_takes_its_content_away() -> None:
    facts = read(folder(b"d") + member(b"d/old", b"x") + symlink(b"d", b"e") + member(b"d/new", b"x") + END)
    assert paths(facts) == [b"d", b"e/new"]
    assert found(facts, b"d") == (Kind.SYMLINK, 0, b"e")


def test_h006_a_link_that_becomes_a_directory_hides_what_lower_layers_had() -> None:
    facts = read(symlink(b"d", b"e") + member(b"d/first", b"x") + folder(b"d") + member(b"d/second", b"x") + END)
    assert paths(facts) == [b"d", b"d/second", b"e/first"]
    assert facts.opaques == (b"d",)


def test_h006_a_member_below_a_file_cannot_be_unpacked() -> None:
    assert code(member(b"f", b"x") + member(b"f/g", b"x") + END) == "parent-not-directory"


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"d/.wh.", b"d/.wh..", b"d/.wh..."])
def test_h007_whiteouts_of_nothing_of_a_directory_itself_or_of_its_parent_are_invalid(name: bytes) -> None:
    assert code(member(name, b"") + END) == "invalid-whiteout"


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_h008_a_whiteout_never_hides_what_its_own_layer_adds(whiteout_first: bool) -> None:
    members = [member(b"d/.wh.f", b""), member(b"d/f", b"new")]
    facts = read(b"".join(members if whiteout_first else reversed(members)) + END)
    assert facts.whiteouts == (b"d/f",)
    assert paths(facts) == [b"d/f"]


def test_h009_opaque_markers_and_whiteouts_do_not_depend_on_order() -> None:
    members = [
        folder(b"d"),
        member(b"d/new", b"x"),
        member(b"d/.wh..wh..opq", b""),
        member(b"d/.wh.gone", b""),
        member(b".wh..wh..opq", b""),
    ]
    chance = random.Random(9)
    seen = set()
    for _ in range(12):
        chance.shuffle(members)
        facts = read(b"".join(members) + END)
        seen.add((tuple(paths(facts)), facts.whiteouts, facts.opaques))
    assert seen == {((b"d", b"d/new"), (b"d/gone",), (b"", b"d"))}


def test_h010_a_whiteout_below_a_link_of_the_same_layer_resolves_its_parent_in_the_root() -> None:
    facts = read(symlink(b"link", b"/real/dir") + member(b"link/.wh.x", b"") + member(b"link/.wh..wh..opq", b"") + END)
    assert facts.whiteouts == (b"real/dir/x",)
    assert facts.opaques == (b"real/dir",)
    assert paths(facts) == [b"link"]


def test_h011_the_last_of_equal_paths_wins_and_is_remarked_on() -> None:
    facts = read(member(b"f", b"first") + member(b"./f", b"second!") + folder(b"d") + folder(b"d/") + END)
    assert found(facts, b"f") == (Kind.FILE, 7, b"")
    assert facts.notes == (LayerNote("duplicate-entry", b"f"),)


def test_h011_the_last_wins_over_many_runs_of_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzers.layer._ROWS_A_RUN", 50)
    facts = read(b"".join(member(b"f%03d" % (number % 300), b"x" * (number // 300)) for number in range(900)) + END)
    assert paths(facts) == [b"f%03d" % number for number in range(300)]
    assert {entry.size for entry in facts.entries} == {2}


def test_h013_h019_h020_a_broken_tar_is_refused_with_its_code() -> None:
    assert code(member(b"a", b"x", size=base256(1 << 62, 12))) == "truncated"
    assert code(member(b"a", b"x") + member(b"b", b"x", checksum=1) + END) == "bad-tar"
    assert code(member(b"a", b"x") + bytes(BLOCK) + member(b"b", b"x") + END) == "bad-tar"
    assert codes(read(member(b"a", b"x") + END + b"garbage")) == ["trailing-data"]


@pytest.mark.parametrize("name", [b"x/" * 2049, b"a/" + b"n" * 256])
def test_h021_paths_the_kernel_cannot_hold_are_refused(name: bytes) -> None:
    assert code(long_name(name) + member(b"f", b"x") + END) == "bad-tar"
    assert code(member(b"f", b"x") + pax({"linkpath": name}) + hardlink(b"h", b"f") + END) == "bad-tar"


def test_h021_the_longest_path_is_read() -> None:
    name = (b"n" * 255 + b"/") * 15 + b"n" * 255
    assert paths(read(long_name(name) + member(b"f", b"x") + END)) == [name]


def test_h022_a_sparse_file_is_its_logical_content_and_old_sparse_members_are_refused_as_runtimes_do() -> None:
    facts = read(sparse_1_0(b"etc/passwd", 600, [(0, b"root"), (500, b"x")]) + END)
    assert facts.texts == {b"etc/passwd": b"root" + bytes(496) + b"x" + bytes(99)}
    assert code(old_sparse(b"s", 600, [(0, b"root")]) + END) == "unknown-type"


def test_h025_types_that_runtimes_refuse_are_refused() -> None:
    for kind in (b"Z", b"X", b"V", b"7"):
        assert code(member(b"f", b"x", kind=kind) + END) == "unknown-type"


def test_h026_names_are_bytes() -> None:
    names = [b"\xff\xfe", b"new\nline", b"\x1b[31mred", "\u202eabc".encode(), b"tab\t"]
    facts = read(b"".join(pax({"path": name}) + member(b"f", b"x") for name in names) + END)
    assert paths(facts) == sorted(names)
    version = {"GNU.sparse.major": b"0", "GNU.sparse.minor": b"1", "GNU.sparse.numblocks": b"0"}
    assert code(pax({**version, "GNU.sparse.name": b"a\0b"}) + member(b"f", b"") + END) == "bad-tar"


def test_h028_members_above_the_ceiling_make_the_layer_partial_and_its_digest_is_still_right() -> None:
    tar = b"".join(member(b"f%d" % number, b"") for number in range(50)) + END
    facts = read(tar, limits=Limits(layer_entries=20))
    assert len(facts.entries) == 20
    assert facts.coverage is Coverage.PARTIAL
    assert codes(facts) == ["entry-limit"]
    assert facts.diff_id == "sha256:" + hashlib.sha256(tar).hexdigest()


def test_h028_names_above_their_ceiling_make_the_layer_partial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzers.layer._ROWS_A_RUN", 50)
    chance = random.Random(4)
    tar = (
        b"".join(long_name(chance.randbytes(200).replace(b"\0", b"x").replace(b"/", b"y")) + member(b"f") for _ in range(400))
        + END
    )
    facts = read(tar, limits=Limits(layer_name_bytes=30_000))
    assert facts.coverage is Coverage.PARTIAL
    assert 100 < len(facts.entries) < 400


def test_h028_a_path_of_two_thousand_directories_is_read() -> None:
    deep = b"/".join([b"d"] * 2000)
    facts = read(long_name(deep) + folder(b"d") + long_name(deep + b"/f") + member(b"f", b"x") + END)
    assert paths(facts) == [deep, deep + b"/f"]


def test_h028_a_layer_too_large_to_be_unpacked_in_order_is_partial() -> None:
    tar = symlink(b"l", b"/t") + member(b"l/f", b"x") + member(b"g", b"x") + END
    facts = read(tar, limits=Limits(layer_replay_entries=2))
    assert paths(facts) == [b"g", b"l"]
    assert facts.unread == (Unread(b"l/f", "entry-limit"),)
    assert facts.coverage is Coverage.PARTIAL


def test_h029_owners_and_devices_are_what_the_kernel_would_make_of_them() -> None:
    facts = read(
        header(b"a", uid=base256(1 << 33 | 5, 8), gid=base256(-1, 8), mode=0o6755)
        + header(b"c", kind=b"3", major=base256(1 << 40 | 7, 8), minor=base256(-1, 8), mode=0o666)
        + END
    )
    assert [(entry.uid, entry.gid, entry.mode, entry.device) for entry in facts.entries] == [
        (5, 0, 0o6755, (0, 0)),
        (0, 0, 0o666, (7, 0xFFFFFFFF)),
    ]


def test_h030_a_capability_larger_than_any_is_dropped_and_counted() -> None:
    tar = pax({"SCHILY.xattr.security.capability": bytes(65)}) + member(b"f", b"x") + END
    facts = read(tar)
    assert [entry.capability for entry in facts.entries] == [b""]
    assert codes(facts) == ["xattr-dropped"]
    assert facts.coverage is Coverage.PARTIAL
    many = pax(b"".join(record(b"SCHILY.xattr.user.%d" % number, b"v") for number in range(20_000))) + member(b"f", b"x") + END
    assert codes(read(many)) == []


def test_h058_text_files_have_a_ceiling() -> None:
    facts = read(member(b"etc/passwd", bytes((1 << 20) + 1)) + END)
    assert facts.texts == {}
    assert facts.unread == (Unread(b"etc/passwd", "text-too-large"),)
    assert facts.coverage is Coverage.PARTIAL


def test_h095_an_elf_file_with_more_holes_than_a_layer_may_have_is_partial() -> None:
    facts = read(sparse_1_0(b"big.so", 10**12, [(0, ELF)]) + member(b"z", b"x") + END)
    assert facts.unread == (Unread(b"big.so", "elf-too-large"),)
    assert facts.coverage is Coverage.PARTIAL
    assert found(facts, b"big.so") == (Kind.FILE, 10**12, b"")


def test_a_symbolic_link_to_nothing_or_to_too_much_is_refused() -> None:
    assert code(symlink(b"l", b"") + END) == "bad-tar"
    assert code(long_name(b"t" * 4096, b"K") + symlink(b"l", b"x") + END) == "bad-tar"


def test_after_a_refusal_the_rest_is_only_hashed() -> None:
    reader = LayerReader()
    blob = member(b"a", b"x", checksum=1) + END
    with pytest.raises(Rejected):
        reader.feed(blob)
    reader.feed(b"more")
    assert reader.blob_digest == "sha256:" + hashlib.sha256(blob + b"more").hexdigest()


def test_the_same_bytes_give_the_same_facts() -> None:
    tar = b"".join(member(b"f%d" % (number % 40), b"#!" + ELF * (number % 3)) for number in range(90)) + END
    first, second = read(tar, step=100), read(tar)
    for name in LayerFacts.__slots__:
        left, right = getattr(first, name), getattr(second, name)
        assert (list(left), list(right)) if name == "entries" else (left, right)
        assert (list(left) == list(right)) if name == "entries" else left == right


def test_nothing_but_rejected_escapes_whatever_the_bytes() -> None:
    chance = random.Random(31)
    tar = b"".join(
        (
            folder(b"usr"),
            member(b"usr/lib.so", ELF),
            symlink(b"lib", b"usr"),
            member(b"lib/x", b"#!/bin/sh"),
            hardlink(b"h", b"usr/x"),
            member(b"usr/.wh.gone", b""),
            pax({"path": b"etc/passwd", "SCHILY.xattr.security.capability": b"\1\0"}),
            member(b"f", b"root"),
            header(b"null", kind=b"3", magic=GNU),
            sparse_1_0(b"s", 999, [(9, b"abc")]),
            END,
        )
    )
    refusals = set()
    fine = 0
    for _ in range(2500):
        body = bytearray(tar)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(body))
            body[at] = chance.choice((0, 0x2E, 0x2F, 0x37, 0x80, 0xFF, chance.randrange(256)))
            start = at - at % BLOCK
            block = body[start : start + BLOCK]
            if block[257:262] == b"ustar":
                body[start + 148 : start + 156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 256)
        blob = bytes(body)
        form = chance.randrange(4)
        if form:
            packed = bytearray((gzip.compress(blob, 1), zstd.compress(blob), gzip.compress(blob, 1))[form - 1])
            if chance.random() < 0.3:
                packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
            blob = bytes(packed)
        try:
            read(blob, step=chance.choice((1 << 16, 500)))
            fine += 1
        except Rejected as rejected:
            refusals.add(rejected.code)
    assert fine > 100
    assert {"bad-tar", "truncated", "corrupt-layer", "unknown-type"} <= refusals
