"""Which package of a distribution brought a shared library: read from the databases of dpkg and apk as they stream by.

Kept is one pair for each library in a directory that loaders search by themselves: its file name, which is its soname or leads
to it, and the package. That is what a remedy needs: the name to install where this library is missing. Lines that are no such
thing are passed over, so a broken database only teaches less.
"""

from __future__ import annotations

import re

DPKG, DPKG_SUMS, APK = "dpkg", "dpkg-sums", "apk"
PACKAGE_ENDINGS = (b".list", b".md5sums", b"/installed")
"""Every path that `database_of` knows ends in one of these; a cheap first look."""
_LIBRARY = re.compile(
    rb"(?:usr/)?lib(?:32|64|x32)?/(?:[a-z0-9_]+-linux-[a-z0-9]+/)?((?:lib|ld-)[^/]{1,120}\.so(?:\.[0-9][^/]{0,40})?)"
)
_LINE_BYTES = 4_096
_KEPT = 20_000
"""Pairs of one layer; a distribution's whole archive installed at once has fewer."""
DATABASE_BYTES = 32 << 20
"""Of one database; what follows is not looked at (decisions 24)."""


def database_of(path: bytes) -> str:
    """The kind of package database a file is, by its path; empty for all others."""
    directory, _, name = path.rpartition(b"/")
    if directory == b"var/lib/dpkg/info" and name.endswith(b".list"):
        return DPKG
    if directory == b"var/lib/dpkg/status.d" and name.endswith(b".md5sums"):
        return DPKG_SUMS  # images without dpkg itself, such as distroless
    return APK if path in (b"lib/apk/db/installed", b"usr/lib/apk/db/installed") else ""


class PackageSink:
    """Fed one database in order; adds to `found`: file name of a library to package."""

    __slots__ = ("_directory", "_found", "_kind", "_left", "_line", "_package")

    def __init__(self, path: bytes, found: dict[bytes, bytes]) -> None:
        self._kind = database_of(path)
        self._found = found
        name = path.rpartition(b"/")[2].rpartition(b".")[0]
        self._package = b"" if self._kind == APK else name.partition(b":")[0]
        self._directory = b""
        self._line = b""
        self._left = DATABASE_BYTES

    def feed(self, view: memoryview) -> None:
        if self._left <= 0:
            return
        *lines, rest = (self._line + bytes(view[: self._left])).split(b"\n")
        self._left -= len(view)
        self._line = rest[:_LINE_BYTES]
        for line in lines:
            self._take(line)

    def close(self) -> None:
        self._take(self._line)

    def _take(self, line: bytes) -> None:
        if self._kind == DPKG:
            self._file(line.removeprefix(b"/"))
        elif self._kind == DPKG_SUMS:
            self._file(line.partition(b"  ")[2].removeprefix(b"./"))
        elif line.startswith(b"P:"):
            self._package = line[2:].strip()
        elif line.startswith(b"F:"):
            self._directory = line[2:]
        elif line.startswith(b"R:"):
            self._file(self._directory + b"/" + line[2:])

    def _file(self, path: bytes) -> None:
        found = _LIBRARY.fullmatch(path)
        # The links of development packages are for linkers; who lacks a library does not want them.
        if found is None or not self._package or self._package.endswith((b"-dev", b"-devel")):
            return
        if len(self._package) <= 120 and self._package.isascii() and len(self._found) < _KEPT:
            self._found.setdefault(found[1], self._package)
