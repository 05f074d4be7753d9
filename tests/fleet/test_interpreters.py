"""Command lines of Python and Node in real containers: what the interpreter says of its script or module is what is foretold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from analyzers.finding import Report, State
from analyzers.start import NO_OVERRIDES
from tests.conftest import absent
from tests.engine import Engine, RunResult
from tests.fleet.engine_words import profile_of
from tests.fleet.foretold import Foreteller
from tests.fleet.run import in_threads, load, run
from tests.make import plugins
from tests.make.elves import ToolAbsent
from tests.make.images import Image
from tests.make.layers import Item, file, script, symlink, tar_of

Items = Mapping[str, Item | bytes | str]
_VENV = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"
_ENTRY = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from {module} import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""
_HELLO = "def main():\n    print('hello')\n"
FILES: Items = {
    "app/hello.py": "print('hello')\n",
    "app/closed.py": file("print('hello')\n", 0o600),
    "app/folder/x": "",
    "app/main/__main__.py": "print('hello')\n",
    "link": symlink("/app"),
    f"{plugins.SITE}/present.py": _HELLO + "main()\n",
    f"{plugins.SITE}/quiet.py": _HELLO,
    f"{plugins.SITE}/more.pth": "/opt/more\n",
    "opt/more/added.py": "print('hello')\n",
    "usr/local/bin/good": script(_ENTRY.format(python="/usr/bin/python3", module="quiet")),
    "usr/local/bin/bad": script(_ENTRY.format(python="/usr/bin/python3", module="flask.cli")),
    "usr/local/bin/by-env": script(_ENTRY.format(python="/usr/bin/env python3", module="flask.cli")),
    "venv/pyvenv.cfg": _VENV,
    "venv/bin/python3": symlink("/usr/bin/python3.11"),
    "venv/bin/tool": script(_ENTRY.format(python="/venv/bin/python3", module="present")),
    "venv/lib/python3.11/site-packages/inside.py": "print('hello')\n",
    "venv/lib/python3.12/site-packages/gone-1.0.dist-info/METADATA": "Name: gone\n",
}


class Case(NamedTuple):
    command: str
    """Words between blanks."""
    cwd: str = "/app"
    user: str | None = None
    env: tuple[str, ...] = ()


PYTHON_CASES = {
    "script": Case("python3 hello.py"),
    "script-absent": Case("python3 nope.py"),
    "script-absent-in-root": Case("python3 nope.py", "/"),
    "script-absent-by-path": Case("/usr/bin/python3 -u /srv/nope.py --flag"),
    "script-absent-dotted": Case("python3 ./nope.py", "/link"),
    "script-below-a-file": Case("python3 -Wignore -X utf8 hello.py/x"),
    "script-closed": Case("python3 -OO closed.py", user="1000"),
    "odd-name": Case("python3 it's"),
    "folder": Case("python3 folder"),
    "this-folder": Case("python3 ."),
    "folder-with-main": Case("python3 main"),
    "module": Case("python3 -m present"),
    "module-by-pth": Case("python3 -m added"),
    "module-in-cwd": Case("python3 -m hello"),
    "module-absent": Case("python3 -m gunicorn app:app"),
    "module-absent-joined": Case("/usr/bin/python3.11 -Bmgunicorn"),
    "module-below-absent": Case("python3 -um uvicorn.main"),
    "module-by-path": Case("python3 -m here", env=("PYTHONPATH=/opt/more:/nowhere",)),
    "entry-point": Case("good"),
    "entry-point-broken": Case("bad"),
    "entry-point-broken-by-env": Case("by-env"),
    "venv-module": Case("/venv/bin/python3 -m inside"),
    "venv-module-absent": Case("/venv/bin/python3 -m present"),
    "venv-entry-point-broken": Case("/venv/bin/tool"),
}


NODE_FILES: Items = {
    "app/hello.js": "console.log('hello')\n",
    "app/it/index.js": "console.log('hello')\n",
    "app/main/package.json": '{"main": "lib"}',
    "app/main/lib/index.js": "console.log('hello')\n",
    "app/gone/package.json": '{"main": "dist/server.js"}',
    "app/bare/package.json": "{}",
    "link": symlink("/app"),
    "usr/local/bin/run": script("#!/usr/bin/env node\nconsole.log('hello')\n"),
}
NODE_CASES = {
    "script": Case("node hello.js"),
    "without-extension": Case("node --enable-source-maps hello"),
    "script-absent": Case("node dist/server.js"),
    "script-absent-by-path": Case("/usr/local/bin/node --max-old-space-size=100 /srv/server.js --port 1"),
    "script-absent-up": Case("node ../srv/./server.js", "/link"),
    "script-below-a-file": Case("node hello.js/x"),
    "folder": Case("node it"),
    "folder-with-main": Case("node main/"),
    "folder-with-absent-main": Case("node gone"),
    "folder-without-main": Case("node bare"),
    "folder-without-package": Case("node ."),
    "module-script": Case("node server.mjs"),
    "options-of-the-environment": Case("node server.js", env=("NODE_OPTIONS=--no-warnings --max-old-space-size=64",)),
    "by-shebang": Case("run"),
}


class Outcome(NamedTuple):
    ran: RunResult
    report: Report


def outcomes_of(
    engine: Engine, group: str, base: Callable[[], Items], files: Items, cases: Mapping[str, Case]
) -> dict[str, Outcome]:
    try:
        layers = (tar_of(base()), tar_of(files))
    except ToolAbsent as error:
        absent(str(error))
    images = {
        name: Image(layers=layers, cmd=case.command.split(), working_dir=case.cwd, user=case.user, env=case.env or None)
        for name, case in cases.items()
    }
    load(engine, {f"{group}/{name}:1": image for name, image in images.items()})
    profile, foreteller = profile_of(engine), Foreteller()
    ran = in_threads(lambda name: run(engine, f"{group}/{name}:1", f"{group}-{name}"), images)
    reports = [foreteller.image(image, profile, NO_OVERRIDES) for image in images.values()]
    return {name: Outcome(*each) for name, *each in zip(images, ran, reports, strict=True)}


def check(outcome: Outcome) -> None:
    """The same lines and exit status; what starts says hello."""
    ran, verdict = outcome.ran, outcome.report.verdict
    assert verdict.state is not State.UNKNOWN, verdict.why_unknown
    if verdict.state is State.STARTS:
        assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "hello\n", "")
    else:
        assert ran.stderr.splitlines() == list(verdict.lines)
        assert ran.exit_code == verdict.exit_code
        assert verdict.message in verdict.lines


@pytest.fixture(scope="module")
def pythons(engine: Engine) -> dict[str, Outcome]:
    return outcomes_of(engine, "python-starts", plugins.python, FILES, PYTHON_CASES)


pytestmark = [pytest.mark.docker, pytest.mark.toolchain, pytest.mark.xdist_group("fleet"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def nodes(engine: Engine) -> dict[str, Outcome]:
    return outcomes_of(engine, "node-starts", plugins.node, NODE_FILES, NODE_CASES)


@pytest.mark.parametrize("name", PYTHON_CASES)
def test_python_ends_as_foretold(name: str, pythons: dict[str, Outcome]) -> None:
    check(pythons[name])


def test_every_python_that_ends_so_is_foretold_to_end(pythons: dict[str, Outcome]) -> None:
    starts = [name for name, each in pythons.items() if each.report.verdict.state is State.STARTS]
    assert starts == [name for name, each in pythons.items() if each.ran.exit_code == 0]
    assert 0 < len(starts) < len(pythons)


def test_packages_of_another_release_are_named(pythons: dict[str, Outcome]) -> None:
    found = [each for each in pythons["script"].report.findings if each.rule == "python.packages-of-another-release"]
    assert [each.subject for each in found] == ["/venv/lib/python3.12/site-packages"]


@pytest.mark.parametrize("name", NODE_CASES)
def test_node_ends_as_foretold(name: str, nodes: dict[str, Outcome]) -> None:
    """Of its many lines the one that begins with `Error:` is foretold."""
    ran, report = nodes[name]
    verdict = report.verdict
    if verdict.state is State.STARTS:
        assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "hello\n", "")
        return
    assert [line for line in ran.stderr.splitlines() if line.startswith("Error:")] == list(verdict.lines)
    assert ran.exit_code == verdict.exit_code


def test_every_node_that_ends_so_is_foretold_to_end(nodes: dict[str, Outcome]) -> None:
    starts = [name for name, each in nodes.items() if each.report.verdict.state is State.STARTS]
    assert starts == [name for name, each in nodes.items() if each.ran.exit_code == 0]
    assert 0 < len(starts) < len(nodes)
