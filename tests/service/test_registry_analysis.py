"""From a real registry to the store: what a source gives must be what the store can keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.outbound import HostPolicy, Outbound
from service.pipeline import Examiner
from service.settings import StateSettings, Workers
from service.sources import Sighting
from service.sources.registry import RegistrySource
from service.sources.settings import RegistrySettings
from service.store import Store
from service.worker import Pool
from tests.make.images import Image
from tests.make.layers import tar_of
from tests.registry import Registry

pytestmark = pytest.mark.registry


async def test_an_image_of_a_registry_is_read_judged_and_kept(registry: Registry, tmp_path: Path) -> None:
    registry.push("made/kept:1", Image(layers=(tar_of({"bin/x": "x"}), tar_of({"etc/y": "y"})), cmd=["/bin/x"]))
    source = RegistrySource(RegistrySettings(host=registry.host), Outbound(HostPolicy([registry.host])))
    store = await Store.open(StateSettings(dir=str(tmp_path)))
    async with Pool(Workers(parallel=1)) as pool:
        (examined,) = await Examiner(store, pool).examine(source, Sighting("r", registry.host, "made/kept", "1"))
    assert examined.outcome == "done"
    assert await store.report(examined.report_key) == examined.report
    assert [layer.digest for layer in await store.layers_of(examined.image.manifest_digest)] == [
        layer.digest for layer in examined.image.layers
    ]
    await source.close()
    await store.close()
