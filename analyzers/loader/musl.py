"""musl's dynamic loader, and gcompat's stub in front of it: how a start ends.

Mirrors `ldso/dynlink.c` of musl up to its `if (ldso_fail) _exit(127)` (M1-M61): what it is given here, the work in
musl_loading.py. Neither DT_SONAME nor versions are looked at, and everything is bound before the entry point.
"""

from __future__ import annotations

import msgspec

from analyzers.facts import ElfFacts, LoaderFacts
from analyzers.finding import Reason
from analyzers.loader.gcompat import Handover, hand_over
from analyzers.loader.musl_files import map_file
from analyzers.loader.musl_loading import Invocation, run
from analyzers.loader.musl_search import STRERROR, first_value
from analyzers.loader.process import LoadResult, Process
from analyzers.trail import show_path


def load_musl(process: Process) -> LoadResult:
    """How loading ends under musl, or under gcompat's stub. Never raises."""
    loader = process.rootfs.elf(process.interp)
    program = process.rootfs.elf(process.program)
    if loader is None or loader.loader is None or process.rootfs.unread(process.interp):
        return LoadResult(family="musl", unknown=f"{show_path(process.interp.path)} was not wholly read")
    if program is None or process.rootfs.unread(process.program):
        return LoadResult(family="musl", unknown=f"{show_path(process.program.path)} was not wholly read")
    if loader.loader.family == "gcompat":
        return load_gcompat(process, loader.loader, program)
    given = not process.secure
    by_kernel = program.interp is not None
    invocation = Invocation(
        process,
        loader,
        process.interp_name,
        program_name(process) if by_kernel else process.opened_as,
        first_value(process.env, b"LD_PRELOAD") if given else None,
        first_value(process.env, b"LD_LIBRARY_PATH"),
        by_kernel,
    )
    return run(invocation, program)


def program_name(process: Process) -> bytes:
    """AT_EXECFN, unless that is a path below /proc."""
    name = process.execfn or process.opened_as
    return process.argv0 if name.startswith(b"/proc/") else name


def load_gcompat(process: Process, stub: LoaderFacts, program: ElfFacts) -> LoadResult:
    """M52: the stub, then musl's loader as a command that opens the program itself."""
    given = hand_over(process, stub)
    if given.unknown:
        return LoadResult(family="musl", unknown=given.unknown, steps=given.steps)
    if given.line is not None or given.loader is None:
        return _stopped(given, given.line or b"")
    name, target, process = given.loader_name, given.target, given.process
    found = process.rootfs.resolve(target, creds=process.creds)
    error = found.error or ("" if process.rootfs.may_read(process.program, process.creds) else "EACCES")
    if error:
        return _stopped(given, name + b": cannot load " + target + b": " + STRERROR[error].encode())
    mapped = map_file(process.rootfs, process.program, given.loader, (), process.profile)
    if mapped.unknown or mapped.crash:
        crash = mapped.crash
        return LoadResult(family="musl", ok=False if crash else None, unknown=mapped.unknown, crash=crash, steps=given.steps)
    if mapped.error:
        return _stopped(given, name + b": " + target + b": Not a valid dynamic program")
    library_path = first_value(process.env, b"LD_LIBRARY_PATH")
    result = run(Invocation(process, given.loader, name, target, given.preload, library_path, False), program)
    return msgspec.structs.replace(result, steps=(*given.steps, *result.steps))


def _stopped(given: Handover, line: bytes) -> LoadResult:
    return LoadResult(
        family="musl",
        ok=False,
        exit_code=1,
        lines=(line,) if line else (),
        reason=Reason.OTHER,
        steps=given.steps,
    )
