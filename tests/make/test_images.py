"""Images that the tests make are images to others too: Docker runs them, skopeo reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.engine import Engine
from tests.make.images import Image, docker_archive, oci_layout
from tests.make.layers import file, folder, hardlink, program, symlink, tar_of

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="session")
def busybox() -> bytes:
    if not BUSYBOX.exists():
        absent("busybox-static is not installed")
    return BUSYBOX.read_bytes()


def base(busybox: bytes) -> bytes:
    return tar_of({"bin/busybox": program(busybox), "bin/sh": hardlink("bin/busybox"), "bin/ls": symlink("busybox")})


@pytest.mark.docker
def test_docker_runs_a_made_image_and_sees_its_whiteouts_and_owners(engine: Engine, busybox: bytes) -> None:
    lower = tar_of({"srv/old": file("x"), "srv/kept": file("x", 0o600, 7, 8), "opt/gone": file("x"), "opt": folder(0o711)})
    upper = tar_of({"opt/new": file("y")}, whiteouts=["srv/old"], opaques=["opt"])
    image = Image(layers=(base(busybox), lower, upper), cmd=["sh", "-c", "ls srv opt; ls -n srv"])
    engine.load(docker_archive({"made/whiteouts:1": image}))
    result = engine.run("made/whiteouts:1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("opt:\nnew\n\nsrv:\nkept\n")
    assert "-rw-------    1 7        8 " in result.stdout


def test_skopeo_reads_a_made_layout_of_two_platforms(tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        absent("skopeo is not installed")
    arm = Image(layers=(tar_of({"a": "1"}),), cmd=["/a"], platform="linux/arm64/v8")
    amd = Image(layers=(tar_of({"a": "2"}),), cmd=["/a"])
    oci_layout(tmp_path / "layout", {"two": [arm, amd], "one": amd}, compression="zstd")
    for tag, platform, wanted in (("two", "arm64", arm), ("two", "amd64", amd), ("one", "amd64", amd)):
        command = ["skopeo", "--override-arch", platform, "inspect", "--config", f"oci:{tmp_path}/layout:{tag}"]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        assert json.loads(done.stdout)["rootfs"] == json.loads(wanted.config())["rootfs"]
