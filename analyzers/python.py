"""What Python's interpreters in an image cannot import: extension modules, packages of another release, dead scripts.

Each module is held against every interpreter whose sys.path has its directory: the tag in its file name as import reads it, then
the loader (plugins.py). One that any of them can load is fine. Findings are one a package and cause; all of them are about what
happens when a module is imported, not about the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Finding, Severity, show
from analyzers.plugins import Cause, Fault, Host, Start, libc_of
from analyzers.pythons import Interpreter, find_interpreters, read_settings
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.scripts import read_script_line
from analyzers.trail import show_path

MAX_MODULES = 4_000
"""Extension modules that are looked at in one image."""
_SHOWN_PACKAGES = 30
_SHOWN_MODULES = 6
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_TAG = re.compile(rb"\.cpython-(\d)(\d{1,2})(t?)d?(?:-([A-Za-z0-9_-]+))?\.so")
_SITE = re.compile(rb"(?:^|.*/)python(3\.\d{1,2}t?)/site-packages")
_STANDARD = b"/lib-dynload"
_BIN = (b"bin", b"sbin")
_RULES = {
    Cause.GLIBC_ON_MUSL: "python.glibc-extension-on-musl",
    Cause.MUSL_ON_GLIBC: "python.musl-extension-on-glibc",
    Cause.ARCHITECTURE: "python.extension-for-another-architecture",
    Cause.STACK: "python.extension-executable-stack",
    Cause.OTHER: "python.extension-unloadable",
    Cause.HOST: "python.host-library",
    Cause.ELSEWHERE: "python.extension-undecided",
    Cause.UNDECIDED: "python.extension-undecided",
}
_FOR_WINDOWS = frozenset(("libGL.so.1", "libgthread-2.0.so.0", "libglib-2.0.so.0"))


class Module(NamedTuple):
    """A file that import would take for an extension module."""

    node: Node
    path: bytes
    """Below the directory of sys.path as written there."""
    site: bytes
    name: bytes
    """Dotted, as imported."""
    tag: bytes
    """What follows the module's name in the file's, such as `.abi3.so`."""


class Trouble(NamedTuple):
    """A module that an interpreter cannot import."""

    rule: str
    module: Module
    interpreter: Interpreter
    message: str
    why: str = ""
    fault: Fault | None = None


def judge_python(rootfs: Rootfs, start: Start) -> Iterator[Finding]:
    """Nothing where no interpreter is found."""
    interpreters = find_interpreters(rootfs, start.env)
    yield from Imports(rootfs, interpreters, start).findings()
    yield from _left_packages(rootfs, interpreters)
    yield from _dead_scripts(rootfs)


class Imports:
    """What becomes of each extension module of the image when it is imported."""

    def __init__(self, rootfs: Rootfs, interpreters: Sequence[Interpreter], start: Start) -> None:
        self._rootfs = rootfs
        self._interpreters = interpreters
        self._start = start
        self._hosts: dict[tuple[int, bytes], Host] = {}
        self._left = MAX_MODULES

    def findings(self) -> Iterator[Finding]:
        """One a package and cause, those of the standard library in one."""
        packages: dict[tuple[bytes, bytes, str], list[Trouble]] = {}
        for module, trouble in self.tried():
            if trouble is None:
                continue
            standard = module.site.endswith(_STANDARD)
            package = b"" if standard else module.name.partition(b".")[0]
            rule = "python.standard-module-unloadable" if standard else trouble.rule
            packages.setdefault((module.site, package, rule), []).append(trouble)
        for (_, _, rule), troubles in sorted(packages.items())[:_SHOWN_PACKAGES]:
            yield self._finding(rule, troubles)

    def tried(self) -> Iterator[tuple[Module, Trouble | None]]:
        """Every module with the first interpreter's trouble, None where an interpreter can import it."""
        lookers: dict[bytes, list[tuple[Interpreter, bytes]]] = {}
        for interpreter in self._interpreters:
            for site in (*interpreter.sites, interpreter.stdlib + _STANDARD):
                node = self._rootfs.resolve(site).node
                if node is not None and node.entry.kind == Kind.DIRECTORY:
                    lookers.setdefault(node.path, []).append((interpreter, site))
        for directory, looking in sorted(lookers.items()):
            for node in self._rootfs.starting(directory + b"/", b".so"):
                module = _module(self._rootfs, node, directory, looking[0][1])
                if module is None:
                    continue
                if not self._left:
                    return
                self._left -= 1
                yield module, self._trouble(module, looking)

    def _trouble(self, module: Module, looking: list[tuple[Interpreter, bytes]]) -> Trouble | None:
        first: Trouble | None = None
        for interpreter, site in looking:
            trouble = self._try(interpreter, module._replace(path=site + module.path[len(module.site) :], site=site))
            if trouble is None:
                return None
            first = first or trouble
        return first

    def _try(self, interpreter: Interpreter, module: Module) -> Trouble | None:
        if not interpreter.suffixes:
            return None
        if module.tag not in interpreter.suffixes:
            return self._untaken(interpreter, module)
        if self._shadowed(interpreter, module):
            return None
        host = self._host(interpreter)
        fault = host.fault(module.node, module.path, now=True, caller=b"libpython3")
        if fault is None:
            return None
        message = f"ImportError: {fault.line}" if fault.line else RULES[_RULES[fault.cause]].title
        return Trouble(_RULES[fault.cause], module, interpreter, message, fault.why, fault)

    def _untaken(self, interpreter: Interpreter, module: Module) -> Trouble | None:
        """A tag that is not the interpreter's: import goes past the file (R10)."""
        tagged = _TAG.fullmatch(module.tag)
        if tagged is None or self._has_sibling(interpreter, module):
            return None
        message = f"ModuleNotFoundError: No module named '{show(module.name)}'"
        release = f"{int(tagged[1])}.{int(tagged[2])}{tagged[3].decode()}"
        if release != interpreter.release:
            why = f"Its tag is that of Python {release}; the interpreter is {interpreter.release}."
            return Trouble("python.extension-for-another-release", module, interpreter, message, why)
        own = interpreter.suffixes[0].removesuffix(b".so").partition(b"-")[2].partition(b"-")[2]
        why = f"Its tag ends in {show(tagged[4] or b'nothing')}, the interpreter's own in {show(own)}."
        facts = self._rootfs.elf(module.node)
        wants = libc_of(facts) if facts is not None else ""
        if (tagged[4] or b"").endswith(b"-gnu") and own.endswith(b"-musl") and wants != "musl":
            return Trouble("python.glibc-extension-on-musl", module, interpreter, message, why)
        if (tagged[4] or b"").endswith(b"-musl") and own.endswith(b"-gnu") and wants != "glibc":
            return Trouble("python.musl-extension-on-glibc", module, interpreter, message, why)
        return Trouble("python.extension-for-another-architecture", module, interpreter, message, why)

    def _has_sibling(self, interpreter: Interpreter, module: Module) -> bool:
        """Whether import finds something else by the module's name."""
        stem = module.path[: len(module.path) - len(module.tag)]
        endings = (*interpreter.suffixes, b".py", b".pyc")
        if any(self._rootfs.resolve(stem + ending).node is not None for ending in endings):
            return True
        return self._rootfs.resolve(stem).node is not None

    def _shadowed(self, interpreter: Interpreter, module: Module) -> bool:
        """Whether import takes a package or a better tagged file of that name first."""
        stem = module.path[: len(module.path) - len(module.tag)]
        before = interpreter.suffixes[: interpreter.suffixes.index(module.tag)]
        return any(self._rootfs.resolve(stem + each).node is not None for each in (*before, b"/__init__.py"))

    def _host(self, interpreter: Interpreter) -> Host:
        key = interpreter.node.identity
        if key not in self._hosts:
            self._hosts[key] = Host(self._rootfs, interpreter.node, interpreter.path, self._start)
        return self._hosts[key]

    def _finding(self, rule_id: str, troubles: list[Trouble]) -> Finding:
        rule, first = RULES[rule_id], troubles[0]
        package, interpreter = first.module.name.partition(b".")[0], first.interpreter
        names = [show(each.module.name) for each in troubles]
        shown = ", ".join(names[:_SHOWN_MODULES]) + (f" and {len(names) - _SHOWN_MODULES} more" if names[_SHOWN_MODULES:] else "")
        of = f"{show(interpreter.path)} (Python {interpreter.release}) cannot import {shown}."
        why = " ".join(part for part in (rule.why, first.why, of) if part)
        wanted = "" if first.fault is None else first.fault.wanted
        hint = "opencv-python-headless needs neither libGL.so.1 nor GLib." if package == b"cv2" and wanted in _FOR_WINDOWS else ""
        return Finding(
            rule.id,
            rule.severity,
            first.message,
            show_path(first.module.path),
            self._rootfs.layer_of(first.module.node),
            trail=() if first.fault is None else first.fault.trail,
            why=why,
            remedies=(hint, rule.remedy) if hint else (rule.remedy,),
            assumptions=("A package may have a fallback in Python.",) if rule.severity is Severity.LATER else (),
        )


def _module(rootfs: Rootfs, node: Node, directory: bytes, site: bytes) -> Module | None:
    """None for a library that no import names, or that does not define the module."""
    below = node.path[len(directory) + 1 :]
    *packages, file = below.split(b"/")
    name, dot, rest = file.partition(b".")
    if not all(_NAME.fullmatch(part) for part in (*packages, name)) or node.entry.kind != Kind.FILE:
        return None
    tag = dot + rest
    facts = rootfs.elf(node)
    if facts is None:
        # Without the magic of ELF only its tag says that it is meant to be a module.
        known = _TAG.fullmatch(tag) is not None or tag == b".abi3.so"
        return Module(node, site + b"/" + below, site, b".".join((*packages, name)), tag) if known else None
    symbols = rootfs.symbols(node)
    if symbols is None or b"PyInit_" + name not in symbols.export_names.split(b"\0"):
        return None
    return Module(node, site + b"/" + below, site, b".".join((*packages, name)), tag)


# -- packages and scripts that were left behind --


def _left_packages(rootfs: Rootfs, interpreters: Sequence[Interpreter]) -> Iterator[Finding]:
    """site-packages of releases that no interpreter of the image has."""
    rule = RULES["python.packages-of-another-release"]
    looked = {node.path for each in interpreters for site in each.sites if (node := rootfs.resolve(site).node) is not None}
    has = {each.release for each in interpreters}
    found: dict[bytes, Node] = {}
    for path in _site_candidates(rootfs, interpreters):
        node = rootfs.resolve(path).node
        if node is not None and node.entry.kind == Kind.DIRECTORY and node.path not in looked:
            found.setdefault(node.path, node)
    for path, node in sorted(found.items()):
        release = _SITE.fullmatch(path)
        count = len(_packages(rootfs, path)) if release is not None else 0
        if release is None or release[1].decode() in has or not count:
            continue
        own = ", ".join(sorted(has)) or "none"
        text = f"{count} packages lie in {show_path(path)}, and no Python {release[1].decode()} is in the image (found: {own})"
        yield Finding(rule.id, rule.severity, text, show_path(path), rootfs.layer_of(node), why=rule.why, remedies=(rule.remedy,))


def _site_candidates(rootfs: Rootfs, interpreters: Sequence[Interpreter]) -> Iterator[bytes]:
    prefixes = [b"/usr", b"/usr/local", *(each.environment for each in interpreters if each.environment)]
    prefixes += [each.stdlib.rpartition(b"/")[0].rpartition(b"/")[0] for each in interpreters]
    for layer in rootfs.layers:
        prefixes += [b"/" + path.rpartition(b"/")[0] for path in layer.texts if path.endswith(b"/pyvenv.cfg")]
    for prefix in dict.fromkeys(prefixes):
        for minor in range(6, 21):
            for lib in (b"lib", b"lib64"):
                yield prefix + b"/" + lib + b"/python3.%d/site-packages" % minor


def _packages(rootfs: Rootfs, directory: bytes) -> set[bytes]:
    """Names of installed distributions, by their metadata."""
    start = directory + b"/"
    below = (node.path[len(start) :].partition(b"/")[0] for node in rootfs.starting(start, b"/METADATA"))
    return {each for each in below if each.endswith(b".dist-info")}


def _dead_scripts(rootfs: Rootfs) -> Iterator[Finding]:
    """Scripts in bin directories whose interpreter is a Python that is not there, one finding a directory and interpreter."""
    rule = RULES["python.dead-entry-point"]
    dead: dict[tuple[bytes, bytes], list[Node]] = {}
    for path in sorted({path for layer in rootfs.layers for path in layer.heads}):
        folder, _, _ = path.rpartition(b"/")
        if folder.rpartition(b"/")[2] not in _BIN:
            continue
        node = rootfs.resolve(b"/" + path, follow=False).node
        head = None if node is None or node.entry.kind != Kind.FILE else rootfs.head(node)
        if node is None or head is None or not node.entry.mode & 0o111:
            continue
        line = read_script_line(head)
        named = line.interpreter.rpartition(b"/")[2]
        if line.refused or not line.interpreter.startswith(b"/") or not named.startswith(b"python"):
            continue
        found = rootfs.resolve(line.interpreter)
        if found.node is None and not found.unknown:
            dead.setdefault((folder, line.interpreter), []).append(node)
    for (_, interpreter), nodes in sorted(dead.items()):
        names = [show(node.path.rpartition(b"/")[2]) for node in nodes]
        shown = ", ".join(names[:_SHOWN_MODULES]) + (f" and {len(names) - _SHOWN_MODULES} more" if names[_SHOWN_MODULES:] else "")
        text = f"exec {show_path(nodes[0].path)}: no such file or directory"
        why = f"{rule.why} {show(interpreter)} is wanted by {shown}.{_home_words(rootfs, interpreter)}"
        layer = rootfs.layer_of(nodes[0])
        yield Finding(rule.id, rule.severity, text, show_path(nodes[0].path), layer, why=why, remedies=(rule.remedy,))


def _home_words(rootfs: Rootfs, interpreter: bytes) -> str:
    """What the environment that the interpreter belongs to says of the Python it was made with."""
    environment = interpreter.rpartition(b"/")[0].rpartition(b"/")[0]
    settings = read_settings(rootfs, environment)
    home = settings.get(b"home", b"")
    return f" Its environment was made with the Python of {show(home)}." if home else ""
