"""Where glibc looks and what it makes of the files there: T41-T67, T72, T73, T75, T108, T109."""

from __future__ import annotations

from tests.make.elves import patched
from tests.make.glibc_cases import ABSENT, LIB, MULTIARCH, Case, changed, elf, emptied, fails, lib, other_machine, prog, v
from tests.make.layers import file, folder, hardlink, program, symlink

SEARCH = (
    Case(
        id="t41_rpath_beats_ld_library_path",
        items=lambda: {"x": prog(LIB, rpath="/a"), "a/libv.so": v(), "b/libv.so": "text" * 20},
        env=("LD_LIBRARY_PATH=/b",),
    ),
    Case(
        id="t42_ld_library_path_beats_runpath",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": v(), "b/libv.so": "text" * 20},
        env=("LD_LIBRARY_PATH=/b",),
        lines=fails("/b/libv.so: invalid ELF header"),
        exit_code=127,
    ),
    Case(
        id="t44_runpath_is_not_inherited",
        items=lambda: {"x": prog("liba.so", runpath="/a"), "a/liba.so": lib("liba.so", LIB), "a/libv.so": v()},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t46_a_library_with_runpath_does_not_see_the_programs_rpath",
        items=lambda: {"x": prog("liba.so", rpath="/a"), "a/liba.so": lib("liba.so", LIB, runpath="/nope"), "a/libv.so": v()},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t47_rpath_reaches_over_a_library_with_runpath",
        items=lambda: {
            "x": prog("libp.so", rpath="/a"),
            "a/libp.so": lib("libp.so", "libq.so", runpath="/b"),
            "b/libq.so": lib("libq.so", LIB),
            "a/libv.so": v(),
        },
    ),
    Case(
        id="g11_an_ancestors_rpath_serves_its_dependencies_dependencies",
        items=lambda: {
            "x": prog("libp.so", runpath="/a"),
            "a/libp.so": lib("libp.so", "libq.so", rpath="/b"),
            "b/libq.so": lib("libq.so", LIB),
            "b/libv.so": v(),
        },
    ),
    Case(
        id="t48_an_empty_runpath_disables_rpath",
        items=lambda: {
            "x": prog("liba.so", rpath="/a"),
            "a/liba.so": file(emptied(elf("libv.so", shared="liba.so", runpath="/empty"), b"/empty")),
            "a/libv.so": v(),
        },
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t49_an_empty_element_is_the_working_directory",
        items=lambda: {"x": prog(LIB), "w/libv.so": v()},
        env=("LD_LIBRARY_PATH=/nope:",),
        working_dir="/w",
    ),
    Case(
        id="g13_an_empty_variable_is_no_element",
        items=lambda: {"x": prog(LIB), "w/libv.so": v()},
        env=("LD_LIBRARY_PATH=",),
        working_dir="/w",
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(id="t50_a_semicolon_separates_too", items=lambda: {"x": prog(LIB), "d/libv.so": v()}, env=("LD_LIBRARY_PATH=/x;/d",)),
    Case(
        id="g13_a_semicolon_in_runpath_does_not",
        items=lambda: {"x": prog(LIB, runpath="/x;/d"), "d/libv.so": v()},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(id="g13_relative_directories", items=lambda: {"x": prog(LIB, runpath="d//"), "w/d/libv.so": v()}, working_dir="/w"),
    Case(
        id="t51_a_short_text_file_is_fatal",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": "short", "b/libv.so": v()},
        lines=fails("/a/libv.so: file too short"),
        exit_code=127,
    ),
    Case(
        id="t51_a_linker_script_is_fatal",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": "GROUP ( /b/libv.so )" * 4, "b/libv.so": v()},
        lines=fails("/a/libv.so: invalid ELF header"),
        exit_code=127,
    ),
    Case(
        id="t52_a_directory_is_fatal",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": folder(), "b/libv.so": v()},
        lines=fails("/a/libv.so: cannot read file data: Error 21"),
        exit_code=127,
    ),
    Case(
        id="t53_another_machine_is_passed_over",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": file(other_machine()), "b/libv.so": v()},
    ),
    Case(
        id="t53_another_machine_is_passed_over_whatever_its_marks",
        items=lambda: {
            "x": prog(LIB, runpath="/a:/b"),
            "a/libv.so": file(changed(changed(other_machine(), 5, 2), 7, 9)),
            "b/libv.so": v(),
        },
    ),
    Case(
        id="t53_another_class_is_passed_over",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": file(changed(v().content, 4, 1)), "b/libv.so": v()},
    ),
    Case(
        id="g18_only_another_class",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 4, 1))},
        lines=fails("libv.so: wrong ELF class: ELFCLASS32"),
        exit_code=127,
    ),
    Case(
        id="g18_only_another_machine",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(other_machine())},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t55_a_loop_ends_its_list_only",
        items=lambda: {
            "x": prog(LIB, runpath="/a:/b"),
            "a/libv.so": symlink("libv.so"),
            "b/libv.so": "text" * 20,
            "usr/lib/libv.so": v(),
        },
    ),
    Case(
        id="g17_the_loop_is_in_the_message_when_nothing_follows",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": symlink("libv.so"), f"{MULTIARCH}/y": "1", "usr/lib/y": "1"},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g17_a_dangling_link_is_passed_over",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": symlink("/nope"), "b/libv.so": v()},
    ),
    Case(id="g17_a_file_for_a_directory", items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a": "1", "b/libv.so": v()}),
    Case(
        id="t56_another_osabi_is_fatal",
        items=lambda: {"x": prog(LIB, runpath="/a:/b"), "a/libv.so": file(changed(v().content, 7, 9)), "b/libv.so": v()},
        lines=fails("/a/libv.so: ELF file OS ABI invalid"),
        exit_code=127,
    ),
    Case(
        id="g30_the_gnu_osabi_is_accepted",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 7, 3))},
    ),
    Case(
        id="g30_abi_version",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 8, 1))},
        lines=fails("/a/libv.so: ELF file ABI version invalid"),
        exit_code=127,
    ),
    Case(
        id="g30_byte_order",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 5, 2))},
        lines=fails("/a/libv.so: ELF file data encoding not little-endian"),
        exit_code=127,
    ),
    Case(
        id="g30_ident_version",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 6, 2))},
        lines=fails("/a/libv.so: ELF file version ident does not match current one"),
        exit_code=127,
    ),
    Case(
        id="g30_file_version",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 20, 2, 4))},
        lines=fails("/a/libv.so: ELF file version does not match current one"),
        exit_code=127,
    ),
    Case(
        id="g30_padding",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 15, 1))},
        lines=fails("/a/libv.so: nonzero padding in e_ident"),
        exit_code=127,
    ),
    Case(
        id="g30_relocatable",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 16, 1, 2))},
        lines=fails("/a/libv.so: only ET_DYN and ET_EXEC can be loaded"),
        exit_code=127,
    ),
    Case(
        id="g30_phentsize",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 54, 57, 2))},
        lines=fails("/a/libv.so: ELF file's phentsize not the expected size"),
        exit_code=127,
    ),
    Case(
        id="g30_headers_beyond_the_end",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(changed(v().content, 32, 1 << 30, 8))},
        lines=fails("/a/libv.so: cannot read file data"),
        exit_code=127,
    ),
    Case(
        id="t57_unreadable_library",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(v().content, 0o600), "usr/lib/y": "1"},
        user="1000:1000",
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g33_execute_permission_is_not_needed",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(v().content, 0o444)},
        user="1000:1000",
    ),
    Case(
        id="g17_a_closed_directory",
        items=lambda: {"x": prog(LIB, runpath="/a/b:/c"), "a": folder(0o700), "a/b/libv.so": v(), "c/libv.so": v()},
        user="1000:1000",
    ),
    Case(
        id="g18_the_last_error_is_told",
        items=lambda: {"x": prog(LIB, runpath="/a"), "a/libv.so": file(v().content, 0o600), "usr": "1", "lib": "1"},
        user="1000:1000",
        lines=fails("libv.so: cannot open shared object file: Error 20"),
        exit_code=127,
        until=(2, 38),
    ),
    Case(
        id="t58_origin_of_a_library_is_that_of_the_link",
        items=lambda: {
            "x": prog("liba.so", runpath="/l"),
            "l/liba.so": symlink("/real/liba.so"),
            "real/liba.so": lib("liba.so", LIB, runpath="$ORIGIN"),
            "l/libv.so": v(),
        },
    ),
    Case(
        id="t59_origin_of_the_program_is_that_of_the_file",
        items=lambda: {"x": symlink("/app/bin/p"), "app/bin/p": prog(LIB, runpath="$ORIGIN/../lib"), "app/lib/libv.so": v()},
    ),
    Case(
        id="t60_origin_needs_proc",
        items=lambda: {"x": prog(LIB, runpath="$ORIGIN/a"), "a/libv.so": v()},
        proc=False,
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g21_ld_origin_path_stands_in_for_proc",
        items=lambda: {"x": prog(LIB, runpath="$ORIGIN/a"), "b/a/libv.so": v()},
        proc=False,
        env=("LD_ORIGIN_PATH=/b",),
    ),
    Case(id="g20_unbraced_tokens_end_at_a_letter", items=lambda: {"x": prog(LIB, runpath="/$ORIGINx"), "$ORIGINx/libv.so": v()}),
    Case(id="g20_braced_tokens", items=lambda: {"a/x": prog(LIB, runpath="${ORIGIN}x"), "ax/libv.so": v()}, cmd=("/a/x",)),
    Case(id="g20_unknown_tokens_are_text", items=lambda: {"x": prog(LIB, runpath="/$NOPE"), "$NOPE/libv.so": v()}),
    Case(id="t61_lib_is_debians", items=lambda: {"x": prog(LIB, runpath="/$LIB/x"), f"{MULTIARCH}/x/libv.so": v()}),
    Case(id="g20_platform", items=lambda: {"x": prog(LIB, runpath="/$PLATFORM"), "x86_64/libv.so": v()}),
    Case(
        id="g14_ld_library_path_has_tokens",
        items=lambda: {"a/x": prog(LIB), "a/l/libv.so": v()},
        env=("LD_LIBRARY_PATH=$ORIGIN/l",),
        cmd=("/a/x",),
    ),
    Case(
        id="g19_tokens_in_a_name",
        items=lambda: {"a/x": program(patched(elf(), "--add-needed", "$ORIGIN/l/libv.so")), "a/l/libv.so": v()},
        cmd=("/a/x",),
    ),
    Case(
        id="g19_a_name_with_a_slash_is_a_path",
        items=lambda: {"x": program(patched(elf(), "--add-needed", "/p/libv.so")), "p/libv.so": v()},
    ),
    Case(
        id="g19_an_absent_path",
        items=lambda: {"x": program(patched(elf(), "--add-needed", "/p/libv.so"))},
        lines=fails(f"/p/libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g19_a_path_of_another_class",
        items=lambda: {"x": program(patched(elf(), "--add-needed", "/p/libv.so")), "p/libv.so": file(changed(v().content, 4, 1))},
        lines=fails("/p/libv.so: wrong ELF class: ELFCLASS32"),
        exit_code=127,
    ),
    Case(
        id="g19_a_path_of_another_machine",
        items=lambda: {"x": program(patched(elf(), "--add-needed", "/p/libv.so")), "p/libv.so": file(other_machine())},
        lines=fails(f"/p/libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t108_a_relative_path",
        items=lambda: {"x": program(patched(elf(), "--add-needed", "c/libns.so")), "w/c/libns.so": v()},
        working_dir="/w",
    ),
    Case(
        id="t108_a_relative_path_elsewhere",
        items=lambda: {"x": program(patched(elf(), "--add-needed", "c/libns.so")), "w/c/libns.so": v()},
        lines=fails(f"c/libns.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t63_a_soname_satisfies_a_later_name",
        items=lambda: {
            "x": program(patched(elf("liba.so", runpath="/a"), "--add-needed", "/a/libs1.so")),
            "a/libs1.so": v(),
            "a/liba.so": lib("liba.so", LIB),
        },
    ),
    Case(id="t65_a_preload_satisfies_a_name", items=lambda: {"x": prog(LIB), "p/other.so": v()}, env=("LD_PRELOAD=/p/other.so",)),
    Case(
        id="g07_one_inode_under_two_names_is_one_object",
        items=lambda: {"x": prog("liba.so", "libb.so", runpath="/a"), "a/liba.so": lib(None), "a/libb.so": hardlink("a/liba.so")},
    ),
    Case(id="g08_an_empty_name_is_the_program", items=lambda: {"x": program(emptied(elf("libempty.so"), b"libempty.so"))}),
    Case(
        id="t66_lib64_is_not_searched_on_debian",
        items=lambda: {"x": prog(LIB), "usr/lib64/libv.so": v()},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t67_usr_local_lib_is_not_searched",
        items=lambda: {"x": prog(LIB), "usr/local/lib/libv.so": v()},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g03_the_four_directories_of_debian",
        items=lambda: {
            "x": prog("liba.so", "libb.so", "libc1.so", "libd.so"),
            f"{MULTIARCH}/liba.so": lib("liba.so"),
            f"usr/{MULTIARCH}/libb.so": lib("libb.so"),
            "lib/libc1.so": lib("libc1.so"),
            "usr/lib/libd.so": lib("libd.so"),
        },
    ),
    Case(
        id="t72_glibc_hwcaps",
        since=(2, 33),
        items=lambda: {"x": prog(LIB, runpath="/d"), "d/glibc-hwcaps/x86-64-v2/libv.so": v()},
    ),
    Case(
        id="g41_the_best_level_wins",
        since=(2, 33),
        items=lambda: {
            "x": prog(LIB, runpath="/d"),
            "d/glibc-hwcaps/x86-64-v2/libv.so": "text" * 20,
            "d/glibc-hwcaps/x86-64-v3/libv.so": v(),
        },
    ),
    Case(
        id="t73_legacy_directories_up_to_2_36",
        items=lambda: {"x": prog(LIB, runpath="/d"), "d/tls/x86_64/libv.so": v()},
        until=(2, 36),
    ),
    Case(
        id="t73_legacy_directories_since_2_37",
        items=lambda: {"x": prog(LIB, runpath="/d"), "d/tls/x86_64/libv.so": v()},
        since=(2, 37),
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t75_breadth_first",
        items=lambda: {
            "x": prog("liba.so", "libb.so", rpath="/a"),
            "a/liba.so": lib("liba.so", "libc1.so", rpath="/a"),
            "a/libc1.so": lib("libc1.so", LIB, rpath="/deep"),
            "a/libb.so": lib("libb.so", LIB, rpath="/flat"),
            "deep/libv.so": "text" * 20,
            "flat/libv.so": v(),
        },
    ),
    Case(
        id="g05_the_first_missing_library_is_told",
        items=lambda: {"x": prog("libn1.so", "libn2.so")},
        lines=fails(f"libn1.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="t109_nodefaultlib",
        items=lambda: {"x": prog(LIB, flags=("-Wl,-z,nodefaultlib",)), "usr/lib/libv.so": v(), "etc/ld.so.cache": "1" * 60},
        lines=fails("libv.so: cannot open shared object file"),
        exit_code=127,
    ),
    Case(
        id="g18_a_directory_named_root_is_forgotten_up_to_2_37",
        until=(2, 37),
        items=lambda: {"x": prog("libn.so", LIB, runpath="/:/a"), "a/libn.so": lib("libn.so"), "libv.so": v()},
        lines=fails(f"libv.so: {ABSENT}"),
        exit_code=127,
    ),
    Case(
        id="g18_a_directory_named_root_since_2_38",
        since=(2, 38),
        items=lambda: {"x": prog("libn.so", LIB, runpath="/:/a"), "a/libn.so": lib("libn.so"), "libv.so": v()},
    ),
)
