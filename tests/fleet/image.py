"""One image of the fleet: its layers or its Dockerfile, its config, what overrides it, and what shows that it is what it says.

Nothing is compiled before an image's layers are asked for, so the list can be read on a machine without compilers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from analyzers.start import NO_OVERRIDES, Overrides
from tests.make import java, roots
from tests.make.images import Image
from tests.make.layers import Item, program, tar_of

Items = Mapping[str, Item | bytes | str]


class Layer(NamedTuple):
    """What one layer brings, and what it takes away."""

    items: Items
    whiteouts: tuple[str, ...] = ()
    opaques: tuple[str, ...] = ()
    parents: bool = True
    """Whether the directories on the way are listed too."""

    def tar(self) -> bytes:
        return tar_of(self.items, whiteouts=self.whiteouts, opaques=self.opaques, parents=self.parents)


class FleetImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is run by a real engine and foretold from its bytes."""

    id: str
    rules: tuple[str, ...]
    """Ids of loader.md (C, K, G, M, A, R) and of scenarios.md (S) that it shows."""
    base: str = ""
    """Name in BASES of its lowest layer; empty: scratch."""
    layers: Callable[[], Sequence[Layer]]
    """Those above the base. Of an image with a Dockerfile: one, the files that the build may copy."""
    dockerfile: str = ""
    """Instructions for a real `docker build`; a line that says FROM base takes the base."""
    builder: str = "buildkit"
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    platform: str = "linux/amd64"
    overrides: Overrides = NO_OVERRIDES
    """Said at run time."""
    drop_capabilities: bool = False
    fails: str = ""
    """Words that the engine must say; empty when it must start."""
    crashes: int = 0
    """Exit status of one that a signal ends, which says nothing."""
    warns: str = ""
    """Words that its loader must say although it starts."""
    prints: str = ""
    """What its standard output must be when it starts, where that says more than the mark."""
    good: bool = False
    """Mutants are made of it."""

    def tars(self) -> tuple[bytes, ...]:
        """Plain tars, lowest first. Raises elves.ToolAbsent."""
        lowest = (base_tar(self.base),) if self.base else ()
        return (*lowest, *(layer.tar() for layer in self.layers()))

    def image(self) -> Image:
        """The image made by hand. Raises elves.ToolAbsent."""
        return Image(
            layers=self.tars(),
            entrypoint=self.entrypoint,
            cmd=self.cmd,
            env=self.env,
            user=self.user,
            working_dir=self.working_dir,
            platform=self.platform,
        )

    def options(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What of its overrides stands before and behind the image's name in `docker run`."""
        said, before = self.overrides, list[str]()
        behind = said.cmd or ()
        if said.entrypoint is not None:
            before += ["--entrypoint", said.entrypoint[0] if said.entrypoint else ""]
            behind = (*said.entrypoint[1:], *behind)
        for variable in said.env:
            before += ["--env", variable]
        if said.user is not None:
            before += ["--user", said.user]
        if said.working_dir is not None:
            before += ["--workdir", said.working_dir]
        if self.drop_capabilities:
            before.append("--cap-drop=ALL")
        return tuple(before), tuple(behind)


BASES: dict[str, Callable[[], roots.Root]] = {
    "alpine": roots.alpine,
    "busybox": roots.busybox,
    "busybox-glibc": roots.busybox_glibc,
    "debian": roots.debian,
    "debian-musl": roots.musl_of_debian,
    "jre": java.root,
    "glibc-2.31": lambda: roots.neighbour("2.31"),
    "glibc-2.41": lambda: roots.neighbour("2.41"),
}


@functools.cache
def base_tar(name: str) -> bytes:
    return tar_of(BASES[name]())


def runs(id: str, rules: str, base: str, files: Callable[[], Items], cmd: str | None = "/app", **more: object) -> FleetImage:
    """An image of one layer on a base; `rules` and `cmd` are words between blanks.

    Content that is bytes is a program: it gets its execute bit.
    """

    def layers() -> Sequence[Layer]:
        return (Layer({path: program(each) if isinstance(each, bytes) else each for path, each in files().items()}),)

    command = None if cmd is None else tuple(cmd.split())
    values: dict[str, object] = {"id": id, "rules": tuple(rules.split()), "base": base, "layers": layers, "cmd": command}
    return FleetImage(**(values | more))  # type: ignore[arg-type]
