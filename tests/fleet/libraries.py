"""Programs together with the libraries they need, laid out as images want them; and libraries that are odd in one way."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fleet.image import Items
from tests.fleet.programs import MARKED, calling, lib
from tests.make.elves import GCC, MUSL_GCC, build, c, chained, library, patched

A, B = "liba.so", "libb.so"
SHORT_TEXT = "not a library"
LONG_TEXT = "INPUT(libreal.so) /* a linker script, as -dev packages have them */\n" * 4
MUSL_LIBC = ("--replace-needed", "libc.so", "libc.musl-x86_64.so.1")


def as_on_alpine(elf: bytes) -> bytes:
    """Linked by musl-gcc, it needs libc by the name that Alpine gives it."""
    return patched(elf, *MUSL_LIBC) if b"libc.so\0" in elf else elf


def needs(*names: str, flags: Sequence[str] = (), by: tuple[str, ...] = GCC) -> bytes:
    """A program that calls a function of each of these libraries."""
    return _own(c(calling(*names), *flags, compiler=by, libs={name: lib(name, by=by) for name in names}), by)


def one(name: str, by: tuple[str, ...] = GCC) -> bytes:
    return _own(lib(name, by=by), by)


def _own(elf: bytes, by: tuple[str, ...]) -> bytes:
    return as_on_alpine(elf) if by == MUSL_GCC else elf


def two(main: Sequence[str], of_a: Sequence[str], place_of_b: str, by: tuple[str, ...] = GCC) -> Items:
    """/app needs liba, which lies in /a and needs libb; `main` and `of_a` are their linker flags."""
    b = lib(B, by=by)
    a = library(A, chained(A, B), *of_a, compiler=by, libs={B: b})
    app = c(calling(A), *main, "-Wl,--allow-shlib-undefined", compiler=by, libs={A: a})
    return {"app": _own(app, by), f"a/{A}": _own(a, by), place_of_b: _own(b, by)}


def three(place: str, main: Sequence[str], of_b: Sequence[str]) -> Items:
    """/app needs liba needs libb needs libc3; all but libc3 lie in /a and /b, libc3 at `place`."""
    last = lib("libv.so")
    b = library(B, chained(B, "libv.so"), *of_b, libs={"libv.so": last})
    a = library(A, chained(A, B), *of_b, "-Wl,--allow-shlib-undefined", libs={B: b})
    app = c(calling(A), *main, "-Wl,--allow-shlib-undefined", libs={A: a})
    return {"app": app, f"a/{A}": a, f"b/{B}": b, place: last}


def with_byte(content: bytes, at: int, value: int) -> bytes:
    return content[:at] + bytes([value]) + content[at + 1 :]


def versioned(script: str, source: str = "int liba(void) { return 0; }\n", *flags: str, by: tuple[str, ...] = GCC) -> bytes:
    """liba.so whose symbols have the versions of this linker script."""
    command = [*by, "-O1", "-w", "-o", "out", "source.c", "-shared", "-fPIC", f"-Wl,-soname,{A}", "-Wl,--version-script=map"]
    return build([*command, *flags], {"source.c": source.encode(), "map": script.encode()}, "out")


def linked_with(library_file: bytes, *flags: str, source: str = "", by: tuple[str, ...] = GCC) -> bytes:
    """A program linked against this very liba.so."""
    return c(source or calling(A), *flags, compiler=by, libs={A: library_file})


def wanting_data(name: str = "nowhere") -> str:
    """A main() that keeps the address of a function, so that it is bound before the entry point."""
    return MARKED.format(declared=f"int {name}(void);\nint (*kept)(void) = {name};\n", body="n += !kept; ")


def stripped_of_code(elf: bytes) -> bytes:
    """The debug-only file that `objcopy --only-keep-debug` makes."""
    return build(["objcopy", "--only-keep-debug", "elf", "out"], {"elf": elf}, "out")
