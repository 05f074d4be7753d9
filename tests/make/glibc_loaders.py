"""glibc's loaders to be tested against: this machine's, and that of a later Debian which tests/setup/glibc.sh fetched."""

from __future__ import annotations

import functools
from pathlib import Path

from analyzers.elf import read_elf
from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import Item, program

RELEASES = ("machine", "later")
LATER = CACHE / "glibc"
LOADER = "lib64/ld-linux-x86-64.so.2"


@functools.cache
def loader_of(release: str) -> Item:
    """The loader as a file; ToolAbsent where it is not to be had."""
    path = Path("/", LOADER) if release == "machine" else LATER / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    if not path.exists():
        raise ToolAbsent(f"{path} is not here (tests/setup/glibc.sh fetches it)")
    return program(path.read_bytes())


@functools.cache
def release_of(release: str) -> tuple[int, int]:
    said = read_elf(loader_of(release).content).facts.loader
    assert said is not None
    major, _, minor = said.version.partition(".")
    return int(major), int(minor)


def library_of(release: str, name: str) -> Item:
    """A library of the same glibc."""
    folder = Path("/usr/lib/x86_64-linux-gnu") if release == "machine" else LATER / "usr/lib/x86_64-linux-gnu"
    if not (folder / name).exists():
        raise ToolAbsent(f"{folder / name} is not here")
    return program((folder / name).read_bytes(), 0o644)
