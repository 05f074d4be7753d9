"""What other tools say of the same files: libtree inside the root, lddtree from outside with `-R`.

Only where libraries are found and which are not is asked of them: neither knows versions or symbols.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.make.elves import ToolAbsent
from tests.oracle.inside import Job, run_inside
from tests.oracle.real_roots import Libraries, Listed, System

_LIBTREE = re.compile(r"^[│ ]*[├└]── (.+?)(?: \[[^\]]*\])?( not found)?$")
_LDDTREE = re.compile(r"^ +(\S+) => (.+)$")
_AT_ONCE = 50


def ask_peers(system: System, paths: Sequence[str]) -> dict[str, Listed]:
    """By the tool's name. Raises ToolAbsent."""
    return {"libtree": _libtree(system, paths), "lddtree": _lddtree(system, paths)}


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolAbsent(f"{name} is not installed")
    return found


def _libtree(system: System, paths: Sequence[str]) -> Listed:
    place = system.folder / "libtree"
    shutil.copy2(_tool("libtree"), place)
    try:
        ended = run_inside(system.folder, [Job(b"/libtree", (b"libtree", b"-vvv", b"-p", os.fsencode(path))) for path in paths])
    finally:
        place.unlink()
    listed = {}
    for path, end in zip(paths, ended, strict=True):
        found = [match for line in end.out.decode("utf-8", "replace").splitlines() if (match := _LIBTREE.match(line))]
        listed[path] = system.libraries_at([(name, None if lost else name) for name, lost in (each.groups() for each in found)])
    return listed


def _lddtree(system: System, paths: Sequence[str]) -> Listed:
    """A Python program, which finds its ELF reader among this project's packages. It tells of many files in turn."""
    listed: Listed = {}
    for at in range(0, len(paths), _AT_ONCE):
        part = paths[at : at + _AT_ONCE]
        command = [sys.executable, _tool("lddtree"), "-R", str(system.folder), *part]
        done = subprocess.run(command, capture_output=True, check=False, timeout=300)
        for path, found in _told(done.stdout.decode("utf-8", "replace").splitlines(), system.folder):
            listed[path] = system.libraries_at(found)
    return listed


def _told(lines: Sequence[str], root: Path) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    path, found = "", list[tuple[str, str | None]]()
    for line in lines:
        library = _LDDTREE.match(line)
        if library is None and not line.startswith(" "):
            if path:
                yield path, found
            path, found = line.partition(" (interpreter")[0].removeprefix(str(root)), []
        elif library is not None:
            place = library[2].partition(" ")[0].removeprefix(str(root))
            found.append((library[1], None if place == "None" else place))
    if path:
        yield path, found


def agreeing(real: Listed, theirs: Listed) -> int:
    """How many files they see as the loader does."""
    nothing = Libraries(frozenset(), frozenset())
    return sum(theirs.get(path, nothing) == listed for path, listed in real.items())
