"""One start under musl: the objects as they come, in load order, and what is printed on the way.

Mirrors load_library, load_deps and __dls3 in `ldso/dynlink.c` (M1-M3, M11-M15): reserved names are the loader itself, then what
is loaded already by its short name, then the search (musl_search.py), then identity by inode, then the file (musl_files.py).
Nothing stops at the first missing library: every one is told, then every symbol (musl_binding.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzers.facts import ElfFacts
from analyzers.finding import Attempt, Outcome, Reason, Step, show
from analyzers.loader.dlopens import Wished, read_wishes, unfulfilled
from analyzers.loader.musl_binding import MAX_LINES, Bound, bind, is_another_libc, near_misses, parse_version
from analyzers.loader.musl_files import Mapped, fixed_range, map_file
from analyzers.loader.musl_search import (
    NAME_MAX,
    SHOWN_ATTEMPTS,
    STRERROR,
    Object,
    Opened,
    Searcher,
    Trail,
    split_preload,
)
from analyzers.loader.process import LoadedObject, LoadResult, Process
from analyzers.rootfs import Node
from analyzers.trail import show_path

RESERVED = (b"c.", b"pthread.", b"rt.", b"m.", b"dl.", b"util.", b"xnet.")
"""Names that begin with `lib` and one of these are the loader itself, whatever follows (M2)."""
_REASONS = {
    Outcome.DENIED: Reason.PERMISSION,
    Outcome.WRONG_CLASS: Reason.ARCHITECTURE,
    Outcome.WRONG_MACHINE: Reason.ARCHITECTURE,
}
_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_PHDR = 1, 2, 6
_PF_W = 2
_DT_DEBUG, _DT_INIT_ARRAY = 21, 25
_EM_MIPS = 8
_ARCHITECTURES = {
    62: b"x86_64", 3: b"i386", 6: b"i386", 183: b"aarch64", 40: b"arm", 21: b"powerpc64", 20: b"powerpc", 22: b"s390x",
    243: b"riscv64", 258: b"loongarch64", 8: b"mips",
}  # fmt: skip


class Invocation(NamedTuple):
    """How the loader was started: by the kernel for a program, or as a command that maps the program itself."""

    process: Process
    loader: ElfFacts
    loader_name: bytes
    """ldso.name: PT_INTERP as written, or argv[0] of the command (M3)."""
    program_name: bytes
    """app.name, which its messages give."""
    preload: bytes | None
    library_path: bytes | None
    mapped_by_kernel: bool = True


def run(invocation: Invocation, program: ElfFacts) -> LoadResult:
    """__dls3 from the moment the program is mapped."""
    loading = Loading(invocation, program)
    loading.load_all()
    if not loading.ended:
        loading.bind_all()
    return loading.result()


class Failure(NamedTuple):
    """The first thing that ends the start."""

    reason: Reason
    wanted: bytes
    wanted_by: bytes


class Loading:
    """The objects of one process as they come, and what is printed on the way."""

    def __init__(self, invocation: Invocation, program: ElfFacts) -> None:
        process = self.process = invocation.process
        self.invocation = invocation
        self.loader = invocation.loader
        self.searcher = Searcher(
            process,
            loader_name=invocation.loader_name,
            path_file=path_file(invocation.loader, process.interp),
            library_path=invocation.library_path,
        )
        self.main = Object(invocation.program_name, process.program, program)
        self.main.mapped_by_kernel = invocation.mapped_by_kernel
        self.itself = Object(invocation.loader_name, process.interp, invocation.loader)
        self.objects = [self.main]
        """The load order (M1), which is also the scope of symbols (M21)."""
        self.steps: list[Step] = []
        self.lines: list[bytes] = []
        self.failure: Failure | None = None
        self.crash = ""
        self.bound = Bound()
        self._known: dict[bytes, Object] = {}
        """By short name."""
        self._inodes: dict[tuple[int, bytes], Object] = {}
        self._told: set[bytes] = set()
        """Names that a step was made for and that need no second one."""
        self._tried: tuple[Attempt, ...] = ()
        """Of the last request."""

    @property
    def ended(self) -> bool:
        return bool(self.crash or self.searcher.unknown or self.searcher.hangs)

    def load_all(self) -> None:
        """Preloads, then DT_NEEDED of every object in load order."""
        detail = cannot_be_entered(self.main)
        if detail:
            self._tell_crash(self.main, detail)
            self.crash = "SIGSEGV"
            return
        if self.invocation.preload is not None:
            for name in split_preload(self.invocation.preload):
                self.load_library(name, None)
                if self.ended:
                    return
        for asking in self.objects:
            if asking is self.itself:
                continue
            for name in asking.facts.needed:
                if self.load_library(name, asking) is None and not self.ended:
                    self._missing(name, asking)
                if self.ended:
                    return

    def _missing(self, name: bytes, asking: Object) -> None:
        words = STRERROR[self.searcher.errno].encode()
        if len(self.lines) < MAX_LINES:
            self.lines.append(b"Error loading shared library " + name + b": " + words + b" (needed by " + asking.name + b")")
        if self.failure is None:
            outcomes = [each.outcome for each in self._tried]
            reason = next((_REASONS[each] for each in outcomes if each in _REASONS), None)
            if reason is None:
                found = any(each in (Outcome.NOT_ELF, Outcome.TOO_SHORT, Outcome.UNUSABLE) for each in outcomes)
                reason = Reason.OTHER if found else Reason.LIBRARY_ABSENT
            self.failure = Failure(reason, name, asking.name)

    def bind_all(self) -> None:
        """Every relocation (M20); then what older releases leave undone."""
        if dynamic_is_closed(self.main.facts):
            self._tell_crash(self.main, "musl writes DT_DEBUG into its dynamic section, which is write-protected")
            self.crash = "SIGSEGV"
            return
        loader = self.loader.loader
        version = parse_version(loader.version if loader else "")
        bound = self.bound = bind(self.process.rootfs, self.objects, self.itself, version)
        self.searcher.unknown = bound.unknown
        self.crash = bound.crash
        self.lines += bound.lines[: MAX_LINES - len(self.lines)]
        problem = bound.problem
        if problem is not None and self.failure is None:
            foreign = problem.owner.facts.machine != self.loader.machine
            wanted = problem.symbol + (b"@" + problem.version if problem.version else b"")
            reason = Reason.ARCHITECTURE if foreign else Reason.SYMBOL if problem.symbol else Reason.OTHER
            self.failure = Failure(reason, wanted or problem.owner.name, problem.owner.name)
        for owner, symbol, _ in bound.unbound[:SHOWN_ATTEMPTS]:
            tried = tuple(near_misses(self.process.rootfs, self.objects, symbol))
            self.steps.append(Step("symbol", show(symbol), owner.shown, "", False, tried))
        if bound.crash_in is not None:
            self._tell_crash(bound.crash_in, bound.detail)
        elif version and version < (1, 2, 4) and self.failure is None:
            self._leave_relr(next((each for each in self.objects if each.facts.has_relr and each is not self.itself), None))

    def _leave_relr(self, owner: Object | None) -> None:
        """M27: DT_RELR means nothing before 1.2.4; constructors are then called by addresses that nobody corrected."""
        if owner is None:
            return
        detail = "musl before 1.2.4 does not apply DT_RELR"
        if any(tag == _DT_INIT_ARRAY for tag, _ in owner.facts.tags):
            self.crash = "SIGSEGV"
        else:
            self.searcher.unknown = f"{detail}, and {owner.shown} may use what it leaves undone"
        self._tell_crash(owner, detail)

    def _tell_crash(self, owner: Object, detail: str) -> None:
        layer = self.process.rootfs.layer_of(owner.node)
        tried = Attempt("path", owner.shown, Outcome.UNUSABLE, detail=detail, layer=layer)
        self.steps.append(Step("loader", owner.shown, path=show_path(owner.node.path), ok=False, attempts=(tried,), layer=layer))

    # -- load_library --

    def load_library(self, name: bytes, needed_by: Object | None) -> Object | None:
        """The object that `name` stands for; None with errno set where there is none."""
        trail = Trail()
        if not name:
            self.searcher.errno = "EINVAL"
            trail.add(Attempt("path", "", Outcome.ABSENT, detail="an empty name"))
            return self._tell(name, needed_by, trail, None)
        if is_reserved(name) or name == self.invocation.loader_name:
            return self._loader_itself(name, needed_by, trail)
        if b"/" in name:
            opened = self.searcher.open_path(name, "path", trail)
            origin = whose = ""
        else:
            known = self._known.get(name)
            if known is not None:
                trail.add(Attempt("already loaded", known.shown, Outcome.FOUND))
                return self._tell(name, needed_by, trail, known)
            if len(name) > NAME_MAX:
                trail.add(Attempt("path", show(name), Outcome.ABSENT, detail=f"more than {NAME_MAX} bytes"))
                return self._tell(name, needed_by, trail, None)
            opened, origin, whose = self.searcher.search(name, needed_by, trail)
        if opened is None:
            return self._tell(name, needed_by, trail, None)
        same = self._inodes.get(opened.node.identity)
        if same is not None:
            if same.short_name is None and origin:
                self._name(same, same.name.rpartition(b"/")[2])
            return self._tell(name, needed_by, trail, same)
        return self._map(name, opened, needed_by, trail, origin, whose)

    def _map(self, name: bytes, opened: Opened, needed_by: Object | None, trail: Trail, origin: str, whose: str) -> Object | None:
        mapped = map_file(self.process.rootfs, opened.node, self.loader, self._fixed_ranges(), self.process.profile)
        if mapped.facts is None:
            self._refuse(mapped, trail)
            return self._tell(name, needed_by, trail, None)
        if is_another_libc(self.process.rootfs, opened.node, mapped.facts):
            # M13: another libc, whatever it is called, is thrown away for this one.
            last = trail.attempts.pop()
            trail.add(Attempt(last.origin, last.path, last.outcome, last.whose, "a libc: musl takes itself instead", last.layer))
            return self._loader_itself(name, needed_by, trail)
        made = Object(opened.path, opened.node, mapped.facts, requested=name, needed_by=needed_by)
        made.origin, made.whose = origin or "path", whose
        made.attempts = tuple(trail.attempts)
        self._inodes[opened.node.identity] = made
        self.objects.append(made)
        if origin:
            self._name(made, opened.path.rpartition(b"/")[2])
        return self._tell(name, needed_by, trail, made)

    def _refuse(self, mapped: Mapped, trail: Trail) -> None:
        last = trail.attempts.pop()
        detail = mapped.detail or last.detail
        trail.add(Attempt(last.origin, last.path, mapped.outcome, last.whose, detail, last.layer))
        self.searcher.errno = mapped.error or self.searcher.errno
        self.searcher.unknown = self.searcher.unknown or mapped.unknown
        self.crash = mapped.crash

    def _loader_itself(self, name: bytes, needed_by: Object | None, trail: Trail) -> Object:
        if self.itself not in self.objects:
            self.itself.requested = name
            self.itself.needed_by = needed_by
            self.itself.origin = "reserved name"
            self.objects.append(self.itself)
        shown = show(self.invocation.loader_name)
        trail.add(Attempt("reserved name", shown, Outcome.FOUND, layer=self.process.rootfs.layer_of(self.process.interp)))
        self.itself.attempts = self.itself.attempts or tuple(trail.attempts)
        self._tell(name, needed_by, trail, self.itself)
        return self.itself

    def _name(self, each: Object, short_name: bytes) -> None:
        """Of two with one short name the one that was loaded first is found."""
        each.short_name = short_name
        other = self._known.get(short_name)
        if other is None or self.objects.index(each) < self.objects.index(other):
            self._known[short_name] = each

    def _fixed_ranges(self) -> list[tuple[int, int]]:
        page = self.process.profile.page_size
        return [fixed_range(each.facts, page) for each in self.objects if each.facts.type == _ET_EXEC]

    def _tell(self, name: bytes, needed_by: Object | None, trail: Trail, found: Object | None) -> Object | None:
        """One step for a request: the first of each name, and every one that fails."""
        if found is not None and name in self._told:
            return found
        self._told.add(name)
        self._tried = tuple(trail.attempts)
        if len(self.steps) >= MAX_LINES:
            return found
        node = None if found is None else found.node
        self.steps.append(
            Step(
                "preload" if needed_by is None else "library",
                show(name),
                "LD_PRELOAD" if needed_by is None else needed_by.shown,
                "" if node is None else show_path(node.path),
                found is not None,
                self._tried,
                None if node is None else self.process.rootfs.layer_of(node),
            )
        )
        return found

    # -- the result --

    def result(self) -> LoadResult:
        loader = self.loader.loader
        unknown = self.searcher.unknown
        ok = None if unknown else not (self.failure or self.crash or self.searcher.hangs)
        failed = ok is False and self.failure is not None
        return LoadResult(
            family="musl",
            version="" if loader is None else loader.version,
            ok=ok,
            unknown=unknown,
            crash="" if unknown else self.crash,
            exit_code=127 if failed and not self.crash and not self.searcher.hangs else None,
            lines=() if unknown else tuple(self.lines),
            reason=None if ok is not False else self.failure.reason if self.failure else Reason.OTHER,
            wanted=self.failure.wanted if failed and self.failure else b"",
            wanted_by=self.failure.wanted_by if failed and self.failure else b"",
            objects=self._loaded(self.objects),
            steps=tuple(self.steps),
            unbound=tuple((each.shown, show(symbol), show(version)) for each, symbol, version in self.bound.unbound),
            wished=tuple(self._wished()) if ok else (),
        )

    def _wished(self) -> Iterator[Wished]:
        """Sonames that objects will dlopen by their own notes and that are not to be had (R42). The last thing that is asked."""
        for each in [each for each in self.objects if each.facts.dlopen_notes]:
            for wish in read_wishes(each.facts.dlopen_notes):
                trails = []
                for soname in wish.sonames:
                    trail = Trail()
                    if self._can_be_opened(soname, each, trail):
                        break
                    trails.append(tuple(trail.attempts))
                else:
                    yield unfulfilled(each.name, wish, trails[0])

    def _can_be_opened(self, name: bytes, asking: Object, trail: Trail) -> bool:
        if is_reserved(name) or name in self._known:
            return True
        by_path = b"/" in name
        opened = self.searcher.open_path(name, "path", trail) if by_path else self.searcher.search(name, asking, trail)[0]
        return opened is not None or bool(self.searcher.unknown)

    def _loaded(self, objects: Sequence[Object]) -> tuple[LoadedObject, ...]:
        index = {id(each): at for at, each in enumerate(objects)}
        return tuple(
            LoadedObject(
                name=show(each.requested),
                path=each.name,
                node=each.node,
                needed_by=None if each.needed_by is None else index[id(each.needed_by)],
                origin=each.origin,
                whose=each.whose,
                attempts=each.attempts,
            )
            for each in objects
        )


def cannot_be_entered(program: Object) -> str:
    """Why the first look at the program kills the loader; empty when it does not."""
    facts = program.facts
    if not facts.dynamic:
        return "musl follows the dynamic section, which the program has not"
    if program.mapped_by_kernel and facts.type == _ET_DYN and all(each.type != _PT_PHDR for each in facts.segments):
        return "musl learns from PT_PHDR where the program lies, and there is none"
    return ""


def dynamic_is_closed(facts: ElfFacts) -> bool:
    """Whether DT_DEBUG stands in a segment that cannot be written; on MIPS another entry leads to a place for it."""
    if facts.machine == _EM_MIPS or all(tag != _DT_DEBUG for tag, _ in facts.tags):
        return False
    at = next((each.vaddr for each in reversed(facts.segments) if each.type == _PT_DYNAMIC), 0)
    over = [each for each in facts.segments if each.type == _PT_LOAD and each.vaddr <= at < each.vaddr + each.memsz]
    return bool(over) and not over[-1].flags & _PF_W


def is_reserved(name: bytes) -> bool:
    """M2; the whole name counts, so a path is not reserved."""
    return name.startswith(b"lib") and name[3:].startswith(RESERVED)


def path_file(loader: ElfFacts, interp: Node) -> bytes:
    """The path file's name as compiled in; where the file does not tell, by its usual name or its machine (A1)."""
    if loader.loader is not None and loader.loader.path_file:
        return loader.loader.path_file
    return b"/etc/ld-musl-" + architecture_of(loader, interp) + b".path"


def architecture_of(loader: ElfFacts, interp: Node) -> bytes:
    """LDSO_ARCH, by the compiled in path file, the file's usual name, or its machine (A1)."""
    said = b"" if loader.loader is None else loader.loader.path_file.rpartition(b"/")[2]
    base = interp.path.rpartition(b"/")[2]
    if said.startswith(b"ld-musl-") and said.endswith(b".path"):
        return said[8:-5]
    if base.startswith(b"ld-musl-") and base.endswith(b".so.1"):
        return base[8:-5]
    arch = _ARCHITECTURES.get(loader.machine, b"unknown")
    if loader.machine == 40 and loader.flags & 0x400:
        arch += b"hf"
    if loader.machine == 21 and loader.little:
        arch += b"le"
    return arch
