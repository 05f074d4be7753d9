"""Roots for every rule of musl's loader, with the lines that the real one prints.

The same list is foretold from layers (tests/analyzers/test_loader_musl.py) and asked of Alpine's and Debian's musl
(tests/oracle/test_musl_cases.py). `t` numbers are those of the table of loader semantics, `m` numbers its rules. Which of two
libraries was taken is told by what it exports: the wrong one lacks the function that the program calls.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tests.analyzers.elf_programs import Patch
from tests.make import elves, roots
from tests.make.elves import MUSL_GCC, patched, rpath, runpath
from tests.make.layers import Item, file, folder, hardlink, program, script, symlink
from tests.make.musl_elves import (
    IFUNC,
    NEEDED,
    RPATH,
    RUNPATH,
    TEXTREL,
    WEAK_TLS,
    a,
    a_main,
    b_on_a,
    debug_only,
    foreign,
    lib,
    loader,
    main,
    needing,
    pointing,
    segment_patch,
    versioned,
    with_interp,
    with_tag,
    without_hash,
    wrong,
)  # fmt: skip

Root = dict[str, Item | bytes | str]
LOADER = f"/lib/{roots.MUSL}"
MAIN = "app/main"
GLIBC_LOADER = "/lib64/ld-linux-x86-64.so.2"
ABSENT, FORMAT, DENIED, LOOP, BUSY, INVALID, NOTHING = (
    "No such file or directory", "Exec format error", "Permission denied", "Symbolic link loop", "Resource busy",
    "Invalid argument", "No error information",
)  # fmt: skip


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One root, and what comes of starting its program."""

    id: str
    items: Callable[[], Root]
    lines: tuple[str, ...] = ()
    exit_code: int | None = None
    """None with lines: 127; without: 0."""
    signal: str = ""
    older: tuple[tuple[str, ...], str] | None = None
    """(lines, signal) of 1.2.3 where it says otherwise."""
    cmd: tuple[str, ...] = (f"/{MAIN}",)
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    proc: bool = True
    bare: bool = False
    """The root has no musl of its own."""

    def expected(self, release: str) -> tuple[tuple[bytes, ...], int | None, str]:
        lines, signal = (self.lines, self.signal) if self.older is None or release != "1.2.3" else self.older
        code = None if signal else self.exit_code if self.exit_code is not None else 127 if lines else 0
        return tuple(line.encode() for line in lines), code, signal


def root_of(case: Case, release: str) -> Root:
    """Without the loader in its usual place, which is a layer of its own."""
    return {path: loader(release) if item == MUSL else item for path, item in case.items().items()}


MUSL = b"@musl"
"""Stands for the musl of the release that is asked."""


def case(id: str, items: Callable[[], Root], *lines: str, **more: object) -> Case:
    return Case(id=id, items=items, lines=lines, **more)  # type: ignore[arg-type]


def missing(name: str, by: str = f"/{MAIN}", why: str = ABSENT) -> str:
    return f"Error loading shared library {name}: {why} (needed by {by})"


def unbound(symbol: str, by: str = f"/{MAIN}") -> str:
    return f"Error relocating {by}: {symbol}: symbol not found"


def unsupported(kind: int, by: str) -> str:
    return f"Error relocating {by}: unsupported relocation type {kind}"


LONG = "lib" + "x" * 300 + ".so"

SEARCH = (
    case("m01_nothing_is_missing", lambda: {MAIN: a_main(), "lib/liba.so": a()}),
    case("m15_a_missing_library", lambda: {MAIN: a_main()}, missing("liba.so"), unbound("liba")),
    case("m15_every_missing_library_and_symbol", lambda: {MAIN: main({"libb.so": b_on_a(), "libc1.so": lib("libc1.so")}),
         "lib/libb.so": b_on_a()},
         missing("libc1.so"), missing("liba.so", "/lib/libb.so"), unbound("liba", "/lib/libb.so"), unbound("libc1")),
    case("t043_ld_library_path_beats_rpath", lambda: {MAIN: a_main(*rpath("/a")), "a/liba.so": wrong("liba.so"),
         "b/liba.so": a()}, env=("LD_LIBRARY_PATH=/b",)),
    case("t043_ld_library_path_beats_runpath", lambda: {MAIN: a_main(*runpath("/a")), "a/liba.so": wrong("liba.so"),
         "b/liba.so": a()}, env=("LD_LIBRARY_PATH=/b",)),
    case("t045_runpath_is_inherited", lambda: {MAIN: main({"libb.so": b_on_a()}, *runpath("/a")), "a/libb.so": b_on_a(),
         "a/liba.so": a()}),
    case("t045_rpath_is_inherited", lambda: {MAIN: main({"libb.so": b_on_a()}, *rpath("/a")), "a/libb.so": b_on_a(),
         "a/liba.so": a()}),
    case("m04_the_requesters_run_path_comes_first", lambda: {MAIN: main({"libb.so": b_on_a(*runpath("/b"))}, *runpath("/a")),
         "a/libb.so": b_on_a(*runpath("/b")), "a/liba.so": wrong("liba.so"), "b/liba.so": a()}),
    case("m04_a_run_path_is_not_lent_to_siblings", lambda: {MAIN: main({"libb.so": lib("libb.so", None, *runpath("/b")),
         "liba.so": a()}), "lib/libb.so": lib("libb.so", None, *runpath("/b")), "b/liba.so": a()},
         missing("liba.so"), unbound("liba")),
    case("m04_runpath_takes_the_place_of_rpath", lambda: {MAIN: program(with_tag(a_main(*runpath("/a")).content, RPATH)),
         "a/liba.so": a()}),
    case("t048_an_empty_runpath_hides_nothing", lambda: {
        MAIN: main({"libb.so": b_on_a()}, *rpath("/a")), "a/libb.so": with_tag(b_on_a(), RUNPATH), "a/liba.so": a()}),
    case("t049_an_empty_element_is_not_the_working_directory", lambda: {MAIN: a_main(), "w/liba.so": a()},
         missing("liba.so"), unbound("liba"), env=("LD_LIBRARY_PATH=/nope:",), working_dir="/w"),
    case("m07_a_relative_element_is", lambda: {MAIN: a_main(), "w/liba.so": a()}, env=("LD_LIBRARY_PATH=.",), working_dir="/w"),
    case("m07_newline_separates_and_semicolon_does_not", lambda: {MAIN: a_main(), "a/liba.so": a(),
         "b;/c/liba.so": wrong("liba.so")}, unbound("liba"), env=("LD_LIBRARY_PATH=/b;/c\n/a",)),
    case("m06_order_of_the_default_path", lambda: {MAIN: main({"liba.so": a(), "libb.so": lib("libb.so")}),
         "lib/liba.so": a(), "usr/local/lib/liba.so": wrong("liba.so"), "usr/lib/liba.so": wrong("liba.so"),
         "usr/local/lib/libb.so": lib("libb.so"), "usr/lib/libb.so": wrong("libb.so")}),
    case("m06_a_path_file", lambda: {MAIN: a_main(), "x/liba.so": a(), "lib/liba.so": wrong("liba.so"),
         "etc/ld-musl-x86_64.path": "/nope\n/x:/lib\n"}),
    case("m06_a_path_file_reached_by_a_link_of_its_kind", lambda: {MAIN: a_main(), "x/liba.so": a(),
         "etc/ld-musl-x86_64.path": symlink("ld-musl-own.path"), "etc/ld-musl-own.path": "/x"}),
    case("m06_a_dangling_path_file_is_none", lambda: {MAIN: a_main(), "lib/liba.so": a(),
         "etc/ld-musl-x86_64.path": symlink("nowhere")}),
    case("m06_a_path_file_that_is_a_loop", lambda: {MAIN: a_main(), "lib/liba.so": a(),
         "etc/ld-musl-x86_64.path": symlink("ld-musl-x86_64.path")}, missing("liba.so", why=LOOP), unbound("liba")),
    case("m06_a_path_file_that_is_a_directory", lambda: {MAIN: a_main(), "lib/liba.so": a(), "etc/ld-musl-x86_64.path": folder()},
         missing("liba.so", why="Is a directory"), unbound("liba")),
    case("m07_a_carriage_return_belongs_to_the_directory", lambda: {MAIN: a_main(), "x/liba.so": a(),
         "etc/ld-musl-x86_64.path": "/x\r\n"}, missing("liba.so"), unbound("liba")),
    case("m07_a_comment_is_a_directory", lambda: {MAIN: a_main(), "x/liba.so": a(), "w/# one/liba.so": wrong("liba.so"),
         "etc/ld-musl-x86_64.path": "# one\n/x\n"}, unbound("liba"), working_dir="/w"),
    case("m07_a_path_file_ends_at_its_first_nul", lambda: {MAIN: a_main(), "x/liba.so": a(),
         "etc/ld-musl-x86_64.path": b"/nope\0:/x"}, missing("liba.so"), unbound("liba")),
    case("t104_an_empty_path_file", lambda: {MAIN: a_main(), "lib/liba.so": a(), "etc/ld-musl-x86_64.path": ""},
         missing("liba.so", why=NOTHING), unbound("liba")),
    case("t105_an_unreadable_path_file", lambda: {MAIN: a_main(), "lib/liba.so": a(),
         "etc/ld-musl-x86_64.path": file("/lib", 0o600)}, missing("liba.so", why=DENIED), unbound("liba"), user="1000"),
    case("t105_root_reads_it", lambda: {MAIN: a_main(), "lib/liba.so": a(), "etc/ld-musl-x86_64.path": file("/lib", 0o600)}),
    case("m06_errno_of_an_earlier_failure_stays", lambda: {MAIN: main({"liba.so": a(), "libb.so": lib("libb.so")}),
         "etc/ld-musl-x86_64.path": file("/lib", 0o600)}, missing("liba.so", why=DENIED), missing("libb.so", why=ABSENT),
         unbound("liba"), unbound("libb"), user="1000", env=("LD_LIBRARY_PATH=/nope",)),
    case("m29_a_preload_of_nothing_leaves_its_errno", lambda: {MAIN: a_main(), "etc/ld-musl-x86_64.path": ""},
         missing("liba.so", why=INVALID), unbound("liba"), env=("LD_PRELOAD= ",)),
    case("m06_the_path_file_is_beside_the_loader", lambda: {MAIN: with_interp(a_main(), "/opt/m/lib/ld.so"),
         "opt/m/lib/ld.so": MUSL, "opt/m/etc/ld-musl-x86_64.path": "/x", "x/liba.so": a(), "etc/ld-musl-x86_64.path": "/y"}),
    case("m06_a_loader_in_the_root_looks_in_etc", lambda: {MAIN: with_interp(a_main(), "/ld.so"), "ld.so": MUSL,
         "etc/ld-musl-x86_64.path": "/x", "x/liba.so": a()}),
    case("m06_a_relative_loader_looks_in_etc", lambda: {MAIN: with_interp(a_main(), "lib/ld.so"), "lib/ld.so": MUSL,
         "etc/ld-musl-x86_64.path": "/x", "x/liba.so": a()}),
    case("m08_a_loop_ends_the_search", lambda: {MAIN: a_main(*runpath("/a:/b")), "a/liba.so": symlink("liba.so"),
         "b/liba.so": a(), "lib/liba.so": a()}, missing("liba.so", why=LOOP), unbound("liba")),
    case("m08_a_file_for_a_directory_does_not", lambda: {MAIN: a_main(*runpath("/a:/b")), "a": "text", "b/liba.so": a()}),
    case("m08_a_dangling_link_does_not", lambda: {MAIN: a_main(*runpath("/a:/b")), "a/liba.so": symlink("nowhere"),
         "b/liba.so": a()}),
    case("m08_a_name_too_long_does_not", lambda: {MAIN: a_main(), "b/liba.so": a()}, env=(f"LD_LIBRARY_PATH=/{'n' * 300}:/b",)),
    case("m08_a_path_of_512_bytes_is_not_opened", lambda: {MAIN: a_main(), "etc/ld-musl-x86_64.path": ""},
         missing("liba.so", why=NOTHING), unbound("liba"), env=(f"LD_LIBRARY_PATH=/{'n/' * 251}/",)),
    case("m08_a_path_of_511_bytes_is", lambda: {MAIN: a_main(), "etc/ld-musl-x86_64.path": ""},
         missing("liba.so"), unbound("liba"), env=(f"LD_LIBRARY_PATH=/{'n/' * 251}",)),
    case("m08_a_closed_directory_does_not", lambda: {MAIN: a_main(*runpath("/a:/b")), "a": folder(0o700), "a/liba.so": a(),
         "b/liba.so": a()}, user="1000"),
    case("t057_an_unreadable_library_is_passed_over", lambda: {MAIN: a_main(*runpath("/a:/b")), "a/liba.so": file(a(), 0o600)},
         missing("liba.so"), unbound("liba"), user="1000"),
    case("m08_the_last_place_gives_the_words", lambda: {MAIN: a_main(), "usr/lib/liba.so": file(a(), 0o600)},
         missing("liba.so", why=DENIED), unbound("liba"), user="1000"),
    case("m09_a_name_with_a_slash_is_opened_as_it_is", lambda: {MAIN: needing("/x/$ORIGIN/liba.so", "./rel/liba.so"),
         "w/rel/liba.so": a()}, missing("/x/$ORIGIN/liba.so"), working_dir="/w"),
    case("m09_a_path_is_not_searched", lambda: {MAIN: needing("/x/liba.so"), "lib/liba.so": a()}, missing("/x/liba.so")),
    case("m09_an_unreadable_path", lambda: {MAIN: needing("/x/liba.so"), "x/liba.so": file(a(), 0)},
         missing("/x/liba.so", why=DENIED), user="1000"),
    case("m09_a_path_below_a_file", lambda: {MAIN: needing("/x/liba.so"), "x": "text"},
         missing("/x/liba.so", why="Not a directory")),
    case("m09_a_very_long_path", lambda: {MAIN: needing(f"/{LONG}")}, missing(f"/{LONG}", why="Filename too long")),
    case("m09_a_name_of_more_than_255_bytes", lambda: {MAIN: needing(LONG)}, missing(LONG, why=NOTHING)),
    case("m09_an_empty_name", lambda: {MAIN: program(with_tag(main().content, NEEDED))}, missing("", why=INVALID)),
    case("t108_a_relative_name_depends_on_the_working_directory", lambda: {MAIN: needing("c/liba.so"), "w/c/liba.so": a()},
         working_dir="/w"),
    case("t108_a_relative_name_elsewhere", lambda: {MAIN: needing("c/liba.so"), "w/c/liba.so": a()}, missing("c/liba.so")),
    case("t075_breadth_comes_before_depth", lambda: {
        MAIN: main({"libb.so": b_on_a(*runpath("/b")), "libd.so": lib("libd.so")}, *runpath("/r")),
        "r/libb.so": lib("libb.so", {"libe.so": lib("libe.so", {"liba.so": a()}, *runpath("/e"))}, *runpath("/e")),
        "e/libe.so": lib("libe.so", {"liba.so": a()}, *runpath("/e")), "e/liba.so": wrong("liba.so"),
        "r/libd.so": lib("libd.so", {"liba.so": a()}, *runpath("/d")), "d/liba.so": a()}),
    case("m15_the_name_of_a_script_stands_for_its_interpreter", lambda: {MAIN: a_main(), "s": script("#!/app/main\n")},
         missing("liba.so", "/s"), unbound("liba", "/s"), cmd=("/s",)),
    case("m15_a_relative_program", lambda: {MAIN: a_main()}, missing("liba.so", "app/main"), unbound("liba", "app/main"),
         cmd=("app/main",)),
    case("m15_a_program_found_in_path", lambda: {MAIN: a_main()}, missing("liba.so"), unbound("liba"), cmd=("main",),
         env=("PATH=/app",)),
)  # fmt: skip

ORIGIN = (
    case("t058_a_library_has_the_origin_of_its_link", lambda: {MAIN: main({"libb.so": b_on_a()}), "x/libb.so": b_on_a(
        *runpath("$ORIGIN")), "lib/libb.so": symlink("/x/libb.so"), "lib/liba.so": a(), "x/liba.so": wrong("liba.so")}),
    case("t059_a_program_has_the_origin_of_its_file", lambda: {"x/bin/main": a_main(*runpath("$ORIGIN/../lib")),
         MAIN: symlink("/x/bin/main"), "x/lib/liba.so": a(), "lib/liba.so": wrong("liba.so")}),
    case("t059_with_braces", lambda: {MAIN: a_main(*runpath("${ORIGIN}/l")), "app/l/liba.so": a()}),
    case("t060_without_proc", lambda: {MAIN: a_main(*runpath("$ORIGIN:/b")), "app/liba.so": a(), "b/liba.so": a()},
         missing("liba.so"), unbound("liba"), proc=False),
    case("t060_without_proc_plain_run_paths_serve", lambda: {MAIN: a_main(*runpath("/b")), "b/liba.so": a()}, proc=False),
    case("t062_another_token_spoils_the_whole_run_path", lambda: {MAIN: a_main(*runpath("/a:$PLATFORM")), "a/liba.so": a()},
         missing("liba.so"), unbound("liba")),
    case("m10_and_so_does_a_lone_dollar", lambda: {MAIN: a_main(*runpath("$ORIGIN:/a$")), "app/liba.so": a()},
         missing("liba.so"), unbound("liba")),
    case("m10_what_follows_the_token_does_not_matter", lambda: {MAIN: a_main(*runpath("$ORIGINx")), "appx/liba.so": a()}),
    case("m10_twice", lambda: {MAIN: a_main(*runpath("$ORIGIN/n:$ORIGIN/../o")), "o/liba.so": a()}),
    case("m10_the_origin_of_a_program_in_the_root_is_empty", lambda: {"main": a_main(*runpath("$ORIGIN")), "liba.so": a()},
         missing("liba.so", "/main"), unbound("liba", "/main"), cmd=("/main",)),
    case("m10_below_the_root_it_serves", lambda: {"main": a_main(*runpath("$ORIGIN/l")), "l/liba.so": a()}, cmd=("/main",)),
    case("m10_not_in_ld_library_path", lambda: {MAIN: a_main(), "app/liba.so": a()}, missing("liba.so"), unbound("liba"),
         env=("LD_LIBRARY_PATH=$ORIGIN",)),
    case("m10_the_origin_of_a_library_found_by_a_relative_path", lambda: {MAIN: main({"libb.so": b_on_a()}),
         "w/d/libb.so": b_on_a(*runpath("$ORIGIN/e")), "w/d/e/liba.so": a()}, env=("LD_LIBRARY_PATH=d",), working_dir="/w"),
    case("m10_a_longer_program_path_has_no_origin", lambda: {f"{'d/' * 255}app/main": a_main(*runpath("$ORIGIN")),
         f"{'d/' * 255}app/liba.so": a()}, missing("liba.so", f"/{'d/' * 255}app/main"),
         unbound("liba", f"/{'d/' * 255}app/main"), cmd=(f"/{'d/' * 255}app/main",)),
)  # fmt: skip

SECURE_MAIN = 0o4755
SECURE = (
    case("t106_a_set_id_program_has_no_ld_library_path", lambda: {MAIN: program(a_main().content, SECURE_MAIN), "x/liba.so": a()},
         missing("liba.so"), unbound("liba"), user="1000", env=("LD_LIBRARY_PATH=/x",)),
    case("m22_for_its_own_user_it_is_not_secure", lambda: {MAIN: program(a_main().content, SECURE_MAIN), "x/liba.so": a()},
         env=("LD_LIBRARY_PATH=/x",)),
    case("m22_no_preload", lambda: {MAIN: program(a_main().content, SECURE_MAIN), "lib/liba.so": wrong("liba.so"), "x/p.so": a()},
         unbound("liba"), user="1000", env=("LD_PRELOAD=/x/p.so",)),
    case("m22_no_origin", lambda: {MAIN: program(a_main(*runpath("$ORIGIN:/b")).content, SECURE_MAIN), "app/liba.so": a(),
         "b/liba.so": a()}, missing("liba.so"), unbound("liba"), user="1000"),
    case("m22_a_plain_run_path_serves", lambda: {MAIN: program(a_main(*runpath("/b")).content, SECURE_MAIN), "b/liba.so": a()},
         user="1000"),
    case("m22_the_origin_of_a_library_serves", lambda: {MAIN: program(main({"libb.so": b_on_a()}).content, SECURE_MAIN),
         "lib/libb.so": b_on_a(*runpath("$ORIGIN/e")), "lib/e/liba.so": a()}, user="1000"),
    case("m22_but_not_a_relative_one", lambda: {MAIN: program(main({"libb.so": b_on_a()}, *runpath("d")).content, SECURE_MAIN),
         "w/d/libb.so": b_on_a(*runpath("$ORIGIN/e")), "w/d/e/liba.so": a()}, missing("liba.so", "d/libb.so"),
         unbound("liba", "d/libb.so"), user="1000", working_dir="/w"),
    case("m22_it_reads_with_the_new_user", lambda: {MAIN: program(a_main().content, SECURE_MAIN),
         "lib/liba.so": file(a(), 0o600)}, user="1000"),
)  # fmt: skip

NAMES = (
    case("m02_reserved_names_need_no_file", lambda: {MAIN: needing("libc.so.6", "libm.so.6", "libpthread.so.0", "librt.so.1",
         "libdl.so.2", "libutil.so.1", "libxnet.so.9", "libc.musl-aarch64.so.1", "libm.whatever")}),
    case("m02_others_do", lambda: {MAIN: needing("libresolv.so.2", "libcrypt.so.1", "libnsl.so.1", "libmvec.so.1", "libcc.so")},
         *map(missing, ("libresolv.so.2", "libcrypt.so.1", "libnsl.so.1", "libmvec.so.1", "libcc.so"))),
    case("m02_a_file_of_a_reserved_name_is_not_opened", lambda: {MAIN: needing("libm.so.6"), "lib/libm.so.6": "text"}),
    case("m02_a_path_is_not_reserved", lambda: {MAIN: needing("/lib/libm.so.6"), "lib/libm.so.6": "text"},
         missing("/lib/libm.so.6", why=FORMAT)),
    case("m03_the_loaders_own_name", lambda: {MAIN: needing(LOADER)}),
    case("m03_only_as_it_is_written_in_pt_interp", lambda: {MAIN: with_interp(needing("/lib/ld.so"), "/x/../lib/ld.so"),
         "lib/ld.so": MUSL, "x": folder()}),
    case("t064_a_soname_is_not_a_name", lambda: {
        MAIN: needing("/a/libs1.so", of=main({"libb.so": b_on_a()})),
        "a/libs1.so": elves.library("libs1.so", compiler=MUSL_GCC, soname="liba.so"), "lib/libb.so": b_on_a()},
        missing("liba.so", "/lib/libb.so"), unbound("liba", "/lib/libb.so")),
    case("t065_a_preload_is_not_known_by_its_soname", lambda: {MAIN: a_main(), "x/p.so": a()}, missing("liba.so"),
         env=("LD_PRELOAD=/x/p.so",)),
    case("m11_a_preload_by_path_has_no_short_name", lambda: {MAIN: a_main(), "x/liba.so": a()}, missing("liba.so"),
         env=("LD_PRELOAD=/x/liba.so",)),
    case("m11_a_preload_by_name_has", lambda: {MAIN: a_main(), "x/liba.so": a()}, env=("LD_PRELOAD=/x/liba.so liba.so",
         "LD_LIBRARY_PATH=/x")),
    case("m11_the_same_inode_gives_a_path_its_short_name", lambda: {MAIN: needing("/x/liba.so", "libz.so", "liba.so"),
         "x/liba.so": a(), "lib/libz.so": hardlink("x/liba.so")}),
    case("m11_before_that_it_has_none", lambda: {MAIN: needing("/x/liba.so", "liba.so", "libz.so"), "x/liba.so": a(),
         "lib/libz.so": hardlink("x/liba.so")}, missing("liba.so")),
    case("m12_a_link_is_the_same_object", lambda: {MAIN: needing("libz.so", "liba.so"), "lib/liba.so": symlink("libz.so"),
         "lib/libz.so": lib("libz.so", source="int gone(void); int liba(void) { return gone(); }")},
         unbound("gone", "/lib/libz.so")),
    case("m12_a_copy_is_another", lambda: {MAIN: needing("libz.so", "liba.so"),
         "lib/liba.so": lib("libz.so", source="int gone(void); int liba(void) { return gone(); }"),
         "lib/libz.so": lib("libz.so", source="int gone(void); int liba(void) { return gone(); }")},
         unbound("gone", "/lib/libz.so"), unbound("gone", "/lib/liba.so")),
    case("m13_another_libc_by_path_is_thrown_away", lambda: {MAIN: needing("/x/libother.so"), "x/libother.so": MUSL}),
    case("m13_so_is_glibcs", lambda: {MAIN: needing("/x/libc.so.6"), "x/libc.so.6": elves.machine_library("libc.so.6")}),
    case("m12_the_program_itself_is_loaded_once_more", lambda: {MAIN: needing("/app/main", of=main({"liba.so": a()}))},
         missing("liba.so"), missing("liba.so", "/app/main"), unbound("liba"), unbound("liba")),
)  # fmt: skip

FILES = (
    case("m14_text", lambda: {MAIN: a_main(), "lib/liba.so": "GROUP ( liba.so.1 )\n" * 20, "usr/lib/liba.so": a()},
         missing("liba.so", why=FORMAT), unbound("liba")),
    case("m14_an_empty_file", lambda: {MAIN: a_main(), "lib/liba.so": ""}, missing("liba.so", why=FORMAT), unbound("liba")),
    case("m14_a_short_file", lambda: {MAIN: a_main(), "lib/liba.so": a()[:63]}, missing("liba.so", why=FORMAT), unbound("liba")),
    case("m14_the_header_alone", lambda: {MAIN: a_main(), "lib/liba.so": a()[:64]}, missing("liba.so", why=FORMAT),
         unbound("liba")),
    case("m14_a_directory", lambda: {MAIN: a_main(), "lib/liba.so": folder(), "usr/lib/liba.so": a()},
         missing("liba.so", why="Is a directory"), unbound("liba")),
    case("m14_a_directory_closed_to_the_user_is_passed_over", lambda: {MAIN: a_main(), "lib/liba.so": folder(0o700),
         "usr/lib/liba.so": a()}, user="1000"),
    case("m14_a_relocatable_file", lambda: {MAIN: a_main(), "lib/liba.so": elves.c("int liba(void){return 0;}", "-c",
         compiler=MUSL_GCC)}, missing("liba.so", why=FORMAT), unbound("liba")),
    case("m14_i386", lambda: {MAIN: a_main(), "lib/liba.so": foreign("x86-linux-musl"), "usr/lib/liba.so": a()},
         missing("liba.so", why=FORMAT), unbound("liba")),
    case("m14_arm", lambda: {MAIN: a_main(), "lib/liba.so": foreign("arm-linux-musleabihf")}, missing("liba.so", why=FORMAT),
         unbound("liba")),
    case("m14_the_other_byte_order", lambda: {MAIN: a_main(), "lib/liba.so": foreign("s390x-linux-musl")},
         missing("liba.so", why=FORMAT), unbound("liba")),
    case("t054_aarch64_is_final_and_fails_in_relocation", lambda: {MAIN: a_main(), "lib/liba.so": foreign("aarch64-linux-musl"),
         "usr/lib/liba.so": a()}, unbound("fn", "/lib/liba.so"), unsupported(1027, "/lib/liba.so"),
         unbound("ext", "/lib/liba.so")),
    case("t054_riscv", lambda: {MAIN: a_main(), "lib/liba.so": foreign("riscv64-linux-musl")}, unbound("fn", "/lib/liba.so"),
         unsupported(3, "/lib/liba.so"), unbound("ext", "/lib/liba.so")),
    case("t055_osabi_and_versions_are_not_looked_at", lambda: {MAIN: a_main(), "lib/liba.so": Patch(a()).header(7, "B", 9).header(
        8, "B", 9).header(20, "I", 9).bytes()}),
    case("t095_a_position_independent_program_as_library", lambda: {MAIN: a_main(), "lib/liba.so": elves.c(
        "int liba(void){return 0;} int main(void){return 0;}", "-pie", "-fPIE", "-rdynamic", compiler=MUSL_GCC)}),
    case("t095_a_program_of_fixed_address_as_library", lambda: {MAIN: a_main("-pie", "-fPIE"), "lib/liba.so": elves.c(
        "int liba(void){return 0;} int main(void){return 0;}", "-no-pie", "-rdynamic", compiler=MUSL_GCC)}),
    case("t095_two_of_one_address", lambda: {MAIN: a_main("-no-pie"), "lib/liba.so": elves.c(
        "int liba(void){return 0;} int main(void){return 0;}", "-no-pie", "-rdynamic", compiler=MUSL_GCC)},
        missing("liba.so", why=BUSY), unbound("liba")),
    case("m14_a_static_program_as_library", lambda: {MAIN: a_main(), "lib/liba.so": elves.c(
        "int liba(void){return 0;} int main(void){return 0;}", "-static", "-no-pie", compiler=MUSL_GCC)},
        missing("liba.so", why=FORMAT), unbound("liba")),
    case("t096_debug_information_alone", lambda: {MAIN: a_main(), "lib/liba.so": debug_only(a())}, signal="SIGSEGV"),
    case("t097_truncated_in_its_data", lambda: {MAIN: a_main(), "lib/liba.so": a()[:0x1800]}, signal="SIGBUS"),
    case("t097_truncated_in_its_text", lambda: {MAIN: a_main(), "lib/liba.so": a()[:0x800]}, signal="SIGBUS"),
    case("m14_no_hash_table", lambda: {MAIN: a_main(), "lib/liba.so": without_hash(a())}, signal="SIGSEGV"),
    case("m14_no_dynamic_section", lambda: {MAIN: a_main(), "lib/liba.so": segment_patch(a(), 2, new_kind=0)},
         missing("liba.so", why=FORMAT), unbound("liba")),
    case("m14_a_program_without_dynamic_section", lambda: {MAIN: program(segment_patch(a_main().content, 2, new_kind=0))},
         signal="SIGSEGV"),
    case("m14_a_program_whose_dynamic_section_cannot_be_written", lambda: {MAIN: program(with_tag(a_main().content, RPATH,
         debug=True))}, missing("liba.so"), signal="SIGSEGV"),
    case("m14_a_position_independent_program_without_pt_phdr", lambda: {MAIN: program(segment_patch(main(
        None, "-pie", "-fPIE").content, 6, new_kind=0))}, signal="SIGSEGV"),
    case("t101_nothing_of_this_concerns_isa_notes", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None,
         "-Wl,-z,x86-64-v4")}),
)  # fmt: skip

SYMBOLS = (
    case("t082_a_function_never_called", lambda: {MAIN: main({"liba.so": a()}, source="int liba(void); int main(int n, char **v)"
         " { return n > 5 ? liba() : 0; }"), "lib/liba.so": wrong("liba.so")}, unbound("liba")),
    case("m20_in_a_library", lambda: {MAIN: main({"libb.so": b_on_a()}), "lib/libb.so": b_on_a(),
         "lib/liba.so": wrong("liba.so")}, unbound("liba", "/lib/libb.so")),
    case("t085_data_and_function_pointers", lambda: {
        MAIN: main({"liba.so": lib("liba.so", source="int v; int f(void) { return 0; }")}, "-fPIE", "-pie",
                   source="extern int v; int f(void); int *p = &v; int (*q)(void) = f; int main(void) { return 0; }"),
        "lib/liba.so": wrong("liba.so")}, unbound("f"), unbound("v")),
    case("m20_a_line_for_every_relocation", lambda: {MAIN: main({"liba.so": a()}, "-fPIE", "-pie", source="int liba(void);"
         "int (*p)(void) = liba; int (*q)(void) = liba; int main(void) { return liba(); }"), "lib/liba.so": wrong("liba.so")},
         unbound("liba"), unbound("liba"), unbound("liba")),
    case("t086_weak", lambda: {MAIN: main({"liba.so": a()}, "-fPIE", "-pie", source="int liba(void) __attribute__((weak));"
         "int main(void) { return liba ? liba() : 0; }"), "lib/liba.so": wrong("liba.so")}),
    case("m20_a_copied_variable", lambda: {MAIN: main({"liba.so": lib("liba.so", source="int v = 3;")}, "-no-pie", "-fno-pie",
         source="extern int v; int main(void) { return v - 3; }"), "lib/liba.so": wrong("liba.so")}, unbound("v")),
    case("m20_a_copied_variable_is_there", lambda: {MAIN: main({"liba.so": lib("liba.so", source="int v = 3;")}, "-no-pie",
         "-fno-pie", source="extern int v; int main(void) { return v - 3; }"),
         "lib/liba.so": lib("liba.so", source="int v = 3;")}),
    case("m21_a_preload_provides", lambda: {MAIN: a_main(), "lib/liba.so": wrong("liba.so"), "x/p.so": a()},
         env=("LD_PRELOAD=/x/p.so",)),
    case("m21_a_program_provides", lambda: {MAIN: main({"libb.so": b_on_a()}, "-rdynamic", source=(
        "int liba(void) { return 0; } int libb(void); int main(void) { return libb(); }")), "lib/libb.so": b_on_a(),
        "lib/liba.so": wrong("liba.so")}),
    case("m23_the_address_of_a_plt_entry_serves_others_but_not_calls", lambda: {
        MAIN: main({"liba.so": a(), "libb.so": pointing()}, "-no-pie", "-fno-pie", source=(
            "int liba(void); int libb(void); int main(void) { int (*volatile p)(void) = liba; return p() + libb() + liba(); }")),
        "lib/liba.so": wrong("liba.so"), "lib/libb.so": pointing()}, unbound("liba")),
    case("m23_without_it_they_fail_too", lambda: {
        MAIN: main({"liba.so": a(), "libb.so": pointing()}, "-no-pie", "-fno-pie"), "lib/liba.so": wrong("liba.so"),
        "lib/libb.so": pointing()}, unbound("liba", "/lib/libb.so"), unbound("liba")),
    case("t087_an_ifunc_is_invisible", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", source=IFUNC)}, unbound("liba")),
    case("t087_also_to_its_own_library", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", source=IFUNC +
         " int u(void) { return liba(); }")}, unbound("liba", "/lib/liba.so"), unbound("liba")),
    case("m26_an_irelative_relocation", lambda: {MAIN: main(source="static int i(void){return 0;} static void *r(void){return i;}"
         "static int f(void) __attribute__((ifunc(\"r\"))); int (*volatile q)(void) = f; int main(void){return q();}")},
         unsupported(37, f"/{MAIN}")),
    case("t088_only_an_old_version", lambda: {MAIN: a_main(), "lib/liba.so": versioned(
        "int l1(void){return 0;} __asm__(\".symver l1,liba@V1\");")}, unbound("liba")),
    case("t088_inside_the_library_as_well", lambda: {MAIN: a_main(), "lib/liba.so": versioned(
        "int l1(void){return 0;} __asm__(\".symver l1,liba@V1\"); int liba(void); int u(void){return liba();}")},
        unbound("liba", "/lib/liba.so"), unbound("liba")),
    case("m24_the_default_version", lambda: {MAIN: a_main(), "lib/liba.so": versioned(
        "int l1(void){return 0;} __asm__(\".symver l1,liba@@V1\"); int l2(void){return 0;} __asm__(\".symver l2,liba@V2\");")}),
    case("m24_the_name_of_a_version_does_not_matter", lambda: {MAIN: main({"liba.so": versioned(
        "int l1(void){return 0;} __asm__(\".symver l1,liba@@V1\");")}), "lib/liba.so": versioned(
        "int l1(void){return 0;} __asm__(\".symver l1,liba@@V2\");")}),
    case("t079_a_version_need_that_was_left_behind", lambda: {MAIN: program(patched(main({"liba.so": versioned(
        "int l1(void){return 0;} __asm__(\".symver l1,liba@@V1\");")}).content, "--remove-needed", "liba.so"))}, unbound("liba")),
    case("m23_sysv_hash_alone", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None, "-Wl,--hash-style=sysv")}),
    case("m23_gnu_hash_alone", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None, "-Wl,--hash-style=gnu")}),
    case("m23_a_weak_definition_counts", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", source=
         "__attribute__((weak)) int liba(void) { return 0; }")}),
    case("m23_a_hidden_definition_is_not_in_the_table", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", source=
         "__attribute__((visibility(\"hidden\"))) int liba(void) { return 0; }")}, unbound("liba")),
    case("m23_a_thread_local_variable", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", source=
         "extern __thread int t; int liba(void) { return t; }")}, unbound("t", "/lib/liba.so"), unbound("t", "/lib/liba.so")),
    case("m23_a_weak_thread_local_variable_is_followed", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", source=WEAK_TLS)},
         signal="SIGSEGV"),
    case("m23_with_a_descriptor_too", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None, "-mtls-dialect=gnu2",
         source=WEAK_TLS)}, signal="SIGSEGV"),
    case("m26_text_relocations_of_a_program", lambda: {MAIN: main(None, "-fPIE", "-pie", "-Wl,-z,notext", source=TEXTREL)},
         signal="SIGSEGV"),
    case("m26_text_relocations_of_a_library", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None, "-Wl,-z,notext",
         source=TEXTREL.replace("main", "liba"))}),
    case("t089_relr_in_a_library", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None, "-Wl,-z,pack-relative-relocs",
         source="static int x; int *p = &x; int liba(void) { return *p; }")}, older=((), "SIGSEGV")),
    case("t089_relr_in_a_program", lambda: {MAIN: main(None, "-Wl,-z,pack-relative-relocs", "-pie", "-fPIE",
         source="static int x; int *p = &x; int main(void) { return *p; }")}, older=((), "SIGSEGV")),
    case("m28_nodeflib_is_not_looked_at", lambda: {MAIN: a_main("-Wl,-z,nodefaultlib"), "lib/liba.so": a()}),
    case("m28_filters_are_not", lambda: {MAIN: a_main(), "lib/liba.so": lib("liba.so", None, "-Wl,-F,libgone.so")}),
    case("m20_bind_now_changes_nothing", lambda: {MAIN: a_main("-Wl,-z,lazy"), "lib/liba.so": wrong("liba.so")}, unbound("liba"),
         env=("LD_BIND_NOW=",)),
    case("m20_nothing_needs_libc", lambda: {MAIN: program(patched(a_main().content, "--remove-needed", "libc.so")),
         "lib/liba.so": patched(a(), "--remove-needed", "libc.so")}, unbound("puts"), unbound("__libc_start_main")),
)  # fmt: skip

PRELOADS = (
    case("t091_a_missing_preload_is_silent", lambda: {MAIN: main()}, env=("LD_PRELOAD=libgone.so:/x/gone.so",)),
    case("m29_and_so_is_an_unusable_one", lambda: {MAIN: main(), "x/p.so": "text"}, env=("LD_PRELOAD=/x/p.so",)),
    case("t092_what_a_preload_misses_is_told", lambda: {MAIN: main(), "x/libb.so": b_on_a()}, missing("liba.so", "/x/libb.so"),
         unbound("liba", "/x/libb.so"), env=("LD_PRELOAD=/x/libb.so",)),
    case("m05_a_preload_does_not_see_the_programs_run_path", lambda: {MAIN: a_main(*runpath("/r")), "r/liba.so": wrong("liba.so"),
         "r/p.so": a()}, unbound("liba"), env=("LD_PRELOAD=p.so",)),
    case("m05_but_the_default_path", lambda: {MAIN: a_main(), "lib/liba.so": wrong("liba.so"), "usr/lib/p.so": a()},
         env=("LD_PRELOAD=p.so",)),
    case("m29_separators", lambda: {MAIN: main({"liba.so": a(), "libb.so": lib("libb.so")}), "lib/liba.so": wrong("liba.so"),
         "lib/libb.so": wrong("libb.so"), "x/p.so": a(), "x/q.so": lib("libb.so")},
         env=("LD_PRELOAD=:\t/x/p.so\n\v/x/q.so \r\f",)),
    case("m29_a_preloaded_libc_is_the_loader", lambda: {MAIN: a_main(), "lib/liba.so": a()}, env=("LD_PRELOAD=libc.so.6",)),
    case("m29_a_missing_library_of_a_preloads_library", lambda: {MAIN: a_main(), "lib/liba.so": a(), "x/libb.so": lib("libb.so", {
        "libd.so": lib("libd.so")}), "lib/libd.so": lib("libd.so", {"libe.so": lib("libe.so")})},
         missing("libe.so", "/lib/libd.so"), unbound("libe", "/lib/libd.so"), env=("LD_PRELOAD=/x/libb.so",)),
)  # fmt: skip

CASES = (*SEARCH, *ORIGIN, *SECURE, *NAMES, *FILES, *SYMBOLS, *PRELOADS)
