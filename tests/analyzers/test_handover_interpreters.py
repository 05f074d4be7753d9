"""Command lines of Python and Node: what is followed, and where nothing is claimed."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest

from analyzers.facts import Coverage, Unread
from analyzers.finding import State
from analyzers.handover.python import Command, parse
from analyzers.judges import judge_image
from analyzers.oci import ImageConfig, Platform
from tests.conftest import absent
from tests.make import plugins, roots
from tests.make.elves import GCC, ToolAbsent, c
from tests.make.layers import Item, program, script
from tests.make.views import layer, symlink

Items = Mapping[str, Item | bytes | str]


@functools.cache
def base() -> roots.Root:
    return {**plugins.stand_in(roots.debian(), "x86_64-linux-gnu", GCC), "usr/local/bin/node": program(c())}


def ending(command: str, files: Items, *, env: tuple[str, ...] = (), cwd: str = "/app", **more: object) -> str:
    """The last line that is foretold; empty when it starts."""
    try:
        layers = [layer(base()), layer({"app/x": "", **files}, **more)]  # type: ignore[arg-type]
    except ToolAbsent as error:
        absent(str(error))
    path = "PATH=/usr/local/bin:/usr/bin:/bin"
    config = ImageConfig(cmd=tuple(command.split()), env=(path, *env), working_dir=cwd, platform=Platform("linux", "amd64"))
    verdict = judge_image("sha256:x", config, layers).verdict
    return verdict.lines[-1] if verdict.state is State.FAILS else ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("app.py", Command(script=b"app.py")),
        ("-u -OO app.py -m x", Command(script=b"app.py")),
        ("-- app.py", Command(script=b"app.py")),
        ("-m pkg.mod --flag", Command(module=b"pkg.mod")),
        ("-uBmpkg x", Command(module=b"pkg")),
        ("-Im pkg", Command(module=b"pkg")),
        ("-W ignore::UserWarning -Xutf8 app.py", Command(script=b"app.py")),
        ("-X dev -m pkg", Command(module=b"pkg")),
        ("", None),
        ("-", None),
        ("-c print(1)", None),
        ("-V", None),
        ("-i app.py", None),
        ("-v app.py", None),
        ("-X importtime app.py", None),
        ("-Werror app.py", None),
        ("--help", None),
        ("--check-hash-based-pycs never app.py", None),
        ("-m", None),
        ("-m ../x", None),
        ("--", None),
    ],
)
def test_pythons_command_line(words: str, expected: Command | None) -> None:
    assert parse([b"python3", *words.encode().split()]) == expected


def test_a_module_that_is_nowhere() -> None:
    assert ending("python3 -m gunicorn", {}) == "/usr/bin/python3: No module named gunicorn"


@pytest.mark.parametrize(
    "files",
    [
        {"app/gunicorn.py": ""},
        {"app/gunicorn/x": ""},
        {f"{plugins.MUSL_SITE}/gunicorn/__init__.py": ""},
        {f"{plugins.MUSL_SITE}/gunicorn.cpython-311-x86_64-linux-gnu.so": "x"},
        {f"{plugins.MUSL_SITE}/gunicorn": symlink("/opt/gunicorn")},
        {"usr/lib/python3.11/lib-dynload/gunicorn.so": "x"},
        {"root/.local/lib/python3.11/site-packages/gunicorn.py": ""},
        {f"{plugins.MUSL_SITE}/x.pth": "/opt/more\n", "opt/more/gunicorn.py": ""},
        {f"{plugins.MUSL_SITE}/x.pth": "import finder\n"},
        {f"{plugins.MUSL_SITE}/x.pth": "x" * 70_000},
        {f"{plugins.MUSL_SITE}/sitecustomize.py": ""},
        {"usr/lib/python311.zip": "x"},
    ],
)
def test_a_module_that_is_somewhere_or_may_be_is_not_claimed_absent(files: Items) -> None:
    assert ending("python3 -m gunicorn", files, env=("HOME=/root",)) == ""


def test_a_module_on_the_python_path_is_not_claimed_absent() -> None:
    assert ending("python3 -m gunicorn", {"opt/x/gunicorn.py": ""}, env=("PYTHONPATH=/opt/x",)) == ""
    assert ending("python3 -m gunicorn", {"opt/x.zip": ""}, env=("PYTHONPATH=/opt/x.zip",)) == ""
    assert ending("python3 -m gunicorn", {}, env=("PYTHONHOME=/opt/x",)) == ""
    assert ending("python3 -m gunicorn", {}, env=("PYTHONPATH=/opt/x",)) != ""


def test_modules_that_may_be_built_in_are_not_claimed_absent() -> None:
    assert ending("python3 -m venv", {}) == ""


def test_nothing_is_claimed_of_what_was_not_wholly_read() -> None:
    cut: dict[str, object] = {"coverage": Coverage.PARTIAL, "unread": (Unread(b"", "entry-limit"),)}
    assert ending("python3 -m gunicorn", {}, **cut) == ""
    assert ending("python3 nope.py", {}, **cut) == ""
    assert ending("node nope.js", {}, **cut) == ""


@pytest.mark.parametrize(
    "text",
    [
        "#!/usr/bin/python3\nimport os\ntry:\n    from flask import x\nexcept ImportError: pass\n",
        "#!/usr/bin/python3\nimport sys; sys.path.append('/opt')\nfrom flask.cli import main\n",
        '#!/usr/bin/python3\n"""words\n"""\nfrom flask.cli import main\n',
        "#!/usr/bin/python3\n" + "# a long comment\n" * 20 + "from flask.cli import main\n",
    ],
)
def test_scripts_that_do_more_than_installers_write_are_left_alone(text: str) -> None:
    assert ending("tool", {"usr/local/bin/tool": script(text)}) == ""


def test_an_entry_point_without_its_package() -> None:
    text = "#!/usr/bin/python3\nimport sys\nfrom flask.cli import main\nsys.exit(main())\n"
    assert ending("tool", {"usr/local/bin/tool": script(text)}) == "ModuleNotFoundError: No module named 'flask'"
    assert ending("tool", {"usr/local/bin/tool": script(text), "usr/local/bin/flask/x": ""}) == ""


@pytest.mark.parametrize(
    ("command", "env"),
    [
        ("node -e x", ()),
        ("node -r ./hook nope.js", ()),
        ("node --import x nope.js", ()),
        ("node --env-file=.env nope.js", ()),
        ("node inspect nope.js", ()),
        ("node nope.js", ("NODE_OPTIONS=--require /hook.js",)),
        ("node", ()),
        ("node -", ()),
    ],
)
def test_where_node_is_asked_for_more_nothing_is_claimed(command: str, env: tuple[str, ...]) -> None:
    assert ending(command, {}, env=env) == ""


@pytest.mark.parametrize(
    "files", [{"app/a.ts": ""}, {"app/a/index.mjs": ""}, {"app/a/package.json": "{"}, {"app/a/package.json": "[]"}]
)
def test_what_some_release_of_node_may_find_is_not_claimed_absent(files: Items) -> None:
    assert ending("node a", files) == ""


def test_a_script_of_node_that_is_nowhere() -> None:
    assert ending("node dist/server.js", {}) == "Error: Cannot find module '/app/dist/server.js'"


_NPM = {"usr/local/bin/npm": symlink("../lib/node_modules/npm/bin/npm-cli.js")}
_NPM_CLI = {"usr/local/lib/node_modules/npm/bin/npm-cli.js": script("#!/usr/bin/env node\nx\n")}


@pytest.mark.parametrize(
    ("command", "scripts", "expected"),
    [
        ("npm start", '"start": "node dist/main"', "Error: Cannot find module '/app/dist/main'"),
        ("npm run serve", '"serve": "node dist/main.js --port=1"', "Error: Cannot find module '/app/dist/main.js'"),
        ("npm start", '"prestart": "tsc", "start": "node dist/main"', ""),
        ("npm start", '"start": "tsc && node dist/main"', ""),
        ("npm start", '"start": "next start"', ""),
        ("npm start -- --x", '"start": "node dist/main"', ""),
        ("npm ci", '"start": "node dist/main"', ""),
    ],
)
def test_npm_is_followed_where_its_script_is_node_with_a_file(command: str, scripts: str, expected: str) -> None:
    package = {"app/package.json": '{"scripts": {' + scripts + "}}"}
    assert ending(command, {**_NPM, **_NPM_CLI, **package}) == expected


@pytest.mark.parametrize(
    ("before", "last", "claimed"),
    [
        ("true", "node dist/server.js", True),
        ("echo x > /app/dist/server.js", "node dist/server.js", False),
        ("echo x > /app/dist/server.js", "node /app/dist/server", False),
        ("echo x > /app/other.js", "node dist/server.js", True),
        ("pip install gunicorn", "python3 -m gunicorn", False),
        ("true", "python3 -m gunicorn", True),
        ("echo x > /app/gunicorn.py", "python3 -m gunicorn", False),
        ("echo x > /app/nope.py", "python3 nope.py", False),
    ],
)
def test_what_a_script_may_make_before_is_not_claimed_absent(before: str, last: str, claimed: bool) -> None:
    files = {"run.sh": script(f"#!/bin/sh\n{before}\nexec {last}\n"), "usr/local/bin/pip": program(c())}
    assert bool(ending("/run.sh", files)) is claimed
