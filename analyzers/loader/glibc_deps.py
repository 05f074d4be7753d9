"""The objects of a glibc process as they come in: by name, by soname, by inode, or from a file newly mapped.

Mirrors `_dl_map_object_deps` of `elf/dl-deps.c`, `_dl_map_object` and `_dl_map_object_from_fd` of `elf/dl-load.c`, and
`do_preload` of `elf/rtld.c` (rules G4-G8, G19-G21, G38-G40). Where a name leads is glibc_search.py's knowledge.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import msgspec

from analyzers.facts import ElfFacts
from analyzers.finding import Attempt, Outcome, Reason, Step, show
from analyzers.host_libraries import DRIVER, brought_by_host
from analyzers.loader.dlopens import Wished, read_wishes, unfulfilled
from analyzers.loader.glibc_open import Files, Opened
from analyzers.loader.glibc_search import Search
from analyzers.loader.linkmap import Crashed, Mapped, Signalled, Undecided
from analyzers.loader.process import Process
from analyzers.loader.search import Ledger, Origin, Trail, token_names
from analyzers.rootfs import Node
from analyzers.trail import layer_of, show_path

DT_NEEDED, DT_FILTER, DT_AUXILIARY = 1, 0x7FFFFFFF, 0x7FFFFFFD
_LIMITED = frozenset(("needed-limit", "list-limit", "version-limit"))


class Entry:
    """One element of the search list while it grows."""

    __slots__ = ("done", "mapped")

    def __init__(self, mapped: Mapped) -> None:
        self.mapped = mapped
        self.done = False


class Namespace:
    """Every object of the process. `failure` is what ends it; what comes in after that was never seen by the process."""

    def __init__(self, process: Process, files: Files, search: Search, program: Mapped, loader: Mapped) -> None:
        self._process = process
        self._files = files
        self._search = search
        self.program = program
        self.loader = loader
        self.chain = [program, loader]
        """_ns_loaded: in the order in which names are compared."""
        self.listed: list[Mapped] = []
        """The program's search list."""
        self.libc: Mapped | None = None
        self.failure: Signalled | Crashed | None = None
        self.steps: list[Step] = []
        self.beyond: list[Step] = []
        """Searches after the failure."""
        self.missing: list[tuple[bytes, Mapped]] = []
        """(name, who wants it) of every DT_NEEDED that cannot be loaded, the fatal one first."""
        self.assumed: list[tuple[bytes, Mapped]] = []
        """Likewise of libraries that the host brings."""
        self.trusts_host = True
        """A start relies on the host's libraries; a dlopen that wants one is told as it ends without."""
        self.found: dict[int, Attempt] = {}
        """By id of the object: the attempt that found it."""
        self._faked: dict[bytes, Mapped] = {}
        """What stands for names that were not found; who asks for one again has its own run paths to be searched."""
        self._ledger = Ledger()
        self._inodes: dict[tuple[int, bytes], Mapped] = {}
        self._called: dict[bytes, list[Mapped]] = {}
        """Objects by every name and soname; real processes have thousands of requests."""
        for mapped in self.chain:
            self._call(mapped, *mapped.names, mapped.soname)

    # -- dl-load.c --

    def map_object(self, name: bytes, requester: Mapped, *, preload: bool = False) -> Mapped:
        """The object that `name` means; newly mapped, or one that is there already. Raises Signalled."""
        known = self._known(name)
        if known is not None:
            if not known.matches(name):
                known.names.add(name)
                known.soname_added = True
                self._note_reuse(name, requester, known, "its soname")
            return known
        trail = Trail()
        try:
            opened = self._search.find(name, requester, self.program, trail, preload=preload)
            mapped = self._map_file(name, opened, requester)
        except Signalled as signalled:
            signalled.by = self.path_of(requester)
            self._add_step(name, requester, trail, None, preload=preload)
            raise
        except (Crashed, Undecided):
            self._add_step(name, requester, trail, None, preload=preload)
            raise
        self._add_step(name, requester, trail, mapped, preload=preload)
        return mapped

    def _known(self, name: bytes) -> Mapped | None:
        """The first object of the chain that goes by that name, or that has it as its soname (G6)."""
        found = self._called.get(name)
        if not found:
            return None
        return found[0] if len(found) == 1 else next((each for each in self.chain if each in found), None)

    def _call(self, mapped: Mapped, *names: bytes | None) -> None:
        for name in names:
            if name is not None and mapped not in self._called.setdefault(name, []):
                self._called[name].append(mapped)

    def _map_file(self, name: bytes, opened: Opened, requester: Mapped) -> Mapped:
        known = self._inodes.get(opened.node.identity)
        if known is not None:
            known.names.add(name)
            self._call(known, name)
            return known
        self._files.check_mapping(name, opened)
        mapped = Mapped(opened.path, name, opened.node, opened.facts, requester, self._origin(opened.path))
        self.chain.append(mapped)
        self._call(mapped, mapped.name, name, mapped.soname)
        self._inodes[opened.node.identity] = mapped
        if self.libc is None and mapped.soname == b"libc.so.6":
            self.libc = mapped
        return mapped

    def _origin(self, path: bytes) -> bytes:
        """Of a library: the directory of the path it was opened by, links as they are (G21)."""
        return absolute(self._process, path).rpartition(b"/")[0] or b"/"

    # -- rtld.c do_preload --

    def preload(self, name: bytes, where: bytes) -> tuple[Mapped | None, bytes]:
        """(the object, if it is a new one; the line that says why not). Only its own file is forgiven (G38)."""
        before = len(self.chain)
        try:
            mapped = self.map_object(name, self.program, preload=True)
        except Signalled as signalled:
            start = b"ERROR: ld.so: object '" + name + b"' from " + where
            return None, start + b" cannot be preloaded (" + signalled.text + b"): ignored."
        return (mapped if len(self.chain) > before else None), b""

    # -- dl-deps.c --

    def map_dependencies(self, preloads: list[Mapped]) -> None:
        """The whole list, breadth first; filters stand before the object that names them (G4, G40)."""
        self._files.errno = ""
        self._map_list([self.program, *preloads])

    def open_library(self, path: bytes, caller: Mapped) -> Mapped:
        """dlopen of a path by `caller`: the object, with all that it needs; `listed` is its own list then (dl-open.c).

        `failure` says what is missing below it. Raises Signalled, Crashed or Undecided for the file itself.
        """
        self._files.errno = ""
        mapped = self.map_object(path, caller)
        self._map_list([mapped])
        return mapped

    def branch(self) -> Namespace:
        """A copy that grows by itself, so that what one dlopen brings is not there for another."""
        other = copy.copy(self)
        other.chain, other.listed = list(self.chain), list(self.listed)
        other.steps, other.beyond, other.missing = [], [], []
        other.trusts_host = False
        other.found, other._faked, other._inodes = dict(self.found), {}, dict(self._inodes)
        other._called = {name: list(called) for name, called in self._called.items()}
        other._ledger = Ledger()
        return other

    def _map_list(self, first: list[Mapped]) -> None:
        entries = [Entry(mapped) for mapped in first]
        listed = {id(entry.mapped) for entry in entries}
        at = 0
        while at < len(entries):
            entry = entries[at]
            entry.done = True
            try:
                self._map_needed(entry.mapped, entries, at, listed)
            except Undecided:
                if self.failure is None:
                    self.listed = [each.mapped for each in entries]
                    raise
                break  # the process has ended before; what else is missing stays open
            while at < len(entries) and entries[at].done:
                at += 1
        self.listed = [entry.mapped for entry in entries]

    def _map_needed(self, mapped: Mapped, entries: list[Entry], at: int, listed: set[int]) -> None:
        if _LIMITED & set(mapped.facts.defects):
            raise Undecided(f"{show(self.path_of(mapped))} names more libraries than are read")
        for tag, text in _wanted(mapped.facts):
            try:
                name = self._expand(mapped, text, tag)
                if not name and text:
                    continue
                found = self.map_object(name, mapped)
            except (Signalled, Crashed) as failure:
                if tag == DT_AUXILIARY and isinstance(failure, Signalled) and not failure.immediate:
                    continue
                found = self._assume(failure, name, mapped) or self._fail(failure, name if tag == DT_NEEDED else text, mapped)
            if tag == DT_NEEDED:
                if id(found) not in listed:
                    listed.add(id(found))
                    entries.append(Entry(found))
                mapped.needed.append(found)
                continue
            mapped.needed.append(found)
            at = self._insert_filtee(mapped, found, entries, at, listed)

    def _insert_filtee(self, mapped: Mapped, found: Mapped, entries: list[Entry], at: int, listed: set[int]) -> int:
        """Before the filter object; one that stands later moves there, one that stands earlier stays."""
        if id(found) in listed:
            later = next((index for index in range(at + 1, len(entries)) if entries[index].mapped is found), None)
            if later is None:
                return at
            del entries[later]
        listed.add(id(found))
        entries.insert(at, Entry(found))
        if found in self.chain and mapped in self.chain:
            self.chain.remove(found)
            self.chain.insert(self.chain.index(mapped), found)
        return at + 1

    def _expand(self, mapped: Mapped, text: bytes, tag: int) -> bytes:
        """expand_dst; which of the two kinds is fatal is glibc's own surprise."""
        if not token_names(text):
            return text
        if self._process.secure:
            raise Signalled(text, b"DST not allowed in SUID/SGID programs", immediate=True)
        name = self._search.expand(text, mapped)
        if not name and tag == DT_AUXILIARY:
            raise Signalled(text, b"empty dynamic string token substitution", immediate=True)
        return name

    def _fail(self, failure: Signalled | Crashed, name: bytes, wanted_by: Mapped) -> Mapped:
        """Takes note of the end, and puts something in the library's place so that the rest can be told."""
        if self.failure is None:
            self.failure = failure
        self.missing.append((name, wanted_by))
        return self._fake(name, wanted_by)

    def _assume(self, failure: Signalled | Crashed, name: bytes, wanted_by: Mapped) -> Mapped | None:
        """What stands for a library of the host's driver; None where it is not one, or where there is a file that is refused."""
        absent = isinstance(failure, Signalled) and failure.reason is Reason.LIBRARY_ABSENT and not failure.immediate
        if not absent or not self.trusts_host or not brought_by_host(name):
            return None
        self.assumed.append((name, wanted_by))
        steps = self.steps if self.failure is None else self.beyond
        tried = Attempt("host", "", Outcome.SKIPPED, detail=f"the host's driver brings it ({DRIVER})")
        steps[-1] = msgspec.structs.replace(steps[-1], ok=True, attempts=(*steps[-1].attempts, tried))
        return self._fake(name, wanted_by)

    def _fake(self, name: bytes, wanted_by: Mapped) -> Mapped:
        if name in self._faked:
            return self._faked[name]
        faked = Mapped(name, name, None, ElfFacts(file_size=0, ident=b"", bits=0, little=True), wanted_by, None)
        faked.faked = True
        self.chain.append(faked)
        self._faked[name] = faked
        return faked

    # -- dl-open.c, as far as notes foretell it --

    def wished(self) -> Iterator[Wished]:
        """Sonames that objects will dlopen by their own notes and that are not to be had (R42). The last thing that is asked."""
        for mapped in [each for each in self.listed if each.facts.dlopen_notes and not each.faked]:
            for wish in read_wishes(mapped.facts.dlopen_notes):
                trails = []
                for soname in wish.sonames:
                    trail = Trail()
                    if brought_by_host(soname) or self._can_be_opened(soname, mapped, trail):
                        break
                    trails.append(trail.attempts())
                else:
                    yield unfulfilled(self.path_of(mapped), wish, trails[0])

    def _can_be_opened(self, name: bytes, requester: Mapped, trail: Trail) -> bool:
        if self._known(name) is not None:
            return True
        try:
            self._search.find(name, requester, self.program, trail)
        except (Signalled, Crashed):
            return False
        except Undecided:
            return True  # a layer that was not read may have it
        return True

    # -- the record --

    def path_of(self, mapped: Mapped) -> bytes:
        """As opened."""
        return mapped.name or self._process.opened_as

    def _shown(self, mapped: Mapped) -> str:
        return show_path(mapped.node.path) if mapped is self.program and mapped.node is not None else show(mapped.name)

    def _add_step(self, name: bytes, requester: Mapped, trail: Trail, mapped: Mapped | None, *, preload: bool) -> None:
        attempts = self._ledger.keep(trail.attempts(), found=mapped is not None)
        node: Node | None = None if mapped is None else mapped.node
        if mapped is not None and attempts:
            self.found.setdefault(id(mapped), attempts[-1])
        step = Step(
            "preload" if preload else "library",
            show(name),
            self._shown(requester),
            "" if node is None else show_path(node.path),
            mapped is not None,
            attempts,
            layer_of(self._process.rootfs, node),
        )
        (self.steps if self.failure is None else self.beyond).append(step)

    def _note_reuse(self, name: bytes, requester: Mapped, mapped: Mapped, how: str) -> None:
        if mapped is self.loader or mapped is self.program:
            return
        path = show(mapped.name)
        tried = Attempt(Origin.LOADED, path, Outcome.FOUND, detail=f"{how} is {show(name)}")
        step = Step(
            "library", show(name), self._shown(requester), path, True, (tried,), layer_of(self._process.rootfs, mapped.node)
        )
        (self.steps if self.failure is None else self.beyond).append(step)


def absolute(process: Process, path: bytes) -> bytes:
    """A relative path behind the working directory as getcwd tells it."""
    if path.startswith(b"/"):
        return path
    landed = process.rootfs.resolve(process.cwd)
    return b"/" + landed.path + b"/" + path if landed.path else b"/" + path


def _wanted(facts: ElfFacts) -> Iterator[tuple[int, bytes]]:
    """DT_NEEDED, DT_FILTER and DT_AUXILIARY in the order of the dynamic section."""
    if not facts.filters and not facts.auxiliaries:
        for name in facts.needed:
            yield DT_NEEDED, name
        return
    lists = {DT_NEEDED: facts.needed, DT_FILTER: facts.filters, DT_AUXILIARY: facts.auxiliaries}
    order = [tag for tag, _ in facts.tags if tag in lists]
    if any(order.count(tag) != len(names) for tag, names in lists.items()):
        order = [tag for tag, names in lists.items() for _ in names]
    rest = {tag: iter(names) for tag, names in lists.items()}
    for tag in order:
        yield tag, next(rest[tag])
