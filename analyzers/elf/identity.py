"""Whether a file is a dynamic loader or a libc, which one, and what was compiled into it (G1, G2, R40, M61).

Decided by content, never by name: an `ld-linux-x86-64.so.2` may be musl or gcompat's stub. Only files small enough to be
kept whole are looked at (every loader and libc in use is below 3 MiB), and only those whose symbols or headers make it
possible, so ordinary libraries pay for two set look-ups.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from analyzers.facts import LoaderFacts

RELEASE = re.compile(rb"(?:stable|development) release version (\d+\.\d+(?:\.\d+){0,2})")
MUSL_PATH_FILE = re.compile(rb"(/etc/ld-musl-[\w.-]{1,32}\.path)\0")
MUSL_LINKER = re.compile(rb"\0(/[\w./+-]{1,200}/ld-musl-[\w.-]{1,32}\.so\.1)\0")
GCOMPAT_LIBRARY = re.compile(rb"\0([\w./+-]{0,200}libgcompat\.so[\w.]{0,16}) ?\0")
GLIBC_LOADER_NAME = re.compile(rb"\0(ld[\w-]{0,40}\.so\.\d)\0")
MUSL_VERSION = re.compile(rb"\d{1,3}\.\d{1,3}\.\d{1,3}(?:-[\w.-]{1,40})?")
HWCAPS = re.compile(rb"(?:x86-64-v\d|power\d+|z\d+)(?::(?:x86-64-v\d|power\d+|z\d+))*")
"""`_dl_hwcaps_subdirs`, the one string that names them all."""
PATH_BYTES = b"/.+@=~-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TEXT_BYTES = 512
GLIBC_MARK, MUSL_MARK, LIBC_MARK = b"_rtld_global", b"Dynamic Program Loader", b"GNU C Library"
MUSL_TEXTS = (b"No error information", b"-0X+0X 0X-0x+0x 0x")
"""musl's first error string and its printf's sign table: nothing else marks a static program, and a program that neither
prints nor names an errno has no mark at all."""


class Traits(NamedTuple):
    """What decides whether a file may be a loader or carry a libc."""

    soname: bytes | None
    has_interp: bool
    needed: bool
    program: bool
    """Has an entry point and either no dynamic section or the mark of a position-independent program."""
    abi_tag: bool
    exports: frozenset[bytes]
    """Those of `MARKS` that the file exports."""


MARKS = (GLIBC_MARK, b"__libc_start_main", b"stdin", b"gnu_get_libc_version", b"_r_debug")


class Identity(NamedTuple):
    """What the file is to a loader's eye."""

    loader: LoaderFacts | None = None
    libc_version: str = ""
    static_libc: str = ""


def identify(data: bytes, traits: Traits) -> Identity:
    """`data` is the whole file, or nothing where it was too big to be kept: then only notes can tell."""
    soname = traits.soname or b""
    if not data:
        static = traits.program and traits.abi_tag and not (traits.has_interp or traits.needed or soname)
        return Identity(static_libc="glibc" if static else "")
    if GLIBC_MARK in traits.exports:
        return Identity(loader=glibc_loader(data))
    if b"gnu_get_libc_version" in traits.exports and LIBC_MARK in data:
        return Identity(libc_version=release(data))
    if {b"__libc_start_main", b"stdin"} <= traits.exports and MUSL_MARK in data:
        path_file = first_match(MUSL_PATH_FILE, data)
        return Identity(loader=LoaderFacts(family="musl", version=musl_version(data), path_file=path_file))
    if soname.startswith((b"ld-uClibc", b"ld64-uClibc")):
        return Identity(loader=LoaderFacts(family="uclibc"))
    if traits.has_interp or traits.needed:
        return Identity()
    if b"CANNOT LINK EXECUTABLE" in data:
        return Identity(loader=LoaderFacts(family="bionic"))
    if b"libgcompat.so" in data and b"--preload" in data and b"--argv0" in data:
        return Identity(loader=gcompat_stub(data))
    if soname.startswith((b"ld-", b"ld.so", b"ld64.")) or b"_r_debug" in traits.exports:
        return Identity(loader=LoaderFacts(family="unknown"))
    return Identity(static_libc=static_libc(data, traits)) if traits.program and traits.soname is None else Identity()


def static_libc(data: bytes, traits: Traits) -> str:
    if traits.abi_tag or LIBC_MARK in data or b"glibc-ld.so.cache" in data:
        return "glibc"
    return "musl" if any(text in data for text in MUSL_TEXTS) else ""


def release(data: bytes) -> str:
    found = RELEASE.search(data)
    return found[1].decode() if found else ""


def musl_version(data: bytes) -> str:
    found = next((text for text in data.split(b"\0") if MUSL_VERSION.fullmatch(text)), b"")
    return found.decode()


def first_match(pattern: re.Pattern[bytes], data: bytes) -> bytes:
    found = pattern.search(data)
    return found[1] if found else b""


def gcompat_stub(data: bytes) -> LoaderFacts:
    """The three names that gcompat's build compiles into the stub (M52, gcompat `loader/loader.c`)."""
    return LoaderFacts(
        family="gcompat",
        linker=first_match(MUSL_LINKER, data),
        preloaded=first_match(GCOMPAT_LIBRARY, data),
        loader_name=first_match(GLIBC_LOADER_NAME, data),
    )


def glibc_loader(data: bytes) -> LoaderFacts:
    texts = data.split(b"\0")
    dirs = system_dirs(texts)
    return LoaderFacts(
        family="glibc",
        version=release(data),
        system_dirs=dirs,
        cache_path=first_path(texts, b"/ld.so.cache"),
        preload_path=first_path(texts, b"/ld.so.preload"),
        lib_token=lib_token(dirs),
        hwcaps=next((tuple(text.split(b":")) for text in texts if HWCAPS.fullmatch(text)), ()),
    )


def first_path(texts: list[bytes], end: bytes) -> bytes:
    return next((text for text in texts if text.endswith(end) and text.startswith(b"/") and len(text) <= TEXT_BYTES), b"")


def directory(text: bytes) -> bytes:
    """The absolute directory that `text` is or ends with (bytes of the table before may touch the first one)."""
    if not text.endswith(b"/") or len(text) > TEXT_BYTES:
        return b""
    tail = text[len(text.rstrip(PATH_BYTES)) :]
    start = tail.find(b"/")
    return tail[start:] if 0 <= start < len(tail) - 1 and b"//" not in tail else b""


def system_dirs(texts: list[bytes]) -> tuple[bytes, ...]:
    """The longest run of adjacent directory names; a single-directory build has one name, standing twice in the file."""
    runs: list[tuple[bytes, ...]] = []
    run: list[bytes] = []
    for text in texts:
        name = directory(text)
        if name and run and text != name:  # something stands before the name: a new run begins
            runs.append(tuple(run))
            run = []
        if name:
            run.append(name)
        elif run:
            runs.append(tuple(run))
            run = []
    if run:
        runs.append(tuple(run))
    several = [run for run in runs if len(run) > 1]
    if several:
        return several[0]
    common = Counter(run for run in runs if run[0].rstrip(b"/").rpartition(b"/")[2].startswith(b"lib")).most_common(1)
    return common[0][0] if common else ()


def lib_token(dirs: tuple[bytes, ...]) -> bytes:
    """$LIB: Debian's `lib/TRIPLET` when the first directory is /lib/TRIPLET/, else its last component."""
    if not dirs:
        return b""
    parts = dirs[0].strip(b"/").split(b"/")
    return b"/".join(parts) if len(parts) == 2 and parts[0] == b"lib" else parts[-1]
