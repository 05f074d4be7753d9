"""The daemon as a process of its own, for tests: started on a configuration, asked over HTTP, ended by signals.

It does not use the command line: a child of three lines calls `service.daemon.serve`. By default nothing of this machine is
watched; a test names its sources in `settings`, whose keys are those of enoent.toml.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent
CHILD = """
import os, sys
from pathlib import Path
from service.daemon import serve
from service.settings import load_settings
path = Path(sys.argv[1])
sys.exit(serve(load_settings(path), os.environ, lambda: load_settings(path)))
"""
WAIT_SECONDS = 90.0
DEFAULTS: dict[str, Any] = {
    "docker": [],
    "layouts": [],
    "demo": False,
    "listen": {"port": 0},
    "workers": {"parallel": 2},
    "jobs": {"retry_first_seconds": 1.0, "retry_longest_seconds": 4.0},
}
Found = TypeVar("Found")


class Gone(AssertionError):
    """The daemon ended though it was still wanted; the text is the end of its log."""


class LiveDaemon:
    """A running daemon. `url` is where it listens, `folder` where its configuration, state and log are."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.url = ""
        self.greeting: list[str] = []

    # Asking

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 30
    ) -> tuple[int, dict[str, str], bytes]:
        """One call: status, headers (names in lower case) and body. A `body` is sent as JSON."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=timeout)
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> str:
        """The body of what is there; AssertionError when the status is not 200."""
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status, body[:500])
        return body.decode()

    def images(self, **query: str) -> list[dict[str, Any]]:
        """Every item of the fleet that the query of GET /api/v1/images fits."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = json.loads(self.get("/api/v1/images?" + urlencode({**query, "limit": 500, "cursor": cursor})))
            items += page["items"]
            cursor = page["next"]
            if not cursor:
                return items

    def image(self, name: str) -> dict[str, Any]:
        """The one item of this name (registry/repository:tag)."""
        found = [item for item in self.images() if item["name"] == name]
        assert len(found) == 1, (name, [item["name"] for item in self.images()])
        return found[0]

    def report(self, image_id: str) -> dict[str, Any]:
        """The report of an image."""
        return dict(json.loads(self.get(f"/api/v1/images/{quote(image_id)}"))["report"])

    def samples(self, text: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of a scrape by name and labels."""
        found = {}
        for family in text_string_to_metric_families(text or self.get("/metrics")):
            for sample in family.samples:
                found[sample.name, frozenset(sample.labels.items())] = sample.value
        return found

    def total(self, metric: str, **labels: str) -> float | None:
        """Sum of the samples of this name that have these labels; None when there is none."""
        wanted = frozenset(labels.items())
        values = [value for (name, has), value in self.samples().items() if name == metric and wanted <= has]
        return sum(values) if values else None

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it logged, a dictionary a line."""
        lines = (self.folder / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str, **values: Any) -> list[dict[str, Any]]:
        """The lines of this event that have these values."""
        return [line for line in self.log if line["event"] == event and values.items() <= line.items()]

    # Waiting

    def until(self, look: Callable[[], Found], why: str = "", seconds: float = WAIT_SECONDS) -> Found:
        """What `look` gives as soon as that is true. AssertionError after so many seconds, Gone when the daemon ended."""
        deadline = time.monotonic() + seconds
        pause = 0.02
        while True:
            try:
                found = look()
            except OSError:
                found = None  # type: ignore[assignment]
            if found:
                return found
            if self.process.poll() is not None:
                raise Gone((self.folder / "log").read_text()[-3000:])
            assert time.monotonic() < deadline, f"{why or look}: not within {seconds} s\n" + self._last_lines()
            time.sleep(pause)
            pause = min(1.2 * pause, 0.5)  # looking costs the daemon work of its own

    def until_ready(self) -> None:
        self.until(lambda: self.request("GET", "/readyz")[0] == 200, "ready")

    def until_settled(self, count: int | None = None) -> list[dict[str, Any]]:
        """The fleet when no item is waiting any more, and there are `count` of them."""

        def settled() -> list[dict[str, Any]]:
            items = self.images()
            waiting = any(item["standing"] == "waiting" for item in items)
            return [] if waiting or (count is not None and len(items) != count) else items

        return self.until(settled, f"{count} images settled")

    def _last_lines(self) -> str:
        return "\n".join((self.folder / "log").read_text().splitlines()[-15:])

    # Ending

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 40) -> int:
        """Its exit status, negative for the signal that killed it."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill -9: it has no word in this."""
        self.process.kill()
        self.process.wait()


def write_config(folder: Path, settings: Mapping[str, Any]) -> Path:
    """enoent.toml of these settings over DEFAULTS; tables are merged one level deep."""
    merged: dict[str, Any] = {"state": {"dir": str(folder / "state"), "min_free_bytes": 0}, **DEFAULTS}
    for key, value in settings.items():
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
    path = folder / "enoent.toml"
    partial = folder / "enoent.toml.partial"
    partial.write_text("".join(_toml(merged)))
    partial.replace(path)
    return path


def _toml(settings: Mapping[str, Any]) -> Iterator[str]:
    tables = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) or (isinstance(value, Sequence) and value and isinstance(value[0], Mapping)):
            tables[key] = value
        else:
            yield f"{key} = {json.dumps(value)}\n"
    for key, value in tables.items():
        for table in [value] if isinstance(value, Mapping) else value:
            yield f"[{key}]\n" if isinstance(value, Mapping) else f"[[{key}]]\n"
            yield from (f"{name} = {_inline(inner)}\n" for name, inner in table.items())


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_inline(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


@contextlib.contextmanager
def live(
    folder: Path, settings: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, *, ready: bool = True
) -> Iterator[LiveDaemon]:
    """A daemon for as long as the context lasts; without `ready` it is given as soon as it listens.

    A second one in the same folder, after the first has ended, goes on with its state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = write_config(folder, settings or {})
    environment = {
        "PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "HOME": str(folder), "DOCKER_CONFIG": str(folder),
        "LANG": "C.UTF-8", **(env or {}),
    }  # fmt: skip
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    daemon = LiveDaemon(process, folder)
    try:
        _read_greeting(daemon)
        if ready:
            daemon.until_ready()
        yield daemon
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _read_greeting(daemon: LiveDaemon) -> None:
    assert daemon.process.stdout is not None
    for line in daemon.process.stdout:
        daemon.greeting.append(line.rstrip("\n"))
        kind, _, address = line.strip().partition(" ")
        if kind == "page":
            daemon.url = address.strip().rstrip("/")
        if kind == "metrics":
            return
    raise Gone((daemon.folder / "log").read_text()[-3000:])
