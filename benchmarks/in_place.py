"""What reading a real engine's overlay2 directories costs, beside `docker save`: `python -m benchmarks.in_place` prints JSON.

The image is loaded into an engine of its own. In turn: the export alone, thrown away; the examination by export; the
examination in place. The page cache is warm, as it is after a build or a pull. Only graphdriver engines, as root.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from benchmarks.image import Image, big_image, sha256
from benchmarks.measure import Meter
from service.memory import Memory
from service.pipeline import Examiner
from service.settings import Workers
from service.sources import Sighting
from service.sources.docker_engine import DockerSource
from service.sources.settings import DockerSettings
from service.worker import Pool
from tests.engine import Engine, started

NAME = "bench/big:1"
PIECE_BYTES = 1 << 20
TURNS = 3


def archive(image: Image) -> Iterator[bytes]:
    """The image as `docker load` takes it, with its layers as they were compressed."""
    config = image.config()
    names = [f"{layer.digest.removeprefix('sha256:')}.tar.gz" for layer in image.layers]
    rows = [{"Config": "config.json", "RepoTags": [NAME], "Layers": names}]
    for name, body in (("config.json", config), ("manifest.json", json.dumps(rows).encode())):
        yield _header(name, len(body)) + body + bytes(-len(body) % 512)
    for name, layer in zip(names, image.layers, strict=True):
        yield _header(name, layer.compressed_bytes)
        with layer.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
        yield bytes(-layer.compressed_bytes % 512)
    yield bytes(1024)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def save(engine: Engine) -> float:
    """Seconds of `docker save` whose bytes nobody looks at."""
    environment = engine.environment()
    program = shutil.which("docker", path=environment["PATH"]) or "docker"
    begun = time.perf_counter()
    subprocess.run([program, "save", NAME], stdout=subprocess.DEVNULL, env=environment, check=True)
    return time.perf_counter() - begun


async def examine(engine: Engine, *, in_place: bool) -> dict[str, Any]:
    """One examination with nothing remembered."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(Pool(Workers()))
        source = DockerSource(DockerSettings(socket=engine.socket, name="bench", in_place=in_place))
        stack.push_async_callback(source.close)
        await pool.layer(_empty())
        begun, meter = time.perf_counter(), Meter()
        (examined,) = await Examiner(Memory(), pool).examine(source, Sighting("bench", "docker.io", "bench/big", "1"))
        if examined.outcome != "done":
            raise RuntimeError(f"{examined.outcome}: {examined.detail}")
        return {
            "seconds": time.perf_counter() - begun, "bytes_read": examined.bytes_read, **msgspec.structs.asdict(meter.read()),
            "report": sha256(examined.report),
        }  # fmt: skip


async def _empty() -> Any:
    yield bytes(10240)


def main() -> int:
    image = big_image()
    with started() as engine:
        engine.load(archive(image))
        found = {
            "uncompressed_bytes": image.uncompressed_bytes,
            "save": [save(engine) for _ in range(TURNS)],
            "export": [asyncio.run(examine(engine, in_place=False)) for _ in range(TURNS)],
            "in_place": [asyncio.run(examine(engine, in_place=True)) for _ in range(TURNS)],
        }
    json.dump(found, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
