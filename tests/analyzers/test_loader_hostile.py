"""Graphs of libraries that are made to be walked for ever: every loader's emulation ends, and in linear time (hostile 94)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import pytest

from analyzers.facts import LoaderFacts
from analyzers.finding import State
from analyzers.oci import ImageConfig, Platform
from analyzers.profile import HostProfile
from analyzers.rootfs import Rootfs
from analyzers.start import NO_OVERRIDES, Start, foretell_start
from tests.make.layers import file, program
from tests.make.synthetic import Elf, build
from tests.make.views import Item, elf, elf_facts, layer

FAMILIES = {
    "glibc": LoaderFacts("glibc", "2.36", (b"/lib/",), b"/etc/ld.so.cache", b"/etc/ld.so.preload", b"lib"),
    "musl": LoaderFacts("musl", "1.2.5"),
}


@functools.cache
def library(soname: str, needed: tuple[str, ...]) -> Item:
    return file(build(Elf(soname=soname, needed=needed)))


def started(family: str, graph: Mapping[str, tuple[str, ...]]) -> Start:
    """A program that needs `l0`, and the libraries of the graph in /lib."""
    loader = elf_facts(loader=FAMILIES[family], dynamic=True, has_gnu_hash=True, soname=b"ld.so")
    items: dict[str, Item | bytes | str] = {
        "lib/ld.so": elf(loader),
        "x": program(build(Elf(interp="/lib/ld.so", needed=("l0",)))),
    }
    items |= {f"lib/{name}": library(name, needed) for name, needed in graph.items()}
    config = ImageConfig(cmd=("/x",), platform=Platform("linux", "amd64"))
    return foretell_start(Rootfs([layer(items)]), config, HostProfile(), NO_OVERRIDES)


def cycle() -> dict[str, tuple[str, ...]]:
    return {"l0": ("l1", "l0"), "l1": ("l2",), "l2": ("l0", "l1")}


@functools.cache
def chain() -> dict[str, tuple[str, ...]]:
    return {f"l{number}": (f"l{number + 1}",) if number < 4999 else () for number in range(5000)}


def diamonds() -> dict[str, tuple[str, ...]]:
    """Two libraries a level, each needing both of the next: 2^30 ways from top to bottom."""

    def levels() -> Iterator[tuple[str, tuple[str, ...]]]:
        yield "l0", ("a0", "b0")
        for level in range(30):
            below = (f"a{level + 1}", f"b{level + 1}") if level < 29 else ()
            yield f"a{level}", below
            yield f"b{level}", below

    return dict(levels())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("graph", [cycle, chain, diamonds], ids=lambda graph: graph.__name__)
def test_h094_each_library_is_loaded_once_however_often_it_is_needed(family: str, graph: object) -> None:
    made = graph()  # type: ignore[operator]
    start = started(family, made)
    assert start.state is State.STARTS, (start.message, start.why_unknown)
    assert start.loaded is not None
    names = [each.name for each in start.loaded.objects if each.name.startswith(("l", "a", "b"))]
    assert sorted(names) == sorted(made), "each once, and all"


@pytest.mark.parametrize("family", FAMILIES)
def test_h094_a_cycle_with_a_hole_names_the_hole(family: str) -> None:
    start = started(family, {**cycle(), "l2": ("l0", "gone")})
    assert start.state is State.FAILS
    assert b"gone" in start.message
