"""The fleet on a real engine: images loaded in one archive, containers run two at a time, none for longer than it may."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.engine import Engine, RunResult
from tests.fleet.image import BASES, FleetImage, base_tar
from tests.make.images import Image, docker_archive

THREADS = 2
ATTEMPTS = 3
SECONDS = 60
"""How long a container may take; the programs are ours or plain tools and end at once."""
_LIMITS = ("--ulimit", "core=0", "--ulimit", "cpu=20")
_One = TypeVar("_One")
_Done = TypeVar("_Done")


def tag_of(image: FleetImage) -> str:
    return f"fleet/{image.id}:1"


def in_threads(work: Callable[[_One], _Done], items: Iterable[_One]) -> list[_Done]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


def load(engine: Engine, images: Mapping[str, Image]) -> None:
    """All of them at once."""
    engine.load(docker_archive(images))


def run(engine: Engine, tag: str, name: str, before: Sequence[str] = (), behind: Sequence[str] = ()) -> RunResult:
    """`docker run` of an image; a container that does not end is killed, and TimeoutExpired raised.

    Under load an engine now and then loses what a short-lived container wrote. One that was not killed by a signal and
    said nothing is therefore asked again.
    """
    command = ["run", "--rm", "--name", name, "--network", "none", *_LIMITS, *before, tag, *behind]
    try:
        for _ in range(ATTEMPTS):
            ran = engine.docker(*command, timeout=SECONDS)
            if ran.stdout or ran.stderr or ran.exit_code > 128:
                break
    except subprocess.TimeoutExpired:
        engine.docker("rm", "-f", name)
        raise
    return ran


def build(engine: Engine, images: Sequence[FleetImage]) -> None:
    """`docker build` of those that have a Dockerfile, by BuildKit or the classic builder."""
    bases = {
        f"fleet-base/{name}:1": Image(layers=(base_tar(name),)) for name in BASES if any(each.base == name for each in images)
    }
    load(engine, bases)
    in_threads(lambda image: _build(engine, image), images)


def _build(engine: Engine, image: FleetImage) -> None:
    with tempfile.TemporaryDirectory(prefix="build") as folder:
        context = Path(folder, "context")
        for path, item in image.layers()[0].items.items():
            target = context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(item.content)  # type: ignore[union-attr]
            target.chmod(item.mode)  # type: ignore[union-attr]
        text = image.dockerfile.replace("FROM base", f"FROM fleet-base/{image.base}:1")
        (context / "Dockerfile").write_text(text)
        if image.builder == "classic":
            program, environment = "docker", engine.environment(DOCKER_BUILDKIT="0")
        else:
            program, environment = "docker-buildx", engine.environment(BUILDX_CONFIG=folder)
        command = [
            program,
            "build",
            "--network",
            "none",
            "-t",
            tag_of(image),
            *(["--provenance=false"] if "x" in program else []),
        ]
        done = subprocess.run(
            [*command, str(context)],
            env={**environment, "HOME": folder},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{image.id}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def save(engine: Engine, images: Sequence[FleetImage]) -> bytes:
    """The `docker save` archive of these images."""
    path = "/images/get?" + "&".join(f"names={tag_of(image)}" for image in images)
    status, archive = engine.request("GET", path)
    if status != 200:
        raise RuntimeError(f"save answered {status}: {archive[:500]!r}")
    return archive


def full() -> bool:
    """Whether the long suites are run whole (make test-full)."""
    return os.environ.get("ENOENT_TEST_FULL", "") not in ("", "0")
