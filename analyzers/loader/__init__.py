"""What the user-space loader does with a program: the objects it maps in order, or the lines it dies with.

Picks the emulation by what the interpreter file is, never by its name (G1).
"""

from __future__ import annotations

from analyzers.loader.glibc import load_glibc
from analyzers.loader.musl import load_musl
from analyzers.loader.process import LoadedObject, LoadResult, Process

__all__ = ["LoadResult", "LoadedObject", "Process", "load"]

_EMULATIONS = {"glibc": load_glibc, "musl": load_musl, "gcompat": load_musl}


def load(process: Process) -> LoadResult:
    """How loading ends. Never raises; what cannot be decided says why."""
    facts = process.rootfs.elf(process.interp)
    family = "unknown" if facts is None or facts.loader is None else facts.loader.family
    emulate = _EMULATIONS.get(family)
    if emulate is None:
        return LoadResult(family=family, unknown="this loader is not emulated")
    return emulate(process)
