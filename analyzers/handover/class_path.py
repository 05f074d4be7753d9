"""Where the JVM's application class loader finds a class: directories, jars, and the jars that their manifests name.

Mirrors `jdk.internal.loader.URLClassPath` and the launcher's wildcards (libjli `wildcard.c`). What cannot be known (a jar that
was not read, a file that is no jar by its name) ends the search without an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from analyzers.accounts import Credentials
from analyzers.facts import Kind
from analyzers.finding import Attempt, Outcome, show
from analyzers.jar_facts import JarFacts
from analyzers.rootfs import Node, Rootfs
from analyzers.trail import attempt

_ELEMENTS = 2_000
_SHOWN_ATTEMPTS = 64
_FIRST_VERSIONED = 9


class FoundClass(NamedTuple):
    """A class file: where, and of which version; (0, 0) where that is not known."""

    node: Node
    """The class file, or the jar that has it."""
    element: bytes
    """Of the class path, as it came about."""
    major: int
    minor: int


class Search(NamedTuple):
    """What a search gave: a class, nothing (`found` is None), or no answer (`unknown`)."""

    found: FoundClass | None
    attempts: tuple[Attempt, ...] = ()
    unknown: str = ""


class ClassPath:
    """A class path in an image."""

    def __init__(self, rootfs: Rootfs, cwd: bytes, creds: Credentials, release: int) -> None:
        self.rootfs = rootfs
        self.cwd = cwd
        self.creds = creds
        self.release = release

    def elements(self, written: bytes) -> Iterator[bytes]:
        """Elements between colons; one that ends in `*` stands for the jars of its directory, in an order nobody promises."""
        for element in written.split(b":"):
            if element == b"*" or element.endswith(b"/*"):
                yield from self._jars_of(element[:-1])
            else:
                yield element or b"."

    def _jars_of(self, directory: bytes) -> Iterator[bytes]:
        found = self.rootfs.resolve(directory or b".", cwd=self.cwd, creds=self.creds)
        if found.node is None or found.node.entry.kind != Kind.DIRECTORY:
            return
        for node in self.rootfs.children(found.node.path):
            name = node.path.rpartition(b"/")[2]
            if name.endswith((b".jar", b".JAR")):
                yield directory + name

    def find(self, written: bytes, name: bytes) -> Search:
        """The class `name` (with slashes), in the first element that has it."""
        return self.look(list(self.elements(written)), name)

    def look(self, elements: list[bytes], name: bytes) -> Search:
        """The class in the first of these elements that has it, and in those that their manifests add behind them."""
        todo, seen = elements[::-1], set[bytes]()
        attempts: list[Attempt] = []
        while todo:
            element = todo.pop()
            if element in seen:
                continue
            seen.add(element)
            if len(seen) > _ELEMENTS:
                return Search(None, tuple(attempts), "the class path is too long to follow")
            search, more = self._look_at(element, name)
            if len(attempts) < _SHOWN_ATTEMPTS:
                attempts.extend(search.attempts)
            if search.found is not None or search.unknown:
                return search._replace(attempts=tuple(attempts))
            todo.extend(more[::-1])
        return Search(None, tuple(attempts))

    def _look_at(self, element: bytes, name: bytes) -> tuple[Search, list[bytes]]:
        """(what one element gives, the elements its manifest adds)."""
        resolved = self.rootfs.resolve(element, cwd=self.cwd, creds=self.creds)
        node = resolved.node
        if resolved.unknown:
            return Search(None, (), "a layer was not wholly read"), []
        if node is None:
            return Search(None, (attempt(self.rootfs, "class path", element, resolved),)), []
        if node.entry.kind == Kind.DIRECTORY:
            return self._in_directory(element, name), []
        if node.entry.kind != Kind.FILE:
            return Search(None, (), "an element of the class path is neither file nor directory"), []
        if not self.rootfs.may_read(node, self.creds):
            return Search(None, (attempt(self.rootfs, "class path", element, resolved, Outcome.DENIED),)), []
        jar = self.rootfs.jar(node)
        if jar is None and node.entry.size == 0:
            return Search(None, (attempt(self.rootfs, "class path", element, resolved, Outcome.TOO_SHORT),)), []
        if jar is None or self.rootfs.unread(node):
            return Search(None, (), f"{show(element)} was not read as a jar"), []
        found = in_jar(jar, name, self.release)
        if found is not None:
            tried = attempt(self.rootfs, "class path", element, resolved, Outcome.FOUND)
            return Search(FoundClass(node, element, *found), (tried,)), []
        if jar.defects or (jar.odd_manifest and not jar.absent_end):
            return Search(None, (), f"{show(element)} is an odd archive"), []
        more = _named_by(element, jar)
        if more is None:
            return Search(None, (), f"the Class-Path of {show(element)} is not followed"), []
        tried = attempt(self.rootfs, "class path", element, resolved, Outcome.ABSENT, "the jar has no such class")
        return Search(None, (tried,)), more

    def _in_directory(self, element: bytes, name: bytes) -> Search:
        path = element.rstrip(b"/") + b"/" + name + b".class"
        resolved = self.rootfs.resolve(path, cwd=self.cwd, creds=self.creds)
        node = resolved.node
        if resolved.unknown:
            return Search(None, (), "a layer was not wholly read")
        tried = attempt(self.rootfs, "class path", path, resolved)
        if node is None or node.entry.kind == Kind.DIRECTORY:
            return Search(None, (tried,))
        if not self.rootfs.may_read(node, self.creds):
            return Search(None, (attempt(self.rootfs, "class path", path, resolved, Outcome.DENIED),))
        version = self.rootfs.class_file(node)
        if version is None:
            return Search(None, (tried,), f"{show(path)} was not read as a class file")
        return Search(FoundClass(node, element, *version), (tried,))


def in_jar(jar: JarFacts, name: bytes, release: int) -> tuple[int, int] | None:
    """(major, minor) of the class a JVM of this release takes from the jar, versioned directories included (R5)."""
    versions = jar.versions()
    if jar.multi_release:
        for number in range(release, _FIRST_VERSIONED - 1, -1):
            found = versions.get(b"META-INF/versions/%d/" % number + name)
            if found is not None:
                return found
    return versions.get(name)


def _named_by(element: bytes, jar: JarFacts) -> list[bytes] | None:
    """Class-Path of the manifest: URLs relative to the jar, those of other kinds left out; None where one is escaped."""
    folder = element.rpartition(b"/")[0] + b"/" if b"/" in element else b""
    named: list[bytes] = []
    for each in jar.class_path:
        path = each.removeprefix(b"file:")
        if b"%" in path:
            return None
        if b":" in path:
            continue
        named.append(path if path.startswith(b"/") else folder + path)
    return named
