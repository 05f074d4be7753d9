"""Why a loader gave up: the rule, what this image adds to its words, and what would mend it.

The loaders say what happened (LoadResult); this file looks around in the image for where the right file might be, which layer
brought the wrong one, and which releases have what is wanted. Knows the words of scenarios.md, no search orders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from analyzers.facts import Kind
from analyzers.finding import Outcome, Reason, Step, show
from analyzers.kernel import NATIVE
from analyzers.loader import LoadResult
from analyzers.oci import ImageConfig
from analyzers.removed import removals
from analyzers.rootfs import Node, Rootfs
from analyzers.start import Start
from analyzers.trail import layer_words, show_path

_SHOWN_MISSING = 10
_GLIBC_PARTS = frozenset(
    b"libc.so.6 libdl.so.2 libm.so.6 libpthread.so.0 librt.so.1 libresolv.so.2 libutil.so.1 libnsl.so.1 libanl.so.1".split()
)
_MERGED = frozenset(b"libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 libanl.so.1".split())
"""Since glibc 2.34 these are empty stubs beside libc.so.6 (G57)."""
_PACKAGES: dict[bytes, tuple[str, str]] = {
    # soname: (Debian package, Alpine package)
    b"libgcc_s.so.1": ("libgcc-s1", "libgcc"),
    b"libstdc++.so.6": ("libstdc++6", "libstdc++"),
    b"libatomic.so.1": ("libatomic1", "libatomic"),
    b"libssl.so.3": ("libssl3", "libssl3"),
    b"libcrypto.so.3": ("libssl3", "libcrypto3"),
    b"libz.so.1": ("zlib1g", "zlib"),
    b"libcurl.so.4": ("libcurl4", "libcurl"),
    b"libpq.so.5": ("libpq5", "libpq"),
    b"libsqlite3.so.0": ("libsqlite3-0", "sqlite-libs"),
    b"libGL.so.1": ("libgl1", "mesa-gl"),
    b"libgomp.so.1": ("libgomp1", "libgomp"),
    b"libffi.so.8": ("libffi8", "libffi"),
    b"libxml2.so.2": ("libxml2", "libxml2"),
}
# The first releases with a glibc or a libstdc++ that defines a version (field knowledge: the distributions' own packages).
_GLIBC_RELEASES = (
    ((2, 28), "Debian 10, Ubuntu 18.10, RHEL 8"),
    ((2, 31), "Debian 11, Ubuntu 20.04"),
    ((2, 34), "Debian 12, Ubuntu 22.04, RHEL 9"),
    ((2, 35), "Debian 12, Ubuntu 22.04"),
    ((2, 36), "Debian 12, Ubuntu 23.04"),
    ((2, 39), "Debian 13, Ubuntu 24.04, RHEL 10"),
    ((2, 41), "Debian 13, Ubuntu 25.04"),
)
_LIBSTDCXX_RELEASES = (
    ((3, 4, 25), "Debian 10, Ubuntu 18.10, RHEL 8"),
    ((3, 4, 28), "Debian 11, Ubuntu 20.04"),
    ((3, 4, 29), "Debian 12, Ubuntu 22.04, RHEL 9"),
    ((3, 4, 30), "Debian 12, Ubuntu 22.04"),
    ((3, 4, 33), "Debian 13, Ubuntu 24.04, RHEL 10"),
)
# What a loader's words mean to whoever built the image.
_MEANINGS = (
    (b"invalid ELF header", "The file found first is no ELF file, and the loader looks no further: often a linker script of a "
     "development package, a placeholder of git-lfs, or a page saved by a download that failed."),
    (b"file too short", "The file found first is empty or nearly so, and the loader looks no further."),
    (b"cannot read file data", "What stands at that path cannot be read as a file, and the loader looks no further: often a "
     "directory that COPY made."),
    (b"cannot dynamically load", "The file is a program, not a library."),
    (b"no dynamic section", "The file has only debugging information."),
    (b"page-aligned", "The file was linked for smaller pages than the host has."),
    (b"IFUNC symbol", "The library asks the program for a function that is chosen at run time, before the program is ready."),
    (b"Assertion", "The loader found the object's version tables in contradiction and stopped itself."),
    (b"unexpected reloc", "The file was linked for another loader or another machine."),
    (b"unexpected PLT", "The file was linked for another loader or another machine."),
    (b"unsupported relocation", "The file was linked for another loader or another machine."),
    (b"Exec format error", "What was found is no library for this machine, and the loader looks no further."),
)  # fmt: skip


class Cause(msgspec.Struct, frozen=True):
    """A rule picked for a failure, with what this image adds to its words."""

    rule: str
    why: str = ""
    remedies: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    reason: Reason | None = None
    """The reason of the verdict where one rule has several faces; None: the rule's own."""


def load_cause(start: Start, rootfs: Rootfs, config: ImageConfig) -> Cause:
    """The cause behind a load that failed."""
    loaded = start.loaded
    if loaded is None:
        return Cause(start.cause)
    if loaded.crash:
        return _crash(loaded)
    if b"GLIBC_PRIVATE" in loaded.wanted or any(version == "GLIBC_PRIVATE" for _, version, _ in loaded.unmet_versions):
        return Cause("load.mixed-libc", f"{_by(loaded)} wants {show(loaded.wanted)}.", reason=loaded.reason)
    match loaded.reason:
        case Reason.LIBRARY_ABSENT:
            return _library_absent(loaded, rootfs, config)
        case Reason.VERSION:
            return _version(loaded, rootfs, config)
        case Reason.SYMBOL if loaded.wanted:
            return _symbol(loaded, rootfs, config)
        case Reason.PERMISSION:
            return _permission(loaded)
        case Reason.ARCHITECTURE:
            return _architecture(start, loaded, rootfs)
        case Reason.PATH:  # of a loader that was run as a command
            return Cause("path.absent")
    words = next((meaning for mark, meaning in _MEANINGS if mark in start.message), "")
    by = f"{_by(loaded)} needs {show(loaded.wanted)}." if loaded.wanted and loaded.wanted_by else ""
    return Cause("load.refused", f"{words} {by}".strip())


def _by(loaded: LoadResult) -> str:
    return show(loaded.wanted_by) or "The program"


def _failed_step(loaded: LoadResult) -> Step | None:
    return next((step for step in reversed(loaded.steps) if not step.ok and step.action in ("library", "preload")), None)


# -- a library that is not there --


def _library_absent(loaded: LoadResult, rootfs: Rootfs, config: ImageConfig) -> Cause:
    base = loaded.wanted.rpartition(b"/")[2]
    words = [f"{_by(loaded)} needs {show(loaded.wanted)}."]
    others = [f"{name} (for {by})" for name, by in loaded.missing[1 : _SHOWN_MISSING + 1]]
    if others:
        more = len(loaded.missing) - 1 - len(others)
        words.append(f"Also missing: {', '.join(others)}" + (f" and {more} more." if more else "."))
    remedies = list(_library_remedies(base, loaded.family))
    removal = next(removals(rootfs, base), None)
    if removal is not None:
        remedies.insert(0, f"Keep {show_path(removal.path)} in {layer_words(config, removal.took)}.")
    found = find_file(rootfs, base)
    if found is not None:
        folder = show_path(found.path.rpartition(b"/")[0])
        words.append(f"A file of that name lies at {show_path(found.path)}, where the loader does not look.")
        if loaded.family == "glibc":
            remedies.insert(0, f"Run ldconfig in the build, or set LD_LIBRARY_PATH or a run path that names {folder}.")
        else:
            remedies.insert(0, f"Set LD_LIBRARY_PATH or a run path that names {folder}, or add it to the loader's path file.")
    if base in _MERGED and loaded.family == "glibc":
        words.append("Since glibc 2.34 its code is in libc.so.6, but the file is still asked for.")
    return Cause("load.library-absent", " ".join(words), tuple(remedies))


def _library_remedies(soname: bytes, family: str) -> tuple[str, ...]:
    if soname in _GLIBC_PARTS:
        return (
            "It is part of glibc, which this image has only in part: use a base with all of it "
            "(debian:stable-slim, distroless/cc), or copy the file from the image the program was built in.",
            "Or link statically (Rust: the *-unknown-linux-musl target).",
        )
    packages = _PACKAGES.get(soname)
    if packages is None:
        return ()
    debian, alpine = packages
    return (f"Install {alpine if family == 'musl' else debian}.",)


def find_file(rootfs: Rootfs, base: bytes) -> Node | None:
    """The first visible file of that name, wherever it lies; reads every path, so only after a failure."""
    return next((node for node in rootfs.named(base) if node.entry.kind in (Kind.FILE, Kind.SYMLINK)), None) if base else None


# -- versions and symbols --


def _version(loaded: LoadResult, rootfs: Rootfs, config: ImageConfig) -> Cause:
    if not loaded.unmet_versions:
        return Cause("load.version-not-found")
    wanted: dict[tuple[str, str], list[str]] = {}
    for provider, version, by in loaded.unmet_versions:
        wanted.setdefault((provider, by), []).append(version)
    words = []
    for (provider, by), versions in list(wanted.items())[:_SHOWN_MISSING]:
        newest = max(versions, key=version_key)
        more = f" and {len(versions) - 1} more" if len(versions) > 1 else ""
        words.append(f"{by} wants {newest}{more} of {provider}{_provider_words(loaded, rootfs, config, provider, newest)}.")
    hint = _release_hint([version for _, version, _ in loaded.unmet_versions])
    return Cause("load.version-not-found", " ".join(words), hint)


def _provider_words(loaded: LoadResult, rootfs: Rootfs, config: ImageConfig, provider: str, version: str) -> str:
    """Which layer brings it, and up to which version it goes."""
    found = next((each for each in loaded.objects if show(each.path) == provider and each.node is not None), None)
    node = None if found is None else found.node
    facts = None if node is None else rootfs.elf(node)
    if node is None or facts is None:
        return ""
    family = version.rpartition("_")[0] + "_"
    defined = [show(each.version) for each in facts.verdef if not each.base and show(each.version).startswith(family)]
    defined = [each for each in defined if version_key(each)]
    words = ""
    layer = rootfs.layer_of(node)
    if layer is not None:
        words += f", which {layer_words(config, layer)} brings"
    if defined:
        words += f" and which defines {family[:-1]} up to {max(defined, key=version_key)}"
    return words


def version_key(version: str) -> tuple[int, ...]:
    """The numbers of `GLIBC_2.34`, to compare by; empty for a name without any."""
    return tuple(int(part) for part in version.rpartition("_")[2].split(".") if part.isdigit())


def _release_hint(versions: Iterable[str]) -> tuple[str, ...]:
    """Which distributions have the newest of these versions."""
    hints = []
    for prefix, table in (("GLIBC_", _GLIBC_RELEASES), ("GLIBCXX_", _LIBSTDCXX_RELEASES)):
        keys = [version_key(version) for version in versions if re.fullmatch(prefix + r"[\d.]+", version)]
        if keys:
            fitting = next((names for release, names in table if release >= max(keys)), None)
            if fitting is not None:
                dotted = prefix + ".".join(map(str, max(keys)))
                hints.append(f"Use a base that has {dotted}: {fitting} or later.")
    return tuple(hints)


def _symbol(loaded: LoadResult, rootfs: Rootfs, config: ImageConfig) -> Cause:
    name, _, version = loaded.wanted.partition(b"@")
    words = [f"{_by(loaded)} wants {show(name)}" + (f" of version {show(version)}." if version else ".")]
    asking = next((each for each in loaded.objects if each.path == loaded.wanted_by and each.node is not None), None)
    facts = None if asking is None or asking.node is None else rootfs.elf(asking.node)
    files = {need.file for need in facts.verneed if need.version == version} if facts is not None and version else set()
    for provider in loaded.objects:
        if provider.name.encode("utf-8", "surrogateescape") in files and provider.node is not None:
            layer = rootfs.layer_of(provider.node)
            brought = f", which {layer_words(config, layer)} brings" if layer is not None else ""
            words.append(f"It expects it in {show(provider.path)}{brought}.")
    others = len(loaded.unbound) - 1
    if others > 0:
        words.append(f"{others} more {'symbols are' if others > 1 else 'symbol is'} missing before the start.")
    return Cause("load.symbol-not-found", " ".join(words))


# -- files that cannot be used --


def _permission(loaded: LoadResult) -> Cause:
    step = _failed_step(loaded)
    denied = [each.path for each in step.attempts if each.outcome is Outcome.DENIED] if step is not None else []
    words = f"{_by(loaded)} needs {show(loaded.wanted)}; {denied[0]} is closed to the user." if denied else ""
    return Cause("load.closed-to-user", words, tuple(f"chmod a+rX {path}" for path in denied[:1]))


def _architecture(start: Start, loaded: LoadResult, rootfs: Rootfs) -> Cause:
    if b"CPU" in start.message:
        return Cause("load.cpu-level")
    step = _failed_step(loaded)
    unfit = [each for each in step.attempts if each.outcome in (Outcome.WRONG_CLASS, Outcome.WRONG_MACHINE)] if step else []
    words = [f"{_by(loaded)} needs {show(loaded.wanted)}."]
    for each in unfit[:1]:
        node = rootfs.resolve(each.path.encode("utf-8", "surrogateescape"), cwd=start.cwd).node
        facts = None if node is None else rootfs.elf(node)
        if facts is not None:
            own = (name for name, kind in NATIVE.items() if facts.machine in kind.machines and facts.bits == kind.bits)
            words.append(f"{each.path} is for {next(own, f'machine {facts.machine}')}.")
    return Cause("load.wrong-architecture", " ".join(words))


def _crash(loaded: LoadResult) -> Cause:
    if loaded.crash == "SIGABRT":
        return Cause("load.mixed-libc", f"The loader is of {loaded.family} {loaded.version}, {show(loaded.wanted)} is not.")
    words = f"It is {show(loaded.wanted)} that it dies of." if loaded.wanted else ""
    if any(b"Relink" in line for line in loaded.lines):
        words += " It uses the C library but does not say so (DT_NEEDED), and is made ready before it."
        return Cause("load.crash", words.strip(), ("Link the library with -lc.",))
    return Cause("load.crash", words)
