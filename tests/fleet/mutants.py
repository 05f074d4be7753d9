"""Good images with something done to them: a file removed, replaced, closed, led elsewhere; an environment, a user changed.

The same seed makes the same mutant. What is done aims at what the start looks at: the places of the report's chain, those
where nothing was found included. A mutant is one small layer on a loaded image, and a config.
"""

from __future__ import annotations

import posixpath
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from analyzers.facts import Kind
from analyzers.finding import Report
from tests.fleet.image import BASES, FleetImage, Layer
from tests.fleet.libraries import LONG_TEXT, SHORT_TEXT, A, one
from tests.make.elves import MUSL_GCC, library, zig
from tests.make.images import Image
from tests.make.layers import Item, file, folder, symlink

View = dict[str, Item]
MODES = (0, 0o111, 0o400, 0o444, 0o600, 0o644, 0o700, 0o711, 0o744, 0o755, 0o2755, 0o4755, 0o6755)
USERS = ("0", "1000", "65534", "app", "nobody", "web", "1000:0", "app:users", "app:web", "-1", "root", "12:34")
DIRECTORIES = ("/", "/tmp", "/etc", "/etc/passwd", "/missing/dir", "/usr/lib", "/a")
TARGETS = ("nowhere", "/etc/passwd", ".", "..", "/", "/bin/sh", "/lib64")
_COUNTS = (1, 1, 1, 1, 2, 2, 3)
_AIMED = 0.8
"""How often what the start looks at is chosen, and not just anything."""


class Mutant(NamedTuple):
    """What is run, and how it came about."""

    seed: int
    base: FleetImage
    image: Image
    told: str
    view: View
    """The files of the image it was made of."""
    changed: View
    """Those that its own layer brings."""

    @property
    def tag(self) -> str:
        return f"mutant/{self.seed}:1"


class Origin(NamedTuple):
    """A good image with its files, and where its start looks."""

    image: FleetImage
    plain: Image
    view: View
    found: tuple[str, ...]
    """Paths that the start opens or goes through."""
    looked_at: tuple[str, ...]
    """Paths where it found nothing."""


def origin(image: FleetImage, report: Report) -> Origin:
    """The image as a ground for mutants; `report` is what was foretold of it."""
    view = merged(image)
    found, looked_at = set[str](), set[str]()
    for step in report.chain:
        for path in (step.path, *(tried.path for tried in step.attempts)):
            real = _real(view, path.strip("/")) if path.startswith("/") else None
            if real is None:
                continue
            (found if real in view else looked_at).add(real)
            found.update(_links(view, path.strip("/")))
    return Origin(image, image.image(), view, tuple(sorted(found - {""})), tuple(sorted(looked_at - {""})))


def merged(image: FleetImage) -> View:
    """All files of an image by path, hidden ones gone, directories on the way included."""
    view: View = {}
    for layer in (*([Layer(BASES[image.base]())] if image.base else ()), *image.layers()):
        for path in layer.whiteouts:
            _forget(view, path, itself=True)
        for path in layer.opaques:
            _forget(view, path, itself=False)
        for path, given in layer.items.items():
            item = given if isinstance(given, Item) else file(given)
            if item.kind != Kind.DIRECTORY:
                _forget(view, path, itself=True)
            parent = path.rpartition("/")[0]
            while parent:
                view.setdefault(parent, folder())
                parent = parent.rpartition("/")[0]
            view[path] = item
    return view


def _forget(view: View, path: str, *, itself: bool) -> None:
    for each in [each for each in view if (itself and each == path) or each.startswith(f"{path}/")]:
        del view[each]


def _real(view: View, path: str) -> str | None:
    """The path with the links of its directories followed; None where one is no directory."""
    parent, _, name = path.rpartition("/")
    real = _directory(view, parent)
    return None if real is None else f"{real}/{name}".lstrip("/")


def _directory(view: View, path: str) -> str | None:
    todo, here = [part for part in path.split("/") if part][::-1], ""
    for _ in range(200):
        if not todo:
            return here
        name = todo.pop()
        if name in (".", ".."):
            here = here if name == "." else posixpath.dirname(here)
            continue
        item = view.get(path := f"{here}/{name}".lstrip("/"))
        if item is None or item.kind == Kind.DIRECTORY:
            here = path
        elif item.kind == Kind.SYMLINK:
            target = item.link.decode()
            here = "" if target.startswith("/") else here
            todo += [part for part in target.split("/") if part][::-1]
        else:
            return None
    return None


def _links(view: View, path: str) -> list[str]:
    """The symbolic links that a path goes through."""
    found = []
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        real = _real(view, "/".join(parts[:count]))
        if real is not None and real in view and view[real].kind == Kind.SYMLINK:
            found.append(real)
    return found


class _Making:
    """One mutant in the making."""

    def __init__(self, ground: Origin, chance: random.Random) -> None:
        self.ground = ground
        self.chance = chance
        self.items: dict[str, Item] = {}
        self.whiteouts: list[str] = []
        self.opaques: list[str] = []
        self.config = ground.plain
        self.told: list[str] = []

    def made(self, seed: int) -> Mutant:
        for _ in range(self.chance.choice(_COUNTS)):
            self.chance.choices([change for change, _ in CHANGES], [weight for _, weight in CHANGES])[0](self)
        view, told = self.ground.view, "; ".join(self.told) or "nothing"
        layer = Layer(_with_parents(self.items, view), tuple(self.whiteouts), tuple(self.opaques)).tar()
        image = msgspec.structs.replace(self.config, layers=(*self.config.layers, layer))
        return Mutant(seed, self.ground.image, image, f"{seed} {self.ground.image.id}: {told}", view, self.items)

    # -- what is aimed at --

    def existing(self, *kinds: Kind) -> str | None:
        """A path that is there, of one of these kinds, and not yet changed."""
        view = self.ground.view
        pool: Sequence[str] = self.ground.found if self.chance.random() < _AIMED else sorted(view)
        paths = [path for path in pool if (not kinds or view[path].kind in kinds) and self._free(path)]
        return self.chance.choice(paths) if paths else None

    def missing(self) -> str | None:
        """A path that the start looked at in vain."""
        paths = [path for path in self.ground.looked_at if self._free(path)]
        return self.chance.choice(paths) if paths else None

    def _free(self, path: str) -> bool:
        """Whether nothing was done to the path, what is above it or what is below it: overlay2 can do one thing a place."""
        done = (*self.items, *self.whiteouts, *self.opaques)
        return not any(path == each or path.startswith(f"{each}/") or each.startswith(f"{path}/") for each in done)

    def content(self, name: str, mode: int) -> tuple[Item, str]:
        """Something to stand in the place of a file called `name`."""
        choice = self.chance.randrange(11)
        view = self.ground.view
        if choice < 4 and (others := _namesakes(name, view.get(name))):
            where = self.chance.choice(sorted(others))
            return msgspec.structs.replace(others[where], mode=mode), f"that of {where}"
        if choice < 6:
            files = sorted(path for path, item in view.items() if item.kind == Kind.FILE)
            path = self.chance.choice([each for each in files if ".so" in each] or files if choice == 4 else files)
            return msgspec.structs.replace(view[path], mode=mode), f"a copy of {path}"
        if choice == 6:
            odd, what = self.chance.choice(_odd_libraries())
            return file(odd, mode), what
        if choice == 7 and name in view and view[name].kind == Kind.FILE:
            cut = self.chance.choice((0, 20, 64, 1000, 4096, len(view[name].content) // 2))
            return file(view[name].content[:cut], mode), f"its first {cut} bytes"
        text = self.chance.choice((SHORT_TEXT, LONG_TEXT, "", "#!/bin/sh\necho hello\n", "#!/nowhere\n", "/a\n/usr/lib\n"))
        return file(text, mode), f"the text {text[:12]!r}"


def _namesakes(path: str, own: Item | None) -> dict[str, Item]:
    """Other files of that name in the bases: another release of the same library, mostly."""
    name = path.rpartition("/")[2]
    found = {}
    for base, root in BASES.items():
        files = root()
        for place, item in files.items():
            if place.rpartition("/")[2] == name and item.kind == Kind.FILE and item != own:
                found[f"{base}:{place}"] = item
            elif place.endswith(f"/{name}") and item.kind == Kind.SYMLINK and item.link not in (b"busybox", b"/bin/busybox"):
                real = files.get(f"{place.rpartition('/')[0]}/{item.link.decode()}")
                if real is not None and real.kind == Kind.FILE:
                    found[f"{base}:{place}"] = real
    return found


def _odd_libraries() -> tuple[tuple[bytes, str], ...]:
    source = "int liba(void) { return 0; }\n"
    return (
        (one(A), "liba for glibc"),
        (one(A, by=MUSL_GCC), "liba for musl"),
        (library(A, source, "-nostdlib", compiler=zig("aarch64-linux-gnu")), "liba for aarch64"),
        (library(A, source, "-nostdlib", compiler=zig("x86-linux-gnu")), "liba for i386"),
        (library(A, "int nothing(void) { return 0; }\n"), "a liba without its function"),
    )


# mov eax,1; mov edi,1; lea rsi,[rip+16]; mov edx,6; syscall: write(1, "hello\\n", 6); then exit_group(0).
_SAY_AND_END = bytes.fromhex("b801000000bf01000000488d3510000000ba060000000f0531ffb8e70000000f05") + b"hello\n"


def with_marking_entry(mutant: Mutant, program: tuple[str, int] | None) -> Image | None:
    """The same image whose program, at this path and with its entry point at this offset, prints the mark and ends well."""
    if program is None:
        return None
    path, entry = program
    item = mutant.changed.get(path) or mutant.view.get(path)
    if item is None or item.kind != Kind.FILE or not 0 < entry < len(item.content):
        return None
    content = item.content[:entry] + _SAY_AND_END + item.content[entry + len(_SAY_AND_END) :]
    now = {**mutant.view, **mutant.changed}
    layer = Layer(_with_parents({path: msgspec.structs.replace(item, content=content)}, now))
    return msgspec.structs.replace(mutant.image, layers=(*mutant.image.layers, layer.tar()))


def _with_parents(items: View, view: View) -> View:
    """With the directories on the way as they are, so that a layer does not change their modes by listing them."""
    wanted: View = {}
    for path, item in items.items():
        for count in range(path.count("/")):
            above = "/".join(path.split("/")[: count + 1])
            if above not in items and above in view and view[above].kind == Kind.DIRECTORY:
                wanted[above] = view[above]
        wanted[path] = item
    return wanted


# -- what is done --


def remove(making: _Making) -> None:
    if (path := making.existing()) is not None:
        making.whiteouts.append(path)
        making.told.append(f"/{path} removed")


def replace(making: _Making) -> None:
    if (path := making.existing(Kind.FILE, Kind.SYMLINK)) is not None:
        old = making.ground.view[path]
        making.items[path], what = making.content(path, old.mode if old.kind == Kind.FILE else 0o755)
        making.told.append(f"/{path} replaced by {what}")


def replace_by_another_kind(making: _Making) -> None:
    if (path := making.existing(Kind.FILE, Kind.SYMLINK)) is not None:
        name = path.rpartition("/")[2]
        # No pipe: whoever opens one waits for ever, which is neither a start nor a failure.
        odd = ((folder(), "a directory"), (symlink("nowhere"), "a dangling link"), (symlink(name), "a loop"))
        making.items[path], what = making.chance.choice(odd)
        making.told.append(f"/{path} replaced by {what}")


def change_mode(making: _Making) -> None:
    if (path := making.existing(Kind.FILE, Kind.DIRECTORY)) is not None:
        mode = making.chance.choice(MODES)
        making.items[path] = msgspec.structs.replace(making.ground.view[path], mode=mode)
        making.told.append(f"/{path} of mode {mode:04o}")


def change_owner(making: _Making) -> None:
    if (path := making.existing(Kind.FILE, Kind.DIRECTORY)) is not None:
        owner, mode = making.chance.choice((1, 1000, 65534)), making.chance.choice(MODES)
        making.items[path] = msgspec.structs.replace(making.ground.view[path], uid=owner, gid=owner, mode=mode)
        making.told.append(f"/{path} of {owner} and mode {mode:04o}")


def lead_elsewhere(making: _Making) -> None:
    if (path := making.existing(Kind.SYMLINK)) is not None:
        target = making.chance.choice((*TARGETS, *(f"/{each}" for each in making.ground.found)))
        making.items[path] = symlink(target)
        making.told.append(f"/{path} led to {target}")


def move_behind_a_link(making: _Making) -> None:
    path = making.existing(Kind.FILE)
    if path is not None and making._free("moved"):
        making.items["moved"] = making.ground.view[path]
        making.items[path] = symlink("/moved")
        making.told.append(f"/{path} moved to /moved behind a link")


def put_where_it_looks(making: _Making) -> None:
    path = making.missing()
    if path is None:
        return
    name = path.rpartition("/")[2]
    good = [each for each in sorted(making.ground.view) if each.endswith(f"/{name}")]
    if good and making.chance.random() < 0.4:
        item, what = making.ground.view[good[0]], f"a copy of /{good[0]}"
    elif making.chance.random() < 0.3:
        item, what = making.chance.choice(
            ((folder(), "a directory"), (symlink(name), "a loop"), (symlink("/etc/passwd"), "a link to a text"))
        )
    else:
        item, what = making.content(path, 0o755)
    making.items[path] = item
    making.told.append(f"/{path} is now {what}")


def hide(making: _Making) -> None:
    path = making.existing()
    parent = "" if path is None else path.rpartition("/")[0]
    if parent and making._free(parent) and making.ground.view[parent].kind == Kind.DIRECTORY:
        making.opaques.append(parent)
        making.told.append(f"/{parent} made opaque")


def change_environment(making: _Making) -> None:
    chance, ground = making.chance, making.ground
    folders = [f"/{path.rpartition('/')[0]}" for path in ground.found] + ["/a", "/b", "/nope", "", ".", "a", "$ORIGIN", "$LIB"]
    files = [f"/{path}" for path in ground.found] + ["liba.so", "/nope.so", "libm.so.6", "libgcc_s.so.1", "/etc/passwd"]
    name = chance.choice(("LD_LIBRARY_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_PRELOAD", "LD_BIND_NOW", "PATH"))
    if name == "LD_BIND_NOW":
        value = chance.choice(("", "1"))
    elif name == "LD_PRELOAD":
        value = chance.choice((" ", ":")).join(chance.sample(files, chance.choice((1, 1, 2))))
    else:
        value = ":".join(chance.sample(folders, chance.choice((1, 2, 3))))
    kept = [item for item in making.config.env or () if not item.startswith(f"{name}=")]
    making.config = msgspec.structs.replace(making.config, env=(*kept, f"{name}={value}"))
    making.told.append(f"{name}={value}")


def clear_environment(making: _Making) -> None:
    if making.config.env:
        gone = making.chance.choice(list(making.config.env))
        making.config = msgspec.structs.replace(making.config, env=tuple(each for each in making.config.env if each != gone))
        making.told.append(f"no {gone}")


def change_user(making: _Making) -> None:
    user = making.chance.choice(USERS)
    making.config = msgspec.structs.replace(making.config, user=user)
    making.told.append(f"user {user}")


def change_directory(making: _Making) -> None:
    where = making.chance.choice(DIRECTORIES)
    making.config = msgspec.structs.replace(making.config, working_dir=where)
    making.told.append(f"in {where}")


def change_command(making: _Making) -> None:
    command = [*(making.config.entrypoint or ()), *(making.config.cmd or ())]
    name = command[0]
    base, above = name.rpartition("/")[2], posixpath.dirname(name)
    others = (base, name.lstrip("/"), f"./{name}", f"{name}/", f"/../{name}", f"{above}//x", "/etc")
    command[0] = making.chance.choice(others)
    making.config = msgspec.structs.replace(making.config, entrypoint=(), cmd=tuple(command))
    making.told.append(f"command {command[0]!r}")


def change_loader_files(making: _Making) -> None:
    chance = making.chance
    path = chance.choice(("etc/ld.so.cache", "etc/ld.so.preload", "etc/ld-musl-x86_64.path", "etc/ld.so.conf"))
    if not making._free(path) or _real(making.ground.view, path) != path:
        return
    caches = {base: root["etc/ld.so.cache"] for base, build in BASES.items() if "etc/ld.so.cache" in (root := build())}
    if path.endswith("cache") and chance.random() < 0.5:
        base = chance.choice(sorted(caches))
        making.items[path] = caches[base]
        making.told.append(f"/{path} of {base}")
        return
    lines = [f"/{each}" for each in making.ground.found] + [f"/{each.rpartition('/')[0]}" for each in making.ground.found]
    text = chance.choice(("\n", " ", ":")).join(chance.sample(lines, min(2, len(lines)))) + chance.choice(("", "\n", "\r\n"))
    making.items[path] = file(chance.choice((text, text, "", "# nothing\n")), chance.choice((0o644, 0o644, 0o600)))
    making.told.append(f"/{path} says {making.items[path].content!r}")


CHANGES: tuple[tuple[Callable[[_Making], None], int], ...] = (
    (remove, 5), (replace, 6), (replace_by_another_kind, 2), (change_mode, 4), (change_owner, 2), (lead_elsewhere, 3),
    (move_behind_a_link, 2), (put_where_it_looks, 5), (hide, 2), (change_environment, 5), (clear_environment, 1),
    (change_user, 3), (change_directory, 1), (change_command, 1), (change_loader_files, 2),
)  # fmt: skip


def mutant(seed: int, grounds: Sequence[Origin]) -> Mutant:
    """The mutant of a seed."""
    chance = random.Random(seed)
    return _Making(chance.choice(grounds), chance).made(seed)
