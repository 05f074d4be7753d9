"""What the first program does before its real work: `env` executes another program, a shell opens its script.

Knows programs by the names of their files, one row of the table each; claims nothing of any other (R43).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import NamedTuple

from analyzers.finding import Step
from analyzers.handover.dotnet import is_own_host, start_dotnet, start_own_host
from analyzers.handover.env import Env
from analyzers.handover.java import start_java
from analyzers.handover.node import run_node
from analyzers.handover.place import MUSL_STRERROR, STRERROR, Following, Refusal, Remark, Surroundings, applet
from analyzers.handover.python import run_python
from analyzers.handover.shell import follow_shell
from analyzers.handover.wrappers import BUSYBOX_WRAPPERS, WRAPPERS, follow_gosu, follow_wrapper
from analyzers.handover.writes import Writes
from analyzers.kernel import Execution

__all__ = ["MAX_HANDOVERS", "Following", "Refusal", "Remark", "Surroundings", "hand_over", "may_undo"]

MAX_HANDOVERS = 8

Follow = Callable[[Surroundings, Execution, str], Following | Refusal | None]
"""What a program does first: execute another, refuse, or (None) nothing that is known. The last argument is the family of its
C library, as far as that is known.
"""


class Program(NamedTuple):
    """A program that is followed: the names its file may have, and, for programs that are many, the names it is called by."""

    files: frozenset[bytes]
    called: frozenset[bytes]
    """Empty where any will do."""
    follow: Follow


def _env(place: Surroundings, executed: Execution, family: str) -> Following | Refusal | None:
    return Env(place, executed, musl=family == "musl", busybox=False).run()


def _busybox_env(place: Surroundings, executed: Execution, family: str) -> Following | Refusal | None:
    return Env(place, executed, musl=family == "musl", busybox=True).run()


def _shell(place: Surroundings, executed: Execution, family: str) -> Following | Refusal | None:
    name = b"" if executed.program is None else executed.program.path.rpartition(b"/")[2]
    return follow_shell(place, executed, name, MUSL_STRERROR if family == "musl" else STRERROR)


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


PROGRAMS = (
    Program(_names("env coreutils"), _names("env"), _env),
    Program(_names("busybox"), _names("env"), _busybox_env),
    Program(_names("dash bash"), frozenset(), _shell),
    Program(_names("busybox"), _names("sh ash"), _shell),
    Program(_names("python python3 " + " ".join(f"python3.{minor}" for minor in range(6, 21))), frozenset(), run_python),
    Program(_names("java"), frozenset(), start_java),
    Program(_names("dotnet"), frozenset(), start_dotnet),
    Program(_names("node nodejs"), frozenset(), run_node),
    Program(frozenset(WRAPPERS), frozenset(), follow_wrapper),
    Program(_names("coreutils"), _names("nice nohup timeout stdbuf"), follow_wrapper),
    Program(_names("busybox"), BUSYBOX_WRAPPERS, follow_wrapper),
    Program(_names("gosu"), frozenset(), follow_gosu),
)


def hand_over(place: Surroundings, executed: Execution, family: str) -> Following | Refusal | None:
    """What the loaded program does first: execute another, refuse, or (None) nothing that is known.

    `family` is that of its C library, as far as that is known.
    """
    if executed.program is None:
        return None
    name = executed.program.path.rpartition(b"/")[2]
    for program in PROGRAMS:
        if name in program.files and (not program.called or applet(executed) in program.called):
            return program.follow(place, executed, family)
    if is_own_host(place.rootfs, executed.program):
        return start_own_host(place, executed, family)
    return None


def may_undo(writes: Writes, wanted: Iterable[bytes], steps: Iterable[Step], cwd: bytes) -> bool:
    """Whether what was written before may be what is wanted, or lie where it was looked for."""
    if not writes.paths:
        return writes.anywhere
    looked_at = [each.path.encode("utf-8", "surrogateescape") for step in steps for each in step.attempts]
    paths = [*(posixpath.join(cwd, each) for each in wanted), *looked_at]
    return any(
        writes.near(path) or any(each.startswith(path) for each in writes.paths) for path in paths if path not in (b"", b"/")
    )
