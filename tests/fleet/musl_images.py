"""Images that come as far as musl's loader, on Alpine (1.2.5) and with Debian's older musl (1.2.3)."""

from __future__ import annotations

from tests.fleet.image import FleetImage, Items, runs
from tests.fleet.libraries import LONG_TEXT, A, B, as_on_alpine, linked_with, needs, one, two, versioned, wanting_data
from tests.fleet.programs import MARKED, calling, hello, musl_hello
from tests.make.elves import MUSL_GCC, c, library, patched, rpath, runpath, zig
from tests.make.layers import file, folder, program, symlink

MISSING = f"Error loading shared library {A}: No such file or directory (needed by /app)"
PATH_FILE = "etc/ld-musl-x86_64.path"
NOT_FOUND = "symbol not found"


def on(id: str, rules: str, files: object, fails: str = "", base: str = "alpine", **more: object) -> FleetImage:
    return runs(id, rules, base, files, fails=fails, **more)  # type: ignore[arg-type]


def a_in(place: str, *flags: str, **more: object) -> Items:
    """/app that needs liba, which lies in `place`."""
    return {"app": needs(A, flags=flags, by=MUSL_GCC), f"{place}/{A}": one(A, by=MUSL_GCC), **more}  # type: ignore[dict-item]


def pair(main: tuple[str, ...], of_a: tuple[str, ...], place_of_b: str) -> Items:
    return two(main, of_a, place_of_b, by=MUSL_GCC)


def spoilt(content: bytes | str) -> Items:
    """liba at /a in a way that does not work, and a good one at /b behind it."""
    return {**a_in("b", *runpath("/a:/b")), f"a/{A}": file(content)}


SEARCH = (
    on("musl_runpath", "M4", lambda: a_in("a", *runpath("/a")), good=True),
    on("musl_ld_library_path", "M4 C9", lambda: a_in("a"), env=("LD_LIBRARY_PATH=/nope:/a",), good=True),
    on("musl_default_directory", "M6", lambda: a_in("usr/local/lib"), good=True),
    on("musl_library_nowhere", "M15", lambda: {"app": needs(A, by=MUSL_GCC)}, MISSING),
    on("musl_two_libraries_nowhere", "M15", lambda: {"app": needs(A, B, by=MUSL_GCC)}, f"Error loading shared library {B}"),
    on("musl_ld_library_path_beats_rpath", "M4 T43", lambda: {**a_in("a", *rpath("/a")), f"b/{A}": file(LONG_TEXT)},
       "Exec format error", env=("LD_LIBRARY_PATH=/b",)),
    on("musl_runpath_is_inherited", "M4 T45", lambda: pair(runpath("/a"), (), f"a/{B}"), good=True),
    on("musl_an_empty_element_is_nothing", "M7 T49", lambda: a_in("w"), MISSING, working_dir="/w", env=("LD_LIBRARY_PATH=/nope:",
       )),
    on("musl_semicolons_are_letters", "M7 T50", lambda: a_in("d"), MISSING, env=("LD_LIBRARY_PATH=/x;/d",)),
    on("musl_another_token_voids_the_run_path", "M10 T62", lambda: a_in("a", *runpath("/a:$PLATFORM")), MISSING),
    on("musl_origin_of_a_linked_program_is_the_real_file", "M10 T59",
       lambda: {"opt/bin/real": needs(A, flags=runpath("$ORIGIN/../lib"), by=MUSL_GCC), "app": symlink("/opt/bin/real"),
                f"opt/lib/{A}": one(A, by=MUSL_GCC)}, good=True),
    on("musl_path_file", "M6", lambda: a_in("opt/l", **{PATH_FILE: file("/lib:/opt/l\n")}), good=True),
    on("musl_an_empty_path_file", "M6 T104", lambda: a_in("usr/lib", **{PATH_FILE: file("")}), "liba.so: No error information"),
    on("musl_a_path_file_that_is_a_directory", "M6", lambda: a_in("usr/lib", **{PATH_FILE: folder()}), "liba.so: Is a directory"),
    on("musl_an_unreadable_path_file", "M6 T105", lambda: a_in("usr/lib", **{PATH_FILE: file("/usr/lib\n", 0o600)}),
       "liba.so: Permission denied", user="1000"),
    on("musl_carriage_returns_in_the_path_file", "M7", lambda: a_in("opt/l", **{PATH_FILE: file("/opt/l\r\n")}), MISSING),
    on("musl_a_loop_ends_the_search", "M8 T55", lambda: {**spoilt(""), f"a/{A}": symlink(A)}, "Symbolic link loop"),
    on("musl_needed_by_path_below_the_working_dir", "M9 T108",
       lambda: {"app": patched(needs(A, by=MUSL_GCC), "--replace-needed", A, "c/libns.so"), "w/c/libns.so": one(A, by=MUSL_GCC)},
       working_dir="/w"),
    on("musl_sonames_do_not_count", "M11 T64", lambda: soname_reused(), "Error loading shared library libv.so"),
    on("musl_a_preload_does_not_provide_a_soname", "M11 T65",
       lambda: {"app": needs(A, by=MUSL_GCC), "x.so": one(A, by=MUSL_GCC)}, MISSING, env=("LD_PRELOAD=/x.so",)),
    on("musl_preload_of_a_missing_file", "M29 T91", lambda: {"app": musl_hello()}, env=("LD_PRELOAD=/nope.so",)),
    on("musl_set_uid_loses_ld_library_path", "M22 K23",
       lambda: {**a_in("a"), "app": program(needs(A, by=MUSL_GCC), 0o4755)}, MISSING, user="1000", env=("LD_LIBRARY_PATH=/a",)),
)  # fmt: skip


def soname_reused() -> Items:
    v = library("libv.so", "int liba(void) { return 0; }\n", compiler=MUSL_GCC)
    source = "int liba(void);\nint libb(void) { return liba(); }\n"
    b = library(B, source, compiler=MUSL_GCC, libs={"libv.so": v})
    app = c(calling(A, B), *runpath("/b"), "-Wl,--allow-shlib-undefined", compiler=MUSL_GCC, libs={"libv.so": v, B: b})
    app = patched(app, "--replace-needed", "libv.so", "/a/libs1.so")
    return {"app": as_on_alpine(app), "a/libs1.so": as_on_alpine(v), f"b/{B}": as_on_alpine(b)}


REFUSALS = (
    on("musl_text_in_the_place_of_a_library", "M14", lambda: spoilt(LONG_TEXT), "Exec format error"),
    on("musl_an_empty_file_in_the_place_of_a_library", "M14", lambda: spoilt(""), "Exec format error"),
    on("musl_a_directory_in_the_place_of_a_library", "M14", lambda: {**spoilt(""), f"a/{A}": folder()}, "Is a directory"),
    on("musl_a_foreign_machine_is_final", "M14 T54",
       lambda: {**lacking(UNCALLED), f"a/{A}": foreign("aarch64-linux-gnu", UNKNOWN)}, "unsupported relocation type"),
    on("musl_a_foreign_machine_without_relocations", "M14 T54",
       lambda: {**lacking(UNCALLED), f"a/{A}": foreign("aarch64-linux-gnu", "int liba(void) { return 0; }\n")}),
    on("musl_the_other_class", "M14",
       lambda: spoilt(foreign("x86-linux-gnu", "int liba(void) { return 0; }\n")), "Exec format error"),
    on("musl_a_program_as_a_library", "M14 T95", lambda: spoilt(musl_hello()), f"liba: {NOT_FOUND}"),
    on("musl_a_library_closed_to_the_user", "M8 C13",
       lambda: {**a_in("a", *runpath("/a")), f"a/{A}": file(one(A, by=MUSL_GCC), 0o600)}, MISSING, user="1000"),
)  # fmt: skip

UNKNOWN = "static int near;\nint *kept = &near;\nint liba(void) { return 0; }\n"


def foreign(target: str, source: str) -> bytes:
    return library(A, source, "-nostdlib", compiler=zig(target))


SYMBOLS = (
    on("musl_a_function_that_is_never_called", "M20 T82", lambda: lacking(UNCALLED), f"Error relocating /app: liba: {NOT_FOUND}"),
    on("musl_the_address_of_a_function", "M20 T85", lambda: lacking(wanting_data("liba")),
       f"Error relocating /app: liba: {NOT_FOUND}"),
    on("musl_a_weak_reference", "M20 T86", lambda: lacking(
        MARKED.format(declared="int liba(void) __attribute__((weak));\nint (*kept)(void) = liba;\n", body=""))),
    on("musl_versions_are_not_looked_at", "M24",
       lambda: {"app": as_on_alpine(linked_with(versioned(V2, BOTH, by=MUSL_GCC), *runpath("/a"), by=MUSL_GCC)),
                f"a/{A}": one(A, by=MUSL_GCC)}),
    on("musl_relr_on_1_2_5", "M27 T89", lambda: {"app": relr()}),
    on("musl_relr_on_1_2_3", "M27 T89", lambda: {"app": relr()}, base="debian-musl", crashes=139),
)  # fmt: skip
UNCALLED = calling(A).replace("n += liba();", "if (argc > 5) n += liba();")
V2 = "V1 { liba; };\nV2 { other; } V1;\n"
BOTH = "int liba(void) { return 0; }\nint other(void) { return 0; }\n"


def lacking(source: str) -> Items:
    """/app linked against liba with its function, run with a liba that has another one."""
    app = as_on_alpine(linked_with(one(A, by=MUSL_GCC), *runpath("/a"), source=source, by=MUSL_GCC))
    return {"app": app, f"a/{A}": as_on_alpine(library(A, "int another(void) { return 0; }\n", compiler=MUSL_GCC))}


def relr() -> bytes:
    source = MARKED.format(declared="int kept; int *pointer = &kept; int **two = &pointer;\n", body="n += **two; ")
    return as_on_alpine(c(source, "-Wl,-z,pack-relative-relocs", compiler=MUSL_GCC))


LOADER = "lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"
GLIBC_ON_MUSL = (
    on("glibc_hello_by_a_linked_musl_loader", "M2 M51 A3", lambda: {"app": hello(), LOADER: symlink(MUSL)}),
    on("glibc_libm_by_a_linked_musl_loader", "M2 M51 T102",
       lambda: {"app": c(MARKED.format(declared="double cos(double);\n", body="n += cos(argc) > 2; "), "-lm"),
       LOADER: symlink(MUSL)}),
    on("glibc_checked_function_by_a_linked_musl_loader", "M51",
       lambda: {"app": c(CHECKED, "-D_FORTIFY_SOURCE=2", "-O2"), LOADER: symlink(MUSL)}, f"__printf_chk: {NOT_FOUND}"),
)  # fmt: skip
CHECKED = '#include <stdio.h>\nint main(int argc, char **argv) { printf("hello\\n%d\\n", argc); return 0; }\n'
RELEASES = tuple(
    on(f"musl_1_2_3_{name}", rules, files, fails, base="debian-musl", **more)  # type: ignore[arg-type]
    for name, rules, files, fails, more in (
        ("runpath", "M4", lambda: a_in("a", *runpath("/a")), "", {"good": True}),
        ("library_nowhere", "M15", lambda: {"app": needs(A, by=MUSL_GCC)}, MISSING, {}),
        ("a_function_that_is_never_called", "M20", lambda: lacking(UNCALLED), f"Error relocating /app: liba: {NOT_FOUND}", {}),
    )
)

COMMANDS = (
    on("musl_loader_as_a_command", "M3", lambda: {"app": program(musl_hello(), 0o644)}, cmd=f"{MUSL} /app"),
    on("musl_loader_as_a_command_with_a_missing_library", "M3 M15", lambda: {"app": needs(A, by=MUSL_GCC)}, MISSING,
       cmd=f"{MUSL} /app"),
    on("musl_loader_as_a_command_without_a_program", "M60", dict, "musl libc (x86_64)", cmd=MUSL),
    on("musl_loader_as_a_command_for_nothing", "M60", dict, "cannot load /nope", cmd=f"{MUSL} /nope"),
    on("musl_loader_as_a_command_with_a_library_path", "M3", lambda: a_in("a"), cmd=f"{MUSL} --library-path /a /app"),
    on("musl_loader_as_a_command_with_a_preload", "M3", lambda: {**lacking(UNCALLED), "p.so": one(A, by=MUSL_GCC)},
       cmd=f"{MUSL} --preload=/p.so -- /app"),
    on("musl_loader_as_a_command_with_an_unknown_option", "M60", lambda: {"app": musl_hello()}, "Usage:",
       cmd=f"{MUSL} --nope /app"),
    on("musl_loader_as_a_command_for_text", "M60", lambda: {"app": file(LONG_TEXT)}, "Not a valid dynamic program",
       cmd=f"{MUSL} /app"),
    on("musl_loader_as_a_command_for_a_directory", "M60", lambda: {"app": folder()}, "Not a valid dynamic program",
       cmd=f"{MUSL} /app"),
    on("musl_loader_as_a_command_for_a_static_program", "M60", lambda: {"app": hello("-static", "-no-pie", by=MUSL_GCC)},
       "Not a valid dynamic program", cmd=f"{MUSL} /app"),
    on("musl_loader_as_a_command_in_the_working_dir", "M3", lambda: {"srv/app": musl_hello()}, cmd=f"{MUSL} app",
       working_dir="/srv"),
    on("musl_loader_as_a_command_for_a_closed_file", "M60", lambda: {"app": file(musl_hello(), 0o600)},
       "cannot load /app: Permission",
       cmd=f"{MUSL} /app", user="1000"),
)  # fmt: skip

IMAGES = (*SEARCH, *REFUSALS, *SYMBOLS, *GLIBC_ON_MUSL, *RELEASES, *COMMANDS)
