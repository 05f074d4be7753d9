"""What a program's start takes: every object with its bytes and wants, and what that asks of the host.

The list is the least run stage: the program, its loader and its libraries, and nothing else of the image (scenarios S9). Which
base could take its place is computed from the same list, elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from analyzers.facts import ElfFacts
from analyzers.finding import Part, show
from analyzers.rootfs import Node, Rootfs
from analyzers.start import Start
from analyzers.trail import show_path

_GLIBC = re.compile(rb"GLIBC_(\d+(?:\.\d+)+)")
_GLIBCXX = re.compile(rb"GLIBCXX_(\d+(?:\.\d+)+)")
_PAGED_MACHINES = frozenset((8, 20, 21, 183, 258))
"""Machines whose kernels are built for more than one page size: MIPS, PowerPC, arm64, LoongArch."""
_PT_LOAD = 1
_SHOWN = 400


class HostFit(NamedTuple):
    """What the objects of a start ask of the host, beyond the machine itself."""

    max_page_size: int = 0
    """Largest page of a kernel that can map them all; 0 where the machine has but one size."""
    kernel: str = ""
    """Oldest kernel that their NT_GNU_ABI_TAG notes allow, such as `3.2.0`; empty where none says so."""


def start_parts(start: Start, rootfs: Rootfs) -> tuple[Part, ...]:
    """The program first, then its loader and libraries in load order, as far as they were found."""
    return tuple(_part(name, path, node, rootfs) for name, path, node in _objects(start))


def host_fit(start: Start, rootfs: Rootfs) -> HostFit:
    """Of the objects that were found."""
    found = [facts for _, _, node in _objects(start) if (facts := rootfs.elf(node)) is not None]
    pages = [max(aligned) for facts in found if (aligned := _alignments(facts)) and facts.machine in _PAGED_MACHINES]
    kernels = [facts.abi_tag[1:] for facts in found if facts.abi_tag is not None and facts.abi_tag[0] == 0]
    kernel = ".".join(map(str, max(kernels))) if kernels else ""
    return HostFit(min(pages, default=0), kernel)


def _alignments(facts: ElfFacts) -> list[int]:
    return [segment.align for segment in facts.segments if segment.type == _PT_LOAD and 0 < segment.align <= 1 << 30]


def _objects(start: Start) -> Iterator[tuple[str, bytes, Node]]:
    """Name as asked for, path as opened, and the file."""
    executed = start.execution
    if executed is None or executed.program is None:
        return
    seen = {executed.program.path}
    path = executed.opened_as or b"/" + executed.program.path
    yield show(path), path, executed.program
    wanted = [(show(executed.interp_name), executed.interp_name, executed.interp)]
    wanted += [(each.name, each.path, each.node) for each in start.loaded.objects] if start.loaded is not None else []
    for name, path, node in wanted[:_SHOWN]:
        if node is not None and node.path not in seen:
            seen.add(node.path)
            yield name, path, node


def _newest(facts: ElfFacts | None, pattern: re.Pattern[bytes]) -> str:
    versions = [] if facts is None else [found[1] for need in facts.verneed if (found := pattern.fullmatch(need.version))]
    return ".".join(map(str, max((tuple(map(int, version.split(b"."))) for version in versions), default=())))


def _part(name: str, path: bytes, node: Node, rootfs: Rootfs) -> Part:
    facts = rootfs.elf(node)
    return Part(
        name=name,
        path=show(path) if path.startswith(b"/") else show_path(node.path),
        size_bytes=node.entry.size,
        layer=rootfs.layer_of(node),
        interpreter="" if facts is None else show(facts.interp or b""),
        needs=() if facts is None else tuple(show(each) for each in facts.needed),
        glibc=_newest(facts, _GLIBC),
        glibcxx=_newest(facts, _GLIBCXX),
    )
