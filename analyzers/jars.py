"""A jar's bytes, fed in order, become its facts; only the ranges that matter are kept (decisions 1).

A jar up to the ceiling is kept as it comes. Of a bigger one its latest part is: the central directory stands at the end and
tells which ranges are wanted. Those that had left by then are reported in `missed`, and a second pass with them as
`known_ranges` reads them. Jars inside jars are read to the second depth; what inflates has one budget a jar (hostile 98-102).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, deque
from typing import NamedTuple

from analyzers.elf.memory import FileBytes
from analyzers.elf.ranges import cut, join_ranges, range_bytes
from analyzers.elf.reader import read_elf
from analyzers.jar_facts import CLASS_MAGIC, UNKNOWN_VERSION, JarFacts, NativeLibrary, class_version
from analyzers.limits import Limits
from analyzers.zip import Budget, Directory, ZipEntry, read_beginning, read_directory, read_entry

JAR_ENDINGS = (b".jar", b".war", b".ear")
CLASS = b".class"
_MANIFEST = b"META-INF/MANIFEST.MF"
_VERSIONED = b"META-INF/versions/"
_MODULE = b"module-info"
_NATIVE = re.compile(rb"\.so(?:\.[0-9.]+)?\Z")
_HEADER = re.compile(rb"[A-Za-z0-9_-]{1,70}\Z")
_ELF = b"\x7fELF"
_DEPTH = 2
DEFAULT_LIMITS = Limits()


class JarResult(NamedTuple):
    """What reading one jar gave."""

    facts: JarFacts
    missed: tuple[tuple[int, int], ...] = ()
    """Ranges (start, end) found to be needed after they had passed: a second pass takes them as `known_ranges`."""
    unread: str = ""
    """Why the facts are not whole: `jar-too-large` or `jar-limit`; else empty."""


class JarReader:
    """Fed one file's bytes in order; `finish` gives the facts. `size` is the file's size as its tar header tells."""

    __slots__ = ("held", "known", "limits", "pieces", "position", "size")

    def __init__(self, size: int, limits: Limits = DEFAULT_LIMITS, known_ranges: tuple[tuple[int, int], ...] = ()) -> None:
        self.size = size
        self.limits = limits
        self.known = list(known_ranges)
        self.pieces: deque[tuple[int, bytes]] = deque()
        self.held = 0
        self.position = 0

    def feed(self, chunk: bytes | memoryview) -> None:
        start, data = self.position, bytes(chunk)
        self.position += len(data)
        for piece in self._wanted(start, data) if self.known else [(start, data)]:
            self.pieces.append(piece)
            self.held += len(piece[1])
        while (excess := self.held - self.limits.jar_kept_bytes) > 0:
            at, oldest = self.pieces.popleft()
            self.held -= min(len(oldest), excess)
            if len(oldest) > excess:
                self.pieces.appendleft((at + excess, oldest[excess:]))

    def _wanted(self, start: int, data: bytes) -> list[tuple[int, bytes]]:
        """What of the chunk lies in the known ranges, which are sorted and may be many."""
        first = max(bisect_right(self.known, (start, self.size)) - 1, 0)
        last = bisect_right(self.known, (start + len(data), 0))
        return cut([(start, data)], self.known[first:last])

    def finish(self) -> JarResult:
        """The facts of what was fed, however broken. A file shorter than announced is read as it is."""
        size = min(self.position, self.size)
        file = FileBytes(size, list(self.pieces))
        look = _Look(self.limits)
        facts = look.jar(file, b"", _DEPTH)
        missed = join_ranges(file.missed)
        if not missed:
            return JarResult(facts, (), look.unread)
        # A second pass needs what this one had too: it keeps nothing else.
        wanted = join_ranges([*look.asked, *missed])
        if self.known or range_bytes(wanted) > self.limits.jar_kept_bytes:
            return JarResult(facts, (), "jar-too-large")
        return JarResult(facts, tuple(wanted), look.unread)


def read_jar(data: bytes, limits: Limits = DEFAULT_LIMITS) -> JarResult:
    """The facts of a jar whose bytes are all at hand."""
    look = _Look(limits)
    return JarResult(look.jar(FileBytes(len(data), [(0, data)]), b"", _DEPTH), (), look.unread)


class _Asked:
    """A file that remembers all that was asked of it."""

    __slots__ = ("asked", "file", "size")

    def __init__(self, file: FileBytes, asked: list[tuple[int, int]]) -> None:
        self.file = file
        self.size = file.size
        self.asked = asked

    def read(self, offset: int, size: int) -> bytes:
        self.asked.append((max(offset, 0), min(offset + size, self.size)))
        return self.file.read(offset, size)


class _Look:
    """One look through a jar and the jars inside it, which share what may be inflated and how many classes are listed."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = Budget(limits.jar_inflated_bytes)
        self.asked: list[tuple[int, int]] = []
        """Ranges of the outermost file."""
        self.unread = ""

    def jar(self, raw: FileBytes, name: bytes, depth: int) -> JarFacts:
        outermost = depth == _DEPTH
        file = _Asked(raw, self.asked if outermost else [])
        directory = read_directory(file, self.limits.jar_entries, self.limits.jar_directory_bytes)
        defects = set(directory.defects)
        if directory.over_limit:
            self.unread = "jar-limit"
        fields = self._manifest(file, directory, defects)
        newest, newest_class = 0, b""
        counts: Counter[int] = Counter()
        names: list[bytes] = []
        versions: list[bytes] = []
        for entry in directory.entries:
            if not entry.name.endswith(CLASS):
                continue
            version = self._class_version(file, entry, defects)
            if outermost:
                names.append(entry.name.removesuffix(CLASS))
                versions.append(version)
            major = class_version(version)[0]
            if entry.name.startswith(_VERSIONED) or _is_module(entry.name):
                continue
            counts[major] += 1
            if major > newest:
                newest, newest_class = major, entry.name.removesuffix(CLASS)
        nested = tuple(self._nested(file, directory, depth, defects)) if depth else ()
        return JarFacts(
            size=file.size,
            name=name,
            module=any(entry.name == _MODULE + CLASS for entry in directory.entries),
            newest=newest,
            newest_class=newest_class,
            usual=max(counts, key=lambda each: (counts[each], each), default=0),
            class_names=b"\0".join(names),
            class_versions=b"".join(versions),
            natives=tuple(self._natives(file, directory, defects)),
            nested=nested,
            defects=tuple(sorted(defects)),
            absent_end=directory.absent,
            **fields,  # type: ignore[arg-type]
        )

    def _class_version(self, file: _Asked, entry: ZipEntry, defects: set[str]) -> bytes:
        beginning = read_beginning(file, entry, 8)
        if beginning.defect:
            defects.add(beginning.defect)
        if beginning.data is None or beginning.data[:4] != CLASS_MAGIC or len(beginning.data) < 8:
            return UNKNOWN_VERSION
        return beginning.data[4:8]

    def _content(self, file: _Asked, entry: ZipEntry, defects: set[str]) -> bytes | None:
        content = read_entry(file, entry, self.budget)
        if content.defect == "zip-limit":
            self.unread = "jar-limit"
        if content.defect:
            defects.add(content.defect)
        return content.data

    def _manifest(self, file: _Asked, directory: Directory, defects: set[str]) -> dict[str, object]:
        entry = next((entry for entry in directory.entries if entry.name.upper() == _MANIFEST), None)
        if entry is None or entry.size > self.limits.text_file_bytes:
            return {"odd_manifest": entry is not None}
        body = self._content(file, entry, defects)
        if body is None:
            return {"odd_manifest": True}
        attributes = read_manifest(body)
        if attributes is None or entry.name != _MANIFEST:
            return {"manifest": True, "odd_manifest": True}
        main_class = attributes.get(b"main-class")
        return {
            "manifest": True,
            "main_class": None if main_class is None else main_class.strip(),
            "start_class": attributes.get(b"start-class", b"").strip(),
            "class_path": tuple(attributes.get(b"class-path", b"").split()),
            "multi_release": attributes.get(b"multi-release", b"").strip().lower() == b"true",
        }

    def _natives(self, file: _Asked, directory: Directory, defects: set[str]) -> list[NativeLibrary]:
        found: list[NativeLibrary] = []
        for entry in directory.entries:
            if not _NATIVE.search(entry.name) or entry.size <= len(_ELF):
                continue
            magic = read_beginning(file, entry, len(_ELF))
            if magic.data not in (_ELF, None):
                continue  # a library of another system, or one that is none
            if len(found) >= self.limits.jar_natives:
                self.unread = "jar-limit"
                break
            data = self._content(file, entry, defects)
            if data is None:
                continue
            facts = read_elf(data, self.limits).facts
            found.append(
                NativeLibrary(
                    entry.name,
                    len(data),
                    facts.bits,
                    facts.machine,
                    facts.soname,
                    facts.needed,
                    facts.verneed,
                    facts.little,
                    facts.ident[7:8] in (b"\x00", b"\x03"),
                )
            )
        return found

    def _nested(self, file: _Asked, directory: Directory, depth: int, defects: set[str]) -> list[JarFacts]:
        found: list[JarFacts] = []
        for entry in directory.entries:
            if not entry.name.endswith(JAR_ENDINGS):
                continue
            if len(found) >= self.limits.jar_nested:
                self.unread = "jar-limit"
                break
            data = self._content(file, entry, defects)
            if data is not None:
                found.append(self.jar(FileBytes(len(data), [(0, data)]), entry.name, depth - 1))
        return found


def _is_module(name: bytes) -> bool:
    return name.rpartition(b"/")[2] == _MODULE + CLASS


def read_manifest(body: bytes) -> dict[bytes, bytes] | None:
    """The main section's attributes by name in lower case; None where the JVM may refuse the file.

    JAR File Specification, "Notes on Manifest and Signature Files"; java.util.jar.Attributes#read.
    """
    attributes: dict[bytes, bytes] = {}
    last = b""
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if lines.pop():
        return None  # its last line has no end
    for line in lines:
        if not line:
            break
        if line.startswith(b" "):
            if not last:
                return None
            attributes[last] += line[1:]
            continue
        name, colon, value = line.partition(b": ")
        if not colon or not _HEADER.match(name):
            return None
        last = name.lower()
        attributes[last] = value
    return attributes
