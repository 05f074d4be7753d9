"""Layers stacked into one view, and paths resolved inside it as the kernel would.

Whiteouts and opaque directories hide only lower layers; a file over a directory removes what was below it. Engines unpack
each layer by itself, so a directory that a layer only implies hides what else stood there, a symbolic link too.
The mounts of the runtime lie on top (loader.md section 0). Knows no verdicts, and never holds all paths at once:
every look-up is a search over the sorted layers, remembered.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from analyzers.accounts import Credentials
from analyzers.entries import Entries
from analyzers.facts import Coverage, ElfFacts, Entry, Kind, LayerFacts, LayerNote, SymbolFacts
from analyzers.jar_facts import JarFacts, class_version

MAX_LINKS = 40
"""The kernel's MAXSYMLINKS: the 41st link of one look-up is ELOOP."""
PATH_MAX = 4096
NAME_MAX = 255
_HARDLINK_CHAIN = 40
_Made = TypeVar("_Made")


class Node(NamedTuple):
    """A path of the merged view. `entry` is never a hard link: it is the inode that the link leads to."""

    path: bytes
    entry: Entry
    layer: int
    """Index of the layer that brought the inode; `len(layers)` for what the runtime mounts."""
    identity: tuple[int, bytes]
    """Equal for hard links of one inode (device and inode equality)."""


class Resolution(NamedTuple):
    """Where a path leads. `node` is None exactly when `error` is set."""

    node: Node | None
    error: str
    """"" or ENOENT, ELOOP, ENOTDIR, EACCES, ENAMETOOLONG."""
    path: bytes
    """Canonical path of what was found, or of where the walk stopped."""
    links: tuple[bytes, ...] = ()
    """Canonical paths of the symbolic links gone through, in order."""
    dangling: bool = False
    """The missing component is named by a symbolic link, not by the path asked for."""
    unknown: bool = False
    """A partial layer might have held it, or something over it."""


class ViewNote(NamedTuple):
    """Something odd about how layers lie over each other; becomes a finding."""

    layer: int
    note: LayerNote


class _Place(NamedTuple):
    node: Node
    layers: tuple[int, ...]
    """Of a directory: the layers that may hold something below it, topmost first."""


class _Layer:
    """One layer made ready for search."""

    __slots__ = ("bare_parents", "entries", "facts", "incomplete", "opaques", "unread", "whiteouts")

    def __init__(self, facts: LayerFacts, *, bare_parents: bool = False) -> None:
        self.facts = facts
        self.entries: Entries = facts.entries
        self.whiteouts: Sequence[bytes] = facts.whiteouts
        self.opaques: Sequence[bytes] = facts.opaques
        self.bare_parents = bare_parents
        # An unread item without a path, or a partial layer that names none, means that entries are missing.
        self.unread = frozenset(each.path for each in facts.unread)
        self.incomplete = b"" in self.unread or (facts.coverage != Coverage.FULL and not facts.unread)

    def has_below(self, directory: bytes) -> bool:
        prefix = directory + b"/"
        return (
            len(self.entries.below(directory)) > 0
            or _starts_in(self.whiteouts, prefix)
            or _contains(self.opaques, directory)
            or _starts_in(self.opaques, prefix)
        )


def _contains(paths: Sequence[bytes], path: bytes) -> bool:
    if not paths:
        return False
    index = bisect_left(paths, path)
    return index < len(paths) and paths[index] == path


def _starts_in(paths: Sequence[bytes], prefix: bytes) -> bool:
    if not paths:
        return False
    index = bisect_left(paths, prefix)
    return index < len(paths) and paths[index].startswith(prefix)


def _directory(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(path, Kind.DIRECTORY, mode, 0, 0, 0)


def _runtime_layer() -> LayerFacts:
    """What Docker's init layer and runc's mounts put over every image (moby `daemon/initlayer/setup_unix.go`)."""
    devices = {b"null": (1, 3), b"zero": (1, 5), b"full": (1, 7), b"random": (1, 8), b"urandom": (1, 9), b"tty": (5, 0)}
    links = {b"fd": b"/proc/self/fd", b"stdin": b"/proc/self/fd/0", b"stdout": b"/proc/self/fd/1", b"stderr": b"/proc/self/fd/2"}
    entries = [
        _directory(b"dev"),
        _directory(b"dev/mqueue", 0o1777),
        _directory(b"dev/pts"),
        _directory(b"dev/shm", 0o1777),
        _directory(b"proc", 0o555),
        _directory(b"sys", 0o555),
        Entry(b"dev/ptmx", Kind.SYMLINK, 0o777, 0, 0, 0, b"pts/ptmx"),
        Entry(b"dev/core", Kind.SYMLINK, 0o777, 0, 0, 0, b"/proc/kcore"),
        Entry(b"etc/mtab", Kind.SYMLINK, 0o777, 0, 0, 0, b"/proc/mounts"),
        Entry(b".dockerenv", Kind.FILE, 0o755, 0, 0, 0),
        *(Entry(b"dev/" + name, Kind.CHARACTER_DEVICE, 0o666, 0, 0, 0, device=device) for name, device in devices.items()),
        *(Entry(b"dev/" + name, Kind.SYMLINK, 0o777, 0, 0, 0, target) for name, target in links.items()),
        *(Entry(b"etc/" + name, Kind.FILE, 0o644, 0, 0, 1) for name in (b"hostname", b"hosts", b"resolv.conf")),
    ]
    return LayerFacts(diff_id="", size_bytes=0, entries=Entries(entries), opaques=(b"dev", b"proc", b"sys"))


class Rootfs:
    """The merged view of `layers`, bottom first, as the processes of a container see it."""

    def __init__(self, layers: Sequence[LayerFacts], *, runtime: bool = True, bare_parents: bool = False) -> None:
        """`bare_parents`: a directory that a layer implies but does not list is made anew, root's and 0755, as Docker's overlay2
        driver makes it; otherwise it keeps the owner and mode that it has below, as containerd has it.
        """
        self.layers = tuple(layers)
        self.notes: list[ViewNote] = []
        prepared: list[_Layer] = []
        for index, facts in enumerate(self.layers):
            self._note(facts, index, prepared)
            prepared.append(_Layer(facts, bare_parents=bare_parents))
        if runtime:
            prepared.append(_Layer(_runtime_layer()))
        self._stack(prepared)
        self.partial = any(layer.facts.coverage != Coverage.FULL or layer.facts.unread for layer in prepared)

    def _stack(self, prepared: list[_Layer]) -> None:
        self._layers = prepared
        self._hiding = [(index, layer.whiteouts) for index, layer in enumerate(prepared) if layer.whiteouts]
        self._places: dict[bytes, _Place | None] = {}
        self._walks: dict[tuple[bytes, bytes, bool, Credentials | None], Resolution] = {}
        self._directories: dict[tuple[bytes, bytes, Credentials | None], tuple[_Place, tuple[bytes, ...]] | Resolution] = {}
        self._views: dict[int, Rootfs] = {}
        self._remembered: dict[Hashable, Any] = {}
        self._blind = max((index for index, layer in enumerate(prepared) if layer.incomplete), default=-1)
        self._root = self._root_place()

    def _root_place(self) -> _Place:
        """The root itself, which nothing hides: overlayfs reads the opaque mark of a directory when it looks the directory
        up in its parent, and the root has none.
        """
        order = tuple(reversed(range(len(self._layers))))
        for index in order:
            entry = self._layers[index].entries.get(b"")
            if entry is not None and entry.kind == Kind.DIRECTORY:
                return _Place(Node(b"", entry, index, (index, b"")), order)
        return _Place(Node(b"", _directory(b""), 0, (0, b"")), order)

    def with_directory(self, path: bytes) -> Rootfs:
        """The same view with a directory that the engine makes on top (C16)."""
        made = LayerFacts(diff_id="", size_bytes=0, entries=Entries([_directory(path)]))
        view = Rootfs((), runtime=False)
        view.layers, view.notes, view.partial = self.layers, self.notes, self.partial
        view._stack([*self._layers, _Layer(made)])
        view._remembered = self._remembered
        return view

    def image(self) -> Rootfs:
        """The same layers without what the runtime puts on top."""
        return self._view(len(self.layers))

    @classmethod
    def _of(cls, prepared: list[_Layer]) -> Rootfs:
        view = cls((), runtime=False)
        view.layers = tuple(layer.facts for layer in prepared)
        view._stack(prepared)
        return view

    def _note(self, facts: LayerFacts, index: int, lower: list[_Layer]) -> None:
        """What a layer does that its maker hardly meant."""
        if index and _contains(facts.opaques, b""):
            self.notes.append(ViewNote(index, LayerNote("opaque-root")))
        implied = _implied_directories(facts) if lower else ()
        if not implied:
            return
        view = Rootfs._of(lower)
        for directory in implied:
            place = view._place(directory)
            if place is not None and place.node.entry.kind == Kind.SYMLINK:
                target = view.landing(directory).decode("utf-8", "replace")
                self.notes.append(ViewNote(index, LayerNote("symlinked-parent", directory, "/" + target)))

    def landing(self, directory: bytes) -> bytes:
        """Where a directory is made that may be missing: links followed, missing components kept as they are."""
        here: list[bytes] = []
        todo = directory.split(b"/")[::-1]
        hops = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = here[:-1]
                continue
            path = b"/".join([*here, name])
            place = self._place(path)
            if place is None or place.node.entry.kind != Kind.SYMLINK:
                here.append(name)
                continue
            hops += 1
            if hops > MAX_LINKS:
                return directory
            if place.node.entry.link.startswith(b"/"):
                here = []
            todo.extend(place.node.entry.link.split(b"/")[::-1])
        return b"/".join(here)

    # -- search --

    def _place(self, path: bytes) -> _Place | None:
        """What stands at a canonical path, or None. Iterative: a path may be thousands of directories deep."""
        if not path:
            return self._root
        if path in self._places:
            return self._places[path]
        missing = [path]
        parent = path.rpartition(b"/")[0]
        while parent and parent not in self._places:
            missing.append(parent)
            parent = parent.rpartition(b"/")[0]
        place = self._places[parent] if parent else self._root
        for each in reversed(missing):
            place = None if place is None or not place.layers else self._search(each, place)
            self._places[each] = place
        return place

    def _child(self, parent: _Place, path: bytes) -> _Place | None:
        if path in self._places:
            return self._places[path]
        place = self._places[path] = self._search(path, parent) if parent.layers else None
        return place

    def _search(self, path: bytes, parent: _Place) -> _Place | None:
        """The look-up itself: topmost layer first, until something hides the rest."""
        holders: list[int] = []
        node: Node | None = None
        for index in parent.layers:
            layer = self._layers[index]
            entry = layer.entries.get(path)
            if entry is not None and entry.kind != Kind.DIRECTORY:
                if holders:
                    break  # a directory of a higher layer replaced it, with nothing of the lower ones below
                return self._leaf(path, entry, index)
            if entry is not None or layer.has_below(path):
                holders.append(index)
                if node is None and (entry is not None or layer.bare_parents):
                    node = Node(path, entry or _directory(path), index, (index, path))
            if _contains(layer.whiteouts, path) or _contains(layer.opaques, path):
                break
        if not holders:
            return None
        if node is None:
            # Parents that no layer lists are made by the unpacker: root's, 0755.
            node = Node(path, _directory(path), holders[-1], (holders[-1], path))
        return _Place(node, tuple(holders))

    def _leaf(self, path: bytes, entry: Entry, index: int) -> _Place | None:
        if entry.kind != Kind.HARDLINK:
            return _Place(Node(path, entry, index, (index, entry.path)), ())
        target = self._inode(entry, index)
        return None if target is None else _Place(Node(path, target.entry, target.layer, target.identity), ())

    def _inode(self, entry: Entry, index: int) -> Node | None:
        """The inode a hard link names, as it stood when its layer was unpacked; the last component is not followed."""
        for _ in range(_HARDLINK_CHAIN):
            directory, _, name = entry.link.rpartition(b"/")
            landing = self._view(index).landing(directory) if directory else b""
            path = landing + b"/" + name if landing else name
            own = self._layers[index].entries.get(path)
            if own is None:
                below = self._view(index)._place(path)
                return below.node if below is not None and below.node.entry.kind != Kind.DIRECTORY else None
            if own.kind == Kind.DIRECTORY or own.path == entry.path:
                return None
            if own.kind != Kind.HARDLINK:
                return Node(path, own, index, (index, own.path))
            entry = own
        return None

    def _view(self, count: int) -> Rootfs:
        """The view of the lowest `count` layers."""
        view = self._views.get(count)
        if view is None:
            view = self._views[count] = Rootfs._of(self._layers[:count])
        return view

    # -- resolution --

    def resolve(self, path: bytes, *, cwd: bytes = b"", follow: bool = True, creds: Credentials | None = None) -> Resolution:
        """Walk `path` (absolute, or relative to `cwd`) inside the root.

        `follow` says whether a symbolic link in the last place is followed. With `creds` every directory on the way
        must grant search permission; without, permissions are not looked at. Never raises.
        """
        if creds is not None and creds.dac_override:
            creds = None  # CAP_DAC_OVERRIDE passes every directory
        key = (path, cwd, follow, creds)
        found = self._walks.get(key)
        if found is None:
            found = self._walks[key] = self._resolve(path, cwd, follow, creds)
        return found

    def _resolve(self, path: bytes, cwd: bytes, follow: bool, creds: Credentials | None) -> Resolution:
        if not path or b"\0" in path:
            return Resolution(None, "ENOENT", b"")
        if len(path) >= PATH_MAX:
            return Resolution(None, "ENAMETOOLONG", path)
        directory, _, name = path.rpartition(b"/")
        absolute = path.startswith(b"/")
        if not directory or name in (b"", b".", b".."):
            directory, name = b"", path
        start = self._enter(directory, b"" if absolute else cwd, creds)
        if isinstance(start, Resolution):
            return start
        return self._walk(start[0], name, start[1], follow, creds)

    def _enter(self, directory: bytes, cwd: bytes, creds: Credentials | None) -> tuple[_Place, tuple[bytes, ...]] | Resolution:
        """The directory that a textual path leads to, remembered: most look-ups share theirs."""
        key = (directory, cwd, creds)
        known = self._directories.get(key)
        if known is None:
            known = self._directories[key] = self._find_directory(directory, cwd, creds)
        return known

    def _find_directory(
        self, directory: bytes, cwd: bytes, creds: Credentials | None
    ) -> tuple[_Place, tuple[bytes, ...]] | Resolution:
        start = self._root
        if cwd:
            # A process holds its working directory open: nobody asks again whether it may go there.
            landed = self._walk(start, cwd + b"/", (), True, None)
            if landed.node is None:
                return landed
            start = self._place(landed.node.path) or start
        if not directory:
            return start, ()
        step = self._walk(start, directory + b"/", (), True, creds)
        place = None if step.node is None else self._place(step.node.path)
        return step if place is None else (place, step.links)

    def _walk(self, here: _Place, path: bytes, links: tuple[bytes, ...], follow: bool, creds: Credentials | None) -> Resolution:
        if path.startswith(b"/"):
            here = self._root
        todo = path.split(b"/")[::-1]
        link_floor = len(todo) + 1
        while todo:
            name = todo.pop()
            if not name:
                continue
            where = here.node.path
            if creds is not None and not may_search(here.node.entry, creds):
                return Resolution(None, "EACCES", where, links)
            if name == b".":
                continue
            if name == b"..":
                here = self._place(where.rpartition(b"/")[0]) or self._root
                continue
            joined = where + b"/" + name if where else name
            if len(name) > NAME_MAX:
                return Resolution(None, "ENAMETOOLONG", joined, links)
            place = self._child(here, joined)
            if place is None:
                return Resolution(None, "ENOENT", joined, links, len(todo) >= link_floor, self._blind >= 0)
            entry = place.node.entry
            if entry.kind == Kind.SYMLINK and (todo or follow):
                if len(links) >= MAX_LINKS:
                    return Resolution(None, "ELOOP", joined, links)
                links = (*links, joined)
                link_floor = min(link_floor, len(todo))
                if not entry.link:
                    return Resolution(None, "ENOENT", joined, links, True)
                if entry.link.startswith(b"/"):
                    here = self._root
                todo.extend(entry.link.split(b"/")[::-1])
                continue
            if todo and entry.kind != Kind.DIRECTORY:
                return Resolution(None, "ENOTDIR", joined, links)
            here = place
        node = here.node
        return Resolution(node, "", node.path, links, unknown=node.layer < self._blind)

    # -- facts --

    def elf(self, node: Node) -> ElfFacts | None:
        """ELF facts of a file; None when it is no ELF file or was not read (see `unread`)."""
        layer = self._layers[node.layer]
        return layer.facts.elf.get(node.entry.sha256) if node.entry.sha256 and node.entry.kind == Kind.FILE else None

    def symbols(self, node: Node) -> SymbolFacts | None:
        """Dynamic symbols; None when there are none or the section was not asked for."""
        symbols = self._layers[node.layer].facts.symbols
        return None if symbols is None else symbols.get(node.entry.sha256)

    def remember(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """What `make` gave when this was first asked for: things worked out of facts, kept as long as the view."""
        if key not in self._remembered:
            self._remembered[key] = make()
        made: _Made = self._remembered[key]
        return made

    def text(self, node: Node) -> bytes | None:
        """Whole content, for the few files whose text is kept (readers.py)."""
        layer = self._layers[node.layer]
        return layer.facts.texts.get(node.entry.path)

    def head(self, node: Node) -> bytes | None:
        """The first 256 bytes of a file that begins with `#!`."""
        layer = self._layers[node.layer]
        return layer.facts.heads.get(node.entry.path)

    def jar(self, node: Node) -> JarFacts | None:
        """Facts of a jar; None when it is none by its name or was not read."""
        return self._layers[node.layer].facts.jars.get(node.entry.sha256) if node.entry.kind == Kind.FILE else None

    def class_file(self, node: Node) -> tuple[int, int] | None:
        """(major, minor) version of a class file outside jars; None when it is none."""
        packed = self._layers[node.layer].facts.classes.get(node.entry.path)
        return None if packed is None else class_version(packed)

    def script(self, node: Node) -> bytes | None:
        """The whole text of a shell script, or of a file like one; None where it was not kept."""
        facts = self._layers[node.layer].facts
        return facts.scripts.get(node.entry.path) or facts.texts.get(node.entry.path)

    def unread(self, node: Node) -> bool:
        """Whether a reader wanted this file and could not read it whole."""
        layer = self._layers[node.layer]
        return node.entry.path in layer.unread

    def layer_of(self, node: Node) -> int | None:
        """The layer to name to people; None for what the runtime mounts."""
        return node.layer if node.layer < len(self.layers) else None

    def named(self, base: bytes) -> Iterator[Node]:
        """Every visible path whose last component is `base`, sorted; reads all paths."""
        return (node for node in self.ending(base) if node.path.rpartition(b"/")[2] == base)

    def ending(self, end: bytes) -> Iterator[Node]:
        """Every visible path that ends so, sorted; reads all paths."""
        wanted: set[bytes] = set()
        for layer in self._layers[: len(self.layers)]:
            wanted.update(path for path in layer.entries.paths() if path.endswith(end))
        for path in sorted(wanted):
            place = self._place(path)
            if place is not None and place.node.layer < len(self.layers):
                yield place.node

    def starting(self, prefix: bytes, ending: bytes = b"") -> Iterator[Node]:
        """Every visible path that begins with `prefix` (canonical, not empty) and has that ending, sorted."""
        wanted: set[bytes] = set()
        for layer in self._layers[: len(self.layers)]:
            entries = layer.entries
            wanted.update(path for path in map(entries.path, entries.starting(prefix)) if path.endswith(ending))
        for path in sorted(wanted):
            place = self._place(path)
            if place is not None and place.node.layer < len(self.layers):
                yield place.node

    def children(self, directory: bytes) -> Iterator[Node]:
        """What a directory (canonical) has in it, sorted by name; what lies deeper is skipped without a look."""
        place = self._place(directory)
        prefix = directory + b"/" if directory else b""
        names: set[bytes] = set()
        for index in () if place is None else place.layers:
            names.update(self._layers[index].entries.names(directory))
        for name in sorted(names):
            found = self._place(prefix + name)
            if found is not None:
                yield found.node

    def names(self, directory: bytes) -> tuple[bytes, ...]:
        """Names directly below `directory` (canonical), sorted; an empty tuple for what is no directory."""
        return tuple(node.path.rpartition(b"/")[2] for node in self.children(directory))

    def holders(self, directory: bytes) -> frozenset[int]:
        """The layers whose entries directly below `directory` (canonical) can be visible."""
        place = self._place(directory)
        return frozenset() if place is None else frozenset(place.layers)

    def hidden_above(self, path: bytes, layer: int) -> bool:
        """Whether a layer above `layer` whites out `path` itself."""
        hiding = self._hiding  # nearly always empty
        return bool(hiding) and any(index > layer and _contains(whiteouts, path) for index, whiteouts in hiding)

    def may_read(self, node: Node, creds: Credentials) -> bool:
        return creds.dac_override or _granted(node.entry, creds, 4)

    def may_execute(self, node: Node, creds: Credentials) -> bool:
        """Execute permission of a file: with CAP_DAC_OVERRIDE any x bit will do (K1, C13)."""
        if creds.dac_override:
            return bool(node.entry.mode & 0o111)
        return _granted(node.entry, creds, 1)

    def nodes(self) -> Iterator[Node]:
        """Every visible path that the image brought, sorted; the root itself is left out."""
        last = b""
        for path in heapq.merge(*(layer.entries.paths() for layer in self._layers[: len(self.layers)])):
            if path == last:
                continue
            last = path
            place = self._place(path)
            if place is not None and place.node.layer < len(self.layers):
                yield place.node

    def elf_nodes(self) -> Iterator[Node]:
        """Those of `nodes` that are ELF files, without a look at the others."""
        wanted: set[bytes] = set()
        for layer in self._layers[: len(self.layers)]:
            elf = layer.facts.elf
            outlines = layer.entries.outlines()
            wanted.update(path for path, kind, _, sha256 in outlines if sha256 in elf or kind == Kind.HARDLINK)
        for path in sorted(wanted):
            place = self._place(path)
            if place is not None and place.node.layer < len(self.layers) and self.elf(place.node) is not None:
                yield place.node


def may_search(entry: Entry, creds: Credentials) -> bool:
    """Whether a directory may be passed through."""
    return creds.dac_override or _granted(entry, creds, 1)


def _granted(entry: Entry, creds: Credentials, bit: int) -> bool:
    """The kernel's order: owner, else group, else others; the first class that applies decides."""
    if creds.uid == entry.uid:
        return bool(entry.mode & (bit << 6))
    if creds.gid == entry.gid or entry.gid in creds.groups:
        return bool(entry.mode & (bit << 3))
    return bool(entry.mode & bit)


def _implied_directories(facts: LayerFacts) -> tuple[bytes, ...]:
    """Parents that the layer uses without listing them; only those can lie under a lower symlink."""
    implied: set[bytes] = set()
    last = b""
    entries = facts.entries
    for paths in (entries.paths(), iter(facts.whiteouts), (opaque + b"/" for opaque in facts.opaques if opaque)):
        for path in paths:
            parent = path.rpartition(b"/")[0]
            if parent == last:
                continue
            last = parent
            if parent and parent not in implied and entries.find(parent) < 0:
                implied.add(parent)
    return tuple(sorted(implied))
