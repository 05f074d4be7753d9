"""Image archives as one stream: documents kept whole, layers read as they pass, known ones skipped."""

from __future__ import annotations

import gzip
import hashlib
import json
import random

import pytest

from analyzers.archive import ArchiveFacts, ArchiveReader
from analyzers.errors import Rejected
from analyzers.facts import LayerFacts
from analyzers.limits import Limits
from tests.make.tars import END, header, member, pax

LAYER = member(b"etc/passwd", b"root:x:0:0::/:/bin/sh\n") + member(b"data", random.Random(1).randbytes(70_000)) + END
OTHER = member(b"other", b"x") + END
CONFIG = json.dumps({"rootfs": {"diff_ids": ["x"]}}).encode()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob(data: bytes, name: str = "") -> bytes:
    return member(f"blobs/sha256/{name or sha(data)}".encode(), data)


def path(data: bytes) -> str:
    return f"blobs/sha256/{sha(data)}"


def oci(*layers: bytes) -> bytes:
    """As Docker 26 and skopeo write it: blobs first, the documents that name them last."""
    manifest = json.dumps({"layers": [sha(layer) for layer in layers]}).encode()
    start = header(b"blobs/", kind=b"5") + header(b"blobs/sha256/", kind=b"5")
    return (
        start
        + b"".join(map(blob, (*layers, CONFIG, manifest)))
        + member(b"index.json", b'{"manifests": []}')
        + member(b"manifest.json", b'[{"Layers": []}]')
        + member(b"oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        + END
    )


def read(archive: bytes, step: int = 4096, **more: object) -> ArchiveFacts:
    reader = ArchiveReader(**more)  # type: ignore[arg-type]
    for at in range(0, len(archive), step):
        reader.feed(archive[at : at + step])
    return reader.finish()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("step", [777, 1 << 20])
def test_an_archive_gives_its_documents_and_its_layers(pack: object, step: int) -> None:
    archive = read(pack(oci(LAYER, gzip.compress(OTHER, mtime=0))), step)  # type: ignore[operator]
    packed = gzip.compress(OTHER, mtime=0)
    assert set(archive.layers) == {path(LAYER), path(packed)}
    first = archive.layers[path(LAYER)]
    assert isinstance(first, LayerFacts)
    assert first.diff_id == f"sha256:{sha(LAYER)}"
    assert first.texts == {b"etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
    assert archive.layers[path(packed)].diff_id == f"sha256:{sha(OTHER)}"
    assert archive.blobs[path(packed)] == (f"sha256:{sha(packed)}", len(packed))
    assert archive.documents[path(CONFIG)] == CONFIG
    assert {"index.json", "manifest.json"} <= set(archive.documents)
    assert archive.compression == ("plain" if pack is bytes else "gzip")


def test_a_legacy_archive_has_layers_by_folder_and_repeated_ones_as_links() -> None:
    archive = read(
        header(b"aaa/", kind=b"5")
        + member(b"aaa/VERSION", b"1.0")
        + member(b"aaa/json", b'{"id": "aaa"}')
        + member(b"aaa/layer.tar", LAYER)
        + header(b"bbb/layer.tar", kind=b"2", link=b"../aaa/layer.tar")
        + header(b"ccc/layer.tar", kind=b"1", link=b"aaa/layer.tar")
        + member(b"repositories", b'{"a": {"b": "c"}}')
        + END
    )
    assert isinstance(archive.layers["aaa/layer.tar"], LayerFacts)
    assert archive.links == {"bbb/layer.tar": "aaa/layer.tar", "ccc/layer.tar": "aaa/layer.tar"}
    assert archive.documents["repositories"] == b'{"a": {"b": "c"}}'


@pytest.mark.parametrize("known", [path(LAYER), f"sha256:{sha(LAYER)}"])
def test_a_known_layer_is_not_read_again(known: str) -> None:
    archive = read(oci(LAYER, OTHER), known=frozenset([known]))
    assert set(archive.layers) == {path(OTHER)}
    assert archive.known == {path(LAYER)}


def test_an_index_says_where_each_member_lies_and_reads_no_layer() -> None:
    whole = pax({"comment": b"moves what follows"}) + oci(LAYER, OTHER)
    archive = read(whole, index_only=True)
    assert archive.layers == {}
    for data in (LAYER, OTHER, CONFIG):
        offset, size = archive.members[path(data)]
        assert whole[offset : offset + size] == data
    assert archive.documents[path(CONFIG)] == CONFIG
    assert read(gzip.compress(whole), index_only=True).members == {}


def test_a_broken_layer_is_its_own_affair() -> None:
    broken = member(b"a", b"x", checksum=1) + END
    archive = read(oci(broken, LAYER))
    assert isinstance(archive.layers[path(broken)], Rejected)
    assert archive.layers[path(broken)].code == "bad-tar"
    assert isinstance(archive.layers[path(LAYER)], LayerFacts)


def test_h050_bytes_that_belie_their_name_are_no_layer_and_no_document() -> None:
    archive = read(blob(LAYER, sha(OTHER)) + blob(CONFIG, sha(b"else")) + END)
    assert {name: found.code for name, found in archive.layers.items()} == {
        f"blobs/sha256/{sha(OTHER)}": "digest-mismatch",
        f"blobs/sha256/{sha(b'else')}": "digest-mismatch",
    }
    assert archive.documents == {}


def test_a_later_member_replaces_an_earlier_one_of_its_name() -> None:
    archive = read(member(b"index.json", b'{"old": 1}') + member(b"./index.json", b'{"new": 1}') + END)
    assert archive.documents == {"index.json": b'{"new": 1}'}


def test_ceilings_of_an_archive() -> None:
    for limits in (Limits(archive_members=3), Limits(archive_documents_bytes=50), Limits(uncompressed_image_bytes=1000)):
        with pytest.raises(Rejected, match="too-large"):
            read(oci(LAYER), limits=limits)


@pytest.mark.parametrize("cut", [600, 40_000, 70_000])
def test_a_cut_archive_is_refused(cut: int) -> None:
    with pytest.raises(Rejected, match="truncated"):
        read(oci(LAYER)[:cut])
    with pytest.raises(Rejected, match="corrupt-layer"):
        read(gzip.compress(oci(LAYER))[: cut // 2])


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(Rejected, match="bad-tar"):
        read(b"#!/bin/sh\n" * 200)


def test_nothing_but_rejected_escapes_whatever_the_bytes() -> None:
    chance = random.Random(5)
    whole = oci(member(b"etc/passwd", b"root") + END, gzip.compress(OTHER))
    outcomes = set()
    for _ in range(600):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            outcomes.update(type(found) for found in read(bytes(body)).layers.values())
        except Rejected:
            outcomes.add("refused")
    assert outcomes == {LayerFacts, Rejected, "refused"}
