"""Which files of a layer are read, and by what: the literal list of readers and the version that follows from it.

Knows names and first bytes only. A reader whose facts change raises its version here; every layer is then read again.
Refuses to know what the content means: that is elf/, loader/ and the judges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from analyzers.jar_facts import CLASS_MAGIC
from analyzers.jars import CLASS, JAR_ENDINGS
from analyzers.packages import database_of

ELF_MAGIC = b"\x7fELF"
_TEXT_NAMES = frozenset((b"passwd", b"group", b"os-release", b"ld.so.cache", b"ld.so.preload", b"ld.so.conf", b"nsswitch.conf"))

_CLASS_PATH_NAMES = frozenset((b"jib-classpath-file", b"jib-main-class-file"))
"""Argument files that a builder of Java images leaves beside the classes."""
_JVM_MARKS = (b"JAVA_VERSION=", b"JAVA_RUNTIME_VERSION=", b"IMPLEMENTOR=")
_SMALL_NAMES = frozenset((b"pyvenv.cfg", b"node_version.h", b"package.json"))
SMALL_TEXT_BYTES = 64 << 10

RUNTIME_CONFIG = b".runtimeconfig.json"
"""What a .NET application asks of its host."""

TEXT_ENDINGS = (*sorted(_TEXT_NAMES | _CLASS_PATH_NAMES | _SMALL_NAMES), b".conf", b".path", b"release", b".pth", RUNTIME_CONFIG)
"""Every path that wants_text or wants_small_text accepts ends in one of these; a cheap first look."""
CONTENT_ENDINGS = (*TEXT_ENDINGS, *JAR_ENDINGS, CLASS)
"""Of every path that is read for its name."""

_SHELLS = frozenset((b"sh", b"ash", b"dash", b"bash", b"busybox"))
SCRIPT_ENDINGS = (b".sh", b".bash", b".env", b".sh.inc", b"/activate", b"/envvars", b"/profile")
SOURCED_FOLDERS = (b"etc/default/", b"etc/sysconfig/", b"etc/conf.d/", b"lib/lsb/")
"""What a path ends or begins with that wants_script accepts whatever its first line."""


class Reader(NamedTuple):
    """`wants` decides by the path and the first bytes (at least four where the file has them) of a regular file."""

    name: str
    version: int
    wants: Callable[[bytes, bytes], bool]


def wants_elf(path: bytes, head: bytes) -> bool:
    """Every file that begins with the ELF magic, whatever its name (K: the kernel looks at nothing else)."""
    return head[:4] == ELF_MAGIC


def wants_head(path: bytes, head: bytes) -> bool:
    """Scripts: their first 256 bytes are all the kernel looks at (K19)."""
    return head[:2] == b"#!"


def wants_text(path: bytes, head: bytes) -> bool:
    """The few text files that users, loaders and distributions are known by, wherever they stand."""
    directory, _, name = path.rpartition(b"/")
    if name in _TEXT_NAMES or name in _CLASS_PATH_NAMES:
        return True
    if name == b"release":
        return any(mark in head for mark in _JVM_MARKS)
    if name.endswith(RUNTIME_CONFIG):
        return True
    if name.endswith(b".path"):
        return name.startswith(b"ld-musl-")
    return name.endswith(b".conf") and (directory == b"ld.so.conf.d" or directory.endswith(b"/ld.so.conf.d"))


def wants_small_text(path: bytes, head: bytes) -> bool:
    """What interpreters read when they start; a bigger file of such a name is passed over, and whoever asks for it sees that.

    The tens of thousands of package.json below node_modules say nothing of a start.
    """
    directory, _, name = path.rpartition(b"/")
    if name.endswith(b".pth"):
        return directory.endswith((b"/site-packages", b"/dist-packages"))
    return name in _SMALL_NAMES and b"node_modules/" not in path


def wants_jar(path: bytes, head: bytes) -> bool:
    """By name alone: what precedes the archive proper is no matter to a JVM."""
    return path.endswith(JAR_ENDINGS)


def wants_class(path: bytes, head: bytes) -> bool:
    """Class files outside jars: their first eight bytes."""
    return head[:4] == CLASS_MAGIC and path.endswith(CLASS)


def wants_packages(path: bytes, head: bytes) -> bool:
    """The databases of package managers."""
    return bool(database_of(path))


def wants_script(path: bytes, head: bytes) -> bool:
    """Scripts of the shells that are followed, and files that such scripts usually read, whose first line says nothing."""
    if head[:2] == b"#!":
        words = head[2:].split(b"\n", 1)[0].split()
        return bool(words) and any(word.rpartition(b"/")[2] in _SHELLS or word == b"-S" for word in words[:3])
    return path.endswith(SCRIPT_ENDINGS) or path.startswith(SOURCED_FOLDERS)


ENTRIES_VERSION = 1
READERS = (
    Reader("elf", 4, wants_elf),
    Reader("head", 1, wants_head),
    Reader("text", 2, wants_text),
    Reader("small-text", 1, wants_small_text),
    Reader("jar", 1, wants_jar),
    Reader("class", 1, wants_class),
    Reader("packages", 1, wants_packages),
    Reader("script", 1, wants_script),
)
FACTS_VERSION = "-".join([f"entries{ENTRIES_VERSION}", *(f"{reader.name}{reader.version}" for reader in READERS)])
"""Names all that the facts of a layer depend on besides its bytes."""
