"""musl's search for a needed name: which places it opens, in which order, and the errno that is left behind.

Mirrors path_open, fixup_rpath and the middle of load_library in `ldso/dynlink.c` (M4-M10). RUNPATH stands in for RPATH when
both are present, and either serves every object that was needed through its owner. musl prints strerror of whatever call
failed last, so errno is kept like a variable of the process. What becomes of a file once it is open is musl_files.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from analyzers.facts import ElfFacts, Kind
from analyzers.finding import Attempt, Outcome, show
from analyzers.loader.process import Process
from analyzers.rootfs import Node, Resolution
from analyzers.trail import attempt, show_path

STRERROR = {
    "": "No error information",
    "EACCES": "Permission denied",
    "EBUSY": "Resource busy",
    "EINVAL": "Invalid argument",
    "EISDIR": "Is a directory",
    "ELOOP": "Symbolic link loop",
    "ENAMETOOLONG": "Filename too long",
    "ENOENT": "No such file or directory",
    "ENOEXEC": "Exec format error",
    "ENOTDIR": "Not a directory",
    "ENXIO": "No such device or address",
    "EPERM": "Operation not permitted",
}
"""musl's words (`src/errno/__strerror.h`), which are not glibc's."""
DEFAULT_PATH = b"/lib:/usr/local/lib:/usr/lib"
SHOWN_ATTEMPTS = 64
NAME_MAX = 255
_BUFFER = 2 * NAME_MAX + 2
"""A joined path that does not fit is passed over without a word, and so is an origin."""
_CONTINUES = frozenset({"ENOENT", "ENOTDIR", "EACCES", "ENAMETOOLONG"})
_MAX_PROBES = 200_000
"""Places looked at in one start; an image that needs more was made to keep us busy."""
_TTY = b"dev/tty"


class Object:
    """A dso of the process: what dynlink.c keeps of it for searching."""

    __slots__ = (
        "attempts", "facts", "mapped_by_kernel", "name", "needed_by", "node", "origin", "requested", "run_path", "run_path_tag",
        "short_name", "whose",
    )  # fmt: skip

    def __init__(
        self, name: bytes, node: Node, facts: ElfFacts, *, requested: bytes = b"", needed_by: Object | None = None
    ) -> None:
        self.name = name
        """The path it was opened under."""
        self.node = node
        self.facts = facts
        self.requested = requested or name
        self.needed_by = needed_by
        self.short_name: bytes | None = None
        """The file name a search found it under; None for what was asked for by path."""
        self.mapped_by_kernel = False
        self.run_path = facts.rpath if facts.runpath is None else facts.runpath
        self.run_path_tag = "DT_RPATH" if facts.runpath is None else "DT_RUNPATH"
        self.origin = ""
        self.whose = ""
        self.attempts: tuple[Attempt, ...] = ()

    @property
    def shown(self) -> str:
        return show(self.name) if self.name.startswith(b"/") else show_path(self.node.path)


class Search(Enum):
    """How one list of directories ended without a file."""

    NOTHING = -1
    """The next list is looked at."""
    STOP = -2
    """An error that ends the search for this name (M8)."""


class Opened(NamedTuple):
    """A file descriptor, and the path it was opened under."""

    path: bytes
    node: Node


class Trail:
    """The attempts of one search, at most SHOWN_ATTEMPTS; the last one is always kept."""

    __slots__ = ("attempts",)

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def add(self, tried: Attempt) -> None:
        if len(self.attempts) == SHOWN_ATTEMPTS:
            self.attempts.pop()
        self.attempts.append(tried)


class Searcher:
    """The part of the loader's state that searches share: environment, path file, errno."""

    def __init__(self, process: Process, *, loader_name: bytes, path_file: bytes, library_path: bytes | None) -> None:
        self.process = process
        self.loader_name = loader_name
        """ldso.name: PT_INTERP as written, or the loader's argv[0]."""
        self.path_file = path_file
        """As compiled in: /etc/ld-musl-ARCH.path."""
        self.library_path = library_path
        self.errno = ""
        self.unknown = ""
        """The first thing that could not be seen."""
        self.hangs = ""
        """The FIFO whose writer it waits for, for ever."""
        self._system_path: bytes | None = None
        self._system_origin = "default directory"
        self._run_paths: dict[int, bytes | None] = {}
        self._probes = 0

    def open_path(self, path: bytes, origin: str, trail: Trail) -> Opened | None:
        """A name with a slash, as it is (M9)."""
        node = self._open(path, origin, "", trail)
        return None if node is None else Opened(path, node)

    def search(self, name: bytes, needed_by: Object | None, trail: Trail) -> tuple[Opened | None, str, str]:
        """A bare name: (what was opened, the source of the directory, whose run path it was) (M4)."""
        found: Opened | Search = Search.NOTHING
        origin, whose = "LD_LIBRARY_PATH", ""
        if self.library_path is not None and not self.process.secure:
            found = self._path_open(name, self.library_path, origin, "", trail)
        elif self.library_path:
            detail = "the program gains privileges"
            trail.add(Attempt(origin, show(self.library_path), Outcome.SKIPPED, detail=detail))
        asking = needed_by
        while found is Search.NOTHING and asking is not None:
            origin, whose = asking.run_path_tag, "" if asking is needed_by else asking.shown
            run_path = self._run_path(asking, whose, trail)
            if run_path is not None:
                found = self._path_open(name, run_path, origin, whose, trail)
            asking = asking.needed_by
        if found is Search.NOTHING:
            directories = self._system_directories(trail)
            origin, whose = self._system_origin, ""
            found = self._path_open(name, directories, origin, "", trail)
        return (None, "", "") if isinstance(found, Search) else (found, origin, whose)

    def _path_open(self, name: bytes, path: bytes, origin: str, whose: str, trail: Trail) -> Opened | Search:
        for directory in split_path(path):
            self._probes += 1
            if self._probes > _MAX_PROBES:
                self.unknown = self.unknown or f"more than {_MAX_PROBES} places to look at"
                return Search.STOP
            joined = directory + b"/" + name
            if len(joined) >= _BUFFER:
                detail = f"musl passes over a path of {_BUFFER} bytes or more"
                trail.add(Attempt(origin, show(joined), Outcome.SKIPPED, whose=whose, detail=detail))
                continue
            node = self._open(joined, origin, whose, trail)
            if node is not None:
                return Opened(joined, node)
            if self.errno not in _CONTINUES:
                return Search.STOP
        return Search.NOTHING

    def _open(self, path: bytes, origin: str, whose: str, trail: Trail) -> Node | None:
        """open(path, O_RDONLY) with the permissions of the process; errno is set where it fails."""
        process = self.process
        found = process.rootfs.resolve(path, cwd=process.cwd, creds=process.creds)
        error, outcome = self._open_error(found)
        if found.unknown and not self.unknown:
            self.unknown = f"a layer that was not wholly read may hold {show_path(path)}"
        tried = attempt(process.rootfs, origin, path, found, outcome)
        if whose:
            tried = Attempt(tried.origin, tried.path, tried.outcome, whose, tried.detail, tried.layer)
        trail.add(tried)
        if error:
            self.errno = error
            return None
        return found.node

    def _open_error(self, found: Resolution) -> tuple[str, Outcome | None]:
        """errno, and the outcome where the path walk alone does not tell it."""
        node = found.node
        if node is None:
            return found.error, None
        if not self.process.rootfs.may_read(node, self.process.creds):
            return "EACCES", Outcome.DENIED
        kind = node.entry.kind
        if kind == Kind.FIFO:
            self.hangs = show_path(node.path)
            return "EINTR", Outcome.UNUSABLE
        if kind in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
            # The runtime's own devices may be opened (/dev/tty needs a terminal); any other is refused by the device cgroup.
            if self.process.rootfs.layer_of(node) is not None:
                return "EPERM", Outcome.DENIED
            return ("ENXIO", Outcome.UNUSABLE) if node.path == _TTY else ("", None)
        return "", Outcome.DIRECTORY if kind == Kind.DIRECTORY else None

    # -- run paths --

    def _run_path(self, owner: Object, whose: str, trail: Trail) -> bytes | None:
        """What fixup_rpath makes of the owner's run path; None where all of it is ignored (M10)."""
        raw = owner.run_path
        if raw is None or b"$" not in raw:
            return raw
        if id(owner) in self._run_paths and self._run_paths[id(owner)] is not None:
            return self._run_paths[id(owner)]
        expanded, ignored = self._expand(owner, raw)
        self._run_paths[id(owner)] = expanded
        if expanded is None:
            trail.add(Attempt(owner.run_path_tag, show(raw), Outcome.SKIPPED, whose=whose, detail=ignored))
        return expanded

    def _expand(self, owner: Object, raw: bytes) -> tuple[bytes | None, str]:
        pieces = raw.split(b"$")
        if not all(piece.startswith((b"ORIGIN", b"{ORIGIN}")) for piece in pieces[1:]):
            return None, "musl ignores all of it, because a $ in it is not $ORIGIN"
        secure = self.process.secure
        if owner.mapped_by_kernel:
            if secure:
                return None, "musl does not expand $ORIGIN of a program that gains privileges"
            if self.process.rootfs.resolve(b"/proc").node is None:
                self.errno = "ENOENT"
                return None, "there is no /proc to learn $ORIGIN from"
            path = b"/" + owner.node.path
            if len(path) >= _BUFFER:
                return None, f"musl has room for {_BUFFER} bytes of /proc/self/exe"
        else:
            path = owner.name
        if secure and not path.startswith(b"/"):
            return None, "its $ORIGIN is relative, and the program gains privileges"
        directory, slash, _ = path.rpartition(b"/")
        origin = directory if slash else b"."
        rest = [piece[8:] if piece.startswith(b"{") else piece[6:] for piece in pieces[1:]]
        return origin.join([pieces[0], *rest]), ""

    # -- the system path --

    def _system_directories(self, trail: Trail) -> bytes:
        """The path file's content, or the default; read once, when first needed (M6)."""
        if self._system_path is None:
            self._system_path = self._read_path_file(trail)
        elif not self._system_path:
            trail.add(Attempt(self._system_origin, show(self._path_file()), Outcome.SKIPPED, detail="it leaves no directory"))
        return self._system_path

    def _path_file(self) -> bytes:
        """The compiled-in name below PT_INTERP's directory's parent."""
        prefix = b""
        if self.loader_name.startswith(b"/"):
            prefix = self.loader_name.rpartition(b"/")[0].rpartition(b"/")[0]
            if len(prefix) >= 4096:
                prefix = b""
        return prefix + self.path_file

    def _read_path_file(self, trail: Trail) -> bytes:
        path = self._path_file()
        looked = Trail()
        node = self._open(path, "musl path file", "", looked)
        if node is None and self.errno == "ENOENT":
            return DEFAULT_PATH
        self._system_origin = "musl path file"
        tried = looked.attempts[-1]
        content = b""
        if node is None:
            tried = _explained(tried, "it cannot be opened, so that no directory is left")
        elif node.entry.kind == Kind.DIRECTORY:
            self.errno = "EISDIR"
            tried = _explained(tried, "it is a directory, so that no directory is left")
        elif node.entry.size:
            text = self.process.rootfs.text(node)
            if text is None:
                self.unknown = self.unknown or f"{show_path(node.path)} was not read"
                tried = Attempt(tried.origin, tried.path, Outcome.UNREADABLE, layer=tried.layer)
            content = (text or b"").partition(b"\0")[0]
        if not any(split_path(content)):
            trail.add(tried if tried.detail else _explained(tried, "it is empty, so that no directory is left"))
        return content


def _explained(tried: Attempt, detail: str) -> Attempt:
    return Attempt(tried.origin, tried.path, tried.outcome, tried.whose, detail, tried.layer)


def split_path(path: bytes) -> Iterator[bytes]:
    """Elements between colons and newlines; empty ones mean nothing (M7)."""
    for line in path.split(b"\n"):
        for element in line.split(b":"):
            if element:
                yield element


def split_preload(value: bytes) -> Iterator[bytes]:
    """Names between white space and colons; a separator at the end leaves an empty name behind (M29)."""
    words = value.translate(bytes.maketrans(b"\t\n\v\f\r:", b"      ")).split(b" ")
    yield from (word for word in words if word)
    if value and not words[-1]:
        yield b""


def first_value(env: Sequence[bytes], name: bytes) -> bytes | None:
    """getenv: the first of duplicates (C9)."""
    return next((item[len(name) + 1 :] for item in env if item.startswith(name + b"=")), None)
