"""Images for every rule of the start chain, with what Docker 26.1 and runc 1.1.5 say to each.

The same list is judged from facts (tests/analyzers/test_start.py) and run by a real engine
(tests/oracle/test_start_docker.py). Programs are a few hand-made bytes that exit with 0.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import msgspec

from analyzers.facts import LayerFacts
from analyzers.oci import ImageConfig, Platform
from tests.make.layers import fifo, program, tar_of
from tests.make.views import Item, capability, file, folder, layer, script, symlink

EXIT_0 = bytes.fromhex("31ffb8e70000000f05")
"""xor edi,edi; mov eax,231; syscall: exit_group(0) on x86-64."""
EXIT_0_I386 = bytes.fromhex("31dbb801000000cd80")


def tiny(
    *,
    interp: bytes | None = None,
    machine: int = 62,
    bits: int = 64,
    type: int = 2,
    ident: Mapping[int, int] | None = None,
    phentsize: int | None = None,
    phnum: int | None = None,
    extra_headers: int = 0,
    interp_size: int | None = None,
    interp_offset: int | None = None,
    entry: int | None = None,
    load: bool = True,
    size: int = 0,
    filesz: int | None = None,
    vaddr_shift: int = 0,
    code: bytes = b"",
) -> bytes:
    """An ELF file of one segment whose code exits with 0; every argument breaks or bends something.

    `interp` is written with its NUL; `interp_size` replaces p_filesz of PT_INTERP, `extra_headers` adds PT_NULLs.
    """
    header_size, entry_size = (64, 56) if bits == 64 else (52, 32)
    count = int(load) + int(interp is not None) + extra_headers
    at_code = header_size + entry_size * count
    machine_code = code or (EXIT_0 if bits == 64 else EXIT_0_I386)
    at_interp = at_code + len(machine_code)
    text = b"" if interp is None else interp + b"\0"
    total = max(size, at_interp + len(text))
    base = 0x400000 if type == 2 else 0
    marks = bytearray(b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9))
    for index, value in (ident or {}).items():
        marks[index] = value
    start = base + at_code if entry is None else entry
    numbers = (start, header_size, 0)
    form = "<HHIQQQIHHHHHH" if bits == 64 else "<HHIIIIIHHHHHH"
    header = bytes(marks) + struct.pack(
        form, type, machine, 1, *numbers, 0, header_size, phentsize if phentsize is not None else entry_size,
        count if phnum is None else phnum, 0, 0, 0,
    )  # fmt: skip
    headers = b""
    if interp is not None:
        length = len(text) if interp_size is None else interp_size
        headers += _segment(bits, 3, 4, at_interp if interp_offset is None else interp_offset, base, length, 1)
    if load:
        headers += _segment(bits, 1, 5, 0, base + vaddr_shift, total if filesz is None else filesz, 4096)
    headers += bytes(entry_size * extra_headers)
    return (header + headers + machine_code + text).ljust(total, b"\0")


def _segment(bits: int, type: int, flags: int, offset: int, address: int, size: int, align: int) -> bytes:
    if bits == 64:
        return struct.pack("<IIQQQQQQ", type, flags, offset, address, address, size, size, align)
    return struct.pack("<IIIIIIII", type, offset, address, address, size, size, flags, align)


TRUE = program(tiny())
"""A static program that starts and ends well."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One image, and what comes of running it."""

    id: str
    layers: tuple[Mapping[str, Item | bytes | str], ...]
    whiteouts: tuple[tuple[str, ...], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    platform: str = "linux/amd64"
    message: str = ""
    """Empty: it starts."""
    exit_code: int = 0
    options: tuple[str, ...] = ()
    """Of `docker run`."""
    oracle: str = ""
    """Why a real engine is not asked; empty when it is."""

    @property
    def config(self) -> ImageConfig:
        system, architecture = self.platform.split("/")
        return ImageConfig(
            platform=Platform(system, architecture),
            entrypoint=self.entrypoint,
            cmd=self.cmd,
            env=self.env or (),
            user=self.user or "",
            working_dir=self.working_dir or "",
        )

    def facts(self) -> list[LayerFacts]:
        return [layer(items, whiteouts=self._whiteouts(index)) for index, items in enumerate(self.layers)]

    def tars(self) -> tuple[bytes, ...]:
        return tuple(tar_of(items, whiteouts=self._whiteouts(index)) for index, items in enumerate(self.layers))

    def _whiteouts(self, index: int) -> tuple[str, ...]:
        return self.whiteouts[index] if index < len(self.whiteouts) else ()


def case(id: str, items: Mapping[str, Item | bytes | str], cmd: Sequence[str] | None = ("/x",), message: str = "",
         exit_code: int | None = None, **more: object) -> Case:  # fmt: skip
    """A case of one layer that also holds /bin/true and /bin/sh, both static programs."""
    base = {"bin/true": TRUE, "bin/sh": TRUE, **items}
    code = (1 if message.startswith("exec /") else 127) if exit_code is None else exit_code
    values: dict[str, object] = {
        "id": id, "layers": (base,), "cmd": None if cmd is None else tuple(cmd),
        "message": message, "exit_code": code if message or exit_code is not None else 0,
    }  # fmt: skip
    return Case(**(values | more))  # type: ignore[arg-type]


NOT_FOUND = "executable file not found in $PATH"
ABSENT = "no such file or directory"
DENIED = "permission denied"
FORMAT = "exec /x: exec format error"
HINT = (
    ": unknown: Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:500:501:A:/home/app:/bin/sh\n500:x:600:600::/n:\n"
GROUP = "root:x:0:\nwheel:x:10:root,app\napp:x:501:\n"
ACCOUNTS = {"etc/passwd": file(PASSWD), "etc/group": file(GROUP)}
BELOW = "error during container init: "


def lookup(name: str, words: str) -> str:
    return f'exec: "{name}": {words}'


def stat(name: str, words: str) -> str:
    return lookup(name, f"stat {name}: {words}")


CONFIG_CASES = (
    case("c01_argv_is_entrypoint_and_cmd", {}, ("ignored",), entrypoint=("/bin/true",)),
    case("t01_c02_an_entrypoint_of_one_empty_string_is_unset", {}, ("true",), entrypoint=("",)),
    case("t02_c02_an_empty_name_with_more_is_looked_up", {}, None, lookup("", NOT_FOUND), entrypoint=("", "x")),
    case("t03_c03_no_command", {}, None, "no command specified", 125),
    case("t21_c04_shell_form_without_a_shell", {}, ("/bin/sh", "-c", "x"), stat("/bin/sh", ABSENT), layers=({"x": TRUE},)),
    case("t04_c06_an_empty_path_finds_nothing", {}, ("true",), lookup("true", NOT_FOUND), env=("PATH=",)),
    case("c06_an_item_without_equals_removes_path", {}, ("true",), lookup("true", NOT_FOUND), env=("PATH",)),
    case("c06_without_path_the_default_is_used", {}, ("true",), env=("A=b",)),
    case("c06_other_items_without_equals_are_dropped", {}, ("true",), env=("FOO",)),
    case("c06_the_last_of_two_paths_wins", {}, ("true",), env=("PATH=/nope", "PATH=/bin")),
    case("c08_a_variable_without_a_name", {}, ("true",), BELOW + "environment variable name can't be empty: \"=x\"", 125,
         env=("=x",)),
    case("c08_a_variable_with_a_nul", {}, ("true",),
         BELOW + "environment variable value can't contain null(\\x00): \"A=x\\x00y\"", 125, env=("A=x\0y",)),
    case("c16_an_empty_working_dir_is_the_root", {"bin/x": TRUE}, ("bin/x",)),
    case("t15_c16_a_missing_working_dir_is_made", {}, ("true",), working_dir="/a/b/c"),
    case("c16_a_made_working_dir_can_be_left_upwards", {}, ("../../bin/true",), working_dir="/a/b"),
    case("c16_a_working_dir_through_a_dangling_link_is_made", {"l": symlink("y/z")}, ("true",), working_dir="/l/w"),
    case("c16_a_closed_working_dir_is_entered", {"d": folder(0o700), "d/e": folder()}, ("true",), working_dir="/d/e",
         user="1000"),
    case("t16_c17_the_working_dir_is_a_file", {"f": "x"}, ("true",), "Cannot mkdir: /f is not a directory", 125,
         working_dir="/f"),
    case("c17_a_file_in_the_way_of_the_working_dir", {"f": "x"}, ("true",), "lstat <rootfs>/f/y: not a directory", 125,
         working_dir="/f/y"),
    case("c17_a_loop_in_the_working_dir", {"l": symlink("l")}, ("true",),
         "evalSymlinksInScope: too many links in <rootfs>/l", 125, working_dir="/l"),
    case("c17_a_relative_working_dir", {}, ("true",), "Cwd must be an absolute path", 125, working_dir="bin"),
    case("c17_a_working_dir_below_proc", {}, ("true",), BELOW + "mkdir /proc/x: no such file or directory", 127,
         working_dir="/proc/x"),
    case("c17_a_working_dir_below_sys", {}, ("true",), BELOW + "mkdir /sys/x: read-only file system", 125,
         working_dir="/sys/x"),
    case("c17_a_working_dir_below_dev_is_made", {}, ("true",), working_dir="/dev/x"),
)  # fmt: skip

LOOKUP_CASES = (
    case("t08_c11_relative_names_start_in_the_working_dir", {"app/ok": TRUE}, ("./ok",), working_dir="/app"),
    case("t05_c11_unusable_files_on_path_are_passed_over", {"p1/tool": file("x"), "p2/tool": TRUE}, ("tool",),
         env=("PATH=/p1:/p2",)),
    case("t06_c11_and_the_message_is_not_found", {"p1/tool": file("x")}, ("tool",), lookup("tool", NOT_FOUND),
         env=("PATH=/p1",)),
    case("t07_c11_an_empty_element_of_path", {}, ("true",),
         lookup("true", "cannot run executable found relative to current directory"), 125, env=("PATH=:/usr/bin",),
         working_dir="/bin"),
    case("c11_a_relative_element_of_path", {}, ("true",),
         lookup("true", "cannot run executable found relative to current directory"), 125, env=("PATH=bin",)),
    case("c11_elements_of_path_are_cleaned", {}, ("true",), env=("PATH=/nope/../bin",)),
    case("c11_a_loop_on_path_is_passed_over", {"l": symlink("l")}, ("true",), env=("PATH=/l:/bin",)),
    case("c11_a_dot_is_no_program", {}, (".",), lookup(".", NOT_FOUND)),
    case("c12_bare_name_not_found", {}, ("nope",), lookup("nope", NOT_FOUND)),
    case("c12_path_missing", {}, ("/nope",), stat("/nope", ABSENT)),
    case("c12_relative_path_missing", {}, ("./nope",), stat("./nope", ABSENT)),
    case("c12_a_dangling_link", {"x": symlink("y")}, message=stat("/x", ABSENT)),
    case("c12_not_executable", {"x": file("x")}, message=lookup("/x", DENIED), exit_code=126),
    case("t09_c12_a_directory", {}, ("/bin",), lookup("/bin", DENIED), 126),
    case("t10_c12_a_symlink_loop", {"x": symlink("x")}, message=stat("/x", "too many levels of symbolic links"),
         exit_code=125),
    case("c12_a_component_is_a_file", {}, ("/bin/true/x",), stat("/bin/true/x", "not a directory") + HINT, 125),
    case("c12_a_file_with_a_slash_behind", {}, ("/bin/true/",), stat("/bin/true/", "not a directory") + HINT, 125),
    case("c12_a_name_too_long", {}, ("/" + "n" * 256,), stat("/" + "n" * 256, "file name too long"), 125),
    case("c12_names_are_quoted_as_go_does", {}, ('/a"b\né\u200b',),
         'exec: "/a\\"b\\né\\u200b": stat /a"b\\x0aé\\u200b: no such file or directory'),
    case("t11_an_absolute_link_to_another_file", {"x": symlink("/bin/true")}),
    case("t12_c13_any_execute_bit_suffices", {"x": program(tiny(), 0o744)}, user="1000"),
    case("c13_closed_directories_do_not_stop_the_program", {"d": folder(0o700), "d/x": program(tiny(), 0o744)}, ("/d/x",),
         user="1000"),
    case("t13_c13_without_capabilities_modes_count", {"x": program(tiny(), 0o744)}, message="exec /x: permission denied",
         exit_code=126, user="1000", options=("--cap-drop=ALL",)),
    case("c13_without_capabilities_directories_count", {"d": folder(0o700), "d/x": TRUE}, ("/d/x",), stat("/d/x", DENIED), 126,
         user="1000", options=("--cap-drop=ALL",)),
    case("s00_programs_below_the_runtimes_mounts_are_absent", {"proc/x": TRUE}, ("/proc/x",), stat("/proc/x", ABSENT)),
    case("s00_programs_in_dev_are_absent", {"dev/x": TRUE}, ("/dev/x",), stat("/dev/x", ABSENT)),
    case("s00_mounted_files_hide_the_images", {"etc/hosts": TRUE}, ("/etc/hosts",), lookup("/etc/hosts", DENIED), 126),
    case("s00_a_device", {}, ("/dev/null",), lookup("/dev/null", DENIED), 126),
)  # fmt: skip

NO_USER = "no matching entries in passwd file"
USER_CASES = (
    case("c18_a_name", ACCOUNTS, ("true",), user="app"),
    case("c18_name_and_group", ACCOUNTS, ("true",), user="app:wheel"),
    case("t17_c21_root_by_name_without_files", {}, ("true",), f"unable to find user root: {NO_USER}", 125, user="root"),
    case("t17_c21_nobody_by_name_without_files", {}, ("true",), f"unable to find user nobody: {NO_USER}", 125, user="nobody"),
    case("t17_c21_a_group_by_name_without_files", {}, ("true",),
         "unable to find group root: no matching entries in group file", 125, user="0:root"),
    case("t18_c21_numbers_need_no_files", {}, ("true",), user="65534:65534"),
    case("t19_c19_a_number_is_only_a_number", {**ACCOUNTS, "x": program(tiny(), 0o711, 600, 600)}, user="500"),
    case("t20_c19_negative", {}, ("true",), "uids and gids must be in range 0-2147483647", 125, user="-1"),
    case("t20_c19_too_large", {}, ("true",), "uids and gids must be in range 0-2147483647", 125, user="2147483648"),
    case("c20_a_number_without_entry", ACCOUNTS, ("true",), user="12345"),
    case("c21_name_not_found", ACCOUNTS, ("true",), f"unable to find user web: {NO_USER}", 125, user="web"),
    case("c21_group_not_found", ACCOUNTS, ("true",), "unable to find group web: no matching entries in group file", 125,
         user="app:web"),
    case("c22_a_passwd_line_too_long", {"etc/passwd": file("root:x:0:0::/:\n" + "x" * 70000)}, ("true",),
         "unable to find user root: bufio.Scanner: token too long", 125, user="root"),
    case("c22_the_first_of_two_uids_wins", {"etc/passwd": file("a:x:7:8::/:\nb:x:7:9::/:\n")}, ("true",), user="b"),
    case("c18_passwd_through_a_link", {"etc/passwd": symlink("/passwd"), "passwd": file("z:x:3:4::/:\n")}, ("true",),
         user="z"),
    case("c18_passwd_is_a_directory", {"etc/passwd": folder()}, ("true",),
         "unable to find user root: read <rootfs>/etc/passwd: is a directory", 126, user="root"),
    case("c18_passwd_is_a_loop", {"etc/passwd": symlink("passwd")}, ("true",),
         "evalSymlinksInScope: too many links in <rootfs>/etc/passwd", 125),
    case("c18_etc_is_a_link_that_docker_replaces", {"etc": symlink("e"), "e/passwd": file("z:x:3:4::/:\n")}, ("true",),
         f"unable to find user z: {NO_USER}", 125, user="z"),
    case("c18_a_negative_uid_in_passwd", {"etc/passwd": file("neg:x:-5:1::/:\n")}, ("true",),
         "unable to setup user: uids and gids must be in range 0-2147483647", 125, user="neg"),
    case("c18_uid_4294967295_in_passwd", {"etc/passwd": file("big:x:4294967295:5::/:\n")}, ("true",),
         "unable to setup user: invalid argument", 125, user="big"),
)  # fmt: skip


def nested(levels: int) -> dict[str, Item]:
    links: dict[str, Item] = {f"s{index}": script(f"#!/s{index + 1}\n") for index in range(levels - 1)}
    return {**links, f"s{levels - 1}": script("#!/bin/true\n")}


def of_length(length: int) -> str:
    """A `#!` line of that many bytes, its end not counted, that names /bin/sh."""
    return "#!/" + "/" * (length - 9) + "bin/sh\n"


DENIED_X = "exec /x: permission denied"
ABSENT_X = f"exec /x: {ABSENT}"
LOOP = "too many levels of symbolic links"
SCRIPT_CASES = (
    case("k02_empty_file", {"x": script("")}, message=FORMAT),
    case("t24_k02_text_without_a_line", {"x": script("echo hi\n")}, message=FORMAT),
    case("t32_k02_byte_order_mark", {"x": script(b"\xef\xbb\xbf#!/bin/sh\n")}, message=FORMAT),
    case("k02_blank_line_first", {"x": script("\n#!/bin/sh\n")}, message=FORMAT),
    case("k03_an_argument_of_128_kib", {}, ("/bin/true", "x" * 131072), "exec /bin/true: argument list too long"),
    case("k03_an_argument_just_below", {}, ("/bin/true", "x" * 131071)),
    case("k03_a_variable_of_128_kib", {}, ("/bin/true",), "exec /bin/true: argument list too long", env=("A=" + "x" * 131072,)),
    case("k03_arguments_of_2_mib", {}, ("/bin/true", *["x" * 100000] * 21), "exec /bin/true: argument list too long"),
    case("k03_an_argument_with_a_nul", {}, ("/bin/true", "a\0b"), "exec /bin/true: invalid argument"),
    case("k04_blanks_around_the_name", {"x": script("#! \t/bin/sh \t \n")}),
    case("k05_the_rest_is_one_argument", {"x": script("#!/bin/sh -a b  c\n")}),
    case("t27_k06_a_line_of_255_bytes", {"x": script(of_length(255))}),
    case("t27_k06_a_line_of_256_bytes", {"x": script(of_length(256))}, message=FORMAT),
    case("k06_a_long_argument_is_cut", {"x": script("#!/bin/sh " + "a" * 300 + "\n")}),
    case("t28_k06_no_line_end", {"x": script("#!/bin/sh")}),
    case("k07_blanks_only", {"x": script("#!   \n")}, message=FORMAT),
    case("t33_k07_nothing_behind_the_mark", {"x": script("#!")}, message=DENIED_X),
    case("k07_blanks_and_the_end_of_the_file", {"x": script("#!   ")}, message=DENIED_X),
    case("k07_a_nul_ends_the_name", {"x": script(b"#!/bin/sh\0junk\n")}),
    case("k07_a_nul_ends_the_argument", {"x": script(b"#!/bin/sh a\0b\n")}),
    case("t22_k08_crlf", {"x": script("#!/bin/sh\r\necho\r\n")}, message=ABSENT_X),
    case("t23_k08_crlf_behind_an_argument", {"x": script("#!/bin/sh -x\r\necho\n")}),
    case("k09_interpreter_missing", {"x": script("#!/nope\n")}, message=ABSENT_X),
    case("k09_interpreter_is_a_directory", {"x": script("#!/bin\n")}, message=DENIED_X),
    case("t31_k09_interpreter_not_executable", {"x": script("#!/y\n"), "y": file("x")}, message=DENIED_X),
    case("k09_interpreter_below_a_file", {"x": script("#!/bin/sh/x\n")}, message="exec /x: not a directory"),
    case("k09_relative_interpreter_in_the_working_dir", {"x": script("#!bin/sh\n")}),
    case("t30_k09_relative_interpreter_elsewhere", {"x": script("#!bin/sh\n")}, message=ABSENT_X, working_dir="/bin"),
    case("k11_interpreter_is_plain_text", {"x": script("#!/y\n"), "y": script("text")}, message=FORMAT),
    case("k11_interpreter_is_itself", {"x": script("#!/x\n")}, message=f"exec /x: {LOOP}"),
    case("t29_k11_five_scripts", nested(5), ("/s0",)),
    case("t29_h103_k11_six_scripts", nested(6), ("/s0",), f"exec /s0: {LOOP}"),
    case("k11_the_sixths_interpreter_is_opened_first", {**nested(6), "s5": script("#!/nope\n")}, ("/s0",), f"exec /s0: {ABSENT}"),
    case("h103_a_line_of_1_mib", {"x": script("#!/" + "a" * 1048576 + "\n")}, message=FORMAT),
)  # fmt: skip

LD = program(tiny(type=3))


def dynamic(interp: bytes = b"/ld", **more: object) -> Item:
    return program(tiny(interp=interp, **more))  # type: ignore[arg-type]


CORRUPT = "exec /x: accessing a corrupted shared library"
CRASH = "crash"
"""Stands for a process killed by a signal, which says nothing."""
PROGRAM_CASES = (
    case("k01_a_fifo", {"x": fifo(0o755)}, message=DENIED_X),
    case("k01_the_marker_of_docker", {}, ("/.dockerenv",), "exec /.dockerenv: exec format error"),
    case("k01_unreadable_elf_runs", {"x": program(tiny(), 0o111)}, user="1000"),
    case("k12_relocatable_file", {"x": program(tiny(type=1))}, message=FORMAT),
    case("k12_core_file", {"x": program(tiny(type=4))}, message=FORMAT),
    case("t38_k12_foreign_machine", {"x": program(tiny(machine=183))}, message=FORMAT),
    case("k12_wrong_phentsize", {"x": program(tiny(phentsize=57))}, message=FORMAT),
    case("k12_no_program_headers", {"x": program(tiny(phnum=0))}, message=FORMAT),
    case("k12_headers_beyond_the_end", {"x": program(tiny(phnum=60))}, message=FORMAT),
    case("k12_cut_after_63_bytes", {"x": program(tiny()[:63])}, message=FORMAT),
    case("k12_cut_after_100_bytes", {"x": program(tiny()[:100])}, message=FORMAT),
    case("k12_only_the_magic", {"x": program(b"\x7fELF")}, message=FORMAT),
    case("k12_seventy_three_headers", {"x": program(tiny(extra_headers=72))}),
    case("k13_osabi_and_versions_are_not_looked_at", {"x": program(tiny(ident={6: 9, 7: 9, 8: 9, 15: 9}))}),
    case("k14_interp_of_one_byte", {"x": dynamic(interp_size=1)}, message=FORMAT),
    case("k14_interp_of_4097_bytes", {"x": dynamic(b"/ld" + b"\0" * 4200, interp_size=4097)}, message=FORMAT),
    case("k14_interp_without_nul", {"x": dynamic(interp_size=3), "ld": LD}, message=FORMAT),
    case("k14_interp_beyond_the_end", {"x": dynamic(interp_offset=1 << 20)}, message="exec /x: input/output error"),
    case("t34_k15_interp_missing", {"x": dynamic()}, message=ABSENT_X),
    case("t35_k15_interp_not_executable", {"x": dynamic(), "ld": program(tiny(type=3), 0o644)}, message=DENIED_X),
    case("k15_interp_is_a_directory", {"x": dynamic(b"/bin")}, message=DENIED_X),
    case("k15_interp_is_a_loop", {"x": dynamic(), "ld": symlink("ld")}, message=f"exec /x: {LOOP}"),
    case("t37_k14_relative_interp_elsewhere", {"x": dynamic(b"ld"), "ld": LD}, message=ABSENT_X, working_dir="/bin"),
    case("t36_k16_interp_is_short_text", {"x": dynamic(), "ld": script("short")}, message="exec /x: input/output error"),
    case("t36_k16_interp_is_long_text", {"x": dynamic(), "ld": script("long" * 30)}, message=CORRUPT),
    case("k16_interp_is_a_script", {"x": dynamic(), "ld": script("#!/bin/sh\n" + "#" * 80)}, message=CORRUPT),
    case("k16_interp_of_a_foreign_machine", {"x": dynamic(), "ld": program(tiny(type=3, machine=183))}, message=CORRUPT),
    case("k16_interp_with_bad_headers", {"x": dynamic(), "ld": program(tiny(type=3, phentsize=57))}, message=CORRUPT),
    case("k17_interp_of_a_wrong_type", {"x": dynamic(), "ld": program(tiny(type=1))}, message=CRASH, exit_code=139),
    case("k17_a_program_without_segments", {"x": program(tiny(load=False, extra_headers=1))}, message=CRASH, exit_code=139),
    case("k17_segment_address_and_offset_disagree", {"x": program(tiny(vaddr_shift=8))}, message=CRASH, exit_code=139),
    case("k18_static", {"x": TRUE}),
    case("k18_static_pie", {"x": program(tiny(type=3))}),
    case("k18_a_library_without_entry", {"x": program(tiny(type=3, entry=0))}, message=CRASH, exit_code=139),
    case("t39_k20_i386_static", {"x": program(tiny(bits=32, machine=3))}),
    case("t40_k20_x32", {"x": program(tiny(bits=32, machine=62))}, message=FORMAT),
    case("k21_an_image_of_another_machine", {"x": program(tiny(machine=183))}, message=FORMAT, platform="linux/amd64"),
    case("k23_capabilities_outside_the_bounding_set", {"x": program(tiny(), capability=capability(1 << 14))},
         message="exec /x: operation not permitted"),
    case("k23_permitted_capabilities_do_not_matter", {"x": program(tiny(), capability=capability(1 << 14, effective=False))}),
    case("k23_capabilities_inside_the_bounding_set", {"x": program(tiny(), capability=capability(1 << 10))}, user="1000"),
)  # fmt: skip

LAYER_CASES = (
    Case(id="h006_a_deleted_program", layers=({"x": TRUE}, {"d": folder()}), whiteouts=((), ("x",)), cmd=("/x",),
         message=stat("/x", ABSENT), exit_code=127),
    Case(id="h008_a_program_deleted_and_brought_again_in_one_layer",
         oracle="overlay2 cannot make a whiteout where its own layer has a file", layers=({"x": file("x")}, {"x": TRUE}),
         whiteouts=((), ("x",)), cmd=("/x",)),
    Case(id="h006_a_directory_replaced_by_a_link", layers=({"d/x": TRUE, "e/x": file("x")}, {"d": symlink("e")}), cmd=("/d/x",),
         message=lookup("/d/x", DENIED), exit_code=126),
    Case(id="s00_a_changed_mode", layers=({"x": TRUE}, {"x": program(tiny(), 0o644)}), cmd=("/x",),
         message=lookup("/x", DENIED), exit_code=126),
)  # fmt: skip

CASES = (*CONFIG_CASES, *LOOKUP_CASES, *USER_CASES, *SCRIPT_CASES, *PROGRAM_CASES, *LAYER_CASES)
