"""Archives on disk, as docker save, skopeo and BuildKit write them, and as nobody should."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from analyzers.errors import Rejected
from analyzers.oci import Platform
from service.errors import SourceError
from service.memory import Memory
from service.pipeline import Examined, Examiner
from service.settings import Workers
from service.sources import EventKind, Sighting
from service.sources.archive import ArchiveSource
from service.worker import ArchiveOutcome, Pool
from tests.conftest import absent
from tests.engine import Engine
from tests.make.images import Image, docker_archive, oci_layout
from tests.make.layers import script, sha256, tar_of

NAMED = Sighting("scan", "docker-archive", "x.tar", "")
BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})


def image(name: str, platform: str = "linux/amd64") -> Image:
    own = tar_of({"bin/run": script("#!/opt/none\n"), f"etc/{name}": name})
    return Image(layers=(BASE, own), entrypoint=["/bin/run"], platform=platform)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(Workers(parallel=1)) as pool:
        yield pool


def source_of(path: Path, pool: Pool) -> ArchiveSource:
    async def index(chunks: AsyncIterator[bytes]) -> ArchiveOutcome:
        return await pool.archive(chunks, index_only=True)

    return ArchiveSource(str(path), index)


async def examined_of(path: Path, pool: Pool) -> list[Examined]:
    return await Examiner(Memory(), pool).examine(source_of(path, pool), NAMED)


async def failure_of(path: Path, pool: Pool) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await examined_of(path, pool)
    return failure.value


def written(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """A tar of these members in this order; a text is the target of a symbolic link."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def members_of(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


async def test_a_docker_archive_holds_the_images_it_names(tmp_path: Path, pool: Pool) -> None:
    path = tmp_path / "x.tar"
    wanted = [image("a"), image("b")]
    path.write_bytes(docker_archive({"a:1": wanted[0], "b:1": wanted[1]}))
    found = await examined_of(path, pool)
    assert [each.outcome for each in found] == ["done", "done"]
    assert [each.image.image_id for each in found] == [each.image_id for each in wanted]
    assert [each.layers_read for each in found] == [2, 1]  # the base is read once


async def test_an_archive_is_looked_at_once(tmp_path: Path, pool: Pool) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(docker_archive({"a:1": image("a")}))
    events = [event async for event in source_of(path, pool).events()]
    assert [event.kind for event in events] == [EventKind.APPEARED, EventKind.LISTED]


async def test_an_archive_of_an_oci_layout_is_read_with_its_platforms(tmp_path: Path, pool: Pool) -> None:
    pair = [image("a"), image("a", "linux/arm64")]
    folder = oci_layout(tmp_path / "layout", {"1": pair})
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(folder, ".")
    found = await examined_of(tmp_path / "x.tar", pool)
    assert [(each.outcome, each.image.image_id) for each in found] == [("done", each.image_id) for each in pair]
    source = source_of(tmp_path / "x.tar", pool)
    (one,) = await source.resolve(NAMED, [Platform("linux", "arm64")])
    assert one.image_id == pair[1].image_id
    with pytest.raises(SourceError) as failure:
        await source.resolve(NAMED, [Platform("linux", "s390x")])
    assert failure.value.code == "no-such-platform"


@pytest.mark.docker
@pytest.mark.parametrize("kind", ["engine", "containerd_engine"])
async def test_what_docker_save_writes_is_read(kind: str, request: pytest.FixtureRequest, tmp_path: Path, pool: Pool) -> None:
    running: Engine = request.getfixturevalue(kind)
    running.load(docker_archive({"test/saved:1": image("saved"), "test/saved:2": image("saved2")}))
    saved = running.docker("save", "-o", str(tmp_path / "x.tar"), "test/saved:1", "test/saved:2")
    assert saved.exit_code == 0, saved.stderr
    found = await examined_of(tmp_path / "x.tar", pool)
    assert [each.outcome for each in found] == ["done", "done"]
    assert {each.image.config.diff_ids for each in found} == {
        tuple(sha256(layer) for layer in image(name).layers) for name in ("saved", "saved2")
    }


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
async def test_what_skopeo_writes_is_read(form: str, tmp_path: Path, pool: Pool) -> None:
    skopeo = shutil.which("skopeo") or absent("skopeo is not installed: run tests/setup/debian.sh")
    (tmp_path / "in.tar").write_bytes(docker_archive({"app:1": image("a")}))
    copy = [skopeo, "copy", "-q", f"docker-archive:{tmp_path}/in.tar", f"{form}:{tmp_path}/x.tar:app:1"]
    await asyncio.to_thread(subprocess.run, copy, check=True, capture_output=True)
    (found,) = await examined_of(tmp_path / "x.tar", pool)
    assert (found.outcome, found.layers_read) == ("done", 2)


async def test_a_layer_that_is_a_link_to_another_s_is_followed_within_the_archive(tmp_path: Path, pool: Pool) -> None:
    """As engines before 25 write a layer that occurs twice (sources.md 2.4)."""
    twice = Image(layers=(BASE, BASE), entrypoint=["/x"])
    rows = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]
    members = {
        "one/layer.tar": BASE,
        "two/layer.tar": "../one/layer.tar",
        "c.json": twice.config(),
        "manifest.json": json.dumps(rows).encode(),
    }
    (found,) = await examined_of(written(tmp_path / "x.tar", members), pool)
    assert found.outcome == "done"


@pytest.mark.parametrize("target", ["../../../etc/passwd", "/etc/passwd", "layer.tar", "../absent/layer.tar"])
async def test_a_link_out_of_the_archive_or_to_itself_leads_nowhere(target: str, tmp_path: Path, pool: Pool) -> None:
    one = Image(layers=(BASE,), entrypoint=["/x"])
    rows = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["one/layer.tar"]}]
    members = {"one/layer.tar": target, "c.json": one.config(), "manifest.json": json.dumps(rows).encode()}
    told = await failure_of(written(tmp_path / "x.tar", members), pool)
    assert (told.code, told.temporary) == ("not-found", False)


async def test_a_layer_that_is_not_what_the_config_says_is_refused(tmp_path: Path, pool: Pool) -> None:
    other = tar_of({"etc/other": "x"})
    members = {
        name: other if content == image("a").layers[1] else content
        for name, content in members_of(docker_archive({"a:1": image("a")})).items()
    }
    (found,) = await examined_of(written(tmp_path / "x.tar", members), pool)
    assert (found.outcome, found.report) == ("digest-mismatch", b"")


async def test_a_blob_of_a_layout_s_archive_that_belies_its_name_is_refused(tmp_path: Path, pool: Pool) -> None:
    folder = oci_layout(tmp_path / "layout", {"1": image("a")}, "plain")
    layer = folder / "blobs/sha256" / sha256(BASE).removeprefix("sha256:")
    layer.write_bytes(BASE[:-1] + b"x")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(folder, ".")
    assert (await failure_of(tmp_path / "x.tar", pool)).code == "digest-mismatch"


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ({}, "bad-json"),
        ([{}], "bad-json"),
        ([{"Config": 7, "Layers": []}], "bad-json"),
        ([{"Config": "absent.json", "Layers": []}], "missing-blob"),
        ([{"Config": "c.json", "Layers": []}], "config-mismatch"),
    ],
)
async def test_a_manifest_that_makes_no_sense_is_refused_by_name(rows: object, code: str, tmp_path: Path, pool: Pool) -> None:
    members = {"c.json": image("a").config(), "manifest.json": json.dumps(rows).encode()}
    with pytest.raises(Rejected) as refusal:
        await examined_of(written(tmp_path / "x.tar", members), pool)
    assert refusal.value.code == code


async def test_what_is_no_archive_is_told(tmp_path: Path, pool: Pool) -> None:
    told = await failure_of(tmp_path / "absent.tar", pool)
    assert (told.code, told.temporary) == ("not-found", False)
    assert "absent.tar is not a file" in str(told)
    assert "is not a file" in str(await failure_of(tmp_path, pool))
    told = await failure_of(written(tmp_path / "x.tar", {"a": b"b"}), pool)
    assert (told.code, told.temporary) == ("not-an-archive", False)
    (tmp_path / "text").write_text("no tar at all" * 100)
    with pytest.raises(Rejected):
        await examined_of(tmp_path / "text", pool)


async def test_an_archive_that_was_cut_is_refused(tmp_path: Path, pool: Pool) -> None:
    whole = docker_archive({"a:1": image("a")})
    (tmp_path / "x.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((Rejected, SourceError)):
        await examined_of(tmp_path / "x.tar", pool)


@pytest.mark.parametrize("form", ["docker", "oci"])
async def test_an_archive_that_is_compressed_as_a_whole_is_read_all_the_same(form: str, tmp_path: Path, pool: Pool) -> None:
    """As `docker save | gzip` makes it, and as `docker load` takes it."""
    plain = docker_archive({"a:1": image("a")})
    if form == "oci":
        with tarfile.open(tmp_path / "plain.tar", "w") as tar:
            tar.add(oci_layout(tmp_path / "layout", {"1": image("a")}), ".")
        plain = (tmp_path / "plain.tar").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(plain))
    (found,) = await examined_of(tmp_path / "x.tar.gz", pool)
    assert (found.outcome, found.layers_read, found.image.image_id) == ("done", 2, image("a").image_id)


async def test_an_archive_that_changes_while_it_is_read_gives_no_report(tmp_path: Path, pool: Pool) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(docker_archive({"a:1": image("a")}))
    source = source_of(path, pool)
    (found,) = await source.resolve(NAMED, ())
    path.write_bytes(docker_archive({"a:1": image("b"), "b:1": image("c")}))
    try:
        examined = await Examiner(Memory(), pool).examine_image(source, found)
    except SourceError:
        return
    assert examined.report == b""
