"""Layers for the judges' tests, written as dictionaries: facts are built directly, no tar and no compiler."""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Mapping

import msgspec

from analyzers.elf import read_elf
from analyzers.entries import Entries
from analyzers.facts import Coverage, ElfFacts, Entry, Kind, LayerFacts, LayerNote, Segment, SymbolFacts, Unread
from analyzers.readers import wants_script, wants_small_text


class Item(msgspec.Struct, frozen=True):
    """One path to be: what kind, whose, how permitted, and its content."""

    kind: Kind = Kind.FILE
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: bytes = b""
    elf: ElfFacts | None = None
    capability: bytes = b""


def file(content: bytes | str = b"x", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Item:
    return Item(Kind.FILE, content.encode() if isinstance(content, str) else content, mode, uid, gid)


def script(content: bytes | str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Item:
    return file(content, mode, uid, gid)


def folder(mode: int = 0o755, uid: int = 0, gid: int = 0) -> Item:
    return Item(Kind.DIRECTORY, mode=mode, uid=uid, gid=gid)


def symlink(target: bytes | str) -> Item:
    return Item(Kind.SYMLINK, mode=0o777, link=target.encode() if isinstance(target, str) else target)


def hardlink(target: bytes | str) -> Item:
    return Item(Kind.HARDLINK, link=target.encode() if isinstance(target, str) else target)


def elf(facts: ElfFacts, mode: int = 0o755, uid: int = 0, gid: int = 0, capability: bytes = b"") -> Item:
    return Item(Kind.FILE, mode=mode, uid=uid, gid=gid, elf=facts, capability=capability)


def elf_facts(
    interp: bytes | None = None,
    *,
    machine: int = 62,
    bits: int = 64,
    type: int = 3,
    little: bool = True,
    file_size: int = 4096,
    **more: object,
) -> ElfFacts:
    """A well-formed program: one segment that covers the file, PT_INTERP where asked."""
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1 if little else 2, 1)) + bytes(9)
    segments = [Segment(1, 5, 0, 0, file_size, file_size, 4096)]
    if interp is not None:
        segments.insert(0, Segment(3, 4, 512, 512, len(interp) + 1, len(interp) + 1, 1))
    values: dict[str, object] = {
        "file_size": file_size,
        "ident": ident,
        "bits": bits,
        "little": little,
        "type": type,
        "machine": machine,
        "version": 1,
        "entry": 0x100,
        "ehsize": 64 if bits == 64 else 52,
        "phoff": 64 if bits == 64 else 52,
        "phentsize": 56 if bits == 64 else 32,
        "phnum": len(segments),
        "segments": tuple(segments),
        "interp": interp,
        "interp_size": 0 if interp is None else len(interp) + 1,
    }
    return ElfFacts(**(values | more))  # type: ignore[arg-type]


_TEXTS = (b"passwd", b"group", b"os-release", b"ld.so.cache", b"ld.so.preload", b"ld.so.conf", b"nsswitch.conf")


_read = functools.lru_cache(maxsize=512)(read_elf)
"""The same loaders and libraries stand in many views."""


def layer(
    items: Mapping[str | bytes, Item | bytes | str],
    *,
    whiteouts: tuple[str, ...] = (),
    opaques: tuple[str, ...] = (),
    unread: tuple[Unread, ...] = (),
    notes: tuple[LayerNote, ...] = (),
    coverage: Coverage = Coverage.FULL,
    parents: bool = True,
    name: str = "",
) -> LayerFacts:
    """Facts of one layer. With `parents` the directories on the way are listed, as real builders list them."""
    wanted = {(k.encode() if isinstance(k, str) else k): (v if isinstance(v, Item) else file(v)) for k, v in items.items()}
    if parents:
        for path in list(wanted):
            while path := path.rpartition(b"/")[0]:
                wanted.setdefault(path, folder())
    entries, elfs, texts, heads, scripts = [], {}, {}, {}, {}
    symbols: dict[bytes, SymbolFacts] = {}
    for path, item in wanted.items():
        size, digest = len(item.content), b""
        if item.content.startswith(b"\x7fELF"):
            digest = hashlib.sha256(item.content).digest()
            read = _read(item.content)
            elfs[digest] = read.facts
            if read.symbols is not None:
                symbols[digest] = read.symbols
        if item.elf is not None:
            size = item.elf.file_size
            digest = hashlib.sha256(msgspec.msgpack.encode(item.elf)).digest()
            elfs[digest] = item.elf
        mode = max(item.mode, 0)
        entries.append(
            Entry(path, item.kind, mode, item.uid, item.gid, size, item.link, capability=item.capability, sha256=digest)
        )
        base = path.rpartition(b"/")[2]
        if item.kind != Kind.FILE:
            continue
        if base in _TEXTS or base.endswith((b".conf", b".path")) or wants_small_text(path, item.content):
            texts[path] = item.content
        if item.content.startswith(b"#!"):
            heads[path] = item.content[:256]
        if wants_script(path, item.content):
            scripts[path] = item.content
    facts = LayerFacts(
        diff_id="",
        size_bytes=sum(entry.size for entry in entries),
        entries=Entries(entries),
        whiteouts=tuple(sorted(each.encode() for each in whiteouts)),
        opaques=tuple(sorted(each.encode() for each in opaques)),
        elf=elfs,
        symbols=symbols,
        texts=texts,
        heads=heads,
        scripts=scripts,
        unread=unread,
        notes=notes,
        coverage=coverage,
    )
    facts.diff_id = "sha256:" + hashlib.sha256((name + repr(sorted(wanted))).encode()).hexdigest()
    return facts


def capability(permitted: int = 1 << 10, *, effective: bool = True) -> bytes:
    """A version 2 `security.capability` attribute (linux/capability.h)."""
    return struct.pack("<IIIII", 0x02000000 | int(effective), permitted & 0xFFFFFFFF, 0, permitted >> 32, 0)
