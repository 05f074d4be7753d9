"""execvp(3): the search along PATH of whoever executes another program.

Mirrors glibc (`posix/execvpe.c`) and musl (`process/execvp.c`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzers.accounts import Credentials
from analyzers.finding import Attempt
from analyzers.handover.place import Surroundings
from analyzers.kernel import Execution, execute
from analyzers.lookup import variable
from analyzers.trail import attempt

_SHOWN_ATTEMPTS = 64
_SHELL = b"/bin/sh"
_GLIBC_PATH = b"/bin:/usr/bin"
_MUSL_PATH = b"/usr/local/bin:/bin:/usr/bin"


def execvp(place: Surroundings, argv: tuple[bytes, ...], creds: Credentials, attempts: list[Attempt], *, musl: bool) -> Execution:
    """The first candidate whose execve does not fail for want of it; text goes to the shell under glibc (K5, K21)."""
    denied = False
    last = Execution((), error="ENOENT", culprit=argv[0])
    for candidate in _candidates(place, argv[0], musl=musl):
        found = place.rootfs.resolve(candidate, cwd=place.cwd, creds=creds)
        if len(attempts) < _SHOWN_ATTEMPTS:
            attempts.append(attempt(place.rootfs, "PATH", candidate, found))
        done = execute_in(place, candidate, argv, creds)
        if done.error == "ENOEXEC" and not musl:
            done = execute_in(place, _SHELL, (_SHELL, candidate, *argv[1:]), creds)
        if done.error not in ("EACCES", "ENOENT", "ENOTDIR"):
            return done
        denied = denied or done.error == "EACCES"
        last = done if found.node is not None else last
    return Execution(last.steps, error="EACCES" if denied else "ENOENT", subject=last.subject, culprit=argv[0])


def execute_in(place: Surroundings, path: bytes, argv: Sequence[bytes], creds: Credentials) -> Execution:
    """execve in these surroundings."""
    return execute(
        place.rootfs,
        path,
        argv,
        cwd=place.cwd,
        creds=creds,
        profile=place.profile,
        architecture=place.architecture,
        env=place.env,
    )


def _candidates(place: Surroundings, name: bytes, *, musl: bool) -> Iterator[bytes]:
    if b"/" in name:
        yield name
        return
    path = variable(place.env, b"PATH")
    for element in (path if path is not None else _MUSL_PATH if musl else _GLIBC_PATH).split(b":"):
        yield element + b"/" + name if element else name
