"""Remedies that data gives: the package that has a missing library in this very release, joined when a report is read.

Taught by the package databases of the fleet's own images, which the store remembers by distribution, release and machine; where
no image has taught it, by a small table (known_packages.py). Nothing of it is stored in a report (decisions.md 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from analyzers.finding import Report
from service.known_packages import known_package

_INSTALLERS = {
    "debian": "apt-get update && apt-get install -y --no-install-recommends {} && rm -rf /var/lib/apt/lists/*",
    "ubuntu": "apt-get update && apt-get install -y --no-install-recommends {} && rm -rf /var/lib/apt/lists/*",
    "alpine": "apk add --no-cache {}",
    "wolfi": "apk add --no-cache {}",
    "chainguard": "apk add --no-cache {}",
}


class Learned(NamedTuple):
    """What an image of the fleet taught."""

    package: str
    image_id: str


class Remedy(msgspec.Struct, frozen=True):
    """One thing that would mend an image."""

    command: str
    """For a RUN of the Dockerfile; empty where there is no package manager that is known."""
    libraries: tuple[str, ...]
    """What it brings."""
    packages: tuple[str, ...]
    learned_from: tuple[str, ...]
    """Images of the fleet that have these packages, by ID; empty where the built-in table knew."""
    text: str
    """The whole of it in a sentence."""


def release_of(report: Report) -> tuple[str, str]:
    """Distribution and release as os-release names them; Alpine without its patch level."""
    distribution, _, release = report.os.partition(" ")
    return distribution, ".".join(release.split(".")[:2]) if distribution == "alpine" else release


def remedies_of(report: Report, learned: Mapping[str, Learned], names: Mapping[str, str] | None = None) -> tuple[Remedy, ...]:
    """One remedy for all missing libraries whose packages are known. `names`: names of images by ID."""
    distribution, release = release_of(report)
    packages: dict[str, list[str]] = {}
    teachers: dict[str, None] = {}
    for library in report.missing:
        taught = learned.get(library)
        package = taught.package if taught is not None else known_package(distribution, release, library)
        if package:
            packages.setdefault(package, []).append(library)
        if taught is not None:
            teachers[taught.image_id] = None
    if not packages:
        return ()
    installer = _INSTALLERS.get(distribution, "")
    command = installer.format(" ".join(packages)) if installer else ""
    libraries = tuple(library for found in packages.values() for library in found)
    said = "; ".join(f"{', '.join(found)} in {package}" for package, found in packages.items())
    shown = ", ".join((names or {}).get(image_id, image_id) for image_id in teachers)
    source = f"learned from {shown}" if teachers else "by the built-in table"
    first = f"RUN {command}: " if command else f"Install {', '.join(packages)}: "
    text = f"{first}{report.os} has {said} ({source})."
    return (Remedy(command, libraries, tuple(packages), tuple(teachers), text),)
