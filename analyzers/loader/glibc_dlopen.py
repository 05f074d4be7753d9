"""dlopen of a path in a process that glibc's ld.so has started: what it brings, or the words of dlerror.

Mirrors `dl_open_worker` of `elf/dl-open.c` and `_dl_allocate_static_tls` of `elf/dl-reloc.c`: map the file and what it needs,
refuse an executable stack (since 2.41), check versions, bind what binds now. Symbols are looked up in the program's list first,
then in the object's own. Each dlopen starts from the freshly started process: what another one brought is not there.
"""

from __future__ import annotations

from analyzers.facts import ElfFacts
from analyzers.finding import Reason
from analyzers.loader.binding import Scope
from analyzers.loader.glibc import Loading, start_loading
from analyzers.loader.linkmap import ERRNO, Crashed, Mapped, Signalled, Undecided
from analyzers.loader.machines import EM_AARCH64, EM_LOONGARCH, EM_X86_64, x86_isa
from analyzers.loader.order import relocation_order
from analyzers.loader.process import Dlopened, LoadResult, Process
from analyzers.loader.symbols import relocation_runs
from analyzers.loader.versions import check_opened

STATIC_TLS_SURPLUS = 1664
"""Bytes of static TLS that the default tunables leave to dlopened objects (`elf/dl-tls.c`)."""
_TCB_ALIGN = 64
_TPOFF = {EM_X86_64: 18, EM_AARCH64: 1030}
_DF_STATIC_TLS = 0x10
_STRERROR = {
    "EACCES": b"Permission denied",
    "EINVAL": b"Invalid argument",
    "EIO": b"Input/output error",
    "EISDIR": b"Is a directory",
    "ELOOP": b"Too many levels of symbolic links",
    "ENAMETOOLONG": b"File name too long",
    "ENOENT": b"No such file or directory",
    "ENOTDIR": b"Not a directory",
    "EPERM": b"Operation not permitted",
}


class GlibcProcess(Loading):
    """A process that was started, and what its dlopen answers."""

    def open(self, path: bytes, *, now: bool, caller: bytes = b"") -> Dlopened:
        """dlopen(path, RTLD_NOW or RTLD_LAZY). `caller`: beginning of the soname of the library that calls it, the program's
        own where there is none.
        """
        started = self._space
        calling = next((each for each in started.listed if caller and (each.soname or b"").startswith(caller)), started.program)
        self._space = started.branch()
        try:
            return self._open(path, calling, {id(each) for each in started.chain}, now=now)
        except Undecided as undecided:
            return Dlopened(unknown=str(undecided))
        except Signalled as signalled:
            return self._refused(words(signalled), signalled)
        except Crashed as crashed:
            return self._crashed(crashed)
        finally:
            self._space = started

    def _open(self, path: bytes, calling: Mapped, there: set[int], *, now: bool) -> Dlopened:
        space = self._space
        mapped = space.open_library(path, calling)
        opened = [each for each in space.listed if id(each) not in there]
        refused = self._refuse_stack(there)
        if refused is not None:
            return self._refused(words(refused), refused)
        failure = space.failure
        if isinstance(failure, Crashed):
            return self._crashed(failure)
        if failure is not None:
            return self._refused(words(failure), failure)
        line = check_opened(space.chain, opened, self._argv0, self._release)
        if line:
            version = line.partition(b"`")[2].partition(b"'")[0]
            by = line.rpartition(b"(required by ")[2].removesuffix(b")")
            return Dlopened(ok=False, line=line, reason=Reason.VERSION, wanted=version, wanted_by=by, steps=tuple(space.steps))
        host = x86_isa(self._process.profile.x86_level)
        if self._loader.machine == EM_X86_64 and any(each.facts.x86_isa_needed & ~host for each in opened):
            return Dlopened(unknown="it needs a higher level of the CPU than the host is taken to have")
        return self._bind(mapped, opened, now=now)

    def _refuse_stack(self, there: set[int]) -> Signalled | None:
        """Since 2.41 a process whose stack is not executable keeps it so; whatever stands in the chain before has been mapped."""
        if self._release < (2, 41):
            return None
        new = [each for each in self._space.chain if id(each) not in there]
        first = next((each for each in new if each.faked or wants_stack(each.facts)), None)
        if first is None or first.faked:
            return None
        started = [each for each in self._space.chain if id(each) in there and each is not self._space.loader]
        if any(wants_stack(each.facts) for each in started):
            return None
        return Signalled(first.requested, b"cannot enable executable stack as shared object requires", "EINVAL")

    def _bind(self, mapped: Mapped, opened: list[Mapped], *, now: bool) -> Dlopened:
        space = self._space
        new = {id(each) for each in opened}
        program_list = [each for each in space.chain if id(each) not in new and not each.faked]
        listed = [*program_list, *(each for each in space.listed if each not in program_list)]
        tables = [self._table(each) for each in listed]
        scope = Scope(listed, tables, self._release, self._argv0)
        original = self._release < (2, 36) or self._settings.original_sort
        order = relocation_order(space.listed, mapped, space.libc, self._release, original=original)
        order = [each for each in order if id(each) in new]
        for each in order:
            if self._exceeds_static_tls(each):
                line = each.name + b": cannot allocate memory in static TLS block"
                return Dlopened(ok=False, line=line, wanted=each.name, wanted_by=each.name, steps=tuple(space.steps))
        bound = scope.relocate(order, now=now or self._settings.bind_now, own=space.loader, trace=True)
        if bound.unbound:
            first = bound.unbound[0]
            line = first.mapped.name + b": undefined symbol: " + first.reference.words()
            name, version = first.reference
            wanted = name + (b"@" + version if version else b"")
            return Dlopened(
                ok=False,
                line=line,
                reason=Reason.SYMBOL,
                wanted=wanted,
                wanted_by=first.mapped.name,
                steps=tuple(space.steps),
                unbound=tuple(each.reference.name for each in bound.unbound),
            )
        if bound.fatal or bound.crash:
            return Dlopened(unknown="it ends in a way that is foretold only of programs")
        return Dlopened(ok=True, steps=tuple(space.steps))

    def _exceeds_static_tls(self, mapped: Mapped) -> bool:
        """Whether its own thread-local variables must lie in static TLS, and are more than any process has left."""
        facts = mapped.facts
        size = facts.tls[0] if facts.tls is not None else 0
        kind = _TPOFF.get(facts.machine)
        if size < STATIC_TLS_SURPLUS + _TCB_ALIGN or not facts.dt_flags & _DF_STATIC_TLS or kind is None or mapped.node is None:
            return False
        symbols = self._process.rootfs.symbols(mapped.node)
        if symbols is None:
            return False
        imports = len(symbols.import_flags)
        return any(run.kind == kind and not 0 <= run.symbol < imports for run in relocation_runs(symbols))

    def _refused(self, line: bytes, failure: Signalled) -> Dlopened:
        missing = tuple(dict.fromkeys(name for name, _ in self._space.missing))
        return Dlopened(
            ok=False,
            line=line,
            reason=failure.reason,
            wanted=failure.wanted or failure.objname,
            wanted_by=failure.by,
            steps=tuple(self._space.steps),
            missing=missing,
        )

    def _crashed(self, crashed: Crashed) -> Dlopened:
        return Dlopened(ok=False, crash=crashed.signal, wanted=crashed.path, steps=tuple(self._space.steps))


def start_glibc(process: Process) -> tuple[LoadResult, GlibcProcess | None]:
    """The process as far as it comes; the second is None unless it comes to the program's entry point."""
    loading = start_loading(process, GlibcProcess)
    if isinstance(loading, LoadResult):
        return loading, None
    result = loading.start()
    return result, loading if result.ok else None


def words(signalled: Signalled) -> bytes:
    """dlerror's, which has the C library's full strerror."""
    about = signalled.objname + b": " if signalled.objname else b""
    if not signalled.errno:
        return about + signalled.text
    return about + signalled.text + b": " + _STRERROR.get(signalled.errno, b"Unknown error %d" % ERRNO.get(signalled.errno, 0))


def wants_stack(facts: ElfFacts) -> bool:
    """PT_GNU_STACK, or the machine's default where there is none (`stackinfo.h`)."""
    if facts.gnu_stack_executable is not None:
        return facts.gnu_stack_executable
    return facts.machine not in (EM_AARCH64, EM_LOONGARCH)
