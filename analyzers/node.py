"""Node's addons: whether one build of each fits the image's Node, by its name, its loader and its NODE_MODULE_VERSION.

A package may bring builds for many platforms, in files of its own or in optional packages beside it; one that fits is enough. An
addon is loaded as Node does it: dlopen with RTLD_LAZY of the path with all links followed (plugins.py, R20-R22).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Finding, Severity, Step, show
from analyzers.lookup import variable
from analyzers.plugins import Cause, Host, Start
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.trail import show_path

MAX_ADDONS = 2_000
"""Addons that are looked at in one image."""
_SHOWN_PACKAGES = 30
_FOLDERS = (b"/usr/local/bin", b"/usr/bin", b"/bin", b"/opt/node/bin", b"/nodejs/bin")
_ABI = {
    8: 57,
    10: 64,
    12: 72,
    14: 83,
    15: 88,
    16: 93,
    17: 102,
    18: 108,
    19: 111,
    20: 115,
    21: 120,
    22: 127,
    23: 131,
    24: 137,
    25: 141,
}
"""NODE_MODULE_VERSION by release (R21)."""
_MACHINES = {62: b"x64", 183: b"arm64", 3: b"ia32", 40: b"arm", 22: b"s390x", 21: b"ppc64", 243: b"riscv64", 258: b"loong64"}
_SYSTEMS = rb"linuxmusl|linux|darwin|win32|freebsd|openbsd|android|sunos|aix|openharmony"
_ARCHES = rb"x64|arm64|ia32|arm|armv7|armv7l|armv6|s390x|ppc64|ppc64le|riscv64|loong64|universal|mips64el|wasm32"
_LIBCS = {b"gnu": "glibc", b"glibc": "glibc", b"gnueabihf": "glibc", b"musl": "musl", b"musleabihf": "musl"}
_NAMED = re.compile(
    rb"(.*?)[-.@](" + _SYSTEMS + rb")[-_](" + _ARCHES + rb")(?:[-_](gnu|glibc|gnueabihf|musl|musleabihf|msvc|eabi))?"
)
_PREBUILT = re.compile(rb"(.*/)?prebuilds/(" + _SYSTEMS + rb")-([a-z0-9+]+)/([^/]+)\.node")
_REGISTERS = re.compile(rb"node_register_module_v(\d+)")
_HEADER = re.compile(rb"^#define NODE_MODULE_VERSION (\d+)\s*$", re.MULTILINE)
_LIBNODE = re.compile(rb"libnode\.so\.(\d+)")
_ONLY_ELSEWHERE = (b"/fsevents/",)
"""Required on one system only, by whoever brings it."""
_RULES = {
    Cause.GLIBC_ON_MUSL: "node.glibc-addon-on-musl",
    Cause.MUSL_ON_GLIBC: "node.musl-addon-on-glibc",
    Cause.ARCHITECTURE: "node.addon-for-another-platform",
    Cause.STACK: "node.addon-unloadable",
    Cause.OTHER: "node.addon-unloadable",
    Cause.HOST: "node.addon-undecided",
    Cause.ELSEWHERE: "node.addon-undecided",
    Cause.UNDECIDED: "node.addon-undecided",
}


class NodeProgram(NamedTuple):
    """One node of the image."""

    path: bytes
    """As it is called."""
    node: Node
    arch: bytes
    """As Node's process.arch."""
    abi: int | None
    """NODE_MODULE_VERSION; None where the image does not tell."""


class Addon(NamedTuple):
    """One `.node` file, with what its name says it was built for; None for what it does not say."""

    node: Node
    group: bytes
    """Builds of one addon have one group."""
    name: bytes
    """Of the package, or of the file where there is none, for people."""
    system: bytes | None = None
    arches: tuple[bytes, ...] = ()
    libc: str | None = None
    abi: int | None = None

    @property
    def target(self) -> str:
        """Such as `linux-x64-musl`."""
        libc = {"glibc": "-gnu", "musl": "-musl", None: ""}[self.libc]
        return f"{show(self.system or b'')}-{show(b'+'.join(self.arches))}{libc}"


class Trouble(NamedTuple):
    """Why none of an addon's builds fits."""

    rule: str
    addon: Addon
    message: str
    why: str = ""
    trail: tuple[Step, ...] = ()


def judge_node(rootfs: Rootfs, start: Start) -> Iterator[Finding]:
    """One finding a package and cause; nothing where there is no Node."""
    programs = find_nodes(rootfs, start.env)
    packages: dict[tuple[bytes, str], list[Trouble]] = {}
    for trouble in Addons(rootfs, programs, start).troubles() if programs else ():
        packages.setdefault((trouble.addon.name, trouble.rule), []).append(trouble)
    for (name, rule_id), troubles in sorted(packages.items())[:_SHOWN_PACKAGES]:
        rule, first = RULES[rule_id], troubles[0]
        more = f" and {len(troubles) - 1} more" if len(troubles) > 1 else ""
        what = f"{show(programs[0].path)} cannot load {show(name)}{more}."
        yield Finding(
            rule.id,
            rule.severity,
            first.message,
            show_path(first.addon.node.path),
            rootfs.layer_of(first.addon.node),
            trail=first.trail,
            why=" ".join(part for part in (rule.why, first.why, what) if part),
            remedies=(rule.remedy,),
            assumptions=("A package may have a fallback in JavaScript.",) if rule.severity is Severity.LATER else (),
        )


def find_nodes(rootfs: Rootfs, env: Sequence[bytes]) -> list[NodeProgram]:
    """By PATH and the usual directories, the first one first."""
    folders = [each for each in (variable(env, b"PATH") or b"").split(b":") if each.startswith(b"/")]
    found: dict[tuple[int, bytes], NodeProgram] = {}
    for folder in dict.fromkeys((*folders[:32], *_FOLDERS)):
        for name in (b"node", b"nodejs"):
            path = folder.rstrip(b"/") + b"/" + name
            node = rootfs.resolve(path).node
            facts = None if node is None else rootfs.elf(node)
            if node is None or facts is None:
                continue
            arch = _MACHINES.get(facts.machine, b"")
            found.setdefault(node.identity, NodeProgram(path, node, arch, _abi_of(rootfs, path, node, env)))
    return list(found.values())


def _abi_of(rootfs: Rootfs, path: bytes, node: Node, env: Sequence[bytes]) -> int | None:
    """From the libnode it needs, the header beside it, or what the official images say in their environment."""
    facts = rootfs.elf(node)
    for name in facts.needed if facts is not None else ():
        if found := _LIBNODE.fullmatch(name):
            return int(found[1])
    for program in (path, b"/" + node.path):
        prefix = program.rpartition(b"/")[0].rpartition(b"/")[0]
        header = rootfs.resolve(prefix + b"/include/node/node_version.h").node
        numbers = [] if header is None else _HEADER.findall(rootfs.text(header) or b"")
        if numbers:
            return int(numbers[-1])
    release = variable(env, b"NODE_VERSION") or b""
    major = release.removeprefix(b"v").partition(b".")[0]
    return _ABI.get(int(major)) if path == b"/usr/local/bin/node" and major.isdigit() else None


class Addons:
    """What becomes of each addon of the image when it is required."""

    def __init__(self, rootfs: Rootfs, programs: Sequence[NodeProgram], start: Start) -> None:
        self._rootfs = rootfs
        self._programs = programs
        self._hosts = [Host(rootfs, each.node, each.path, start) for each in programs]

    def troubles(self) -> Iterator[Trouble]:
        """Of the addons none of whose builds any Node of the image can load."""
        groups: dict[bytes, list[Addon]] = {}
        fine: set[bytes] = set()
        for addon in self._addons():
            groups.setdefault(addon.group, []).append(addon)
        found: list[Trouble] = []
        for builds in groups.values():
            troubles = [self._group(program, host, builds) for program, host in zip(self._programs, self._hosts, strict=True)]
            if None in troubles:
                fine.add(_package_root(builds[0].node.path))
            elif troubles[0] is not None:
                found.append(troubles[0])
        for trouble in found:
            # Builds for other systems beside one that loads, in folders whose names say nothing to us.
            foreign = trouble.rule == "node.addon-for-another-platform"
            if not foreign or _package_root(trouble.addon.node.path) not in fine:
                yield trouble

    def _addons(self) -> Iterator[Addon]:
        left = MAX_ADDONS
        for node in self._rootfs.ending(b".node"):
            if node.entry.kind != Kind.FILE or any(each in node.path for each in _ONLY_ELSEWHERE):
                continue
            if not left:
                return
            left -= 1
            yield describe(node)

    def _group(self, program: NodeProgram, host: Host, builds: list[Addon]) -> Trouble | None:
        fitting = [each for each in builds if _fits(each, program, host.family)]
        if not fitting:
            return _no_build(program, host, builds)
        troubles = [self._try(program, host, each) for each in fitting]
        return None if None in troubles else troubles[0]

    def _try(self, program: NodeProgram, host: Host, addon: Addon) -> Trouble | None:
        path = b"/" + addon.node.path
        fault = host.fault(addon.node, path, now=False)
        if fault is not None:
            rule = _RULES[fault.cause]
            message = f"Error: {fault.line}" if fault.line else RULES[rule].title
            foreign = self._rootfs.elf(addon.node) is None and addon.node.entry.size > 4096
            rule = "node.addon-for-another-platform" if foreign else rule
            return Trouble(rule, addon, message, fault.why, fault.trail)
        symbols = self._rootfs.symbols(addon.node)
        if symbols is None or any(name.startswith(b"napi_") for name in symbols.import_names.split(b"\0")):
            return None
        exported = symbols.export_names.split(b"\0")
        if any(name.startswith(b"napi_register_module_v") for name in exported):
            return None
        built = [int(found[1]) for name in exported if (found := _REGISTERS.fullmatch(name))]
        if program.abi is None or not built or program.abi in built:
            return None
        message = (
            f"Error: The module '{show(path)}'\nwas compiled against a different Node.js version using\n"
            f"NODE_MODULE_VERSION {built[0]}. This version of Node.js requires\nNODE_MODULE_VERSION {program.abi}. "
            "Please try re-compiling or re-installing\nthe module (for instance, using `npm rebuild` or `npm install`)."
        )
        return Trouble("node.addon-for-another-release", addon, message)


def _fits(addon: Addon, program: NodeProgram, family: str) -> bool:
    """By its name alone."""
    return (
        addon.system in (None, b"linux")
        and (not addon.arches or program.arch in addon.arches or not program.arch)
        and (addon.libc is None or not family or addon.libc == family)
        and (addon.abi is None or program.abi is None or addon.abi == program.abi)
    )


def _no_build(program: NodeProgram, host: Host, builds: list[Addon]) -> Trouble:
    own = f"linux-{show(program.arch)}-{'musl' if host.family == 'musl' else 'gnu'}"
    near = [each for each in builds if each.system == b"linux" and program.arch in each.arches]
    first = (near or builds)[0]
    there = ", ".join(sorted({each.target for each in builds})[:8])
    message = f"No build of {show(first.name)} for {own} is in the image; there is {there}"
    if not near:
        return Trouble("node.addon-for-another-platform", first, message)
    if all(each.abi is not None and program.abi is not None and each.abi != program.abi for each in near):
        return Trouble("node.addon-for-another-release", first, message)
    return Trouble("node.glibc-addon-on-musl" if host.family == "musl" else "node.musl-addon-on-glibc", first, message)


def describe(node: Node) -> Addon:
    """What a `.node` file is, by its path."""
    path = node.path
    directory, _, file = path.rpartition(b"/")
    prebuilt = _PREBUILT.fullmatch(path)
    root = _package_root(path)
    name = root.rpartition(b"node_modules/")[2] or file
    if prebuilt is not None:
        tags = prebuilt[4].split(b".")
        abi = next((int(tag[3:]) for tag in tags if tag.startswith(b"abi") and tag[3:].isdigit()), None)
        libc = next((_LIBCS[tag] for tag in tags if tag in (b"glibc", b"musl")), None)
        abi = None if b"napi" in tags else abi
        system, libc = _system(prebuilt[2], libc)
        return Addon(node, (prebuilt[1] or b"") + b"prebuilds", name, system, tuple(prebuilt[3].split(b"+")), libc, abi)
    for whole, where in ((root, root), (file.removesuffix(b".node"), path)):
        named = _NAMED.fullmatch(whole.rpartition(b"/")[2])
        if named is not None:
            system, libc = _system(named[2], _LIBCS.get(named[4] or b""))
            stem = where.rpartition(b"/")[0] + b"/" + named[1]
            name = stem.rpartition(b"node_modules/")[2]
            return Addon(node, stem, name, system, (named[3],), libc)
    return Addon(node, directory + b"/" + file, name)


def _system(named: bytes, libc: str | None) -> tuple[bytes, str | None]:
    return (b"linux", "musl") if named == b"linuxmusl" else (named, libc)


def _package_root(path: bytes) -> bytes:
    """The directory of the package that a file belongs to: below the last node_modules, with its scope."""
    before, found, below = path.rpartition(b"node_modules/")
    if not found:
        return path.rpartition(b"/")[0]
    parts = below.split(b"/")
    return before + found + b"/".join(parts[: 2 if parts[0].startswith(b"@") else 1])
