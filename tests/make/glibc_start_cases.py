"""What glibc does with the files it has found, up to the entry point, symbols apart: T76-T79, T90-T101."""

from __future__ import annotations

from analyzers.elf import read_elf
from tests.make.elves import build, c, patched
from tests.make.glibc_cases import ABSENT, BARE, EXIT, LIB, MULTIARCH, STARTED, Case, changed, elf, fails, lib, prog, v
from tests.make.glibc_loaders import library_of
from tests.make.glibc_symbol_cases import CALLS, V1, undefined, unversioned, user_of, versioned_lib, wants_v2
from tests.make.layers import Item, file, program
from tests.make.synthetic import EXIT_42
from tests.make.views import capability

MAPPING = (
    Case(
        id="t95_a_fixed_program_as_library",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": program(c(EXIT, *BARE, "-no-pie", "-Wl,-e,_start"))},
        lines=fails("libv.so: cannot dynamically load executable"),
        exit_code=127,
    ),
    Case(
        id="t95_a_position_independent_program_as_library",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": program(c(EXIT, *BARE, "-pie"))},
        lines=fails("libv.so: cannot dynamically load position-independent executable"),
        exit_code=127,
    ),
    Case(
        id="t96_debug_information_as_library",
        items=lambda: {
            "x": prog(LIB, runpath="/a"),
            "a/libv.so": file(build(["objcopy", "--only-keep-debug", "elf", "out"], {"elf": v().content}, "out")),
        },
        lines=fails("libv.so: object file has no dynamic section"),
        exit_code=127,
    ),
    Case(
        id="t97_a_truncated_library",
        items=lambda: {
            "x": prog(LIB, runpath="/a"),
            "a/libv.so": file(elf(shared=LIB, source="int big[100000] = {1}; int *p = big;")[:8192]),
        },
        crash="SIGBUS",
    ),
    Case(
        id="g31_no_segments",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 56, 0, 2))},
        lines=fails("libv.so: object file has no loadable segments"),
        exit_code=127,
    ),
)

PRELOADS = (
    Case(
        id="t91_a_missing_preload_is_ignored",
        items=lambda: {"x": prog()},
        env=("LD_PRELOAD=/nope.so",),
        lines=("ERROR: ld.so: object '/nope.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.",),
    ),
    Case(
        id="g38_a_text_preload_is_ignored",
        items=lambda: {"x": prog(), "t.so": "text" * 20},
        env=("LD_PRELOAD=/t.so",),
        lines=("ERROR: ld.so: object '/t.so' from LD_PRELOAD cannot be preloaded (invalid ELF header): ignored.",),
    ),
    Case(
        id="g38_a_preload_of_another_class_is_ignored",
        items=lambda: {"x": prog(), "t.so": file(changed(v().content, 4, 1))},
        env=("LD_PRELOAD=/t.so",),
        lines=("ERROR: ld.so: object '/t.so' from LD_PRELOAD cannot be preloaded (wrong ELF class: ELFCLASS32): ignored.",),
    ),
    Case(
        id="t92_a_preload_that_misses_a_library",
        items=lambda: {"x": prog(), "p.so": lib("p.so", LIB)},
        env=("LD_PRELOAD=/p.so",),
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g15_preloads_use_the_programs_runpath",
        items=lambda: {"x": prog(runpath="/a"), "a/libv.so": v()},
        env=("LD_PRELOAD=libv.so",),
    ),
    Case(
        id="g38_separators_of_the_variable",
        items=lambda: {"x": prog(), "a.so": v()},
        env=("LD_PRELOAD=/a.so:/n1 /n2",),
        lines=(
            "ERROR: ld.so: object '/n1' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.",
            "ERROR: ld.so: object '/n2' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.",
        ),
    ),
    Case(
        id="g38_separators_of_the_file",
        items=lambda: {"x": prog(), "etc/ld.so.preload": "/n1:/n2\t/n3 # /n4\n/n5"},
        lines=tuple(
            f"ERROR: ld.so: object '/n{index}' from /etc/ld.so.preload cannot be preloaded (cannot open shared object file): "
            "ignored."
            for index in (1, 2, 3, 5)
        ),
    ),
    Case(
        id="g39_later_comments_may_stay",
        items=lambda: {"x": prog(), "etc/ld.so.preload": "# a long first comment here\n/n1\n# b\n"},
        lines=tuple(
            f"ERROR: ld.so: object '{name}' from /etc/ld.so.preload cannot be preloaded (cannot open shared object file): "
            "ignored."
            for name in ("/n1", "#", "b")
        ),
    ),
    Case(
        id="g40_an_unreadable_preload_file_is_ignored",
        items=lambda: {"x": prog(), "etc/ld.so.preload": file("/n1\n", 0o600)},
        user="1000:1000",
    ),
    Case(
        id="t93_a_filter_without_its_filtee",
        items=lambda: {"x": prog("libf.so", runpath="/a"), "a/libf.so": lib("libf.so", flags=("-Wl,-F,libv.so",))},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t93_an_auxiliary_filter_without_its_filtee",
        items=lambda: {"x": prog("libf.so", runpath="/a"), "a/libf.so": lib("libf.so", flags=("-Wl,-f,libv.so",))},
    ),
    Case(
        id="t94_an_auditor_that_is_missing",
        since=(2, 32),
        items=lambda: {"x": prog(flags=("-Wl,--audit,libaud.so",))},
        lines=("ERROR: ld.so: object 'libaud.so' cannot be loaded as audit interface: cannot open shared object file; ignored.",),
    ),
    Case(
        id="g40_ld_audit_that_is_missing",
        items=lambda: {"x": prog()},
        env=("LD_AUDIT=/n.so",),
        lines=("ERROR: ld.so: object '/n.so' cannot be loaded as audit interface: cannot open shared object file; ignored.",),
    ),
    Case(
        id="t106_a_set_uid_program_ignores_ld_library_path",
        items=lambda: {"x": program(elf(LIB), 0o4755), "d/libv.so": v()},
        env=("LD_LIBRARY_PATH=/d",),
        user="1000:1000",
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g22_a_set_uid_program_keeps_an_absolute_runpath",
        items=lambda: {"x": program(elf(LIB, runpath="/d"), 0o4755), "d/libv.so": v()},
        user="1000:1000",
    ),
    Case(
        id="g22_a_set_uid_program_loses_origin",
        items=lambda: {"x": program(elf(LIB, runpath="$ORIGIN/d"), 0o4755), "d/libv.so": v()},
        user="1000:1000",
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g22_origin_below_a_system_directory_stays",
        items=lambda: {"usr/lib/p/x": program(elf(LIB, runpath="$ORIGIN/d"), 0o4755), "usr/lib/p/d/libv.so": v()},
        cmd=("/usr/lib/p/x",),
        user="1000:1000",
    ),
    Case(
        id="g22_preloads_of_a_set_uid_program",
        items=lambda: {
            "x": program(elf(), 0o4755),
            "usr/lib/libv.so": v(),
            "usr/lib/libw.so": file(elf(shared="libw.so"), 0o4644),
        },
        env=("LD_PRELOAD=libv.so:libw.so:/usr/lib/libv.so",),
        user="1000:1000",
        lines=("ERROR: ld.so: object 'libv.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.",),
    ),
    Case(
        id="g22_a_set_uid_program_run_by_its_owner",
        items=lambda: {"x": program(elf(LIB), 0o4755), "d/libv.so": v()},
        env=("LD_LIBRARY_PATH=/d",),
    ),
    Case(
        id="t107_a_program_with_capabilities_run_by_a_user",
        items=lambda: {"x": program(elf(LIB), capability=capability()), "d/libv.so": v()},
        env=("LD_LIBRARY_PATH=/d",),
        user="1000:1000",
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t107_a_program_with_capabilities_run_by_root",
        items=lambda: {"x": program(elf(LIB), capability=capability()), "d/libv.so": v()},
        env=("LD_LIBRARY_PATH=/d",),
    ),
)

MISSING_V2 = "/x: /a/libv.so: version `V2' not found (required by /x)"
VERSIONS = (
    Case(
        id="t76_a_version_that_is_not_defined",
        items=lambda: {"x": program(user_of(wants_v2())), "a/libv.so": file(versioned_lib(V1))},
        lines=(MISSING_V2,),
        exit_code=1,
    ),
    Case(
        id="g43_every_missing_version_is_told",
        items=lambda: {
            "x": program(elf(LIB, "liba.so", source=CALLS, libs={LIB: wants_v2()}, runpath="/a")),
            "a/liba.so": file(elf(LIB, shared="liba.so", source=CALLS, libs={LIB: wants_v2()})),
            "a/libv.so": file(versioned_lib(V1)),
        },
        lines=(MISSING_V2, "/x: /a/libv.so: version `V2' not found (required by /a/liba.so)"),
        exit_code=1,
    ),
    Case(
        id="g44_another_library_does_not_help",
        items=lambda: {
            "x": program(elf(LIB, "libw.so", source=CALLS, libs={LIB: wants_v2()}, runpath="/a")),
            "a/libw.so": file(elf(shared="libw.so", source="int foo(void) { return 1; }", script="V2 { global: foo; };")),
            "a/libv.so": file(versioned_lib(V1)),
        },
        lines=(MISSING_V2,),
        exit_code=1,
    ),
    Case(
        id="t77_a_provider_without_versions",
        until=(2, 99),
        items=lambda: {
            "x": program(user_of(wants_v2(), "extern int foo(void); void use(void) { foo(); }\n")),
            "a/libv.so": file(unversioned()),
        },
        lines=("/x: /a/libv.so: no version information available (required by /x)",),
    ),
    Case(
        id="t78_a_provider_without_version_table_up_to_2_40",
        since=(2, 36),
        until=(2, 40),
        items=lambda: {"x": program(user_of(wants_v2())), "a/libv.so": file(unversioned())},
        lines=(
            "/x: /a/libv.so: no version information available (required by /x)",
            "Inconsistency detected by ld.so: dl-lookup.c: 107: check_match: Assertion `version->filename == NULL || ! "
            "_dl_name_match_p (version->filename, map)' failed!",
        ),
        exit_code=127,
    ),
    Case(
        id="t78_a_provider_without_version_table_since_2_41",
        since=(2, 41),
        items=lambda: {"x": program(user_of(wants_v2())), "a/libv.so": file(unversioned())},
        lines=("/x: /a/libv.so: no version information available (required by /x)",),
    ),
    Case(
        id="t79_a_version_need_without_its_library",
        since=(2, 35),
        items=lambda: {
            "x": program(
                patched(user_of(wants_v2(), "extern int foo(void); void use(void) { foo(); }\n"), "--remove-needed", LIB)
            )
        },
        lines=("Inconsistency detected by ld.so: dl-version.c: 204: _dl_check_map_versions: Assertion `needed != NULL' failed!",),
        exit_code=127,
    ),
    Case(
        id="g48_a_definition_without_version_answers_one_with",
        items=lambda: {
            "x": program(elf("liba.so", LIB, source=CALLS, libs={LIB: wants_v2()}, runpath="/a")),
            "a/liba.so": file(elf(shared="liba.so", source="int foo(void) { return 2; }")),
            "a/libv.so": file(wants_v2()),
        },
    ),
)


def hello(*flags: str) -> Item:
    """A program with the C library."""
    return program(c(f"int main(void) {{ return {STARTED}; }}\n", "-fcf-protection=none", *flags))


def with_libc(release: str, **more: Item) -> dict[str, Item | bytes | str]:
    return {"x": hello(), f"{MULTIARCH}/libc.so.6": library_of(release, "libc.so.6"), **more}


def libc_that_is_run() -> Item:
    """The C library is a program too; here one that ends with the status of those that came to their own code."""
    library = library_of("machine", "libc.so.6")
    facts = read_elf(library.content).facts
    load = next(each for each in facts.segments if each.type == 1 and each.vaddr <= facts.entry < each.vaddr + each.filesz)
    at = facts.entry - load.vaddr + load.offset
    return program(library.content[:at] + EXIT_42 + library.content[at + len(EXIT_42) :])


def wants_strlen() -> Item:
    """A library that takes the address of strlen but does not say that it needs the C library."""
    return lib("libfoo.so", source="unsigned long strlen(const char *); void *p = strlen;\n")


def with_strlen(*order: str) -> dict[str, Item | bytes | str]:
    needs = elf(*order, libs={"libc.so.6": library_of("machine", "libc.so.6").content}, runpath="/a")
    return {"x": program(needs), "a/libfoo.so": wants_strlen(), f"{MULTIARCH}/libc.so.6": library_of("machine", "libc.so.6")}


LIBC = (
    Case(id="g55_one_build", since=(2, 36), items=lambda: with_libc("machine"), until=(2, 36)),
    Case(
        id="t99_a_newer_libc_under_an_older_loader",
        since=(2, 36),
        items=lambda: with_libc("2.41"),
        until=(2, 36),
        lines=undefined("__tunable_is_initialized, version GLIBC_PRIVATE", f"/{MULTIARCH}/libc.so.6"),
        exit_code=127,
    ),
    Case(id="t100_an_older_libc_under_a_newer_loader", items=lambda: with_libc("machine"), since=(2, 41), crash="SIGABRT"),
    Case(id="g55_libc_run_by_its_own_loader", items=lambda: {"x": libc_that_is_run()}, since=(2, 36), until=(2, 36)),
    Case(id="g55_libc_run_by_a_newer_loader", items=lambda: {"x": libc_that_is_run()}, since=(2, 41), crash="SIGABRT"),
    Case(
        id="t101_libdl_left_behind",
        items=lambda: {**with_libc("machine"), "x": program(patched(hello().content, "--add-needed", "libdl.so.2"))},
        until=(2, 36),
        lines=fails(f"libdl.so.2: {ABSENT}"),
        exit_code=127,
    ),
    Case(id="g55_no_libc_at_all", items=lambda: {"x": hello()}, lines=fails(f"libc.so.6: {ABSENT}"), exit_code=127),
    Case(
        id="t90_relr_without_its_mark",
        since=(2, 36),
        items=lambda: {
            "x": program(
                elf(
                    "libc.so.6",
                    source="extern int foo(void); int (*f)(void) = foo; int a, *p = &a, *q = &a;\n",
                    libs={"libc.so.6": versioned_lib(V1, shared="libc.so.6")},
                    runpath="/a",
                    flags=("-pie", "-fPIE", "-Wl,-z,pack-relative-relocs"),
                )
            ),
            "a/libc.so.6": file(versioned_lib(V1, shared="libc.so.6")),
        },
        lines=fails("/x: DT_RELR without GLIBC_ABI_DT_RELR dependency"),
        exit_code=127,
    ),
    Case(
        id="g55_a_libc_that_is_none",
        since=(2, 32),
        items=lambda: {"x": program(elf("libc.so.6", runpath="/a")), "a/libc.so.6": lib("libc.so.6")},
        lines=(
            "Inconsistency detected by ld.so: dl-call-libc-early-init.c: 37: _dl_call_libc_early_init: "
            "Assertion `sym != NULL' failed!",
        ),
        exit_code=127,
        until=(2, 40),
    ),
    Case(
        id="g54_a_resolver_of_libc_before_libc_is_ready",
        since=(2, 36),
        until=(2, 36),
        items=lambda: with_strlen("libc.so.6", "libfoo.so"),
        lines=("/x: Relink `/a/libfoo.so' with `/lib/x86_64-linux-gnu/libc.so.6' for IFUNC symbol `strlen'",),
        crash="SIGSEGV",
    ),
    Case(
        id="g54_a_resolver_of_libc_after_libc_is_ready",
        since=(2, 36),
        until=(2, 36),
        items=lambda: with_strlen("libfoo.so", "libc.so.6"),
    ),
)
