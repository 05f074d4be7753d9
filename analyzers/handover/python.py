"""Python opens its script, or looks for the module that `-m` names, with its own words where there is none.

Mirrors CPython's `Python/initconfig.c` (options), `Modules/main.c` (pymain_run_file), `Lib/runpy.py` and, for the scripts that
installers write, the traceback of an import that fails on their first lines. A module is absent only where all of sys.path is
known (pythons.py) and none of its directories has a file or folder of that name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Attempt, Outcome, Step, show
from analyzers.handover.place import STRERROR, Refusal, Surroundings
from analyzers.kernel import Execution
from analyzers.lookup import variable
from analyzers.pythons import Interpreter, interpreter_at
from analyzers.rootfs import Node, Rootfs
from analyzers.trail import attempt, show_path

_FLAGS = b"bBdEIOPqsSuR"
"""Options without an argument that change nothing here; any other one is not followed."""
_ERRNO = {"ENOENT": 2, "EACCES": 13, "ENOTDIR": 20, "ELOOP": 40, "ENAMETOOLONG": 36}
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_IMPORT = re.compile(
    rb"from ([A-Za-z_][A-Za-z0-9_.]*) import [A-Za-z_][A-Za-z0-9_]*(?: as [A-Za-z_]+)?|import ([A-Za-z_][A-Za-z0-9_.]*)"
)
_KNOWN = frozenset(name.encode() for name in sys.stdlib_module_names)
"""Modules that may be built into the interpreter."""
_MINOR_ABSOLUTE = 9
"""Since 3.9 the script's path is made absolute before it is opened."""


class Command(NamedTuple):
    """What the command line asks for: one of the two."""

    script: bytes | None = None
    module: bytes | None = None


def run_python(place: Surroundings, executed: Execution, family: str) -> Refusal | None:
    """None where it is asked for anything else, or nothing is certain."""
    command = parse(executed.argv)
    if command is None or any(variable(place.env, name) for name in (b"PYTHONHOME", b"PYTHONINSPECT", b"PYTHONVERBOSE")):
        return None
    interpreter = interpreter_at(place.rootfs, _absolute(place, executed.opened_as), place.env)
    if interpreter is None:
        return None
    if command.module is not None:
        return _look_for_module(place, interpreter, command.module)
    return _open_script(place, executed, interpreter, command.script or b"")


def parse(argv: Sequence[bytes]) -> Command | None:
    """Python's own getopt; None for what is not followed."""
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if word == b"--":
            return Command(script=words[0]) if words else None
        if not word.startswith(b"-"):
            return Command(script=word)
        if word == b"-" or word.startswith(b"--"):
            return None
        for at in range(1, len(word)):
            letter, rest = word[at : at + 1], word[at + 1 :]
            if letter == b"m":
                module = rest or (words[0] if words else b"")
                return Command(module=module) if _NAME.fullmatch(module) else None
            if letter in (b"W", b"X"):
                value = rest or (words.pop(0) if words else b"")
                quiet = value in (b"ignore", b"default", b"always", b"utf8", b"utf8=1", b"dev", b"faulthandler")
                if not quiet and not value.startswith((b"ignore:", b"frozen_modules", b"no_debug_ranges")):
                    return None
                break
            if letter not in _FLAGS:
                return None
    return None


def _absolute(place: Surroundings, path: bytes) -> bytes:
    """_Py_abspath: the working directory as getcwd tells it, and the path behind it as it is."""
    if path.startswith(b"/"):
        return path
    cwd = b"/" + place.rootfs.resolve(place.cwd).path
    if path in (b"", b"."):
        return cwd
    return cwd + b"/" + path


# -- scripts --


def _open_script(place: Surroundings, executed: Execution, interpreter: Interpreter, script: bytes) -> Refusal | None:
    path = _absolute(place, script) if interpreter.minor >= _MINOR_ABSOLUTE else script
    found = place.rootfs.resolve(path, cwd=place.cwd, creds=executed.creds)
    node, error = found.node, found.error
    if found.unknown:
        return None
    if node is not None and node.entry.kind == Kind.DIRECTORY:
        return _run_directory(place, interpreter, path, node)
    if node is not None and node.entry.kind == Kind.FILE and not place.rootfs.may_read(node, executed.creds):
        error = "EACCES"
    if not error:
        return None if node is None else _run_entry_point(place, interpreter, path, node)
    if error not in _ERRNO:
        return None
    quoted = _repr(path) if interpreter.minor >= _MINOR_ABSOLUTE else b"'" + path + b"'"
    line = executed.argv[0] + b": can't open file " + quoted + b": [Errno %d] " % _ERRNO[error] + STRERROR[error]
    step = Step("script", show(path), show(interpreter.path), ok=False, attempts=(attempt(place.rootfs, "path", path, found),))
    return Refusal((line,), 2, "python.script-absent", found.path, script, (step,))


def _repr(path: bytes) -> bytes:
    return repr(path.decode("utf-8", "surrogateescape")).encode("utf-8", "backslashreplace")


def _run_directory(place: Surroundings, interpreter: Interpreter, path: bytes, node: Node) -> Refusal | None:
    if place.rootfs.partial or any(True for _ in place.rootfs.starting(node.path + b"/__main__")):
        return None
    line = interpreter.path + b": can't find '__main__' module in " + _repr(path)
    step = Step("script", show(path + b"/__main__.py"), show(interpreter.path), ok=False)
    return Refusal((line,), 1, "python.no-main", node.path, path + b"/__main__.py", (step,))


def _run_entry_point(place: Surroundings, interpreter: Interpreter, path: bytes, node: Node) -> Refusal | None:
    """The few lines that installers write: the first import that is neither Python's own nor to be found ends it."""
    head = place.rootfs.head(node)
    if head is None:
        return None
    lines = head.split(b"\n")[: -1 if node.entry.size > len(head) else None]
    for number, line in enumerate(lines, 1):
        line = line.rstrip(b"\r")
        if not line or line.startswith(b"#"):
            continue
        found = _IMPORT.fullmatch(line)
        if found is None:
            return None
        name = found[1] or found[2]
        top = name.partition(b".")[0]
        if top in _KNOWN:
            continue
        folder = b"/" + node.path.rpartition(b"/")[0]
        searched = _search(place, interpreter, top, folder)
        if searched is None:
            return None
        said = (
            b"Traceback (most recent call last):",
            b'  File "' + path + b'", line %d, in <module>' % number,
            b"    " + line,
            b"ModuleNotFoundError: No module named '" + top + b"'",
        )
        return Refusal(said, 1, "python.module-absent", node.path, top, (_step(interpreter, top, searched),), said[-1])
    return None


# -- modules --


def _look_for_module(place: Surroundings, interpreter: Interpreter, module: bytes) -> Refusal | None:
    top = module.partition(b".")[0]
    searched = None if top in _KNOWN else _search(place, interpreter, top, b"/" + place.rootfs.resolve(place.cwd).path)
    if searched is None:
        return None
    words = b"No module named " + module
    if top != module:
        quoted = b"'" + module + b"' (ModuleNotFoundError: No module named '" + top + b"')"
        words = b"Error while finding module specification for " + quoted
    line = interpreter.path + b": " + words
    return Refusal((line,), 1, "python.module-absent", b"", top, (_step(interpreter, top, searched),))


def _search(place: Surroundings, interpreter: Interpreter, name: bytes, first: bytes) -> list[bytes] | None:
    """The directories that were searched in vain; None where it is there or may be."""
    rootfs = place.rootfs
    if interpreter.opaque or rootfs.partial:
        return None
    directories = [first, *interpreter.sites, interpreter.stdlib, interpreter.stdlib + b"/lib-dynload"]
    for element in (variable(place.env, b"PYTHONPATH") or b"").split(b":"):
        node = rootfs.resolve(element, cwd=place.cwd).node if element else None
        if node is not None and node.entry.kind != Kind.DIRECTORY:
            return None  # a zip
        directories += [element] if node is not None else []
    for directory in dict.fromkeys(directories):
        if _has_module(rootfs, directory, name, place.cwd):
            return None
    return list(dict.fromkeys(directories))


def _has_module(rootfs: Rootfs, directory: bytes, name: bytes, cwd: bytes) -> bool:
    """Whether a file or folder there goes by the name, with whatever ending."""
    node = rootfs.resolve(directory, cwd=cwd).node
    if node is None or node.entry.kind != Kind.DIRECTORY:
        return False
    start = node.path + b"/" if node.path else b""
    if rootfs.resolve(b"/" + start + name, follow=False).node is not None:
        return True
    endings = rootfs.starting(start + name + b".")
    return any(b"/" not in each.path[len(start) :] for each in endings)


def _step(interpreter: Interpreter, name: bytes, searched: Sequence[bytes]) -> Step:
    tried = tuple(Attempt("sys.path", show_path(each + b"/" + name), Outcome.ABSENT) for each in searched[:64])
    return Step("module", show(name), show(interpreter.path), ok=False, attempts=tried)
