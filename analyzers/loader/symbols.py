"""Dynamic symbols of one object, unpacked for lookup: what it wants, and what it offers by name.

Shared by the emulations; which definition a reference accepts is theirs to say (G46-G49, M21-M24).
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

from analyzers.facts import SymbolFacts


class Wanted(NamedTuple):
    """One undefined (or COPY) symbol. `flags` are facts.SymbolFlag."""

    name: bytes
    version: bytes
    """Empty: the reference has no version."""
    flags: int


class Offered(NamedTuple):
    """One definition of a name."""

    version: bytes
    flags: int


def wanted_symbols(facts: SymbolFacts) -> list[Wanted]:
    """In the order of the symbol table."""
    if not facts.import_flags:
        return []
    names = facts.import_names.split(b"\0")
    versions = facts.versions
    return [
        Wanted(name, versions[index], flags)
        for name, index, flags in zip(names, _indexes(facts.import_versions), facts.import_flags, strict=True)
    ]


def offered_symbols(facts: SymbolFacts) -> dict[bytes, list[Offered]]:
    """Every definition a lookup could find, by name."""
    offered: dict[bytes, list[Offered]] = {}
    if not facts.export_flags:
        return offered
    names = facts.export_names.split(b"\0")
    versions = facts.versions
    for name, index, flags in zip(names, _indexes(facts.export_versions), facts.export_flags, strict=True):
        offered.setdefault(name, []).append(Offered(versions[index], flags))
    return offered


def _indexes(raw: bytes) -> array[int]:
    """u16, little-endian as stored."""
    indexes = array("H", raw)
    if _BIG:
        indexes.byteswap()
    return indexes


_BIG = array("H", b"\1\0")[0] != 1
