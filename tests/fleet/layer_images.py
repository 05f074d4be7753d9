"""Images whose answer lies in how their layers lie over each other, in links, modes and owners, and in shells and scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from analyzers.start import Overrides
from tests.fleet.image import FleetImage, Items, Layer, runs
from tests.fleet.libraries import A, needs, one
from tests.fleet.programs import hello, musl_hello, user_of
from tests.make import roots
from tests.make.elves import c, runpath, zig
from tests.make.layers import file, folder, hardlink, program, symlink

TRIPLET = "x86_64-linux-gnu"
NOT_THERE = "cannot open shared object file: No such file or directory"
SCRIPT = "\necho hello\n"


def stacked(
    id: str, rules: str, base: str, layers: Callable[[], Sequence[Layer]], cmd: str = "/app", **more: object
) -> FleetImage:
    values: dict[str, object] = {
        "id": id,
        "rules": tuple(rules.split()),
        "base": base,
        "layers": layers,
        "cmd": tuple(cmd.split()),
    }
    return FleetImage(**(values | more))  # type: ignore[arg-type]


def app() -> Layer:
    return Layer({"app": program(hello())})


def app_and_library(place: str = "a") -> Layer:
    return Layer({"app": program(needs(A, flags=runpath("/a"))), f"{place}/{A}": one(A)})


LAYERS = (
    stacked("layers_a_loader_deleted", "K15", "debian", lambda: (app(), Layer({}, (f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2",))),
            fails="exec /app: no such file or directory"),
    stacked("layers_libc_deleted", "G18", "debian", lambda: (app(), Layer({}, (f"usr/lib/{TRIPLET}/libc.so.6",))),
            fails=f"libc.so.6: {NOT_THERE}"),
    stacked("layers_a_library_deleted", "G18", "debian", lambda: (app_and_library(), Layer({}, (f"a/{A}",))),
            fails=f"{A}: {NOT_THERE}"),
    stacked("layers_a_library_deleted_and_brought_back", "G10", "debian",
            lambda: (app_and_library(), Layer({}, (f"a/{A}",)), Layer({f"a/{A}": one(A)})), good=True),
    stacked("layers_a_directory_deleted", "G18", "debian", lambda: (app_and_library(), Layer({}, ("a",))),
            fails=f"{A}: {NOT_THERE}"),
    stacked("layers_an_opaque_directory", "G18", "debian", lambda: (app_and_library(), Layer({"a/other": "x"}, (), ("a",))),
            fails=f"{A}: {NOT_THERE}"),
    stacked("layers_an_opaque_directory_with_a_new_library", "G10", "debian",
            lambda: (Layer({"app": program(needs(A, flags=runpath("/a"))), f"a/{A}": "old"}), Layer({f"a/{A}": one(A)}, (),
            ("a",)))),
    stacked("layers_a_library_replaced_by_text", "G30", "debian", lambda: (app_and_library(), Layer({f"a/{A}": file("x" * 80)})),
            fails="invalid ELF header"),
    stacked("layers_a_directory_replaced_by_a_link", "G10", "debian",
            lambda: (app_and_library(), Layer({"z/" + A: one(A)}), Layer({"a": symlink("z")}))),
    stacked("layers_a_directory_replaced_by_a_file", "G18", "debian", lambda: (app_and_library(), Layer({"a": "x"})),
            fails=f"{A}: {NOT_THERE}"),
    stacked("layers_a_merged_usr_unmerged", "K15", "debian", lambda: (app(), Layer({"lib64": folder()}, (), ("lib64",))),
            fails="exec /app: no such file or directory"),
    stacked("layers_content_below_a_link_of_a_lower_layer", "G10", "debian",
            lambda: (Layer({"app": program(needs(A))}), Layer({f"usr/lib/{TRIPLET}/{A}": one(A)}))),
    stacked("layers_a_mode_changed_above", "C12", "debian", lambda: (app(), Layer({"app": program(hello(), 0o644)})),
            fails="permission denied"),
    stacked("layers_busybox_deleted_behind_its_links", "C12", "alpine", lambda: (Layer({}, ("bin/busybox",)),),
            cmd="/bin/sh -c x",
            fails='exec: "/bin/sh": stat /bin/sh: no such file or directory'),
    stacked("layers_an_opaque_root_hides_nothing", "K15", "debian", lambda: (app(), Layer({"d": "x"}, (), ("",)))),
    stacked("layers_a_library_below_a_linked_directory", "K15", "debian", lambda: (
        Layer({"app": program(needs(A))}), Layer({f"lib/{TRIPLET}/{A}": one(A)}, parents=False)),
        fails="exec /app: no such file or directory"),
    stacked("layers_a_deletion_below_a_linked_directory", "K15", "debian", lambda: (
        app(), Layer({}, (f"lib/{TRIPLET}/libm.so.6",), parents=False)), fails="exec /app: no such file or directory"),
    stacked("layers_a_closed_directory_that_a_layer_implies", "C13", "debian", lambda: (
        Layer({"app": program(needs(A, flags=runpath("/a"))), "a": folder(0o700), f"a/{A}": one(A)}),
        Layer({"a/more": "x"}, parents=False)), user="1000"),
    stacked("layers_a_real_lib_over_the_merged_one", "K15", "debian", lambda: (app(), Layer({"lib/x": "x"})),
            fails="exec /app: no such file or directory"),
    stacked("layers_passwd_deleted", "C21", "debian", lambda: (app(), Layer({}, ("etc/passwd",))), user="app",
            fails="unable to find user app: no matching entries in passwd file"),
    stacked("layers_a_hard_link_outlives_its_name", "G7", "debian",
            lambda: (Layer({"app": program(hello()), "bin2/app": hardlink("app")}), Layer({}, ("app",))), cmd="/bin2/app"),
)  # fmt: skip

LINKS = (
    runs("links_an_entrypoint_by_links", "C11", "debian", lambda: {"opt/v1/bin/run": hello(), "opt/now": symlink("v1"),
         "usr/local/bin/app": symlink("../../../opt/now/bin/run")}, "app", good=True),
    runs("links_an_entrypoint_by_a_dangling_link", "C12", "debian", lambda: {"app": symlink("/opt/gone/app")},
         fails="stat /app: no such file or directory"),
    runs("links_an_entrypoint_by_a_loop", "C12", "debian", lambda: {"app": symlink("b"), "b": symlink("app")},
         fails="too many levels of symbolic links"),
    runs("links_forty", "C12", "debian", lambda: chain(40), "/l0"),
    runs("links_forty_one", "C12", "debian", lambda: chain(41), "/l0", fails="too many levels of symbolic links"),
    runs("links_an_entrypoint_that_climbs_out", "C11", "debian", lambda: {"app": symlink("../../../../usr/x"), "usr/x": hello()}),
    runs("links_the_loader_by_an_absolute_link", "K15", "busybox-glibc", lambda: {"app": hello()}),
)  # fmt: skip


def chain(count: int) -> Items:
    return {**{f"l{index}": symlink(f"l{index + 1}") for index in range(count)}, f"l{count}": hello()}


MACHINES = (
    runs("machine_aarch64_program", "K12 K20 K21 A6", "debian", lambda: {"app": hello(by=zig("aarch64-linux-gnu"))},
         fails="exec /app: exec format error"),
    runs("machine_aarch64_program_for_binfmt", "K22", "", lambda: {"app": hello(by=zig("aarch64-linux-gnu"))},
         fails="exec /app: exec format error"),
    runs("machine_riscv_program", "K20", "alpine", lambda: {"app": hello(by=zig("riscv64-linux-gnu"))},
         fails="exec /app: exec format error"),
    runs("machine_i386_program_without_its_loader", "K15 K20", "debian", lambda: {"app": hello(by=zig("x86-linux-gnu"))},
         fails="exec /app: no such file or directory"),
    runs("machine_x86_64_program_with_a_foreign_loader", "K16", "", lambda: {
        "app": hello(), "lib64/ld-linux-x86-64.so.2": hello(by=zig("aarch64-linux-gnu"))},
        fails="exec /app: accessing a corrupted shared library"),
    runs("machine_a_program_as_the_loader", "K17", "debian", lambda: {
        "app": hello(), f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2": hello()}, crashes=139),
    runs("machine_a_library_as_the_loader", "K17", "debian", lambda: {
        "app": hello(), f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2": one(A)}, crashes=139),
    runs("machine_a_truncated_loader", "K17", "debian", lambda: {
        "app": hello(), f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2": program(loader()[:4096])}, crashes=139),
    runs("machine_a_loader_without_its_last_pages", "K17", "debian", lambda: {
        "app": hello(), f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2": program(loader()[:-40000])}, crashes=139),
    runs("machine_a_truncated_static_program", "K17", "", lambda: {"app": program(hello("-static")[:20000])}, crashes=139),
    runs("machine_an_object_file", "K12", "", lambda: {"app": c("int main(void) { return 0; }\n", "-c")},
         fails="exec /app: exec format error"),
    runs("machine_a_library_as_a_program", "K18", "debian", lambda: {"app": one(A)}, crashes=139),
    runs("machine_an_executable_stack", "K19", "debian", lambda: {"app": hello("-Wl,-z,execstack")}),
    runs("machine_unreadable_but_executable", "K1", "", lambda: {"app": program(hello("-static"), 0o111)}, user="1000"),
    runs("machine_foreign_notes_and_no_sections", "K13", "", lambda: {"app": osabi(hello("-static"))}),
)  # fmt: skip


def loader() -> bytes:
    return roots.debian()[f"usr/lib/{TRIPLET}/ld-linux-x86-64.so.2"].content


def osabi(elf: bytes) -> bytes:
    """EI_OSABI and the section table are of no interest to the kernel."""
    return elf[:7] + b"\x09" + elf[8:40] + b"\xff" * 8 + elf[48:58] + b"\xff" * 6 + elf[64:]


def text(line: str, body: str = SCRIPT) -> Callable[[], Items]:
    return lambda: {"app": program((line + body).encode())}


def closed(line: str) -> Callable[[], Items]:
    return lambda: {"app": program((line + SCRIPT).encode(), 0o711)}


SCRIPTS = (
    runs("script_of_sh_on_alpine", "K4", "alpine", text("#!/bin/sh"), good=True),
    runs("script_of_sh_on_debian", "K4", "debian", text("#!/bin/sh -e"), good=True),
    runs("script_of_sh_on_scratch", "K9", "", text("#!/bin/sh"), fails="exec /app: no such file or directory"),
    runs("script_of_bash_on_debian", "K4", "debian", text("#!/bin/bash"), good=True),
    runs("script_of_bash_on_alpine", "K9", "alpine", text("#!/bin/bash"), fails="exec /app: no such file or directory"),
    runs("script_of_env_bash_on_debian", "K5", "debian", text("#!/usr/bin/env bash"), good=True),
    runs("script_with_crlf", "K8", "debian", text("#!/bin/sh\r", "\r\necho hello\r\n"),
         fails="exec /app: no such file or directory"),
    runs("script_without_a_line", "K2 K21", "debian", text("", "echo hello\n"), fails="exec /app: exec format error"),
    runs("script_with_a_byte_order_mark", "K2", "debian", text("\ufeff#!/bin/sh"), fails="exec /app: exec format error"),
    runs("script_not_executable", "C12", "debian", lambda: {"app": file("#!/bin/sh\n")}, fails="permission denied"),
    runs("script_names_its_arguments", "K10", "debian", text("#!/bin/sh -e", '\necho hello "$0" "$@"\n'), "/app one two",
         prints="hello /app one two\n"),
    runs("script_of_a_script", "K11", "debian", lambda: {
        "app": program(b"#!/outer\n"), "outer": program(b"#!/bin/sh\necho hello \"$@\"\n")}, prints="hello /app\n"),
    runs("script_whose_interpreter_has_no_loader", "K9 K15", "alpine", lambda: {
        "app": program(b"#!/opt/sh\n"), "opt/sh": hello()}, fails="exec /app: no such file or directory"),
    runs("script_whose_interpreter_lacks_a_library", "K9 G18", "debian", lambda: {
        "app": program(b"#!/opt/sh\n"), "opt/sh": needs(A)}, fails=f"{A}: {NOT_THERE}"),
)  # fmt: skip


def locale() -> Items:
    """The C.UTF-8 of this machine, which Debian's base image has too."""
    names = [str(path.relative_to("/")) for path in sorted(Path("/usr/lib/locale/C.utf8").rglob("*")) if path.is_file()]
    return {"app": program(b"#!/usr/bin/env python3\n"), **roots.machine(*names)}


ENV_FINDS_NOTHING = "/usr/bin/env: 'python3': No such file or directory"
WRAPPED = (
    runs("env_finds_no_python_on_debian", "K5 R43", "debian", text("#!/usr/bin/env python3"), fails=ENV_FINDS_NOTHING),
    runs("env_finds_no_python_on_alpine", "K5 R43", "alpine", text("#!/usr/bin/env python3"),
         fails="env: can't execute 'python3': No such file or directory"),
    runs("env_finds_no_bash_on_alpine", "K5 R43", "alpine", text("#!/usr/bin/env bash"), fails="env: can't execute 'bash'"),
    runs("env_finds_no_python_on_static_busybox", "K5 R43", "busybox", text("#!/usr/bin/env python3"),
         fails="can't execute 'python3'"),
    runs("env_takes_a_flag_for_the_name", "K5", "debian", text("#!/usr/bin/env node --flag"),
         fails="/usr/bin/env: use -[v]S to pass options in shebang lines"),
    runs("env_splits_the_flag", "K5", "debian", text("#!/usr/bin/env -S bash -e"), good=True),
    runs("env_splits_the_flag_and_finds_nothing", "K5", "debian", text("#!/usr/bin/env -S node --flag"),
         fails="'node': No such file"),
    runs("env_takes_a_carriage_return_for_the_name", "K5 K8", "debian", text("#!/usr/bin/env bash\r"),
         fails="'bash\\r': No such file"),
    runs("env_in_a_utf8_locale", "K5", "debian", locale, env=("LANG=C.UTF-8",), fails="/usr/bin/env: ‘python3’: No such file"),
    runs("env_finds_a_file_that_is_not_executable", "K5", "debian", lambda: {
        **text("#!/usr/bin/env python3")(), "usr/bin/python3": file("x")}, fails="'python3': Permission denied"),
    runs("env_finds_text_and_lets_sh_run_it", "K5 K21", "debian", lambda: {
        **text("#!/usr/bin/env python3")(), "usr/bin/python3": program(b"echo hello\n")}),
    runs("env_of_busybox_finds_text", "K5 K21", "alpine", lambda: {
        **text("#!/usr/bin/env python3")(), "usr/bin/python3": program(b"echo hello\n")}, fails="'python3': Exec format error"),
    runs("env_finds_a_program_without_its_loader", "K5 K15", "debian", lambda: {
        **text("#!/usr/bin/env python3")(), "usr/bin/python3": musl_hello()}, fails=ENV_FINDS_NOTHING),
    runs("env_finds_a_program_that_lacks_a_library", "K5 G18", "debian", lambda: {
        **text("#!/usr/bin/env python3")(), "usr/bin/python3": needs(A)},
        fails=f"python3: error while loading shared libraries: {A}"),
    runs("env_finds_a_script_of_env", "K5", "debian", lambda: {
        **text("#!/usr/bin/env tool")(), "usr/local/bin/tool": program(b"#!/usr/bin/env nope\n")}, fails="'nope': No such file"),
    runs("env_without_a_path", "K5", "debian", text("#!/usr/bin/env bash"), env=("PATH=",), fails="'bash': No such file"),
    runs("env_as_the_command", "K5", "debian", dict, "env nope", fails="env: 'nope': No such file"),
    runs("script_closed_to_the_user_of_dash", "C13 R43", "debian", closed("#!/bin/sh -e"), user="1000",
         fails="/bin/sh: 0: cannot open /app: Permission denied"),
    runs("script_closed_to_the_user_of_bash", "C13 R43", "debian", closed("#!/bin/bash"), user="1000",
         fails="/bin/bash: /app: Permission denied"),
    runs("script_closed_to_the_user_of_env", "C13 K5", "debian", closed("#!/usr/bin/env bash"), user="1000",
         fails="bash: /app: Permission denied"),
    runs("script_closed_to_the_user_of_busybox", "C13 R43", "alpine", closed("#!/bin/sh"), user="1000",
         fails="/bin/sh: can't open '/app': Permission denied"),
    runs("script_in_a_directory_closed_to_the_user", "C13 R43", "debian", lambda: {
        "d": folder(0o700), "d/app": program(b"#!/bin/sh\necho hello\n")}, "/d/app", user="1000",
        fails="/bin/sh: 0: cannot open /d/app: Permission denied"),
    runs("script_that_sh_is_given_is_absent", "R43", "debian", dict, "sh -e /entrypoint.sh",
         fails="sh: 0: cannot open /entrypoint.sh: No such file"),
    runs("script_that_bash_is_given_is_absent", "R43", "debian", dict, "bash /entrypoint.sh",
         fails="bash: /entrypoint.sh: No such file or directory"),
    runs("script_that_busybox_is_given_is_absent", "R43", "alpine", dict, "sh entrypoint.sh",
         fails="sh: can't open 'entrypoint.sh'"),
    runs("script_that_sh_is_given_is_a_loop", "R43", "debian", lambda: {"l": symlink("l")}, "sh /l", fails="Too many levels"),
)  # fmt: skip

CONFIGS = (
    runs("config_no_command", "C3", "debian", dict, cmd=None, fails="no command specified"),
    runs("config_entrypoint_and_cmd", "C1", "debian", dict, "hello", entrypoint=("/bin/sh", "-c", "echo $0")),
    runs("config_an_empty_entrypoint", "C2", "debian", lambda: {"app": hello()}, entrypoint=("",)),
    runs("config_an_empty_name", "C2", "debian", dict, "x", entrypoint=("", "y"),
         fails='exec: "": executable file not found in $PATH'),
    runs("config_entrypoint_said_at_run_time", "C5", "debian", lambda: {"app": hello()}, "/nope", entrypoint=("/nope",),
         overrides=Overrides(entrypoint=("/app",))),
    runs("config_cmd_said_at_run_time", "C5", "debian", lambda: {"app": hello()}, "/nope", overrides=Overrides(cmd=("/app",))),
    runs("config_no_path", "C6", "debian", lambda: {"usr/local/bin/app": hello()}, "app", env=("A=b",), good=True),
    runs("config_an_empty_path", "C6", "debian", dict, "sh", env=("PATH=",),
         fails='exec: "sh": executable file not found in $PATH'),
    runs("config_a_path_of_an_application", "C11", "debian", lambda: {"srv/bin/app": hello()}, "app", env=("PATH=/srv/bin:/bin",),
         good=True),
    runs("config_a_relative_path", "C11", "debian", lambda: {"srv/app": hello()}, "app", env=("PATH=.:/bin",), working_dir="/srv",
         fails="cannot run executable found relative to current directory"),
    runs("config_lookup_happens_inside", "C10", "", lambda: {"bin/dash": hello("-static")}, "dash"),
    runs("config_a_relative_name_in_the_working_dir", "C11 C16", "debian", lambda: {"srv/app": hello()}, "./app",
         working_dir="/srv",
         good=True),
    runs("config_a_missing_working_dir", "C16", "debian", lambda: {"app": hello()}, working_dir="/not/there"),
    runs("config_a_working_dir_that_is_a_file", "C17", "debian", lambda: {"app": hello()}, working_dir="/app",
         fails="Cannot mkdir: /app is not a directory"),
    runs("config_a_missing_user", "C21", "debian", lambda: {"app": hello()}, user="web", fails="unable to find user web"),
    runs("config_a_named_user_on_scratch", "C21", "", lambda: {"app": hello("-static")}, user="nobody",
         fails="unable to find user nobody"),
    runs("config_a_numbered_user_on_scratch", "C20 C21", "", lambda: {"app": hello("-static")}, user="65534:65534"),
    runs("config_a_named_user", "C18", "debian", lambda: {"app": hello()}, user="app", good=True),
    runs("config_a_missing_group", "C18 C21", "debian", lambda: {"app": hello()}, user="app:web",
         fails="unable to find group web"),
    runs("config_a_user_out_of_range", "C19", "debian", lambda: {"app": hello()}, user="2147483648",
         fails="uids and gids must be in range"),
    runs("config_a_user_said_at_run_time", "C18", "debian", lambda: {"app": hello()}, overrides=Overrides(user="web"),
         fails="unable to find user web"),
    runs("config_comments_in_passwd", "C22", "debian", lambda: {"app": hello(),
         "etc/passwd": file("#root:x:5:5::/:\nweb:x:7:7::/:\n")},
         user="#root"),
    runs("config_any_execute_bit_suffices", "C13", "debian", lambda: {"app": program(hello(), 0o744)}, user="1000", good=True),
    runs("config_a_closed_directory", "C13", "debian", lambda: {"srv": folder(0o700), "srv/app": hello("-static")}, "/srv/app",
         user="1000"),
    runs("config_without_capabilities", "C13", "debian", lambda: {"app": program(hello(), 0o744)}, user="1000",
         drop_capabilities=True, fails="permission denied"),
    runs("config_a_variable_without_a_name", "C8", "debian", lambda: {"app": hello()}, env=("=x",),
         fails="environment variable name can't be empty"),
    runs("config_the_home_of_the_user", "C8", "debian", dict, env=("HOME=",), user="app", cmd=None,
         entrypoint=("/bin/sh", "-c", "echo hello $HOME"), prints="hello /\n"),
    runs("config_an_argument_too_long", "K3", "debian", lambda: {"app": hello()}, cmd="/app " + "x" * 131072,
         fails="exec /app: argument list too long"),
    runs("config_an_exec_failure_ends_with_1", "C15", "", lambda: {"app": musl_hello()},
         fails="exec /app: no such file or directory"),
    runs("config_a_shell_form_without_a_shell", "C4", "", lambda: {"app": hello("-static")}, cmd=None,
         entrypoint=("/bin/sh", "-c", "/app"), fails="stat /bin/sh: no such file or directory"),
    runs("config_two_users_of_one_library", "G5", "debian", lambda: {"app": user_of(A, "libb.so")}, fails=f"{A}: {NOT_THERE}"),
    runs("tool_env", "G4", "debian", dict, "/usr/bin/env printenv MARK", env=("MARK=hello",), good=True),
    runs("tool_ls", "G10", "debian", lambda: {"d/hello": "x"}, "ls /d", good=True),
    runs("tool_bash", "G10", "debian", dict, cmd=None, entrypoint=("bash", "-c", "echo hello"), good=True),
    runs("tool_busybox_on_alpine", "M4", "alpine", lambda: {"d/hello": "x"}, "ls /d", good=True),
    runs("tool_static_busybox", "K18", "busybox", lambda: {"d/hello": "x"}, "ls /d", good=True),
)  # fmt: skip

IMAGES = (*LAYERS, *LINKS, *MACHINES, *SCRIPTS, *WRAPPED, *CONFIGS)
