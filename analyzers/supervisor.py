"""What supervisord is told to run: the first word of each `command` of its configuration, looked up as it does.

Mirrors supervisor 4.2 (`options.py`, `process.py` get_execv_args). A program that cannot be run is no failed start:
supervisord goes on without it, and says so in its log.
"""

from __future__ import annotations

import configparser
import posixpath
import shlex
from collections.abc import Iterator

from analyzers.facts import Kind
from analyzers.finding import Finding, show
from analyzers.lookup import variable
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.shell.patterns import compiled, matches
from analyzers.start import Start
from analyzers.trail import show_path

_PLACES: tuple[bytes, ...] = (b"etc/supervisord.conf", b"/etc/supervisord.conf", b"/etc/supervisor/supervisord.conf")
_PROGRAMS = ("program:", "eventlistener:", "fcgi-program:")
_OFF = frozenset(("false", "no", "off", "0"))
_MAX_FILES = 64
_MAX_FINDINGS = 20


def supervisor_findings(start: Start, rootfs: Rootfs) -> Iterator[Finding]:
    """One finding a program that supervisord will not be able to run; nothing where it is not what is started."""
    argv = () if start.execution is None else start.execution.argv
    if not any(each.rpartition(b"/")[2] == b"supervisord" for each in argv[:3]):
        return
    count = 0
    for path, section, command in _commands(rootfs, argv, start.cwd):
        message = _wrong(rootfs, start, command)
        if message and count < _MAX_FINDINGS:
            count += 1
            rule = RULES["supervisor.command-unusable"]
            text = f"[{section}] {message}"
            yield Finding(rule.id, rule.severity, text, show_path(path), why=rule.why, remedies=(rule.remedy,))


def _commands(rootfs: Rootfs, argv: tuple[bytes, ...], cwd: bytes) -> Iterator[tuple[bytes, str, str]]:
    """(file, section, command) of everything it is told to run."""
    first = _configuration(rootfs, argv, cwd)
    if first is None:
        return
    files = [first]
    parsed = _parsed(rootfs, first)
    if parsed is not None and parsed.has_option("include", "files"):
        files += _included(rootfs, first, parsed.get("include", "files"))
    for node in files[:_MAX_FILES]:
        each = _parsed(rootfs, node)
        for section in () if each is None else each.sections():
            if each is not None and section.startswith(_PROGRAMS) and each.get(section, "autostart", fallback="") not in _OFF:
                yield node.path, section, each.get(section, "command", fallback="")


def _configuration(rootfs: Rootfs, argv: tuple[bytes, ...], cwd: bytes) -> Node | None:
    places = _PLACES
    for index, word in enumerate(argv):
        if word in (b"-c", b"--configuration") and index + 1 < len(argv):
            places = (argv[index + 1],)
        elif word.startswith(b"--configuration="):
            places = (word.partition(b"=")[2],)
    return next((node for place in places if (node := rootfs.resolve(place, cwd=cwd).node) is not None), None)


def _parsed(rootfs: Rootfs, node: Node) -> configparser.RawConfigParser | None:
    text = rootfs.script(node) if node.entry.kind == Kind.FILE else None
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string((text or b"").decode("utf-8", "replace"))
    except configparser.Error:
        return None
    return parser


def _included(rootfs: Rootfs, node: Node, files: str) -> list[Node]:
    here = posixpath.dirname("/" + node.path.decode("utf-8", "surrogateescape"))
    found: list[Node] = []
    for pattern in files.split()[:_MAX_FILES]:
        folder, name = posixpath.split(posixpath.join(here, pattern))
        wanted = compiled([(name.encode("utf-8", "surrogateescape"), False)])
        place = rootfs.resolve(folder.encode("utf-8", "surrogateescape"))
        names = () if place.node is None else rootfs.names(place.node.path)
        for each in names:
            if matches(wanted, each) and (inner := rootfs.resolve(b"/" + place.path + b"/" + each).node) is not None:
                found.append(inner)
    return found


def _wrong(rootfs: Rootfs, start: Start, command: str) -> str:
    """What supervisord logs of a command that it cannot run; empty for one that it can, or that is not understood."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    if not words or "%" in words[0]:
        return ""
    name = words[0].encode("utf-8", "surrogateescape")
    path = variable(start.env, b"PATH") or b"/bin:/usr/bin:/usr/local/bin"
    candidates = [name] if b"/" in name else [folder + b"/" + name for folder in path.split(b":")]
    for candidate in candidates:
        found = rootfs.resolve(candidate, cwd=start.cwd)
        if found.unknown:
            return ""
        if found.node is None:
            continue
        if found.node.entry.kind == Kind.DIRECTORY:
            return f"command at {show(candidate)!r} is a directory"
        return "" if found.node.entry.mode & 0o111 else f"command at {show(candidate)!r} is not executable"
    return f"can't find command {show(name)!r}"
