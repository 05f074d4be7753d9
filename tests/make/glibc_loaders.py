"""glibc's loaders to be tested against: this machine's, and those of the Debian suites around it (tests/setup/glibcs.sh)."""

from __future__ import annotations

import functools
from pathlib import Path

from analyzers.elf import read_elf
from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import Item, program

RELEASES = ("2.31", "machine", "2.41")
_FOLDERS = {
    "2.31": CACHE / "glibc-2.31/lib/x86_64-linux-gnu",
    "machine": Path("/usr/lib/x86_64-linux-gnu"),
    "2.41": CACHE / "glibc-2.41/usr/lib/x86_64-linux-gnu",
}


def library_of(release: str, name: str) -> Item:
    """A library of one glibc; ToolAbsent where it is not to be had."""
    path = _FOLDERS[release] / name
    if not path.exists():
        raise ToolAbsent(f"{path} is not here (tests/setup/glibcs.sh fetches it)")
    return program(path.read_bytes())


@functools.cache
def loader_of(release: str) -> Item:
    return library_of(release, "ld-linux-x86-64.so.2")


@functools.cache
def release_of(release: str) -> tuple[int, int]:
    """As the C library beside the loader says it: older loaders do not tell their own."""
    text = read_elf(library_of(release, "libc.so.6").content).facts.libc_version
    major, _, minor = text.partition(".")
    return int(major), int(minor)
