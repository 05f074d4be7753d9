"""A namespace of containerd as a source: Debian's own, filled by `ctr` from a real registry."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from analyzers.finding import State
from service.errors import SourceError
from service.memory import Memory
from service.pipeline import Examiner
from service.settings import Settings, Workers
from service.sources import EventKind, ImageSource, Sighting
from service.sources.build import make_source, registry_source
from service.sources.build import watched as configured
from service.sources.containerd import UNTAGGED, ContainerdSource, sightings_of
from service.sources.contents import Registries
from service.sources.settings import ContainerdSettings, RegistrySettings
from service.worker import Pool
from tests.conftest import absent
from tests.containerd import Containerd, ContainerdAbsent, started
from tests.daemon import live
from tests.fakes.sink import Kept
from tests.make.images import Image
from tests.make.layers import script, sha256, tar_of
from tests.registry import Registry
from tests.service.watching import watched

pytestmark = pytest.mark.registry
NAMESPACE = "k8s.io"


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(started())
        except ContainerdAbsent as error:
            absent(str(error))
        yield running


def image(name: str, platform: str = "linux/amd64") -> Image:
    layer = tar_of({"bin/run": script("#!/opt/none\n"), "etc/name": name})
    return Image(layers=(layer,), entrypoint=["/bin/run"], platform=platform)


def source_of(
    containerd: Containerd, *registries: RegistrySettings, namespace: str = NAMESPACE, poll_seconds: float = 3600.0
) -> ContainerdSource:
    settings = ContainerdSettings(address=containerd.address, name="test", namespaces=(namespace,), poll_seconds=poll_seconds)
    return ContainerdSource(settings, Registries(lambda: registries, registry_source))


async def failure_of(call: object) -> SourceError:
    with pytest.raises(SourceError) as failure:
        await call
    return failure.value


async def test_images_come_move_and_go_in_their_namespace(containerd: Containerd, registry: Registry) -> None:
    name = f"{registry.host}/node/app:1"
    first = registry.push("node/app:1", image("first"))
    source = source_of(containerd)
    async with watched(source, 60) as watch:
        assert "node/app:1" not in (await watch.listing())[0]
        containerd.pull(NAMESPACE, name)
        while (seen := (await watch.listing())[0]).get("node/app:1") != first:
            pass
        second = registry.push("node/app:1", image("second"))
        containerd.pull("default", name)
        containerd.pull(NAMESPACE, name)
        while (seen := (await watch.listing())[0]).get("node/app:1") != second:
            pass
        containerd.ctr(NAMESPACE, "images", "rm", name)
        await watch.until(EventKind.GONE, "node/app:1")
    other = source_of(containerd, namespace="default")
    async with watched(other, 60) as watch:
        seen, _, whole = await watch.listing()
    assert (seen["node/app:1"], whole) == (second, True)
    await source.close()
    await other.close()
    containerd.ctr("default", "images", "rm", name)


async def test_an_image_is_judged_by_its_blobs_and_platforms_that_were_not_pulled_are_passed_over(
    containerd: Containerd, registry: Registry
) -> None:
    digest = registry.push("node/both:1", [image("x"), image("a", "linux/arm64")])
    containerd.pull(NAMESPACE, f"{registry.host}/node/both:1")
    source = source_of(containerd)
    async with Pool(Workers(parallel=1)) as pool:
        (examined,) = await Examiner(Memory(), pool).examine(source, Sighting("test", registry.host, "node/both", "1", digest))
    await source.close()
    assert (str(examined.image.platform), examined.layers_read) == ("linux/amd64", 1)
    assert json.loads(examined.report)["verdict"]["state"] == State.FAILS


async def test_a_layer_that_the_node_discarded_is_read_from_the_registry(containerd: Containerd, registry: Registry) -> None:
    """As managed Kubernetes does once a layer is unpacked (sources.md 4.1)."""
    digest = registry.push("node/discarded:1", image("discarded"))
    containerd.pull(NAMESPACE, f"{registry.host}/node/discarded:1")
    sighting = Sighting("test", registry.host, "node/discarded", "1", digest)
    source = source_of(containerd)
    (found,) = await source.resolve(sighting, ())
    assert isinstance(found, ImageSource)
    layer = found.layers[0].digest
    containerd.ctr(NAMESPACE, "content", "rm", layer)
    told = await failure_of(source.read(found, [0], Kept()))
    await source.close()
    assert told.code == "layers-missing"
    helped, kept = source_of(containerd, RegistrySettings(host=registry.host)), Kept()
    await helped.read(found, [0], kept)
    await helped.close()
    assert sha256(kept.blobs[0]) == layer


async def test_when_containerd_restarts_contact_is_lost_and_taken_up(containerd: Containerd, registry: Registry) -> None:
    digest = registry.push("node/kept:1", image("kept"))
    containerd.pull(NAMESPACE, f"{registry.host}/node/kept:1")
    source = source_of(containerd)
    async with watched(source, 60) as watch:
        await watch.listing()
        await asyncio.to_thread(containerd.stop)
        told = await failure_of(_forever(watch))
        assert told.temporary
    assert (await failure_of(_first(source))).code == "unreachable"
    containerd.start()  # it ends with the thread that started it
    async with asyncio.timeout(60):
        while True:
            try:
                async with watched(source, 60) as watch:
                    assert (await watch.listing())[0]["node/kept:1"] == digest
                    break
            except SourceError:
                await asyncio.sleep(0.1)  # a channel pauses between two attempts
    await source.close()


async def _forever(watch: object) -> None:
    while True:
        await watch.listing()  # type: ignore[attr-defined]


async def _first(source: ContainerdSource) -> None:
    async with watched(source, 60) as watch:
        await watch.listing()


def test_every_namespace_is_watched_by_the_daemon_as_a_source_of_its_own(
    containerd: Containerd, registry: Registry, tmp_path: Path
) -> None:
    registry.push("node/daemon:1", image("daemon"))
    with live(tmp_path, {"containerd": [{"address": containerd.address, "name": "node"}]}) as daemon:
        for namespace in (NAMESPACE, "default"):
            containerd.pull(namespace, f"{registry.host}/node/daemon:1")
            query = {"repository": "node/daemon", "standing": "fails", "source": f"node/{namespace}"}
            daemon.until(lambda query=query: len(daemon.images(**query)) == 1)
        lines = [line for line in daemon.logged("image done") if "node/daemon" in line["image"]]
        assert sum(line["read"] for line in lines) == 1, "the same layer was read in each namespace"
        containerd.ctr("default", "images", "rm", f"{registry.host}/node/daemon:1")
        daemon.until(lambda: len(daemon.images(repository="node/daemon")) == 1)


def test_a_source_a_namespace_is_made_from_the_settings() -> None:
    settings = Settings(docker=(), layouts=(), containerd=(ContainerdSettings(namespaces=("default", "moby")),))
    made = {name: make_source(each) for name, each in configured(settings).items()}
    assert {name: source.kind for name, source in made.items()} == {
        "containerd/default": "containerd", "containerd/moby": "containerd",
    }  # fmt: skip


def test_names_that_say_no_more_than_another_are_left_out() -> None:
    """One pull of Kubernetes makes a record by tag, one by digest and one by the config's digest."""
    one, two, three = (f"sha256:{letter * 64}" for letter in "abc")
    images = [
        ("registry.example/a:1", one), (f"registry.example/a@{one}", one), (f"sha256:{'d' * 64}", one),
        (f"registry.example/b@{two}", two), (f"sha256:{'e' * 64}", two), (f"moby-dangling@{three}", three), ("No Name", three),
    ]  # fmt: skip
    assert sightings_of("s", images) == [
        Sighting("s", "registry.example", "a", "1", one),
        Sighting("s", "registry.example", "b", "", two),
        Sighting("s", "containerd", UNTAGGED, "", three),
    ]
