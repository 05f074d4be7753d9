"""The daemon itself, as it is run: an image is pushed to the registry it watches, and everything until its verdict counts.

Its loop is asked from outside: the slowest answer of /livez while the image is analysed stands for the longest stall. The
costs are those of a daemon that has been up for a while; its workers are started by what it saw before.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost, Meter
from tests.daemon import LiveDaemon, live

PROBE_SECONDS = 0.05
VERDICT_SECONDS = 600.0
WATCHED = "watched"
"""The repositories that the daemon looks at lie below this name."""


class Probe:
    """Asks /livez again and again in a thread of its own, while the context lasts."""

    def __init__(self, daemon: LiveDaemon) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.longest = 0.0

    def _ask(self) -> None:
        while not self._over.wait(PROBE_SECONDS):
            begun = time.perf_counter()
            self._daemon.request("GET", "/livez")
            self.longest = max(self.longest, time.perf_counter() - begun)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def analyse(host: str, push: Callable[[str], None]) -> dict[str, Any]:
    """`push` puts the image of this name into a watched repository; what the daemon spends on each is measured."""
    with tempfile.TemporaryDirectory(prefix="enoent-bench-") as folder:
        repositories = [f"{WATCHED}/layers", f"{WATCHED}/big"]
        watched = {"host": host, "name": "bench", "repositories": repositories, "poll_seconds": 0.1}
        with live(Path(folder), {"registries": [watched], "workers": {"parallel": 0}}) as daemon:
            _measured(daemon, push, host, "layers:1")  # starts every worker
            return {
                "daemon_cold": _measured(daemon, push, host, "big:1"),
                "daemon_warm": _measured(daemon, push, host, "big:2"),
            }


def _measured(daemon: LiveDaemon, push: Callable[[str], None], host: str, name: str) -> Cost:
    repository, _, tag = name.partition(":")

    def decided() -> bool:
        # Its log costs the daemon nothing to read; its API would be part of what is measured.
        return bool(daemon.logged("image done", image=f"{host}/{WATCHED}/{repository}:{tag}"))

    with Probe(daemon) as probe:
        meter = Meter(daemon.process.pid)
        push(name)
        daemon.until(decided, f"a verdict on {name}", seconds=VERDICT_SECONDS)
        return meter.read(probe.longest)
