"""How musl binds symbols: every relocation of every object before the entry point, and the lines for what it does not find.

Mirrors find_sym2, get_lfs64, do_relocs and reloc_all in `ldso/dynlink.c`, and `arch/*/reloc.h` (M20-M27). The scope is the load
order; the first definition that is acceptable wins. Versions count only by their hidden bit, visibility not at all. Libraries
are relocated before the program, and inside an object DT_JMPREL comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzers.facts import ElfFacts, SymbolFacts, SymbolFlag
from analyzers.finding import Attempt, Outcome, show
from analyzers.loader.musl_search import Object
from analyzers.loader.symbols import relocation_runs
from analyzers.rootfs import Node, Rootfs

MAX_LINES = 4096
"""Lines that are kept, and steps; a C++ program without its library gets a line for every virtual table."""
_INVISIBLE = int(SymbolFlag.HIDDEN_VERSION | SymbolFlag.IFUNC | SymbolFlag.VALUELESS)
_WEAK, _TLS = int(SymbolFlag.WEAK), int(SymbolFlag.TLS)
_START, _CALL, _COPY = int(SymbolFlag.START), int(SymbolFlag.CALL), int(SymbolFlag.COPY)
_UNKNOWN_VERSION = (1, 2, 5)
_DT_TEXTREL = 22


class Kinds(NamedTuple):
    """Relocation types of one architecture that musl knows. -1: it has none of that kind."""

    plt: int
    copy: int
    plain: frozenset[int]
    """The word, GOT entries, relative ones and offsets: nothing of the definition's object is looked at."""
    tls: frozenset[int]
    """DTPMOD, TPOFF and TLSDESC: the object that defines the symbol is looked at, whether there is one or not."""


def _kinds(plt: int, copy: int, plain: Sequence[int], tls: Sequence[int]) -> Kinds:
    return Kinds(plt, copy, frozenset({0, plt, copy, *plain}), frozenset(tls))


_MIPS64_REL32 = 0x1203
_KINDS = {
    (62, 64): _kinds(7, 5, (1, 2, 6, 8, 17), (16, 18, 36)),
    (62, 32): _kinds(7, 5, (10, 2, 6, 8, 17), (16, 18)),
    (3, 32): _kinds(7, 5, (1, 2, 6, 8, 36), (35, 14, 37, 41)),
    (183, 64): _kinds(1026, 1024, (257, 1025, 1027, 1029), (1028, 1030, 1031)),
    (40, 32): _kinds(22, 20, (2, 21, 23, 18), (17, 19, 13)),
    (21, 64): _kinds(21, 19, (38, 43, 20, 22, 78), (68, 73)),
    (20, 32): _kinds(21, 19, (1, 24, 20, 22, 78), (68, 73)),
    (22, 64): _kinds(11, 9, (22, 10, 12, 55), (54, 56)),
    (243, 64): _kinds(5, 4, (2, 3, 9), (7, 11, 12)),
    (243, 32): _kinds(5, 4, (1, 3, 8), (6, 10)),
    (258, 64): _kinds(5, 4, (2, 3, 9), (7, 11, 14)),
    (8, 32): _kinds(127, 126, (3, 39), (38, 47)),
    (8, 64): _kinds(127, 126, (_MIPS64_REL32, 41), (40, 48)),
    (4, 32): _kinds(21, 19, (1, 4, 20, 22, 41), (40, 42)),
    (92, 32): _kinds(20, 18, (1, 19, 21, 33), (32, 34)),
}  # fmt: skip
"""By e_machine and class, as arch/*/reloc.h of 1.2.6 has them."""
_TPOFF = {(62, 64): 18, (3, 32): 14, (183, 64): 1030, (40, 32): 19}
_GOT = {(62, 64): 6, (3, 32): 6, (183, 64): 1025, (40, 32): 21}
_TLSDESC_SINCE = {(243, 64): (12, (1, 2, 5)), (258, 64): (14, (1, 2, 6))}
"""TLSDESC types that an architecture got late."""
_LFS64 = frozenset(
    b"aio_cancel aio_error aio_fsync aio_read aio_return aio_suspend aio_write alphasort creat fallocate fgetpos fopen freopen "
    b"fseeko fsetpos fstat fstatat fstatfs fstatvfs ftello ftruncate ftw getdents getrlimit glob globfree lio_listio lockf "
    b"lseek lstat mkostemp mkostemps mkstemp mkstemps mmap nftw open openat posix_fadvise posix_fallocate pread preadv prlimit "
    b"pwrite pwritev readdir scandir sendfile setrlimit stat statfs statvfs tmpfile truncate versionsort __fxstat __fxstatat "
    b"__lxstat __xstat".split()
)
"""Names whose `64` form is the same function (M25)."""


class Problem(NamedTuple):
    """The first thing found wanting: `symbol` and `version` are empty where it is a relocation type."""

    owner: Object
    symbol: bytes = b""
    version: bytes = b""


class Bound(NamedTuple):
    """What relocating everything leaves."""

    lines: tuple[bytes, ...] = ()
    problem: Problem | None = None
    unbound: tuple[tuple[Object, bytes, bytes], ...] = ()
    """(object, symbol, version), each once, in the order of discovery."""
    crash: str = ""
    crash_in: Object | None = None
    detail: str = ""
    unknown: str = ""


class _Table(NamedTuple):
    """The symbols of one object as lookups see them."""

    owner: Object
    facts: SymbolFacts
    names: frozenset[bytes]
    plt_names: frozenset[bytes]
    """Found only by references that are not PLT's."""


def bind(rootfs: Rootfs, objects: Sequence[Object], itself: Object, version: tuple[int, ...]) -> Bound:
    """`objects` in load order, the program first; `itself` is the loader, which may be among them."""
    tables = []
    for each in objects if itself in objects else [*objects, itself]:
        facts = _symbols(rootfs, each.node, each.facts)
        if facts is None:
            return Bound(unknown=f"the symbols of {each.shown} were not read")
        tables.append(_Table(each, facts, visible_names(facts), frozenset(filter(None, facts.plt_names.split(b"\0")))))
    at = next(at for at, table in enumerate(tables) if table.owner is itself)
    scope = tables[: len(objects)]
    binder = _Binder(scope, tables[at:], itself.facts, version)
    for table in [*scope[1:], scope[0]]:
        if table.owner is not itself:
            binder.relocate(table)
        if binder.crash:
            break
    return binder.bound()


def bind_opened(
    rootfs: Rootfs, objects: Sequence[Object], there: int, itself: Object, version: tuple[int, ...], *, now: bool
) -> Bound:
    """What a dlopen brings, from index `there` of `objects` on; the first line ends it. Not `now`: functions wait."""
    tables = []
    for each in objects if itself in objects else [*objects, itself]:
        facts = _symbols(rootfs, each.node, each.facts)
        if facts is None:
            return Bound(unknown=f"the symbols of {each.shown} were not read")
        tables.append(_Table(each, facts, visible_names(facts), frozenset(filter(None, facts.plt_names.split(b"\0")))))
    at = next(at for at, table in enumerate(tables) if table.owner is itself)
    scope = tables[: len(objects)]
    binder = _Binder(scope, tables[at:], itself.facts, version)
    for table in scope[there:]:
        if table.owner is itself:
            continue
        binder.opened = scope[there:]
        binder.lazy = not now and not _binds_now(table.owner.facts)
        binder.relocate(table)
        if binder.crash or binder.lines:
            break
    return binder.bound()


def _binds_now(facts: ElfFacts) -> bool:
    return facts.bind_now or bool(facts.dt_flags & 8) or bool(facts.dt_flags_1 & 1)


def _symbols(rootfs: Rootfs, node: Node, facts: ElfFacts) -> SymbolFacts | None:
    """None where they were not read; an object without a symbol table has none."""
    found = rootfs.symbols(node)
    if found is None and (rootfs.layers[node.layer].symbols is None or rootfs.unread(node)):
        return None
    return found or SymbolFacts()


def visible_names(facts: SymbolFacts) -> frozenset[bytes]:
    """What a lookup finds in the object (M23, M24)."""
    names = facts.export_names.split(b"\0") if facts.export_flags else []
    if not any(flags & _INVISIBLE for flags in set(facts.export_flags)):
        visible = frozenset(names)
    else:
        visible = frozenset(name for name, flags in zip(names, facts.export_flags, strict=True) if not flags & _INVISIBLE)
    return visible.union(facts.hidden_names.split(b"\0")) if facts.hidden_names else visible


def is_another_libc(rootfs: Rootfs, node: Node, facts: ElfFacts) -> bool:
    """Whether lookups find both __libc_start_main and stdin in it (M13)."""
    symbols = rootfs.symbols(node)
    if symbols is None or not facts.exports_libc_start:
        return facts.exports_libc_start
    return {b"__libc_start_main", b"stdin"} <= visible_names(symbols)


class _Binder:
    """Goes through the relocations and keeps what is printed."""

    def __init__(self, tables: Sequence[_Table], libc_on: Sequence[_Table], host: ElfFacts, version: tuple[int, ...]) -> None:
        self.tables = tables
        self.libc_on = libc_on
        """get_lfs64 looks from the loader on, whether it is in the scope or not."""
        self.version = version or _UNKNOWN_VERSION
        self.defined: frozenset[bytes] = frozenset().union(*(table.names for table in tables))
        self.with_plt: frozenset[bytes] = self.defined.union(*(table.plt_names for table in tables))
        program = tables[0].owner.facts
        self.no_hash = not (program.has_gnu_hash or program.has_sysv_hash)
        """Every lookup begins with the program, and dies there."""
        kinds = _KINDS.get((host.machine, host.bits), Kinds(-1, -1, frozenset(), frozenset()))
        late = _TLSDESC_SINCE.get((host.machine, host.bits))
        if late is not None and self.version < late[1]:
            kinds = kinds._replace(tls=kinds.tls - {late[0]})
        self.kinds = kinds
        self.known_architecture = bool(kinds.plain)
        machine = host.machine, host.bits
        self.waiting = frozenset((kinds.plt, _GOT.get(machine, kinds.plt)))
        """Relocation types that are left for later where binding is lazy."""
        self.tpoff = _TPOFF.get(machine, -1)
        self.lazy = False
        self.opened: Sequence[_Table] = ()
        """What was not there at the start: no static TLS is left for it."""
        self.lines: list[bytes] = []
        self.problem: Problem | None = None
        self.unbound: dict[tuple[int, bytes], tuple[Object, bytes, bytes]] = {}
        self.crash = ""
        self.crash_in: Object | None = None
        self.detail = ""

    def bound(self) -> Bound:
        if not self.known_architecture:
            return Bound(unknown="the relocation types of this architecture are not known")
        if self.no_hash and not self.problem and not self.crash:
            # With everything relocated musl looks up malloc to see whose it is.
            self._die(self.tables[0].owner, "SIGSEGV", "it has no hash table of symbols")
        return Bound(tuple(self.lines), self.problem, tuple(self.unbound.values()), self.crash, self.crash_in, self.detail)

    def relocate(self, table: _Table) -> None:
        owner, facts = table.owner, table.facts
        imports = facts.import_names.split(b"\0") if facts.import_flags else []
        names = [*imports, *facts.own_names.split(b"\0")] if facts.own_names else imports
        closed = owner.facts.text_relocations and (
            owner.mapped_by_kernel or all(tag != _DT_TEXTREL for tag, _ in owner.facts.tags)
        )
        for at, (symbol, kind, times) in enumerate(_runs(facts, owner.facts, self.kinds)):
            if closed and at >= facts.relocation_plt_runs:
                return self._die(owner, "SIGSEGV", "it relocates its text, which musl leaves write-protected in a program")
            if not kind:
                continue
            if self.no_hash and symbol >= 0 and kind != self.kinds.copy:
                return self._die(self.tables[0].owner, "SIGSEGV", "it has no hash table of symbols")
            if symbol >= 0 and not self._found(names[symbol], kind):
                if symbol >= len(imports) or not facts.import_flags[symbol] & _WEAK:
                    if self.lazy and kind in self.waiting:
                        continue
                    self._missing(owner, facts, symbol, names[symbol], times)
                    continue
                if kind in self.kinds.tls:
                    detail = f"musl follows the weak thread-local {show(names[symbol])}, which nobody defines"
                    return self._die(owner, "SIGSEGV", detail)
            if kind == self.tpoff and self.opened:
                self._check_static_tls(table, names[symbol] if symbol >= 0 else b"")
            if kind not in self.kinds.plain and kind not in self.kinds.tls:
                self._print(b"Error relocating " + owner.name + b": unsupported relocation type " + str(kind).encode(), times)
                self.problem = self.problem or Problem(owner)
        return None

    def _check_static_tls(self, table: _Table, name: bytes) -> None:
        """do_relocs, TPOFF: initial-exec access to a variable of an object that was not there at the start."""
        definer = table if not name else next((each for each in self.tables if name in each.names), table)
        if definer.owner.facts.tls is None or all(each is not definer for each in self.opened):
            return
        words = b": initial-exec TLS resolves to dynamic definition in " + definer.owner.name
        self._print(b"Error relocating " + table.owner.name + b": " + (name or _own_variable(table.facts)) + words, 1)
        self.problem = self.problem or Problem(table.owner)

    def _found(self, name: bytes, kind: int) -> bool:
        if kind == self.kinds.copy:
            found = any(name in table.names or name in table.plt_names for table in self.tables[1:])
        else:
            found = name in (self.defined if kind == self.kinds.plt else self.with_plt)
        if found or self.version < (1, 2, 4):
            return found
        plain = large_file_name(name, self.version)
        return bool(plain) and any(plain in table.names for table in self.libc_on)

    def _missing(self, owner: Object, facts: SymbolFacts, symbol: int, name: bytes, count: int) -> None:
        self._print(b"Error relocating " + owner.name + b": " + name + b": symbol not found", count)
        key = id(owner), name
        if key in self.unbound:
            return
        version = b""
        if symbol < len(facts.import_flags):
            version = facts.versions[int.from_bytes(facts.import_versions[2 * symbol : 2 * symbol + 2], "little")]
        self.unbound[key] = owner, name, version
        self.problem = self.problem or Problem(owner, name, version)

    def _print(self, line: bytes, count: int) -> None:
        self.lines += [line] * min(count, MAX_LINES - len(self.lines))

    def _die(self, owner: Object, signal: str, detail: str) -> None:
        self.crash, self.crash_in, self.detail = signal, owner, detail


def _own_variable(facts: SymbolFacts) -> bytes:
    """A thread-local variable of the object's own: relocations against those are kept without the name."""
    exported = [name for name, flags in zip(facts.export_names.split(b"\0"), facts.export_flags, strict=False) if flags & _TLS]
    return exported[0] if exported else b"(null)"


def _runs(facts: SymbolFacts, elf: ElfFacts, kinds: Kinds) -> Iterator[tuple[int, int, int]]:
    """(symbol, type, count) in order; where the order was not kept, each wanted symbol once, those of the PLT first."""
    if facts.relocation_counts:
        yield from relocation_runs(facts)
        return
    word = min(kinds.plain - {0, kinds.plt, kinds.copy}, default=0)
    for bit in (_CALL, _START):
        for at, flags in enumerate(facts.import_flags):
            if flags & bit:
                yield at, kinds.plt if bit == _CALL else kinds.copy if flags & _COPY else word, 1
    for kind in (*elf.plt_relocation_types, *elf.relocation_types):
        yield -1, kind, 1


def large_file_name(name: bytes, version: tuple[int, ...]) -> bytes:
    """The name without its `64`, where it is one of those that get_lfs64 knows (M25); else empty."""
    if version < (1, 2, 6) and len(name) > 16:
        return b""
    if name == b"readdir64_r":
        return b"readdir_r"
    return name[:-2] if name.endswith(b"64") and name[:-2] in _LFS64 else b""


def near_misses(rootfs: Rootfs, objects: Sequence[Object], name: bytes) -> Iterator[Attempt]:
    """Definitions of `name` that musl passes over."""
    for each in objects:
        symbols = rootfs.symbols(each.node)
        if symbols is None or name not in symbols.export_names:
            continue
        for other, flags in zip(symbols.export_names.split(b"\0"), symbols.export_flags, strict=True):
            if other == name and flags & _INVISIBLE:
                ifunc = flags & SymbolFlag.IFUNC
                detail = "defined as an IFUNC, which musl does not see" if ifunc else "defined only for older programs (sym@V)"
                yield Attempt("symbol table", each.shown, Outcome.UNUSABLE, detail=detail, layer=rootfs.layer_of(each.node))


def parse_version(text: str) -> tuple[int, ...]:
    """`1.2.5-git-3` is 1.2.5; nothing for nothing."""
    numbers = []
    for part in text.partition("-")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
