"""A made fleet behind the real web application, served on loopback from a thread, so that a Prometheus can scrape it.

The fleet has one image for each case that a panel or an alert tells apart, with sizes and findings that no other has.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from analyzers.finding import Finding, Reason, Severity, Stage, State, Verdict
from service.fleet import SourceStatus
from service.owners import Owners, OwnerSettings
from tests.make.reports import failing, starting
from tests.make.site import World

WORKER_BEFORE, WORKER_AFTER = 50_000_000, 82_000_000
OLDEST_SECONDS = 700.0
LISTED_SECONDS = 90.0


def finding(rule: str, severity: Severity) -> Finding:
    return Finding(rule, severity, "made for a test", why="made for a test")


def fill(world: World) -> None:
    """Every verdict, two sources, two registries, two platforms, and a daemon that has done some work."""
    world.fleet.renew_owners(Owners((OwnerSettings("payments", ("*/shop/[ar]*",)), OwnerSettings("backend", ("*/shop/*",)))))
    world.show(starting(1), "shop/api", "1.0", compressed_bytes=30_000_000)
    world.show(failing(2, wasted_bytes=14_200_000), "shop/report", "1.0")
    world.show(starting(3, size_bytes=WORKER_BEFORE, x86_level=2), "shop/worker", "2.0", registry="other.example.test")
    risky = (finding("load.library-absent", Severity.LATER), finding("load.symbol-not-found", Severity.LATER),
             finding("size.deleted-later", Severity.WARNING))  # fmt: skip
    arm = starting(4, platform="linux/arm64", findings=risky, size_bytes=61_000_000)
    world.show(arm, "shop/api", "1.0", compressed_bytes=20_000_000)
    message = "error while loading shared libraries: libdl.so.2: cannot open shared object file: No such file or directory"
    verdict = Verdict(state=State.FAILS, stage=Stage.LOAD, reason=Reason.LIBRARY_ABSENT, message=message, exit_code=127)
    lacking = failing(5, verdict=verdict, os="", libc="glibc", size_bytes=7_000_000)
    world.show(lacking, "tool", "dev", source="docker", registry="", compressed_bytes=0)
    world.show(None, "shop/broken", "3.0", outcome="corrupt-layer", detail="layer 2 ends early")
    world.show(None, "shop/later", "2.0")
    world.show(starting(6), "shop/api", "")
    now = time.time()
    world.fleet.note_source(SourceStatus(name="production", kind="registry", up=True, last_success=now - LISTED_SECONDS))
    world.fleet.note_source(SourceStatus(name="docker", kind="docker", up=False, error="connection refused"))
    metrics = world.metrics
    metrics.set("enoent_build_info", "0.1.0", "1", "1", to=1)
    metrics.set("enoent_queue_jobs", "queued", to=3)
    metrics.set("enoent_queue_jobs", "leased", to=1)
    metrics.set("enoent_store_writable", to=1)
    metrics.set("enoent_queue_oldest_timestamp_seconds", to=now - OLDEST_SECONDS)
    metrics.analysed("done", 2.0)
    want_layers(world)
    metrics.set("enoent_config_last_reload_successful", to=1)
    metrics.set("enoent_event_loop_delay_seconds", to=0.25)
    metrics.set("enoent_store_bytes", to=123_456)
    metrics.set("enoent_workers", "idle", to=2)
    metrics.add("enoent_notices_total", "chat", "sent")
    metrics.add("enoent_streamed_bytes_total", "production", by=1000)
    metrics.add("enoent_worker_exits_total", "memory")
    metrics.add("enoent_limit_hits_total", "cpu_seconds")


def want_layers(world: World) -> None:
    """Eight wanted, two of them read. In the same shares each time: Prometheus guesses on from a counter's first value."""
    for result, count in (("hit", 5), ("shared", 1), ("miss", 2)):
        world.metrics.add("enoent_layer_requests_total", result, by=count)


def go_on(world: World) -> None:
    """What happens between two scrapes: a tag is pushed again and bigger, and the daemon works."""
    lacking = finding("load.later-symbol", Severity.LATER)
    grown = starting(7, size_bytes=WORKER_AFTER, x86_level=3, findings=(lacking,))
    growth = WORKER_AFTER - WORKER_BEFORE
    news = {"growth_bytes": growth, "new_rules": (lacking.rule,)}
    world.show(grown, "shop/worker", "2.0", registry="other.example.test", **news)
    metrics = world.metrics
    for _ in range(10):
        metrics.analysed("done", 2.0)
    want_layers(world)
    metrics.add("enoent_streamed_bytes_total", "production", by=5_000_000)
    metrics.add("enoent_worker_exits_total", "memory", by=2)
    metrics.add("enoent_notices_total", "chat", "sent", by=2)
    metrics.add("enoent_limit_hits_total", "cpu_seconds", by=2)


class Served:
    """A world under an address. It is changed in the loop that serves it."""

    def __init__(self, world: World, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self.world = world
        self.address = address
        self._loop = loop

    def change(self, how: Callable[[World], Any]) -> None:
        async def there() -> None:
            how(self.world)

        asyncio.run_coroutine_threadsafe(there(), self._loop).result(30)


@contextlib.contextmanager
def served(world: World) -> Iterator[Served]:
    """The application of a world on a free port of loopback."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(world.app())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        host, port = runner.addresses[0][:2]
        yield Served(world, f"{host}:{port}", loop)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
