"""`python -m benchmarks`: what an analysis costs, beside the least it could cost, on this machine.

Makes the image (benchmarks/image.py), serves it from a real docker-registry on the loopback interface, measures each
scenario in a process of its own, prints a table and writes everything as JSON. Nothing is asserted here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import builds, daemon, fleet, table
from benchmarks.image import FOLDER, Image, Layer, added_layer, big_image, small_layers
from benchmarks.product import SCENARIOS
from tests import registry

ROOT = Path(__file__).resolve().parent.parent
DAEMON, FLEET, BUILDS = "daemon", "fleet", "builds"
CANARIES = 5
SMALL_LAYERS = 120


def run(module: str, *arguments: str) -> dict[str, Any]:
    """A module of this benchmark in a fresh process; what it printed."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def floor_and_cold(server: registry.Registry, layers: Iterable[Layer], repeat: int, *, cold: bool) -> dict[str, Any]:
    """Turn by turn, because a machine is not the same from minute to minute; the least of each counts."""
    blobs = [str(layer.path) for layer in layers]
    floors, colds = [], []
    for _ in range(repeat):
        floors.append(run("benchmarks.floor", *blobs)["cpu_seconds"])
        if cold:
            colds.append(run("benchmarks.product", "cold", server.host)["cold"])
    least = {"cold": min(colds, key=_cpu_seconds)} if cold else {}
    return {"floor": min(floors), "floors": floors, "colds": [_cpu_seconds(each) for each in colds], **least}


def _cpu_seconds(cost: Mapping[str, Any]) -> float:
    return float(cost["daemon_cpu_seconds"] + cost["workers_cpu_seconds"])


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
    }


def images() -> dict[str, Image]:
    """Everything that is analysed, by name."""
    big = big_image()
    return {
        "big:1": big,
        "big:2": Image(big.recipe, (*big.layers, added_layer())),
        **{f"canary:{number}": Image("", (added_layer(20_000, number),)) for number in range(1, CANARIES + 1)},
        "layers:1": Image("", small_layers(SMALL_LAYERS)),
    }


def push_blobs(server: registry.Registry, repository: str, image: Image) -> None:
    for layer in image.layers:
        server.push_blob(repository, layer.path.read_bytes())
    server.push_blob(repository, image.config())


def measure(scenarios: Sequence[str], repeat: int) -> dict[str, Any]:
    """All that was asked for, by name."""
    facts: dict[str, Any] = {"machine": machine()}
    if FLEET in scenarios:
        facts |= fleet.measure()
    if BUILDS in scenarios:
        facts["after_builds"] = builds.after_builds()
    others = [scenario for scenario in scenarios if scenario not in (FLEET, BUILDS)]
    return facts | (measure_images(others, repeat) if others else {})


def measure_images(scenarios: Sequence[str], repeat: int) -> dict[str, Any]:
    """What analyses cost, and the image they are of."""
    made = images()
    big = made["big:1"]
    facts: dict[str, Any] = {
        "image": {
            "compressed_bytes": big.compressed_bytes,
            "uncompressed_bytes": big.uncompressed_bytes,
            "gzip_ratio": big.uncompressed_bytes / big.compressed_bytes,
            "entries": big.entries,
            "elf_files": big.elf_files,
            "layers": len(big.layers),
        },
    }
    with registry.started() as server:
        for name, image in made.items():
            repository, _, tag = name.partition(":")
            push_blobs(server, repository, image)
            server.push_manifest(repository, tag, image.manifest())
        facts |= floor_and_cold(server, big.layers, repeat, cold="cold" in scenarios)
        for scenario in scenarios:
            if scenario == DAEMON:
                facts |= daemon.analyse(server.host, _shower(server, made))
            elif scenario != "cold":
                facts |= run("benchmarks.product", scenario, server.host)
    return facts


def _shower(server: registry.Registry, made: dict[str, Image]) -> Callable[[str], None]:
    """Shows an image under another repository than the one it was pushed to; its blobs are there before."""
    for name, image in made.items():
        push_blobs(server, f"{daemon.WATCHED}/{name.partition(':')[0]}", image)

    def show(name: str) -> None:
        repository, _, tag = name.partition(":")
        server.push_manifest(f"{daemon.WATCHED}/{repository}", tag, made[name].manifest())

    return show


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    choices = [*SCENARIOS, DAEMON, FLEET, BUILDS]
    parser.add_argument("--only", action="append", choices=choices, help="measure this alone; may be repeated")
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of the floor and the cold analysis, turn by turn; the least of each counts"
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "result.json", help="where the numbers go as JSON")
    chosen = parser.parse_args()
    facts = msgspec.to_builtins(measure(chosen.only or choices, chosen.repeat))
    chosen.out.write_text(json.dumps(facts, indent=1))
    print("\n".join(table.lines(facts)))
    print(f"\nas JSON: {chosen.out}")


if __name__ == "__main__":
    main()
