"""The compose file: Docker's own compose takes it, what it mounts is there, and every container is held short."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import JobSettings, ListenSettings, load_settings
from tests.conftest import absent
from tests.engine import ROOT as ENGINE

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yml"
COMPOSE = ENGINE / "usr/libexec/docker/cli-plugins/docker-compose"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]


def mounts() -> list[tuple[str, Path, str]]:
    """Service, file of ours, place in the container."""
    found = []
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                found.append((name, (FILE.parent / source).resolve(), target))
    return found


def test_compose_reads_the_file_as_we_do() -> None:
    if not COMPOSE.exists():
        absent("no docker-compose in .cache/engine: run tests/setup/engine.sh")
    command = [COMPOSE, "-f", FILE, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read = json.loads(done.stdout)["services"]
    assert set(read) == set(SERVICES)
    assert Path(read["enoent"]["build"]["context"]) == ROOT
    assert (ROOT / read["enoent"]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize(("service", "path", "target"), mounts(), ids=lambda value: getattr(value, "name", value))
def test_whatever_is_mounted_is_there(service: str, path: Path, target: str) -> None:
    assert path.exists()
    if path.is_dir():
        assert any(path.iterdir())
    [volume] = [volume for volume in SERVICES[service]["volumes"] if f":{target}:" in volume]
    assert volume.endswith(":ro")


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_held_short(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_named_volume_is_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {name for name in used if not name.startswith(".")} == set(yaml.safe_load(FILE.read_text())["volumes"])


def test_enoent_takes_its_settings_and_watches_the_registry_beside_it() -> None:
    [path] = [path for name, path, _ in mounts() if name == "enoent"]
    environment = {key: str(value) for key, value in SERVICES["enoent"]["environment"].items()}
    settings = load_settings(path, environment)
    [registry] = settings.registries
    assert registry.host.partition(":")[0] in SERVICES
    assert registry.insecure
    assert not settings.demo
    # Beyond loopback without tokens, which only the words auth = "none" allow.
    assert (settings.listen.address, settings.listen.auth) == ("0.0.0.0", "none")
    assert SERVICES["enoent"]["ports"] == [f"127.0.0.1:{settings.listen.port}:{ListenSettings().port}"]


def test_prometheus_scrapes_enoent_where_it_listens() -> None:
    [scrape] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"enoent:{ListenSettings().port}"]}]


def test_enoent_may_finish_its_work_before_it_is_killed() -> None:
    assert int(SERVICES["enoent"]["stop_grace_period"].removesuffix("s")) > JobSettings().grace_seconds
