"""A layer at rest against a real file system on which the same members were unpacked, in order, as containerd unpacks them."""

from __future__ import annotations

import os
import random
import shutil
import stat
from pathlib import Path

import pytest

from analyzers.entries import Entries
from analyzers.errors import Rejected
from analyzers.facts import Entry, Kind, LayerFacts
from analyzers.layer import LayerReader
from analyzers.unpack import clean_path
from tests.make.tars import END, header, member

Step = tuple[str, str, str]
"""(kind, path, content or target)"""
NAMES = ("a", "b", "c", "a/b", "a/c", "b/a", "c/b", "a/b/c", "b/a/c", "c/a/b")
TARGETS = ("a", "b", "c", "../a", "../b", "/c", "b/a", "../../c", ".", "/")


class NotComparable(Exception):
    """The file system refused for a reason that lies in other layers (a hard link to something that may be below)."""


def root_path(root: Path, path: str) -> Path:
    """continuity fs.RootPath with the kernel's own links: every component followed inside `root`."""
    walked = 0
    parts = [part for part in path.split("/") if part]
    at = 0
    while at < len(parts):
        place = root.joinpath(*parts[: at + 1])
        try:
            linked = stat.S_ISLNK(os.lstat(place).st_mode)
        except FileNotFoundError:
            linked = False
        if not linked:
            at += 1
            continue
        walked += 1
        if walked > 255:
            raise OSError("too many links")
        target = os.readlink(place)
        joined = target if target.startswith("/") else "/".join(["", *parts[:at], target])
        parts = [part for part in os.path.normpath("/" + joined).split("/") if part] + parts[at + 1 :]
        at = 0
    return root.joinpath(*parts)


def unpack(root: Path, steps: list[Step]) -> None:
    """containerd's applyNaive, as far as entries go."""
    for kind, name, more in steps:
        parent, base = os.path.split(name)
        folder = root_path(root, parent)
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = folder / base
        if os.path.lexists(path) and not (kind == "directory" and path.is_dir() and not path.is_symlink()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if kind == "directory":
            path.mkdir(exist_ok=True)
        elif kind == "file":
            path.write_text(more)
        elif kind == "symlink":
            path.symlink_to(more)
        else:
            target_parent, target_base = os.path.split(more)
            target = root_path(root, target_parent) / target_base
            if not os.path.lexists(target) or (target.is_dir() and not target.is_symlink()):
                raise NotComparable
            os.link(target, path, follow_symlinks=False)


def on_disk(root: Path) -> dict[bytes, tuple[str, str]]:
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            key = os.fsencode(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("symlink", os.readlink(path))
            elif path.is_dir():
                found[key] = ("directory", "")
            else:
                found[key] = ("file", path.read_text())
    return found


def at_rest(facts: LayerFacts) -> dict[bytes, tuple[str, str]]:
    """The same from facts: hard links are what they lead to, and folders that only hold something are there."""
    found: dict[bytes, tuple[str, str]] = {}
    for entry in facts.entries:
        seen = entry
        while seen.kind is Kind.HARDLINK:
            following = facts.entries.get(seen.link)
            assert following is not None, f"{seen} leads nowhere"
            seen = following
        if seen.kind is Kind.SYMLINK:
            found[entry.path] = ("symlink", seen.link.decode())
        elif seen.kind is Kind.DIRECTORY:
            found[entry.path] = ("directory", "")
        else:
            found[entry.path] = ("file", facts.heads[seen.path].decode())
        parent = entry.path.rpartition(b"/")[0]
        while parent:
            found.setdefault(parent, ("directory", ""))
            parent = parent.rpartition(b"/")[0]
    return found


def tar(steps: list[Step]) -> bytes:
    made = b""
    for kind, name, more in steps:
        if kind == "directory":
            made += header(name.encode(), kind=b"5", mode=0o755)
        elif kind == "file":
            made += member(name.encode(), more.encode())
        else:
            made += header(name.encode(), kind=b"2" if kind == "symlink" else b"1", link=more.encode())
    return made + END


def some_steps(chance: random.Random) -> list[Step]:
    steps: list[Step] = []
    for number in range(chance.randint(2, 9)):
        kind = chance.choice(("directory", "file", "file", "symlink", "symlink", "hardlink"))
        more = {"file": f"#!{number}", "symlink": chance.choice(TARGETS), "hardlink": chance.choice(NAMES), "directory": ""}[kind]
        steps.append((kind, chance.choice(NAMES), more))
    return steps


def test_layers_at_rest_are_what_a_file_system_holds_after_unpacking_in_order(tmp_path: Path) -> None:
    chance = random.Random(2026)
    compared = refused = 0
    for number in range(3000):
        steps = some_steps(chance)
        root = tmp_path / str(number)
        root.mkdir()
        reader = LayerReader()
        reader.feed(tar(steps))
        try:
            unpack(root, steps)
        except NotComparable:
            continue
        except OSError:
            with pytest.raises(Rejected, match=r"parent-not-directory|symlink-loop"):
                reader.finish()
            refused += 1
            continue
        assert at_rest(reader.finish()) == {**on_disk(root)}, steps
        compared += 1
        shutil.rmtree(root)
    assert compared > 500
    assert refused > 100


@pytest.mark.parametrize(
    ("name", "cleaned", "escaped"),
    [
        (b"usr/bin", b"usr/bin", False),
        (b"./usr//bin/", b"usr/bin", False),
        (b"/usr/./bin", b"usr/bin", False),
        (b"usr/.hidden", b"usr/.hidden", False),
        (b"...", b"...", False),
        (b"a/..b", b"a/..b", False),
        (b"a/../b", b"b", False),
        (b"../b", b"b", True),
        (b"a/../../b", b"b", True),
        (b"", b"", False),
        (b".", b"", False),
        (b"./", b"", False),
        (b"/", b"", False),
        (b"..", b"", True),
    ],
)
def test_names_are_cleaned_into_the_root(name: bytes, cleaned: bytes, escaped: bool) -> None:
    assert clean_path(name) == (cleaned, escaped)


def test_an_entry_is_found_by_its_cleaned_name_alone() -> None:
    entries = Entries([Entry(b"a", Kind.FILE, 0o644, 0, 0, 0)])
    assert entries.get(b"a") is not None
    assert entries.get(b"./a") is None
