"""Manifests and configs are read as the runtimes read them, or not at all (hostile.md C)."""

from __future__ import annotations

import json
import time

import pytest

from analyzers.errors import Malformed, Rejected
from analyzers.oci import (
    Digest,
    Index,
    Manifest,
    Platform,
    is_attestation,
    is_image_config,
    load_json,
    parse_config,
    parse_manifest,
    parse_platform,
)

DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 3}
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CHILD = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1}
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def code_of(document: bytes, content_type: str = "") -> str:
    with pytest.raises(Rejected) as caught:
        parse_manifest(document, content_type)
    return caught.value.code


def test_a_manifest_gives_its_config_and_layers_in_order() -> None:
    manifest = parse_manifest(body(schemaVersion=2, mediaType=OCI_MANIFEST, config=CONFIG, layers=[LAYER, LAYER]))
    assert isinstance(manifest, Manifest)
    assert [layer.digest for layer in manifest.layers] == [DIGEST, DIGEST]
    assert is_image_config(manifest.config.media_type)


def test_an_index_gives_its_platforms_and_knows_attestations() -> None:
    rows = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": DIGEST,
            "size": 1,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
        {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    index = parse_manifest(body(schemaVersion=2, mediaType=OCI_INDEX, manifests=rows))
    assert isinstance(index, Index)
    assert index.manifests[0].platform == Platform("linux", "arm64")
    assert [is_attestation(row) for row in index.manifests] == [False, True]


def test_h043_a_document_that_is_both_index_and_manifest_is_ambiguous() -> None:
    assert code_of(body(config=CONFIG, layers=[LAYER], manifests=[])) == "ambiguous-manifest"
    assert code_of(body(mediaType=OCI_INDEX, config=CONFIG, layers=[])) == "ambiguous-manifest"
    assert code_of(body(mediaType=OCI_MANIFEST, config=CONFIG, layers=[]), OCI_INDEX) == "ambiguous-manifest"


@pytest.mark.parametrize("name", ["Layers", "LAYERS", "layer\u017f", "Config"])
def test_h044_names_that_go_would_fold_into_known_ones_are_ambiguous(name: str) -> None:
    assert code_of(body(config=CONFIG, layers=[LAYER], **{name: []})) == "ambiguous-manifest"


def test_h044_a_digest_spelled_in_capitals_is_ambiguous() -> None:
    assert code_of(body(config=CONFIG, layers=[{**LAYER, "DIGEST": DIGEST}])) == "ambiguous-manifest"


def test_h044_a_name_that_stands_twice_is_ambiguous() -> None:
    assert code_of(b'{"config":{},"config":{}}') == "ambiguous-manifest"


def test_h044_labels_may_differ_by_case_only() -> None:
    config = parse_config(body(os="linux", architecture="amd64", config={"Labels": {"Team": "a", "team": "b"}}))
    assert config.labels == {"Team": "a", "team": "b"}


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"[" + b"[]," * 2_000_000 + b"1]",
        b"[" + b'{"a":1},' * 1_000_000 + b"1]",
        b'{"a":NaN}',
        b'{"a":1e400}',
        b'{"a":' + b"9" * 5_000 + b"}",
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b"{} trailing",
        b"",
    ],
    ids=["deep", "many-lists", "many-objects", "nan", "infinite", "long-int", "bom", "utf8", "trailing", "empty"],
)
def test_h045_bad_json_is_rejected_and_nothing_else_escapes(document: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        load_json(document)
    assert caught.value.code == "bad-json"


def test_h045_brackets_in_strings_are_not_depth_and_cost_linear_time() -> None:
    assert load_json(b'{"a":"' + b"[" * 1000 + b'\\"{"}') == {"a": "[" * 1000 + '"{'}
    begun = time.process_time()
    with pytest.raises(Rejected):
        load_json(b'"' + b'\\"' * 2_000_000)
    assert time.process_time() - begun < 5  # quadratic time would be hours


def test_h046_a_manifest_over_the_ceiling_is_rejected() -> None:
    assert code_of(b'{"a":"' + b"x" * (8 << 20) + b'"}') == "manifest-too-large"


def test_h047_an_index_of_too_many_entries_is_rejected() -> None:
    assert code_of(body(manifests=[{"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1}] * 1_001)) == "manifest-too-large"


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:" + "A" * 64, "sha256:abc", "md5:" + "a" * 32, DIGEST + "\n", ""])
def test_h048_digests_follow_a_strict_grammar(digest: str) -> None:
    with pytest.raises(Malformed):
        Digest(digest)
    assert code_of(body(config={**CONFIG, "digest": digest}, layers=[])) == "bad-digest"


def test_h048_sha512_is_a_digest() -> None:
    assert Digest("sha512:" + "0" * 128).algorithm == "sha512"


@pytest.mark.parametrize("size", [-1, 1 << 63, 1.0, "3", None, True])
def test_h049_descriptor_sizes_are_whole_and_bounded(size: object) -> None:
    assert code_of(body(config=CONFIG, layers=[{**LAYER, "size": size}])) == "size-mismatch"


def test_h053_a_config_without_diff_ids_is_noted_and_huge_lists_are_rejected() -> None:
    assert parse_config(body(os="linux", architecture="amd64")).notes == (("config-mismatch", "the config lists no diff IDs"),)
    with pytest.raises(Rejected):
        parse_config(body(os="linux", architecture="amd64", history=[{}] * 10_001))


def test_h055_artifacts_are_told_from_images_by_their_config() -> None:
    for media_type in ("application/vnd.oci.empty.v1+json", "application/vnd.cncf.helm.config.v1+json"):
        assert not is_image_config(media_type)


def test_h056_schema_1_and_windows_images_are_unsupported_by_name() -> None:
    assert code_of(body(schemaVersion=1, fsLayers=[])) == "unsupported"
    with pytest.raises(Rejected, match="windows"):
        parse_config(body(os="windows", architecture="amd64"))


def test_entrypoint_absent_and_entrypoint_empty_are_told_apart() -> None:
    assert parse_config(body(os="linux", architecture="amd64", config={"Cmd": ["x"]})).entrypoint is None
    assert parse_config(body(os="linux", architecture="amd64", config={"Entrypoint": [""]})).entrypoint == ("",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/aarch64", "linux/arm64"),
        ("x86_64", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
    ],
)
def test_platforms_are_normalised_as_containerd_does(text: str, expected: str) -> None:
    assert str(parse_platform(text)) == expected


@pytest.mark.parametrize("text", ["", "linux/", "linux/amd64/v1/x", "a b"])
def test_nonsense_platforms_are_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_platform(text)
