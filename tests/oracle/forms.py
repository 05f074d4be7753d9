"""The forms in which a whole system is asked: as it is, and mutilated, each mutilation drawn with a seed.

What images suffer in practice: libraries that are lost or moved, caches that are stale or left out, files of another release
or of another C library copied in, run paths that somebody rewrote.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from analyzers.facts import Kind
from tests.make.elves import CACHE as ELVES
from tests.make.elves import ToolAbsent
from tests.make.layers import Item, file, program, symlink
from tests.oracle.real_roots import NOTHING, Change, System, chosen

CACHE = "etc/ld.so.cache"
LOCAL = "usr/local/lib"
OTHER = "opt/other"
ADDONS = "opt/addons/"
GLIBC_LOADER = "lib64/ld-linux-x86-64.so.2"
MUSL_LOADER = "lib/ld-musl-x86_64.so.1"
_GLIBC = (
    "libc.so.6",
    "libm.so.6",
    "libmvec.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libresolv.so.2",
    "libutil.so.1",
)
_RUN_PATHS = (
    ("--set-rpath", f"/{OTHER}"),
    ("--force-rpath", f"/{OTHER}"),
    ("--set-rpath", "/nope:$ORIGIN/../lib/x86_64-linux-gnu:/" + OTHER),
    ("--force-rpath", "$ORIGIN/../../" + OTHER + ":/usr/$LIB"),
    ("--force-rpath", "/nope"),
    ("--set-rpath", ""),
    ("--set-rpath", "${ORIGIN}/$PLATFORM:/" + OTHER + "/"),
)
_SHARE = 0.08

Form = Callable[[System, Mapping[str, System], random.Random], Change]


def whole(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """As it is."""
    return NOTHING


def libraries_lost(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    places = system.libraries()
    return Change({}, [places[name] for name in chosen(seed, list(places), _SHARE)])


def no_cache(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """Without ld.so.cache, and with libraries where only the cache leads."""
    moved = _moved(system, seed)
    return Change(moved.items, [*moved.removed, *([CACHE] if _exists(system, CACHE) else ())])


def stale_cache(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """The cache knows the libraries where they no longer are."""
    return _moved(system, seed)


def fresh_cache(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """The same libraries moved, and ldconfig run afterwards."""
    return _moved(system, seed)._replace(fresh_cache=True)


def swapped(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """Libraries of the other Debian release in the place of this one's."""
    return _replaced(system, _other_debian(system, others), seed, 2 * _SHARE)


def c_library_swapped(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """libc.so.6 of the other release under this one's loader."""
    return Change(
        {"usr/lib/x86_64-linux-gnu/libc.so.6": _copy(_other_debian(system, others), "usr/lib/x86_64-linux-gnu/libc.so.6")}
    )


def glibc_swapped(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """The whole glibc of the other release, loader included."""
    other = _other_debian(system, others)
    folder = "usr/lib/x86_64-linux-gnu"
    items = {f"{folder}/{name}": _copy(other, f"{folder}/{name}") for name in _GLIBC if _exists(other, f"{folder}/{name}")}
    place = system.rootfs.resolve(f"/{GLIBC_LOADER}".encode()).node
    assert place is not None
    return Change({**items, os.fsdecode(place.path): _copy(other, GLIBC_LOADER)})


def run_paths(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """DT_RPATH and DT_RUNPATH written by patchelf, and a folder of another system's libraries for them to lead to."""
    items = {}
    for other in others.values():
        theirs = other.libraries()
        ours = system.libraries()
        for name in chosen(seed, [name for name in theirs if name in ours], 3 * _SHARE):
            items[f"{OTHER}/{name}"] = _copy(other, theirs[name])
    paths = [os.fsdecode(node.path) for node, facts in system.elves() if facts.loader is None and facts.dynamic]
    for path in chosen(seed, paths, _SHARE):
        items[path] = _patched(system, path, *seed.choice(_RUN_PATHS))
    return Change(items)


def foreign_libraries(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """Libraries of the other C library's system in the place of this one's."""
    return _replaced(system, _foreign(system, others), seed, 3 * _SHARE)


def foreign_objects(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """Programs and libraries of the other C library's system, whose loader is not here."""
    return Change(_foreign_items(system, _foreign(system, others), seed))


def foreign_objects_with_loader(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """The same where something answers to their loader's name: musl itself on Debian, a link to musl on Alpine."""
    foreign = _foreign(system, others)
    items = _foreign_items(system, foreign, seed)
    if _exists(system, GLIBC_LOADER):
        items[f"usr/{MUSL_LOADER}" if _is_link(system, "lib") else MUSL_LOADER] = _copy(foreign, MUSL_LOADER)
        items["etc/ld-musl-x86_64.path"] = file("/opt/foreign\n/usr/lib/x86_64-linux-gnu\n")
    else:
        items[GLIBC_LOADER] = symlink(f"/{MUSL_LOADER}")
    return Change(items)


def other_machine(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """Libraries of another machine in the place of this one's, and again at places that are looked into before."""
    other = next(iter(others.values()))
    change = _replaced(system, other, seed, 2 * _SHARE)
    theirs = other.libraries()
    local = {f"{LOCAL}/{name}": _copy(other, theirs[name]) for name in chosen(seed, list(theirs), 2 * _SHARE)}
    return Change({**change.items, **local})


def addons(system: System, others: Mapping[str, System], seed: random.Random) -> Change:
    """Native addons of npm and PyPI, built for either C library, each package with its own libraries beside them."""
    folder = ELVES / "addons"
    archives = sorted([*folder.glob("*/*.whl"), *folder.glob("npm/*.tgz")])
    if not archives:
        raise ToolAbsent("no archives in .cache/addons: run tests/setup/addons.sh")
    items: dict[str, Item] = {}
    for archive in archives:
        # Packages of npm that belong together find each other below one folder, as they do below node_modules.
        scope, _, rest = archive.name.partition("-")
        below = f"node_modules/@{scope}/{rest.rpartition('-')[0]}" if archive.suffix == ".tgz" else f"{archive.parent.name}"
        items.update({f"{ADDONS}{below}/{name}": program(data, 0o755) for name, data in _elf_members(archive)})
    return Change(items)


def _elf_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            members = [(name, wheel.read(name)) for name in wheel.namelist() if not name.endswith("/")]
    else:
        with tarfile.open(archive) as packed:
            files = ((each.name.partition("/")[2], packed.extractfile(each)) for each in packed if each.isreg())
            members = [(name, file.read()) for name, file in files if file is not None]
    return ((name, data) for name, data in members if data.startswith(b"\x7fELF"))


FORMS: dict[str, Form] = {
    "whole": whole,
    "libraries lost": libraries_lost,
    "no cache": no_cache,
    "stale cache": stale_cache,
    "fresh cache": fresh_cache,
    "libraries of the other release": swapped,
    "C library of the other release": c_library_swapped,
    "glibc of the other release": glibc_swapped,
    "run paths rewritten": run_paths,
    "libraries of the other libc's system": foreign_libraries,
    "programs of the other libc's system": foreign_objects,
    "programs of the other libc's system, with a loader": foreign_objects_with_loader,
    "libraries of another machine": other_machine,
    "addons of npm and PyPI": addons,
}
FOCUS = {"addons of npm and PyPI": ADDONS}
"""Forms that are asked about files below one folder only."""
FOREIGN_FORMS = (
    "whole",
    "libraries lost",
    "no cache",
    "stale cache",
    "fresh cache",
    "run paths rewritten",
    "libraries of another machine",
)
"""Those in which a system of another architecture is asked."""
FOREIGN_ONLY = frozenset({"libraries of another machine"})
DEBIAN_ONLY = frozenset(
    {
        "fresh cache",
        "no cache",
        "libraries of the other release",
        "C library of the other release",
        "glibc of the other release",
    }
)


# -- the pieces --


def _exists(system: System, path: str) -> bool:
    return system.rootfs.resolve(os.fsencode(f"/{path}")).node is not None


def _is_link(system: System, path: str) -> bool:
    node = system.rootfs.resolve(os.fsencode(f"/{path}"), follow=False).node
    return node is not None and node.entry.kind == Kind.SYMLINK


def _other_debian(system: System, others: Mapping[str, System]) -> System:
    return next(other for other in others.values() if _exists(other, GLIBC_LOADER))


def _foreign(system: System, others: Mapping[str, System]) -> System:
    """Of the other C library."""
    return next(other for other in others.values() if _exists(other, GLIBC_LOADER) != _exists(system, GLIBC_LOADER))


def _copy(system: System, path: str) -> Item:
    return program(system.read(path), 0o755)


def _moved(system: System, seed: random.Random) -> Change:
    places = system.libraries()
    names = chosen(seed, list(places), _SHARE)
    return Change({f"{LOCAL}/{name}": _copy(system, places[name]) for name in names}, [places[name] for name in names])


def _replaced(system: System, other: System, seed: random.Random, share: float) -> Change:
    ours, theirs = system.libraries(), other.libraries()
    return Change({ours[name]: _copy(other, theirs[name]) for name in chosen(seed, [*(ours.keys() & theirs.keys())], share)})


def _foreign_items(system: System, foreign: System, seed: random.Random) -> dict[str, Item]:
    elves = {os.fsdecode(node.path): facts for node, facts in foreign.elves() if facts.loader is None}
    programs = [path for path, facts in elves.items() if facts.interp is not None]
    libraries = [path for path, facts in elves.items() if facts.interp is None]
    paths = [*seed.sample(programs, min(30, len(programs))), *seed.sample(libraries, min(30, len(libraries)))]
    names = {os.fsdecode(elves[path].soname or b"") or path.rpartition("/")[2]: path for path in paths}
    return {f"opt/foreign/{name}": _copy(foreign, path) for name, path in names.items()}


def _patched(system: System, path: str, option: str, run_path: str) -> Item:
    """A file with its run path rewritten; as it was where patchelf refuses it."""
    content = system.read(path)
    mode = (system.folder / path).stat().st_mode & 0o7777
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "elf")
        copy.write_bytes(content)
        options = ["--force-rpath", "--set-rpath"] if option == "--force-rpath" else [option]
        done = subprocess.run([_patchelf(), *options, run_path, str(copy)], capture_output=True, check=False, timeout=60)
        return program(copy.read_bytes() if done.returncode == 0 else content, mode)


@functools.cache
def _patchelf() -> str:
    found = shutil.which("patchelf")
    if found is None:
        raise ToolAbsent("patchelf is not installed")
    return found
