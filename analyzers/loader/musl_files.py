"""What musl's map_library makes of an open file: it is mapped, refused with an errno, or the process dies of it.

Mirrors map_library in `ldso/dynlink.c` (M14). Neither magic, class, byte order, machine nor ABI are looked at, so a foreign
file fails by what its bytes mean to this loader. The first file found is final. A file without the ELF magic has no facts; it
is taken for one that musl refuses, although with the right bytes behind a wrong magic musl would map it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analyzers.facts import ElfFacts, Kind
from analyzers.finding import Outcome
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs
from analyzers.trail import show_path

_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_STRTAB, _DT_SYMTAB = 5, 6
_FOLLOWED = ("STRTAB", "SYMTAB", "HASH", "GNU_HASH", "VERSYM", "REL", "RELA", "JMPREL", "RELR", "NEEDED", "RPATH", "RUNPATH")
_DEFECTS = frozenset({f"bad-dynamic:DT_{name}" for name in _FOLLOWED} | {"unterminated-dynamic", "bad-symbol-name"})
"""Defects of places that musl follows without looking; what it finds there nobody can tell."""


class Mapped(NamedTuple):
    """At most one of `error`, `crash` and `unknown` is set; `facts` where it was mapped."""

    facts: ElfFacts | None = None
    error: str = ""
    crash: str = ""
    unknown: str = ""
    outcome: Outcome = Outcome.FOUND
    detail: str = ""


def map_file(rootfs: Rootfs, node: Node, host: ElfFacts, taken: Sequence[tuple[int, int]], profile: HostProfile) -> Mapped:
    """`host` is the loader itself; `taken` are the fixed address ranges in use."""
    kind = node.entry.kind
    if kind == Kind.DIRECTORY:
        return Mapped(error="EISDIR", outcome=Outcome.DIRECTORY)
    if kind != Kind.FILE:
        return _refused(Outcome.NOT_ELF, "a device")
    if node.entry.size < (64 if host.bits == 64 else 52):
        return _refused(Outcome.TOO_SHORT, f"{node.entry.size} bytes")
    facts = rootfs.elf(node)
    if rootfs.unread(node):
        return Mapped(unknown=f"{show_path(node.path)} was not wholly read", outcome=Outcome.UNREADABLE)
    if facts is None:
        return _refused(Outcome.NOT_ELF)
    return _headers(node, facts, host) or _segments(facts, taken, profile) or _dynamic(node, facts) or Mapped(facts)


def _refused(outcome: Outcome, detail: str = "") -> Mapped:
    return Mapped(error="ENOEXEC", outcome=outcome, detail=detail)


def _headers(node: Node, facts: ElfFacts, host: ElfFacts) -> Mapped | None:
    if (facts.bits not in (0, host.bits) or facts.little != host.little) and facts.ehsize != (64 if facts.bits == 64 else 52):
        unknown = f"the class or byte order that {show_path(node.path)} names is not that of its header"
        return Mapped(unknown=unknown, outcome=Outcome.UNUSABLE)
    if facts.bits and facts.bits != host.bits:
        return _refused(Outcome.WRONG_CLASS, f"{facts.bits} bit, machine {facts.machine}")
    if facts.little != host.little:
        return _refused(Outcome.WRONG_MACHINE, f"the other byte order, machine {facts.machine}")
    if facts.type not in (_ET_EXEC, _ET_DYN):
        return _refused(Outcome.UNUSABLE, f"e_type {facts.type} is neither an executable nor a shared object")
    if "truncated-program-headers" in facts.defects:
        return _refused(Outcome.UNUSABLE, "program headers beyond the end of the file")
    if facts.phnum and not facts.segments:
        return Mapped(unknown=f"e_phentsize of {show_path(node.path)} is {facts.phentsize}", outcome=Outcome.UNUSABLE)
    dynamic = [segment for segment in facts.segments if segment.type == _PT_DYNAMIC]
    if not dynamic or not dynamic[-1].vaddr:
        return _refused(Outcome.UNUSABLE, "no dynamic section")
    return None


def _segments(facts: ElfFacts, taken: Sequence[tuple[int, int]], profile: HostProfile) -> Mapped | None:
    loads = [segment for segment in facts.segments if segment.type == _PT_LOAD]
    if not loads:
        return Mapped(unknown="a library without a segment to load", outcome=Outcome.UNUSABLE)
    page = profile.page_size
    low, high = fixed_range(facts, page)
    if facts.type == _ET_EXEC and low and any(low < end and start < high for start, end in taken):
        return Mapped(error="EBUSY", outcome=Outcome.UNUSABLE, detail="its fixed addresses are those of another object")
    page_end = -(-facts.file_size // page) * page
    for segment in loads:
        if segment.filesz and (segment.vaddr - segment.offset) % page:
            return _crash("SIGSEGV", f"a segment's address and offset do not agree modulo {page} bytes")
    for segment in loads:
        # What is missing of the last page reads as zeros; whole pages beyond the end of the file are addresses only.
        if segment.filesz and segment.offset + segment.filesz > page_end:
            return _crash("SIGBUS", "truncated in the middle of a segment")
    return None


def _dynamic(node: Node, facts: ElfFacts) -> Mapped | None:
    if not facts.dynamic:
        return _crash("SIGSEGV", "its dynamic section is not in the file, as in one that has debug information only")
    if not facts.has_gnu_hash and not facts.has_sysv_hash:
        return _crash("SIGSEGV", "it has no hash table of symbols")
    present = {tag for tag, _ in facts.tags}
    segment = next(each for each in reversed(facts.segments) if each.type == _PT_DYNAMIC)
    cut = segment.offset + (len(facts.tags) + 1) * facts.bits // 4 > facts.file_size
    if present and (cut or not present >= {_DT_STRTAB, _DT_SYMTAB}):
        unknown = f"the dynamic section of {show_path(node.path)} is cut, or names no symbol table"
        return Mapped(unknown=unknown, outcome=Outcome.UNUSABLE)
    bad = next((defect for defect in facts.defects if defect in _DEFECTS), "")
    if bad:
        return Mapped(unknown=f"{show_path(node.path)} is malformed: {bad}", outcome=Outcome.UNUSABLE)
    return None


def _crash(signal: str, detail: str) -> Mapped:
    return Mapped(crash=signal, outcome=Outcome.UNUSABLE, detail=detail)


def fixed_range(facts: ElfFacts, page: int) -> tuple[int, int]:
    """First and last page of the segments, at the addresses they are linked for."""
    loads = [segment for segment in facts.segments if segment.type == _PT_LOAD]
    if not loads:
        return 0, 0
    low = min(segment.vaddr for segment in loads)
    high = max(segment.vaddr + segment.memsz for segment in loads)
    return low // page * page, -(-high // page) * page
