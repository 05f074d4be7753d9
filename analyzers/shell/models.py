"""What a few plain programs print and return: those that scripts ask about their user, paths and files.

Everything else has an unknown status and unknown output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analyzers.facts import Kind
from analyzers.shell.state import Field, Gap

if TYPE_CHECKING:
    from analyzers.shell.launching import Launching

_MACHINES = {
    "amd64": b"x86_64",
    "arm64": b"aarch64",
    "386": b"i686",
    "ppc64le": b"ppc64le",
    "s390x": b"s390x",
    "riscv64": b"riscv64",
}
_SILENT = frozenset(b"chmod chown chgrp mkdir rm cp mv ln touch sleep install rmdir sed find mkfifo tee truncate".split())
_DIRECTIVE = re.compile(rb"%%|%s|\\n|\\t|\\|%")

Answer = tuple["int | None", Field]
_UNKNOWN: Answer = (None, Gap.ONE)


def model(walk: Launching, name: bytes, arguments: Sequence[Field]) -> Answer:
    """(exit status, standard output)."""
    if any(isinstance(each, Gap) for each in arguments):
        return (None, b"") if name in _SILENT else _UNKNOWN
    known = [each for each in arguments if isinstance(each, bytes)]
    match name:
        case b"true":
            return 0, b""
        case b"false":
            return 1, b""
        case b"echo" | b"printf":
            return 0, echo(known) if name == b"echo" else printf(known)
        case b"[" | b"test":
            words = known[:-1] if name == b"[" and known[-1:] == [b"]"] else known
            return walk.test(words), b""
        case b"id":
            return _identity(walk, known)
        case b"whoami":
            return _identity(walk, [b"-un"])
        case b"basename" if 1 <= len(known) <= 2:
            return 0, _basename(known) + b"\n"
        case b"dirname" if len(known) == 1:
            return 0, _dirname(known[0]) + b"\n"
        case b"readlink" | b"realpath":
            return _canonical(walk, name, known)
        case b"pwd" if not known:
            return 0, Gap.ONE if walk.state.cwd is None else walk.state.cwd + b"\n"
        case b"uname":
            return _machine(walk, known)
        case b"cat" if len(known) == 1:
            return _content(walk, known[0])
        case b"which" if len(known) == 1:
            return walk_which(walk, known[0])
        case _ if name in _SILENT:
            return None, b""
    return _UNKNOWN


def echo(words: Sequence[bytes]) -> Field:
    """`echo`, where shells agree."""
    rest = list(words)
    newline = b"\n"
    if rest[:1] == [b"-n"]:
        rest, newline = rest[1:], b""
    if rest[:1] in ([b"-e"], [b"-ne"], [b"-E"]) or any(b"\\" in each for each in rest):
        return Gap.ONE
    return b" ".join(rest) + newline


def printf(words: Sequence[bytes]) -> Field:
    """`printf` with `%s` and line ends."""
    if not words or b"-v" in words[:1]:
        return Gap.ONE
    values = list(words[1:])
    failed = False

    def put(match: re.Match[bytes]) -> bytes:
        nonlocal failed
        found = match[0]
        if found == b"%s":
            return values.pop(0) if values else b""
        if found in (b"%", b"\\"):
            failed = True
        return {b"%%": b"%", b"\\n": b"\n", b"\\t": b"\t"}.get(found, b"")

    text = _DIRECTIVE.sub(put, words[0])
    return Gap.ONE if failed or values else text


def _identity(walk: Launching, words: Sequence[bytes]) -> Answer:
    text = b" ".join(words)
    if text in (b"-u", b"--user", b"-ur", b"-u -r"):
        return 0, str(walk.creds.uid).encode() + b"\n"
    if text in (b"-g", b"--group"):
        return 0, str(walk.creds.gid).encode() + b"\n"
    if text in (b"-un", b"-nu", b"-u -n"):
        return _name(walk)
    if len(words) in (1, 2) and not words[-1].startswith(b"-") and words[:-1] in ([], [b"-u"], [b"-g"]):
        account = next((each for each in _passwd(walk) or () if each[0] == words[-1]), None)
        if account is None:
            return (1, b"") if _passwd(walk) is not None else _UNKNOWN
        return 0, account[3 if words[0] == b"-g" else 2] + b"\n" if len(words) == 2 else Gap.ONE
    return _UNKNOWN


def _passwd(walk: Launching) -> list[list[bytes]] | None:
    if walk.state.writes.may_hold(b"/etc/passwd"):
        return None
    node = walk.place.rootfs.resolve(b"/etc/passwd").node
    text = None if node is None else walk.place.rootfs.text(node)
    if text is None:
        return None
    return [fields for line in text.split(b"\n") if len(fields := line.split(b":")) >= 7]


def _name(walk: Launching) -> Answer:
    wanted = str(walk.creds.uid).encode()
    accounts = _passwd(walk)
    if accounts is None:
        return _UNKNOWN
    found = next((each for each in accounts if each[2] == wanted), None)
    return _UNKNOWN if found is None else (0, found[0] + b"\n")


def _basename(words: Sequence[bytes]) -> bytes:
    text = words[0].rstrip(b"/") or (b"/" if words[0] else b"")
    name = text.rpartition(b"/")[2] or text
    if len(words) == 2 and name.endswith(words[1]) and name != words[1]:
        return name[: len(name) - len(words[1])]
    return name


def _dirname(text: bytes) -> bytes:
    stripped = text.rstrip(b"/")
    if not stripped:
        return b"/" if text else b"."
    head, slash, _ = stripped.rpartition(b"/")
    return head.rstrip(b"/") or b"/" if slash else b"."


def _canonical(walk: Launching, name: bytes, words: Sequence[bytes]) -> Answer:
    options = [each for each in words if each.startswith(b"-")]
    paths = [each for each in words if not each.startswith(b"-")]
    state = walk.state
    if len(paths) != 1 or state.cwd is None or state.writes.anywhere or options not in ([b"-f"], [b"-e"], [b"--"], []):
        return _UNKNOWN
    if name == b"readlink" and options != [b"-f"]:
        return _UNKNOWN
    found = walk.place.rootfs.resolve(paths[0], cwd=state.cwd, creds=walk.creds)
    return (0, b"/" + found.path + b"\n") if found.node is not None else _UNKNOWN


def _machine(walk: Launching, words: Sequence[bytes]) -> Answer:
    if words in ([], [b"-s"]):
        return 0, b"Linux\n"
    machine = _MACHINES.get(walk.place.architecture)
    return (0, machine + b"\n") if words in ([b"-m"], [b"-p"]) and machine is not None else _UNKNOWN


def _content(walk: Launching, path: bytes) -> Answer:
    state = walk.state
    if state.cwd is None or not path or state.writes.anywhere:
        return _UNKNOWN
    found = walk.place.rootfs.resolve(path, cwd=state.cwd, creds=walk.creds)
    if found.node is None or found.node.entry.kind != Kind.FILE:
        return _UNKNOWN
    text = walk.place.rootfs.text(found.node)
    return (0, text) if text is not None and not state.writes.may_hold(b"/" + found.node.path) else _UNKNOWN


def walk_which(walk: Launching, name: bytes) -> Answer:
    """`which`: files on PATH only."""
    found = walk.find(name)
    if found is None:
        return _UNKNOWN
    return (0, found + b"\n") if found else (1, b"")
