"""glibc's ld.so from its first instruction to the program's entry point, top to bottom as `dl_main` of `elf/rtld.c` does it.

Settings, preloads, DT_NEEDED (glibc_deps.py), versions, CPU level, symbols, the C library's early start. A library that is
missing ends the process; the walk goes on beyond it all the same, to name everything else that is missing
(LoadResult.missing), but prints nothing more.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from analyzers.facts import ElfFacts, Kind, LoaderFacts
from analyzers.finding import Attempt, Outcome, Reason, Step, show
from analyzers.loader.binding import EMPTY, Bound, Scope, Table
from analyzers.loader.glibc_deps import Namespace, absolute
from analyzers.loader.glibc_open import Files
from analyzers.loader.glibc_search import Search
from analyzers.loader.glibc_settings import Environment, drop_comments, parse_command, read_environment
from analyzers.loader.linkmap import Crashed, Mapped, Signalled, Undecided
from analyzers.loader.machines import EM_386, EM_486, EM_MIPS, EM_MIPS_RS3, EM_X86_64, machine_of, x86_isa
from analyzers.loader.order import relocation_order
from analyzers.loader.process import LoadedObject, LoadResult, Process
from analyzers.loader.search import Origin, split_list
from analyzers.loader.versions import Checked, VersionSets, check_versions, defined_versions, version_sets
from analyzers.trail import layer_of, show_path

OLDEST = (2, 31)
"""What a loader that does not tell its release is taken for: those before 2.33 do not."""
_LIBC = b"libc.so.6"
_LOADER_DATA = (b"_rtld_global_ro", b"GLIBC_PRIVATE")
_EARLY_INIT = (b"__libc_early_init", b"GLIBC_PRIVATE")
_LAST_WORDS = {("2.41", "2.36"): b"*** stack smashing detected ***: terminated"}
"""What a libc of another release than the loader's says before it aborts, for pairs of (loader, libc) where that was seen."""
_SHOWN_VERSIONS = 8
_SHOWN_SCOPE = 64
_PATH_MAX = 4096
_Kind = TypeVar("_Kind", bound="Loading")


def load_glibc(process: Process) -> LoadResult:
    """How loading ends under the glibc loader `process.interp`. Never raises; what cannot be decided says why."""
    loader = process.rootfs.elf(process.interp)
    program = process.rootfs.elf(process.program)
    if loader is None or loader.loader is None or program is None:
        return LoadResult(family="glibc", unknown="the loader or the program was not read")
    version = loader.loader.version or _libc_release(process, loader.loader)
    settings = read_environment(process)
    try:
        if process.command is not None:
            return _load_command(process, loader, loader.loader, version, settings)
    except Undecided as undecided:
        return LoadResult(family="glibc", version=version, unknown=str(undecided))
    return Loading(process, program, loader, loader.loader, version, settings).start()


def start_loading(process: Process, kind: type[_Kind]) -> _Kind | LoadResult:
    """A run that is yet to start, for who goes on with the process; the program is mapped by the kernel."""
    loader = process.rootfs.elf(process.interp)
    program = process.rootfs.elf(process.program)
    if loader is None or loader.loader is None or program is None or process.command is not None:
        return LoadResult(family="glibc", unknown="the loader or the program was not read")
    version = loader.loader.version or _libc_release(process, loader.loader)
    return kind(process, program, loader, loader.loader, version, read_environment(process))


def _load_command(process: Process, loader: ElfFacts, said: LoaderFacts, version: str, settings: Environment) -> LoadResult:
    """`ld.so PROGRAM`: finds and maps the program as a library is found and mapped, then goes on as ever (G62)."""
    release = parse_release(version)
    command = parse_command(process.command or (), settings.options, release)
    if command.ends:
        reason = Reason.OTHER if command.exit_code else None
        ended = LoadResult(family="glibc", version=version, lines=command.lines, reason=reason)
        return msgspec.structs.replace(ended, ok=not command.exit_code, exit_code=command.exit_code or None)
    if command.instead:
        raise Undecided(f"{show(command.instead)} asks the loader for something else than to run a program")
    machine = machine_of(loader)
    files = Files(process, loader, machine, release)
    search = Search(process, files, loader, said, machine, release, command.options)
    try:
        opened = search.find_program(command.program)
        files.check_mapping(command.program, opened, program=True)
    except (Signalled, Crashed) as failure:
        crash = failure.signal if isinstance(failure, Crashed) else ""
        lines = () if isinstance(failure, Crashed) else (failure.line(command.program),)
        reason = Reason.OTHER if isinstance(failure, Crashed) else failure.reason
        code = None if crash else 127
        return LoadResult(
            family="glibc",
            version=version,
            ok=False,
            crash=crash,
            lines=lines,
            reason=reason,
            exit_code=code,
            wanted=command.program,
        )
    facts = opened.facts
    if facts.soname is not None and facts.soname == loader.soname:
        line = (facts.soname + b": " if release >= (2, 35) else b"") + b"loader cannot load itself"
        return LoadResult(family="glibc", version=version, ok=False, lines=(line,), reason=Reason.OTHER, exit_code=127)
    if release >= (2, 35) and not facts.needed and facts.interp is None:
        return LoadResult(family="glibc", version=version, ok=True)  # rtld_chain_load hands it over to the kernel
    if not facts.dynamic:
        return LoadResult(family="glibc", version=version, ok=False, crash="SIGSEGV", reason=Reason.OTHER)
    named = process._replace(
        program=opened.node,
        argv0=command.argv0,
        opened_as=opened.path,
        interp_name=facts.interp or process.argv0,
        command=(opened.path,),
    )
    settings = settings._replace(
        options=command.options, preload_argument=command.preload, audit=(*settings.audit, *command.audit)
    )
    return Loading(named, facts, loader, said, version, settings).start()


def _libc_release(process: Process, said: LoaderFacts) -> str:
    """The release of the C library beside a loader that does not tell its own (G2)."""
    for directory in said.system_dirs:
        node = process.rootfs.resolve(directory + _LIBC).node
        facts = None if node is None else process.rootfs.elf(node)
        if facts is not None and facts.libc_version:
            return facts.libc_version
    return ""


def parse_release(version: str) -> tuple[int, int]:
    parts = version.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else OLDEST


class Loading:
    """One run of the loader, and what is to be told of it."""

    def __init__(
        self, process: Process, program: ElfFacts, loader: ElfFacts, said: LoaderFacts, version: str, settings: Environment
    ) -> None:
        self._process = process
        self._loader = loader
        self._said = said
        self._version = version
        self._release = parse_release(version)
        self._argv0 = process.argv0
        self._settings = settings
        machine = machine_of(loader)
        self._files = Files(process, loader, machine, self._release)
        self._search = Search(process, self._files, loader, said, machine, self._release, self._settings.options)
        by_path = process.command is not None or program.interp is None
        origin = self._path_origin() if by_path else self._program_origin()
        main = Mapped(b"", b"", process.program, program, None, origin)
        own = Mapped(process.interp_name, process.interp_name, process.interp, loader, None, None)
        if loader.soname is not None:
            own.names.add(loader.soname)
            own.soname_added = True
        self._space = Namespace(process, self._files, self._search, main, own)
        self._lines: list[bytes] = []
        self._warnings: list[bytes] = []
        self._steps: list[Step] = []
        self._checked = Checked((), (), ())
        self._bound = Bound()

    def _program_origin(self) -> bytes | None:
        """_dl_get_origin: where /proc/self/exe leads, which needs /proc (G21)."""
        rootfs = self._process.rootfs
        proc = rootfs.resolve(b"/proc").node
        if proc is not None and rootfs.layer_of(proc) is None:
            return b"/" + self._process.program.path.rpartition(b"/")[0]
        given = self._settings.options.origin_path
        return None if given is None else given.rstrip(b"/") or b"/"

    def _path_origin(self) -> bytes:
        """Of what ld.so maps itself: the directory of the path it was given; since 2.42 that of the file."""
        path = self._process.opened_as if self._release < (2, 42) else b"/" + self._process.program.path
        return absolute(self._process, path).rpartition(b"/")[0] or b"/"

    def start(self) -> LoadResult:
        """`run`, whatever comes in its way."""
        try:
            return self.run()
        except Undecided as undecided:
            return self.result(unknown=str(undecided))
        except Crashed as crashed:
            return self.result(crash=crashed.signal, wanted=crashed.path)

    # -- rtld.c dl_main --

    def run(self) -> LoadResult:
        refusal = self._refuse_cpu()
        if refusal:
            self._lines.append(refusal)
            return self.result(exit_code=127, reason=Reason.ARCHITECTURE)
        if self._settings.trace:
            raise Undecided("LD_TRACE_LOADED_OBJECTS is set: the loader lists the libraries and ends")
        self._search.init_paths(self._space.program)
        self._load_audit()
        self._space.map_dependencies(self._preloads())
        failure = self._space.failure
        if isinstance(failure, Crashed):
            return self.result(crash=failure.signal, wanted=failure.path)
        if failure is not None:
            self._check_versions()
            self._lines.append(failure.line(self._argv0))
            wanted = failure.wanted or failure.objname
            return self.result(exit_code=127, reason=failure.reason, wanted=wanted, wanted_by=failure.by)
        self._place_loader()
        checked = self._check_versions()
        self._lines += checked.lines
        self._warnings += checked.warnings
        self._tell_versions(checked)
        if checked.fatal_by is not None:
            by = self._space.path_of(checked.fatal_by)
            return self.result(exit_code=127, reason=Reason.OTHER, wanted=by, wanted_by=by)
        if checked.unmet:
            first = checked.unmet[0]
            by = self._space.path_of(first.wanted_by)
            return self.result(exit_code=1, reason=Reason.VERSION, wanted=first.version, wanted_by=by)
        order = self._order()
        refusal = self._refuse_isa(order)
        if refusal:
            self._lines.append(refusal)
            return self.result(exit_code=127, reason=Reason.ARCHITECTURE)
        return self._relocate(order)

    def _refuse_cpu(self) -> bytes:
        """A loader built for a CPU level above the host's (G51)."""
        lacking = self._loader.x86_isa_needed & ~x86_isa(self._process.profile.x86_level)
        level = next((level for level in (2, 3, 4) if lacking >> (level - 1) & 1), 0)
        if self._loader.machine != EM_X86_64 or self._release < (2, 33) or not level:
            return b""
        return b"Fatal glibc error: CPU does not support x86-64-v%d" % level

    # -- preloads and auditors (rtld.c do_preload, handle_preload_list, load_audit_module) --

    def _preloads(self) -> list[Mapped]:
        loaded: list[Mapped] = []
        wanted = [(name, b"LD_PRELOAD") for name in split_list(self._settings.preload, b" :")]
        wanted += [(name, b"--preload") for name in split_list(self._settings.preload_argument, b" :")]
        wanted += [(name, self._said.preload_path) for name in self._preload_file()]
        for name, where in wanted:
            listed = where in (b"LD_PRELOAD", b"--preload")
            if not name or listed and (len(name) >= _PATH_MAX or self._process.secure and (b"/" in name or len(name) >= 255)):
                continue
            mapped, line = self._space.preload(name, where)
            if line:
                self._lines.append(line)
                self._warnings.append(line)
            if mapped is not None:
                loaded.append(mapped)
        return loaded

    def _preload_file(self) -> list[bytes]:
        """/etc/ld.so.preload, with the way in which 2.36 takes out comments (G39)."""
        path = self._said.preload_path
        found = self._process.rootfs.resolve(path, creds=self._process.creds) if path else None
        if found is None or found.node is None or found.node.entry.kind != Kind.FILE:
            if found is not None and found.unknown:
                raise Undecided(f"a layer that was not wholly read may hold {show_path(path)}")
            return []
        if not self._process.rootfs.may_read(found.node, self._process.creds):
            return []
        data = self._process.rootfs.text(found.node)
        if data is None and found.node.entry.size:
            raise Undecided(f"{show_path(found.node.path)} was not read")
        return split_list(drop_comments(data or b""), b": \t\n")

    def _load_audit(self) -> None:
        """Only that an auditor cannot be loaded is foretold; what one does is not (G40)."""
        facts = self._space.program.facts
        tags = (*facts.audits, *facts.dep_audits) if self._release >= (2, 32) else ()
        named = [name for text in tags for name in text.split(b":") if name]
        for name in (*self._settings.audit, *named):
            if self._process.secure and b"/" in name:
                continue
            line = self._audit_line(name)
            if line:
                self._lines.append(line)
                self._warnings.append(line)

    def _audit_line(self, name: bytes) -> bytes:
        start = b"ERROR: ld.so: object '" + name + b"' cannot be loaded as audit interface: "
        try:
            opened = self._search.find_auditor(name, self._space.program)
        except Signalled as signalled:
            return start + signalled.text + b"; ignored."
        raise Undecided(f"{show(opened.path)} is loaded as an auditor, which may change everything")

    # -- dl-version.c, dl-prop.h, dl-reloc.c --

    def _place_loader(self) -> None:
        """ld.so leaves the chain, and comes back where the search list has it."""
        chain, own, listed = self._space.chain, self._space.loader, self._space.listed
        chain.remove(own)
        if own in listed:
            before = listed[listed.index(own) - 1]
            chain.insert(chain.index(before) + 1, own)
        elif self._release >= (2, 41):
            chain.append(own)

    def _check_versions(self) -> Checked:
        checked = check_versions(self._space.chain, self._space.listed, self._argv0, self._release, self._version_sets)
        self._checked = checked
        return checked

    def _version_sets(self, mapped: Mapped) -> VersionSets:
        if mapped.node is None:
            return version_sets(mapped.facts)
        key = ("version sets", mapped.node.entry.sha256)
        return self._process.rootfs.remember(key, lambda: version_sets(mapped.facts))

    def _order(self) -> list[Mapped]:
        original = self._release < (2, 36) or self._settings.original_sort
        space = self._space
        return relocation_order(space.listed, space.program, space.libc, self._release, original=original)

    def _refuse_isa(self, order: list[Mapped]) -> bytes:
        """dl_isa_level_check, from the end of the sorted list (G50)."""
        if self._loader.machine not in (EM_386, EM_486, EM_X86_64) or self._release < (2, 33):
            return b""
        host = x86_isa(self._process.profile.x86_level)
        for mapped in order:
            if mapped is not self._space.loader and mapped.facts.x86_isa_needed & ~host:
                return mapped.shown(self._argv0) + b": CPU ISA level is lower than required"
        return b""

    def _table(self, mapped: Mapped) -> Table:
        """Symbols are unpacked once for each content, however many processes are foretold."""
        node, rootfs = mapped.node, self._process.rootfs
        if node is None or not mapped.facts.dynamic:
            return EMPTY
        symbols = rootfs.symbols(node)
        if symbols is None:
            if node.layer < len(rootfs.layers) and rootfs.layers[node.layer].symbols is None:
                raise Undecided("symbols were not read")
            return EMPTY
        versioned = mapped.versioned
        key = ("glibc symbols", node.entry.sha256, versioned)
        got_first = self._loader.machine in (EM_MIPS, EM_MIPS_RS3)
        return rootfs.remember(key, lambda: Table(symbols, versioned=versioned, got_first=got_first))

    def _relocate(self, order: list[Mapped]) -> LoadResult:
        space = self._space
        tables = [self._table(mapped) for mapped in space.listed]
        scope = Scope(space.listed, tables, self._release, self._argv0)
        now = self._process.bind_now or self._settings.bind_now
        bound = scope.relocate(order, now=now, own=space.loader, trace=self._process.bind_now)
        if space.assumed:
            bound = bound._replace(unbound=(), later=())  # what is in the host's libraries nobody here can know
        self._bound = bound
        self._lines += bound.warnings
        self._warnings += bound.warnings
        if bound.unbound:
            first = bound.unbound[0]
            by = first.mapped.shown(self._argv0)
            self._lines.append(self._argv0 + b": symbol lookup error: " + by + b": undefined symbol: " + first.reference.words())
            self._tell_symbol(first.mapped, first.reference.words())
            name, version = first.reference
            wanted = name + (b"@" + version if version else b"")
            return self.result(exit_code=127, reason=Reason.SYMBOL, wanted=wanted, wanted_by=space.path_of(first.mapped))
        if bound.fatal and bound.by is not None:
            self._lines.append(bound.fatal)
            return self.result(exit_code=127, reason=Reason.SYMBOL, wanted_by=space.path_of(bound.by))
        if bound.crash and bound.by is not None:
            return self.result(crash=bound.crash, wanted=bound.by.name, wanted_by=bound.by.name)
        return self._start_libc()

    def _start_libc(self) -> LoadResult:
        """_dl_call_libc_early_init: the loader and the C library must be of one build (G55)."""
        libc = self._space.libc
        copy = self._second_loader()
        if libc is not None and copy is not None:
            return self.result(crash="SIGFPE", wanted=copy.name)
        table = EMPTY if libc is None else self._table(libc)
        wanting = b""
        if libc is not None and table is not EMPTY:
            own = self._release >= (2, 41) or self._release >= (2, 34) and self._space.loader in self._space.listed
            if own and b"pthread_mutex_lock" not in table.offered():
                wanting = b"../sysdeps/nptl/dl-mutex.c: 44: __rtld_mutex_init"
            elif self._release >= (2, 32) and _EARLY_INIT not in table.offers:
                wanting = b"dl-call-libc-early-init.c: 37: _dl_call_libc_early_init"
        if libc is not None and wanting:
            self._lines.append(b"Inconsistency detected by ld.so: " + wanting + b": Assertion `sym != NULL' failed!")
            return self.result(exit_code=127, reason=Reason.OTHER, wanted=libc.name)
        # Which may be the program itself: it can be run.
        running = libc or self._space.program
        if running.facts.libc_version and self._said.version not in ("", running.facts.libc_version):
            last_words = _LAST_WORDS.get((self._said.version, running.facts.libc_version)) if libc else None
            if last_words is not None:
                self._lines.append(last_words)
            return self.result(crash="SIGABRT", wanted=self._space.path_of(running))
        return msgspec.structs.replace(self.result(ok=True), wished=tuple(self._space.wished()))

    def _second_loader(self) -> Mapped | None:
        """Another copy of ld.so that libc binds to before the real one: it was never set up, so the page size by which
        __libc_early_init divides is 0 (since threads are part of libc, 2.34).
        """
        if self._release < (2, 34):
            return None
        listed, own = self._space.listed, self._space.loader
        first = next((mapped for mapped in listed if self._has_loader_data(mapped)), own)
        return None if first is own else first

    def _has_loader_data(self, mapped: Mapped) -> bool:
        if mapped.node is None:
            return False
        table = self._table(mapped)
        key = ("loader data", mapped.node.entry.sha256)
        return self._process.rootfs.remember(key, lambda: table.mentions(_LOADER_DATA[0]) and _LOADER_DATA in table.offers)

    # -- what is told --

    def result(
        self,
        *,
        ok: bool | None = None,
        unknown: str = "",
        crash: str = "",
        exit_code: int | None = None,
        reason: Reason | None = None,
        wanted: bytes = b"",
        wanted_by: bytes = b"",
    ) -> LoadResult:
        """The outcome, with everything learned on the way to it."""
        space = self._space
        places = {id(mapped): index for index, mapped in enumerate(space.listed)}
        path = space.path_of
        return LoadResult(
            family="glibc",
            version=self._version,
            ok=None if unknown else bool(ok),
            unknown=unknown,
            crash=crash,
            exit_code=exit_code,
            lines=tuple(self._lines),
            reason=reason if not crash else Reason.OTHER,
            wanted=wanted,
            wanted_by=wanted_by,
            objects=tuple(self._object(mapped, places) for mapped in space.listed),
            steps=(*space.steps, *self._steps),
            beyond=tuple(space.beyond),
            warnings=tuple(self._warnings),
            missing=tuple((show(name), show(path(mapped))) for name, mapped in space.missing),
            assumed=tuple((show(name), show(path(mapped))) for name, mapped in space.assumed),
            unmet_versions=tuple(
                (show(path(each.provider)), show(each.version), show(path(each.wanted_by))) for each in self._checked.unmet
            ),
            unbound=tuple(_unbound(path(each.mapped), each.reference) for each in self._bound.unbound),
            later=tuple(_unbound(path(each.mapped), each.reference) for each in self._bound.later),
        )

    def _object(self, mapped: Mapped, places: dict[int, int]) -> LoadedObject:
        found = self._space.found.get(id(mapped))
        loader = mapped.loader
        return LoadedObject(
            name=show(mapped.requested),
            path=self._space.path_of(mapped) if not mapped.faked else b"",
            node=mapped.node,
            needed_by=None if loader is None else places.get(id(loader)),
            origin=found.origin if found is not None else Origin.LOADED if mapped is self._space.loader else "",
            whose=found.whose if found is not None else "",
            attempts=() if found is None else (found,),
        )

    def _tell_versions(self, checked: Checked) -> None:
        for unmet in checked.unmet[:_SHOWN_SCOPE]:
            provider = unmet.provider
            family = unmet.version.rpartition(b"_")[0] + b"_"
            defined = [version for version in defined_versions(provider) if version.startswith(family)]
            shown = [show(version) for version in (defined or list(defined_versions(provider)))[-_SHOWN_VERSIONS:]]
            detail = f"it defines {', '.join(shown)}" if shown else "it defines no versions"
            layer = layer_of(self._process.rootfs, provider.node)
            tried = Attempt(Origin.LOADED, show(self._space.path_of(provider)), Outcome.UNUSABLE, detail=detail, layer=layer)
            by = show(self._space.path_of(unmet.wanted_by))
            self._steps.append(Step("version", show(unmet.version), by, ok=False, attempts=(tried,), layer=layer))

    def _tell_symbol(self, mapped: Mapped, symbol: bytes) -> None:
        """Every object that was asked for it, in the order of the search list."""
        rootfs = self._process.rootfs
        asked = [each for each in self._space.listed if not each.faked]
        attempts = tuple(
            Attempt(Origin.LOADED, show(self._space.path_of(each)), Outcome.ABSENT, layer=layer_of(rootfs, each.node))
            for each in asked[:_SHOWN_SCOPE]
        )
        by = show(self._space.path_of(mapped))
        self._steps.append(Step("symbol", show(symbol), by, ok=False, attempts=attempts))


def _unbound(path: bytes, reference: tuple[bytes, bytes]) -> tuple[str, str, str]:
    return show(path), show(reference[0]), show(reference[1])
