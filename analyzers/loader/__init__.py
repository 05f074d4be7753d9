"""What the user-space loader does with a program: the objects it maps in order, or the lines it dies with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analyzers.accounts import Credentials
from analyzers.finding import Attempt, Reason, Step
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs


class LoadedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the process, in load order."""

    name: str
    """As requested."""
    path: bytes
    """As opened."""
    node: Node | None
    needed_by: int | None = None
    """Index of the object that first asked for it; None for the program."""
    origin: str = ""
    whose: str = ""
    attempts: tuple[Attempt, ...] = ()


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """How loading ends. `ok` None: it cannot be decided, why is in `unknown`."""

    family: str
    version: str = ""
    ok: bool | None = None
    unknown: str = ""
    crash: str = ""
    """SIGSEGV, SIGBUS or SIGABRT; empty when there is none."""
    exit_code: int | None = None
    lines: tuple[bytes, ...] = ()
    """Exact output of the loader, in order."""
    reason: Reason | None = None
    objects: tuple[LoadedObject, ...] = ()
    steps: tuple[Step, ...] = ()
    warnings: tuple[bytes, ...] = ()
    later: tuple[tuple[str, str, str], ...] = ()
    """(object, symbol, version) bound lazily and found nowhere."""


def load(
    rootfs: Rootfs,
    program: Node,
    *,
    argv0: bytes,
    opened_as: bytes,
    env: Sequence[bytes],
    cwd: bytes,
    creds: Credentials,
    secure: bool,
    interp: Node | None,
    interp_name: bytes,
    profile: HostProfile,
    bind_now_all: bool = False,
) -> LoadResult:
    """The seam; the emulations of glibc and musl stand behind it."""
    return LoadResult(family="unknown", unknown="this loader is not emulated")
