"""Plug-ins of an interpreter (Python's extension modules, Node's addons): whether its process could load one, and why not.

The loader's part is analyzers.loader.dlopen. What the image alone cannot tell is kept apart: libraries that the host brings, and
libraries that lie elsewhere in the image and may be loaded by the package's own code before.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from analyzers.accounts import Credentials
from analyzers.facts import ElfFacts, Kind
from analyzers.finding import Finding, Reason, Step, show
from analyzers.host_libraries import brought_by_host
from analyzers.loader.dlopen import Running, start_process
from analyzers.loader.process import Dlopened, Process
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.trail import show_path

_STACK = b"cannot enable executable stack"
_MAX_SEARCHES = 64


class Cause(enum.StrEnum):
    """Why a plug-in does not load."""

    GLIBC_ON_MUSL = "glibc-on-musl"
    MUSL_ON_GLIBC = "musl-on-glibc"
    ARCHITECTURE = "architecture"
    STACK = "executable-stack"
    OTHER = "unloadable"
    HOST = "host-library"
    """Wants what the host brings: expected."""
    ELSEWHERE = "found-elsewhere"
    """Wants what lies in the image where the loader does not look: code may load it first."""
    UNDECIDED = "undecided"


class Fault(msgspec.Struct, frozen=True):
    """A plug-in that does not load, or of which it cannot be said."""

    cause: Cause
    line: str
    """The loader's exact words; empty where it crashes or nothing is certain."""
    why: str
    wanted: str = ""
    trail: tuple[Step, ...] = ()


class Start(NamedTuple):
    """With what an interpreter is taken to be started: what the image's first program has."""

    env: Sequence[bytes]
    cwd: bytes
    creds: Credentials
    profile: HostProfile


class Host:
    """The interpreter's process, started once, in which plug-ins are loaded one by one."""

    def __init__(self, rootfs: Rootfs, program: Node, path: bytes, start: Start) -> None:
        self._rootfs = rootfs
        self._program = program
        self._running: Running | None = None
        self.family = ""
        self.refusal = ""
        """Why nothing can be said of its plug-ins."""
        self._searches: dict[bytes, bytes | None] = {}
        facts = rootfs.elf(program)
        interp = None if facts is None or not facts.interp else rootfs.resolve(facts.interp, cwd=start.cwd).node
        if facts is None or facts.interp is None:
            self.refusal = "it is a static program, which loads no plug-ins"
            return
        if interp is None:
            self.refusal = f"its loader {show(facts.interp)} is not in the image"
            return
        process = Process(
            rootfs,
            program,
            argv0=path,
            opened_as=path,
            env=start.env,
            cwd=start.cwd,
            creds=start.creds._replace(dac_override=start.creds.uid == 0),
            secure=False,
            interp=interp,
            interp_name=facts.interp,
            profile=start.profile,
        )
        result, self._running = start_process(process)
        self.family = result.family
        if self._running is None:
            self.refusal = result.unknown or "it does not start itself: " + (
                show(result.lines[0]) if result.lines else result.crash
            )

    def fault(self, node: Node, path: bytes, *, now: bool, caller: bytes = b"") -> Fault | None:
        """None where `path` loads. `now`: with RTLD_NOW, as Python does; Node asks for RTLD_LAZY."""
        if self._running is None:
            return Fault(Cause.UNDECIDED, "", self.refusal)
        opened = self._running.open(path, now=now, caller=caller)
        if opened.ok:
            return None
        facts = self._rootfs.elf(node)
        if opened.ok is None:
            return Fault(Cause.UNDECIDED, "", opened.unknown, trail=opened.steps)
        trail = tuple(step for step in opened.steps if not step.ok)
        if opened.crash:
            return Fault(Cause.OTHER, "", f"Loading it ends the process by {opened.crash}.", trail=trail)
        cause, why = self._explain(opened, facts)
        return Fault(cause, show(opened.line), why, show(opened.wanted), trail)

    def _explain(self, opened: Dlopened, facts: ElfFacts | None) -> tuple[Cause, str]:
        if _STACK in opened.line:
            return Cause.STACK, ""
        own = self._rootfs.elf(self._program)
        if facts is not None and own is not None and (facts.machine, facts.bits) != (own.machine, own.bits):
            return Cause.ARCHITECTURE, f"It is for machine {facts.machine}, the interpreter for {own.machine}."
        wants = "" if facts is None else libc_of(facts)
        if wants and wants != self.family:
            cause = Cause.GLIBC_ON_MUSL if wants == "glibc" else Cause.MUSL_ON_GLIBC
            return cause, f"It was built for {wants}, and the interpreter runs on {self.family}."
        if opened.missing and all(brought_by_host(name) for name in opened.missing):
            return Cause.HOST, f"{show(opened.missing[0])} belongs to the driver, which the host puts into the container."
        missing = [name for name in opened.missing if not brought_by_host(name)]
        places = [self._find(name) for name in missing]
        if missing and all(places):
            return Cause.ELSEWHERE, f"{show(missing[0])} lies at {show_path(places[0] or b'')}, where the loader does not look."
        if opened.reason is Reason.SYMBOL:
            definers = [self._definer(name) for name in opened.unbound[:8]]
            if definers and all(definers) and not self._second_build(definers[0] or b"", opened):
                return Cause.ELSEWHERE, f"{show(opened.unbound[0])} is defined by {show_path(definers[0] or b'')}."
        return Cause.OTHER, f"{show(opened.wanted_by)} wants it." if opened.wanted_by else ""

    def _second_build(self, definer: bytes, opened: Dlopened) -> bool:
        """Whether the process has another build of the library that defines it (failures 39), and no package brings that one."""
        node = self._rootfs.resolve(b"/" + definer).node
        facts = None if node is None else self._rootfs.elf(node)
        if facts is None or facts.soname is None or b"-packages/" in definer or b"node_modules/" in definer:
            return False
        return any(step.ok and step.wanted == show(facts.soname) for step in opened.steps)

    def _search(self, key: bytes, look: Callable[[], bytes | None]) -> bytes | None:
        """Looked for once; where a great many are missing, the rest is taken for found, since nothing is claimed then."""
        if key not in self._searches:
            if len(self._searches) >= _MAX_SEARCHES:
                return b"somewhere"
            self._searches[key] = look()
        return self._searches[key]

    def _find(self, name: bytes) -> bytes | None:
        base = name.rpartition(b"/")[2]
        # With what loading it twice would try: another link to the file counts too.
        kinds = (Kind.FILE, Kind.SYMLINK)
        return self._search(
            base, lambda: next((node.path for node in self._rootfs.named(base) if node.entry.kind in kinds), None)
        )

    def _definer(self, symbol: bytes) -> bytes | None:
        """A library of the image that exports a symbol which the process has not."""
        return self._search(b"symbol " + symbol, lambda: self._find_definer(symbol))

    def _find_definer(self, symbol: bytes) -> bytes | None:
        nodes = self._rootfs.remember("elf nodes", lambda: tuple(self._rootfs.elf_nodes()))
        for node in nodes:
            symbols = self._rootfs.symbols(node)
            if symbols is not None and symbol in symbols.export_names and symbol in symbols.export_names.split(b"\0"):
                return node.path
        return None


def more_like_these(rules: Sequence[str]) -> Iterator[Finding]:
    """Summed up by rule: findings beyond those that are listed one by one."""
    for rule_id, count in sorted(Counter(rules).items()):
        rule = RULES[rule_id]
        yield Finding(rule.id, rule.severity, f"{count} more packages like these", why=rule.why, remedies=(rule.remedy,))


def libc_of(facts: ElfFacts) -> str:
    """The C library that an object was linked for: `glibc`, `musl`, or empty where it does not say."""
    for name in facts.needed:
        if name.startswith((b"libc.musl-", b"ld-musl-")):
            return "musl"
        if name.startswith((b"libc.so.6", b"ld-linux")):
            return "glibc"
    return "glibc" if any(need.version.startswith(b"GLIBC_") for need in facts.verneed) else ""
