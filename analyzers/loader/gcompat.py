"""gcompat's stub in the place of glibc's loader: it runs musl's loader on the program, with libgcompat preloaded.

Mirrors gcompat's `loader/loader.c` (M52). The names it was built with are read from the stub itself. Knows only what is handed
over; the loading is musl.py's.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzers.facts import ElfFacts, LoaderFacts
from analyzers.finding import Step, show
from analyzers.kernel import NATIVE, execute
from analyzers.loader.musl_search import STRERROR, first_value
from analyzers.loader.process import Process
from analyzers.rootfs import PATH_MAX
from analyzers.trail import show_path


class Handover(NamedTuple):
    """musl's loader as a command; with `line` or `unknown` set it does not come so far."""

    process: Process
    """The same process after the second execve: its interpreter is the musl loader."""
    loader: ElfFacts | None = None
    loader_name: bytes = b""
    target: bytes = b""
    """The program by its real path, which musl opens itself."""
    preload: bytes = b""
    steps: tuple[Step, ...] = ()
    line: bytes | None = None
    """What the stub says before it exits with 1; empty where it says nothing on stderr."""
    unknown: str = ""


def hand_over(process: Process, stub: LoaderFacts) -> Handover:
    """The stub's main()."""
    if not (stub.linker and stub.preloaded and stub.loader_name):
        return Handover(process, unknown=f"{show_path(process.interp.path)} does not tell which loader it runs")
    preload = stub.preloaded + b" " + (first_value(process.env, b"LD_PRELOAD") or b"")
    if len(preload) >= PATH_MAX:
        return Handover(process, line=b"too many preloaded libraries")
    if process.rootfs.resolve(b"/proc").node is None:
        return Handover(process, line=b"readlink: " + STRERROR["ENOENT"].encode())
    target = b"/" + process.program.path
    if stub.loader_name in target:
        return Handover(process, line=b"")
    facts = process.rootfs.elf(process.interp)
    if facts is None:
        raise ValueError("a stub without facts is no stub")
    architecture = next(name for name, kind in NATIVE.items() if facts.machine in kind.machines and facts.bits == kind.bits)
    executed = execute(
        process.rootfs,
        stub.linker,
        [stub.loader_name],
        cwd=process.cwd,
        creds=process.creds,
        profile=process.profile,
        architecture=architecture,
        env=process.env,
    )
    steps = tuple(msgspec.structs.replace(step, action="loader", by=show_path(process.interp.path)) for step in executed.steps)
    if executed.unknown:
        return Handover(process, steps=steps, unknown=executed.unknown)
    if executed.error:
        words = STRERROR.get(executed.error, executed.error)
        return Handover(process, steps=steps, line=b"execve: " + words.encode())
    loader = None if executed.program is None else process.rootfs.elf(executed.program)
    if executed.program is None or loader is None or loader.loader is None or loader.loader.family != "musl":
        return Handover(process, steps=steps, unknown=f"{show(stub.linker)} is not musl's loader")
    # Set-id survives the second execve, file capabilities do not (K23).
    secure = executed.secure or (process.secure and bool(process.program.entry.mode & 0o6000))
    after = process._replace(interp=executed.program, interp_name=stub.loader_name, creds=executed.creds, secure=secure)
    return Handover(after, loader, stub.loader_name, target, preload, steps)
