"""ld.so run as a command (G62)."""

from __future__ import annotations

from tests.make.elves import c
from tests.make.glibc_cache_cases import FOUND, MISSING, cache, cached
from tests.make.glibc_cases import ABSENT, BARE, EXIT, LIB, LOADER, Case, changed, fails, lib, prog, v
from tests.make.layers import file, program, symlink

LD = "/" + LOADER
COMMANDS = (
    Case(id="g62_the_loader_as_command", items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": v()}, cmd=(LD, "/x")),
    Case(id="g62_without_execute_permission", items=lambda: {"x": file(prog().content)}, cmd=(LD, "/x")),
    Case(
        id="g62_its_interpreter_does_not_matter", items=lambda: {"x": prog(flags=("-Wl,--dynamic-linker,/nope",))}, cmd=(LD, "/x")
    ),
    Case(
        id="g62_no_program",
        since=(2, 33),
        told_whole_since=(2, 33),
        items=dict,
        cmd=(LD,),
        lines=(f"{LD}: missing program name", f"Try '{LD} --help' for more information."),
        exit_code=1,
    ),
    Case(
        id="g62_an_unknown_option",
        since=(2, 33),
        items=dict,
        cmd=(LD, "--nope", "/x"),
        lines=(f"{LD}: unrecognized option '--nope'", f"Try '{LD} --help' for more information."),
        exit_code=1,
    ),
    Case(id="g62_an_absent_program", items=dict, cmd=(LD, "/x"), lines=fails(f"/x: {ABSENT}"), exit_code=127),
    Case(
        id="g62_a_bare_name_is_no_path",
        items=lambda: {"bin/x": prog()},
        cmd=(LD, "x"),
        working_dir="/bin",
        lines=fails(f"x: {ABSENT}", "x"),
        exit_code=127,
    ),
    Case(
        id="g62_a_text_file",
        items=lambda: {"x": file("#!/bin/sh" * 20, 0o755)},
        cmd=(LD, "/x"),
        lines=fails("/x: invalid ELF header"),
        exit_code=127,
    ),
    Case(
        id="g62_another_class",
        items=lambda: {"x": file(changed(prog().content, 4, 1))},
        cmd=(LD, "/x"),
        lines=fails("/x: wrong ELF class: ELFCLASS32"),
        exit_code=127,
    ),
    Case(
        id="g62_itself",
        since=(2, 35),
        items=dict,
        cmd=(LD, LD),
        lines=("ld-linux-x86-64.so.2: loader cannot load itself",),
        exit_code=127,
    ),
    Case(
        id="g62_library_path",
        items=lambda: {"x": prog(LIB), "d/libv.so": v()},
        cmd=(LD, "--library-path", "/d", "/x"),
        env=("LD_LIBRARY_PATH=/nope",),
    ),
    Case(
        id="g62_preload",
        items=lambda: {"x": prog()},
        cmd=(LD, "--preload", "/n.so", "/x"),
        lines=("ERROR: ld.so: object '/n.so' from --preload cannot be preloaded (cannot open shared object file): ignored.",),
    ),
    Case(
        id="g62_argv0",
        since=(2, 33),
        items=lambda: {"x": prog(LIB)},
        cmd=(LD, "--argv0", "me", "/x"),
        lines=fails(f"libv.so: {ABSENT}", "me"),
        exit_code=127,
    ),
    Case(
        id="g62_inhibit_cache",
        items=lambda: {**cached(cache(FOUND))},
        cmd=(LD, "--inhibit-cache", "/x"),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="g62_inhibit_rpath",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", LIB, runpath="/b"), "b/libv.so": v()},
        cmd=(LD, "--inhibit-rpath", "/a/liba.so", "/x"),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="g21_origin_of_a_program_given_to_the_loader",
        until=(2, 41),
        items=lambda: {"x": symlink("/r/p"), "r/p": prog(LIB, runpath="$ORIGIN/a"), "a/libv.so": v()},
        cmd=(LD, "/x"),
    ),
    Case(
        id="g62_a_fixed_program",
        since=(2, 35),
        items=lambda: {"x": program(c(EXIT, *BARE, "-no-pie", "-Wl,-e,_start"))},
        cmd=(LD, "/x"),
    ),
    Case(
        id="g62_a_static_program",
        since=(2, 35),
        items=lambda: {"x": program(c(EXIT, *BARE, "-static", "-Wl,-e,_start"))},
        cmd=(LD, "/x"),
    ),
)
