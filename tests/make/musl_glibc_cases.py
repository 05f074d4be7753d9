"""glibc's programs on musl's loader, by a link in the place of glibc's or through gcompat's stub; and all cases together."""

from __future__ import annotations

from tests.make import musl_cases, roots
from tests.make.elves import runpath
from tests.make.layers import Item, file, program, symlink
from tests.make.musl_cases import ABSENT, DENIED, FORMAT, GLIBC_LOADER, LOADER, MAIN, SECURE_MAIN, Root, case, missing, unbound
from tests.make.musl_elves import a, glibc_main, lib, needing, segment_patch, stub, wrong

LFS64 = (
    "#include <stdio.h>\nint open64(); int stat64(); int lseek64(); FILE *fopen64(); int readdir64_r(); int __xstat64();"
    "int posix_fadvise64(); void *volatile p[] = { open64, stat64, lseek64, fopen64, readdir64_r, __xstat64, posix_fadvise64 };"
    "int main(void) { return p[0] == 0; }"
)
GLIBC = (
    case("t102_a_simple_program", lambda: {MAIN: glibc_main(), GLIBC_LOADER[1:]: symlink(LOADER)}),
    case("t102_reserved_names", lambda: {MAIN: needing("libm.so.6", "libdl.so.2", "libpthread.so.0", of=glibc_main()),
         GLIBC_LOADER[1:]: symlink(LOADER)}),
    case("t103_its_loader_by_name", lambda: {MAIN: needing("ld-linux-x86-64.so.2", of=glibc_main()),
         GLIBC_LOADER[1:]: symlink(LOADER)}, missing("ld-linux-x86-64.so.2")),
    case("t103_a_link_in_a_searched_directory", lambda: {MAIN: needing("ld-linux-x86-64.so.2", of=glibc_main()),
         GLIBC_LOADER[1:]: symlink(LOADER), "lib/ld-linux-x86-64.so.2": symlink(roots.MUSL)}),
    case("m51_the_path_file_is_found_from_pt_interp", lambda: {MAIN: glibc_main({"liba.so": a()}),
         GLIBC_LOADER[1:]: symlink(LOADER), "etc/ld-musl-x86_64.path": "/x", "x/liba.so": a()}),
    case("m51_fortified_functions", lambda: {MAIN: glibc_main(None, "-O2", "-D_FORTIFY_SOURCE=2", source=(
        "#include <stdio.h>\nint main(int n, char **v) { printf(\"%d\", n); return 0; }")), GLIBC_LOADER[1:]: symlink(LOADER)},
        unbound("__printf_chk")),
    case("m25_large_file_names", lambda: {MAIN: glibc_main(None, "-fno-builtin", source=LFS64),
         GLIBC_LOADER[1:]: symlink(LOADER)}),
    case("m25_seventeen_bytes_are_too_many", lambda: {MAIN: glibc_main(None, "-fno-builtin", source=(
        "int posix_fallocate64(); void *volatile p = posix_fallocate64; int main(void) { return p == 0; }")),
        GLIBC_LOADER[1:]: symlink(LOADER)}, unbound("posix_fallocate64"), older=((), "")),
    case("m25_not_every_name", lambda: {MAIN: glibc_main({"liba.so": lib("liba.so", source="int atoi64(void){return 0;}")},
         source="int atoi64(); void *volatile p = atoi64; int main(void) { return p == 0; }"), GLIBC_LOADER[1:]: symlink(LOADER),
         "lib/liba.so": wrong("liba.so")}, unbound("atoi64")),
)  # fmt: skip


def gcompat_root(**more: Item | bytes | str) -> Root:
    return {GLIBC_LOADER[1:]: stub(), **more}


COMPAT = "lib/libgcompat.so.0"
GLOADER = "ld-linux-x86-64.so.2"


def compat(source: str = "int __printf_chk(void) { return 0; }") -> bytes:
    return lib("libgcompat.so.0", source=source)


PRINTF = 'int __printf_chk(int, const char *, ...); int main(void) { return __printf_chk(1, ""); }'


def printing() -> Item:
    return glibc_main(None, "-fno-builtin", source=PRINTF)


GCOMPAT = (
    case("m52_the_preloaded_library_provides", lambda: gcompat_root(**{MAIN: printing(), COMPAT: compat()})),
    case("m52_it_is_not_missed", lambda: gcompat_root(**{MAIN: printing()}), unbound("__printf_chk")),
    case("m52_its_own_needs_are", lambda: gcompat_root(**{MAIN: printing(), COMPAT: lib("libgcompat.so.0", {"liba.so": a()},
         source="int liba(void); int __printf_chk(void) { return liba(); }")}), missing("liba.so", f"/{COMPAT}"),
         unbound("liba", f"/{COMPAT}")),
    case("m52_the_loaders_name_is_known", lambda: gcompat_root(**{MAIN: needing(GLOADER, of=glibc_main())})),
    case("m52_ld_preload_comes_behind", lambda: gcompat_root(**{MAIN: printing(), "x/p.so": compat()}),
         env=("LD_PRELOAD=/x/p.so",)),
    case("m52_the_real_path_is_told", lambda: gcompat_root(**{"x/real": printing(), MAIN: symlink("/x/real")}),
         unbound("__printf_chk", "/x/real")),
    case("m52_the_origin_is_that_of_the_real_path", lambda: gcompat_root(**{"x/real": glibc_main({"liba.so": a()},
         *runpath("$ORIGIN")), MAIN: symlink("/x/real"), "x/liba.so": a()})),
    case("m52_the_path_file_is_in_etc", lambda: gcompat_root(**{MAIN: glibc_main({"liba.so": a()}), "y/liba.so": a(),
         "etc/ld-musl-x86_64.path": "/y"})),
    case("m52_musl_is_missing", lambda: gcompat_root(**{MAIN: glibc_main()}), f"execve: {ABSENT}", exit_code=1, bare=True),
    case("m52_musl_is_not_executable", lambda: gcompat_root(**{MAIN: glibc_main(), LOADER[1:]: file("x")}),
         f"execve: {DENIED}", exit_code=1, bare=True),
    case("m52_musl_is_text", lambda: gcompat_root(**{MAIN: glibc_main(), LOADER[1:]: file("x", 0o755)}),
         f"execve: {FORMAT}", exit_code=1, bare=True),
    case("m52_musl_cannot_read_the_program", lambda: gcompat_root(**{MAIN: program(glibc_main().content, 0o711)}),
         f"{GLOADER}: cannot load /{MAIN}: {DENIED}", exit_code=1, user="1000"),
    case("m52_a_program_without_dynamic_section", lambda: gcompat_root(**{MAIN: program(segment_patch(glibc_main().content, 2,
         new_kind=0))}), f"{GLOADER}: /{MAIN}: Not a valid dynamic program", exit_code=1),
    case("m52_a_path_like_the_loaders", lambda: gcompat_root(**{f"x/{GLOADER}.d/main": glibc_main()}),
         cmd=(f"/x/{GLOADER}.d/main",), exit_code=1),
    case("m52_without_proc", lambda: gcompat_root(**{MAIN: glibc_main()}), f"readlink: {ABSENT}", exit_code=1, proc=False),
    case("m53_libresolv_matters", lambda: gcompat_root(**{MAIN: needing("libresolv.so.2", "libm.so.6", of=glibc_main())}),
         missing("libresolv.so.2")),
    case("m22_gcompat_preloads_for_set_id_programs", lambda: gcompat_root(**{MAIN: program(printing().content, SECURE_MAIN),
         COMPAT: compat()}), user="1000"),
    case("m22_gcompat_has_no_ld_library_path_then", lambda: gcompat_root(**{MAIN: program(glibc_main({"liba.so": a()}).content,
         SECURE_MAIN), "x/liba.so": a()}), missing("liba.so"), unbound("liba"), user="1000", env=("LD_LIBRARY_PATH=/x",)),
)  # fmt: skip

CASES = (*musl_cases.CASES, *GLIBC, *GCOMPAT)
