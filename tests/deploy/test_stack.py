"""`make demo-stack`: one command brings up the whole view, and a push ends as an alert told to the team whose image it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import absent

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.promtool
def test_one_command_shows_the_fleet_and_tells_the_team_of_a_push_that_broke_its_image() -> None:
    if shutil.which("prometheus-alertmanager") is None or shutil.which("prometheus") is None:
        absent("no prometheus or alertmanager: run tests/setup/debian.sh")
    command = [sys.executable, "-m", "tests.make.stack", "--once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    addresses = dict(re.findall(r"^(\w+) +(http://127\.0\.0\.1:\d+/\S*)$", done.stdout, re.MULTILINE))
    assert set(addresses) == {"page", "metrics", "prometheus", "alertmanager"}
    told = re.findall(r"^  (\S+) is told: firing: (.+)$", done.stdout, re.MULTILINE)
    assert ("payments-page", "oci-layout/shop-api:1.0 started before its last push and will not start now") in told


def test_the_makefile_has_it() -> None:
    assert re.search(
        r"^demo-stack:.*\n\t.*\n\t@\$\(BIN\)/python -m tests\.make\.stack$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
