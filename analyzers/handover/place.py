"""Where a first program runs, what it can end with, and the words of the C libraries for what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from analyzers.finding import Step
from analyzers.kernel import Execution
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs

STRERROR = {
    "E2BIG": b"Argument list too long",
    "EACCES": b"Permission denied",
    "EINVAL": b"Invalid argument",
    "EIO": b"Input/output error",
    "ELIBBAD": b"Accessing a corrupted shared library",
    "ELOOP": b"Too many levels of symbolic links",
    "ENAMETOOLONG": b"File name too long",
    "ENOENT": b"No such file or directory",
    "ENOEXEC": b"Exec format error",
    "ENOTDIR": b"Not a directory",
    "EPERM": b"Operation not permitted",
}
MUSL_STRERROR = {**STRERROR, "EIO": b"I/O error", "ELOOP": b"Symbolic link loop", "ENAMETOOLONG": b"Filename too long"}


class Remark(NamedTuple):
    """Something found on the way that does not end the start; `rule` is the rule of rules.RULES."""

    rule: str
    message: str
    subject: str = ""
    """Path for people, with leading slash."""
    steps: tuple[Step, ...] = ()


class Following(NamedTuple):
    """What comes after a program that was followed."""

    executed: Execution | None
    """The program that it ends up running; None where there is none, or nobody knows."""
    env: Sequence[bytes] = ()
    cwd: bytes = b""
    whole: bool = True
    """All its arguments are known, so that it can be followed in turn."""
    lines: tuple[bytes, ...] = ()
    """What was said on the way, on the error output."""
    remarks: tuple[Remark, ...] = ()
    assumptions: tuple[str, ...] = ()
    others: tuple[Following, ...] = ()
    """Other programs that it may end up running instead."""


class Refusal(NamedTuple):
    """The program runs and gives up; `cause` is the rule of rules.RULES."""

    lines: tuple[bytes, ...]
    exit_code: int
    cause: str
    subject: bytes = b""
    """Canonical path of the file at fault."""
    culprit: bytes = b""
    """What was wanted and not had, as written."""
    steps: tuple[Step, ...] = ()
    message: bytes = b""
    """The line that says it; empty where it is the first."""
    why: str = ""
    """What this image adds to the rule's words."""
    remedies: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()
    assumptions: tuple[str, ...] = ()


class Surroundings(NamedTuple):
    """Where a program runs."""

    rootfs: Rootfs
    env: Sequence[bytes]
    cwd: bytes
    profile: HostProfile
    architecture: str


def applet(executed: Execution) -> bytes:
    """The name that the program was called by."""
    return executed.argv[0].rpartition(b"/")[2]
