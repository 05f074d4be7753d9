"""Many short programs run inside one root: `python -m tests.oracle.inside ROOT`, jobs on stdin, what came of them on stdout.

A process enters the root once, by a mount namespace of its own and chroot, and starts every job from there: a system has
thousands of ELF files, and each is asked more than once. Root must have started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
_PATIENCE = 60


class Job(msgspec.Struct, frozen=True, array_like=True):
    """A program as it is given to execve, with the root as its working directory."""

    path: bytes
    argv: tuple[bytes, ...]
    env: tuple[bytes, ...] = ()


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """How it ended."""

    out: bytes
    err: bytes
    code: int
    """Exit status, or minus the signal."""
    errno: int = 0
    """Why execve failed; 0 when it did not."""

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self.err.decode("utf-8", "surrogateescape").splitlines())


def run_inside(root: Path, jobs: Sequence[Job]) -> list[Ended]:
    """Runs the jobs one after the other; ends of jobs in their order."""
    if not jobs:
        return []
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracle.inside", str(root)],
        input=msgspec.msgpack.encode(list(jobs)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=_PATIENCE + len(jobs),
        cwd=Path(__file__).parents[2],
    )
    return msgspec.msgpack.decode(done.stdout, type=list[Ended])


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(root: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(libc.mount(b"/proc", os.fsencode(f"{root}/proc"), None, _MS_BIND | _MS_REC, None))
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])


def _run(job: Job, null: int) -> Ended:
    try:
        done = subprocess.run(
            list(job.argv),
            executable=job.path,
            env=dict(item.partition(b"=")[::2] for item in job.env),
            stdin=null,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except OSError as error:
        return Ended(b"", b"", -1, error.errno or 0)
    except subprocess.TimeoutExpired:
        return Ended(b"", b"killed: it took too long\n", -signal.SIGKILL)
    return Ended(done.stdout, done.stderr, done.returncode)


def main() -> None:
    jobs = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[Job])
    null = os.open(os.devnull, os.O_RDONLY)
    _enter(sys.argv[1])
    sys.stdout.buffer.write(msgspec.msgpack.encode([_run(job, null) for job in jobs]))


if __name__ == "__main__":
    main()
