"""Programs and libraries of other machines, for both C libraries of each, and what comes of them: rules A, G and M anew.

zig builds them without any C library; a program ends at its first instructions with `STARTED`. Loaders and libc.so.6 are those of
the roots of tests/setup/foreign.sh. The list is foretold from facts and run under qemu by tests/oracle/test_foreign_cases.py.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable, Mapping

import msgspec

from tests.make.elves import CACHE, ToolAbsent, build, zig
from tests.make.layers import Item, file, program
from tests.oracle.architectures import ARCHITECTURES

STARTED = 42
LIB = "liba.so"
GLIBC, MUSL = "glibc", "musl"
_TARGETS = {
    "arm64": ("aarch64-linux-gnu", "aarch64-linux-musl"),
    "armel": ("arm-linux-gnueabi", "arm-linux-musleabi"),
    "armhf": ("arm-linux-gnueabihf", "arm-linux-musleabihf"),
    "i386": ("x86-linux-gnu", "x86-linux-musl"),
    "loong64": ("loongarch64-linux-gnu", "loongarch64-linux-musl"),
    "mips64el": ("mips64el-linux-gnuabi64", "mips64el-linux-muslabi64"),
    "ppc64el": ("powerpc64le-linux-gnu", "powerpc64le-linux-musl"),
    "riscv64": ("riscv64-linux-gnu", "riscv64-linux-musl"),
    "s390x": ("s390x-linux-gnu", "s390x-linux-musl"),
}
_BARE = ("-O1", "-w", "-nostdlib", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
OTHERS = {
    "arm64": "riscv64", "armel": "i386", "armhf": "i386", "i386": "armhf", "loong64": "riscv64", "mips64el": "ppc64el",
    "ppc64el": "arm64", "riscv64": "loong64", "s390x": "ppc64el",
}  # fmt: skip
"""Another machine of the same class."""
NARROW = {name: "armhf" if name not in ("armel", "armhf", "i386") else "arm64" for name in _TARGETS}
"""One of the other class."""


class Tools(msgspec.Struct, frozen=True):
    """What builds for one architecture and one C library."""

    architecture: str
    libc: str

    @property
    def target(self) -> str:
        return _TARGETS[self.architecture][self.libc == MUSL]

    def library(self, *flags: str, source: str = "int liba(void) { return 0; }", script: str = "", soname: str = LIB) -> Item:
        files = {"source.c": source.encode()}
        if script:
            files["versions.map"] = script.encode()
            flags = (*flags, "-Wl,--version-script,versions.map")
        command = (*zig(self.target), *_BARE, "-shared", "-fPIC", f"-Wl,-soname,{soname}")
        return file(build([*command, "-o", "out", "source.c", *flags], files, "out"), 0o644)

    def program(self, *flags: str, source: str = "", **needs: Item) -> Item:
        """`needs`: libraries by the names of their files, with `_` for the dot."""
        stop = ",".join(f"0x{byte:02x}" for byte in ARCHITECTURES[self.architecture].stop)
        text = (
            f'__asm__(".text\\n.balign 8\\n.globl _start, __start\\n_start:\\n__start:\\n.byte {stop}\\n.balign 8\\n");\n{source}'
        )
        linked = {name.replace("_so", ".so"): each.content for name, each in needs.items()}
        command = (*zig(self.target), *_BARE, "-fPIE", "-pie", "-Wl,--no-as-needed", "-Wl,--no-gc-sections")
        return program(build([*command, "-o", "out", "source.c", *linked, *flags], {"source.c": text.encode(), **linked}, "out"))

    def other(self, table: Mapping[str, str]) -> Tools:
        return Tools(table[self.architecture], self.libc)


@functools.cache
def system_files(architecture: str) -> dict[str, bytes]:
    """Of the architecture's root: what is needed of both C libraries, by file name; musl under its loader's name."""
    path = CACHE / f"roots/{architecture}.tar"
    if not path.exists():
        raise ToolAbsent(f"no {path.name} in .cache/roots: run tests/setup/foreign.sh")
    found: dict[str, bytes] = {}
    musl = ""
    with tarfile.open(path) as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            if member.issym() and name.startswith("ld-musl-"):
                musl = name
            if not member.isreg():
                continue
            wanted = name == "libc.so.6" or name.startswith(("ld-linux", "ld64.so", "ld.so.1", "ld-musl-"))
            if (
                wanted
                or folder.endswith(("-linux-musl", "-linux-musleabi", "-linux-musleabihf", "-muslabi64"))
                and name == "libc.so"
            ):
                found[name] = _content(archive, member)
    if musl and "libc.so" in found:
        found[musl] = found["libc.so"]
    return found


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    taken = archive.extractfile(member)
    assert taken is not None
    return taken.read()


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a root besides its loader; `/x` is run."""

    id: str
    items: Callable[[Tools], Mapping[str, Item]]
    ends: int = STARTED
    """Exit status under glibc."""
    ends_musl: int = -1
    """The same under musl; -1: as under glibc."""
    env: tuple[str, ...] = ()
    glibc_only: bool = False

    def end(self, tools: Tools) -> int:
        # zig's linker makes no stubs for MIPS, so that all is bound at start.
        if tools.libc == GLIBC and not (tools.architecture == "mips64el" and "lazy" in self.id):
            return self.ends
        return self.ends if self.ends_musl < 0 else self.ends_musl


POINTER = "int liba(void); int (*pointer)(void) = liba;"
CALL = "int liba(void); int never(void) { return liba(); }"
INITIAL = ("-ftls-model=initial-exec",)
# Old arm processors ask a function for the thread pointer, which is the C library's.
POINTER_OF_THREAD = """
#ifdef __arm__
__attribute__((visibility("hidden"))) int __aeabi_read_tp(void) { return 0; }
#endif
"""
TLS = POINTER_OF_THREAD + "__thread int tls = 1; int liba(void) { return tls; }"
TLS_USER = POINTER_OF_THREAD + "extern __thread int tls; int *place(void) { return &tls; } " + POINTER
NOTHING = "int other(void) { return 0; }"
V1, V2 = "V1 { global: liba; };", "V1 { }; V2 { global: liba; } V1;"


def _needing(tools: Tools, lib: Item | None = None, *flags: str, source: str = POINTER) -> Item:
    return tools.program(*flags, source=source, liba_so=lib or tools.library())


def _placed(tools: Tools, earlier: Item) -> dict[str, Item]:
    """A run path of two directories, the right library in the second."""
    return {"x": _needing(tools, None, "-Wl,-rpath,/a:/b"), "a/liba.so": earlier, "b/liba.so": tools.library()}


CASES = (
    Case(id="it_starts", items=lambda t: {"x": _needing(t), "usr/lib/liba.so": t.library()}),
    Case(id="library_absent", items=lambda t: {"x": _needing(t)}, ends=127),
    Case(id="run_path_of_the_programs_folder", items=lambda t: {
        "x": _needing(t, None, "-Wl,-rpath,$ORIGIN/opt"), "opt/liba.so": t.library()}),
    Case(id="library_path_of_the_environment", items=lambda t: {"x": _needing(t), "opt/liba.so": t.library()},
         env=("LD_LIBRARY_PATH=/opt",)),
    Case(id="directories_of_the_machine_alone", items=lambda t: {
        "x": _needing(t), f"usr/lib/{ARCHITECTURES[t.architecture].multiarch}/liba.so": t.library()}, ends_musl=127),
    Case(id="another_machine_earlier", items=lambda t: _placed(t, t.other(OTHERS).library()), glibc_only=True),
    Case(id="another_class_earlier", items=lambda t: _placed(t, t.other(NARROW).library()), glibc_only=True),
    Case(id="only_another_machine", items=lambda t: {"x": _needing(t), "usr/lib/liba.so": t.other(OTHERS).library()}, ends=127,
         glibc_only=True),
    Case(id="only_another_class", items=lambda t: {"x": _needing(t), "usr/lib/liba.so": t.other(NARROW).library()}, ends=127,
         glibc_only=True),
    Case(id="text_earlier", items=lambda t: _placed(t, file("GROUP ( /b/liba.so ) /* a linker script of some length */")),
         ends=127),
    Case(id="data_symbol_absent", items=lambda t: {"x": _needing(t), "usr/lib/liba.so": t.library(source=NOTHING)}, ends=127),
    Case(id="function_absent_and_lazy", items=lambda t: {
        "x": _needing(t, None, "-Wl,-z,lazy", source=CALL), "usr/lib/liba.so": t.library(source=NOTHING)}, ends_musl=127),
    Case(id="function_absent_and_bound_now", items=lambda t: {
        "x": _needing(t, None, "-Wl,-z,now", source=CALL), "usr/lib/liba.so": t.library(source=NOTHING)}, ends=127),
    Case(id="weak_symbol_absent", items=lambda t: {
        "x": _needing(t, source="__attribute__((weak)) int liba(void); int (*pointer)(void) = liba;"),
        "usr/lib/liba.so": t.library(source=NOTHING)}),
    Case(id="version_absent", items=lambda t: {
        "x": _needing(t, t.library(script=V2)), "usr/lib/liba.so": t.library(script=V1)}, ends=1, ends_musl=STARTED),
    Case(id="preload_absent", items=lambda t: {"x": _needing(t), "usr/lib/liba.so": t.library()}, env=("LD_PRELOAD=/nope.so",)),
    Case(id="thread_local_data", items=lambda t: {
        "x": _needing(t, t.library(*INITIAL, source=TLS), *INITIAL,
                      source=TLS_USER),
        "usr/lib/liba.so": t.library(*INITIAL, source=TLS)}),
    Case(id="thread_local_data_absent", items=lambda t: {
        "x": _needing(t, t.library(*INITIAL, source=TLS), *INITIAL,
                      source=TLS_USER),
        "usr/lib/liba.so": t.library()}, ends=127),
    Case(id="copied_data", items=lambda t: {
        "x": _needing(t, t.library(source="int data = 1; int liba(void) { return data; }"), "-fno-pie", "-no-pie",
                      source="extern int data; int got(void) { return data; } " + POINTER),
        "usr/lib/liba.so": t.library(source="int data = 1; int liba(void) { return data; }")}),
)  # fmt: skip
