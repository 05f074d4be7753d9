"""From a manifest or an index to its images: platforms, nesting, and what is no image at all (hostile 47, 55, 56)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import pytest

from analyzers.errors import Rejected
from service.errors import NotAnImage, SourceError
from service.sources import ImageSource, LostImage, Sighting
from tests.fakes.registry import FakeRegistry, serving
from tests.make.images import CONFIG, INDEX, MANIFEST, Image, index_of, manifest_of
from tests.make.layers import sha256, tar_of
from tests.service.clients import source_at

ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


def image(name: str) -> Image:
    return Image(layers=(tar_of({f"etc/{name}": name}),), entrypoint=["/bin/run"])


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with serving() as registry:
        yield registry


def put_index(fake: FakeRegistry, children: Sequence[dict[str, object]]) -> Sighting:
    digest = fake.put("a", "1", json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode(), INDEX)
    return Sighting("test", fake.host, "a", "1", digest)


def child(fake: FakeRegistry, body: bytes, media_type: str = MANIFEST, **more: object) -> dict[str, object]:
    fake.put("a", sha256(body), body, media_type)
    return {"mediaType": media_type, "digest": sha256(body), "size": len(body), **more}


def artifact(config_type: str, layer_type: str, artifact_type: str = "") -> bytes:
    def descriptor(media_type: str, data: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    fields: dict[str, object] = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config_type, b"{}"),
        "layers": [descriptor(layer_type, b"x")],
    }  # fmt: skip
    return json.dumps(fields | ({"artifactType": artifact_type} if artifact_type else {})).encode()


IN_TOTO = artifact("application/vnd.oci.empty.v1+json", "application/vnd.in-toto+json")
ARTIFACTS = {
    "signature": artifact(CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"),
    "attestation": artifact(CONFIG, "application/vnd.in-toto+json"),
    "sbom": artifact("application/vnd.oci.empty.v1+json", "application/spdx+json", "application/spdx+json"),
    "chart": artifact("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
    "build cache": artifact("application/vnd.buildkit.cacheconfig.v0", "application/vnd.oci.image.layer.v1.tar+gzip"),
    "unknown": artifact("application/x-\x1b[31m", "application/octet-stream"),
}


@pytest.mark.parametrize("kind", ARTIFACTS)
async def test_h055_what_is_no_image_says_so_and_is_not_tried_again(fake: FakeRegistry, kind: str) -> None:
    digest = fake.put("a", "1", ARTIFACTS[kind])
    source = source_at(fake.host)
    with pytest.raises(NotAnImage) as refusal:
        await source.resolve(Sighting("test", fake.host, "a", "1", digest), ())
    await source.close()
    assert not refusal.value.temporary
    assert str(refusal.value).isprintable()
    assert not fake.asked("GET", "/blobs/")


async def test_h055_attestations_beside_an_image_are_passed_over_whether_marked_or_not(fake: FakeRegistry) -> None:
    wanted = manifest_of(image("a"))[0]
    fake.push("a:x", image("a"))
    unknown = {"os": "unknown", "architecture": "unknown"}
    sighting = put_index(
        fake,
        [
            child(fake, IN_TOTO, annotations=ATTESTATION),
            child(fake, IN_TOTO + b" ", platform=unknown),
            child(fake, IN_TOTO + b"  "),
            child(fake, wanted, platform={"os": "linux", "architecture": "amd64"}),
        ],
    )
    source = source_at(fake.host)
    (found,) = await source.resolve(sighting, ())
    await source.close()
    assert found.manifest_digest == sha256(wanted)
    asked = [each.path.rpartition("/")[2] for each in fake.asked("GET", "/manifests/")]
    assert sha256(IN_TOTO) not in asked
    assert sha256(IN_TOTO + b" ") not in asked


async def test_h055_an_index_of_artifacts_alone_is_no_image(fake: FakeRegistry) -> None:
    source = source_at(fake.host)
    for children in ([], [child(fake, IN_TOTO)], [child(fake, IN_TOTO, annotations=ATTESTATION)]):
        with pytest.raises(NotAnImage):
            await source.resolve(put_index(fake, children), ())
    await source.close()


async def test_h056_windows_beside_linux_is_passed_over_and_alone_is_unsupported(fake: FakeRegistry) -> None:
    fake.push("a:x", image("a"))
    windows = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}
    foreign = child(fake, manifest_of(image("a"))[0] + b" ", platform=windows)
    linux = child(fake, manifest_of(image("a"))[0], platform={"os": "linux", "architecture": "amd64"})
    source = source_at(fake.host)
    (found,) = await source.resolve(put_index(fake, [foreign, linux]), ())
    assert str(found.platform) == "linux/amd64"
    with pytest.raises(Rejected, match="windows/amd64") as refusal:
        await source.resolve(put_index(fake, [foreign]), ())
    assert refusal.value.code == "unsupported"
    await source.close()


async def test_h047_indexes_are_walked_four_deep_and_a_thousand_wide_and_no_further(fake: FakeRegistry) -> None:
    fake.push("a:x", image("a"))
    body = index_of({"linux/amd64": manifest_of(image("a"))[0]})
    source = source_at(fake.host)
    for depth in range(1, 9):
        sighting = put_index(fake, [child(fake, body, INDEX)])
        body = fake.manifests["a", "1"][0]
        if depth < 4:
            assert len(await source.resolve(sighting, ())) == 1
        else:
            with pytest.raises(Rejected, match="nested deeper"):
                await source.resolve(sighting, ())
    empty = [child(fake, b'{"manifests": [], "n": %d}' % number, INDEX) for number in range(2000)]
    indexes = [json.dumps({"manifests": empty[start : start + 100]}).encode() for start in range(0, 2000, 100)]
    with pytest.raises(Rejected, match="1000 manifests"):
        await source.resolve(put_index(fake, [child(fake, each, INDEX) for each in indexes]), ())
    await source.close()


async def test_a_child_that_a_mirror_lacks_or_that_is_refused_does_not_take_the_other_platforms_with_it(
    fake: FakeRegistry,
) -> None:
    good = manifest_of(image("a"))[0]
    fake.push("a:x", image("a"))
    absent = {
        "mediaType": MANIFEST,
        "digest": sha256(b"elsewhere"),
        "size": 9,
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    broken = child(fake, b"{", platform={"os": "linux", "architecture": "s390x"})
    there = child(fake, good, platform={"os": "linux", "architecture": "amd64"})
    source = source_at(fake.host)
    found = await source.resolve(put_index(fake, [absent, broken, there]), ())
    assert [each.manifest_digest for each in found if isinstance(each, ImageSource)] == [sha256(good)]
    lost = {str(each.platform): each.error for each in found if isinstance(each, LostImage)}
    assert set(lost) == {"linux/arm64", "linux/s390x"}
    assert "404" in str(lost["linux/arm64"])
    assert isinstance(lost["linux/s390x"], Rejected)
    with pytest.raises(SourceError, match="404"):
        await source.resolve(put_index(fake, [absent]), ())
    await source.close()
