"""Our own image: built on Debian without a network, it runs held as short as can be, and passes its own analysis."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from analyzers.finding import Severity, State
from service.scan import Scan
from service.settings import ListenSettings
from tests.conftest import absent
from tests.deploy.own_image import PYTHON, ROOT, TAG, UID, OwnImageAbsent, build, inspect, python
from tests.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("own image"), pytest.mark.timeout(400)]

HELD_SHORT = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
SHELLS = ("dash", "bash")
SECRET = "ENOENT_TEST_SECRET"
WAIT_SECONDS = 90.0
ASK = (
    "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8736, timeout=20); c.request('GET', {path!r});"
    "a = c.getresponse(); print(a.status); print(a.read().decode())"
)
TRY_TO_WRITE = """
import os
for root in ('/', '/tmp', '/etc/enoent', '/opt/enoent', '/var/lib/enoent', '/run', '/dev', '/dev/shm'):
    try:
        open(root + '/probe', 'w').close()
        os.unlink(root + '/probe')
        print(root)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def own(engine: Engine) -> Engine:
    """An engine that has our image."""
    try:
        build(engine)
    except OwnImageAbsent as error:
        absent(str(error))
    return engine


@contextlib.contextmanager
def running(engine: Engine, *options: str) -> Iterator[str]:
    """A container of our image, held short, with nothing to watch: it shows its demonstration. Gives its id."""
    masks = [word for shell in SHELLS for word in ("-v", f"/dev/null:/usr/bin/{shell}:ro")]
    started = engine.docker("run", "-d", *HELD_SHORT, *masks, "-e", f"{SECRET}=hush", *options, TAG)
    assert started.exit_code == 0, started.stderr
    container = started.stdout.strip()
    try:
        yield container
    finally:
        engine.docker("rm", "-f", "-v", container)


def ask(engine: Engine, container: str, path: str) -> tuple[int, str]:
    """Status and body of one request from within; there is no network to ask over."""
    done = python(engine, container, ASK.format(path=path))
    status, _, body = done.stdout.partition("\n")
    return int(status or 0), body


def wait_until_analysed(engine: Engine, container: str) -> dict[str, object]:
    """The answer of /api/v1/images when nothing of the demonstration waits any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        status, body = ask(engine, container, "/api/v1/images?limit=500") if _is_ready(engine, container) else (0, "")
        if status == 200:
            found = json.loads(body)
            if found["items"] and not any(item["standing"] == "waiting" for item in found["items"]):
                return dict(found)
        assert time.monotonic() < deadline, engine.docker("logs", container).stderr[-3000:]
        time.sleep(0.3)


def wait_until_healthy(engine: Engine, container: str) -> None:
    """By the check that the image itself brings."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (health := inspect(engine, "containers", container)["State"]["Health"])["Status"] != "healthy":
        assert time.monotonic() < deadline, health
        time.sleep(0.3)


def _is_ready(engine: Engine, container: str) -> bool:
    return ask(engine, container, "/readyz")[0] == 200


def test_the_image_says_what_it_is_and_has_no_tools_left(own: Engine) -> None:
    found = inspect(own, "images", TAG)
    config = found["Config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["/opt/enoent/bin/enoent"]
    assert config["Cmd"] == ["serve"]
    assert set(config["Volumes"]) == {"/var/lib/enoent"}
    assert set(config["ExposedPorts"]) == {f"{ListenSettings().port}/tcp"}
    assert config["Healthcheck"]["Test"][:2] == ["CMD", PYTHON]
    assert config["Labels"]["org.opencontainers.image.revision"] == "0123abc"
    assert config["Labels"]["org.opencontainers.image.title"] == "enoent"
    script = "import importlib.metadata as m; print(*(d.name for d in m.distributions()))"
    listed = own.run(TAG, "-I", "-c", script, options=("--entrypoint", PYTHON))
    names = set(listed.stdout.lower().split())
    assert {"enoent", "aiohttp", "sqlalchemy"} <= names
    assert not names & {"pip", "setuptools", "hatchling", "pathspec", "pluggy", "pytest"}


def test_h143_it_runs_without_rights_and_writes_to_its_state_folder_only(own: Engine) -> None:
    with running(own, "--health-interval", "1s") as container:
        images = wait_until_analysed(own, container)
        assert {item["standing"] for item in images["items"]} >= {"starts", "fails"}  # type: ignore[attr-defined]
        assert ask(own, container, "/livez")[0] == 200
        status, text = ask(own, container, "/metrics")
        assert status == 200
        verdicts = {
            sample.labels["verdict"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "enoent_image_start_verdict"
        }
        assert {"starts", "fails"} <= verdicts

        wait_until_healthy(own, container)

        # What may be written to: the volume, and the memory that an engine mounts there whatever it is told.
        assert set(python(own, container, TRY_TO_WRITE).stdout.split()) == {"/var/lib/enoent", "/dev/shm"}
        assert own.docker("diff", container).stdout == ""

        workers = _processes_of(own, container, "analyzers")
        assert workers
        for process in [*_processes_of(own, container, "serve"), *workers]:
            status_lines = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
            assert status_lines["Uid"].split() == [str(UID)] * 4
            assert status_lines["Gid"].split() == [str(UID)] * 4
            assert {status_lines[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0" * 16}
            assert status_lines["NoNewPrivs"] == "1"
            assert status_lines["Seccomp"] == "2"
        for worker in workers:
            assert SECRET not in (worker / "environ").read_text()

        assert own.docker("stop", "-t", "30", container).exit_code == 0
        assert inspect(own, "containers", container)["State"]["ExitCode"] == 0


def _processes_of(engine: Engine, container: str, word: str) -> list[Path]:
    """Those in the container whose command line has the word, as this machine numbers them."""
    status, answer = engine.request("GET", f"/containers/{container}/top?ps_args=-eo%20pid,args")
    assert status == 200, answer
    return [Path("/proc") / row[0] for row in json.loads(answer)["Processes"] if word in row[1].split()]


def test_beyond_loopback_it_wants_tokens_or_a_word(own: Engine) -> None:
    refused = own.run(TAG, options=("-e", "ENOENT_LISTEN_ADDRESS=0.0.0.0"))
    assert refused.exit_code == 64
    assert "listen.address" in refused.last_line


def test_it_passes_its_own_analysis(own: Engine, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "DOCKER_HOST": own.url}
    config = tmp_path / "enoent.toml"
    config.write_text(f'[[docker]]\nsocket = "{own.socket}"\n')
    command = [sys.executable, "-m", "service", "scan", f"docker:{TAG}", "--format", "json", "--config", str(config)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    [image] = msgspec.json.decode(done.stdout, type=Scan).images
    report = image.report
    assert report is not None, done.stderr
    assert report.verdict.state == State.STARTS, (report.verdict, done.stderr)
    assert report.complete
    assert done.returncode == 0
    # The longest chain there is: a script, its interpreter by three links, the loader, libraries.
    assert {"lookup", "interpreter", "library"} <= {step.action for step in report.chain}
    assert [found for found in report.findings if found.severity in (Severity.FATAL, Severity.LATER)] == []
