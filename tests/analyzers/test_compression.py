"""Streams by what they are, never by what they are called, in bounded windows and to their true end."""

from __future__ import annotations

import gzip
import random
import struct
import time
import zlib

import pytest

from analyzers.compression import Decompressor, expected_compression, sniff, zstd, zstd_window
from analyzers.errors import Rejected
from analyzers.facts import Coverage, Unread
from analyzers.layer import LayerReader
from analyzers.limits import Limits
from tests.make.tars import END, member

TAR = member(b"a", b"first") + member(b"z", random.Random(1).randbytes(300_000)) + END
STEPS = (1, 7, 1000, 1 << 20)
FORMS = {"plain": lambda data: data, "gzip": gzip.compress, "zstd": zstd.compress}
MEDIA_TYPES = {
    "plain": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


def inflate(data: bytes, step: int = 1 << 20, limits: Limits | None = None) -> tuple[bytes, Decompressor]:
    stream = Decompressor(limits or Limits())
    windows = [window for at in range(0, len(data), step) for window in stream.feed(data[at : at + step])]
    windows += stream.finish()
    assert all(len(window) <= (limits or Limits()).window_bytes for window in windows)
    return b"".join(windows), stream


def code(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Rejected) as caught:
        inflate(data, 1000, limits)
    return caught.value.code


def skippable(data: bytes, number: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


def gzip_with_name(name: bytes) -> bytes:
    plain = gzip.compress(b"data", mtime=0)
    return plain[:3] + b"\x08" + plain[4:10] + name + b"\0" + plain[10:]


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("step", STEPS)
def test_a_stream_comes_out_whole_in_any_chunks(kind: str, step: int) -> None:
    data = TAR[:20_000] if step == 1 else TAR
    found, stream = inflate(FORMS[kind](data), step)
    assert found == data
    assert stream.kind == kind
    assert not stream.trailing


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("step", STEPS[1:])
def test_members_follow_one_another(kind: str, step: int) -> None:
    parts = [TAR[at : at + 9000] for at in range(0, len(TAR), 9000)]
    assert inflate(b"".join(map(FORMS[kind], parts)), step)[0] == TAR


def test_an_empty_stream_is_plain_and_empty() -> None:
    found, stream = inflate(b"")
    assert (found, stream.kind) == (b"", "plain")


def test_media_types_promise_a_compression_or_nothing() -> None:
    assert {kind: expected_compression(text) for kind, text in MEDIA_TYPES.items()} == {kind: kind for kind in MEDIA_TYPES}
    assert expected_compression("application/vnd.oci.image.layer.v1.tar+GZIP; x=y") == "gzip"
    assert expected_compression("application/octet-stream") == ""
    assert expected_compression("") == ""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_h031_h032_a_bomb_is_streamed_and_stops_at_the_byte_ceiling(kind: str) -> None:
    limits = Limits(uncompressed_layer_bytes=8 << 20)
    compressor = zlib.compressobj(9, wbits=31) if kind == "gzip" else zstd.ZstdCompressor(1)
    bomb = compressor.compress(member(b"a", b"kept") + bytes(64 << 20)) + compressor.flush()
    reader = LayerReader(limits=limits)
    for at in range(0, len(bomb), 4096):
        reader.feed(bomb[at : at + 4096])
    facts = reader.finish()
    assert facts.coverage is Coverage.PARTIAL
    assert [note.code for note in facts.notes] == ["too-large"]
    assert reader.bytes_out <= limits.uncompressed_layer_bytes + limits.window_bytes
    assert facts.diff_id == ""
    assert [entry.path for entry in facts.entries] == [b"a"]


def test_h031_an_elf_file_cut_by_the_byte_ceiling_is_named() -> None:
    reader = LayerReader(limits=Limits(uncompressed_layer_bytes=2 << 20, window_bytes=1 << 16))
    reader.feed(gzip.compress(member(b"big.so", b"\x7fELF" + bytes(8 << 20)) + END))
    assert reader.finish().unread == (Unread(b"big.so", "too-large"),)


def test_h031_a_great_expansion_is_remarked_on_and_read() -> None:
    limits = Limits(expansion_warn_after_bytes=1 << 20)
    reader = LayerReader(limits=limits)
    reader.feed(gzip.compress(member(b"zeros", bytes(4 << 20)) + END))
    facts = reader.finish()
    assert facts.coverage is Coverage.FULL
    assert "expansion-ratio" in [note.code for note in facts.notes]


def test_h033_a_zstd_window_above_the_ceiling_is_refused() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 31})
    frame = compressor.compress(TAR) + compressor.flush()
    assert zstd_window(frame) == 1 << 31
    assert code(frame) == "zstd-window"
    assert code(zstd.compress(b"x") + skippable(b"") + frame) == "zstd-window"


def test_h033_a_window_at_the_ceiling_is_read() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    frame = compressor.compress(TAR) + compressor.flush()
    assert zstd_window(frame) == 1 << 27
    assert inflate(frame)[0] == TAR


def test_h034_many_empty_members_cost_linear_time_and_are_capped() -> None:
    empty = gzip.compress(b"", mtime=0)

    def seconds(count: int) -> float:
        started = time.process_time()
        assert inflate(empty * count)[0] == b""
        return time.process_time() - started

    inflate(empty * 100)
    small, large = seconds(3_000), seconds(30_000)
    assert large < 60 * max(small, 0.02), "ten times the members cost far more than ten times the time"
    assert code(empty * 1001, Limits(gzip_members=1000)) == "too-many-members"
    assert code(skippable(b"") * 1001, Limits(zstd_frames=1000)) == "too-many-members"


@pytest.mark.parametrize("step", STEPS[1:])
def test_h035_all_zstd_frames_are_read_and_skippable_ones_known_as_zstd(step: int) -> None:
    frames = (
        skippable(b"first", 3)
        + zstd.compress(TAR[:5000])
        + skippable(b"between" * 100)
        + zstd.compress(TAR[5000:])
        + skippable(b"")
    )
    found, stream = inflate(frames, step)
    assert found == TAR
    assert stream.kind == "zstd"
    assert not stream.trailing


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("rest", [b"garbage", bytes(4096), b"\x1f"])
def test_h036_data_after_the_last_member_is_drained_and_remarked_on(kind: str, rest: bytes) -> None:
    blob = FORMS[kind](TAR) + rest
    reader = LayerReader()
    for at in range(0, len(blob), 1000):
        reader.feed(blob[at : at + 1000])
    facts = reader.finish()
    assert [entry.path for entry in facts.entries] == [b"a", b"z"]
    assert [note.code for note in facts.notes] == ["trailing-data"]


def test_h036_data_after_the_last_member_before_the_end_of_the_tar_is_corruption() -> None:
    reader = LayerReader()
    reader.feed(gzip.compress(member(b"a", b"x")) + b"garbage")
    with pytest.raises(Rejected, match="corrupt-layer"):
        reader.finish()


def test_h037_a_truncated_or_patched_gzip_stream_is_corrupt() -> None:
    whole = gzip.compress(TAR)
    for cut in (1, 4, 8, 9, len(whole) // 2, len(whole) - 12):
        assert code(whole[:-cut]) == "corrupt-layer"
    for at in (-1, -5):
        patched = bytearray(whole)
        patched[at] ^= 0x55
        assert code(bytes(patched)) == "corrupt-layer"


def test_h038_a_truncated_zstd_stream_is_noticed() -> None:
    whole = zstd.compress(TAR)
    for cut in (1, 3, 4, len(whole) // 2, len(whole) - 5):
        assert code(whole[:-cut]) == "corrupt-layer"


@pytest.mark.parametrize("label", FORMS)
@pytest.mark.parametrize("kind", FORMS)
def test_h039_the_bytes_decide_and_a_wrong_label_is_remarked_on(label: str, kind: str) -> None:
    reader = LayerReader(media_type=MEDIA_TYPES[label])
    reader.feed(FORMS[kind](TAR))
    facts = reader.finish()
    assert [entry.path for entry in facts.entries] == [b"a", b"z"]
    assert [note.code for note in facts.notes] == ([] if label == kind else ["media-type-mismatch"])


def test_h040_a_gzip_header_has_a_ceiling() -> None:
    assert inflate(gzip_with_name(b"n" * 60_000))[0] == b"data"
    assert code(gzip_with_name(b"n" * 400_000)) == "corrupt-layer"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("xz", b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00"),
        ("bzip2", b"BZh91AY&SY\xd2\xee\xe5\x17\x00\x00\x00\x00\x00\x00"),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7" + bytes(30)),
    ],
)
def test_h041_other_codecs_are_refused_by_name(name: str, head: bytes) -> None:
    assert sniff(head) == name
    with pytest.raises(Rejected, match=f"unsupported-compression: compressed with {name}"):
        inflate(head)


def test_h041_a_plain_tar_whose_first_name_looks_like_bzip2_is_plain() -> None:
    assert sniff(member(b"BZhello")) == "plain"
