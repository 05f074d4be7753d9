"""Our own image, built by deploy/Dockerfile with a real engine and no network, and what tests ask of it.

tests/setup/image.sh gathers the base (made by mmdebstrap, imported here under the name that the Dockerfile has) and the
wheels; the build itself downloads nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.engine import ROOT as ENGINE
from tests.engine import Engine, RunResult

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
CACHE = ROOT / ".cache" / "image"
BUILDX = ENGINE / "usr/libexec/docker/cli-plugins/docker-buildx"
TAG = "enoent:test"
UID = 65532
PYTHON = "/opt/enoent/bin/python"
BUILD_SECONDS = 280


class OwnImageAbsent(Exception):
    """It cannot be built here; the text says why."""


def base_name() -> str:
    """The default of the Dockerfile's BASE."""
    found = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def ingredients() -> tuple[Path, Path]:
    """The base as a tar, and the folder of wheels of the lock file. Raises OwnImageAbsent."""
    locked = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()[:16]
    base, wheels = CACHE / f"{base_name().replace(':', '-')}.tar", CACHE / f"wheels-{locked}"
    for path in (base, wheels, BUILDX):
        if not path.exists():
            raise OwnImageAbsent(f"no {path.name}: run tests/setup/image.sh and tests/setup/engine.sh")
    return base, wheels


def build(engine: Engine) -> None:
    """Builds TAG. Raises OwnImageAbsent, and AssertionError with the build's words when it fails."""
    base, wheels = ingredients()
    if engine.docker("image", "inspect", base_name()).exit_code != 0:
        imported = engine.docker("import", str(base), base_name())
        assert imported.exit_code == 0, imported.stderr
    command = [str(BUILDX), "build", "--progress", "plain", "--network", "none", "--build-context", f"wheels={wheels}"]
    command += ["--build-arg", "PIP_NO_INDEX=1", "--build-arg", "REVISION=0123abc", "-f", str(DOCKERFILE), "-t", TAG, str(ROOT)]
    with tempfile.TemporaryDirectory() as home:
        environment = engine.environment(HOME=home, DOCKER_CONFIG=home)
        built = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    assert built.returncode == 0, built.stderr[-4000:]


def inspect(engine: Engine, kind: str, name: str) -> dict[str, Any]:
    status, answer = engine.request("GET", f"/{kind}/{name}/json")
    assert status == 200, answer
    return dict(json.loads(answer))


def python(engine: Engine, container: str, script: str) -> RunResult:
    """Runs a script in a container by its own interpreter, without a shell."""
    return engine.docker("exec", container, PYTHON, "-I", "-c", script)
