"""What notes and the small segments tell: build id, oldest kernel, ISA level, dlopen wishes, stack, TLS, Go.

Numbers in notes are bounded by the segment that holds them (hostile 88). Mirrors elf/dl-load.c's note walks, the
x86-64 psABI's property array, and Go's debug/buildinfo (R41).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from analyzers.elf.memory import PT_LOAD, FileBytes
from analyzers.facts import Segment

PT_INTERP, PT_NOTE, PT_TLS = 3, 4, 7
PT_GNU_STACK, PT_GNU_RELRO, PT_GNU_PROPERTY = 0x6474E551, 0x6474E552, 0x6474E553
PF_X, PF_W = 1, 2
NT_GNU_ABI_TAG, NT_GNU_BUILD_ID, NT_GNU_PROPERTY = 1, 3, 5
NT_FDO_DLOPEN = 0x407C0C0A
GNU_PROPERTY_X86_ISA_1_NEEDED = 0xC0008002
X86 = frozenset({3, 6, 62})
NOTE_BYTES = 1 << 20
NOTE_LIMIT = 1_024
NOTE_SEGMENTS = 32
INTERP_BYTES = 4_096
GO_MAGIC = b"\xff Go buildinf:"
GO_WINDOW = 1 << 20
"""So much of the data is searched for Go's build information, which the linker puts first."""
GO_WINDOWS = 4


class Notes(NamedTuple):
    """What the notes of one file said."""

    abi_tag: tuple[int, int, int, int] | None = None
    build_id: bytes = b""
    x86_isa_needed: int = 0
    dlopen: tuple[bytes, ...] = ()


class Interp(NamedTuple):
    """PT_INTERP as the kernel reads it: by file offset, up to the first NUL (K14)."""

    path: bytes | None = None
    terminated: bool = True
    size: int = 0


def read_interp(file: FileBytes, segments: tuple[Segment, ...], defects: set[str]) -> Interp:
    segment = next((segment for segment in segments if segment.type == PT_INTERP), None)
    if segment is None:
        return Interp()
    data = file.read(segment.offset, min(segment.filesz, INTERP_BYTES))
    last = file.read(segment.offset + segment.filesz - 1, 1) if segment.filesz > INTERP_BYTES else data[segment.filesz - 1 :]
    terminated = last == b"\0"
    if not 2 <= segment.filesz <= INTERP_BYTES or not terminated:
        defects.add("bad-interp")
    return Interp(data.partition(b"\0")[0], terminated, segment.filesz)


def read_notes(file: FileBytes, segments: tuple[Segment, ...], machine: int, little: bool, defects: set[str]) -> Notes:
    order: Literal["little", "big"] = "little" if little else "big"
    abi_tag: tuple[int, int, int, int] | None = None
    build_id, isa, count = b"", 0, 0
    dlopen: list[bytes] = []
    for segment in note_segments(segments, defects):
        align = 8 if segment.align == 8 else 4
        data = file.read(segment.offset, min(segment.filesz, NOTE_BYTES))
        at = 0
        while at + 12 <= len(data):
            count += 1
            if count > NOTE_LIMIT:
                defects.add("note-limit")
                break
            name_size, size, kind = (int.from_bytes(data[at + step : at + step + 4], order) for step in (0, 4, 8))
            begin = at + 12 + name_size
            begin += -begin % align
            if begin + size > len(data):
                defects.add("bad-note")
                break
            owner, payload = data[at + 12 : at + 12 + name_size], data[begin : begin + size]
            at = begin + size + -size % align
            if owner == b"GNU\0":
                if kind == NT_GNU_ABI_TAG and size >= 16:
                    os, major, minor, patch = (int.from_bytes(payload[step : step + 4], order) for step in (0, 4, 8, 12))
                    abi_tag = (os, major, minor, patch)
                elif kind == NT_GNU_BUILD_ID:
                    build_id = payload[:64]
                elif kind == NT_GNU_PROPERTY and machine in X86:
                    isa |= isa_needed(payload, align, order)
            elif owner == b"FDO\0" and kind == NT_FDO_DLOPEN:
                text = payload.rstrip(b"\0")
                if text not in dlopen:
                    dlopen.append(text)
    return Notes(abi_tag, build_id, isa, tuple(dlopen))


def note_segments(segments: tuple[Segment, ...], defects: set[str]) -> list[Segment]:
    found = [segment for segment in segments if segment.type in (PT_NOTE, PT_GNU_PROPERTY)]
    if len(found) > NOTE_SEGMENTS:
        defects.add("note-limit")
    return found[:NOTE_SEGMENTS]


def isa_needed(properties: bytes, align: int, order: Literal["little", "big"]) -> int:
    at = needed = 0
    while at + 8 <= len(properties):
        kind, size = int.from_bytes(properties[at : at + 4], order), int.from_bytes(properties[at + 4 : at + 8], order)
        if kind == GNU_PROPERTY_X86_ISA_1_NEEDED and size == 4:
            needed |= int.from_bytes(properties[at + 8 : at + 12], order)
        at += 8 + size
        at += -at % align
    return needed


def stack_executable(segments: tuple[Segment, ...]) -> bool | None:
    found = None
    for segment in segments:
        if segment.type == PT_GNU_STACK:
            found = bool(segment.flags & PF_X)
    return found


def read_tls(segments: tuple[Segment, ...]) -> tuple[int, int] | None:
    """The last PT_TLS with any memory, as in _dl_map_object_from_fd."""
    found = None
    for segment in segments:
        if segment.type == PT_TLS and segment.memsz:
            found = (segment.memsz, segment.align)
    return found


def go_windows(segments: tuple[Segment, ...]) -> list[tuple[int, int]]:
    """The (offset, size) where linkers put Go's build information: the beginning of the data, which in a file linked with
    a relocation-read-only part comes after that part."""
    windows = []
    for segment in segments:
        if segment.type == PT_LOAD and segment.flags & PF_W and segment.filesz:
            windows.append((segment.offset, min(segment.filesz, GO_WINDOW)))
        elif segment.type == PT_GNU_RELRO and segment.filesz:
            windows.append((segment.offset + segment.filesz, GO_WINDOW))
        if len(windows) == GO_WINDOWS:
            break
    return windows
