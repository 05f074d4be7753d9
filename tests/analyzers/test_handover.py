"""What env and shells do first, from facts: what needs no real image. Their words are held to a real engine by tests/fleet."""

from __future__ import annotations

import pytest

from analyzers.finding import Reason, Stage, State
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.glibc_cases import LOADER, prog
from tests.make.glibc_loaders import loader_of
from tests.make.layers import program
from tests.make.starts import tiny
from tests.make.views import Item, file, folder, layer, script, symlink

TRUE = program(tiny())
ENV = {"usr/bin/env": TRUE, "bin/dash": TRUE, "bin/sh": symlink("dash"), "bin/bash": TRUE}
BUSYBOX = {"bin/busybox": TRUE, "bin/sh": symlink("busybox"), "usr/bin/env": symlink("../../bin/busybox")}


def judged(items: dict[str, Item | bytes | str], *cmd: str, **more: object) -> object:
    config = ImageConfig(cmd=cmd or ("/x",), **more)  # type: ignore[arg-type]
    return judge_image("x", config, [layer(items)]).verdict


def said(items: dict[str, Item | bytes | str], *cmd: str, **more: object) -> tuple[object, ...]:
    verdict = judged(items, *cmd, **more)
    return verdict.message, verdict.exit_code  # type: ignore[attr-defined]


STARTED = ("", None)
NO_NODE = ("/usr/bin/env: 'node': No such file or directory", 127)


def test_k05_the_rest_of_the_line_is_one_name_for_env() -> None:
    verdict = judged({**ENV, "x": script("#!/usr/bin/env node --flag\n")})
    assert verdict.lines == (  # type: ignore[attr-defined]
        "/usr/bin/env: 'node --flag': No such file or directory",
        "/usr/bin/env: use -[v]S to pass options in shebang lines",
    )
    assert (verdict.state, verdict.stage, verdict.reason) == (State.FAILS, Stage.STARTED, Reason.SCRIPT)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bash", STARTED),
        ("-S bash -e", STARTED),
        ("-S node -e", NO_NODE),
        # What is not understood is not claimed to fail.
        ("-S", STARTED),
        ("-S 'node'", NO_NODE),
        ("-S A=b node", NO_NODE),
        ("-i", STARTED),
        ("A=b", STARTED),
        ("", STARTED),
    ],
)
def test_k05_what_env_is_asked(line: str, message: tuple[str, int]) -> None:
    assert said({**ENV, "x": script(f"#!/usr/bin/env {line}\n")}) == message


def test_k05_env_looks_along_the_path_of_the_image() -> None:
    items = {**ENV, "x": script("#!/usr/bin/env tool\n"), "opt/tool": TRUE}
    assert said(items, env=("PATH=/nope:/opt",)) == STARTED
    assert said(items, env=("PATH=:/nope",), working_dir="/opt") == STARTED
    assert said(items, env=("PATH=/nope",)) == ("/usr/bin/env: 'tool': No such file or directory", 127)
    assert said(items, env=("PATH",)) == ("/usr/bin/env: 'tool': No such file or directory", 127)
    assert said({**items, "bin/tool": TRUE}, env=("PATH",)) == STARTED


def test_k05_a_file_that_may_not_be_run_is_remembered_and_the_search_goes_on() -> None:
    items = {**ENV, "x": script("#!/usr/bin/env tool\n"), "a/tool": file("x")}
    assert said(items, env=("PATH=/a:/b",)) == ("/usr/bin/env: 'tool': Permission denied", 126)
    assert said({**items, "b/tool": TRUE}, env=("PATH=/a:/b",)) == STARTED


def test_k05_what_env_executes_is_followed_in_turn() -> None:
    items = {**ENV, "x": script("#!/usr/bin/env a\n"), "bin/a": script("#!/usr/bin/env b\n")}
    assert said(items) == ("/usr/bin/env: 'b': No such file or directory", 127)
    for_ever = {**ENV, "x": script("#!/usr/bin/env a\n"), "bin/a": script("#!/usr/bin/env a\n")}
    assert said(for_ever) == STARTED


def test_k21_only_glibc_hands_text_to_the_shell() -> None:
    text = {"x": script("#!/usr/bin/env tool\n"), "bin/tool": script("text")}
    assert said({**ENV, **text}) == STARTED
    assert said({"usr/bin/env": TRUE, **text}) == ("/usr/bin/env: 'tool': No such file or directory", 127)


def test_busyboxs_env_has_its_own_words_and_applets() -> None:
    assert said({**BUSYBOX, "x": script("#!/usr/bin/env bash\n")}) == (
        "env: can't execute 'bash': No such file or directory",
        127,
    )
    assert said({**BUSYBOX, "x": script("#!/usr/bin/env awk\n")}) == STARTED


def test_another_program_called_otherwise_is_not_looked_into() -> None:
    assert said({"usr/bin/env2": TRUE, "x": script("#!/usr/bin/env2 node\n")}) == STARTED
    assert said({**ENV, "bin/zsh": TRUE}, "/bin/zsh", "/nope") == STARTED


@pytest.mark.parametrize(
    ("shell", "line", "exit_code"),
    [
        ("/bin/dash", "/bin/dash: 0: cannot open /x: Permission denied", 2),
        ("/bin/bash", "/bin/bash: /x: Permission denied", 126),
    ],
)
def test_c13_t14_a_shell_opens_its_script_with_the_users_permissions(shell: str, line: str, exit_code: int) -> None:
    closed = {**ENV, "x": script(f"#!{shell} -e\n", 0o711)}
    assert said(closed, user="1000") == (line, exit_code)
    assert said(closed) == STARTED
    below = {**ENV, "d": folder(0o700), "d/x": script(f"#!{shell}\n")}
    assert said(below, "/d/x", user="1000") == (line.replace("/x", "/d/x"), exit_code)


def test_r43_a_shell_is_given_a_script_that_is_not_there() -> None:
    assert said(ENV, "sh", "/nope") == ("sh: 0: cannot open /nope: No such file", 2)
    assert said(ENV, "bash", "/nope") == ("bash: /nope: No such file or directory", 127)
    assert said(BUSYBOX, "sh", "nope") == ("sh: can't open 'nope': No such file or directory", 2)
    assert judged(ENV, "sh", "/nope").reason is Reason.SCRIPT  # type: ignore[attr-defined]


@pytest.mark.parametrize("words", [("-s", "/nope"), ("-o", "errexit"), ("-",), ()])
def test_r43_what_else_a_shell_is_asked_is_not_looked_into(words: tuple[str, ...]) -> None:
    assert said(ENV, "bash", *words) == STARTED


def test_a_shell_is_asked_for_a_command_that_is_not_there() -> None:
    for options in ("-c", "-ec"):
        assert said(ENV, "bash", options, "/nope") == ("bash: line 1: /nope: No such file or directory", 127)
    assert said(ENV, "bash", "--login", "/nope") == ("bash: /nope: No such file or directory", 127)


def test_a_library_that_the_script_may_have_installed_is_no_alarm() -> None:
    try:
        items = {**ENV, LOADER: loader_of("machine"), "app": prog("libgone.so"), "usr/bin/tool": TRUE, "bin/mkdir": TRUE}
    except ToolAbsent as error:
        absent(str(error))
    lost = "/app: error while loading shared libraries: libgone.so: cannot open shared object file: No such file or directory"
    assert said({**items, "x": script("#!/bin/sh\nmkdir -p /data\nexec /app\n")}) == (lost, 127)
    assert said({**items, "x": script("#!/bin/sh\ntool install gone\nexec /app\n")}) == STARTED
    assert said({**items, "x": script("#!/bin/sh\nmkdir -p /usr/lib/libgone.so\nexec /app\n")}) == STARTED


def test_quotes_follow_a_locale_that_the_image_has() -> None:
    has = {**ENV, "usr/lib/locale/C.utf8/LC_CTYPE": file("x")}
    marked = ("env: ‘n’: No such file or directory", 127)
    plain = ("env: 'n': No such file or directory", 127)
    assert said(has, "env", "n", env=("LANG=C.UTF-8",)) == marked
    assert said(has, "env", "n", env=("LANG=C.UTF-8", "LC_ALL=C")) == plain
    assert said(has, "env", "n") == plain
    assert said(ENV, "env", "n", env=("LANG=C.UTF-8",)) == plain
    assert said(has, "env", "n\ny", env=("LANG=C.UTF-8",))[0] == "env: ‘n\\ny’: No such file or directory"
