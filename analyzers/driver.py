"""Copies of the host's driver libraries in an image: what runtimes mount from the host must not come along (failures 50).

Linker's stubs and the vendor's compatibility packages, which are made to be brought, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from analyzers.finding import Finding, show
from analyzers.plugins import is_from_host
from analyzers.rootfs import Rootfs
from analyzers.rules import RULES
from analyzers.trail import show_path

_MEANT = (b"/stubs/", b"/compat/", b"cuda-compat")
_SHOWN = 5


def judge_driver(rootfs: Rootfs) -> Iterator[Finding]:
    """One finding for all of them."""
    sonames = {facts.soname for layer in rootfs.layers for facts in layer.elf.values() if facts.soname is not None}
    if not any(is_from_host(name) for name in sonames):
        return
    found = []
    for node in rootfs.elf_nodes():
        facts = rootfs.elf(node)
        meant = any(each in b"/" + node.path for each in _MEANT)
        if facts is not None and facts.soname is not None and is_from_host(facts.soname) and not meant:
            found.append(node)
    if not found:
        return
    rule = RULES["image.driver-library"]
    names = [show(node.path.rpartition(b"/")[2]) for node in found]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    text = f"{rule.title}: {', '.join(names[:_SHOWN])}{more}"
    layer = rootfs.layer_of(found[0])
    yield Finding(rule.id, rule.severity, text, show_path(found[0].path), layer, why=rule.why, remedies=(rule.remedy,))
