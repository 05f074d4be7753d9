"""Versions wanted (DT_VERNEED) against versions defined (DT_VERDEF), in the words and order of glibc.

Mirrors `elf/dl-version.c`: the version must be defined by the very file that the record names, whoever else has it (G43-G45).
musl has no such check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from analyzers.facts import ElfFacts
from analyzers.loader.linkmap import Mapped, Signalled

_ASSERT_LINE = {(2, 35): 204}
_OLD_ASSERT_LINE = 205


class VersionSets(NamedTuple):
    """The version tables of one file, ready for the answer that nearly always comes: all is there."""

    wanted: tuple[tuple[bytes, frozenset[bytes]], ...]
    """By file."""
    defined: frozenset[bytes]


def version_sets(facts: ElfFacts) -> VersionSets:
    wanted: dict[bytes, set[bytes]] = {}
    for need in facts.verneed:
        wanted.setdefault(need.file, set()).add(need.version)
    defined = frozenset(each.version for each in facts.verdef)
    return VersionSets(tuple((file, frozenset(versions)) for file, versions in wanted.items()), defined)


class Unmet(NamedTuple):
    """A version that its provider does not define."""

    provider: Mapped
    version: bytes
    wanted_by: Mapped


class Checked(NamedTuple):
    """What the check prints and how it ends."""

    lines: tuple[bytes, ...]
    warnings: tuple[bytes, ...]
    """Those of `lines` that do not stop the process."""
    unmet: tuple[Unmet, ...]
    fatal: bytes = b""
    """The line that ended the check at once, the last of `lines`; empty when there is none."""
    fatal_by: Mapped | None = None


def check_versions(
    chain: Sequence[Mapped],
    scope: Sequence[Mapped],
    program: bytes,
    release: tuple[int, int],
    sets: Callable[[Mapped], VersionSets],
) -> Checked:
    """_dl_check_all_versions over the chain of objects; `scope` is the program's search list."""
    lines: list[bytes] = []
    warnings: list[bytes] = []
    unmet: list[Unmet] = []
    names: dict[bytes, Mapped] = {}
    for mapped in chain:
        for name in mapped.names:
            names.setdefault(name, mapped)
    beside = {name: each for each in reversed(scope) for name in each.names}
    for mapped in chain:
        if mapped.faked:
            continue
        # Only the program has a search list to fall back on.
        known = {**beside, **names} if not mapped.name else names
        try:
            met = _all_met(mapped, known, sets)
            fatal = _check_object(mapped, known, program, release, lines, warnings, unmet, met=met)
        except Signalled as signalled:
            fatal = signalled.line(program)
        if fatal:
            lines.append(fatal)
            return Checked(tuple(lines), tuple(warnings), tuple(unmet), fatal, mapped)
    return Checked(tuple(lines), tuple(warnings), tuple(unmet))


def _all_met(mapped: Mapped, known: Mapping[bytes, Mapped], sets: Callable[[Mapped], VersionSets]) -> bool:
    """Whether every version is defined by the file that it is wanted from, so that there is nothing to say."""
    if not mapped.facts.verneed:
        return False
    for file, versions in sets(mapped).wanted:
        provider = known.get(file)
        if provider is None or not versions <= sets(provider).defined:
            return False
    return True


def check_opened(chain: Sequence[Mapped], opened: Sequence[Mapped], program: bytes, release: tuple[int, int]) -> bytes:
    """_dl_check_map_versions of what a dlopen brings: dlerror's words for the first that is unmet; empty when all are met."""
    known: dict[bytes, Mapped] = {}
    for mapped in chain:
        for name in mapped.names:
            known.setdefault(name, mapped)
    start = program + b": "
    for mapped in opened:
        lines: list[bytes] = []
        unmet: list[Unmet] = []
        try:
            fatal = _check_object(mapped, known, program, release, lines, [], unmet)
        except Signalled as signalled:
            return signalled.objname + b": " + signalled.text
        if fatal:
            return fatal
        if unmet:
            words = b"version `" + unmet[0].version + b"' not found"
            return next((line.removeprefix(start) for line in lines if words in line), b"version lookup error")
    return b""


def _check_object(
    mapped: Mapped,
    known: Mapping[bytes, Mapped],
    program: bytes,
    release: tuple[int, int],
    lines: list[bytes],
    warnings: list[bytes],
    unmet: list[Unmet],
    *,
    met: bool = False,
) -> bytes:
    """_dl_check_map_versions; gives the line that ends the process on the spot, if any."""
    facts = mapped.facts
    if facts.verneed_version != 1 and not facts.verneed:
        raise Signalled(mapped.shown(program), b"unsupported version %d of Verneed record" % facts.verneed_version)
    for need in () if met else facts.verneed:
        needed = known.get(need.file)
        if needed is None:
            line = _ASSERT_LINE[2, 35] if release >= (2, 35) else _OLD_ASSERT_LINE
            return (
                b"Inconsistency detected by ld.so: dl-version.c: %d: _dl_check_map_versions: "
                b"Assertion `needed != NULL' failed!" % line
            )
        if needed.faked:
            continue
        text, fatal = _match(needed, need.version, mapped.shown(program), weak=need.weak)
        if text:
            line_text = program + b": " + needed.shown(program) + b": " + text
            lines.append(line_text)
            if fatal:
                unmet.append(Unmet(needed, need.version, mapped))
            else:
                warnings.append(line_text)
    lacks_mark = facts.has_relr and not any(need.version == b"GLIBC_ABI_DT_RELR" for need in facts.verneed)
    wants_libc = facts.verneed and any(name.startswith(b"libc.so.") for name in facts.needed)
    if release >= (2, 36) and lacks_mark and wants_libc:
        raise Signalled(mapped.shown(program), b"DT_RELR without GLIBC_ABI_DT_RELR dependency")
    return b""


def _match(provider: Mapped, version: bytes, wanted_by: bytes, *, weak: bool) -> tuple[bytes, bool]:
    """match_symbol: (what it prints, whether that is an error)."""
    facts = provider.facts
    if not facts.verdef and facts.verdef_version == 1:
        return b"no version information available (required by " + wanted_by + b")", False
    for definition in facts.verdef:
        if definition.version == version:
            return b"", False
    if facts.verdef_version != 1:
        return b"unsupported version %d of Verdef record" % facts.verdef_version, True
    if weak:
        return b"weak version `" + version + b"' not found (required by " + wanted_by + b")", False
    return b"version `" + version + b"' not found (required by " + wanted_by + b")", True


def defined_versions(provider: Mapped) -> Iterator[bytes]:
    """What a provider does define, the name of the file itself left out."""
    return (definition.version for definition in provider.facts.verdef if not definition.base)
