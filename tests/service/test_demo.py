"""The demonstration fleet is made of images that behave as their names say, under a real engine too."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from service.demo import build_demo
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.run import run

FAILING = {
    "hello-c:scratch": "exec /hello: no such file or directory",
    "hello-c:alpine": "exec /hello: no such file or directory",
    "go-net:scratch": "exec /server: no such file or directory",
    "rust-cli:busybox-glibc": "libdl.so.2: cannot open shared object file",
    "entrypoint-script:alpine": "exec /docker-entrypoint.sh: no such file or directory",
    "entrypoint-script:crlf": "exec /docker-entrypoint.sh: no such file or directory",
    "shell-form:scratch": "stat /bin/sh: no such file or directory",
    "unknown-user:scratch": "unable to find user app",
    "wrong-architecture:latest": "exec /server: exec format error",
    "not-executable:latest": "permission denied",
    "not-on-path:latest": "executable file not found in $PATH",
    "removed-library:latest": "libresolv.so.2: cannot open shared object file",
}
STARTING = {
    "hello-static:scratch",
    "go-net:cgo-disabled",
    "go-net:busybox-glibc",
    "hello-c:busybox-glibc",
    "rust-cli:musl",
    "rust-cli:debian",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    build_demo(folder)
    return folder


def names(folder: Path) -> set[str]:
    found = set()
    for index in folder.glob("*/index.json"):
        for entry in json.loads(index.read_bytes())["manifests"]:
            found.add(f"{index.parent.name}:{entry['annotations']['org.opencontainers.image.ref.name']}")
    return found


def test_references_name_what_was_written(tmp_path: Path) -> None:
    references = build_demo(tmp_path)
    assert {reference.removeprefix(f"oci:{tmp_path}/") for reference in references} == names(tmp_path)
    assert len(references) >= 12


def test_the_same_machine_gives_the_same_digests(tmp_path: Path, demo: Path) -> None:
    build_demo(tmp_path)
    for index in demo.glob("*/index.json"):
        assert index.read_bytes() == (tmp_path / index.parent.name / "index.json").read_bytes()


@pytest.mark.docker
def test_every_image_starts_or_fails_as_its_name_says(demo: Path, engine: Engine, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        absent("skopeo is not installed")
    seen = names(demo)
    assert seen >= STARTING
    assert seen >= set(FAILING)
    for name in sorted(seen):
        repository, _, tag = name.partition(":")
        archive = tmp_path / f"{repository}-{tag}.tar"
        copy = ["skopeo", "copy", "-q", f"oci:{demo}/{repository}:{tag}", f"docker-archive:{archive}:demo/{name}"]
        subprocess.run(copy, check=True, timeout=60, capture_output=True)
        engine.load(archive.read_bytes())
        # Asked again where a loaded engine lost what a short-lived container wrote.
        result = run(engine, f"demo/{name}", f"demo-{repository}-{tag}")
        if name in FAILING:
            assert result.exit_code != 0, name
            assert FAILING[name] in result.stdout + result.stderr, name
        else:
            assert (result.exit_code, result.stderr) == (0, ""), name
