"""Debian packages as the stuff of a realistic image: resolved and downloaded by the machine's own apt, read without unpacking.

apt is asked as on an empty machine, so what it answers does not depend on what is installed here. Nothing is installed and
no script of a package runs.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_TRIPLET = "x86_64-linux-gnu"
_ALTERNATIVES = ("libblas.so.3", "liblapack.so.3", "libopenblas.so.0")
_MERGED = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
"""Directories that Debian keeps as links into /usr; packages still name them."""
_APT = ("apt-get", "-qq", "-y", "--no-install-recommends", "-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1")


class PackagesAbsent(Exception):
    """The packages cannot be had on this machine; the text says why."""


class File(NamedTuple):
    """One member of a package, under the path it has in a root whose /bin and its like are links into /usr."""

    path: str
    member: tarfile.TarInfo
    content: bytes


def resolve(names: Sequence[str]) -> list[str]:
    """File names of the packages and all they depend on, in apt's own order. Raises PackagesAbsent."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PackagesAbsent("no apt-get and dpkg-deb on this machine")
    asked = [*_APT, "-o", "Dir::Cache::archives=/nonexistent", "--print-uris", "install", *names]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackagesAbsent(f"apt cannot resolve {' '.join(names)} (is `apt-get update` due?): {done.stderr.strip()[-500:]}")
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("'")]


def download(names: Sequence[str], folder: Path) -> None:
    """Brings the packages and all they depend on into `folder`. Raises PackagesAbsent."""
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::Cache::archives={folder}", "-o", "APT::Sandbox::User=root", "--download-only"]
    done = subprocess.run([*_APT, *options, "install", *names], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackagesAbsent(f"apt cannot download: {done.stderr.strip()[-500:]}")


def files(package: Path) -> Iterator[File]:
    """Every member of one package, in order."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacker:
        with tarfile.open(fileobj=unpacker.stdout, mode="r|") as tar:
            for member in tar:
                path = merged(member.name)
                if path is None:
                    continue
                taken = tar.extractfile(member) if member.isreg() else None
                yield File(path, member, taken.read() if taken is not None else b"")
        unpacker.communicate()
    if unpacker.returncode:
        raise PackagesAbsent(f"{package} cannot be read")


def installed_links() -> dict[str, str]:
    """Links that no package holds and every installed root has: /bin and its like, and three of Debian's alternatives."""
    merged = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
    libraries = f"usr/lib/{_TRIPLET}"
    return merged | {f"{libraries}/{name}": f"openblas-pthread/{name}" for name in _ALTERNATIVES}


def merged(name: str) -> str | None:
    """A member's path under /usr; None for the root and for the directories that are links."""
    path = name.removeprefix("./").strip("/")
    top, _, rest = path.partition("/")
    if top not in _MERGED:
        return path or None
    return f"usr/{path}" if rest else None
