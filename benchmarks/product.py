"""The product's own parts at work, in a process of their own: `python -m benchmarks.product SCENARIO HOST` prints JSON.

Examiner, Pool, store and registry source as the daemon puts them together, so that what they cost is told apart from the
cost of the benchmark. Every scenario is one function here.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from analyzers.oci import ImageConfig
from analyzers.profile import DEFAULT_PROFILE
from benchmarks.files import tar_of_many
from benchmarks.measure import Cost, Meter, loop_lag
from service.outbound import HostPolicy, Outbound
from service.pipeline import Examined, Examiner
from service.settings import StateSettings, Workers
from service.sources import Sighting
from service.sources.registry import RegistrySource
from service.sources.settings import RegistrySettings
from service.store import Store
from service.worker import LayerOutcome, Pool, Sections

CANARY_HEAD_START_SECONDS = 1.0
JUDGEMENTS = 5
MANY_FILES = 3_000_000


class Parts:
    """One daemon's worth of parts."""

    def __init__(self, source: RegistrySource, store: Store, pool: Pool) -> None:
        self.source = source
        self.store = store
        self.pool = pool
        self.examiner = Examiner(store, pool)

    async def examine(self, name: str) -> Examined:
        """One image of one platform, which must be analysable."""
        repository, _, tag = name.partition(":")
        sighting = Sighting(self.source.name, self.source.name, repository, tag)
        (examined,) = await self.examiner.examine(self.source, sighting)
        if examined.outcome != "done":
            raise RuntimeError(f"{name}: {examined.outcome}: {examined.detail}")
        return examined


@contextlib.asynccontextmanager
async def parts(host: str, settings: Workers = Workers()) -> AsyncIterator[Parts]:  # noqa: B008
    """The parts with an empty store, put away afterwards."""
    with tempfile.TemporaryDirectory(prefix="enoent-bench-") as folder:
        store = await Store.open(StateSettings(dir=folder))
        source = RegistrySource(RegistrySettings(host=host), Outbound(HostPolicy([host])))
        try:
            async with Pool(settings) as pool:
                yield Parts(source, store, pool)
        finally:
            await source.close()
            await store.close()


async def measured(work: Callable[[], Awaitable[object]]) -> Cost:
    """What some work costs."""
    async with loop_lag() as lag:
        meter = Meter()
        await work()
        return meter.read(lag.longest)


async def cold(host: str) -> dict[str, Any]:
    """The big image by a daemon that knows nothing; its workers have been started by what it saw before."""
    async with parts(host) as made:
        await made.examine("layers:1")
        return {"cold": await measured(lambda: made.examine("big:1"))}


async def again(host: str) -> dict[str, Any]:
    """The big image with one layer more; then judged again; then every ELF file of it."""
    async with parts(host) as made:
        await made.examine("big:1")
        store_bytes = made.store.database.size_bytes
        warm = await measured(lambda: made.examine("big:2"))
        examined = await made.examine("big:1")
        image, keys = examined.image, list(examined.layers)

        async def judge() -> None:
            await made.pool.judge(image.image_id, image.config, keys, made.store.sections, DEFAULT_PROFILE)

        judged = [await measured(judge) for _ in range(JUDGEMENTS)]
        every = await measured(lambda: made.examiner.list_linkage(made.source, image, all_elf=True))
    report = msgspec.json.decode(examined.report)
    return {
        "stored_bytes": store_bytes,
        "warm": warm,
        "judge_held": min(judged, key=lambda cost: cost.wall_seconds),
        "list_every_elf": every,
        "verdict": report["verdict"]["state"],
        "elf_files": report["elf_files"],
        "files": report["files"],
    }


async def judge(host: str) -> dict[str, Any]:
    """Judged by a worker that holds none of the layers: facts come from the store and are decoded."""
    async with parts(host) as made:
        small, big = await made.examine("canary:1"), await made.examine("big:1")
        async with Pool(Workers()) as fresh:

            async def once(examined: Examined) -> None:
                image, sections = examined.image, made.store.sections
                await fresh.judge(image.image_id, image.config, examined.layers, sections, DEFAULT_PROFILE)

            await once(small)  # the worker's start is another matter
            return {"judge_from_store": await measured(lambda: once(big))}


async def canary(host: str) -> dict[str, Any]:
    """A small image alone, and the same behind a big one that is being read (hostile I3)."""
    async with parts(host) as made:
        await made.examine("canary:1")
        alone = await measured(lambda: made.examine("canary:2"))
        big = asyncio.create_task(made.examine("big:1"))
        behind = []
        async with loop_lag() as lag:
            for number in (3, 4, 5):
                await asyncio.sleep(CANARY_HEAD_START_SECONDS)
                begun = time.perf_counter()
                await made.examine(f"canary:{number}")
                behind.append(time.perf_counter() - begun)
                if big.done():
                    break
        await big
    return {"alone_seconds": alone.wall_seconds, "behind_seconds": behind, "loop_lag_seconds": lag.longest}


async def many_layers(host: str) -> dict[str, Any]:
    """An image of many small layers."""
    async with parts(host) as made:
        await made.examine("canary:1")
        return {"many_layers": await measured(lambda: made.examine("layers:1"))}


async def many_files(host: str) -> dict[str, Any]:
    """A layer of three million files (decisions 5), and an image of it judged: memory is what matters here."""
    config = ImageConfig(cmd=("/srv/none",), diff_ids=())
    async with Pool(Workers(parallel=1)) as pool:

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in tar_of_many(MANY_FILES):
                yield chunk

        outcomes: list[LayerOutcome] = []

        async def take() -> None:
            outcomes.append(await pool.layer(chunks()))

        async def sections(_: str) -> Sections:
            return outcome.sections

        read = await measured(take)
        (outcome,) = outcomes

        judged = await measured(lambda: pool.judge("sha256:" + "0" * 64, config, [outcome.read.key], sections, DEFAULT_PROFILE))
    packed = sum(len(chunk) for chunks in outcome.sections.values() for chunk in chunks)
    return {
        "many_files": {
            "entries": outcome.read.entries,
            "read": read,
            "judged": judged,
            "worker_bytes_a_file": read.workers_peak_bytes[0] / outcome.read.entries,
            "stored_bytes_a_file": packed / outcome.read.entries,
        }
    }


SCENARIOS: Mapping[str, Callable[[str], Awaitable[dict[str, Any]]]] = {
    "cold": cold,
    "again": again,
    "judge": judge,
    "canary": canary,
    "many-layers": many_layers,
    "many-files": many_files,
}


def main(arguments: list[str]) -> None:
    scenario, host = arguments
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(SCENARIOS[scenario](host))) + b"\n")  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1:])
