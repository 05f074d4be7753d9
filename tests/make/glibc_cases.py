"""Images in which a glibc loader does something worth knowing, with the lines it prints: T41-T109 of the rules, and more.

The same list (glibc_*_cases.py) is foretold from facts by tests/analyzers/test_loader_glibc.py and
run by real loaders in a chroot by tests/oracle/test_glibc_cases.py. Programs are linked without any C library unless that is
the point: their first instruction ends them with `STARTED`, so that only the loader speaks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from analyzers.oci import ImageConfig, Platform
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.make.elves import build, c
from tests.make.layers import Item, file, program
from tests.make.views import layer

STARTED = 42
LOADER = "lib64/ld-linux-x86-64.so.2"
MULTIARCH = "lib/x86_64-linux-gnu"
EXIT = f'void _start(void) {{ __asm__ volatile("syscall" : : "a"(231L), "D"({STARTED}L)); for (;;) {{}} }}\n'
ABSENT = "cannot open shared object file: No such file or directory"
BARE = ("-nostdlib", "-fcf-protection=none", "-Wl,--build-id=none", "-Wl,--unresolved-symbols=ignore-all", "-Wl,-z,lazy")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One root, one program, and what comes of running it. The loader itself is added under its usual name."""

    id: str
    items: Callable[[], Mapping[str, Item | bytes | str]]
    """Made when asked for: it takes a compiler."""
    lines: tuple[str, ...] = ()
    """Everything on stderr."""
    exit_code: int = 0
    """0: it starts."""
    crash: str = ""
    cmd: tuple[str, ...] = ("/x",)
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    proc: bool = True
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (99, 0)
    """Releases of glibc of which this is true."""
    told_whole_since: tuple[int, int] = (0, 0)
    """Earlier releases print more than the first line that is foretold."""
    why_no_oracle: str = ""

    def holds(self, release: tuple[int, int]) -> bool:
        return self.since <= release <= self.until


def foretell(case: Case, loader: Item) -> Start:
    """What is foretold for it."""
    config = ImageConfig(
        cmd=case.cmd, env=case.env, user=case.user, working_dir=case.working_dir, platform=Platform("linux", "amd64")
    )
    rootfs = Rootfs([layer({LOADER: loader, **case.items()})], runtime=case.proc)
    return foretell_start(rootfs, config, HostProfile(), NO_OVERRIDES)


def fails(text: str, program_name: str = "/x") -> tuple[str, ...]:
    return (f"{program_name}: error while loading shared libraries: {text}",)


@functools.cache
def stub(soname: str) -> bytes:
    """A library that is only there to be linked against."""
    return c("", "-shared", f"-Wl,-soname,{soname}", *BARE)


def elf(
    *needs: str, source: str = "", shared: str | None = "", rpath: str | None = None, runpath: str | None = None,
    flags: Sequence[str] = (), libs: Mapping[str, bytes] | None = None, script: str = "",
) -> bytes:  # fmt: skip
    """A program, or with `shared` a library of that soname (None: without one), that needs `needs` by these names."""
    linked = {f"{index}.so": (libs or {}).get(name) or stub(name) for index, name in enumerate(needs)}
    words = [*BARE, "-Wl,--no-as-needed"]
    if shared == "":
        source += EXIT
    else:
        words += ["-shared", "-fPIC"] + ([f"-Wl,-soname,{shared}"] if shared else [])
    if rpath is not None:
        words += ["-Wl,--disable-new-dtags", f"-Wl,-rpath,{rpath}"]
    if runpath is not None:
        words += ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{runpath}"]
    files = {"source.c": source.encode(), **linked}
    if script:
        files["versions.map"] = script.encode()
        words.append("-Wl,--version-script,versions.map")
    return build(["gcc", "-O1", "-w", "-o", "out", "source.c", *words, *flags, *linked], files, "out")


def prog(*needs: str, **more: object) -> Item:
    return program(elf(*needs, **more))  # type: ignore[arg-type]


def lib(soname: str | None, *needs: str, **more: object) -> Item:
    return file(elf(*needs, shared=soname, **more), 0o644)  # type: ignore[arg-type]


def emptied(elf_file: bytes, text: bytes) -> bytes:
    """The string `text` of an ELF file made empty."""
    assert elf_file.count(text + b"\0") == 1
    return elf_file.replace(text + b"\0", b"\0" * (len(text) + 1))


def changed(elf_file: bytes, at: int, value: int, size: int = 1) -> bytes:
    return elf_file[:at] + value.to_bytes(size, "little") + elf_file[at + size :]


LIB = "libv.so"


@functools.cache
def v() -> Item:
    return lib(LIB)


def other_machine() -> bytes:
    return changed(v().content, 18, 183, 2)


def other_class() -> bytes:
    return c("", "-shared", "-m32", f"-Wl,-soname,{LIB}", *BARE)
