"""Native gems of Ruby that were built for another Ruby, or for another C library, than the image has (R30).

RubyGems passes over a gem whose extensions it does not find built for its own version and platform, and says so
(`Gem::BasicSpecification#contains_requirable_file?`); what requires it fails then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Finding, show
from analyzers.rootfs import Rootfs
from analyzers.rules import RULES
from analyzers.trail import show_path

_LIBRARIES = (b"usr/local/lib/ruby", b"usr/lib/ruby", b"usr/lib64/ruby", b"opt/ruby/lib/ruby")
_API = re.compile(rb"\d+\.\d+\.\d+")
_BUILT = re.compile(rb"(.*)/extensions/([^/]+)/(\d+\.\d+\.\d+)(?:-static)?/(([^/]+)-(\d[^/-]*)[^/]*)/gem\.build_complete")
_MARK = b"gem.build_complete"
_SHOWN = 20


class _Built(NamedTuple):
    """The built extensions of one gem."""

    home: bytes
    platform: bytes
    api: bytes
    gem: bytes
    name: bytes
    version: bytes
    layer: int


def ruby_findings(rootfs: Rootfs) -> Iterator[Finding]:
    """One for each gem that no Ruby of the image takes."""
    rubies = _rubies(rootfs)
    if not rubies:
        return
    gems: dict[tuple[bytes, bytes], list[_Built]] = {}
    for node in rootfs.named(_MARK):
        found = _BUILT.fullmatch(node.path)
        if found is not None:
            home, platform, api, gem, name, version = found.groups()
            built = _Built(home, platform, api, gem, name, version, node.layer)
            gems.setdefault((built.home, built.gem), []).append(built)
    unfit = [each for each in gems.values() if not any(_fits(built, rubies) for built in each)]
    rule = RULES["ruby.gem-not-built"]
    versions = ", ".join(sorted(show(api) for api in rubies))
    for each in unfit[:_SHOWN]:
        built = each[0]
        more = "" if len(unfit) <= _SHOWN or each is not unfit[_SHOWN - 1] else f" (and {len(unfit) - _SHOWN} more gems)"
        shown = show(built.gem)
        yield Finding(
            rule.id,
            rule.severity,
            f"Ignoring {shown} because its extensions are not built. Try: gem pristine {show(built.name)} --version "
            f"{show(built.version)}{more}",
            show_path(built.home) + f"/extensions/{show(built.platform)}/{show(built.api)}/{shown}",
            built.layer if built.layer < len(rootfs.layers) else None,
            why=f"{rule.why} These are for Ruby {show(built.api)} on {show(built.platform)}; the image has Ruby {versions}.",
            remedies=(rule.remedy,),
            assumptions=("That the gem is looked for in that directory.",),
        )


def _rubies(rootfs: Rootfs) -> dict[bytes, bool]:
    """Whether each Ruby of the image, by its API version, is one for musl."""
    found: dict[bytes, bool] = {}
    for folder in _LIBRARIES:
        node = rootfs.resolve(b"/" + folder).node
        if node is None or node.entry.kind != Kind.DIRECTORY:
            continue
        for child in rootfs.children(node.path):
            name = child.path.rpartition(b"/")[2]
            if child.entry.kind == Kind.DIRECTORY and _API.fullmatch(name):
                musl = any(each.path.endswith(b"-linux-musl") for each in rootfs.children(child.path))
                found[name] = found.get(name, False) or musl
    return found


def _fits(built: _Built, rubies: dict[bytes, bool]) -> bool:
    """Older RubyGems call musl's platform as glibc's, so only one that says musl is told from the other."""
    musl = rubies.get(built.api)
    return musl is not None and (musl or not built.platform.endswith(b"-musl"))
