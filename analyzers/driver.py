"""Copies of the host's driver libraries in an image: what runtimes mount from the host must not come along (failures 50).

Linker's stubs and the vendor's compatibility packages, which are made to be brought, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.finding import Finding, show
from analyzers.host_libraries import brought_by_host, in_the_way
from analyzers.rootfs import Rootfs
from analyzers.rules import RULES
from analyzers.trail import show_path

_SHOWN = 5


def judge_driver(rootfs: Rootfs) -> Iterator[Finding]:
    """One finding for all of them."""
    sonames = {facts.soname for layer in rootfs.layers for facts in layer.elf.values() if facts.soname is not None}
    if not any(brought_by_host(name) for name in sonames):
        return
    found = []
    for node in rootfs.elf_nodes():
        facts = rootfs.elf(node)
        if facts is not None and facts.soname is not None and brought_by_host(facts.soname) and in_the_way(node.path):
            found.append(node)
    if not found:
        return
    rule = RULES["image.driver-library"]
    names = [show(node.path.rpartition(b"/")[2]) for node in found]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    text = f"{rule.title}: {', '.join(names[:_SHOWN])}{more}"
    layer = rootfs.layer_of(found[0])
    yield Finding(rule.id, rule.severity, text, show_path(found[0].path), layer, why=rule.why, remedies=(rule.remedy,))
