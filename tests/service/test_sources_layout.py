"""OCI image layouts on disk, written by skopeo, BuildKit and by hand while they are watched."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from analyzers.errors import Rejected
from analyzers.oci import Platform
from service.errors import NotAnImage, SourceError
from service.memory import Memory
from service.pipeline import Examiner
from service.registry.reference import parse_reference
from service.settings import Workers
from service.sources import EventKind, Sighting
from service.sources.build import source_for
from service.sources.layout import LayoutSource
from service.sources.settings import LayoutSettings
from service.worker import Pool
from tests.conftest import absent
from tests.engine import ROOT as ENGINE_ROOT
from tests.engine import Engine
from tests.fakes.clock import Clock
from tests.fakes.sink import Kept
from tests.make.images import INDEX, MANIFEST, Image, docker_archive, manifest_of, oci_layout
from tests.make.layers import script, sha256, tar_of
from tests.service.watching import watched


def image(name: str, platform: str = "linux/amd64") -> Image:
    own = tar_of({"bin/run": script("#!/opt/none\n"), f"etc/{name}": name})
    return Image(layers=(own,), entrypoint=["/bin/run"], platform=platform)


def source_of(folder: Path, relist_seconds: float = 0.0, clock: Clock | None = None) -> LayoutSource:
    """Looks often; every look is a listing unless a test says otherwise."""
    more = {} if clock is None else {"clock": clock}
    return LayoutSource(LayoutSettings(path=str(folder), name="test", poll_seconds=0.01), relist_seconds=relist_seconds, **more)


def digest_of(made: Image) -> str:
    return sha256(manifest_of(made)[0])


async def failure_of(call: object) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await call
    return failure.value


# Watching


async def test_a_folder_of_layouts_and_a_layout_itself_are_listed(tmp_path: Path) -> None:
    for place in ("one", "group/two"):
        oci_layout(tmp_path / "images" / place, {"1": image(place[:3]), "2": image("x")})
    async with watched(source_of(tmp_path / "images")) as watch:
        seen, gone, whole = await watch.listing()
    assert (gone, whole) == ([], True)
    assert seen == {
        "one:1": digest_of(image("one")), "one:2": digest_of(image("x")),
        "group/two:1": digest_of(image("gro")), "group/two:2": digest_of(image("x")),
    }  # fmt: skip
    async with watched(source_of(tmp_path / "images" / "one")) as watch:
        assert (await watch.listing())[0].keys() == {"one:1", "one:2"}


async def test_a_folder_that_is_not_there_is_an_error_and_one_that_is_empty_is_not(tmp_path: Path) -> None:
    async with watched(source_of(tmp_path)) as watch:
        assert await watch.listing() == ({}, [], True)
    async with watched(source_of(tmp_path / "absent")) as watch:
        told = await failure_of(watch.listing())
    assert (told.code, told.temporary) == ("not-found", True)


async def test_changes_are_told_between_two_listings_and_all_is_told_again_at_each(tmp_path: Path) -> None:
    clock = Clock()
    folder = tmp_path / "app"
    oci_layout(folder, {"1": image("a"), "2": image("b")})
    async with watched(source_of(tmp_path, 60.0, clock)) as watch:
        assert (await watch.listing())[0].keys() == {"app:1", "app:2"}
        oci_layout(folder, {"1": image("moved"), "3": image("c")})
        assert await watch.next() == (EventKind.GONE, "app:2")
        assert await watch.next() == (EventKind.APPEARED, "app:1")
        assert await watch.next() == (EventKind.APPEARED, "app:3")
        clock.advance(60)
        assert (await watch.listing())[0].keys() == {"app:1", "app:3"}
        shutil.rmtree(folder)
        assert {await watch.next(), await watch.next()} == {(EventKind.GONE, "app:1"), (EventKind.GONE, "app:3")}


async def test_an_index_that_is_half_written_makes_the_listing_partial_until_it_is_whole(tmp_path: Path) -> None:
    oci_layout(tmp_path / "other", {"1": image("other")})
    oci_layout(tmp_path / "app", {"1": image("a")})
    index = tmp_path / "app" / "index.json"
    whole = index.read_bytes()
    source = source_of(tmp_path)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        index.write_bytes(whole[:cut])
        async with watched(source) as watch:
            for _ in range(2):
                assert await watch.listing() == ({"other:1": digest_of(image("other"))}, [], False)
            index.write_bytes(whole)
            while not (found := await watch.listing())[2]:
                pass
            assert found[0].keys() == {"other:1", "app:1"}


async def test_what_was_shown_stays_while_its_index_is_written_anew(tmp_path: Path) -> None:
    oci_layout(tmp_path, {"1": image("a")})
    index = tmp_path / "index.json"
    source = source_of(tmp_path)
    async with watched(source) as watch:
        assert (await watch.listing())[2]
        index.write_bytes(b"")
        while (found := await watch.listing())[2]:
            pass
        assert found[1] == []
        oci_layout(tmp_path, {"1": image("b")})
        while not (found := await watch.listing())[2]:
            pass
        assert list(found[0].values()) == [digest_of(image("b"))]


async def test_an_index_that_is_replaced_by_another_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    oci_layout(tmp_path, {"1": image("a")})
    source = source_of(tmp_path)
    async with watched(source) as watch:
        await watch.listing()
        old = (tmp_path / "index.json").stat()
        oci_layout(tmp_path / "new", {"1": image("b")})
        shutil.copytree(tmp_path / "new" / "blobs", tmp_path / "blobs", dirs_exist_ok=True)
        os.utime(tmp_path / "new" / "index.json", ns=(old.st_atime_ns, old.st_mtime_ns))
        assert (tmp_path / "new" / "index.json").stat().st_size == old.st_size
        os.replace(tmp_path / "new" / "index.json", tmp_path / "index.json")
        name = f"{tmp_path.name}:1"
        while (await watch.listing())[0][name] != digest_of(image("b")):
            pass


async def test_the_lock_of_a_writer_is_no_image_and_does_not_disturb(tmp_path: Path) -> None:
    oci_layout(tmp_path / "app", {"1": image("a")})
    (tmp_path / "app" / "index.json.lock").write_text("")
    async with watched(source_of(tmp_path)) as watch:
        assert (await watch.listing())[0].keys() == {"app:1"}


def index_with(folder: Path, *annotations: dict[str, str]) -> None:
    """An index with one and the same image under several names."""
    rows = [
        {"mediaType": MANIFEST, "digest": "sha256:" + f"{number:064x}", "size": 1, "annotations": each}
        for number, each in enumerate(annotations)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": rows}))


REF, FULL = "org.opencontainers.image.ref.name", "io.containerd.image.name"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ([{REF: "1"}], ["1"]),
        ([{REF: "1", FULL: "docker.io/library/app:2"}], ["1"]),
        ([{FULL: "registry.test:5000/a/app:2"}], ["2"]),
        ([{FULL: "registry.test:5000/a/app"}], ["latest"]),
        ([{REF: "registry.test/a/app:7"}], ["7"]),
        ([{REF: "registry.test/a/app:7"}, {REF: "registry.test/b/app:7"}], ["registry.test/a/app:7", "registry.test/b/app:7"]),
        ([{REF: "1"}, {REF: "1"}], ["1"]),
        ([{}, {}], ["", ""]),
        ([{REF: "not a tag\n"}], ["not a tag\n"]),
        ([{REF: "x" * 5000}], [""]),
    ],
)
async def test_an_image_s_tag_is_found_as_different_writers_state_it(
    tmp_path: Path, annotations: Sequence[dict[str, str]], expected: Sequence[str]
) -> None:
    index_with(tmp_path / "app", *annotations)
    source = source_of(tmp_path)
    found = await source._list(tmp_path / "app")
    assert found is not None
    assert [sighting.tag for sighting in found] == expected


# Real writers


@pytest.fixture
def skopeo() -> str:
    found = shutil.which("skopeo")
    if found is None:
        absent("skopeo is not installed: run tests/setup/debian.sh")
    return found


async def test_what_skopeo_writes_is_seen_when_it_is_whole(tmp_path: Path, skopeo: str) -> None:
    (tmp_path / "images").mkdir()
    pool_of = [("1", image("a")), ("2", image("b")), ("1", image("c"))]
    async with watched(source_of(tmp_path / "images"), 60) as watch, Pool(Workers(parallel=1)) as pool:
        source = source_of(tmp_path / "images")
        examiner = Examiner(Memory(), pool)
        digest = ""
        for tag, made in pool_of:
            archive = tmp_path / f"{tag}-{made.image_id[7:15]}.tar"
            archive.write_bytes(docker_archive({"app:1": made}))
            copy = [skopeo, "copy", "-q", f"docker-archive:{archive}", f"oci:{tmp_path}/images/app:{tag}"]
            process = await asyncio.create_subprocess_exec(*copy, stderr=subprocess.PIPE)
            while True:
                seen, _, _ = await watch.listing()
                if seen.get(f"app:{tag}", digest) != digest:
                    break
            digest = seen[f"app:{tag}"] if tag == "1" else digest
            # At the very moment it is seen all of it is there.
            (examined,) = await examiner.examine(source, Sighting("test", "oci-layout", "app", tag, seen[f"app:{tag}"]))
            assert examined.outcome == "done"
            assert await process.wait() == 0
        assert seen.keys() == {"app:1", "app:2", "app:"}  # skopeo keeps what a tag has left, without a name


@pytest.mark.docker
async def test_what_buildkit_exports_is_seen_when_it_is_whole(tmp_path: Path, containerd_engine: Engine) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM scratch\nCOPY Dockerfile /a\nCMD ["/a"]\n')
    (tmp_path / "images").mkdir()
    where = f"type=oci,tar=false,dest={tmp_path}/images/built,name=registry.test/a/built:7"
    command = [
        f"{ENGINE_ROOT}/usr/libexec/docker/cli-plugins/docker-buildx",
        "build",
        "--network",
        "none",
        "-o",
        where,
        str(context),
    ]
    environment = containerd_engine.environment(DOCKER_CONFIG=str(tmp_path / "config"))
    async with watched(source_of(tmp_path / "images"), 60) as watch:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
        while "built:7" not in (seen := (await watch.listing())[0]):
            pass
        source = source_of(tmp_path / "images")
        (found,) = await source.resolve(Sighting("test", "oci-layout", "built", "7", seen["built:7"]), ())
        kept = Kept()
        await source.read(found, [0], kept)
        assert kept.blobs[0]
        await process.communicate()
    assert process.returncode == 0


# Resolving and reading


async def test_an_index_within_gives_its_platforms_and_those_that_are_not_there_are_passed_over(tmp_path: Path) -> None:
    amd, arm = image("a"), image("a", "linux/arm64")
    oci_layout(tmp_path, {"1": [amd, arm]})
    source = source_of(tmp_path)
    found = await source.resolve(Sighting("test", "", ".", "1"), ())
    assert [str(each.platform) for each in found] == ["linux/amd64", "linux/arm64"]
    (one,) = await source.resolve(Sighting("test", "", ".", "1"), [Platform("linux", "arm64")])
    assert one.image_id == arm.image_id
    (tmp_path / "blobs/sha256" / digest_of(arm).removeprefix("sha256:")).unlink()
    (one,) = await source.resolve(Sighting("test", "", ".", "1"), ())
    assert one.image_id == amd.image_id


async def test_blobs_that_come_after_the_index_are_waited_for(tmp_path: Path) -> None:
    """Not as builders write, but as archives are unpacked and folders copied."""
    oci_layout(tmp_path, {"1": image("a")})
    shutil.move(tmp_path / "blobs", tmp_path / "later")
    source = source_of(tmp_path)
    async with watched(source) as watch:
        digest = (await watch.listing())[0][f"{tmp_path.name}:1"]
    sighting = Sighting("test", "", ".", "1", digest)
    told = await failure_of(source.resolve(sighting, ()))
    assert (told.code, told.temporary) == ("not-found", True)
    shutil.move(tmp_path / "later", tmp_path / "blobs")
    assert len(await source.resolve(sighting, ())) == 1


async def test_a_tag_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    oci_layout(tmp_path, {"1": image("a"), "2": image("b")})
    source = source_of(tmp_path)
    told = await failure_of(source.resolve(Sighting("scan", "", ".", "3"), ()))
    assert "no image '3' (it has 1, 2)" in str(told)
    told = await failure_of(source.resolve(Sighting("scan", "", ".", ""), ()))
    assert "several images; name one (it has 1, 2)" in str(told)
    told = await failure_of(source_of(tmp_path / "absent").resolve(Sighting("scan", "", ".", "1"), ()))
    assert (told.code, told.temporary) == ("not-found", False)


async def test_a_layout_that_a_person_names_is_resolved_by_its_tag(tmp_path: Path) -> None:
    oci_layout(tmp_path / "app", {"1": image("a"), "2": image("b")})
    for name, made in (("1", image("a")), ("2", image("b"))):
        source, sighting = source_for(parse_reference(f"oci:{tmp_path}/app:{name}"), index_archive=None)  # no archive here
        (found,) = await source.resolve(sighting, ())
        assert found.image_id == made.image_id


async def test_h050_a_blob_that_belies_its_name_is_refused(tmp_path: Path) -> None:
    made = image("a")
    oci_layout(tmp_path, {"1": made})
    layer = json.loads(manifest_of(made)[0])["layers"][0]["digest"]
    for digest in (layer, made.image_id, digest_of(made)):
        path = tmp_path / "blobs/sha256" / digest.removeprefix("sha256:")
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        source = source_of(tmp_path)

        async def all_of_it(source: LayoutSource = source) -> None:
            (found,) = await source.resolve(Sighting("test", "", ".", "1"), ())
            await source.read(found, [0], Kept())

        assert (await failure_of(all_of_it())).code == "digest-mismatch"
        path.write_bytes(data)


# Hostile layouts: a folder may be the artifact of somebody else's job


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"of the host")
    return path


async def test_links_out_of_a_layout_are_not_followed(tmp_path: Path, secret: Path) -> None:
    folder = oci_layout(tmp_path / "app", {"1": image("a")})
    layer = json.loads(manifest_of(image("a"))[0])["layers"][0]["digest"]
    source = source_of(tmp_path)
    (found,) = await source.resolve(Sighting("test", "", "app", "1"), ())
    blob = folder / "blobs/sha256" / layer.removeprefix("sha256:")
    blob.unlink()
    blob.symlink_to(secret)
    kept = Kept()
    told = await failure_of(source.read(found, [0], kept))
    assert told.code == "not-found"
    assert not kept.blobs
    shutil.move(folder / "index.json", tmp_path / "elsewhere.json")
    (folder / "index.json").symlink_to(tmp_path / "elsewhere.json")
    async with watched(source) as watch:
        assert await watch.listing() == ({}, [], False)


async def test_a_named_pipe_or_a_folder_in_place_of_a_file_does_not_hold_anybody_up(tmp_path: Path) -> None:
    folder = oci_layout(tmp_path / "app", {"1": image("a")})
    source = source_of(tmp_path)
    (found,) = await source.resolve(Sighting("test", "", "app", "1"), ())
    layer = folder / "blobs/sha256" / found.layers[0].digest.removeprefix("sha256:")
    layer.unlink()
    os.mkfifo(layer)
    async with asyncio.timeout(10):
        assert "is not a file" in str(await failure_of(source.read(found, [0], Kept())))
        layer.unlink()
        layer.mkdir()
        assert (await failure_of(source.read(found, [0], Kept()))).code == "not-found"
        (folder / "index.json").unlink()
        os.mkfifo(folder / "index.json")
        async with watched(source) as watch:
            assert await watch.listing() == ({}, [], False)


@pytest.mark.parametrize(
    "body",
    [
        b"[]", b"{}", b"not JSON", b"\xff", b'{"manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}',
        b'{"manifests": [], "Manifests": []}', b'{"manifests": ' + b"[" * 100_000, b" " * (9 << 20), manifest_of(image("a"))[0],
    ],
    ids=["list", "empty", "text", "bytes", "digest", "ambiguous", "deep", "9-MB", "manifest"],
)  # fmt: skip
async def test_h045_an_index_that_is_none_shows_nothing_and_hides_no_other_layout(tmp_path: Path, body: bytes) -> None:
    oci_layout(tmp_path / "good", {"1": image("good")})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "index.json").write_bytes(body)
    source = source_of(tmp_path)
    async with watched(source) as watch:
        seen, gone, whole = await watch.listing()
    assert (seen.keys(), gone, whole) == ({"good:1"}, [], False)
    told = await failure_of(source.resolve(Sighting("test", "", "bad", ""), ()))
    assert "not a readable OCI index" in str(told)


async def test_h055_an_artifact_in_a_layout_is_no_image(tmp_path: Path) -> None:
    oci_layout(tmp_path, {"1": image("a")})
    body = json.dumps(
        {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": sha256(b"{}"), "size": 2},
        }
    ).encode()  # fmt: skip
    (tmp_path / "blobs/sha256" / sha256(body).removeprefix("sha256:")).write_bytes(body)
    row = {"mediaType": MANIFEST, "digest": sha256(body), "size": len(body), "annotations": {REF: "chart"}}
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [row]}))
    with pytest.raises(NotAnImage):
        await source_of(tmp_path).resolve(Sighting("test", "", ".", "chart"), ())


async def test_h047_an_index_that_lists_itself_ends(tmp_path: Path) -> None:
    """Within verified digests that cannot be; a folder may still claim it."""
    oci_layout(tmp_path, {"1": image("a")})
    digest = "sha256:" + "7" * 64
    row = {"mediaType": INDEX, "digest": digest, "size": 1, "annotations": {REF: "1"}}
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [row]}).encode()
    (tmp_path / "index.json").write_bytes(body)
    (tmp_path / "blobs/sha256" / ("7" * 64)).write_bytes(body)
    with pytest.raises((SourceError, Rejected)):
        await source_of(tmp_path).resolve(Sighting("test", "", ".", "1"), ())
