"""musl's loader run as a command: its options, and what it says when it is asked for nothing it can load.

Mirrors the part of `__dls3` in `ldso/dynlink.c` that stands under "Command line" (M3, M60); options end at the first word
that does not begin with `--`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_LIBRARY_PATH, _PRELOAD, _ARGV0 = b"library-path", b"preload", b"argv0"


class Command(NamedTuple):
    """What the command line asks for."""

    target: bytes | None
    """The program to load; None: usage is printed."""
    library_path: bytes | None
    preload: bytes | None
    listing: bool
    """It lists what would be loaded, as ldd, and runs nothing."""


def parse_command(argv: Sequence[bytes], library_path: bytes | None, preload: bytes | None) -> Command:
    """`library_path` and `preload` are what the environment says."""
    words = list(argv[1:])
    listing = argv[0].endswith(b"ldd")
    values: dict[bytes, bytes | None] = {_LIBRARY_PATH: library_path, _PRELOAD: preload, _ARGV0: None}
    while words and words[0].startswith(b"--"):
        option = words.pop(0)[2:]
        if not option:
            break
        name = next((name for name in values if option.startswith(name)), b"")
        rest = option[len(name) :]
        if option == b"list":
            listing = True
        elif name and rest.startswith(b"="):
            values[name] = rest[1:]
        elif name and not rest:
            if words:
                values[name] = words.pop(0)
        else:
            words = []
    return Command(words[0] if words else None, values[_LIBRARY_PATH], values[_PRELOAD], listing)


def usage(name: bytes, architecture: bytes, version: str, *, listing: bool) -> tuple[bytes, ...]:
    """The four lines it prints before it exits with 1."""
    arguments = b"" if listing else b" [args]"
    return (
        b"musl libc (" + architecture + b")",
        b"Version " + version.encode(),
        b"Dynamic Program Loader",
        b"Usage: " + name + b" [options] [--] pathname" + arguments,
    )
