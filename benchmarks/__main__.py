"""`python -m benchmarks`: what an analysis costs, beside the least it could cost, on this machine.

Makes the image (benchmarks/image.py), serves it from a real docker-registry on the loopback interface, measures each
scenario of benchmarks/product.py in a process of its own, prints a table and writes it as JSON. Nothing is asserted here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.image import FOLDER, Image, Layer, added_layer, big_image, small_layers
from benchmarks.product import SCENARIOS
from tests import registry

ROOT = Path(__file__).resolve().parent.parent
CANARIES = 5
SMALL_LAYERS = 120


def run(module: str, *arguments: str) -> dict[str, Any]:
    """A module of this benchmark in a fresh process; what it printed."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def push(server: registry.Registry, name: str, image: Image) -> None:
    repository, _, tag = name.partition(":")
    for layer in image.layers:
        server.push_blob(repository, layer.path.read_bytes())
    server.push_blob(repository, image.config())
    server.push_manifest(repository, tag, image.manifest())


def floor(layers: Iterable[Layer], repeat: int) -> dict[str, Any]:
    """The least of several runs."""
    runs = [run("benchmarks.floor", *(str(layer.path) for layer in layers)) for _ in range(repeat)]
    return min(runs, key=lambda each: float(each["cpu_seconds"]))


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


def measure(scenarios: Sequence[str], repeat: int) -> dict[str, Any]:
    image = big_image()
    facts: dict[str, Any] = {
        "machine": machine(),
        "image": {
            "compressed_bytes": image.compressed_bytes,
            "uncompressed_bytes": image.uncompressed_bytes,
            "gzip_ratio": image.uncompressed_bytes / image.compressed_bytes,
            "entries": image.entries,
            "elf_files": image.elf_files,
            "layers": len(image.layers),
        },
    }
    with registry.started() as server:
        push(server, "big:1", image)
        push(server, "big:2", Image(image.recipe, (*image.layers, added_layer())))
        for number in range(1, CANARIES + 1):
            push(server, f"canary:{number}", Image("", (added_layer(20_000, number),)))
        push(server, "layers:1", Image("", small_layers(SMALL_LAYERS)))
        facts["floor"] = floor(image.layers, repeat)
        for scenario in scenarios:
            facts |= run("benchmarks.product", scenario, server.host)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="measure this scenario alone; may be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="runs of the floor, of which the best counts")
    parser.add_argument("--out", type=Path, default=FOLDER / "result.json", help="where the numbers go as JSON")
    chosen = parser.parse_args()
    facts = measure(chosen.only or list(SCENARIOS), chosen.repeat)
    chosen.out.write_text(json.dumps(facts, indent=1))
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
