"""This machine's own files as an image of one layer, their facts read when they are asked for.

Nothing is copied: entries come from a walk over the directories that loaders look into, contents from the files themselves.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from analyzers.elf import ElfResult, read_elf
from analyzers.entries import Entries
from analyzers.facts import ElfFacts, Entry, Kind, LayerFacts, SymbolFacts

DIRECTORIES = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/lib")
_LIMIT = 256 << 20


class Contents:
    """ELF files by a digest of their path, read once."""

    def __init__(self) -> None:
        self.paths: dict[bytes, Path] = {}
        self._read: dict[bytes, ElfResult | None] = {}

    def add(self, path: bytes) -> bytes:
        digest = hashlib.sha256(path).digest()
        self.paths[digest] = Path(os.fsdecode(b"/" + path))
        return digest

    def read(self, digest: bytes) -> ElfResult | None:
        if digest not in self._read:
            path = self.paths.get(digest)
            data = b"" if path is None or path.stat().st_size > _LIMIT else path.read_bytes()
            self._read[digest] = read_elf(data) if data.startswith(b"\x7fELF") else None
        return self._read[digest]


class _Elf(dict[bytes, ElfFacts]):
    def __init__(self, contents: Contents) -> None:
        self.contents = contents

    def __bool__(self) -> bool:
        return True

    def get(self, key: bytes, default: Any = None) -> Any:
        read = self.contents.read(key)
        return default if read is None else read.facts


class _Symbols(dict[bytes, SymbolFacts]):
    def __init__(self, contents: Contents) -> None:
        self.contents = contents

    def get(self, key: bytes, default: Any = None) -> Any:
        read = self.contents.read(key)
        return default if read is None or read.symbols is None else read.symbols


def machine_layer(without: frozenset[bytes] = frozenset()) -> LayerFacts:
    """The layer; paths in `without` are left out, as if they had been removed."""
    contents = Contents()
    entries: dict[bytes, Entry] = {}
    texts: dict[bytes, bytes] = {}

    def add(path: bytes) -> None:
        if path in without or path in entries:
            return
        info = os.lstat(b"/" + path)
        mode = info.st_mode & 0o7777
        if stat.S_ISLNK(info.st_mode):
            entries[path] = Entry(path, Kind.SYMLINK, mode, 0, 0, 0, os.readlink(b"/" + path))
        elif stat.S_ISDIR(info.st_mode):
            entries[path] = Entry(path, Kind.DIRECTORY, mode, info.st_uid, info.st_gid, 0)
        elif stat.S_ISREG(info.st_mode):
            # Hard links keep one identity: all get the digest and, through it, the facts of one path.
            digest = contents.add(path)
            entries[path] = Entry(path, Kind.FILE, mode, info.st_uid, info.st_gid, info.st_size, sha256=digest)

    for name in os.listdir(b"/"):
        if os.path.islink(b"/" + name):
            add(name)
    for path in (b"usr", b"usr/lib", b"usr/local", b"usr/local/lib", b"etc", b"etc/ld.so.cache"):
        if os.path.lexists(b"/" + path):
            add(path)
    for directory in map(os.fsencode, DIRECTORIES):
        if not os.path.isdir(b"/" + directory):
            continue
        if os.path.islink(b"/" + directory):
            add(directory)
            continue
        for folder, folders, files in os.walk(b"/" + directory):
            add(folder[1:])
            for name in folders:
                add(os.path.join(folder, name)[1:])
            for name in files:
                if b".so" in name or not directory.startswith(b"usr/l"):
                    add(os.path.join(folder, name)[1:])
    cache = Path("/etc/ld.so.cache")
    if cache.exists():
        texts[b"etc/ld.so.cache"] = cache.read_bytes()
    return LayerFacts(
        diff_id="sha256:machine", size_bytes=0, entries=Entries(entries.values()), elf=_Elf(contents), symbols=_Symbols(contents),
        texts=texts,
    )  # fmt: skip
