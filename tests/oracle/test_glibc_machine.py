"""This machine's own programs and libraries, as they are and with something done to them: foretold and asked of the real loader.

As they are: LD_TRACE_LOADED_OBJECTS with LD_WARN and LD_BIND_NOW (rules O2, O3), which gives every object in order, every missing
name and every unbound symbol. Mutilated: the closure of a program in a root of its own, a library removed, replaced or spoilt,
and the program run with its first instruction changed to exit_group(42) (O1). ENOENT_TEST_FULL=1 takes all, else a sample.
"""

from __future__ import annotations

import functools
import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analyzers.accounts import Credentials
from analyzers.finding import State
from analyzers.loader import LoadResult, Process, load
from analyzers.oci import ImageConfig, Platform
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.conftest import absent
from tests.make.elves import ToolAbsent
from tests.make.glibc_loaders import library_of
from tests.make.layers import Item, file, folder, program, symlink
from tests.make.views import layer
from tests.oracle.chroots import Ended, run, unpacked
from tests.oracle.machine import machine_layer

LD = b"/lib64/ld-linux-x86-64.so.2"
SEED = 20260115
FULL = os.environ.get("ENOENT_TEST_FULL") == "1"
SAMPLE = 10_000 if FULL else 80
PROGRAMS = 40 if FULL else 8
STUB = bytes.fromhex("bf2a000000b8e70000000f05")
"""mov edi,42; mov eax,231; syscall"""


@functools.cache
def cpu_level() -> int:
    """The level that this machine's loader sees."""
    said = subprocess.run([LD, b"--help"], capture_output=True, timeout=20, check=False).stdout
    return max((int(level) for level in re.findall(rb"x86-64-v(\d) \(supported", said)), default=1)


@functools.cache
def machine() -> Rootfs:
    if not os.path.exists(LD):
        absent("this machine has no glibc loader for x86-64")
    return Rootfs([machine_layer()])


@functools.cache
def objects() -> tuple[bytes, ...]:
    """Dynamic programs and libraries, a sample of them in an order of its own."""
    found = []
    for directory in (b"/usr/bin", b"/usr/sbin", b"/usr/lib/x86_64-linux-gnu"):
        for name in sorted(os.listdir(directory)):
            path = directory + b"/" + name
            if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < 32 << 20:
                with open(path, "rb") as opened:
                    found += [path] if opened.read(4) == b"\x7fELF" else []
    random.Random(SEED).shuffle(found)
    verified = (
        path for path in found if subprocess.run([LD, b"--verify", path], capture_output=True, check=False).returncode in (0, 2)
    )
    return tuple(path for path, _ in zip(verified, range(SAMPLE), strict=False))


class Traced(NamedTuple):
    """What the loader lists."""

    paths: list[bytes]
    missing: list[bytes]
    unbound: list[tuple[bytes, bytes, bytes]]
    others: list[bytes]


_FOUND = re.compile(rb"\t(?:.* => )?(/.*) \(0x[0-9a-f]+\)")
_UNBOUND = re.compile(rb"undefined symbol: ([^,\t]+)(?:, version (\S+))?\t\((.*)\)")


def traced(path: bytes) -> Traced:
    env = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "1"}
    done = subprocess.run([LD, path], env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    lines = done.stdout.split(b"\n")
    paths = [found[1] for line in lines if (found := _FOUND.fullmatch(line))]
    missing = [line.strip().partition(b" => ")[0] for line in lines if line.endswith(b" => not found")]
    unbound, others = [], []
    for line in filter(None, done.stderr.split(b"\n")):
        found = _UNBOUND.fullmatch(line)
        if found:
            unbound.append((found[3], found[1], found[2] or b""))
        else:
            others.append(line)
    return Traced(paths, missing, list(dict.fromkeys(unbound)), others)


def foretold(path: bytes) -> LoadResult:
    rootfs = machine()
    node, interp = rootfs.resolve(path).node, rootfs.resolve(LD).node
    assert node is not None
    assert interp is not None
    root = Credentials(0, 0, (), True)
    profile = HostProfile(x86_level=cpu_level())
    return load(
        Process(
            rootfs, node, argv0=path, opened_as=path, env=(), cwd=b"/", creds=root, secure=False, interp=interp, interp_name=LD,
            profile=profile, bind_now=True,
        )
    )  # fmt: skip


def test_objects_of_this_machine_load_as_foretold() -> None:
    differing = []
    counts = {"objects": 0, "loaded": 0, "missing": 0, "unbound": 0}
    for path in objects():
        real, said = traced(path), foretold(path)
        assert said.ok is not None, (path, said.unknown)
        ours = Traced(
            [each.path for each in said.objects[1:] if each.path],
            list(dict.fromkeys(name.encode() for name, _ in said.missing)),
            [(by.encode(), name.encode(), version.encode()) for by, name, version in said.unbound],
            [] if said.unbound or said.missing else list(said.lines),
        )
        counts["objects"] += 1
        counts["loaded"] += len(ours.paths)
        counts["missing"] += len(ours.missing)
        counts["unbound"] += len(ours.unbound)
        if real.missing:  # the real loader then complains about symbols that would have come from there
            real = real._replace(unbound=[], others=[])
        if (real.paths, set(real.missing), real.unbound, real.others) != (
            ours.paths,
            set(ours.missing),
            ours.unbound,
            ours.others,
        ):
            differing.append((path, real, ours))
    print(counts)
    assert counts["objects"] >= 50
    assert not differing, differing[:3]


# -- mutilated --


@functools.cache
def closures() -> dict[bytes, dict[str, Item]]:
    """Programs with a few libraries of their own, each as a root: files under the paths they were opened by."""
    found: dict[bytes, dict[str, Item]] = {}
    for path in objects():
        facts = machine().elf(machine().resolve(path).node)  # type: ignore[arg-type]
        if len(found) == PROGRAMS or facts is None or facts.interp != LD:
            continue
        said = foretold(path)
        if not said.ok or not 3 <= len(said.objects) <= 14:
            continue
        root: dict[str, Item] = {"app": program(stubbed(path))}
        for each in said.objects[1:]:
            root[each.path.decode().lstrip("/")] = file(Path(os.fsdecode(each.path)).read_bytes(), 0o644)
        root[LD.decode().lstrip("/")] = program(Path(os.fsdecode(LD)).read_bytes())
        found[path] = root
    return found


def stubbed(path: bytes) -> bytes:
    """The program, its entry point ending it at once."""
    data = bytearray(Path(os.fsdecode(path)).read_bytes())
    facts = machine().elf(machine().resolve(path).node)  # type: ignore[arg-type]
    assert facts is not None
    at = next(
        facts.entry - each.vaddr + each.offset
        for each in facts.segments
        if each.type == 1 and each.vaddr <= facts.entry < each.vaddr + each.filesz
    )
    data[at : at + len(STUB)] = STUB
    return bytes(data)


def mutations(root: dict[str, Item], dice: random.Random) -> Iterator[tuple[str, dict[str, Item | None], dict[str, object]]]:
    """(what is done, files replaced or, with None, removed, settings)."""
    libraries = sorted(path for path in root if path not in ("app", LD.decode().lstrip("/")))
    yield "nothing", {}, {}
    yield "everything bound now", {}, {"env": ("LD_BIND_NOW=1",)}
    one, other = dice.choice(libraries), dice.choice(libraries)
    yield f"{one} removed", {one: None}, {}
    yield f"{one} is text", {one: file("GROUP ( libother.so )" * 9)}, {}
    yield f"{one} is a directory", {one: folder()}, {}
    yield f"{one} is closed", {one: file(root[one].content, 0o600)}, {"user": "1000:1000"}
    yield f"{one} is {other}", {one: root[other]}, {}
    yield f"{one} moved, LD_LIBRARY_PATH", {one: None, f"opt/{Path(one).name}": root[one]}, {"env": ("LD_LIBRARY_PATH=/opt",)}
    yield f"{one} preloaded instead", {one: None, "opt/p.so": root[one]}, {"env": ("LD_PRELOAD=/opt/p.so",)}
    yield f"{one} is a link", {one: symlink("/opt/y"), "opt/y": root[one]}, {}
    for release in ("2.31", "2.41"):
        parts = [path for path in libraries if Path(path).name in ("libc.so.6", "libm.so.6", "libresolv.so.2")]
        for path in parts:
            yield f"{path} of {release}", {path: library_of(release, Path(path).name)}, {}


def foretell(root: dict[str, Item], settings: dict[str, object]) -> Start:
    user = str(settings.get("user", ""))
    config = ImageConfig(cmd=("/app",), platform=Platform(), user=user, env=settings.get("env", ()))  # type: ignore[arg-type]
    profile = HostProfile(dac_override=not user, x86_level=cpu_level())
    return foretell_start(Rootfs([layer(root)]), config, profile, NO_OVERRIDES)


@pytest.mark.parametrize("index", range(PROGRAMS))
def test_mutilated_closures_end_as_foretold(index: int) -> None:
    try:
        path = sorted(closures())[index]
    except IndexError:
        pytest.skip("this machine has fewer programs with a few libraries")
    root = closures()[path]
    dice = random.Random(f"{SEED} {index}")
    differing = []
    count = 0
    try:
        for what, changes, settings in mutations(root, dice):
            spoilt = {name: item for name, item in {**root, **changes}.items() if item is not None}
            start = foretell(spoilt, settings)
            assert start.loaded is not None, (what, start.message)
            assert start.state is not State.UNKNOWN, (what, start.why_unknown)
            with unpacked(spoilt) as folder_:
                ended = run(folder_, ("/app",), **settings)  # type: ignore[arg-type]
            count += 1
            if not _agree(start, ended):
                differing.append((path, what, start.loaded.lines, start.loaded.crash, ended))
    except ToolAbsent as error:
        absent(str(error))
    print(path, count, "mutations")
    assert not differing, differing


def _agree(start: Start, ended: Ended) -> bool:
    loaded = start.loaded
    assert loaded is not None
    if loaded.crash:
        return ended.exit_code not in (0, 42)  # by which signal a mix of two builds dies is not foretold
    lines = tuple(line.decode() for line in loaded.lines)
    return (ended.lines, ended.exit_code) == (lines, loaded.exit_code or 42)
