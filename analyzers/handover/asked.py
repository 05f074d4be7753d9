"""What the arguments of a shell ask of it, and which shell it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analyzers.finding import show
from analyzers.kernel import Execution
from analyzers.shell.tree import Dialect


class Asked(NamedTuple):
    """What a shell's arguments ask for."""

    path: bytes | None
    text: bytes | None
    zero: bytes
    positional: tuple[bytes, ...]
    options: tuple[bytes, ...] = ()
    """Those that matter when a script is followed, as `set` takes them."""
    unforeseen: str = ""


def dialect_of(executed: Execution) -> Dialect | None:
    """The shell that a program is; None for any other program."""
    name = b"" if executed.program is None else executed.program.path.rpartition(b"/")[2]
    if name == b"busybox":
        return Dialect.ASH if executed.argv and executed.argv[0].rpartition(b"/")[2] in (b"sh", b"ash") else None
    return {b"dash": Dialect.DASH, b"bash": Dialect.BASH}.get(name)


def asked(argv: Sequence[bytes]) -> Asked | None:
    """The script or text that a shell is asked to run; None where it is asked for something else."""
    words = list(argv[1:])
    options: list[bytes] = []
    takes_text = False
    unforeseen = ""
    while words and words[0].startswith((b"-", b"+")):
        word = words.pop(0)
        if word in (b"-", b"--"):
            break
        if word.startswith(b"--"):
            if word not in (b"--norc", b"--noprofile", b"--posix"):
                unforeseen = f"{show(word)} was asked for"
            continue
        takes_text = takes_text or b"c" in word
        if any(letter in word[1:] for letter in b"li"):
            unforeseen = "a login or interactive shell reads more than its script"
        if any(letter in word[1:] for letter in b"sOn"):
            return None
        options += [word[:1] + bytes((letter,)) for letter in word[1:] if letter in b"eu"]
        if b"o" in word[1:]:
            if not words:
                return None
            name = words.pop(0)
            options += [word[:1] + letter for wanted, letter in ((b"errexit", b"e"), (b"nounset", b"u")) if name == wanted]
    if not words:
        return None
    if takes_text:
        text = words.pop(0)
        zero = words.pop(0) if words else argv[0]
        return Asked(None, text, zero, tuple(words), tuple(options), unforeseen)
    path = words.pop(0)
    return Asked(path, None, path, tuple(words), tuple(options), unforeseen) if path else None
