"""CPU time and memory of a process and of its children as the kernel counts them, and how late an event loop turns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

PROBE_SECONDS = 0.005
_TICK = os.sysconf("SC_CLK_TCK")


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one stretch of work took. CPU time of the daemon's process and of its workers apart."""

    wall_seconds: float
    daemon_cpu_seconds: float
    workers_cpu_seconds: float
    daemon_peak_bytes: int
    """Highest resident memory of the daemon's process."""
    workers_peak_bytes: tuple[int, ...]
    """The same of each worker that lived at the end."""
    loop_lag_seconds: float = 0.0
    """The longest that the loop was late."""

    @property
    def cpu_seconds(self) -> float:
        return self.daemon_cpu_seconds + self.workers_cpu_seconds


class Meter:
    """Counts from its making on. `pid` is the daemon; its children are the workers."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid or os.getpid()
        with contextlib.suppress(OSError):  # the peak then counts from the start of the process
            Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        self._cpu = cpu_seconds(self._pid)
        self._workers = workers_cpu_seconds(self._pid)
        self._wall = time.perf_counter()

    def read(self, loop_lag_seconds: float = 0.0) -> Cost:
        """The cost so far."""
        wall = time.perf_counter() - self._wall
        return Cost(
            wall_seconds=wall,
            daemon_cpu_seconds=cpu_seconds(self._pid) - self._cpu,
            workers_cpu_seconds=workers_cpu_seconds(self._pid) - self._workers,
            daemon_peak_bytes=peak_bytes(self._pid),
            workers_peak_bytes=tuple(sorted((peak_bytes(child) for child in children(self._pid)), reverse=True)),
            loop_lag_seconds=loop_lag_seconds,
        )


def cpu_seconds(pid: int) -> float:
    """CPU time of a living process, all threads."""
    return sum(int(Path(task, "schedstat").read_text().split()[0]) for task in _tasks(pid)) / 1e9


def workers_cpu_seconds(pid: int) -> float:
    """CPU time of the children of a process: those that live and those that have gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICK + sum(cpu_seconds(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found: list[int] = []
    for task in _tasks(pid):
        with contextlib.suppress(OSError):
            found += map(int, Path(task, "children").read_text().split())
    return found


def peak_bytes(pid: int) -> int:
    """Highest resident memory (VmHWM) of a living process; 0 when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


class Lag:
    """How late the loop turned at worst."""

    def __init__(self) -> None:
        self.longest = 0.0


@contextlib.asynccontextmanager
async def loop_lag() -> AsyncIterator[Lag]:
    """Asks the running loop for a turn every few milliseconds and notes when it comes."""
    lag = Lag()

    async def probe() -> None:
        while True:
            wanted = time.perf_counter() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            lag.longest = max(lag.longest, time.perf_counter() - wanted)

    task = asyncio.create_task(probe())
    try:
        yield lag
    finally:
        task.cancel()
