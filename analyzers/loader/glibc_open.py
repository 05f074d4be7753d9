"""What glibc makes of a file it has found: opened, refused for good, passed over, or mapped.

Mirrors `open_verify` and `_dl_map_object_from_fd` of `elf/dl-load.c` (G30-G34, G56), their checks in their order. Keeps
`errno` as the loader would have it: the last one left over stands in the message of a library that is not found (G18).
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.facts import ElfFacts, Kind
from analyzers.finding import Attempt, Outcome, Reason
from analyzers.loader.linkmap import Crashed, Signalled, Undecided
from analyzers.loader.machines import Machine, fits
from analyzers.loader.process import Process
from analyzers.rootfs import Node
from analyzers.trail import attempt, show_path

_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DF_1_PIE = 0x08000000
_GNU_OSABI, _GNU_ABI_MAX = 3, 4
_FAST_HEADER = {64: 832, 32: 512}
_UNREADABLE = frozenset(("bad-dynamic:PT_DYNAMIC", "bad-dynamic:DT_STRTAB", "unterminated-dynamic"))


class Opened(NamedTuple):
    """A file that open_verify accepts."""

    path: bytes
    node: Node
    facts: ElfFacts


class Files:
    """The files of the image as one loader opens them."""

    def __init__(self, process: Process, loader: ElfFacts, machine: Machine, release: tuple[int, int]) -> None:
        self._process = process
        self._rootfs = process.rootfs
        self._loader = loader
        self._machine = machine
        self._release = release
        self.errno = ""
        self.other_class = False
        """A file of the other ELF class was passed over since this was last reset."""
        self.denied = False
        """A file that is there may not be read; likewise."""

    def stat_directory(self, path: bytes) -> bool:
        """Whether stat says that it is a directory; a failure leaves its errno."""
        found = self._rootfs.resolve(path, cwd=self._process.cwd, creds=self._process.creds)
        if found.node is None:
            self.errno = found.error
            return False
        return found.node.entry.kind == Kind.DIRECTORY

    def open(self, path: bytes, origin: str, whose: str = "") -> tuple[Opened | None, Attempt]:
        """open_verify: the file, or None for one to pass over. Raises Signalled for one that ends the search."""
        found = self._rootfs.resolve(path, cwd=self._process.cwd, creds=self._process.creds)
        if found.unknown:
            raise Undecided(f"a layer that was not wholly read may hold {show_path(path)}")
        node = found.node
        if node is None:
            self.errno = found.error
            if found.error == "EACCES":
                behind = self._rootfs.resolve(path, cwd=self._process.cwd).node
                self.denied |= behind is not None and behind.entry.kind == Kind.FILE
            return None, _whose(attempt(self._rootfs, origin, path, found), whose)
        if not self._rootfs.may_read(node, self._process.creds):
            self.errno = "EACCES"
            self.denied = True
            return None, _whose(attempt(self._rootfs, origin, path, found, Outcome.DENIED), whose)
        self.errno = ""

        def tried(outcome: Outcome, detail: str = "") -> Attempt:
            return _whose(attempt(self._rootfs, origin, path, found, outcome, detail), whose)

        refusal = self._refuse(path, node)
        if refusal is not None:
            outcome, text, errno = refusal
            raise Refused(path, text, errno, tried(outcome, text.decode()))
        facts = self._rootfs.elf(node)
        if facts is None:  # _refuse has told every other case
            raise Undecided(f"{show_path(node.path)} was not read")
        if facts.ident[4] != (2 if self._loader.bits == 64 else 1):
            self.other_class = True
            self.errno = "ENOENT"
            return None, tried(Outcome.WRONG_CLASS, f"it is a {facts.bits} bit file")
        if not self._same_order(facts) or not fits(self._loader, facts):
            self.errno = "ENOENT"
            return None, tried(Outcome.WRONG_MACHINE, f"it is for machine {facts.machine}")
        if not self._kernel_fits(facts):
            self.errno = "ENOENT"
            version = ".".join(map(str, (facts.abi_tag or ())[1:]))
            return None, tried(Outcome.UNUSABLE, f"it wants Linux {version}")
        return Opened(path, node, facts), tried(Outcome.FOUND)

    def _refuse(self, path: bytes, node: Node) -> tuple[Outcome, bytes, str] | None:
        """(outcome, words, errno) of a file that ends the process; None for one to use or to pass over (G30)."""
        kind = node.entry.kind
        if kind == Kind.DIRECTORY:
            return Outcome.DIRECTORY, b"cannot read file data", "EISDIR"
        if kind != Kind.FILE:
            raise Undecided(f"{show_path(node.path)} is not a regular file")
        facts = self._rootfs.elf(node)
        if facts is None or not facts.ident:
            if self._rootfs.unread(node):
                raise Undecided(f"{show_path(node.path)} was not wholly read")
            short = node.entry.size < (64 if self._loader.bits == 64 else 52)
            if short:
                return Outcome.TOO_SHORT, b"file too short", ""
            return Outcome.NOT_ELF, b"invalid ELF header", ""
        if facts.file_size < (64 if self._loader.bits == 64 else 52):
            return Outcome.TOO_SHORT, b"file too short", ""
        text = self._bad_header(facts)
        return None if not text else (Outcome.UNUSABLE, text, "")

    def _bad_header(self, facts: ElfFacts) -> bytes:
        if facts.ident[4] != (2 if self._loader.bits == 64 else 1):
            return b""
        text = self._bad_ident(facts.ident)
        if text:
            return text if self._looks_fitting(facts) else b""
        if facts.version != 1:
            return b"ELF file version does not match current one"
        if not fits(self._loader, facts):
            return b""
        if facts.type not in (_ET_DYN, _ET_EXEC):
            return b"only ET_DYN and ET_EXEC can be loaded"
        if facts.phentsize != (56 if self._loader.bits == 64 else 32):
            return b"ELF file's phentsize not the expected size"
        if facts.phoff + facts.phnum * facts.phentsize > facts.file_size:
            return b"cannot read file data"
        return b""

    def _bad_ident(self, ident: bytes) -> bytes:
        if ident[5] != (1 if self._loader.little else 2):
            return b"ELF file data encoding not " + (b"little-endian" if self._loader.little else b"big-endian")
        if ident[6] != 1:
            return b"ELF file version ident does not match current one"
        if ident[7] not in {0, _GNU_OSABI, self._machine.extra_osabi}:
            return b"ELF file OS ABI invalid"
        if not self._abi_version_fits(ident[7], ident[8]):
            return b"ELF file ABI version invalid"
        return b"nonzero padding in e_ident" if any(ident[9:16]) else b""

    def _same_order(self, facts: ElfFacts) -> bool:
        return facts.ident[5] == (1 if self._loader.little else 2)

    def _looks_fitting(self, facts: ElfFacts) -> bool:
        """Whether the file is for this machine as far as this machine can read it: a library of another machine is passed over
        even where its byte order or its OS ABI is not ours (seen on Debian's loaders of 2.31 to 2.41).
        """
        if facts.little == self._loader.little:
            return fits(self._loader, facts)
        return self._loader.machine == int.from_bytes(facts.machine.to_bytes(2, "little"), "big")

    def _abi_version_fits(self, osabi: int, version: int) -> bool:
        if self._loader.machine == 8 and osabi == 0:
            return version < 6
        return version == 0 or (osabi == _GNU_OSABI and version < _GNU_ABI_MAX)

    def _kernel_fits(self, facts: ElfFacts) -> bool:
        """NT_GNU_ABI_TAG, looked at up to 2.35 (G56)."""
        if self._release >= (2, 36) or facts.abi_tag is None:
            return True
        return facts.abi_tag[0] == 0 and facts.abi_tag[1:3] <= self._process.profile.kernel

    def check_mapping(self, name: bytes, opened: Opened, *, program: bool = False) -> None:
        """_dl_map_object_from_fd's refusals, which name what was asked for (G31). Raises Signalled or Crashed.

        `program`: ld.so, run as a command, maps the program itself.
        """
        facts = opened.facts
        page = self._process.profile.page_size
        loads = [segment for segment in facts.segments if segment.type == _PT_LOAD]
        for segment in loads:
            if self._release < (2, 35) and segment.align & (page - 1):
                raise Signalled(name, b"ELF load command alignment not page-aligned")
            unit = page if self._release >= (2, 35) else max(segment.align, 1)
            if (segment.vaddr - segment.offset) & (unit - 1):
                words = b"page-aligned" if self._release >= (2, 35) else b"properly aligned"
                raise Signalled(name, b"ELF load command address/offset not " + words)
        if not loads:
            raise Signalled(name, b"object file has no loadable segments")
        if facts.type != _ET_DYN and not program:
            raise Signalled(name, b"cannot dynamically load executable")
        dynamic = [segment for segment in facts.segments if segment.type == _PT_DYNAMIC]
        empty = any(not segment.filesz for segment in dynamic)
        if (
            not dynamic
            and facts.type == _ET_DYN
            or empty
            and (self._release >= (2, 35) or all(not segment.filesz for segment in dynamic))
        ):
            raise Signalled(name, b"object file has no dynamic section")
        self._check_bytes(opened, page)
        if facts.dt_flags_1 & _DF_1_PIE and self._release >= (2, 30) and not program:
            raise Signalled(name, b"cannot dynamically load position-independent executable")

    def _check_bytes(self, opened: Opened, page: int) -> None:
        """A page past the end of the file can be mapped; touching it is a bus error."""
        facts = opened.facts
        readable = -(-facts.file_size // page) * page
        for segment in facts.segments:
            if segment.type == _PT_LOAD and segment.filesz and segment.offset + segment.filesz > readable:
                raise Crashed("SIGBUS", f"{show_path(opened.path)} is cut off in the middle of a segment", opened.path)
        if _UNREADABLE & set(facts.defects):
            raise Crashed("SIGSEGV", f"the dynamic section of {show_path(opened.path)} leads nowhere", opened.path)
        if self._rootfs.unread(opened.node):
            raise Undecided(f"{show_path(opened.node.path)} was not wholly read")


class Refused(Signalled):
    """A file that ends the search, with the attempt that met it."""

    def __init__(self, path: bytes, text: bytes, errno: str, tried: Attempt) -> None:
        super().__init__(path, text, errno, Reason.OTHER, path)
        self.attempt = tried


def _whose(tried: Attempt, whose: str) -> Attempt:
    return Attempt(tried.origin, tried.path, tried.outcome, whose, tried.detail, tried.layer) if whose else tried
