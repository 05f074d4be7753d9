"""ELF files for tests of musl's loader: programs, libraries, gcompat's stub, and what no compiler makes.

A library exports one function named after its file and calls those of the libraries it needs; its wrong variant exports another.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tests.analyzers.elf_programs import Patch
from tests.make import elves, roots
from tests.make.elves import MUSL_GCC, caller, chained, patched, zig
from tests.make.layers import Item, program

Needs = Mapping[str, bytes]
OTHER = "int other(void) { return 0; }"
AS_NEEDED = ("-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined")
RELEASES = {"1.2.5": roots.alpine, "1.2.3": roots.musl_of_debian}


@functools.cache
def loader(release: str) -> Item:
    """A musl of that release, as its distribution ships it."""
    return RELEASES[release]()[f"lib/{roots.MUSL}"]


def lib(name: str, needs: Needs | None = None, *flags: str, source: str | None = None) -> bytes:
    text = source if source is not None else chained(name, *(needs or {}))
    return elves.library(name, text, *AS_NEEDED, *flags, compiler=MUSL_GCC, libs=needs or {})


def main(needs: Needs | None = None, *flags: str, source: str | None = None, compiler: tuple[str, ...] = MUSL_GCC) -> Item:
    text = source if source is not None else caller(*(needs or {}))
    return program(elves.c(text, *AS_NEEDED, *flags, compiler=compiler, libs=needs or {}))


def wrong(name: str) -> bytes:
    """A library of that name without its function."""
    return lib(name, source=OTHER)


def a() -> bytes:
    return lib("liba.so")


def a_main(*flags: str) -> Item:
    return main({"liba.so": a()}, *flags)


def b_on_a(*flags: str) -> bytes:
    return lib("libb.so", {"liba.so": a()}, *flags)


def needing(*names: str, of: Item | None = None) -> Item:
    """A program with these DT_NEEDED in front of libc's, whose symbols it does not use."""
    made = of or main()
    for name in reversed(names):
        made = program(patched(made.content, "--add-needed", name))
    return made


def versioned(source: str) -> bytes:
    """liba.so with the versions V1 and V2, for .symver lines."""
    script_text = b"VERSION { V1 { global: *; }; V2 { }; };"
    return elves.library("liba.so", source, *AS_NEEDED, compiler=MUSL_GCC, libs={"v.map": script_text})


def foreign(target: str) -> bytes:
    source = "extern int ext; int *e = &ext; int fn(void); int liba(void) { return fn(); } static int x; int *p = &x;"
    return elves.library("liba.so", source, compiler=zig(target))


def with_interp(item: Item, path: str) -> Item:
    return program(patched(item.content, "--set-interpreter", path))


def glibc_main(needs: Needs | None = None, *flags: str, source: str | None = None) -> Item:
    return main(needs, *flags, source=source, compiler=elves.GCC)


def segment_patch(data: bytes, kind: int, *, new_kind: int | None = None, **fields: int) -> bytes:
    patch = Patch(data)
    return patch.segment(patch.segment_at(kind), kind=new_kind, **fields).bytes()


def without_hash(data: bytes) -> bytes:
    """DT_GNU_HASH and DT_HASH turned into DT_DEBUG."""
    patch = Patch(data)
    return patch.new_tags([(21 if tag in (4, 0x6FFFFEF5) else tag, value) for tag, value in patch.tags()]).bytes()


NEEDED, RPATH, RUNPATH, DEBUG = 1, 15, 29, 21


def with_tag(data: bytes, tag: int, *, debug: bool = False) -> bytes:
    """One more tag, whose string is the empty one that every string table begins with. The new dynamic section cannot be written
    to, so that DT_DEBUG has to go."""
    patch = Patch(data)
    kept = [pair for pair in patch.tags() if debug or pair[0] != DEBUG]
    return patch.new_tags([(tag, 0), *kept]).bytes()


def debug_only(data: bytes) -> bytes:
    return elves.build(["objcopy", "--only-keep-debug", "elf"], {"elf": data}, "elf")


IFUNC = 'static int i(void) { return 0; } static void *r(void) { return i; } int liba(void) __attribute__((ifunc("r")));'
WEAK_TLS = "extern __thread int wt __attribute__((weak)); int liba(void) { return &wt ? wt : 0; }"
TEXTREL = 'static int ext; __asm__(".text\\n.globl tx\\ntx: .quad tx\\n"); int main(void) { return ext; }'


def pointing() -> bytes:
    """libb.so with a pointer to liba's function, and no call."""
    return lib("libb.so", source="int liba(void); int (*p)(void) = liba; int libb(void) { return p(); }")


STUB = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* What gcompat's stub does, in our words: its three names, then musl's loader on the program's real path. */
int main(int argc, char **argv, char **envp) {
    static char preload[4096] = "libgcompat.so.0 ", target[4096];
    char *words[64] = { "ld-linux-x86-64.so.2", "--argv0", argv[0], "--preload", preload, "--", target };
    char *given = getenv("LD_PRELOAD");
    if (given) strncat(preload, given, sizeof preload - 64);
    if (readlink("/proc/self/exe", target, sizeof target - 1) < 0) { perror("readlink"); return 1; }
    if (strstr(target, words[0])) { puts("not to be run"); return 1; }
    for (int at = 1; at < argc && at < 50; at++) words[6 + at] = argv[at];
    execve("/lib/ld-musl-x86_64.so.1", words, envp);
    perror("execve");
    return 1;
}
"""


def stub() -> Item:
    return program(elves.c(STUB, "-static", "-fPIE", "-pie", compiler=zig("x86_64-linux-musl")))
