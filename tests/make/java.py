"""A real Java runtime and real class files: jlink and javac of this machine's JDK, jars written here, class-file versions set.

The runtime is what jlink makes of java.base alone, the least a JVM can be. A class file of a newer Java is one of this
compiler whose version words are changed, which is all that a JVM looks at before it refuses.
"""

from __future__ import annotations

import functools
import io
import shutil
import tarfile
import zipfile
from collections.abc import Mapping

from analyzers.facts import Kind
from tests.make import roots
from tests.make.elves import ToolAbsent, build
from tests.make.layers import Item, symlink

HOME = "opt/java"
RELEASE = 17
HELLO = 'package p; public class Main { public static void main(String[] words) { System.out.println("hello"); } }\n'
PLAIN = 'public class Plain { public static void main(String[] words) { System.out.println("hello"); } }\n'
_JLINK = "--add-modules java.base --strip-debug --no-header-files --no-man-pages --output java"


def _require(tool: str) -> None:
    if shutil.which(tool, path="/usr/bin:/bin") is None:
        raise ToolAbsent(f"{tool} is not installed: openjdk-17-jdk-headless")


@functools.cache
def runtime() -> roots.Root:
    """The files of a Java 17 below HOME."""
    _require("jlink")
    made = build(["env", "sh", "-c", f"jlink {_JLINK} && tar -c --sort=name --mtime=@0 -f out.tar java"], {}, "out.tar")
    files: roots.Root = {}
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        for member in archive:
            path = HOME + member.name.removeprefix("java")
            if member.issym():
                files[path] = symlink(member.linkname)
            elif member.isfile():
                body = archive.extractfile(member)
                files[path] = Item(Kind.FILE, b"" if body is None else body.read(), member.mode & 0o7777)
    return files


@functools.cache
def root() -> roots.Root:
    """Debian with that runtime, `java` on PATH by way of a link, and the library that it needs besides."""
    libraries = roots.machine(f"usr/lib/{roots.multiarch()}/libz.so.1")
    return {**roots.debian(), **libraries, **runtime(), "usr/bin/java": symlink(f"/{HOME}/bin/java")}


def compiled(source: str, name: str, release: int = 8) -> bytes:
    """The class file of one class, `name` with slashes."""
    _require("javac")
    command = ["javac", "--release", str(release), "-Xlint:-options", "-nowarn", f"{name}.java"]
    return build(command, {f"{name}.java": source.encode()}, f"{name}.class")


def versioned(class_file: bytes, major: int, minor: int = 0) -> bytes:
    """The same class file, said to be of another version."""
    return class_file[:4] + minor.to_bytes(2, "big") + major.to_bytes(2, "big") + class_file[8:]


def main_class(major: int = 52, minor: int = 0) -> bytes:
    return versioned(compiled(HELLO, "p/Main"), major, minor)


def plain_class(major: int = 52) -> bytes:
    return versioned(compiled(PLAIN, "Plain"), major)


def jar(entries: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED, **attributes: str) -> bytes:
    """A jar; `attributes` of its manifest with underscores for hyphens. Without any it has no manifest."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        if attributes:
            lines = [f"{name.replace('_', '-')}: {value}" for name, value in attributes.items()]
            archive.writestr(_info("META-INF/MANIFEST.MF"), "\r\n".join(["Manifest-Version: 1.0", *lines, "", ""]), compression)
        for name, body in entries.items():
            archive.writestr(_info(name), body, compression)
    return made.getvalue()


def _info(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def app(major: int = 52, minor: int = 0, **attributes: str) -> bytes:
    """A jar whose main class is p.Main of that version."""
    return jar({"p/Main.class": main_class(major, minor)}, **{"Main_Class": "p.Main", **attributes})
