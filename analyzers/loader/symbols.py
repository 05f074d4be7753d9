"""Dynamic symbols of one object, unpacked for lookup: what it wants, and what it offers by name.

Shared by the emulations; which definition a reference accepts is theirs to say (G46-G49, M21-M24).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from analyzers.facts import SymbolFacts


class Reference(NamedTuple):
    """A symbol that an object wants."""

    name: bytes
    version: bytes
    """Empty: the reference has no version."""

    def words(self) -> bytes:
        """As glibc prints it."""
        return self.name + (b", version " + self.version if self.version else b"")


_REFERENCE = partial(tuple.__new__, Reference)
"""Reference._make without its Python frame: files have a hundred thousand of them."""


class Offered(NamedTuple):
    """One definition of a name."""

    version: bytes
    flags: int


def wanted_symbols(facts: SymbolFacts) -> list[Reference]:
    """The undefined (or COPY) symbols in the order of the symbol table; their flags are `facts.import_flags`."""
    if not facts.import_flags:
        return []
    names, versions = facts.import_names.split(b"\0"), map(facts.versions.__getitem__, _indexes(facts.import_versions))
    return list(map(_REFERENCE, zip(names, versions, strict=True)))


def offered_columns(facts: SymbolFacts) -> tuple[list[bytes], list[bytes]]:
    """Names and versions of the definitions; their flags are `facts.export_flags`."""
    if not facts.export_flags:
        return [], []
    return facts.export_names.split(b"\0"), list(map(facts.versions.__getitem__, _indexes(facts.export_versions)))


def offered_symbols(facts: SymbolFacts) -> dict[bytes, list[Offered]]:
    """Every definition a lookup could find, by name."""
    offered: dict[bytes, list[Offered]] = {}
    for name, version, flags in zip(*offered_columns(facts), facts.export_flags, strict=True):
        offered.setdefault(name, []).append(Offered(version, flags))
    return offered


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


def relocated_places(facts: SymbolFacts) -> array[int]:
    """Of the same runs, one more than each symbol's place; 0 where the lookup cannot fail."""
    return _numbers("I", facts.relocation_symbols)


def _indexes(raw: bytes) -> array[int]:
    """u16, little-endian as stored."""
    return _numbers("H", raw)


def _numbers(code: str, raw: bytes) -> array[int]:
    numbers = array(code, raw)
    if _BIG:
        numbers.byteswap()
    return numbers


_BIG = array("H", b"\1\0")[0] != 1
