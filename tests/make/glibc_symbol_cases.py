"""Symbols as glibc binds them before the entry point, and which missing one it tells: T80-T86, T98."""

from __future__ import annotations

import functools

from analyzers.elf import read_elf
from tests.make.glibc_cases import LIB, Case, elf, lib, prog, v
from tests.make.layers import file, program

V1 = "V1 { global: foo; local: *; };"
CALLS = "int foo(void); int (*pointer)(void) = foo;\n"


def versioned_lib(script: str, source: str = "int foo(void) { return 1; }\n", shared: str = LIB, **more: object) -> bytes:
    return elf(shared=shared, source=source, script=script, **more)  # type: ignore[arg-type]


@functools.cache
def wants_v2() -> bytes:
    return versioned_lib("V1 { }; V2 { global: foo; local: *; } V1;")


@functools.cache
def unversioned() -> bytes:
    """Also: the same library without any version table."""
    return elf(shared=LIB, source="int foo(void) { return 1; }\n")


def user_of(provider: bytes, source: str = CALLS, **more: object) -> bytes:
    return elf(LIB, source=source, libs={LIB: provider}, runpath="/a", **more)  # type: ignore[arg-type]


HIDDEN_ONLY = (
    "int foo_1(void) { return 1; } int foo_2(void) { return 2; }\n"
    '__asm__(".symver foo_1,foo@V2"); __asm__(".symver foo_2,bar@@V3");\n'
)
THREE = (
    "int foo_1(void) { return 1; } int foo_2(void) { return 2; } int foo_3(void) { return 3; }\n"
    '__asm__(".symver foo_1,foo@V1"); __asm__(".symver foo_2,foo@V2"); __asm__(".symver foo_3,foo@@V3");\n'
)


def undefined(name: str = "foo", by: str = "/x") -> tuple[str, ...]:
    return (f"/x: symbol lookup error: {by}: undefined symbol: {name}",)


LAZY = "int foo(void); int call(void) { return foo(); }\n"
RESOLVER = (
    'static int one(void) { return 1; } static void *pick(void) { return one; }\nint foo(void) __attribute__((ifunc("pick")));\n'
)

SYMBOLS = (
    Case(
        id="t80_an_unversioned_reference_takes_the_oldest",
        items=lambda: {
            "x": program(user_of(unversioned())),
            "a/libv.so": file(versioned_lib("V1 { }; V2 { } V1; V3 { } V2;", THREE)),
        },
    ),
    Case(
        id="t81_only_a_hidden_version",
        items=lambda: {
            "x": program(user_of(unversioned())),
            "a/libv.so": file(versioned_lib("V1 { }; V2 { } V1; V3 { } V2;", HIDDEN_ONLY)),
        },
        lines=undefined(),
        exit_code=127,
    ),
    Case(
        id="t82_a_call_that_is_never_made",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", source=LAZY)},
    ),
    Case(
        id="t83_a_library_linked_now",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", source=LAZY, flags=("-Wl,-z,now",))},
        lines=undefined(by="/a/liba.so"),
        exit_code=127,
    ),
    Case(
        id="t83_ld_bind_now",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", source=LAZY)},
        env=("LD_BIND_NOW=1",),
        lines=undefined(by="/a/liba.so"),
        exit_code=127,
    ),
    Case(
        id="g52_an_empty_ld_bind_now",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", source=LAZY)},
        env=("LD_BIND_NOW=",),
    ),
    Case(
        id="t84_a_program_linked_now",
        items=lambda: {"x": prog("liba.so", runpath="/a", flags=("-Wl,-z,now",)), "a/liba.so": lib("liba.so", source=LAZY)},
    ),
    Case(
        id="t85_a_function_pointer",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", source=CALLS)},
        lines=undefined(by="/a/liba.so"),
        exit_code=127,
    ),
    Case(
        id="t85_data",
        items=lambda: {
            "x": program(user_of(elf(shared=LIB, source="int datum;"), "extern int datum; int *p = &datum;\n")),
            "a/libv.so": v(),
        },
        lines=undefined("datum"),
        exit_code=127,
    ),
    Case(id="t86_weak", items=lambda: {"x": prog(source="extern int foo(void) __attribute__((weak)); int (*p)(void) = foo;\n")}),
    Case(
        id="g49_the_version_is_told",
        items=lambda: {
            "x": program(elf(LIB, source=CALLS, libs={LIB: versioned_lib(V1)}, runpath="/a")),
            "a/libv.so": file(versioned_lib("V1 { global: bar; local: *; };", "int bar(void) { return 1; }")),
        },
        lines=undefined("foo, version V1"),
        exit_code=127,
    ),
    Case(
        id="g44_the_same_version_elsewhere_answers",
        items=lambda: {
            "x": program(elf(LIB, "libw.so", source=CALLS, libs={LIB: versioned_lib(V1)}, runpath="/a")),
            "a/libv.so": file(versioned_lib("V1 { global: bar; local: *; };", "int bar(void) { return 1; }")),
            "a/libw.so": file(elf(shared="libw.so", source="int foo(void) { return 1; }", script=V1)),
        },
    ),
    Case(
        id="g49_dependencies_are_relocated_first",
        items=lambda: {
            "x": prog("liba.so", "libb.so", runpath="/a"),
            "a/liba.so": lib("liba.so", "libb.so", source="extern int one; int *p = &one;"),
            "a/libb.so": lib("libb.so", source="extern int two; int *q = &two;"),
        },
        lines=undefined("two", "/a/libb.so"),
        exit_code=127,
    ),
    Case(
        id="g49_of_two_equals_the_last_is_first",
        items=lambda: {
            "x": prog("liba.so", "libb.so", runpath="/a"),
            "a/liba.so": lib("liba.so", source="extern int one; int *p = &one;"),
            "a/libb.so": lib("libb.so", source="extern int two; int *q = &two;"),
        },
        lines=undefined("two", "/a/libb.so"),
        exit_code=127,
    ),
    Case(
        id="g49_the_program_comes_last",
        items=lambda: {
            "x": prog("liba.so", runpath="/a", source="extern int mine; int *m = &mine;"),
            "a/liba.so": lib("liba.so", source="extern int one; int *p = &one;"),
        },
        lines=undefined("one", "/a/liba.so"),
        exit_code=127,
    ),
    Case(
        id="g49_data_before_calls",
        items=lambda: {
            "x": program(
                user_of(
                    elf(shared=LIB, source="int datum; int called(void) { return 1; }"),
                    "int called(void); extern int datum; int *p = &datum; int f(void) { return called(); }\n",
                    flags=("-Wl,-z,now",),
                )
            ),
            "a/libv.so": v(),
        },
        lines=undefined("datum"),
        exit_code=127,
    ),
    Case(
        id="g49_a_circle_of_libraries",
        since=(2, 36),
        items=lambda: {
            "x": prog("liba.so", rpath="/a"),
            "a/liba.so": lib("liba.so", "libb.so", source="extern int one; int *p = &one;"),
            "a/libb.so": lib("libb.so", "liba.so", source="extern int two; int *q = &two;"),
        },
        lines=undefined("one", "/a/liba.so"),
        exit_code=127,
    ),
    Case(
        id="g47_hidden_symbols_are_not_found",
        items=lambda: {
            "x": program(user_of(unversioned())),
            "a/libv.so": file(elf(shared=LIB, source='__attribute__((visibility("hidden"))) int foo(void) { return 1; }')),
        },
        lines=undefined(),
        exit_code=127,
    ),
    Case(
        id="g47_protected_symbols_are",
        items=lambda: {
            "x": program(user_of(unversioned())),
            "a/libv.so": file(elf(shared=LIB, source='__attribute__((visibility("protected"))) int foo(void) { return 1; }')),
        },
    ),
    Case(
        id="g47_weak_definitions_count",
        items=lambda: {
            "x": program(user_of(unversioned())),
            "a/libv.so": file(elf(shared=LIB, source="__attribute__((weak)) int foo(void) { return 1; }")),
        },
    ),
    Case(
        id="g47_sysv_hash",
        items=lambda: {
            "x": program(user_of(unversioned())),
            "a/libv.so": file(elf(shared=LIB, source="int foo;", flags=("-Wl,--hash-style=sysv",))),
        },
    ),
    Case(
        id="g40_a_filtee_answers_for_its_filter",
        items=lambda: {
            "x": program(elf("libf.so", source=CALLS, libs={"libf.so": unversioned()}, runpath="/a")),
            "a/libv.so": file(unversioned()),
            "a/libf.so": lib("libf.so", flags=("-Wl,-F,libv.so",), runpath="/a"),
        },
    ),
    Case(
        id="g54_copy",
        items=lambda: {
            "x": program(
                elf(
                    LIB,
                    source="extern int datum; int get(void) { return datum; }\n",
                    flags=("-fno-pic", "-no-pie"),
                    libs={LIB: elf(shared=LIB, source="int datum = 7;")},
                    runpath="/a",
                )
            ),
            "a/libv.so": file(elf(shared=LIB, source="int other = 7;")),
        },
        lines=undefined("datum"),
        exit_code=127,
    ),
    Case(
        id="g54_an_ifunc_of_the_program",
        items=lambda: {
            "x": prog(
                "liba.so",
                runpath="/a",
                source="static int one(void) { return 1; } static void *pick(void) { return one; }\n"
                'int foo(void) __attribute__((ifunc("pick")));\n',
                flags=("-rdynamic",),
            ),
            "a/liba.so": lib("liba.so", source=CALLS),
        },
        lines=(
            "/x: IFUNC symbol 'foo' referenced in '/a/liba.so' is defined in the executable and creates an unsatisfiable "
            "circular dependency.",
        ),
        exit_code=127,
    ),
    Case(
        id="t98_a_library_for_a_better_cpu",
        since=(2, 33),
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", flags=("-Wl,-z,x86-64-v4",))},
        lines=("/a/liba.so: CPU ISA level is lower than required",),
        exit_code=127,
        why_no_oracle="it depends on the CPU",
    ),
    Case(
        id="g54_a_resolver_that_is_not_ready",
        items=lambda: {
            "x": prog("libprov.so", "libuser.so", runpath="/a"),
            "a/libprov.so": file(elf(shared="libprov.so", source=RESOLVER)),
            "a/libuser.so": lib("libuser.so", source=CALLS),
        },
        lines=("/x: Relink `/a/libuser.so' with `/a/libprov.so' for IFUNC symbol `foo'",),
    ),
    Case(
        id="g54_a_resolver_that_is_ready",
        items=lambda: {
            "x": prog("libuser.so", "libprov.so", runpath="/a"),
            "a/libprov.so": file(elf(shared="libprov.so", source=RESOLVER)),
            "a/libuser.so": lib("libuser.so", source=CALLS),
        },
    ),
    Case(
        id="g52_an_unknown_relocation",
        items=lambda: {
            "x": prog("liba.so", runpath="/a"),
            "a/liba.so": file(retyped(elf(shared="liba.so", source="int a; int *p = &a;"), 1, 0x29)),
        },
        lines=("/x: error while loading shared libraries: /a/liba.so: unexpected reloc type 0x29",),
        exit_code=127,
    ),
    Case(
        id="g52_an_unknown_relocation_of_a_high_number",
        items=lambda: {
            "x": prog("liba.so", runpath="/a"),
            "a/liba.so": file(retyped(elf(shared="liba.so", source="int a; int *p = &a;"), 1, 0x1234)),
        },
        lines=("/x: error while loading shared libraries: /a/liba.so: unexpected reloc type 0x00001234",),
        exit_code=127,
    ),
    Case(
        id="g52_an_unknown_relocation_among_calls",
        items=lambda: {
            "x": prog("liba.so", runpath="/a"),
            "a/liba.so": file(retyped(elf(shared="liba.so", source=LAZY), 7, 0x2A, 23)),
        },
        lines=("/x: error while loading shared libraries: /a/liba.so: unexpected PLT reloc type 0x2a",),
        exit_code=127,
    ),
)


def retyped(elf_file: bytes, old: int, new: int, table: int = 7) -> bytes:
    """With the first relocation of a type in DT_RELA (or the table of that tag) made one of another."""
    tags = dict(read_elf(elf_file).facts.tags)
    for at in range(tags[table] + 8, len(elf_file), 24):  # the tables lie in the first segment, at their addresses
        if int.from_bytes(elf_file[at : at + 4], "little") == old:
            return elf_file[:at] + new.to_bytes(4, "little") + elf_file[at + 4 :]
    raise ValueError(f"no relocation of type {old}")
