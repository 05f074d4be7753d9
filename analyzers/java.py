"""What Java code in an image will meet once it is used: jars for a newer JVM, native libraries that do not fit, and a JDK.

Whether the program itself starts is the affair of handover/java.py. Everything here waits for the class or library to be used,
and a jar brings libraries for many systems: only where none of them fits is anything said (R2, R6, failures 33-35).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Finding, Severity, show
from analyzers.handover.class_path import ClassPath
from analyzers.handover.java_command import read_command
from analyzers.jar_facts import JarFacts, NativeLibrary
from analyzers.jvm import Jvm, find_jvm, jvms, release_of
from analyzers.kernel import NATIVE
from analyzers.load_causes import version_key
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.start import Start
from analyzers.trail import show_path

_SHOWN = 20
"""Findings of one rule that are listed one by one."""
_SHOWN_NAMES = 5
_GLIBC_LOADER = re.compile(rb"ld-linux[a-z0-9-]*\.so\.\d+|ld64\.so\.\d+|ld\.so\.1")
_MUSL_LIBC = re.compile(rb"libc\.musl-[a-z0-9_]+\.so\.1")
_MUSL_OWN = re.compile(rb"lib(?:c|pthread|rt|m|dl|util|xnet)\.")
"""Names that musl's loader takes for itself (M2)."""
_FOREIGN = re.compile(rb"libthr\.so\.|libc\.so\.\d\d|libsocket\.so|libc\.so\.[0-57-9]\b|libSystem|libroot\.so")
"""Libraries of the BSDs, Solaris and others, whose ELF files need not say in their headers whose they are."""
_LIBRARY_FOLDERS = (
    b"lib", b"usr/lib", b"usr/lib/x86_64-linux-gnu", b"usr/lib/aarch64-linux-gnu", b"lib64", b"usr/lib64", b"usr/local/lib",
)  # fmt: skip
_JDK_ONLY = (b"jmods", b"include", b"demo", b"sample")
_JDK_FILES = (b"lib/ct.sym", b"lib/src.zip", b"src.zip", b"lib/tools.jar")
_JDK_PROGRAMS = (b"javac", b"jlink", b"jmod", b"jpackage", b"javadoc", b"jshell", b"jdeps", b"jar", b"jdb")


class _Scene(NamedTuple):
    """What the findings are judged against."""

    rootfs: Rootfs
    jvm: Jvm
    """The runtime that the image starts, or else the newest it has."""
    architecture: str
    musl: bool


def java_findings(rootfs: Rootfs, start: Start, architecture: str) -> Iterator[Finding]:
    """Nothing where the image has no Java runtime."""
    found = list(jvms(rootfs))
    program = None if start.execution is None else start.execution.program
    own = None if program is None else find_jvm(rootfs, program.path)
    if own is None and not found:
        return
    jvm = own or max(found, key=lambda each: each.release)
    yield from _jdk_findings(rootfs, found)
    jars = [(node, jar) for node, jar in jar_nodes(rootfs) if not any(node.path.startswith(each.home + b"/") for each in found)]
    scene = _Scene(rootfs, jvm, architecture, _is_musl(rootfs, jvm))
    used = _class_path(rootfs, start, jvm) if own is not None else None
    yield from _cut(_version_findings(scene, jars, used))
    yield from _cut(_native_findings(scene, jars))


def jar_nodes(rootfs: Rootfs) -> Iterator[tuple[Node, JarFacts]]:
    """Every visible jar with its facts, by path."""
    paths: set[bytes] = set()
    for facts in rootfs.layers:
        if facts.jars:
            paths.update(path for path, kind, _, sha256 in facts.entries.outlines() if kind == Kind.FILE and sha256 in facts.jars)
    for path in sorted(paths):
        node = rootfs.resolve(b"/" + path, follow=False).node
        jar = None if node is None else rootfs.jar(node)
        if node is not None and jar is not None and node.path == path:
            yield node, jar


def _cut(findings: Iterator[Finding]) -> Iterator[Finding]:
    """The first of them, and how many more there are."""
    more: list[Finding] = []
    for number, each in enumerate(findings):
        if number < _SHOWN:
            yield each
        else:
            more.append(each)
    if more:
        rule = RULES[more[0].rule]
        yield Finding(rule.id, more[0].severity, f"{len(more)} more like these", why=rule.why, remedies=(rule.remedy,))


def _finding(
    rule_id: str,
    text: str,
    node: Node,
    rootfs: Rootfs,
    *,
    severity: Severity | None = None,
    why: str = "",
    remedies: Sequence[str] = (),
    assumptions: tuple[str, ...] = (),
) -> Finding:
    rule = RULES[rule_id]
    return Finding(
        rule.id,
        severity or rule.severity,
        text,
        show_path(node.path),
        rootfs.layer_of(node),
        why=f"{rule.why} {why}".strip(),
        remedies=(*remedies, rule.remedy),
        assumptions=assumptions,
    )


# -- class files --


def _class_path(rootfs: Rootfs, start: Start, jvm: Jvm) -> frozenset[bytes]:
    """Canonical paths of the jars on the class path of the command that the image starts."""
    executed = start.execution
    command = None if executed is None else read_command(executed.argv, start.env, jvm.release, lambda path: None)
    if executed is None or command is None:
        return frozenset()
    place = ClassPath(rootfs, start.cwd, executed.creds, jvm.release)
    elements = [command.jar] if command.jar else list(place.elements(command.class_path))
    resolved = (rootfs.resolve(element, cwd=start.cwd).node for element in elements)
    return frozenset(node.path for node in resolved if node is not None)


def _version_findings(scene: _Scene, jars: Sequence[tuple[Node, JarFacts]], used: frozenset[bytes] | None) -> Iterator[Finding]:
    """Jars most of whose classes are too new; a few newer ones are often there for newer JVMs alone."""
    newest = scene.jvm.newest_class
    for node, jar in jars:
        for inner in (jar, *jar.nested):
            if inner.usual <= newest:
                continue
            name = show(inner.name or node.path.rpartition(b"/")[2])
            text = (
                f"{name} is for {release_of(inner.usual)} (class file version {inner.usual}.0), and the image has "
                f"Java {scene.jvm.release}, which reads up to {newest}.0"
            )
            sure = used is not None and node.path in used
            yield _finding(
                "java.library-too-new",
                text,
                node,
                scene.rootfs,
                severity=None if sure else Severity.WARNING,
                why=f"The first such class is {show(inner.newest_class)}." if inner.newest_class else "",
                remedies=(f"Use a base with a JRE of {release_of(inner.usual)} or later.",),
                assumptions=() if sure else ("That this jar is used by the Java that the image starts.",),
            )


# -- native libraries --


def _is_musl(rootfs: Rootfs, jvm: Jvm) -> bool:
    """Whether the runtime is one for musl: its `release` says so since 16, its launcher always."""
    if jvm.libc:
        return jvm.libc == "musl"
    launcher = rootfs.resolve(b"/" + jvm.home + b"/bin/java").node
    facts = None if launcher is None else rootfs.elf(launcher)
    return facts is not None and facts.interp is not None and b"ld-musl" in facts.interp


def _native_findings(scene: _Scene, jars: Sequence[tuple[Node, JarFacts]]) -> Iterator[Finding]:
    for libraries in _by_file_name(jars).values():
        said = _unfit(scene, [each.library for each in libraries])
        if said is None:
            continue
        text, why, remedies = said
        node, inner = libraries[0].node, libraries[0].jar
        where = f" It lies in {show(inner.name)} inside that jar." if inner.name else ""
        yield _finding(
            "java.native-library-unfit",
            text,
            node,
            scene.rootfs,
            why=why + where,
            remedies=remedies,
            assumptions=("That the program uses this library, and has no way to do without.",),
        )


class _Placed(NamedTuple):
    """A library and the jar it lies in."""

    library: NativeLibrary
    node: Node
    jar: JarFacts


def _by_file_name(jars: Sequence[tuple[Node, JarFacts]]) -> dict[bytes, list[_Placed]]:
    """Siblings: the same library for several systems, told apart by folder, by a word in the name, or by a jar for each."""
    groups: dict[bytes, list[_Placed]] = {}
    for node, jar in jars:
        for inner in (jar, *jar.nested):
            for library in inner.natives:
                if library.sysv and not any(_FOREIGN.match(name) for name in library.needed):
                    stem = re.split(rb"[-_.]", library.name.rpartition(b"/")[2], maxsplit=1)[0]
                    groups.setdefault(stem, []).append(_Placed(library, node, inner))
    return groups


def _unfit(scene: _Scene, libraries: Sequence[NativeLibrary]) -> tuple[str, str, tuple[str, ...]] | None:
    """(text, why, remedies) where none of the siblings can be loaded."""
    native = NATIVE.get(scene.architecture)
    if native is None:
        return None
    fitting = [each for each in libraries if each.machine in native.machines and each.bits == native.bits]
    name = libraries[0].name.rpartition(b"/")[2]
    if not fitting:
        others = sorted({_machine(each) for each in libraries})
        text = f"{show(name)} is there for {', '.join(others[:_SHOWN_NAMES])}, and the image is for {scene.architecture}"
        return text, f"Loading it ends in java.lang.UnsatisfiedLinkError on {scene.architecture}.", ()
    problems = [_problem(scene, each) for each in fitting]
    if any(problem is None for problem in problems):
        return None
    return problems[0]


def _machine(library: NativeLibrary) -> str:
    own = (name for name, kind in NATIVE.items() if library.machine in kind.machines and library.bits == kind.bits)
    return next(own, f"machine {library.machine}")


def _problem(scene: _Scene, library: NativeLibrary) -> tuple[str, str, tuple[str, ...]] | None:
    """What the loader says of a library for this machine; None where it has what it names."""
    base = library.name.rpartition(b"/")[2]
    path = b"/tmp/" + base
    error = f"java.lang.UnsatisfiedLinkError: {show(path)}: "
    if scene.musl:
        lacking = next((each for each in library.needed if not _MUSL_OWN.match(each) and not _find(scene.rootfs, each)), None)
        if lacking is None:
            return None
        text = f"{error}Error loading shared library {show(lacking)}: No such file or directory (needed by {show(path)})"
        if _GLIBC_LOADER.fullmatch(lacking):
            words = "It is linked for glibc, and the jar has no sibling for musl."
            return text, words, ("Use a base with glibc (a Debian or Ubuntu JRE), or a release of the jar with a musl library.",)
        return text, "", (f"Install the package that has {show(lacking)}.",)
    lacking = next((each for each in library.needed if not _find(scene.rootfs, each)), None)
    if lacking is not None:
        text = f"{error}{show(lacking)}: cannot open shared object file: No such file or directory"
        words = "It is linked for musl." if _MUSL_LIBC.fullmatch(lacking) else ""
        return text, words, (f"Install the package that has {show(lacking)}.",)
    for need in library.verneed:
        provider = _find(scene.rootfs, need.file)
        facts = None if provider is None else scene.rootfs.elf(provider)
        if need.weak or provider is None or facts is None or not facts.verdef:
            continue
        if need.version not in {each.version for each in facts.verdef}:
            family = show(need.version).rpartition("_")[0]
            best = [show(each.version) for each in facts.verdef if show(each.version).startswith(family + "_")]
            has = max(best, key=version_key, default="none")
            text = f"{error}{show_path(provider.path)}: version `{show(need.version)}' not found (required by {show(path)})"
            return text, f"The image's {show(need.file)} defines {family} up to {has}.", ("Use a newer base.",)
    return None


def _find(rootfs: Rootfs, name: bytes) -> Node | None:
    """A library of that name anywhere that loaders usually look; what is elsewhere has the benefit of the doubt."""
    return rootfs.remember(("java-library", name), lambda: _look_for(rootfs, name))


def _look_for(rootfs: Rootfs, name: bytes) -> Node | None:
    for folder in _LIBRARY_FOLDERS:
        found = rootfs.resolve(b"/" + folder + b"/" + name).node
        if found is not None:
            return found
    return next((node for node in rootfs.named(name) if node.entry.kind in (Kind.FILE, Kind.SYMLINK)), None)


# -- a JDK --


def _jdk_findings(rootfs: Rootfs, found: Sequence[Jvm]) -> Iterator[Finding]:
    for jvm in found:
        compiler = rootfs.resolve(b"/" + jvm.home + b"/bin/javac").node
        modules = rootfs.resolve(b"/" + jvm.home + b"/jmods").node
        if jvm.image_type != "JDK" and compiler is None and modules is None:
            continue
        size = _jdk_bytes(rootfs, jvm)
        if not size:
            continue
        text = f"{size / 1e6:.1f} MB of the {jvm.words} in {show_path(jvm.home)} are for compiling and linking"
        yield _finding("java.jdk-in-image", text, jvm.node, rootfs)


def _jdk_bytes(rootfs: Rootfs, jvm: Jvm) -> int:
    """Bytes of what a JRE of the same release leaves out."""
    home = jvm.home
    total = 0
    for folder in _JDK_ONLY:
        found = rootfs.resolve(b"/" + home + b"/" + folder).node
        if found is not None and found.entry.kind == Kind.DIRECTORY:
            total += sum(node.entry.size for node in rootfs.children(found.path))
    files = [*_JDK_FILES, *(b"bin/" + name for name in _JDK_PROGRAMS)]
    for path in files:
        node = rootfs.resolve(b"/" + home + b"/" + path).node
        total += node.entry.size if node is not None else 0
    return total
