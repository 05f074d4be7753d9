"""From the end of a build to its verdict without any registry: the engine's own BuildKit, the daemon, and the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.sources import EventKind
from service.sources.docker_engine import DockerSource
from service.sources.settings import DockerSettings
from tests.buildkit import buildx
from tests.daemon import live
from tests.engine import Engine
from tests.make.command import Command
from tests.make.starts import TRUE
from tests.service.watching import watched

pytestmark = pytest.mark.docker
DOCKERFILE = b'FROM scratch\nCOPY run /bin/run\nENTRYPOINT ["/bin/run"]\n'
BROKEN = b"#!/opt/none\n"


@pytest.fixture(params=["graphdriver", "containerd"])
def running(request: pytest.FixtureRequest) -> Engine:
    """Both kinds of store. Other tests use them too: only our own images are looked at."""
    found: Engine = request.getfixturevalue("engine" if request.param == "graphdriver" else "containerd_engine")
    return found


def build(engine: Engine, run: bytes, name: str = "") -> dict[str, Any]:
    return buildx(engine, {"Dockerfile": DOCKERFILE, "run": run}, *(("-t", name) if name else ()))


async def test_a_build_is_seen_at_its_end_though_the_engine_tells_of_none(running: Engine) -> None:
    """Neither a build without a name nor, with the containerd store, any build is an event of the engine (sources.md 2.2)."""
    source = DockerSource(DockerSettings(socket=running.socket, name="test", poll_seconds=3600))
    async with watched(source, 60) as watch:
        await watch.listing()
        made = build(running, BROKEN + b"seen", "built/seen:1")
        await watch.until(EventKind.APPEARED, "built/seen:1")
        told = [made["containerimage.digest"]]
        told.append(build(running, BROKEN + b"unnamed")["containerimage.digest"])
        while told[1] not in (seen := (await watch.listing())[0]).values():
            pass
        assert seen["built/seen:1"] == told[0]
    await source.close()
    running.docker("rmi", "-f", *told)


def test_a_pipeline_waits_for_the_daemon_s_verdict_of_its_build(running: Engine, enoent: Command, tmp_path: Path) -> None:
    with live(tmp_path / "daemon", {"docker": [{"socket": running.socket, "poll_seconds": 3600.0}]}) as daemon:
        metadata = tmp_path / "metadata.json"
        for run, name, status in ((BROKEN + b"gate", "built/bad:1", 1), (TRUE.content, "built/good:1", 0)):
            made = build(running, run, name)
            metadata.write_text(json.dumps(made))
            said = enoent("gate", "--metadata-file", metadata, "--server", daemon.url, "--timeout", "90", "--format", "json")
            assert (said.status, said.json["answered_by"]) == (status, daemon.url), said.err
            ref = made["buildx.build.ref"].rpartition("/")[2]
            assert f"build {ref}" in said.err
            (item,) = daemon.images(build=ref)
            assert (item["name"], item["build"]["ref"]) == (f"docker.io/{name}", ref)
            assert ref in daemon.get(f"/images/{item['image_id']}")
        said = enoent("gate", "built/good:1", "--server", daemon.url)
        assert said.status == 2, "a registry was asked what the tag names, and there is none"
        assert enoent("gate", made["containerimage.digest"], "--server", daemon.url, "-q").status == 0
        early = enoent("gate", "sha256:" + "0" * 64, "--server", daemon.url, "--timeout", "0")
        assert (early.status, "has not seen this image" in early.err) == (2, True)
    running.docker("rmi", "built/bad:1", "built/good:1")


def test_without_a_daemon_the_gate_reads_what_was_built(running: Engine, enoent: Command, tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.json"
    host = {"DOCKER_HOST": running.url}
    for run, name, status in ((BROKEN + b"here", "built/here:1", 1), (TRUE.content, "built/here:2", 0)):
        metadata.write_text(json.dumps(build(running, run, name)))
        said = enoent("gate", "--metadata-file", metadata, env=host)
        assert (said.status, f"built/here:{2 - status}" in said.first_line) == (status, True), said
    running.docker("rmi", "-f", "built/here:1", "built/here:2")
    assert enoent("gate", "docker:built/here:2", env=host).status == 2
