"""Roots on disk in which real loaders run: unpacked from dictionaries, entered by chroot, with /proc as a container has it.

The program is started by execve with the path, arguments, environment, working directory and user that were foretold for.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import absent
from tests.make.layers import Item, tar_of

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
_LIBC = ctypes.CDLL(None, use_errno=True)


class Ended(NamedTuple):
    """How a process ended."""

    lines: tuple[str, ...]
    """Of stderr."""
    exit_code: int
    """Minus the signal for a crash."""

    @property
    def crash(self) -> str:
        return signal.Signals(-self.exit_code).name if self.exit_code < 0 else ""


@contextlib.contextmanager
def unpacked(items: Mapping[str, Item | bytes | str]) -> Iterator[Path]:
    """The items as files of a folder that only root can have made; absent() without root."""
    if os.geteuid() != 0:
        absent("chroot needs root")
    with tempfile.TemporaryDirectory(prefix="root") as folder:
        root = Path(folder)
        root.chmod(0o755)
        subprocess.run(
            ["tar", "-x", "-p", "--same-owner", "--xattrs", "--xattrs-include=*", "-C", folder],
            input=tar_of(items), check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        (root / "proc").mkdir(exist_ok=True)
        yield root


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(root: Path, cwd: str, uid: int, gid: int, proc: bool) -> None:
    """In the child, before its execve. The mounts end with the process."""
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _check(_LIBC.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    if proc:
        _check(_LIBC.mount(b"/proc", os.fsencode(root / "proc"), None, _MS_BIND | _MS_REC, None))
    os.chroot(root)
    os.chdir(cwd or "/")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def run(
    root: Path, argv: Sequence[str], *, env: Sequence[str] = (), cwd: str = "", user: str = "", proc: bool = True
) -> Ended:  # fmt: skip
    """`user` is `uid:gid`."""
    uid, _, gid = (user or "0:0").partition(":")
    done = subprocess.run(
        list(argv),
        env=dict(item.partition("=")[::2] for item in env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=functools.partial(_enter, root, cwd, int(uid), int(gid or 0), proc),
    )
    return Ended(tuple(done.stderr.decode("utf-8", "surrogateescape").splitlines()), done.returncode)
