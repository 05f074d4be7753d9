"""A started program that loads plug-ins by dlopen, under whichever loader it has.

Picks the emulation by what the interpreter file is, as `load` does.
"""

from __future__ import annotations

from analyzers.loader.glibc_dlopen import GlibcProcess, start_glibc
from analyzers.loader.musl_dlopen import MuslProcess, start_musl
from analyzers.loader.process import LoadResult, Process

Running = GlibcProcess | MuslProcess


def start_process(process: Process) -> tuple[LoadResult, Running | None]:
    """How the program starts; the second is None unless it does."""
    facts = process.rootfs.elf(process.interp)
    family = "unknown" if facts is None or facts.loader is None else facts.loader.family
    if family == "glibc":
        return start_glibc(process)
    if family == "musl":
        return start_musl(process)
    return LoadResult(family=family, unknown="this loader is not emulated"), None
