"""What a loader is started with, and what comes of it: the types that every emulated loader shares.

Data only. The program's file is mapped already; a loader decides what else is, in which order, and with which words the
process ends when it cannot go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from analyzers.accounts import Credentials
from analyzers.finding import Attempt, Reason, Step
from analyzers.loader.dlopens import Wished
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs


class Process(NamedTuple):
    """A process at the moment its loader gets control."""

    rootfs: Rootfs
    program: Node
    argv0: bytes
    """As the runtime passed it; stands before glibc's messages."""
    opened_as: bytes
    """The path the kernel opened the program by."""
    env: Sequence[bytes]
    cwd: bytes
    creds: Credentials
    """Whose permissions count for every file opened from now on."""
    secure: bool
    """AT_SECURE is set (K23)."""
    interp: Node
    """The loader itself."""
    interp_name: bytes
    """As written in PT_INTERP."""
    profile: HostProfile
    bind_now: bool = False
    """Bind every symbol at start, as `ldd -r` asks; otherwise as the objects and the environment say."""
    command: tuple[bytes, ...] | None = None
    """The loader was run as a command, with this argv: `program` is the loader itself, and names what it shall load (G62)."""
    execfn: bytes = b""
    """AT_EXECFN: the path given to execve, which is the script's where one was run; empty: `opened_as`."""


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
    """Exact output of the loader, in order, warnings included."""
    reason: Reason | None = None
    """Why it fails; None when it does not."""
    wanted: bytes = b""
    """What was wanted and not had: the library's name, `symbol@version`, or a version."""
    wanted_by: bytes = b""
    """Path of the object that wanted it, as opened."""
    objects: tuple[LoadedObject, ...] = ()
    steps: tuple[Step, ...] = ()
    beyond: tuple[Step, ...] = ()
    """Searches for what comes after the library that ends it: the process never gets there, people want to know."""
    missing: tuple[tuple[str, str], ...] = ()
    """(name, object that wants it) of every library that cannot be loaded, the first being the one it ends with."""
    assumed: tuple[tuple[str, str], ...] = ()
    """(name, object that wants it) of libraries that are not in the image and that the host is taken to bring."""
    wished: tuple[Wished, ...] = ()
    """What objects will dlopen by their own notes and no library fulfils; filled in when all else is well."""
    warnings: tuple[bytes, ...] = ()
    """Those of `lines` that do not stop it."""
    unmet_versions: tuple[tuple[str, str, str], ...] = ()
    """(provider's path, version, object that wants it)."""
    unbound: tuple[tuple[str, str, str], ...] = ()
    """(object, symbol, version) wanted before the entry point and found nowhere; the first is fatal under glibc."""
    later: tuple[tuple[str, str, str], ...] = ()
    """(object, symbol, version) bound at first call and found nowhere."""


class Dlopened(msgspec.Struct, frozen=True, kw_only=True):
    """How one dlopen ends. `ok` None: it cannot be decided, why is in `unknown`."""

    ok: bool | None = None
    unknown: str = ""
    crash: str = ""
    """The signal that ends the process instead."""
    line: bytes = b""
    """dlerror's exact words."""
    reason: Reason | None = None
    wanted: bytes = b""
    wanted_by: bytes = b""
    """Path of the object that wanted it, as opened."""
    steps: tuple[Step, ...] = ()
    missing: tuple[bytes, ...] = ()
    """Names of all libraries that cannot be loaded; under musl the first one only."""
    unbound: tuple[bytes, ...] = ()
    """Names of all symbols that nobody defines; under musl the first one only."""
