"""PHP's extensions: those that its settings turn on and its loader cannot load (failures 38). PHP warns, and goes on without.

Knows where distributions put settings and extensions, and how `ext/standard/dl.c` of PHP 7.2 and later looks for one and words
its warning. What the loader says comes from the loaders themselves (linkage.library_error).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Finding, Severity, show
from analyzers.linkage import library_error
from analyzers.lookup import variable
from analyzers.oci import ImageConfig
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs
from analyzers.rules import RULES
from analyzers.start import Start
from analyzers.trail import show_path

_SETTINGS = (
    # (parent, names of children that hold `conf.d`, the directory within; where extensions lie, with the pattern of its name)
    (b"etc/php", re.compile(rb"\d\.\d"), (b"cli/conf.d", b"fpm/conf.d", b"apache2/conf.d", b"cgi/conf.d")),
    (b"usr/local/etc", re.compile(rb"php"), (b"conf.d",)),
    (b"etc", re.compile(rb"php\d*"), (b"conf.d",)),
    (b"etc", re.compile(rb"php\.d"), (b".",)),
)  # fmt: skip
_EXTENSIONS = (
    (b"usr/lib/php", re.compile(rb"\d{8}"), b"."),  # Debian
    (b"usr/local/lib/php/extensions", re.compile(rb"no-debug-(?:non-)?zts-\d{8}"), b"."),  # the official image
    (b"usr/lib", re.compile(rb"php\d+"), b"modules"),  # Alpine
    (b"usr/lib64", re.compile(rb"php"), b"modules"),  # Fedora and RHEL
)
_LINE = re.compile(rb"^[ \t]*(extension|zend_extension|extension_dir)[ \t]*=[ \t]*\"?([^\"\s;]+)\"?", re.MULTILINE)
_SHOWN = 40
_ABSENT = {"glibc": "{0}: cannot open shared object file: No such file or directory",
           "musl": "Error loading shared library {0}: No such file or directory"}  # fmt: skip


class _Wanted(NamedTuple):
    """An extension that a settings file turns on."""

    kind: bytes
    name: bytes
    settings: Node


def php_findings(rootfs: Rootfs, start: Start, config: ImageConfig, profile: HostProfile) -> Iterator[Finding]:
    """One for each extension that cannot be loaded; nothing where no single directory of extensions is known."""
    wanted, directory = _read_settings(rootfs)
    if not wanted or variable(start.env, b"PHP_INI_SCAN_DIR") is not None:
        return
    folder = directory or _only_directory(rootfs)
    if folder is None:
        return
    musl = start.loaded is not None and start.loaded.family == "musl"
    told: set[tuple[bytes, bytes]] = set()
    for each in wanted:
        if (each.kind, each.name) in told or len(told) >= _SHOWN:
            continue
        said = _try(rootfs, each, folder, start, config, profile, absent=_ABSENT["musl" if musl else "glibc"])
        if said is None:
            continue
        told.add((each.kind, each.name))
        rule = RULES["php.extension-unloadable"]
        settings = show_path(each.settings.path)
        yield Finding(
            rule.id,
            Severity.LATER,
            said,
            settings,
            rootfs.layer_of(each.settings),
            why=f"{rule.why} It is turned on by {settings}.",
            remedies=(rule.remedy,),
        )


def _read_settings(rootfs: Rootfs) -> tuple[list[_Wanted], bytes | None]:
    """(extensions turned on, extension_dir where it is set)."""
    wanted: list[_Wanted] = []
    directory: bytes | None = None
    for node in _settings_files(rootfs):
        text = rootfs.text(node)
        for kind, value in _LINE.findall(text or b""):
            if kind == b"extension_dir":
                directory = value.rstrip(b"/")
            else:
                wanted.append(_Wanted(kind, value, node))
    return wanted, directory


def _settings_files(rootfs: Rootfs) -> Iterator[Node]:
    """Those that are read at the start, the links of Debian followed; a file read for several programs comes once."""
    seen: set[bytes] = set()
    for parent, pattern, within in _SETTINGS:
        for folder in _matching(rootfs, parent, pattern):
            for part in within:
                found = rootfs.resolve(b"/" + folder + b"/" + part).node
                if found is None or found.entry.kind != Kind.DIRECTORY:
                    continue
                for child in rootfs.children(found.path):
                    node = rootfs.resolve(b"/" + child.path).node if child.path.endswith(b".ini") else None
                    if node is not None and node.path not in seen:
                        seen.add(node.path)
                        yield node


def _matching(rootfs: Rootfs, parent: bytes, pattern: re.Pattern[bytes]) -> list[bytes]:
    found = rootfs.resolve(b"/" + parent).node
    if found is None or found.entry.kind != Kind.DIRECTORY:
        return []
    children = rootfs.children(found.path)
    return [each.path for each in children if pattern.fullmatch(each.path.rpartition(b"/")[2])]


def _only_directory(rootfs: Rootfs) -> bytes | None:
    """The directory of extensions that is compiled into PHP: told by where it lies, if there is but one."""
    folders: list[bytes] = []
    for parent, pattern, within in _EXTENSIONS:
        for folder in _matching(rootfs, parent, pattern):
            found = rootfs.resolve(b"/" + folder + b"/" + within).node
            if found is not None and found.entry.kind == Kind.DIRECTORY:
                folders.append(b"/" + folder if within == b"." else b"/" + folder + b"/" + within)
    return folders[0] if len(folders) == 1 else None


def _try(
    rootfs: Rootfs, wanted: _Wanted, folder: bytes, start: Start, config: ImageConfig, profile: HostProfile, *, absent: str
) -> str | None:
    """The warning for an extension, None when it can be loaded (`php_load_extension`, `zend_load_extension`)."""
    if b"/" in wanted.name:
        first, second = wanted.name, folder + b"/" + wanted.name + b".so"
    else:
        first, second = folder + b"/" + wanted.name, folder + b"/" + wanted.name + b".so"
    errors = []
    for path in (first, second):
        found = rootfs.resolve(path)
        if found.unknown or (found.node is not None and rootfs.unread(found.node)):
            return None
        error = absent.format(show(path)) if found.node is None else library_error(rootfs, path, start, config, profile)
        if not error:
            return None
        errors.append(error)
    name = show(wanted.name)
    if wanted.kind == b"extension":
        words = f"PHP Startup: Unable to load dynamic library '{name}'"
    elif b"/" in wanted.name:
        return f"Failed loading {name}:  {errors[0]}"
    else:
        words = f"Failed loading Zend extension '{name}'"
    tried = _tried((first, second), errors)
    return f"{words} (tried: {tried}) in Unknown on line 0"


def _tried(paths: Sequence[bytes], errors: Sequence[str]) -> str:
    return ", ".join(f"{show(path)} ({error})" for path, error in zip(paths, errors, strict=True))
