"""The runtime's look-up of the program inside the container, in Go's words.

Mirrors runc 1.1.5 (`libcontainer/standard_init_linux.go`) and Go 1.19 (`os/exec/lp_unix.go`, `strconv`); rules C10-C13. What
becomes of the program found is not its business.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import NamedTuple

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.finding import Attempt, Outcome, Stage, Step, show
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Resolution, Rootfs
from analyzers.trail import attempt, show_path

_SHOWN_ATTEMPTS = 64
_NOT_A_DIRECTORY_HINT = (
    ": unknown: Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)
STRERROR = {
    "E2BIG": "argument list too long",
    "EACCES": "permission denied",
    "EINVAL": "invalid argument",
    "EIO": "input/output error",
    "ELIBBAD": "accessing a corrupted shared library",
    "ELOOP": "too many levels of symbolic links",
    "ENAMETOOLONG": "file name too long",
    "ENOENT": "no such file or directory",
    "ENOEXEC": "exec format error",
    "ENOTDIR": "not a directory",
    "EPERM": "operation not permitted",
}
"""Go's words for an errno, which are the C library's in lower case."""


class Failed(NamedTuple):
    """A failure before the process runs: the text, which also decides the exit code."""

    message: bytes
    cause: str
    stage: Stage = Stage.CONFIG
    subject: bytes = b""
    culprit: bytes = b""


def variable(env: Sequence[bytes], name: bytes) -> bytes | None:
    """The value of `name`, None when it is not set."""
    return next((item[len(name) + 1 :] for item in env if item.startswith(name + b"=")), None)


def look_up(
    rootfs: Rootfs,
    name: bytes,
    env: Sequence[bytes],
    cwd: bytes,
    creds: Credentials,
    profile: HostProfile,
    steps: list[Step],
) -> tuple[bytes, Failed | None, str]:
    """Go's LookPath inside the container: (path to execute, failure, why unknown)."""
    if b"/" in name:
        return _look_at(rootfs, name, cwd, creds, profile, steps)
    attempts: list[Attempt] = []
    hidden = ""
    for element in (variable(env, b"PATH") or b"").split(b":") if variable(env, b"PATH") else ():
        candidate = join(element or b".", name)
        found = rootfs.resolve(candidate, cwd=cwd, creds=creds)
        outcome = _unacceptable(rootfs, found)
        if len(attempts) < _SHOWN_ATTEMPTS:
            attempts.append(attempt(rootfs, "PATH", candidate, found, outcome))
        if found.unknown and not hidden:
            hidden = f"a layer that was not wholly read may hold {show_path(candidate)}"
        if found.node is None or outcome is not None:
            continue
        layer = rootfs.layer_of(found.node)
        if not candidate.startswith(b"/"):
            steps.append(Step("lookup", show(name), ok=False, attempts=tuple(attempts)))
            text = b"exec: " + go_quote(name) + b": cannot run executable found relative to current directory"
            return b"", Failed(text, "path.relative-element", Stage.LOOKUP, found.path, name), ""
        steps.append(Step("lookup", show(name), path=show_path(found.path), attempts=tuple(attempts), layer=layer))
        return candidate, _eaccess(rootfs, found.node, candidate, creds), hidden
    steps.append(Step("lookup", show(name), ok=False, attempts=tuple(attempts)))
    text = b"exec: " + go_quote(name) + b": executable file not found in $PATH"
    return b"", Failed(text, "path.not-found", Stage.LOOKUP, b"", name), hidden


def _look_at(
    rootfs: Rootfs, name: bytes, cwd: bytes, creds: Credentials, profile: HostProfile, steps: list[Step]
) -> tuple[bytes, Failed | None, str]:
    found = rootfs.resolve(name, cwd=cwd, creds=creds)
    outcome = _unacceptable(rootfs, found)
    tried = attempt(rootfs, "entrypoint", name, found, outcome)
    ok = found.node is not None and outcome is None
    layer = None if found.node is None else rootfs.layer_of(found.node)
    path = show_path(found.path) if ok else ""
    steps.append(Step("lookup", show(name), path=path, ok=ok, attempts=(tried,), layer=layer if ok else None))
    unknown = f"a layer that was not wholly read may hold {show_path(name)}" if found.unknown else ""
    start = b"exec: " + go_quote(name) + b": "
    if b"\0" in name:
        text = start + b"stat " + name + b": invalid argument"
        return b"", Failed(text, "path.absent", Stage.LOOKUP, b"", name), unknown
    if found.error:
        text = start + b"stat " + name + b": " + STRERROR[found.error].encode()
        if found.error == "ENOTDIR":
            text += _NOT_A_DIRECTORY_HINT.encode()
        cause = {"ELOOP": "path.loop", "EACCES": "path.directory-closed"}.get(found.error, "path.absent")
        return b"", Failed(text, cause, Stage.LOOKUP, found.path, name), unknown
    if outcome is Outcome.DIRECTORY:
        old = profile.runc_version < (1, 2)
        words = b"permission denied" if old else b"is a directory: permission denied"
        return b"", Failed(start + words, "path.is-directory", Stage.LOOKUP, found.path, name), unknown
    if outcome is not None:
        return b"", Failed(start + b"permission denied", "path.not-executable", Stage.LOOKUP, found.path, name), unknown
    return name, _eaccess(rootfs, found.node, name, creds), unknown


def _unacceptable(rootfs: Rootfs, found: Resolution) -> Outcome | None:
    """Go 1.19's findExecutable looks at the mode bits alone."""
    if found.node is None:
        return None
    if found.node.entry.kind == Kind.DIRECTORY:
        return Outcome.DIRECTORY
    return None if found.node.entry.mode & 0o111 else Outcome.NOT_EXECUTABLE


def _eaccess(rootfs: Rootfs, node: Node | None, path: bytes, creds: Credentials) -> Failed | None:
    """runc's own check after Go's: faccessat with the container's credentials (C13)."""
    if node is None or rootfs.may_execute(node, creds):
        return None
    return Failed(b"exec " + path + b": permission denied", "path.not-executable", Stage.LOOKUP, node.path, path)


# -- Go's words --


_GO_ESCAPES = {
    0x07: "\\a",
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0B: "\\v",
    0x0C: "\\f",
    0x0D: "\\r",
    0x22: '\\"',
    0x5C: "\\\\",
}


def go_quote(raw: bytes) -> bytes:
    """Go's strconv.Quote."""
    out = []
    for character in raw.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if code in _GO_ESCAPES:
            out.append(_GO_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            out.append(character)
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return ('"' + "".join(out) + '"').encode()


def join(directory: bytes, name: bytes) -> bytes:
    """Go's filepath.Join: cleaned, an empty name leaves the directory."""
    return clean(directory + b"/" + name if name else directory)


def clean(path: bytes) -> bytes:
    """Go's filepath.Clean."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith(b"//") else cleaned
