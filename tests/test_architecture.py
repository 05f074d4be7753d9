"""The walls of the house: what may import what, what analyzers may touch, and what nobody may call on image bytes."""

from __future__ import annotations

import ast
import functools
import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ANALYZERS = sorted((ROOT / "analyzers").rglob("*.py"))
SERVICE = sorted((ROOT / "service").rglob("*.py"))
PROCESS_EDGE = {ROOT / "analyzers" / "__main__.py"}
WRITES_ARCHIVES = {ROOT / "service" / "demo.py"}
"""Makes images of its own and reads none."""

ALLOWED_OUTSIDE = {"elftools", "msgspec", "isal", "backports", "compression", "analyzers"}
TOUCHES_THE_WORLD = {
    "asyncio", "datetime", "glob", "http", "io", "locale", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tarfile", "tempfile",
    "threading", "time", "urllib", "uuid", "zipfile",
}  # fmt: skip


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file. A collection of garbage in the middle of a parse upsets CPython 3.11's count of its depth."""
    gc.disable()
    try:
        return tuple(ast.walk(ast.parse(path.read_text())))
    finally:
        gc.enable()


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in nodes(path):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ANALYZERS, ids=short)
def test_analyzers_import_only_the_pure_few(path: Path) -> None:
    outside = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names - ALLOWED_OUTSIDE
    assert not outside, f"{short(path)} imports {sorted(outside)}"


@pytest.mark.parametrize("path", [p for p in ANALYZERS if p not in PROCESS_EDGE], ids=short)
def test_analyzers_touch_no_file_clock_environment_or_thread(path: Path) -> None:
    touched = {name.partition(".")[0] for name in imports(path)} & TOUCHES_THE_WORLD
    # io.BytesIO is memory, not a file; pyelftools reads its structures from a stream.
    if "io" in touched and "io.open" not in path.read_text():
        touched -= {"io"}
    # The one reader of a database holds it in memory (decisions 24).
    if path.name == "rpm.py" and [node for _, node in calls(path) if node == "sqlite3.connect"] == ["sqlite3.connect"]:
        assert 'sqlite3.connect(":memory:")' in path.read_text()
        touched -= {"sqlite3"}
    assert not touched, f"{short(path)} imports {sorted(touched)}"
    assert not [line for line, name in calls(path) if name in {"open", "print", "input", "eval", "exec"}]


@pytest.mark.parametrize("path", ANALYZERS + SERVICE, ids=short)
def test_unsafe_readers_are_never_used_on_image_bytes(path: Path) -> None:
    """hostile.md lessons 1, 2 and 8: the runtime's view, not the standard library's."""
    names = set(imports(path)) - ({"tarfile"} if path in WRITES_ARCHIVES else set())
    assert not names & {"tarfile", "zipfile", "pickle", "marshal", "shelve", "elftools.elf.elffile"}, short(path)
    if path in WRITES_ARCHIVES:
        opened = [ast.unparse(node) for node in nodes(path) if isinstance(node, ast.Call)]
        assert all("mode='w'" in call for call in opened if call.startswith("tarfile.open("))


@pytest.mark.parametrize("path", SERVICE, ids=short)
def test_one_outbound_connector(path: Path) -> None:
    """hostile.md: every request leaves through the connector that resolves, checks and pins."""
    made = [line for line, name in calls(path) if name in {"aiohttp.ClientSession", "ClientSession", "aiohttp.TCPConnector"}]
    assert not made or path.name in {"outbound.py", "docker_engine.py"}, f"{short(path)} lines {made}"


@pytest.mark.parametrize("path", SERVICE, ids=short)
def test_no_printing_outside_the_command_line(path: Path) -> None:
    assert not [line for line, name in calls(path) if name == "print"], short(path)


def test_importing_anything_has_no_effect() -> None:
    """In a bare process: no output, no thread, no file opened for writing, no child."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in ANALYZERS + SERVICE
        if path.name != "__main__.py" and "migrations" not in path.parts
    ]
    script = (
        "import importlib, sys, threading, os\n"
        "before = set(os.listdir('.'))\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert set(os.listdir('.')) == before\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""


def test_the_tree_has_no_junk_drawers() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "base.py", "misc.py"}
    assert not [short(path) for path in ANALYZERS + SERVICE if path.name in drawers]
