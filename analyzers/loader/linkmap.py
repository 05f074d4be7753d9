"""glibc's view of one loaded object (`struct link_map`), and the ways in which loading one can end.

Mirrors `include/link.h`, `elf/dl-object.c` and `elf/dl-catch.c`. `Signalled` is `_dl_signal_error`: whoever catches it in
glibc catches it here (preloads, auxiliary filters); nobody else ends the process.
"""

from __future__ import annotations

from analyzers.errors import EnoentError
from analyzers.facts import ElfFacts
from analyzers.finding import Reason, show
from analyzers.rootfs import Node

ERRNO = {
    "EPERM": 1,
    "ENOENT": 2,
    "EIO": 5,
    "EACCES": 13,
    "ENOTDIR": 20,
    "EISDIR": 21,
    "EINVAL": 22,
    "ENAMETOOLONG": 36,
    "ELOOP": 40,
}
_STRERROR = {
    "ENOENT": b"No such file or directory",
    "EPERM": b"Operation not permitted",
    "EIO": b"Input/output error",
    "EACCES": b"Permission denied",
    "EINVAL": b"Invalid argument",
}


def strerror(errno: str) -> bytes:
    """ld.so's own __strerror_r, which knows few words (`elf/dl-minimal.c`)."""
    return _STRERROR.get(errno) or b"Error %d" % ERRNO[errno]


class Signalled(EnoentError):
    """`_dl_signal_error (errno, objname, occasion, text)`."""

    def __init__(
        self,
        objname: bytes,
        text: bytes,
        errno: str = "",
        reason: Reason = Reason.OTHER,
        wanted: bytes = b"",
        *,
        immediate: bool = False,
    ) -> None:
        super().__init__(show(objname + b": " + text))
        self.objname = objname
        self.text = text
        self.errno = errno
        """Name of the errno; empty for none."""
        self.reason = reason
        self.wanted = wanted
        self.immediate = immediate
        """Raised where glibc catches nothing."""
        self.by = b""
        """Path of the object that wanted it, as opened; filled in where that is known."""

    def line(self, program: bytes) -> bytes:
        """fatal_error's words, without the line end."""
        about = self.objname + b": " if self.objname else b""
        words = program + b": error while loading shared libraries: " + about + self.text
        return words + b": " + strerror(self.errno) if self.errno else words


class Crashed(EnoentError):
    """The process dies by a signal while it is loaded."""

    def __init__(self, signal: str, why: str, path: bytes) -> None:
        super().__init__(why)
        self.signal = signal
        self.why = why
        self.path = path


class Undecided(EnoentError):
    """Something that decides was not read; the text says what."""


class Mapped:
    """One object of the process; mutable, as a link_map is while the list grows."""

    __slots__ = (
        "facts", "faked", "loader", "name", "names", "needed", "node", "origin", "requested", "rpath", "runpath", "soname_added",
    )  # fmt: skip

    def __init__(
        self, name: bytes, requested: bytes, node: Node | None, facts: ElfFacts, loader: Mapped | None, origin: bytes | None
    ) -> None:
        self.name = name
        """l_name: the path as opened; empty for the program."""
        self.requested = requested
        self.names = {name, requested}
        """l_name and l_libname: what a later request is compared with (G6)."""
        self.node = node
        self.facts = facts
        self.loader = loader
        """Who first asked for it; its run paths serve it too (G10)."""
        self.origin = origin
        """$ORIGIN, None where it cannot be known."""
        self.rpath: list[int] | None = None
        self.runpath: list[int] | None = None
        self.needed: list[Mapped] = []
        """Its direct dependencies in order, filters included (l_initfini before sorting)."""
        self.soname_added = False
        self.faked = False
        """Stands for what was not found, when a search goes on to name everything that is missing."""

    def matches(self, name: bytes) -> bool:
        """_dl_name_match_p."""
        return name in self.names

    def shown(self, program: bytes) -> bytes:
        """DSO_FILENAME."""
        return self.name or program

    @property
    def soname(self) -> bytes | None:
        return self.facts.soname

    @property
    def versioned(self) -> bool:
        """Whether l_versyms is set: it takes a version table and a record that numbers versions."""
        return self.facts.has_versym and bool(self.facts.verneed or self.facts.verdef)
