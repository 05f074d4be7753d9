"""Layers read where a real engine keeps them: the same verdicts as by export, by less reading, and no step outside a layer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from analyzers.errors import Rejected
from service.memory import Memory
from service.pipeline import Examined, Examiner
from service.settings import Workers
from service.sources import Sighting
from service.sources.docker_engine import DockerSource
from service.sources.overlay import NotInPlace, OverlayStore, chain_id, open_store
from service.sources.settings import DockerSettings
from service.worker import Pool
from tests.engine import Engine
from tests.make.elves import c, caller, library
from tests.make.images import Image, docker_archive
from tests.make.layers import device, fifo, file, folder, hardlink, program, script, symlink, tar_of

BIG = os.urandom(3 << 20)
LARGE_DATA = "char large[6 << 20] = {1};\n"
"""Makes an ELF file too large to be read whole."""
NAME = Sighting("test", "docker.io", "in-place/app", "1")


def layers() -> tuple[bytes, ...]:
    main = c(LARGE_DATA + caller("libone.so"), libs={"libone.so": library("libone.so")})
    first = tar_of(
        {
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
            "etc/ld.so.conf": "/opt/lib\n", "etc/ld.so.conf.d/a.conf": "/opt/more\n",
            "opt/app": program(main), "opt/data": file(BIG), "opt/small": file(b"x" * 300),
            "opt/empty": file(b""),
            "opt/hard": hardlink("opt/data"), "opt/same": file(BIG), "opt/other": file(os.urandom(4 << 20)),
            "opt/app-too": hardlink("opt/app"), "opt/soft": symlink("/opt/app"),
            "opt/loop": symlink("loop"), "opt/" + "long-name-" * 20: file(b"pax"), "dev/null": device(), "run/pipe": fifo(),
            "opt/set": program(b"#!/bin/sh\n", 0o4755, 1000, 1000), "gone/a": file(b"a"), "gone/b": file(b"b"),
            "opaque/old": file(b"old"), "opaque/deep/old": file(b"old"), "was/file": file(b"f"),
            "capable": program(main, capability=bytes.fromhex("0100000200040000000000000000000000000000")),
        }
    )  # fmt: skip
    second = tar_of(
        {
            "opaque/new": file(b"new"), "was/file/now": folder(), "opt/lib/libone.so": program(library("libone.so")),
            "bin/run": script("#!/opt/none -x\n"), "tmp": folder(0o1777),
        },
        whiteouts=["gone/a", "opt/loop", "never/was"], opaques=["opaque"],
    )  # fmt: skip
    third = tar_of({"opt/twin": file(BIG), "gone/a": file(b"again")}, whiteouts=["bin"])
    return first, second, third


@pytest.fixture(scope="module")
def image() -> Image:
    return Image(layers=layers(), entrypoint=["/opt/app"], env=["LD_LIBRARY_PATH=/opt/none"])


@pytest.fixture(scope="module")
def holding(engine: Engine, image: Image) -> Iterator[Engine]:
    engine.load(docker_archive({"in-place/app:1": image}))
    yield engine
    engine.docker("rmi", "in-place/app:1")


def source_of(engine: Engine, *, in_place: bool = True) -> DockerSource:
    return DockerSource(DockerSettings(socket=engine.socket, name="test", in_place=in_place))


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with Pool(Workers(parallel=1)) as made:
        yield made


class Watched(Memory):
    """A memory that tells how each layer was vouched for."""

    @property
    def verified(self) -> list[str]:
        return [layer.verified for layer, _, _ in self._layers.values()]


async def examined_by(source: DockerSource, memory: Memory, pool: Pool, sighting: Sighting = NAME) -> Examined:
    (examined,) = await Examiner(memory, pool).examine(source, sighting)
    return examined


@pytest.mark.docker
async def test_a_layer_read_in_place_gives_the_report_of_its_export(holding: Engine, pool: Pool) -> None:
    """But for doubles of large files over layers, which the report says were not looked for."""
    reports = {}
    for in_place in (True, False):
        source, memory = source_of(holding, in_place=in_place), Watched()
        examined = await examined_by(source, memory, pool)
        await source.close()
        assert (examined.outcome, examined.layers_read) == ("done", 3)
        assert set(memory.verified) == ({"local@test"} if in_place else {"stream"})
        assert (examined.bytes_read > 13_000_000) is not in_place
        reports[in_place] = json.loads(examined.report)
    (said,) = set(reports[True].pop("assumptions")) - set(reports[False].pop("assumptions"))
    assert "not with other layers'" in said
    doubles = {at: {each["path"]: each["files"] for each in report.pop("doubles")} for at, report in reports.items()}
    assert doubles == {True: {"/opt/data": 2, "/capable": 2}, False: {"/opt/data": 3, "/capable": 2}}
    for report in reports.values():
        report["findings"] = [each for each in report["findings"] if each["rule"] != "size.duplicate-files"]
    assert reports[True] == reports[False]
    assert reports[True].get("complete", True)


@pytest.mark.docker
async def test_what_was_built_there_is_read_in_place_as_well(engine: Engine, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY run data /app/\nCOPY again /app/run\nENTRYPOINT ["/app/run"]\n')
    for name, content in (("run", b"#!/bin/none\n"), ("data", bytes(2 << 20)), ("again", b"#!/bin/other\n")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o755)
    built = engine.docker("build", "--network", "none", "-t", "in-place/built:1", str(tmp_path), timeout=300)
    assert built.exit_code == 0, built.stderr
    memory, source = Watched(), source_of(engine)
    sighting = Sighting("test", "docker.io", "in-place/built", "1")
    examined = await examined_by(source, memory, pool, sighting)
    await source.close()
    assert set(memory.verified) == {"local@test"}
    assert b"/bin/other" in examined.report
    assert b"/bin/none" not in examined.report


@pytest.mark.docker
async def test_facts_from_one_engine_s_disk_serve_that_engine_alone(holding: Engine, pool: Pool) -> None:
    memory = Watched()
    source = source_of(holding)
    await examined_by(source, memory, pool)
    again = await examined_by(source, memory, pool)
    assert again.layers_read == 0
    other = DockerSource(DockerSettings(socket=holding.socket, name="other"))
    elsewhere = await examined_by(other, memory, pool, Sighting("other", NAME.registry, NAME.repository, NAME.tag))
    assert elsewhere.layers_read == 3
    exported = source_of(holding, in_place=False)
    memory._layers = {key: kept for key, kept in memory._layers.items() if kept[0].verified != "local@test"}
    assert (await examined_by(exported, memory, pool)).layers_read == 3
    assert (await examined_by(source, memory, pool)).layers_read == 0  # what everybody may use serves it too
    for each in (source, other, exported):
        await each.close()


Spoil = Callable[["Copied"], object]


class Copied(NamedTuple):
    """A copy of an engine's data root, for tests that spoil it, and the layers of the image there."""

    root: Path
    diff_ids: tuple[str, ...]

    def layer(self, index: int) -> Path:
        return self.root / "image/overlay2/layerdb/sha256" / chain_id(self.diff_ids[: index + 1]).removeprefix("sha256:")

    def tree(self, index: int) -> Path:
        return self.root / "overlay2" / (self.layer(index) / "cache-id").read_text() / "diff"


@pytest.fixture
async def copied(holding: Engine, tmp_path: Path) -> Copied:
    source = source_of(holding)
    (found,) = await source.resolve(NAME, ())
    await source.close()
    kept = Copied(Path(str(holding.info()["DockerRootDir"])), found.config.diff_ids)
    made = Copied(tmp_path, found.config.diff_ids)
    shutil.copytree(kept.layer(0), made.layer(0))
    shutil.copytree(kept.tree(0), made.tree(0), symlinks=True, ignore=lambda *_: ["null", "pipe"])
    return made


async def bytes_of(copied: Copied, index: int = 0) -> bytes:
    store = OverlayStore(copied.root)
    return b"".join([chunk async for chunk in store.layer(copied.diff_ids, index)])


def replaced_by_a_link(copied: Copied) -> None:
    (copied.tree(0) / "opt/small").unlink()
    (copied.tree(0) / "opt/small").symlink_to("/etc/shadow")


def parent_replaced_by_a_link(copied: Copied) -> None:
    shutil.rmtree(copied.tree(0) / "etc")
    (copied.tree(0) / "etc").symlink_to("/etc")


def grown(copied: Copied) -> None:
    with (copied.tree(0) / "opt/app").open("ab") as file:
        file.write(b"more")


def hanging(copied: Copied) -> None:
    (copied.tree(0) / "opt/small").unlink()
    os.mkfifo(copied.tree(0) / "opt/small")


SPOILS: dict[str, Spoil] = {
    "a file became a link": replaced_by_a_link,
    "a directory became a link": parent_replaced_by_a_link,
    "a file became a pipe": hanging,
    "a file is gone": lambda copied: (copied.tree(0) / "opt/data").unlink(),
    "a file is shorter": lambda copied: os.truncate(copied.tree(0) / "opt/small", 10),
    "a file is longer": grown,
    "another layer": lambda copied: (copied.layer(0) / "diff").write_text(copied.diff_ids[1]),
    "a way out": lambda copied: (copied.layer(0) / "cache-id").write_text("../../elsewhere"),
    "no headers": lambda copied: (copied.layer(0) / "tar-split.json.gz").unlink(),
    "half the headers": lambda copied: os.truncate(copied.layer(0) / "tar-split.json.gz", 200),
    "headers that are none": lambda copied: (copied.layer(0) / "tar-split.json.gz").write_bytes(b"\x1f\x8b\x08"),
    "no directory": lambda copied: shutil.rmtree(copied.tree(0)),
}


@pytest.mark.docker
@pytest.mark.parametrize("spoil", SPOILS)
async def test_whatever_is_not_as_the_engine_says_is_left_to_the_export(copied: Copied, spoil: str) -> None:
    assert await bytes_of(copied)
    SPOILS[spoil](copied)
    with pytest.raises(NotInPlace) as refused:
        await bytes_of(copied)
    assert "/etc" not in str(refused.value)


@pytest.mark.docker
async def test_where_one_layer_cannot_be_read_in_place_the_export_gives_it(
    holding: Engine, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = OverlayStore._pieces

    def failing(store: OverlayStore, chain: str, diff_id: str, plans: Any) -> Any:
        if not chain.endswith(chain_id([diff_id])[-8:]):
            raise NotInPlace("not this one")
        return kept(store, chain, diff_id, plans)

    monkeypatch.setattr(OverlayStore, "_pieces", failing)
    memory, source = Watched(), source_of(holding)
    examined = await examined_by(source, memory, pool)
    await source.close()
    assert examined.outcome == "done"
    assert set(memory.verified) == {"local@test", "stream"}


@pytest.mark.docker
async def test_a_reading_that_is_given_up_in_the_middle_leaves_nothing_open(copied: Copied) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        chunks = OverlayStore(copied.root).layer(copied.diff_ids, 0)
        assert await anext(chunks)
        await chunks.aclose()
    task = asyncio.create_task(bytes_of(copied))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # a pool of threads has a descriptor of its own


async def test_content_that_a_reader_wants_is_not_to_be_left_out(pool: Pool) -> None:
    from analyzers.frames import piece

    tar = tar_of({"etc/passwd": "root:x:0:0::/:\n" * 50})
    header = tar.index(b"root:x")

    async def chunks() -> AsyncIterator[bytes]:
        yield piece(tar[: header + 256], 50 * 15 - 256)
        yield piece(tar[header + 750 :])

    with pytest.raises(Rejected) as refused:
        await pool.in_place(chunks(), "sha256:" + "a" * 64, "test")
    assert refused.value.code == "left-out"


def test_an_engine_whose_directories_are_no_layers_is_not_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "overlay2").mkdir()
    (tmp_path / "image/overlay2/layerdb").mkdir(parents=True)
    info = {"Driver": "overlay2", "DockerRootDir": str(tmp_path), "DriverStatus": [["Native Overlay Diff", "true"]]}
    assert open_store(info) is not None
    assert open_store(info | {"DriverStatus": [["Native Overlay Diff", "false"]]}) is None
    assert open_store(info | {"DriverStatus": None}) is None
    assert open_store(info | {"Driver": "overlayfs"}) is None
    assert open_store(info | {"DockerRootDir": str(tmp_path / "absent")}) is None
    assert open_store({}) is None


def test_a_chain_is_named_as_the_specification_says() -> None:
    """The example's shape: the first is the diff ID itself, each further one the digest of both."""
    assert chain_id(["sha256:a"]) == "sha256:a"
    two = chain_id(["sha256:a", "sha256:b"])
    assert two == "sha256:" + hashlib.sha256(b"sha256:a sha256:b").hexdigest()
    assert chain_id(["sha256:a", "sha256:b", "sha256:c"]) == chain_id([two, "sha256:c"])
