"""Images that containerd's own client (`ctr`) runs otherwise than Docker does: environment and user (C7, C23)."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from analyzers.finding import State
from analyzers.profile import HostProfile
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine
from tests.fleet.engine_words import MARK, normalised
from tests.fleet.foretold import Foreteller
from tests.fleet.image import FleetImage, runs
from tests.fleet.programs import hello
from tests.make.images import oci_layout
from tests.make.starts import ACCOUNTS

CONTAINERD = HostProfile(engine="containerd", engine_version=(1, 6))


def static() -> dict[str, bytes]:
    return {"bin/app": hello("-static")}


IMAGES = (
    runs("path_is_set_when_there_is_no_environment", "C7", "", static, "app"),
    runs("path_is_not_set_beside_other_variables", "C7", "", static, "app", env=("A=b",),
         fails='exec: "app": executable file not found in $PATH'),
    runs("a_path_of_its_own", "C7", "", static, "app", env=("PATH=/bin",)),
    runs("an_empty_entrypoint_stays", "C2", "", static, "app", entrypoint=("",),
         fails='exec: "": executable file not found in $PATH'),
    runs("a_missing_user", "C23", "", lambda: {**ACCOUNTS, **static()}, "app", user="web", fails="no users found"),
    runs("a_user_without_files", "C23", "", static, "app", user="web", fails="/etc/passwd: no such file"),
    runs("a_user_too_large", "C23", "", lambda: {**ACCOUNTS, **static()}, "app", user="4294967296", fails="no users found"),
    runs("a_missing_group", "C23", "", lambda: {**ACCOUNTS, **static()}, "app", user="app:web", fails="no groups found"),
    runs("two_colons", "C23", "", lambda: {**ACCOUNTS, **static()}, "app", user="app:app:app", fails="invalid USER value"),
    runs("a_numbered_user", "C23", "", static, "app", user="65534:65534"),
)  # fmt: skip
WORDED_OTHERWISE = {"a_missing_user", "a_user_without_files", "a_user_too_large", "a_missing_group"}
"""Debian's containerd is 1.6, whose words for users are older than those of C23 (2.4); that it fails is the same."""


@pytest.mark.docker
@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.id)
def test_containerd_says_what_is_foretold(engine: Engine, image: FleetImage, tmp_path: Path) -> None:
    if shutil.which("ctr") is None:
        absent("ctr is not installed")
    name = f"fleet.invalid/{image.id}:1"
    layout = oci_layout(tmp_path / "layout", {name: image.image()})
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        tar.add(layout, ".")
    ctr = ["ctr", "-a", str(Path(engine.socket).parent / "exec/containerd/containerd.sock"), "-n", "fleet"]
    subprocess.run([*ctr, "image", "import", str(tmp_path / "layout.tar")], check=True, capture_output=True, timeout=60)
    ran = subprocess.run([*ctr, "run", "--rm", name, image.id], capture_output=True, text=True, timeout=60, check=False)
    verdict = Foreteller().image(image.image(), CONTAINERD, NO_OVERRIDES).verdict
    if not image.fails:
        assert (ran.stdout, ran.stderr, verdict.state) == (f"{MARK}\n", "", State.STARTS)
        return
    assert image.fails in ran.stderr
    assert (ran.stdout, verdict.state) == ("", State.FAILS)
    if image.id not in WORDED_OTHERWISE:
        assert normalised(ran.stderr.removeprefix("ctr: ")) == verdict.message
