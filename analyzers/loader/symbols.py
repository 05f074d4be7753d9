"""Dynamic symbols of one object, unpacked for lookup: what it wants, and what it offers by name.

Shared by the emulations; which definition a reference accepts is theirs to say (G46-G49, M21-M24).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
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


def import_pairs(facts: SymbolFacts) -> list[tuple[bytes, bytes]]:
    """(name, version) of every import, in the order of the symbol table."""
    return _pairs(facts, facts.import_names, facts.import_versions) if facts.import_flags else []


def export_pairs(facts: SymbolFacts) -> list[tuple[bytes, bytes]]:
    """(name, version) of every export, likewise."""
    return _pairs(facts, facts.export_names, facts.export_versions) if facts.export_flags else []


def _pairs(facts: SymbolFacts, names: bytes, versions: bytes) -> list[tuple[bytes, bytes]]:
    return list(zip(names.split(b"\0"), map(facts.versions.__getitem__, _indexes(versions)), strict=True))


def relocation_symbols(facts: SymbolFacts) -> array[int]:
    """The symbols of relocation_runs alone: one more than the place among the imports and own names, or 0."""
    return _numbers("I", facts.relocation_symbols)


class Relocated(NamedTuple):
    """`times` relocations in a row of one type against one symbol."""

    symbol: int
    """Place among the imports and, behind them, the own names; -1 where the lookup cannot fail."""
    kind: int
    times: int


def relocation_runs(facts: SymbolFacts) -> Iterator[Relocated]:
    """In the order DT_JMPREL, DT_REL, DT_RELA; nothing where the order was not kept."""
    kinds = facts.relocation_kinds
    symbols, counts = _numbers("I", facts.relocation_symbols), _numbers("I", facts.relocation_counts)
    for symbol, index, times in zip(symbols, facts.relocation_kind_indexes, counts, strict=True):
        yield Relocated(symbol - 1, kinds[index], times)


def _indexes(raw: bytes) -> array[int]:
    """u16, little-endian as stored."""
    return _numbers("H", raw)


def _numbers(code: str, raw: bytes) -> array[int]:
    numbers = array(code, raw)
    if _BIG:
        numbers.byteswap()
    return numbers


_BIG = array("H", b"\1\0")[0] != 1
