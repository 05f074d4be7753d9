"""Random roots for musl's loader, the same for the same seed: libraries in many places and states, and a program that needs them.

Nearly everything that decides a search is drawn: run paths and their tokens, path files, environments, preloads, links of all
kinds, permissions, foreign and broken files in the way, layers that delete and replace; and what decides binding: which names
the variants of a library define, how, and by which relocations others want them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from analyzers.facts import Kind
from tests.make.layers import Item, file, folder, hardlink, program, script, symlink
from tests.make.synthetic import (
    FUNC,
    IFUNC,
    OBJECT,
    R_64,
    R_COPY,
    R_DTPMOD,
    R_DTPOFF,
    R_GLOB_DAT,
    R_IRELATIVE,
    R_JUMP_SLOT,
    R_PC32,
    R_RELATIVE,
    R_TLSDESC,
    R_TPOFF,
    TLS,
    WEAK,
    Elf,
    Relocation,
    Symbol,
    build,
)

LOADER = "lib/ld-musl-x86_64.so.1"
_NAMES = (
    "liba.so", "libb.so.1", "libc1.so", "libd.so.6", "libm.so.6", "libcrypt.so.1", "ld-linux-x86-64.so.2", "e.so", "libf.so",
    "lib" + "n" * 300 + ".so",
)  # fmt: skip
_DIRECTORIES = ("lib", "usr/lib", "usr/local/lib", "a", "a/b", "app", "app/l", "w", "w/r", "x")
_FUNCTIONS = ("f0", "f1", "f2", "f3", "f4", "g0", "g1")
_VARIABLES = ("v0", "v1")
_COPIED = "v0"
_THREAD_LOCALS = ("t0", "t1")
_LIBC_NAMES = ("puts", "open64", "stat64", "readdir64_r", "posix_fallocate64", "atoi64", "errno", "environ")
_RUN_PATHS = (
    "/a", "/a/b", "/x", "$ORIGIN", "${ORIGIN}/l", "$ORIGIN/../a", "$ORIGIN/b", "$LIB", "r", ".", "", "/nope", "$ORIGIN$ORIGIN",
    "/usr/lib", "/app/l", "/lib/", "//x", "/a/../x",
)  # fmt: skip
_ODD_TYPES = (10, 32, 33, 38, 1026, 1027)
"""Relocation types that musl for x86-64 does not know."""


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Layers, bottom first, with what the second deletes; and how the program is started."""

    seed: int
    release: str
    loader: str
    """Where musl lies."""
    layers: tuple[dict[str, Item], dict[str, Item]]
    deleted: tuple[str, ...]
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    working_dir: str


class _Maker:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.calm = self.random.randrange(2) == 0
        """Half of the worlds are mostly in order, so that many programs start."""
        self.names = self.random.sample(_NAMES[: -1 if self.calm else None], self.random.randint(1, 6))
        self.items: dict[str, Item] = {}
        self.user = self.random.choice(("", "", "1000"))

    def chance(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def odd(self, one_in: int) -> bool:
        """A chance for what usually ends the start."""
        return self.chance(one_in * 12 if self.calm else one_in)

    def some(self, choices: Sequence[str], most: int) -> list[str]:
        return [self.random.choice(choices) for _ in range(self.random.randint(0, most))]

    # -- ELF files --

    def run_paths(self) -> dict[str, str]:
        made = {}
        for kind, one_in in (("rpath", 5), ("runpath", 3)):
            if self.chance(one_in):
                made[kind] = ":".join(self.some(_RUN_PATHS, 3))
        return made

    def needed(self) -> tuple[str, ...]:
        wanted = self.some(self.names, 3)
        if self.odd(8):
            directory = self.random.choice(_DIRECTORIES)
            wanted.append(self.random.choice(("/", "", "./")) + f"{directory}/{self.random.choice(self.names)}")
        if not self.odd(3):
            wanted.append(self.random.choice(("libc.so.6", "libc.musl-x86_64.so.1", "libpthread.so.0", "/" + LOADER)))
        if self.odd(20):
            wanted.append(self.random.choice(("libgone.so", "/gone/lib.so", "", "libresolv.so.2")))
        self.random.shuffle(wanted)
        return tuple(wanted)

    def symbols(self, of_program: bool) -> tuple[list[Symbol], list[Relocation]]:
        symbols: dict[str, Symbol] = {}
        for name in _FUNCTIONS:
            if self.odd(2):
                continue
            kind = IFUNC if self.odd(12) else FUNC
            symbols[name] = Symbol(
                name,
                type=kind,
                bind=self.random.choice((1, 1, 1, 2, 10)),
                hidden_version=self.odd(12),
                visibility=self.random.choice((0, 0, 0, 0, 3, 2)),
                version=self.random.randint(1, 4),
            )
        for name in _VARIABLES:
            if not self.odd(2):
                absolute = 0 if self.odd(8) else self.random.choice((None, 7))
                symbols[name] = Symbol(name, type=OBJECT, absolute=None if name == _COPIED else absolute)
        for name in _THREAD_LOCALS:
            if not self.odd(2):
                symbols[name] = Symbol(name, type=TLS)
        if self.chance(60):
            symbols |= {name: Symbol(name) for name in ("__libc_start_main", "stdin")}
        relocations: list[Relocation] = []
        wanted = self.some(_FUNCTIONS, 3) + self.some(_VARIABLES, 1) + self.some(_LIBC_NAMES, 1)
        for name in wanted:
            weak = WEAK if self.chance(3) else 1
            if name not in symbols:
                plt = of_program and name in _FUNCTIONS and self.chance(4)
                symbols[name] = Symbol(name, defined=False, bind=weak, plt=plt)
            for _ in range(self.random.randint(1, 2)):
                kind = self.random.choice((R_JUMP_SLOT, R_JUMP_SLOT, R_GLOB_DAT, R_64, R_PC32))
                relocations.append(Relocation(kind, name))
        for name in self.some(_THREAD_LOCALS, 1):
            weak = WEAK if self.odd(6) else 1
            symbols.setdefault(name, Symbol(name, defined=False, bind=weak, type=TLS))
            relocations.append(Relocation(self.random.choice((R_DTPMOD, R_DTPOFF, R_TPOFF, R_TLSDESC)), name))
        if of_program and self.chance(4):
            symbols[_COPIED] = Symbol(_COPIED, type=OBJECT)
            relocations.append(Relocation(R_COPY, _COPIED))
        relocations += [Relocation(R_RELATIVE)] * self.random.randint(0, 3)
        if self.odd(15):
            relocations.append(Relocation(self.random.choice((R_IRELATIVE, *_ODD_TYPES)), self.random.choice(("", *symbols))))
        self.random.shuffle(relocations)
        return list(symbols.values()), relocations

    def elf(self, interp: str | None = None) -> bytes:
        symbols, relocations = self.symbols(interp is not None)
        fixed = self.chance(2) if interp else self.chance(20)
        if not fixed:
            symbols = [msgspec.structs.replace(each, plt=False) for each in symbols]
        return build(
            Elf(
                needed=self.needed(),
                symbols=tuple(symbols),
                relocations=tuple(relocations),
                interp=interp,
                hashes="none" if interp is None and self.odd(80) else self.random.choice(("gnu", "sysv", "both")),
                versions=self.chance(2),
                machine=183 if interp is None and self.odd(25) else 62,
                type=2 if fixed else 3,
                soname=self.random.choice((None, *self.names)),
                **self.run_paths(),  # type: ignore[arg-type]
            )
        )

    def in_the_way(self) -> Item:
        """Something of a library's name that is none, or is not for us."""
        elf = self.elf()
        return self.random.choice(
            (
                file("GROUP ( libx.so )\n" * 10),
                file(b""),
                file(elf[:63]),
                file(elf[:200]),
                file(elf[:5000]),
                file(elf[:16] + b"\x01" + elf[17:]),
                folder(self.random.choice((0o755, 0o700))),
                file(elf, self.random.choice((0o600, 0o000))),
                script("#!/bin/sh\n" + "#" * 200),
            )
        )

    # -- places --

    def place(self, name: str) -> None:
        """One library, in some directories and states."""
        made: list[str] = []
        default = [] if self.odd(3) else [self.random.choice(_DIRECTORIES[:3])]
        for directory in dict.fromkeys([*default, *self.some(_DIRECTORIES, 3)]):
            path = f"{directory}/{name}"
            if len(name) > 255 or path in self.items:
                continue
            draw = self.random.randrange(12)
            if draw < 6 or (self.calm and draw > 6 and not self.chance(8)):
                item = file(self.elf(), 0o755)
            elif draw == 6 and made:
                item = hardlink(self.random.choice(made))
            elif draw == 7:
                target = self.random.choice(_DIRECTORIES) + "/" + self.random.choice(self.names)
                item = symlink(self.random.choice(("/", "../", "./")) + target)
            elif draw == 8:
                item = symlink(name if self.chance(2) else "nowhere")
            elif draw == 9 and made:
                item = symlink("/" + self.random.choice(made))
            else:
                item = self.in_the_way()
            self.items[path] = item
            if item.content:
                made.append(path)

    def environment(self) -> tuple[str, ...]:
        env = []
        if self.chance(3):
            parts = self.some(("/a", "/x", "a", "r", "", "/a/b", "/usr/lib", "$ORIGIN", "/nope", "/x;/a", "/" + "n" * 300), 4)
            env.append("LD_LIBRARY_PATH=" + self.random.choice((":", ":", "\n")).join(parts))
        if self.chance(4):
            wanted = [*self.names, "/a/" + self.names[0], "x/" + self.names[-1], "libgone.so", "libc.so.6", "/gone", ""]
            env.append("LD_PRELOAD=" + self.random.choice((":", " ", "\t")).join(self.some(wanted, 3)))
        return tuple(env)

    def path_file(self, loader: str) -> None:
        if not self.odd(4):
            return
        prefix = loader.rpartition("/")[0].rpartition("/")[0]
        path = f"{prefix}/etc/ld-musl-x86_64.path".lstrip("/")
        content = self.random.choice(("\n", ":")).join(self.some(("/a", "/x", "/usr/lib", "/lib", "# x", "", "r", "/a\r"), 4))
        self.items[path] = self.random.choice(
            (
                file(content),
                file(content + "\n"),
                file(content, 0o600),
                folder(),
                symlink("nowhere"),
                symlink(path),
                file("/a\0/x"),
            )
        )

    def world(self) -> World:
        for name in self.names:
            self.place(name)
        cmd, working_dir, at, loader = "", self.random.choice(("", "", "/w", "/app")), "app/main", "/" + LOADER
        if self.chance(8):
            loader = self.random.choice(("/opt/m/lib/ld.so", "/ld.so"))
        elif self.chance(15):
            loader, working_dir = LOADER, ""
        if self.chance(4):
            at = self.random.choice(("main", "app/l/main"))
        self.path_file(loader)
        mode = 0o4755 if self.user and self.chance(4) else 0o755
        self.items[at] = program(self.elf(loader), mode)
        draw = self.random.randrange(8)
        if draw == 0:
            self.items["link"] = symlink("/" + at)
            cmd = "/link"
        elif draw == 1:
            self.items["script"] = script(f"#!/{at} -x\n")
            cmd = "/script"
        elif draw == 2:
            cmd, working_dir = f"./{at}", ""
        self.directories()
        self.items |= {"w/keep": file("x"), "app/keep": file("x")}
        deleted, upper = self.second_layer()
        return World(
            seed=self.seed,
            release=self.random.choice(("1.2.5", "1.2.5", "1.2.3")),
            loader=loader.lstrip("/"),
            layers=(self.items, upper),
            deleted=deleted,
            cmd=(cmd or "/" + at,),
            env=self.environment(),
            user=self.user,
            working_dir=working_dir,
        )

    def directories(self) -> None:
        """Some closed to the user, some that are no directories."""
        for directory in ("a", "a/b", "x", "w/r", "usr/local/lib"):
            above = self.items.get(directory.rpartition("/")[0], folder())
            if above.kind != Kind.DIRECTORY:
                continue
            if self.odd(10):
                self.items[directory] = folder(self.random.choice((0o700, 0o711)))
            elif self.chance(12) and not any(path.startswith(directory + "/") for path in self.items):
                odd = (file("x"), symlink("/usr/lib"), symlink("nowhere"), symlink(directory.rpartition("/")[2]))
                self.items[directory] = self.random.choice(odd)

    def second_layer(self) -> tuple[tuple[str, ...], dict[str, Item]]:
        """Some libraries deleted, some replaced by others of their name; what is linked to stays as it is."""
        linked = {item.link.decode() for item in self.items.values()}
        files = [path for path, item in self.items.items() if path.rpartition("/")[2] in self.names and item.kind == Kind.FILE]
        free = [path for path in files if path not in linked]
        deleted = tuple(path for path in free if self.chance(12))
        return deleted, {path: file(self.elf()) for path in free if path not in deleted and self.chance(12)}


def make_world(seed: int) -> World:
    return _Maker(seed).world()
