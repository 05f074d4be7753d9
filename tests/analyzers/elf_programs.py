"""Real ELF files for these tests: compiled on the spot, patched by hand, and told about by binutils' readelf.

Compiled files are kept per test process; zig's own caches lie in the machine's temporary folder, so that a second run costs
little. `Patch` changes a 64-bit little-endian file the way a hostile hand would.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from analyzers.facts import SymbolFacts, SymbolFlag
from tests.conftest import absent

SOURCE = """
extern int wanted_data; extern int wanted_call(int); extern int weak_call(int) __attribute__((weak));
extern __thread int wanted_tls;
int *pointer = &wanted_data;
int (*call_pointer)(int) = wanted_call;
extern int only_called(int);
int offered(int x) { return wanted_call(x) + wanted_data + only_called(x) + (weak_call ? weak_call(x) : 0); }
int offered_data = 7; __thread int offered_tls = 3;
int __attribute__((weak)) offered_weak(void) { return 2; }
__attribute__((visibility("hidden"))) int secret(void) { return 1; }
__attribute__((visibility("protected"))) int guarded(void) { return secret() + wanted_tls; }
"""
TARGETS = (
    "x86_64-linux-gnu", "x86-linux-gnu", "aarch64-linux-gnu", "aarch64_be-linux-gnu", "arm-linux-gnueabihf",
    "riscv64-linux-gnu", "s390x-linux-gnu", "powerpc64le-linux-gnu", "powerpc-linux-gnueabihf", "loongarch64-linux-gnu",
    "mips-linux-gnueabihf", "mipsel-linux-gnueabihf", "mips64-linux-gnuabi64", "mips64el-linux-gnuabi64",
)  # fmt: skip
"""Both byte orders, both classes, REL and RELA."""


@functools.cache
def folder() -> Path:
    made = tempfile.TemporaryDirectory(prefix="elf-")
    folder.keep = made  # type: ignore[attr-defined]
    return Path(made.name)


def zig(*arguments: str) -> None:
    caches = Path(tempfile.gettempdir()) / "enoent-zig"
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(caches), "ZIG_LOCAL_CACHE_DIR": str(caches / "local")}
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


@functools.cache
def compiled(target: str, source: str = SOURCE, *flags: str) -> Path:
    """What zig makes of `source` for `target`."""
    number = len(list(folder().iterdir()))
    code = folder() / f"{number}.c"
    code.write_text(source)
    made = folder() / f"{number}.elf"
    zig("-target", target, *flags, str(code), "-o", str(made))
    return made


def library(target: str = "x86_64-linux-gnu", source: str = SOURCE, *flags: str) -> Path:
    """A shared object without any libc."""
    wanted = ("-shared", "-fPIC", "-nostdlib", "-O1", "-Wl,-soname,libx.so.1", "-Wl,-z,lazy", "-Wl,--allow-shlib-undefined")
    return compiled(target, source, *wanted, *flags)


class Symbol(NamedTuple):
    name: bytes
    version: bytes
    flags: SymbolFlag


def imports(symbols: SymbolFacts | None) -> list[Symbol]:
    assert symbols is not None
    return list(rows(symbols, symbols.import_names, symbols.import_versions, symbols.import_flags))


def exports(symbols: SymbolFacts | None) -> list[Symbol]:
    assert symbols is not None
    return list(rows(symbols, symbols.export_names, symbols.export_versions, symbols.export_flags))


def rows(symbols: SymbolFacts, names: bytes, versions: bytes, flags: bytes) -> Iterator[Symbol]:
    if not flags:
        return
    indexes = struct.unpack(f"<{len(flags)}H", versions)
    for name, index, flag in zip(names.split(b"\0"), indexes, flags, strict=True):
        yield Symbol(name, symbols.versions[index], SymbolFlag(flag))


class Told(NamedTuple):
    """What readelf says."""

    needed: list[bytes]
    soname: list[bytes]
    imports: set[tuple[bytes, bytes]]
    exports: set[tuple[bytes, bytes, bool]]
    """Name, version, whether the version is hidden (`@`, not `@@`)."""
    start: set[bytes]
    """Names with a relocation that is not JUMP_SLOT."""
    call: set[bytes]
    copy: set[bytes]


SYMBOL_LINE = re.compile(
    rb"\s*\d+: ([0-9a-f]+)\s+\S+ (\w+)\s+(\w+|<OS specific>: \d+)\s+(\w+)\s+(?:\[.*\]\s+)?"
    rb"(UND|ABS|COM|\d+) (\S+)(?: \(\d+\))?$"
)
RELOCATION_LINE = re.compile(rb"[0-9a-f]+\s+[0-9a-f]+ (R_\w+)\s+(?:[0-9a-f]+\s+)?([^\s+]+)?")


def told(path: Path) -> Told:
    if not shutil.which("readelf"):
        absent("no readelf (binutils)")
    out = subprocess.run(
        ["readelf", "-W", "-d", "--dyn-syms", "-r", str(path)], capture_output=True, timeout=60, check=False
    ).stdout
    wants, offers = set(), set()
    start, call, copy = set(), set(), set()
    for line in out.splitlines():
        found = SYMBOL_LINE.match(line)
        if found:
            value, kind, binding, visibility, section, text = found.groups()
            name, _, version = text.partition(b"@")
            if binding == b"LOCAL" or visibility in (b"HIDDEN", b"INTERNAL"):
                continue
            if section == b"UND":
                wants.add((name, version.lstrip(b"@")))
            elif int(value, 16) or section == b"ABS" or kind == b"TLS":
                offers.add((name, version.lstrip(b"@"), bool(version) and not version.startswith(b"@")))
            continue
        moved = RELOCATION_LINE.match(line)
        if moved and moved[2] and not re.fullmatch(rb"[0-9a-f]+", moved[2]):
            name = moved[2].partition(b"@")[0]
            (call if b"JUMP_SLOT" in moved[1] or b"JMP_SLOT" in moved[1] else start).add(name)
            if moved[1].endswith(b"_COPY"):
                copy.add(name)
    return Told(
        re.findall(rb"\(NEEDED\).*\[(.*)\]", out), re.findall(rb"\(SONAME\).*\[(.*)\]", out), wants, offers, start, call, copy
    )


PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_STACK = 1, 2, 3, 4, 0x6474E551
TAIL_ADDRESS = 0x7000_0000


class Patch:
    """A 64-bit little-endian file under a hostile hand."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.tail = bytearray()

    def header(self, offset: int, code: str, value: int) -> Patch:
        struct.pack_into("<" + code, self.data, offset, value)
        return self

    def segment_at(self, kind: int, index: int = 0) -> int:
        """Offset of the program header."""
        (start,) = struct.unpack_from("<Q", self.data, 32)
        (count,) = struct.unpack_from("<H", self.data, 56)
        places = [start + 56 * at for at in range(count) if struct.unpack_from("<I", self.data, start + 56 * at)[0] == kind]
        return places[index]

    def segment(self, place: int, *, kind: int | None = None, **fields: int) -> Patch:
        names = {
            "flags": (4, "I"),
            "offset": (8, "Q"),
            "vaddr": (16, "Q"),
            "filesz": (32, "Q"),
            "memsz": (40, "Q"),
            "align": (48, "Q"),
        }
        if kind is not None:
            struct.pack_into("<I", self.data, place, kind)
        for name, value in fields.items():
            at, code = names[name]
            struct.pack_into("<" + code, self.data, place + at, value)
        return self

    def dynamic_place(self) -> tuple[int, int]:
        return struct.unpack_from("<8xQ16xQ", self.data, self.segment_at(PT_DYNAMIC))

    def tags(self) -> list[tuple[int, int]]:
        offset, size = self.dynamic_place()
        pairs = list(struct.iter_unpack("<QQ", self.data[offset : offset + size - size % 16]))
        return pairs[: next(at for at, (tag, _) in enumerate(pairs) if tag == 0)]

    def set_tag(self, tag: int, value: int) -> Patch:
        offset, _ = self.dynamic_place()
        at = next(at for at, (key, _) in enumerate(self.tags()) if key == tag)
        struct.pack_into("<Q", self.data, offset + 16 * at + 8, value & (1 << 64) - 1)
        return self

    def value(self, tag: int) -> int:
        return dict(self.tags())[tag]

    def place(self, data: bytes) -> int:
        """The address at which `data` will be mapped, behind everything else."""
        self.tail += bytes(-len(self.tail) % 16)
        address = TAIL_ADDRESS + len(self.tail)
        self.tail += data
        return address

    def new_tags(self, pairs: Sequence[tuple[int, int]], *, end: bool = True) -> Patch:
        """A dynamic section in a new place."""
        data = b"".join(struct.pack("<QQ", tag, value & (1 << 64) - 1) for tag, value in [*pairs, *([(0, 0)] if end else [])])
        address = self.place(data)
        return self.segment(self.segment_at(PT_DYNAMIC), vaddr=address, offset=0, filesz=len(data), memsz=len(data))

    def bytes(self) -> bytes:
        """The file, its tail mapped by what was PT_GNU_STACK."""
        if not self.tail:
            return bytes(self.data)
        data = self.data + bytes(-len(self.data) % 4096)
        where, offset, self.data = self.segment_at(PT_GNU_STACK), len(data), data
        self.segment(where, kind=PT_LOAD, flags=4, offset=offset, vaddr=TAIL_ADDRESS, filesz=len(self.tail), memsz=len(self.tail))
        return bytes(self.data + self.tail)
