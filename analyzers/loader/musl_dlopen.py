"""dlopen of a path in a process that musl has started: what it brings, or the words of dlerror.

Mirrors dlopen, load_deps and do_relocs in `ldso/dynlink.c` at run time: the first thing that is missing ends it, functions that
nobody defines are left for their first call under RTLD_LAZY, and initial-exec thread-local variables must be those of libraries
that were there at the start. Each dlopen starts from the freshly started process.
"""

from __future__ import annotations

import copy

from analyzers.facts import ElfFacts
from analyzers.finding import Reason
from analyzers.loader.musl import program_name
from analyzers.loader.musl_binding import bind_opened, parse_version
from analyzers.loader.musl_loading import Invocation, Loading
from analyzers.loader.musl_search import STRERROR, first_value
from analyzers.loader.process import Dlopened, LoadResult, Process


class MuslProcess(Loading):
    """A process that was started, and what its dlopen answers."""

    def open(self, path: bytes, *, now: bool, caller: bytes = b"") -> Dlopened:
        """dlopen(path, RTLD_NOW or RTLD_LAZY). Who calls it makes no difference to a path."""
        branch = copy.copy(self)
        branch.searcher = copy.copy(self.searcher)
        branch.objects = list(self.objects)
        branch.steps, branch.lines, branch.failure = [], [], None
        branch._known, branch._inodes, branch._told = dict(self._known), dict(self._inodes), set()
        return branch._open(path, now=now)

    def _open(self, path: bytes, *, now: bool) -> Dlopened:
        there = len(self.objects)
        if self.load_library(path, self.main) is None and not self.ended:
            line = b"Error loading shared library " + path + b": " + STRERROR[self.searcher.errno].encode()
            return self._refused(line, Reason.OTHER, path, path)
        at = there
        while at < len(self.objects) and not self.ended:
            asking = self.objects[at]
            at += 1
            for name in asking.facts.needed if asking is not self.itself else ():
                if self.load_library(name, asking) is None and not self.ended:
                    self._missing(name, asking)
                    reason = self.failure.reason if self.failure is not None else Reason.LIBRARY_ABSENT
                    return self._refused(self.lines[0], reason, name, asking.name)
                if self.ended:
                    break
        if self.ended:
            crash = "" if self.searcher.unknown else self.crash
            unknown = self.searcher.unknown or ("" if crash else "it waits for a writer")
            return Dlopened(ok=False if crash else None, crash=crash, unknown=unknown, wanted=path, steps=tuple(self.steps))
        return self._bind(there, now=now)

    def _bind(self, there: int, *, now: bool) -> Dlopened:
        loader = self.loader.loader
        version = parse_version(loader.version if loader else "")
        bound = bind_opened(self.process.rootfs, self.objects, there, self.itself, version, now=now)
        if bound.unknown or bound.crash:
            crash = "" if bound.unknown else bound.crash
            return Dlopened(ok=False if crash else None, crash=crash, unknown=bound.unknown, steps=tuple(self.steps))
        problem = bound.problem
        if problem is None:
            return Dlopened(ok=True, steps=tuple(self.steps))
        wanted = problem.symbol + (b"@" + problem.version if problem.version else b"")
        reason = Reason.SYMBOL if problem.symbol else Reason.OTHER
        refused = self._refused(bound.lines[0], reason, wanted or problem.owner.name, problem.owner.name)
        return refused if not problem.symbol else _with_symbol(refused, problem.symbol)

    def _refused(self, line: bytes, reason: Reason, wanted: bytes, by: bytes) -> Dlopened:
        missing = (wanted,) if reason is Reason.LIBRARY_ABSENT else ()
        return Dlopened(ok=False, line=line, reason=reason, wanted=wanted, wanted_by=by, steps=tuple(self.steps), missing=missing)


def _with_symbol(refused: Dlopened, symbol: bytes) -> Dlopened:
    return Dlopened(
        ok=False,
        line=refused.line,
        reason=refused.reason,
        wanted=refused.wanted,
        wanted_by=refused.wanted_by,
        steps=refused.steps,
        unbound=(symbol,),
    )


def start_musl(process: Process) -> tuple[LoadResult, MuslProcess | None]:
    """The process as far as it comes; the second is None unless it comes to the program's entry point."""
    loader, program = process.rootfs.elf(process.interp), process.rootfs.elf(process.program)
    refusal = _refuse(process, loader, program)
    if refusal or loader is None or program is None:
        return LoadResult(family="musl", unknown=refusal), None
    given = not process.secure
    loading = MuslProcess(
        Invocation(
            process,
            loader,
            process.interp_name,
            program_name(process),
            first_value(process.env, b"LD_PRELOAD") if given else None,
            first_value(process.env, b"LD_LIBRARY_PATH"),
        ),
        program,
    )
    loading.load_all()
    if not loading.ended:
        loading.bind_all()
    result = loading.result()
    return result, loading if result.ok else None


def _refuse(process: Process, loader: ElfFacts | None, program: ElfFacts | None) -> str:
    if loader is None or loader.loader is None or program is None or process.command is not None:
        return "the loader or the program was not read"
    if process.rootfs.unread(process.interp) or process.rootfs.unread(process.program):
        return "the loader or the program was not wholly read"
    return "" if loader.loader.family == "musl" else "what gcompat's stub starts is not followed"
