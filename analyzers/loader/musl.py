"""musl's dynamic loader, and gcompat's stub in front of it: how a start ends.

Mirrors `ldso/dynlink.c` of musl up to its `if (ldso_fail) _exit(127)` (M1-M61): what it is given here, the work in
musl_loading.py. Neither DT_SONAME nor versions are looked at, and everything is bound before the entry point.
"""

from __future__ import annotations

import msgspec

from analyzers.facts import ElfFacts, LoaderFacts
from analyzers.finding import Reason, Step, show
from analyzers.loader.gcompat import hand_over
from analyzers.loader.musl_command import parse_command, usage
from analyzers.loader.musl_files import map_file
from analyzers.loader.musl_loading import Invocation, architecture_of, run
from analyzers.loader.musl_search import STRERROR, first_value
from analyzers.loader.process import LoadResult, Process
from analyzers.rootfs import Node
from analyzers.trail import show_path


def load_musl(process: Process) -> LoadResult:
    """How loading ends under musl, or under gcompat's stub. Never raises."""
    loader = process.rootfs.elf(process.interp)
    program = process.rootfs.elf(process.program)
    if loader is None or loader.loader is None or process.rootfs.unread(process.interp):
        return LoadResult(family="musl", unknown=f"{show_path(process.interp.path)} was not wholly read")
    if process.command is not None:
        return load_command(process, process.command, loader, loader.loader)
    if loader.loader.family == "gcompat":
        return load_gcompat(process, loader.loader)
    if program is None or process.rootfs.unread(process.program):
        return LoadResult(family="musl", unknown=f"{show_path(process.program.path)} was not wholly read")
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


def load_gcompat(process: Process, stub: LoaderFacts) -> LoadResult:
    """M52: the stub, then musl's loader as a command that opens the program itself."""
    given = hand_over(process, stub)
    if given.unknown:
        return LoadResult(family="musl", unknown=given.unknown, steps=given.steps)
    if given.line is not None or given.loader is None:
        return _stopped(given.steps, given.line or b"")
    library_path = first_value(given.process.env, b"LD_LIBRARY_PATH")
    invocation = Invocation(given.process, given.loader, given.loader_name, given.target, given.preload, library_path, False)
    return _load_named(invocation, given.process.program, given.steps)


def load_command(process: Process, argv: tuple[bytes, ...], loader: ElfFacts, said: LoaderFacts) -> LoadResult:
    """M3, M60: the loader is the program that was executed, and opens its argument itself."""
    env = () if process.secure else process.env
    asked = parse_command(argv, first_value(env, b"LD_LIBRARY_PATH"), first_value(env, b"LD_PRELOAD"))
    if asked.target is None:
        lines = usage(argv[0], architecture_of(loader, process.interp), said.version, listing=asked.listing)
        return LoadResult(family="musl", version=said.version, ok=False, exit_code=1, lines=lines, reason=Reason.OTHER)
    if asked.listing:
        return LoadResult(family="musl", unknown=f"{show(argv[0])} is asked to list libraries, not to run a program")
    found = process.rootfs.resolve(asked.target, cwd=process.cwd, creds=process.creds)
    if found.unknown:
        return LoadResult(family="musl", unknown=f"a layer that was not wholly read may hold {show_path(asked.target)}")
    if found.node is None:
        return _stopped((), argv[0] + b": cannot load " + asked.target + b": " + STRERROR[found.error].encode())
    named = process._replace(program=found.node, opened_as=asked.target, command=None)
    return _load_named(Invocation(named, loader, argv[0], asked.target, asked.preload, asked.library_path, False), found.node)


def _load_named(invocation: Invocation, program: Node, steps: tuple[Step, ...] = ()) -> LoadResult:
    """The loader as a command opens and maps the program by its name."""
    process, name, target = invocation.process, invocation.loader_name, invocation.program_name
    found = process.rootfs.resolve(target, cwd=process.cwd, creds=process.creds)
    error = found.error or ("" if process.rootfs.may_read(program, process.creds) else "EACCES")
    if error:
        return _stopped(steps, name + b": cannot load " + target + b": " + STRERROR[error].encode())
    mapped = map_file(process.rootfs, program, invocation.loader, (), process.profile)
    if mapped.unknown or mapped.crash:
        crash = mapped.crash
        return LoadResult(family="musl", ok=False if crash else None, unknown=mapped.unknown, crash=crash, steps=steps)
    facts = process.rootfs.elf(program)
    if mapped.error or facts is None:
        return _stopped(steps, name + b": " + target + b": Not a valid dynamic program")
    result = run(invocation, facts)
    return msgspec.structs.replace(result, steps=(*steps, *result.steps))


def _stopped(steps: tuple[Step, ...], line: bytes) -> LoadResult:
    return LoadResult(
        family="musl",
        ok=False,
        exit_code=1,
        lines=(line,) if line else (),
        reason=Reason.OTHER,
        steps=steps,
    )
