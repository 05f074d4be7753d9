"""Roots on disk in which real loaders run: unpacked from dictionaries, entered by chroot, with /proc as a container has it.

A program is started by execve in the way that was predicted for the image: same path, arguments, environment, working directory
and user. The mount of /proc lives in a mount namespace of the process and goes with it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from analyzers.facts import LayerFacts
from analyzers.finding import State
from analyzers.layer import LayerReader
from analyzers.oci import ImageConfig, Platform
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.layers import tar_of
from tests.make.musl_elves import loader
from tests.make.roots import MUSL

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
_PR_CAPBSET_DROP = 24
LOADER = f"lib/{MUSL}"
_LIBC = ctypes.CDLL(None, use_errno=True)


class Ended(NamedTuple):
    """How a process ended: what it printed on stderr, its exit status, and the signal that killed it."""

    lines: tuple[bytes, ...]
    exit_code: int | None
    signal: str = ""
    started: bool = False


class MuslLayer(NamedTuple):
    """The layer with musl alone."""

    tar: bytes
    facts: LayerFacts


@functools.cache
def musl_layer(release: str, path: str = LOADER) -> MuslLayer:
    tar = tar_of({path: loader(release)})
    return MuslLayer(tar, read_layer(tar))


@contextmanager
def needs_tools() -> Iterator[None]:
    """What a test makes with compilers and other systems' files; skipped where one is absent."""
    try:
        yield
    except ToolAbsent as error:
        absent(str(error))


def read_layer(tar: bytes) -> LayerFacts:
    reader = LayerReader()
    reader.feed(tar)
    return reader.finish()


@contextmanager
def unpacked(*tars: bytes) -> Iterator[Path]:
    """The tars laid over each other in a folder of root's; skipped without root."""
    if os.geteuid() != 0:
        absent("chroot needs root")
    with tempfile.TemporaryDirectory(prefix="root-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        for tar in tars:
            command = ["tar", "-x", "-p", "--same-owner", "-C", folder]
            subprocess.run(command, input=tar, check=True, timeout=60)
        (root / "proc").mkdir(exist_ok=True)
        yield root


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(root: Path, cwd: bytes, uid: int, gid: int, proc: bool) -> None:
    """Runs in the child between fork and execve."""
    _check(_LIBC.unshare(_CLONE_NEWNS))
    _check(_LIBC.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    if proc:
        _check(_LIBC.mount(b"/proc", os.fsencode(root / "proc"), None, _MS_BIND | _MS_REC, None))
    os.chroot(root)
    os.chdir(cwd)
    if uid:
        for capability in range(64):
            _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    # The working directory is entered before the user is changed, as runc does.
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def run(
    root: Path,
    path: bytes,
    argv: Sequence[bytes],
    *,
    env: Sequence[bytes] = (),
    cwd: bytes = b"/",
    uid: int = 0,
    gid: int = 0,
    proc: bool = True,
    success: int = 0,
) -> Ended:
    """`success` is the exit status that only a program gives which came to its own code."""
    if len({item.partition(b"=")[0] for item in env}) != len(env):
        raise ValueError("subprocess would lose a duplicate variable")
    done = subprocess.run(
        list(argv),
        executable=path,
        env=dict(item.partition(b"=")[::2] for item in env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=functools.partial(_enter, root, cwd, uid, gid, proc),
    )
    lines = tuple(done.stderr.split(b"\n")[:-1]) if done.stderr.endswith(b"\n") else tuple(filter(None, done.stderr.split(b"\n")))
    if done.returncode < 0:
        return Ended(lines, None, signal.Signals(-done.returncode).name)
    return Ended(lines, done.returncode, started=done.returncode == success)


def config_of(
    cmd: Sequence[str], env: Sequence[str] = (), user: str = "", working_dir: str = "", platform: str = "linux/amd64"
) -> ImageConfig:
    system, architecture = platform.split("/")
    return ImageConfig(
        platform=Platform(system, architecture), cmd=tuple(cmd), env=tuple(env), user=user, working_dir=working_dir
    )


def foretell(layers: Sequence[LayerFacts], config: ImageConfig, *, proc: bool = True) -> Start:
    """A user other than root has no capabilities and gets none, as with --cap-drop=ALL in a container."""
    profile = HostProfile(dac_override=config.user in ("", "0", "root"))
    return foretell_start(Rootfs(layers, runtime=proc), config, profile, NO_OVERRIDES)


def predicted(start: Start) -> Ended:
    """A start in the words of `run`."""
    if start.state is State.UNKNOWN:
        raise AssertionError(f"not decided: {start.why_unknown}")
    if start.state is State.STARTS:
        return Ended((), 0, started=True)
    loaded = start.loaded
    if loaded is None:
        raise AssertionError(f"the loader was not reached: {start.message!r}")
    if loaded.crash:
        return Ended(loaded.lines, None, loaded.crash)
    return Ended(loaded.lines, loaded.exit_code)


def actual(root: Path, start: Start, *, proc: bool = True, success: int = 0) -> Ended:
    """What a real loader does with the same start."""
    executed = start.execution
    if executed is None:
        raise AssertionError("nothing was executed")
    return run(
        root,
        executed.execfn,
        start.argv,
        env=start.env,
        cwd=start.cwd,
        uid=start.user.uid,
        gid=start.user.gid,
        proc=proc,
        success=success,
    )
