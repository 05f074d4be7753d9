"""The daemon over a real Docker engine: what is loaded, tagged and removed there is seen at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.daemon import live
from tests.engine import Engine, EngineAbsent, started
from tests.make.images import Image, docker_archive
from tests.make.layers import program, script, tar_of
from tests.registry import Registry

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of this file's own: what stands in it is looked at as a whole."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(started())
        except EngineAbsent as error:
            absent(str(error))
        yield running


BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/data": program(os.urandom(200_000))})


def image(name: str) -> Image:
    """It fails for want of its interpreter."""
    return Image(layers=(BASE, tar_of({"bin/run": script("#!/opt/none\n"), "etc/name": name})), entrypoint=["/bin/run"])


def test_an_image_of_the_engine_is_judged_as_the_engine_runs_it_and_leaves_when_it_is_removed(
    engine: Engine, tmp_path: Path
) -> None:
    with live(tmp_path, {"docker": [{"socket": engine.socket}]}) as daemon:
        engine.load(docker_archive({"watched/app:1": image("one")}))
        name = "docker.io/watched/app:1"
        daemon.until(lambda: [item["name"] for item in daemon.images(repository="watched/app")] == [name])
        item = daemon.until(lambda: (found := daemon.image(name))["standing"] == "fails" and found)
        assert item["image_id"] == image("one").image_id
        assert item["message"] in engine.run("watched/app:1").stderr
        assert daemon.total("enoent_image_start_verdict", repository="watched/app", verdict="fails") == 1
        engine.docker("tag", "watched/app:1", "watched/app:2")
        daemon.until(lambda: len(daemon.images(repository="watched/app", standing="fails")) == 2)
        engine.docker("rmi", "watched/app:1")
        daemon.until(lambda: [item["tag"] for item in daemon.images(repository="watched/app")] == ["2"])
        assert daemon.total("enoent_image_info", repository="watched/app", tag="1") is None
        # Other images of the engine may be read at the same time, so the counters as a whole tell nothing.
        assert sum(line["read"] for line in daemon.logged("image done", image_id=image("one").image_id)) == 2
        engine.docker("rmi", "watched/app:2")
        daemon.until(lambda: daemon.images(repository="watched/app") == [])


@pytest.mark.registry
def test_a_layer_that_one_source_gave_is_not_asked_of_another(engine: Engine, registry: Registry, tmp_path: Path) -> None:
    same = image("same")
    registry.push("both/app:1", same)
    settings = {
        "docker": [{"socket": engine.socket, "name": "engine"}],
        "registries": [{"host": registry.host, "repositories": ["both/app"], "poll_seconds": 0.3}],
    }
    with live(tmp_path, settings) as daemon:
        daemon.until(lambda: len(daemon.images(repository="both/app", standing="fails")) == 1)
        engine.load(docker_archive({"both/app:1": same}))
        items = daemon.until(lambda: len(found := daemon.images(repository="both/app", standing="fails")) == 2 and found)
        assert {item["image_id"] for item in items} == {same.image_id}
        assert {item["source"] for item in items} == {"engine", registry.host}
        # The engine may hold images of other tests, so its bytes as a whole tell nothing.
        (line,) = daemon.logged("image done", source="engine", image_id=same.image_id)
        assert (line["read"], line["bytes"]) == (0, 0)
    engine.docker("rmi", "both/app:1")


def test_an_engine_that_is_not_there_is_a_source_that_is_down_unless_it_may_be_missing(tmp_path: Path) -> None:
    socket = str(tmp_path / "absent.sock")
    with live(tmp_path, {"docker": [{"socket": socket, "name": "wanted"}, {"socket": socket, "missing_ok": True}]}) as daemon:
        daemon.until(lambda: daemon.total("enoent_source_up", source="wanted") == 0)
        assert daemon.total("enoent_source_up", source="docker") is None
        assert f"no Docker engine at {socket}" in daemon.get("/sources")
