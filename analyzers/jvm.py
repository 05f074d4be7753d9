"""The Java runtimes of an image: where each lies, of which release it is, and which class files it reads.

A runtime is known by the `release` file in its home (R6). Knows releases and class-file versions (R1, R2), no command lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import show
from analyzers.rootfs import Node, Rootfs

_FIRST_MAJOR = 44
"""A class file of release N has the major version 44 + N (R1)."""
_FIELD = re.compile(r'^([A-Z_]+)="?([^"\n]*)"?\s*$', re.MULTILINE)


class Jvm(NamedTuple):
    """One Java runtime."""

    home: bytes
    """Canonical path of its directory, without a leading slash."""
    release: int
    version: str
    """JAVA_VERSION as written."""
    implementor: str
    image_type: str
    """`JDK`, `JRE` or empty where the file does not say (before 17, and of what jlink makes)."""
    libc: str
    """`gnu`, `musl`, or empty before 16."""
    openj9: bool
    node: Node

    @property
    def newest_class(self) -> int:
        """The highest major version that it reads."""
        return _FIRST_MAJOR + self.release

    @property
    def words(self) -> str:
        kind = self.image_type or "runtime"
        return f"{kind} {self.version}" + (f" of {self.implementor}" if self.implementor else "")


def release_of(major: int) -> str:
    """The Java release whose compiler writes class files of this version."""
    return f"Java {major - _FIRST_MAJOR}" if major > _FIRST_MAJOR + 4 else f"Java 1.{max(major - _FIRST_MAJOR, 1)}"


def find_jvm(rootfs: Rootfs, program: bytes) -> Jvm | None:
    """The runtime whose launcher is `program` (canonical, `HOME/bin/java`); None where its release cannot be told."""
    directory, _, _ = program.rpartition(b"/")
    home, slash, folder = directory.rpartition(b"/")
    if folder != b"bin" or not slash:
        return None
    for place in (home, home.removesuffix(b"/jre")):
        found = rootfs.resolve(b"/" + place + b"/release").node
        jvm = None if found is None else read_release(rootfs, found)
        if jvm is not None:
            return jvm._replace(home=home)
    return None


def read_release(rootfs: Rootfs, node: Node) -> Jvm | None:
    """The runtime that a `release` file tells of."""
    text = rootfs.text(node)
    if text is None:
        return None
    fields = dict(_FIELD.findall(show_lines(text)))
    numbers = re.match(r"(?:1\.)?(\d{1,3})", fields.get("JAVA_VERSION", ""))
    if numbers is None:
        return None
    home = node.path.rpartition(b"/")[0]
    said = text.lower()
    return Jvm(
        home,
        int(numbers[1]),
        fields["JAVA_VERSION"][:100],
        fields.get("IMPLEMENTOR", "")[:100],
        fields.get("IMAGE_TYPE", "")[:10],
        fields.get("LIBC", "")[:10],
        b"openj9" in said or b"ibm" in said,
        node,
    )


def show_lines(text: bytes) -> str:
    return "\n".join(show(line) for line in text.splitlines())


def jvms(rootfs: Rootfs) -> Iterator[Jvm]:
    """Every runtime that can be seen, by path."""
    paths = {path for facts in rootfs.layers for path in facts.texts if path.rpartition(b"/")[2] == b"release"}
    for path in sorted(paths):
        node = rootfs.resolve(b"/" + path, follow=False).node
        if node is None or node.entry.kind != Kind.FILE:
            continue
        jvm = read_release(rootfs, node)
        if jvm is not None and rootfs.resolve(b"/" + jvm.home + b"/lib").node is not None:
            yield jvm
