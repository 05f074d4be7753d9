"""Which references an object has that nothing in the process satisfies, when it is relocated and later.

Mirrors `elf/dl-lookup.c` (check_match, do_lookup_x) and `elf/dl-reloc.c` (rules G46-G49, G52-G54). Most references have an
exact answer somewhere, so sets settle them; what is left is looked up candidate by candidate, as the loader would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

from analyzers.facts import SymbolFacts, SymbolFlag
from analyzers.loader.linkmap import Mapped, Signalled
from analyzers.loader.machines import unknown_relocation
from analyzers.loader.symbols import (
    Offered,
    Reference,
    offered_columns,
    offered_symbols,
    relocated_places,
    wanted_symbols,
)

_WEAK, _START, _CALL, _COPY = (int(flag) for flag in (SymbolFlag.WEAK, SymbolFlag.START, SymbolFlag.CALL, SymbolFlag.COPY))
_HIDDEN, _IFUNC, _LOW = (int(flag) for flag in (SymbolFlag.HIDDEN_VERSION, SymbolFlag.IFUNC, SymbolFlag.LOW_INDEX))
_IS_IFUNC = bytes(int(bool(flags & _IFUNC)) for flags in range(256))
_IS_DEFAULT = bytes(int(not flags & _HIDDEN or bool(flags & _LOW)) for flags in range(256))
"""By flags: what can answer a reference without a version where its name has no other definition."""
_DF_BIND_NOW, _DF_1_NOW = 8, 1
_ASSERT_LINES = ((2, 39, 106), (2, 36, 107), (2, 35, 106), (2, 33, 105), (2, 31, 111), (0, 0, 110))


class Table:
    """The symbols of one file, made ready once: what it wants, strong references only, and what it offers.

    What it offers is unpacked when somebody asks: most files are plug-ins and programs, to which nobody comes for symbols.
    """

    __slots__ = (
        "_bare_offers", "_facts", "_offered", "_offers", "_other_names", "_versioned",
        "at_once", "calls", "copies", "ifuncs", "plt_names", "settled", "size", "starts",
    )  # fmt: skip

    def __init__(self, facts: SymbolFacts, *, versioned: bool, got_first: bool = False) -> None:
        """`got_first`: the machine is MIPS."""
        self._facts = facts
        self._versioned = versioned
        self._offered: dict[bytes, list[Offered]] | None = None
        self._offers: set[tuple[bytes, bytes]] | None = None
        self._bare_offers: set[bytes] | None = None
        self._other_names: set[bytes] | None = None
        self.size = len(facts.export_flags)
        """How many definitions there are."""
        imports, flags = wanted_symbols(facts), facts.import_flags
        strong = [index for index in _look_ups(facts, got_first=got_first) if not flags[index] & _WEAK]
        self.copies = tuple(imports[index] for index in strong if flags[index] & _COPY)
        """Bound by COPY relocations, which pass over the object itself."""
        strong = [index for index in strong if not flags[index] & _COPY]
        self.starts = tuple(imports[index] for index in strong if flags[index] & _START)
        """Bound before the entry point, in the order of the relocations."""
        self.calls = tuple(imports[index] for index in strong if flags[index] & (_START | _CALL) == _CALL)
        """Bound at the first call, unless the object binds now."""
        self.at_once = tuple(imports[index] for index in strong if flags[index] & (_START | _CALL))
        """Both, as an object that binds now meets them."""
        ifuncs = facts.export_flags.translate(_IS_IFUNC)
        self.ifuncs = frozenset(compress(facts.export_names.split(b"\0"), ifuncs)) if 1 in ifuncs else frozenset[bytes]()
        self.plt_names = frozenset(facts.plt_names.split(b"\0")) if facts.plt_names else frozenset()
        """Undefined functions whose address is their PLT entry: they answer references that are no calls (G47)."""
        self.settled: dict[int, frozenset[Table]] = {}
        """By the id of one of the tuples above: tables that answered all of it together, in whatever process that was."""

    def offered(self) -> dict[bytes, list[Offered]]:
        if self._offered is None:
            self._offered = offered_symbols(self._facts)
        return self._offered

    @property
    def offers(self) -> set[tuple[bytes, bytes]]:
        """References with a version that have a certain answer here; there may be others (see `satisfies`)."""
        if self._offers is None:
            names, versions = offered_columns(self._facts)
            self._offers = set(compress(zip(names, versions, strict=True), versions))
        return self._offers

    @property
    def bare_offers(self) -> set[bytes]:
        """Names that answer references without a version."""
        if self._bare_offers is None:
            self._bare_offers = self._find_bare_offers()
        return self._bare_offers

    def mentions(self, name: bytes) -> bool:
        """Whether `name` may be defined; True where it is part of another. Costs a look through all the names."""
        return name in self._facts.export_names

    def defines(self, name: bytes) -> bool:
        """Whether there is a definition of that name, of whatever version."""
        if name in self.bare_offers:
            return True
        if self._other_names is None:
            names = self._facts.export_names.split(b"\0") if self.size else []
            self._other_names = set(names) - self.bare_offers if self._versioned else set()
        return name in self._other_names

    def _find_bare_offers(self) -> set[bytes]:
        """What check_match takes without a version (G48). Nearly all names have one definition; only the others are looked at
        one by one.
        """
        names = self._facts.export_names.split(b"\0") if self.size else []
        if not self._versioned:
            return set(names)
        taken = list(compress(names, self._facts.export_flags.translate(_IS_DEFAULT)))
        bare = set(taken)
        if len(bare) < len(taken):
            twice = (name for name, times in Counter(taken).items() if times > 1)
            bare.difference_update([name for name in twice if not _accepts_unversioned(self.offered()[name], versioned=True)])
        return bare


def _look_ups(facts: SymbolFacts, *, got_first: bool) -> list[int]:
    """Positions of imports as glibc looks them up: data relocations, then DT_JMPREL (dynamic-link.h); then the rest.

    On MIPS the global GOT, which stands with DT_JMPREL in the facts, comes first (elf_machine_runtime_setup).
    """
    places, plt = relocated_places(facts), facts.relocation_plt_runs
    imports = range(len(facts.import_flags))
    met = dict.fromkeys(places if got_first else [*places[plt:], *places[:plt]])
    return list(dict.fromkeys([*(place - 1 for place in met if 0 < place <= len(imports)), *imports]))


EMPTY = Table(SymbolFacts(), versioned=False)


def _accepts_unversioned(definitions: list[Offered], *, versioned: bool) -> bool:
    """check_match without a version: any definition, the oldest version, or the one default version (G48)."""
    if not versioned or any(flags & _LOW for _, flags in definitions):
        return True
    return sum(not flags & _HIDDEN for _, flags in definitions) == 1


def satisfies(table: Table, reference: Reference, *, versioned: bool, hidden: bool = False) -> bool:
    """Whether an object's definitions of that name answer the reference (G48)."""
    return answer(table, reference, versioned=versioned, hidden=hidden) is not None


def answer(table: Table, reference: Reference, *, versioned: bool, hidden: bool = False) -> int | None:
    """Flags of the definition that answers, None where none does (G48)."""
    definitions = table.offered().get(reference.name)
    if not definitions:
        return None
    if not reference.version:
        if not _accepts_unversioned(definitions, versioned=versioned):
            return None
        best = (flags for _, flags in definitions if not versioned or flags & _LOW or not flags & _HIDDEN)
        low = (flags for _, flags in definitions if versioned and flags & _LOW)
        return next(low, None) or next(best)
    if not versioned:
        return definitions[0].flags
    exact = next((flags for version, flags in definitions if version == reference.version), None)
    if exact is not None or hidden:
        return exact
    return next((flags for version, flags in definitions if not version and not flags & _HIDDEN), None)


class Unbound(NamedTuple):
    """A reference that nothing answers."""

    mapped: Mapped
    reference: Reference


class Bound(NamedTuple):
    """The outcome of relocating every object."""

    unbound: tuple[Unbound, ...] = ()
    """In the order in which the loader would meet them; the first ends the process."""
    later: tuple[Unbound, ...] = ()
    fatal: bytes = b""
    """Another line that ends the process, before any of `unbound`."""
    crash: str = ""
    """Signal that ends it, before any of `unbound`."""
    by: Mapped | None = None
    """The object that `fatal` or `crash` is about."""
    warnings: tuple[bytes, ...] = ()


class _Resolver(NamedTuple):
    """A reference of an object to a function that is chosen at run time, by code that is not relocated yet."""

    reference: Reference
    line: bytes
    fatal: bool = False
    crash: str = ""


class Scope:
    """The search list of the program, with the symbols of each object."""

    def __init__(self, objects: Sequence[Mapped], tables: Sequence[Table], release: tuple[int, int], program: bytes) -> None:
        self._objects = [each for each in objects if not each.faked]
        self._tables = {id(each): table for each, table in zip(objects, tables, strict=True)}
        self._present = {self._tables[id(each)] for each in self._objects}
        self._choosing = [each for each in self._objects if self._tables[id(each)].ifuncs]
        """Objects with functions that are chosen at run time: few."""
        self._release = release
        self._program = program
        self._bare = {name: each for each in reversed(self._objects) if not each.versioned for name in each.names}
        """Objects without a version table, by the names they go by."""
        # The objects that answer most come first: sets do not care for the order.
        self._by_size = sorted(self._objects, key=lambda each: -self._tables[id(each)].size)

    def relocate(self, order: Iterable[Mapped], *, now: bool, own: Mapped, trace: bool = False) -> Bound:
        """Every object in relocation order; `own` is ld.so, which has relocated itself. With `trace` no code is run."""
        unbound: list[Unbound] = []
        later: list[Unbound] = []
        warnings: list[bytes] = []
        waiting = {id(mapped): mapped for mapped in self._objects if mapped is not own}
        for mapped in order:
            if mapped is own or mapped.faked:
                continue
            table = self._tables[id(mapped)]
            eager = now or binds_now(mapped)
            references = table.at_once if eager else table.starts
            missing = self._missing(mapped, references)
            missing += self._missing(mapped, table.copies, without=mapped if not mapped.name else None)
            if not unbound:
                line = self._asserts(mapped, references)
                if line:
                    return Bound(later=tuple(later), fatal=line, by=mapped, warnings=tuple(warnings))
                for resolver in [] if trace else self._resolvers(mapped, references, waiting, missing[:1]):
                    if resolver.line and not resolver.fatal:
                        warnings.append(resolver.line)
                    if resolver.fatal or resolver.crash:
                        line = resolver.line if resolver.fatal else b""
                        return Bound((), tuple(later), line, resolver.crash, mapped, tuple(warnings))
            bad = unknown_relocation(mapped.facts, now=eager) if not unbound else b""
            # In DT_JMPREL a strange type is noticed without a look-up, which the missing symbols may come from.
            if bad and (not missing or b"PLT" in bad):
                line = Signalled(mapped.name, bad).line(self._program)
                return Bound((), tuple(later), line, "", mapped, tuple(warnings))
            unbound += [Unbound(mapped, reference) for reference in missing]
            if not eager:
                later += [Unbound(mapped, reference) for reference in self._missing(mapped, table.calls)]
            waiting.pop(id(mapped), None)
        return Bound(tuple(unbound), tuple(later), warnings=tuple(warnings))

    def _resolvers(
        self, mapped: Mapped, references: Sequence[Reference], waiting: dict[int, Mapped], end: Sequence[Reference]
    ) -> Iterator[_Resolver]:
        """IFUNC symbols of objects that are not relocated yet, up to the reference `end`, in order (G54)."""
        choosing = [each for each in self._choosing if each is not mapped and id(each) in waiting]
        if not choosing:
            return
        names = set[bytes]().union(*(self._tables[id(each)].ifuncs for each in choosing))
        for reference in references:
            if reference in end:
                return
            if reference.name not in names:
                continue
            provider, flags = self._provider(mapped, reference)
            if provider is None or id(provider) not in waiting or provider is mapped or not flags & _IFUNC:
                continue
            quoted = reference.name + b"'"
            if not provider.name:
                line = self._program + b": IFUNC symbol '" + quoted + b" referenced in '" + mapped.name
                line += b"' is defined in the executable and creates an unsatisfiable circular dependency."
                yield _Resolver(reference, line, fatal=True)
                return
            line = self._program + b": Relink `" + mapped.name + b"' with `" + provider.name + b"' for IFUNC symbol `" + quoted
            # Those of the C library read what the loader found out about the CPU, through a table that is not filled in yet.
            yield _Resolver(reference, line, crash="SIGSEGV" if provider.soname == b"libc.so.6" else "")

    def _provider(self, mapped: Mapped, reference: Reference) -> tuple[Mapped | None, int]:
        """The object that a reference is bound to, and the flags of the definition."""
        first = [mapped] if mapped.facts.symbolic and mapped.name else []
        for other in (*first, *self._objects):
            flags = answer(self._tables[id(other)], reference, versioned=other.versioned)
            if flags is not None:
                return other, flags
        return None, 0

    def _missing(self, mapped: Mapped, references: Sequence[Reference], without: Mapped | None = None) -> list[Reference]:
        if not references:
            return []
        settled = self._tables[id(mapped)].settled
        known = settled.get(id(references)) if without is None else None
        if known is not None and known <= self._present:
            return []
        left = {reference for reference in references if reference.version}
        bare = {reference.name for reference in references if not reference.version}
        used: set[Table] = set()
        for other in self._by_size:
            if not left and not bare:
                break
            if other is not without:
                table = self._tables[id(other)]
                # In this form a difference costs the smaller of both.
                fewer, barer = left - table.offers, bare - table.bare_offers
                if len(fewer) < len(left) or len(barer) < len(bare):
                    used.add(table)
                left, bare = fewer, barer
        hidden = {need.version for need in mapped.facts.verneed if need.index & 0x8000}
        data = set(self._tables[id(mapped)].starts) if left or bare else set()
        missing = []
        for reference in references if left or bare else ():
            if reference in left if reference.version else reference.name in bare:
                answering = self._answering(reference, reference.version in hidden, reference in data, without)
                if answering is None:
                    missing.append(reference)
                else:
                    used.add(answering)
        if not missing and without is None:
            settled[id(references)] = frozenset(used)
        return missing

    def _answering(self, reference: Reference, hidden: bool, data: bool, without: Mapped | None) -> Table | None:
        for other in self._objects:
            if other is without:
                continue
            table = self._tables[id(other)]
            if table.defines(reference.name) and satisfies(table, reference, versioned=other.versioned, hidden=hidden):
                return table
            if data and reference.name in table.plt_names:
                return table
        return None

    def _asserts(self, mapped: Mapped, references: Sequence[Reference]) -> bytes:
        """Up to 2.40 a provider named in DT_VERNEED must not have lost its version table (G48, T78)."""
        if self._release >= (2, 41):
            return b""
        for need in mapped.facts.verneed:
            bare = self._bare.get(need.file)
            table = self._tables[id(bare)] if bare is not None else EMPTY
            for reference in references if table.size else ():
                if reference.version == need.version and table.defines(reference.name):
                    if self._provider(mapped, reference)[0] is not bare:
                        continue  # an object that comes earlier answers
                    line = next(line for major, minor, line in _ASSERT_LINES if self._release >= (major, minor))
                    return (
                        b"Inconsistency detected by ld.so: dl-lookup.c: %d: check_match: Assertion `version->filename == NULL "
                        b"|| ! _dl_name_match_p (version->filename, map)' failed!" % line
                    )
        return b""


def binds_now(mapped: Mapped) -> bool:
    """DT_BIND_NOW, DF_BIND_NOW or DF_1_NOW, each object for itself (G52)."""
    return mapped.facts.bind_now or bool(mapped.facts.dt_flags & _DF_BIND_NOW) or bool(mapped.facts.dt_flags_1 & _DF_1_NOW)
