"""Images that come as far as glibc's loader: where it looks, what it refuses, versions, symbols, privileges.

Most stand on Debian (2.36); those whose answer depends on the release stand also on its neighbours.
"""

from __future__ import annotations

from analyzers.start import Overrides
from tests.fleet.image import BASES, FleetImage, Items, runs
from tests.fleet.libraries import (
    LONG_TEXT,
    SHORT_TEXT,
    A,
    B,
    linked_with,
    needs,
    one,
    stripped_of_code,
    three,
    two,
    versioned,
    wanting_data,
    with_byte,
)
from tests.fleet.programs import MARKED, calling, hello
from tests.make import roots
from tests.make.elves import c, library, patched, rpath, runpath, zig
from tests.make.layers import Item, file, folder, program, symlink
from tests.make.views import capability

NOT_THERE = "cannot open shared object file: No such file or directory"
TRIPLET = "x86_64-linux-gnu"
AARCH64 = zig("aarch64-linux-gnu")
I386 = zig("x86-linux-gnu")
OLD = zig("x86_64-linux-gnu.2.28")


def a_in(place: str, *flags: str, **more: object) -> Items:
    """/app that needs liba, which lies in `place`."""
    return {"app": needs(A, flags=flags), f"{place}/{A}": one(A), **more}  # type: ignore[dict-item]


def alone(*flags: str) -> Items:
    return {"app": needs(A, flags=flags)}


def debian(id: str, rules: str, files: object, fails: str = "", base: str = "debian", **more: object) -> FleetImage:
    return runs(id, rules, base, files, fails=fails, **more)  # type: ignore[arg-type]


# One shared object that is wanted first at /a, by run path, and is there in a way that does not work.
def spoilt(content: bytes | str) -> Items:
    return {"app": needs(A, flags=runpath("/a:/b")), f"a/{A}": file(content), f"b/{A}": one(A)}


SEARCH = (
    debian("glibc_runpath", "G10 G11", lambda: a_in("a", *runpath("/a")), good=True),
    debian("glibc_rpath", "G10 G11", lambda: a_in("a", *rpath("/a")), good=True),
    debian("glibc_ld_library_path", "C9 G10 G13", lambda: a_in("a"), env=("LD_LIBRARY_PATH=/nope:/a",), good=True),
    debian("glibc_ld_library_path_said_at_run_time", "C9 G10", lambda: a_in("a"),
           overrides=Overrides(env=("LD_LIBRARY_PATH=/a",))),
    debian("glibc_library_nowhere", "G18", alone, f"{A}: {NOT_THERE}"),
    debian("glibc_rpath_beats_ld_library_path", "G11 T41",
           lambda: a_in("a", *rpath("/a"), **{f"b/{A}": file(LONG_TEXT)}), env=("LD_LIBRARY_PATH=/b",)),
    debian("glibc_runpath_loses_to_ld_library_path", "G11 T42",
           lambda: a_in("a", *runpath("/a"), **{f"b/{A}": file(LONG_TEXT)}), f"/b/{A}: invalid ELF header",
           env=("LD_LIBRARY_PATH=/b",)),
    debian("glibc_runpath_is_not_inherited", "G11 T44", lambda: two(runpath("/a"), (), f"a/{B}"), f"{B}: {NOT_THERE}"),
    debian("glibc_rpath_is_inherited", "G11", lambda: two(rpath("/a"), (), f"a/{B}"), good=True),
    debian("glibc_a_librarys_runpath_stops_the_rpath", "G11 T46", lambda: two(rpath("/a"), runpath("/nope"), f"a/{B}"),
           f"{B}: {NOT_THERE}"),
    debian("glibc_an_ancestors_rpath_serves_its_descendants", "G11 T47", lambda: three("c/libv.so", rpath("/a:/c"), rpath("/b"))),
    debian("glibc_an_empty_element_of_ld_library_path_is_the_working_dir", "G13 T49", lambda: a_in("w"), working_dir="/w",
           env=("LD_LIBRARY_PATH=/nope:",)),
    debian("glibc_semicolons_divide_ld_library_path", "G13 T50", lambda: a_in("d"), env=("LD_LIBRARY_PATH=/x;/d",)),
    debian("glibc_an_empty_ld_library_path_is_ignored", "G13", lambda: a_in("w"), f"{A}: {NOT_THERE}", working_dir="/w",
           env=("LD_LIBRARY_PATH=",)),
    debian("glibc_origin_of_a_linked_program_is_the_real_file", "G21 T59",
           lambda: {"opt/bin/real": needs(A, flags=runpath("$ORIGIN/../lib")), "app": symlink("/opt/bin/real"),
                    f"opt/lib/{A}": one(A)}, good=True),
    debian("glibc_origin_in_ld_library_path_is_the_programs", "G14", lambda: a_in("a"), env=("LD_LIBRARY_PATH=$ORIGIN/a",)),
    debian("glibc_lib_token", "G20 T61", lambda: a_in(f"usr/lib/{TRIPLET}/x", *runpath("/$LIB/x"))),
    debian("glibc_lib64_is_no_system_directory", "G3 T66", lambda: a_in("usr/lib64"), f"{A}: {NOT_THERE}"),
    debian("glibc_usr_local_lib_without_ldconfig", "G3 T67", lambda: a_in("usr/local/lib"), f"{A}: {NOT_THERE}"),
    debian("glibc_a_directory_of_ld_so_conf_without_ldconfig", "G10 T68",
           lambda: a_in("a", **{"etc/ld.so.conf.d/a.conf": file("/a\n")}), f"{A}: {NOT_THERE}"),
    debian("glibc_a_cache_without_ld_so_conf", "G35 T69", lambda: cached(a_in("usr/local/lib"))),
    debian("glibc_a_cache_entry_whose_file_is_gone", "G37 T70", lambda: stale(f"usr/lib/{A}"), good=True),
    debian("glibc_a_cache_entry_whose_file_is_gone_everywhere", "G37", lambda: stale("elsewhere"), f"{A}: {NOT_THERE}"),
    debian("glibc_a_cache_of_another_byte_order", "G36",
           lambda: {**a_in("usr/local/lib"),
           "etc/ld.so.cache": file(with_byte(roots.debian()["etc/ld.so.cache"].content, 28, 3))},
           f"{A}: {NOT_THERE}"),
    debian("glibc_an_unreadable_cache", "G36", lambda: cached(a_in("usr/local/lib"), 0o600), f"{A}: {NOT_THERE}", user="1000"),
    debian("glibc_an_old_cache_with_a_new_one_inside", "G35", lambda: {"app": needs(A, by=OLD), **old_cache()},
           base="glibc-2.31"),
    debian("glibc_needed_by_path_below_the_working_dir", "G19 T108", lambda: by_path("c/libns.so"), working_dir="/w"),
    debian("glibc_needed_by_path_from_elsewhere", "G19 T108", lambda: by_path("c/libns.so"), f"c/libns.so: {NOT_THERE}"),
    debian("glibc_a_library_loaded_by_path_serves_its_soname", "G6 T63", lambda: soname_reused()),
    debian("glibc_nodeflib", "G10 T109", lambda: {"app": hello("-Wl,-z,nodefaultlib")},
           "libc.so.6: cannot open shared object file"),
    debian("glibc_hwcaps_directory", "G41 T72", lambda: a_in("a/glibc-hwcaps/x86-64-v2", *runpath("/a"))),
    debian("glibc_tls_directory_of_2_36", "G42 T73", lambda: a_in("a/tls/x86_64", *runpath("/a"))),
    debian("glibc_tls_directory_of_2_41", "G42 T73", lambda: a_in("a/tls/x86_64", *runpath("/a")), f"{A}: {NOT_THERE}",
           base="glibc-2.41"),
    debian("glibc_a_library_of_a_link_to_a_link", "G7", lambda: a_in("real", *runpath("/l"), l=symlink("m"), m=symlink("real")),
           good=True),
)  # fmt: skip


def cached(items: Items, mode: int = 0o644) -> Items:
    """With the cache that ldconfig writes for them on top of Debian."""
    both = {**roots.debian(), **{path: item if not isinstance(item, bytes) else program(item) for path, item in items.items()}}
    return {**items, "etc/ld.so.cache": file(roots.cache_of(both), mode)}  # type: ignore[arg-type]


def stale(place: str) -> Items:
    """A cache that knows liba in /usr/local/lib, and liba in another place."""
    known = cached({f"usr/local/lib/{A}": one(A)})["etc/ld.so.cache"]
    return {"app": needs(A), "etc/ld.so.cache": known, place: one(A)}


def old_cache() -> Items:
    root = {**roots.neighbour("2.31"), f"usr/local/lib/{A}": program(one(A))}
    return {f"usr/local/lib/{A}": one(A), "etc/ld.so.cache": file(roots.cache_of(root, "-c", "compat"))}


def by_path(needed: str) -> Items:
    return {"app": patched(needs(A), "--replace-needed", A, needed), f"w/{needed}": one(A)}


def soname_reused() -> Items:
    """/app needs /a/libs1.so, whose soname is libv.so, and libb, which needs libv.so: a name no file has."""
    v = library("libv.so", "int liba(void) { return 0; }\n")
    b = library(B, "int liba(void);\nint libb(void) { return liba(); }\n", libs={"libv.so": v})
    app = c(calling(A, B), *runpath("/b"), "-Wl,--allow-shlib-undefined", libs={"libv.so": v, B: b})
    return {"app": patched(app, "--replace-needed", "libv.so", "/a/libs1.so"), "a/libs1.so": v, f"b/{B}": b}


REFUSALS = (
    debian("glibc_text_in_the_place_of_a_library", "G30 T51", lambda: spoilt(LONG_TEXT), f"/a/{A}: invalid ELF header"),
    debian("glibc_short_text_in_the_place_of_a_library", "G30 T51", lambda: spoilt(SHORT_TEXT), f"/a/{A}: file too short"),
    debian("glibc_a_directory_in_the_place_of_a_library", "G30 T52",
           lambda: {**spoilt(b""), f"a/{A}": folder()}, f"/a/{A}: cannot read file data"),
    debian("glibc_a_foreign_machine_is_passed_over", "G30 T53", lambda: spoilt(foreign(AARCH64))),
    debian("glibc_the_other_class_is_passed_over", "G30 T53", lambda: spoilt(foreign(I386))),
    debian("glibc_only_the_other_class", "G18", lambda: {"app": needs(A, flags=runpath("/a")), f"a/{A}": foreign(I386)},
           f"{A}: wrong ELF class: ELFCLASS32"),
    debian("glibc_a_loop_ends_the_run_path", "G17 T55", lambda: {**spoilt(b""), f"a/{A}": symlink(A)}, f"{A}: {NOT_THERE}"),
    debian("glibc_a_dangling_link_is_passed_over", "G17", lambda: {**spoilt(b""), f"a/{A}": symlink("nowhere")}),
    debian("glibc_another_osabi", "G30 T56", lambda: spoilt(with_byte(one(A), 7, 9)), "ELF file OS ABI invalid"),
    debian("glibc_a_relocatable_file", "G30", lambda: spoilt(c("int liba(void) { return 0; }\n", "-c")),
           "only ET_DYN and ET_EXEC"),
    debian("glibc_a_program_as_a_library", "G31 T95", lambda: spoilt(hello()), "cannot dynamically load position-independent"),
    debian("glibc_a_fixed_program_as_a_library", "G31 T95", lambda: spoilt(hello("-no-pie")),
           "cannot dynamically load executable"),
    debian("glibc_a_debug_file_as_a_library", "G31 T96", lambda: spoilt(stripped_of_code(one(A))), "no dynamic section"),
    debian("glibc_a_truncated_library", "G31 T97", lambda: spoilt(one(A)[:5000]), crashes=135),
    debian("glibc_a_library_closed_to_the_user", "G18 G33 T57 C13",
           lambda: {"app": needs(A, flags=runpath("/a")), f"a/{A}": file(one(A), 0o600)}, f"{A}: {NOT_THERE}", user="1000"),
    debian("glibc_a_directory_closed_to_the_user", "G18 C13",
           lambda: {"app": needs(A, flags=runpath("/a")), "a": folder(0o700), f"a/{A}": one(A)}, f"{A}: {NOT_THERE}",
           user="1000"),
    debian("glibc_a_library_needs_no_execute_bit", "G33", lambda: spoilt(one(A)), user="1000", good=True),
    debian("glibc_an_executable_stack", "G34 K19",
           lambda: {"app": needs(A, flags=("-Wl,-z,execstack", *runpath("/a"))), f"a/{A}": one(A)}),
)  # fmt: skip


def foreign(by: tuple[str, ...]) -> bytes:
    return library(A, "int liba(void) { return 0; }\n", "-nostdlib", compiler=by)


V1 = "V1 { liba; };\n"
V2 = "V1 { liba; };\nV2 { other; } V1;\n"
WANTS_V2 = MARKED.format(declared="int other(void);\n", body="other(); ")
OF_LIBC = "int getpid(void);\nint liba(void) { return 0; }\nint other(void) { return getpid(); }\n"
BOTH = "int liba(void) { return 0; }\nint other(void) { return 0; }\n"


def of_version(script: str, source: str = BOTH, *flags: str) -> Items:
    """/app linked against a liba with versions V1 and V2, run with one of this script; without script, of no version."""
    app = linked_with(versioned(V2, BOTH), "-Wl,-z,now", *runpath("/a"), source=WANTS_V2)
    return {"app": app, f"a/{A}": versioned(script, source) if script else library(A, source, *flags)}


SYMBOLS = (
    debian("glibc_a_version_that_the_library_has", "G43", lambda: of_version(V2), good=True),
    debian("glibc_a_version_that_the_library_lacks", "G43 T76", lambda: of_version(V1), "version `V2' not found"),
    debian("glibc_a_library_that_defines_no_version", "G43 T77", lambda: of_version("", OF_LIBC),
           warns="no version information available"),
    debian("glibc_a_library_without_a_version_table", "G48 T78", lambda: of_version("", BOTH, "-nostdlib"), "Assertion"),
    debian("glibc_2_41_a_library_without_a_version_table", "G48 T78", lambda: of_version("", BOTH, "-nostdlib"),
           base="glibc-2.41", warns="no version information available"),
    debian("glibc_a_version_wanted_of_a_file_that_is_not_needed", "G43 T79", lambda: leftover_version(),
           "Assertion `needed != NULL'"),
    debian("glibc_a_function_that_is_never_called", "G52 T82", lambda: lacking(calling(A)), good=True),
    debian("glibc_a_function_that_is_never_called_bound_now", "G52 T83", lambda: lacking(calling(A)), "undefined symbol: liba",
           env=("LD_BIND_NOW=1",)),
    debian("glibc_an_empty_ld_bind_now", "G52 C9", lambda: lacking(calling(A)), env=("LD_BIND_NOW=",)),
    debian("glibc_a_program_linked_now", "G52 T83", lambda: lacking(calling(A), "-Wl,-z,now"), "undefined symbol: liba"),
    debian("glibc_the_address_of_a_function", "G52 T85", lambda: lacking(wanting_data("liba")), "undefined symbol: liba"),
    debian("glibc_a_weak_reference", "G49 T86",
           lambda: lacking(MARKED.format(declared="int liba(void) __attribute__((weak));\nint (*kept)(void) = liba;\n",
           body=""))),
    debian("glibc_relr_of_2_36_on_2_31", "G45", lambda: {"app": relr()}, "version `GLIBC_ABI_DT_RELR' not found",
           base="glibc-2.31"),
    debian("glibc_relr_of_2_36_on_2_41", "G45", lambda: {"app": relr()}, base="glibc-2.41"),
    debian("glibc_libm_of_2_41_beside_2_36", "G55",
           lambda: {"app": c(MARKED.format(declared="double cos(double);\n", body="n += cos(argc) > 2; "), "-lm"),
                    f"usr/lib/{TRIPLET}/libm.so.6": roots.neighbour("2.41")[f"usr/lib/{TRIPLET}/libm.so.6"]}),
)  # fmt: skip


def lacking(source: str, *flags: str) -> Items:
    """/app linked against liba with its function, run with a liba that has another one."""
    app = linked_with(one(A), "-Wl,-z,lazy", *runpath("/a"), *flags, source=_uncalled(source))
    return {"app": app, f"a/{A}": library(A, "int another(void) { return 0; }\n")}


def _uncalled(source: str) -> str:
    return source.replace("n += liba();", "if (argc > 5) n += liba();")


def leftover_version() -> Items:
    app = of_version(V2)["app"]
    assert isinstance(app, bytes)
    return {"app": patched(app, "--remove-needed", A)}


def relr() -> bytes:
    return c(MARKED.format(declared="int kept; int *pointer = &kept; int **two = &pointer;\n", body="n += kept; "),
             "-Wl,-z,pack-relative-relocs")  # fmt: skip


BASE_OF = {"2.31": "glibc-2.31", "2.36": "debian", "2.41": "glibc-2.41"}


def libc_of(release: str) -> Item:
    root = BASES[BASE_OF[release]]()
    name = "libc-2.31.so" if release == "2.31" else "libc.so.6"
    return root[f"usr/lib/{TRIPLET}/{name}"]


def mixed(loader: str, libc: str, fails: str, **more: object) -> FleetImage:
    """A loader of one release with a libc of another (G55)."""
    return debian(
        f"glibc_a_loader_of_{loader.replace('.', '_')}_with_a_libc_of_{libc.replace('.', '_')}", "G55 T99 T100",
        lambda: {"app": hello(by=OLD), f"usr/lib/{TRIPLET}/libc.so.6": libc_of(libc)}, fails, base=BASE_OF[loader], **more,
    )  # fmt: skip


MIXED = (
    mixed("2.31", "2.36", "version `GLIBC_2.35' not found"),
    mixed("2.31", "2.41", "version `GLIBC_2.35' not found"),
    mixed("2.36", "2.31", "Assertion"),
    mixed("2.36", "2.41", "GLIBC_PRIVATE"),
    mixed("2.41", "2.31", "Assertion"),
    mixed("2.41", "2.36", "", crashes=139),
)
FUNCTION_OF_A = f"a/{A}"
PRELOADS = (
    debian("glibc_preload_of_a_missing_file", "G38 T91 C9", lambda: {"app": hello()}, env=("LD_PRELOAD=/nope.so",),
           warns="ignored"),
    debian("glibc_preload_of_text", "G38", lambda: {"app": hello(), "t.so": file(LONG_TEXT)}, env=("LD_PRELOAD=/t.so",),
           warns="ignored"),
    debian("glibc_preload_of_two", "G38", lambda: {"app": hello(), f"a/{A}": one(A)}, env=("LD_PRELOAD=/nope.so /a/liba.so:x.so",
           ),
           warns="ignored"),
    debian("glibc_a_preload_whose_own_library_is_missing", "G38 T92",
           lambda: {"app": hello(), **{k: v for k, v in two((), (), "z").items() if k == FUNCTION_OF_A}}, f"{B}: {NOT_THERE}",
           env=("LD_PRELOAD=/a/liba.so",)),
    debian("glibc_a_preload_provides_a_soname", "G6 T65", lambda: a_in("a"), env=("LD_PRELOAD=/a/liba.so",), good=True),
    debian("glibc_preload_file", "G39", lambda: {**a_in("a"), "etc/ld.so.preload": file("# first\n/a/liba.so")}),
    debian("glibc_preload_file_of_a_missing_name", "G39", lambda: {"app": hello(), "etc/ld.so.preload": file("/nope.so\n")},
           warns="ignored"),
    debian("glibc_audit_library_missing", "G40 T94", lambda: {"app": hello("-Wl,--audit=/nope.so")}, warns="ignored"),
    debian("glibc_filter_without_filtee", "G40 T93", lambda: filtered("-Wl,-F,libnope.so"), f"libnope.so: {NOT_THERE}"),
    debian("glibc_auxiliary_without_filtee", "G40 T93", lambda: filtered("-Wl,-f,libnope.so")),
)  # fmt: skip


def filtered(flag: str) -> Items:
    a = library(A, None, flag)
    return {"app": linked_with(a, *runpath("/a")), f"a/{A}": a}


def secured(mode: int = 0o4755, flags: tuple[str, ...] = (), rights: bytes = b"") -> Items:
    return {"app": program(needs(A, flags=flags), mode, capability=rights), f"a/{A}": one(A)}


PRIVILEGES = (
    debian("glibc_set_uid_loses_ld_library_path", "G22 K23 T106", secured, f"{A}: {NOT_THERE}", user="1000",
           env=("LD_LIBRARY_PATH=/a",)),
    debian("glibc_set_uid_for_its_owner", "G22 K23", secured, env=("LD_LIBRARY_PATH=/a",)),
    debian("glibc_set_uid_keeps_an_absolute_run_path", "G22 K23", lambda: secured(flags=runpath("/a")), user="1000"),
    debian("glibc_set_uid_loses_origin", "G22 K23", lambda: secured(flags=runpath("$ORIGIN/a")), f"{A}: {NOT_THERE}",
           user="1000"),
    debian("glibc_set_gid_loses_ld_library_path", "G22 K23", lambda: secured(0o2755), f"{A}: {NOT_THERE}", user="1000:1000",
           env=("LD_LIBRARY_PATH=/a",)),
    debian("glibc_file_capabilities_lose_ld_library_path", "G22 K23 T107", lambda: secured(0o755, rights=capability()),
           f"{A}: {NOT_THERE}", user="1000", env=("LD_LIBRARY_PATH=/a",)),
    debian("glibc_file_capabilities_for_root", "G22 K23 T107", lambda: secured(0o755, rights=capability()),
           env=("LD_LIBRARY_PATH=/a",)),
    debian("glibc_set_uid_ignores_preloads_by_path", "G22", lambda: {"app": program(hello(), 0o4755), f"a/{A}": one(A)},
           user="1000",
           env=("LD_PRELOAD=/nope.so",)),
)  # fmt: skip

LD_SO = f"/lib/{TRIPLET}/ld-linux-x86-64.so.2"


def loader() -> bytes:
    return roots.debian()[f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2"].content


COMMANDS = (
    debian("glibc_loader_as_a_command", "G62", lambda: {"app": program(hello(), 0o644)}, cmd=f"{LD_SO} /app"),
    debian("glibc_loader_as_a_command_with_a_missing_library", "G62", alone, f"{A}: {NOT_THERE}", cmd=f"{LD_SO} /app"),
    debian("glibc_loader_as_a_command_with_a_library_path", "G62", lambda: a_in("a"), cmd=f"{LD_SO} --library-path /a /app"),
    debian("glibc_loader_as_a_command_without_a_program", "G62", dict, "missing program name", cmd=LD_SO),
    debian("glibc_loader_as_a_command_for_nothing", "G62", dict, "/nope: cannot open shared object file", cmd=f"{LD_SO} /nope"),
    debian("glibc_loader_as_a_command_for_a_static_program", "G62", lambda: {"app": hello("-static")}, cmd=f"{LD_SO} /app"),
    debian("glibc_2_31_loader_as_a_command_for_a_static_program", "G62", lambda: {"app": hello("-static")},
           base="glibc-2.31", cmd=f"{LD_SO} /app", crashes=139),
)  # fmt: skip
LINKS = (
    debian("glibc_a_second_copy_of_the_loader", "G7", lambda: {"app": hello()}, env=(f"LD_PRELOAD=/usr{LD_SO}",), crashes=136),
    debian("glibc_2_31_a_second_copy_of_the_loader", "G7", lambda: {"app": hello(by=OLD)}, base="glibc-2.31",
           env=(f"LD_PRELOAD=/usr{LD_SO}",)),
    debian("glibc_a_second_copy_behind_the_loader", "G7", lambda: {**two(runpath("/a"), runpath("/a"), "x"),
           f"a/{B}": file(loader())},
           crashes=136),
    debian("glibc_the_loader_by_its_own_name", "G6", lambda: {"app": hello()}, env=("LD_PRELOAD=/lib64/ld-linux-x86-64.so.2",)),
    debian("glibc_a_cache_that_is_a_library", "G36", lambda: {"app": hello(), "etc/ld.so.cache": file(one(A))}),
    debian("glibc_a_cache_behind_a_link", "G36", lambda: {
        "app": hello(), "etc/ld.so.cache": symlink("../var/ld.so.cache"), "var/ld.so.cache": roots.debian()["etc/ld.so.cache"]}),
)  # fmt: skip

IMAGES = (*SEARCH, *REFUSALS, *SYMBOLS, *MIXED, *PRELOADS, *PRIVILEGES, *COMMANDS, *LINKS)
