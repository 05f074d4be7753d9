"""A real Docker engine for tests: dockerd of .cache/engine (tests/setup/engine.sh), started in a folder of its own.

It knows nothing of what is tested. `docker run` is asked through Docker's own command line, because its exit status and
its lines are what predictions are compared with (loader.md C12). There is no bridge: containers run with `--network none`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent / ".cache" / "engine"
ELSEWHERE = "ENOENT_TEST_ENGINE"
"""Environment variable that names a running engine (unix://...) to use instead of starting one."""
START_SECONDS = 60.0
MEMORY_BYTES = 2 << 30
"""Free memory that an engine in memory wants."""


class EngineAbsent(Exception):
    """No engine can be started here; the text says why."""


class RunResult(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        lines = self.stderr.splitlines()
        return lines[-1] if lines else ""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A running engine: where it listens, and the three things tests ask of it."""

    def __init__(self, socket_path: str) -> None:
        self.socket = socket_path
        self.url = f"unix://{socket_path}"

    def environment(self, **more: str) -> dict[str, str]:
        """Environment in which `docker` and `docker-buildx` of this engine are found and talk to it."""
        path = f"{ROOT}/usr/bin:{ROOT}/usr/libexec/docker/cli-plugins:{os.environ.get('PATH', '')}"
        return {"PATH": path, "DOCKER_HOST": self.url, "HOME": "/nonexistent", "DOCKER_CONFIG": "/nonexistent", **more}

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 300) -> tuple[int, bytes]:
        """One call of the engine's API: status and body. `body` is bytes, an iterable of bytes or a readable file."""
        connection = _UnixConnection(self.socket, timeout)
        headers = {} if body is None else {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        try:
            connection.request(method, path, body=body, headers=headers, encode_chunked=body is not None)  # type: ignore[arg-type]
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def info(self) -> dict[str, object]:
        return dict(json.loads(self.request("GET", "/info")[1]))

    def load(self, archive: bytes | Iterable[bytes]) -> None:
        """`docker load` of a tar in Docker's or OCI's form. RuntimeError with the engine's words when refused."""
        status, answer = self.request("POST", "/images/load?quiet=1", [archive] if isinstance(archive, bytes) else archive)
        for line in answer.splitlines():
            if (text := json.loads(line).get("error") or json.loads(line).get("message")) is not None:
                raise RuntimeError(text)
        if status != 200:
            raise RuntimeError(f"load answered {status}: {answer!r}")

    def docker(self, *words: str, timeout: float = 120, input: bytes | None = None) -> RunResult:
        """The docker command line with this engine as its host."""
        program = shutil.which("docker", path=self.environment()["PATH"]) or "docker"
        done = subprocess.run(
            [program, *words], env=self.environment(), input=input, capture_output=True, timeout=timeout, check=False
        )
        return RunResult(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def run(self, image: str, *args: str, options: tuple[str, ...] = (), timeout: float = 120) -> RunResult:
        """`docker run --rm --network none IMAGE ARGS`; `options` stand before the image."""
        return self.docker("run", "--rm", "--network", "none", *options, image, *args, timeout=timeout)


def why_absent() -> str:
    """Why an engine cannot be started here; empty when it can."""
    if not (ROOT / "usr/sbin/dockerd").exists():
        return "no Docker engine in .cache/engine: run tests/setup/engine.sh"
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    missing = [program for program in ("containerd", "runc", "setpriv") if shutil.which(program) is None]
    return f"not on PATH: {', '.join(missing)}" if missing else ""


def _is_up(socket_path: str) -> bool:
    try:
        return Engine(socket_path).request("GET", "/_ping", timeout=5)[0] == 200
    except OSError:
        return False


@contextlib.contextmanager
def started(config: dict[str, object] | None = None, *, in_memory: bool = False) -> Iterator[Engine]:
    """An engine for as long as the context lasts; `config` is its daemon.json. EngineAbsent when there can be none.

    `in_memory`: its data lie in memory where there is room, for tests that make many images: each waits for the disk.
    """
    if elsewhere := os.environ.get(ELSEWHERE):
        yield Engine(elsewhere.removeprefix("unix://"))
        return
    if reason := why_absent():
        raise EngineAbsent(reason)
    # Short: containerd's sockets lie below it and their paths must stay under 108 bytes.
    place = "/dev/shm" if in_memory and _has_room("/dev/shm") else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="e", dir=place))
    (folder / "daemon.json").write_text(json.dumps(config or {}))
    command = ["setpriv", "--pdeathsig", "TERM", str(ROOT / "usr/sbin/dockerd"), "--iptables=false", "--ip6tables=false"]
    command += ["--bridge=none", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-p", f"{folder}/pid"]
    command += ["-H", f"unix://{folder}/s", "--config-file", f"{folder}/daemon.json"]
    environment = {**os.environ, "PATH": f"{ROOT}/usr/sbin:{ROOT}/usr/bin:{os.environ.get('PATH', '')}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_up(f"{folder}/s"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineAbsent("dockerd did not start: " + (folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)
        yield Engine(f"{folder}/s")
    finally:
        _stop(process)
        _remove(folder)


def _has_room(folder: str) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MEMORY_BYTES


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove(folder: Path) -> None:
    """The folder, with what containers of a killed run may have left mounted below it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
