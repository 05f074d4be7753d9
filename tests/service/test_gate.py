"""enoent gate: what it takes, what it asks a daemon, and that nothing passes which was not judged in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestServer

from analyzers.errors import Malformed
from analyzers.oci import parse_platform
from service.errors import SettingsError, SourceError
from service.gate import Gate, gate, read_metadata, wanted_of
from service.registry.reference import parse_reference
from service.scan import Question, Scan, Surroundings
from service.settings import load_settings
from service.sources import Build
from tests.make.command import Command
from tests.make.reports import failing, starting
from tests.make.site import World
from tests.registry import Registry
from tests.service.test_cli_scan import BAD, GOOD

DIGEST = "sha256:" + "a" * 64
CONFIG = "sha256:" + "b" * 64
BUILT = {
    "buildx.build.ref": "builder/builder0/qx7tfyh0q",
    "containerimage.digest": DIGEST,
    "containerimage.config.digest": CONFIG,
    "image.name": "registry.example/shop/api:1,docker.io/shop/api:latest",
}


class Notes:
    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, image: object) -> None:
        return None

    def note(self, text: str) -> None:
        self.told.append(text)


def written(folder: Path, fields: object) -> Path:
    path = folder / "metadata.json"
    path.write_text(json.dumps(fields))
    return path


def test_the_metadata_of_a_build_names_digests_places_and_the_build(tmp_path: Path) -> None:
    (wanted,) = read_metadata(written(tmp_path, BUILT))
    assert (wanted.shown, wanted.digests, wanted.build) == ("registry.example/shop/api:1", (DIGEST, CONFIG), "qx7tfyh0q")
    assert [str(each) for each in wanted.references] == [
        f"docker:{DIGEST}", f"docker:{CONFIG}", f"registry.example/shop/api:1@{DIGEST}", f"docker.io/shop/api:latest@{DIGEST}",
    ]  # fmt: skip


def test_every_target_of_a_bake_is_wanted(tmp_path: Path) -> None:
    fields = {"api": BUILT, "web": {**BUILT, "image.name": "shop/web:1"}, "buildx.build.warnings": []}
    assert [each.shown for each in read_metadata(written(tmp_path, fields))] == ["registry.example/shop/api:1", "shop/web:1"]


@pytest.mark.parametrize("fields", [{}, [], {"containerimage.digest": 3}, "no"])
def test_metadata_of_no_image_is_wrong_usage(enoent: Command, tmp_path: Path, fields: object) -> None:
    with pytest.raises(SettingsError):
        read_metadata(written(tmp_path, fields))
    assert enoent("gate", "--metadata-file", tmp_path / "metadata.json").status == 64
    assert enoent("gate", "--metadata-file", tmp_path / "absent.json").status == 64


def test_one_image_or_the_metadata_is_given_and_not_both(enoent: Command, tmp_path: Path) -> None:
    assert enoent("gate").status == 64
    assert enoent("gate", DIGEST, "--metadata-file", written(tmp_path, BUILT)).status == 64
    with pytest.raises(Malformed):
        wanted_of("sha256:short")
    assert enoent("gate", "sha256:short").status == 64


def test_a_bare_digest_without_a_daemon_is_not_decided(enoent: Command) -> None:
    said = enoent("gate", DIGEST)
    assert (said.status, "name a repository" in said.err) == (2, True)


# A daemon


@pytest.fixture
def world() -> World:
    made = World()
    made.show(starting(1), "shop/api", "1", manifest_digest=DIGEST)
    made.show(failing(2, platform="linux/arm64"), "shop/api", "1", manifest_digest=DIGEST)
    made.show(starting(1), "shop/api", "same", source="other", manifest_digest=DIGEST)
    made.show(None, "shop/late", "1", manifest_digest=CONFIG)
    return made


@pytest.fixture
async def server(world: World) -> AsyncIterator[str]:
    async with TestServer(world.app()) as running:
        yield str(running.make_url("/"))


async def ask(server: str, what: str, notes: Notes | None = None, seconds: float = 0.0, *platforms: str) -> Scan:
    question = Question(parse_reference("gate"), tuple(map(parse_platform, platforms)), cached=False)
    settings = load_settings(None, {}, {"scan.server": server})
    return await gate(Gate((wanted_of(what),), question, seconds), Surroundings(settings, {}, notes or Notes()))


async def test_the_daemon_s_verdicts_of_a_digest_are_the_answer_once_a_platform(server: str) -> None:
    answer = await ask(server, DIGEST)
    assert (answer.exit_status, answer.answered_by) == (1, server)
    assert [(image.platform, image.exit_status) for image in answer.images] == [("linux/amd64", 0), ("linux/arm64", 1)]
    assert (await ask(server, f"registry.example/shop/api@{DIGEST}", None, 0.0, "linux/amd64")).exit_status == 0
    with pytest.raises(SourceError, match="no image for linux/s390x"):
        await ask(server, DIGEST, None, 0.0, "linux/s390x")


async def test_what_waits_when_time_is_up_is_not_decided(server: str) -> None:
    answer = await ask(server, CONFIG)
    assert answer.exit_status == 2
    assert "no verdict in 0 seconds" in answer.images[0].detail
    with pytest.raises(SourceError, match="has not seen this image"):
        await ask(server, "sha256:" + "c" * 64)


async def test_a_verdict_that_comes_while_it_is_waited_for_is_taken_with_its_build(world: World, server: str) -> None:
    notes = Notes()
    waiting = asyncio.create_task(ask(server, CONFIG, notes, 60.0))
    await asyncio.sleep(0)
    (queued,) = [row for row in world.fleet.rows() if row.repository == "shop/late"]
    world.fleet.note_builds({CONFIG: Build("qx7tfyh0q", "dockerfile.v0", "https://git.example/shop.git#abc", 1.0)})
    world.fleet.remove(queued.sighting)
    world.show(starting(5), "shop/late", "1", manifest_digest=CONFIG)
    answer = await waiting
    assert answer.exit_status == 0
    assert notes.told == ["build qx7tfyh0q by dockerfile.v0 from https://git.example/shop.git#abc"]


async def test_a_failure_that_the_daemon_tries_again_is_waited_for(world: World, server: str) -> None:
    gone = "sha256:" + "d" * 64
    world.show(None, "shop/gone", "1", manifest_digest=gone, outcome="unreachable", detail="no route")
    answer = await ask(server, gone)
    assert (answer.exit_status, answer.images[0].outcome, answer.images[0].detail) == (2, "unreachable", "no route")


async def test_a_daemon_that_is_not_there_lets_nothing_pass(enoent: Command) -> None:
    said = await asyncio.to_thread(enoent, "gate", DIGEST, "--server", "http://127.0.0.1:1", "--timeout", "0")
    assert (said.status, "no verdict" in said.err) == (2, True)


@pytest.mark.registry
async def test_a_tag_is_asked_about_by_what_it_names_now(world: World, server: str, registry: Registry) -> None:
    """A daemon may not have looked since the push: its verdict of the former image does not count."""
    old, new = registry.push("gate/app:1", GOOD), registry.push("gate/app:1", BAD)
    world.show(starting(7), "gate/app", "1", registry=registry.host, manifest_digest=old)
    with pytest.raises(SourceError, match="has not seen this image"):
        await ask(server, f"{registry.host}/gate/app:1")
    world.show(failing(8), "gate/app", "1", registry=registry.host, manifest_digest=new)
    assert (await ask(server, f"{registry.host}/gate/app:1")).exit_status == 1
    with pytest.raises(SourceError):
        await ask(server, f"{registry.host}/gate/absent:1")


@pytest.mark.registry
def test_without_a_daemon_what_was_pushed_is_read_from_its_registry(enoent: Command, tmp_path: Path, registry: Registry) -> None:
    for image, status in ((GOOD, 0), (BAD, 1)):
        digest = registry.push("gate/pushed:1", image)
        fields: dict[str, Any] = {"containerimage.digest": digest, "image.name": f"{registry.host}/gate/pushed:1"}
        no_engine = {"DOCKER_HOST": f"unix://{tmp_path}/absent.sock"}
        said = enoent("gate", "--metadata-file", written(tmp_path, fields), env=no_engine)
        assert said.status == status, said
    assert msgspec.json.decode(
        enoent("gate", f"{registry.host}/gate/pushed@{digest}", "--format", "json").out.encode(), type=Scan
    ).images[0].manifest_digest == digest  # fmt: skip
