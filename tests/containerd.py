"""A real containerd for tests: Debian's, on a socket of its own, filled by `ctr` as people do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 30.0


class ContainerdAbsent(Exception):
    """No containerd can be started here; the text says why."""


class Containerd:
    """A running containerd; `stop` and `start` are a restart with everything kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = f"{folder}/s"
        self.address = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """ContainerdAbsent when it does not come up."""
        command = ["setpriv", "--pdeathsig", "TERM", "containerd", "--config", f"{self._folder}/config.toml"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ContainerdAbsent("containerd did not start: " + (self._folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def _is_up(self) -> bool:
        return self.ctr("default", "version", check=False).returncode == 0

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ctr(self, namespace: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line of containerd in a namespace."""
        command = ["ctr", "-a", self.socket, "-n", namespace, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def pull(self, namespace: str, name: str, *options: str) -> None:
        """From a registry of this machine; this machine's platform unless told otherwise."""
        self.ctr(namespace, "images", "pull", "--plain-http", *options, name)


def why_absent() -> str:
    """Why none can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "a containerd needs root"
    missing = [program for program in ("containerd", "ctr", "setpriv") if shutil.which(program) is None]
    return f"not on PATH: {', '.join(missing)}: run tests/setup/debian.sh" if missing else ""


@contextlib.contextmanager
def started() -> Iterator[Containerd]:
    """A containerd for as long as the context lasts. ContainerdAbsent when there can be none."""
    if reason := why_absent():
        raise ContainerdAbsent(reason)
    # Short: the paths of sockets must stay under 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="c", dir="/tmp"))
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{folder}/s"\n[ttrpc]\naddress = "{folder}/t"\n'
    )
    running = Containerd(folder)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
