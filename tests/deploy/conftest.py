"""One Prometheus that scraped a made fleet twice, shared by the tests that ask it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.conftest import absent
from tests.deploy.scraped import Served, fill, go_on, served
from tests.make.site import World
from tests.prometheus import Prometheus, PrometheusAbsent, started


class Scraped(NamedTuple):
    """A Prometheus and the fleet it knows."""

    prometheus: Prometheus
    world: World


@pytest.fixture(scope="session")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Scraped before and after `go_on`, so that there is growth and a rate."""
    with contextlib.ExitStack() as stack:
        world = World()
        fill(world)
        site: Served = stack.enter_context(served(world))
        try:
            prometheus = stack.enter_context(started(tmp_path_factory.mktemp("prometheus"), site.address))
        except PrometheusAbsent as error:
            absent(str(error))
        wait_for(prometheus, "enoent_analysis_duration_seconds_count == 1", 2)
        site.change(go_on)
        wait_for(prometheus, "enoent_analysis_duration_seconds_count == 11", 2)
        # The images' text is written apart from the daemon's own numbers, and may come a scrape later.
        wait_for(prometheus, 'enoent_image_uncompressed_bytes{repository="shop/worker"} == 82000000', 1)
        yield Scraped(prometheus, world)


def wait_for(prometheus: Prometheus, condition: str, samples: int) -> None:
    """Until the condition held at so many scrapes."""
    counted = f"count_over_time(({condition})[1m:500ms]) >= {samples}"
    prometheus.until(lambda: prometheus.query(counted), condition)
