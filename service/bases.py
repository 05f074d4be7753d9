"""Which bases would do for a program, and what the image would weigh on each: computed from what its start takes.

A base is a C library with its release, the libraries it brings, and bytes. Those of the fleet's own images are measured; for
families that the fleet does not have there is a small table of published images. Whatever a base lacks and the image has is
copied along and weighed; what neither has rules the base out. Nothing is assumed of files that a program opens by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from analyzers.finding import Part, Report
from analyzers.load_causes import version_key

_GLIBC_PARTS = frozenset(
    {
        "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2", "libutil.so.1",
        "libanl.so.1", "libmvec.so.1", "libnss_dns.so.2", "libnss_files.so.2", "libcrypt.so.1", "libnsl.so.1",
    }
)  # fmt: skip
"""Belong to one build of glibc: they come with the base and are never copied from another image."""
_SUBSET = frozenset({"libc.so.6", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"})
_CC = frozenset({"libgcc_s.so.1", "libstdc++.so.6", "libgomp.so.1"})
_TLS = frozenset({"libssl.so.3", "libcrypto.so.3"})
_SLIM = _GLIBC_PARTS | frozenset(
    {
        "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libbz2.so.1.0", "liblzma.so.5", "libzstd.so.1", "libtinfo.so.6",
        "libselinux.so.1", "libpcre2-8.so.0", "libacl.so.1", "libattr.so.1", "libaudit.so.1", "libcap.so.2", "libpam.so.0",
    }
)  # fmt: skip
_ALPINE = frozenset({"libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1", "libc.so", "libz.so.1", "libssl.so.3", "libcrypto.so.3"})
MOST_BASES = 12


class Base(msgspec.Struct, frozen=True):
    """What one base image brings."""

    name: str
    libc: str
    """`glibc`, `musl`, or empty for one that brings none."""
    release: str
    """Of the C library."""
    libraries: frozenset[str]
    size_bytes: int
    known_from: str
    """Where these numbers come from, for people."""
    glibcxx: str = ""
    """Newest version of its libstdc++; empty where it has none, or that is not known."""


_PUBLISHED = "the published amd64 image, rounded"
TABLE = (
    Base("scratch", "", "", frozenset(), 0, "nothing to weigh"),
    Base("distroless/static", "", "", frozenset(), 2_000_000, _PUBLISHED),
    Base("busybox:1.36-glibc", "glibc", "2.36", _SUBSET, 4_400_000, _PUBLISHED),
    Base("alpine:3.20", "musl", "1.2.5", _ALPINE, 7_800_000, _PUBLISHED),
    Base("distroless/base-debian12", "glibc", "2.36", _GLIBC_PARTS | _TLS, 21_000_000, _PUBLISHED),
    Base("distroless/cc-debian12", "glibc", "2.36", _GLIBC_PARTS | _TLS | _CC, 23_000_000, _PUBLISHED, "3.4.30"),
    Base("debian:12-slim", "glibc", "2.36", _SLIM, 75_000_000, _PUBLISHED, "3.4.30"),
    Base("ubuntu:24.04", "glibc", "2.39", _SLIM, 78_000_000, _PUBLISHED, "3.4.33"),
    Base("debian:12", "glibc", "2.36", _SLIM | _TLS, 117_000_000, _PUBLISHED, "3.4.30"),
)
"""Families as of 2024, smallest first."""


class Fit(msgspec.Struct, frozen=True):
    """How a program would do on a base."""

    base: str
    starts: bool
    """Whether the loader would find all it looks for; what the program opens by itself is not foretold."""
    why: str
    """What speaks against it; what is copied along where nothing does."""
    size_bytes: int
    """Base, program and what is copied along; 0 where it would not start."""
    known_from: str


def base_of(name: str, report: Report) -> Base | None:
    """A base that is an image of the fleet; None where its C library is not known."""
    family, _, release = report.libc.partition(" ")
    if family not in ("glibc", "musl") or not report.packages:
        return None
    return Base(name, family, release, frozenset(report.packages), report.size_bytes, "an image of this fleet, measured")


def fits(report: Report, own: Sequence[Base] = ()) -> tuple[Fit, ...]:
    """Every base that is known, those that would do first and the lightest of them first; nothing without a program."""
    if not report.parts:
        return ()
    published = TABLE if report.platform == "linux/amd64" else ()
    found = [_fit(base, report.parts, report.missing) for base in (*own, *published)]
    return tuple(sorted(found, key=lambda fit: (not fit.starts, fit.size_bytes, fit.base))[:MOST_BASES])


def _fit(base: Base, parts: Sequence[Part], missing: Collection[str]) -> Fit:
    program = parts[0]
    family = wanted_libc(program)
    if not family:
        return Fit(base.name, True, "The program is static.", base.size_bytes + program.size_bytes, base.known_from)
    if family != base.libc:
        has = f"has {base.libc}" if base.libc else "has no C library"
        return Fit(base.name, False, f"The program wants {family}, and it {has}.", 0, base.known_from)
    there = {part.name: part for part in parts[1:]} | {part.path.rpartition("/")[2]: part for part in parts[1:]}
    copied: dict[str, Part] = {}
    lacking: list[str] = []
    pending = [program]
    while pending:
        for name in pending.pop().needs:
            if name in base.libraries or name in copied or _is_loader(name) or _is_own_of_musl(name, family):
                continue
            part = None if name in _GLIBC_PARTS or name in missing else there.get(name)
            if part is None:
                lacking.append(name)
            else:
                copied[name] = part
                pending.append(part)
    if lacking:
        names = ", ".join(dict.fromkeys(lacking))
        return Fit(base.name, False, f"It lacks {names}, which this image cannot give it.", 0, base.known_from)
    newest = max((part.glibc for part in (program, *copied.values())), key=version_key)
    if newest and version_key(newest) > version_key(base.release):
        return Fit(base.name, False, f"The program wants glibc {newest}, and it has {base.release}.", 0, base.known_from)
    stdcxx = (
        max((part.glibcxx for part in (program, *copied.values())), key=version_key) if "libstdc++.so.6" not in copied else ""
    )
    if stdcxx and base.glibcxx and version_key(stdcxx) > version_key(base.glibcxx):
        why = f"The program wants GLIBCXX_{stdcxx}, and it has {base.glibcxx}."
        return Fit(base.name, False, why, 0, base.known_from)
    along = f"With {', '.join(copied)} copied along." if copied else "It brings every library."
    along += " Its libstdc++ was not compared." if stdcxx and not base.glibcxx else ""
    size = base.size_bytes + program.size_bytes + sum(part.size_bytes for part in copied.values())
    return Fit(base.name, True, along, size, base.known_from)


def wanted_libc(program: Part) -> str:
    """The family of the loader that a program names; empty for a static one."""
    if not program.interpreter:
        return ""
    return "musl" if "ld-musl" in program.interpreter else "glibc"


def _is_loader(name: str) -> bool:
    return name.startswith(("ld-linux", "ld64.so", "ld-musl"))


def _is_own_of_musl(name: str, family: str) -> bool:
    """musl takes these names for itself (M2)."""
    return family == "musl" and name.startswith(("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."))
