"""A real Prometheus for tests: Debian's, with the configuration and rules of deploy/prometheus, only quicker.

It knows how to start it and three of its questions; what is scraped and asked stands with the tests.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parent.parent / "deploy" / "prometheus"
INTERVAL = "500ms"
"""Between two scrapes and between two evaluations."""
PATIENCE_SECONDS = 60.0
Labels = frozenset[tuple[str, str]]


class PrometheusAbsent(Exception):
    """No Prometheus can be started here; the text says why."""


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an API answer. Raises AssertionError with the server's words when it refuses."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> dict[Labels, float]:
        """What an expression gives now, by labels."""
        result = self.ask("query", query=expression)["result"]
        return {frozenset(sample["metric"].items()): float(sample["value"][1]) for sample in result}

    def alerts(self) -> list[dict[str, Any]]:
        return list(self.ask("alerts")["alerts"])

    def until(self, true: Callable[[], object], what: str) -> None:
        """Waits for something that is to come."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"Prometheus never saw {what}"
            time.sleep(0.1)


def free_port(wanted: int = 0) -> int:
    """A port of loopback that nobody has: the wanted one, or any other."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(folder: Path, target: str, *, port: int = 0, alertmanager: str = "") -> Iterator[Prometheus]:
    """A server that scrapes `target` (host:port) under the shipped rules, for as long as the context lasts.

    It listens on `port` where that is free, and sends its alerts to an Alertmanager (host:port) where there is one.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise PrometheusAbsent("no prometheus: run tests/setup/debian.sh")
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
    config["rule_files"] = [str(DEPLOY / pattern) for pattern in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"127.0.0.1:{free_port(port)}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running([*command, f"--web.listen-address={url}"], url, folder / "log"):
        yield Prometheus(f"http://{url}")


@contextlib.contextmanager
def running(command: list[str], place: str, log: Path) -> Iterator[None]:
    """A server of the Prometheus family while the context lasts; it is ready when the context begins."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _is_ready(f"http://{place}"):
            told = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
