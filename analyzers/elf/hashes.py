"""The two hash tables of dynamic symbols: how many symbols they tell of, and which of them a lookup can reach (G47).

Both tables are walked as the loaders walk them, with every number bounded by what is mapped: a bucket or a chain that
leaves the file ends there (hostile 84). Names are hashed again only for a sample; when one of those would not be found, for
all. Mirrors elf/dl-lookup.c do_lookup_x and elf/dl-setup_hash.c.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple

from analyzers.elf.dynamic import DT_GNU_HASH, DT_HASH, Dynamic
from analyzers.elf.layouts import Layouts, numbers
from analyzers.elf.memory import Memory

WIDE_SYSV_HASH = frozenset({22, 0x9026})
"""s390 and alpha: entries of the System V table are words of the class."""
LOW_BIT = bytes(value & 1 for value in range(256))
SAMPLE = 8
REHASH_BYTES = 4 << 20
"""Of a table with stale hashes so many bytes of names are hashed again; the names after them count as unreachable."""


class GnuTable(NamedTuple):
    """The numbers one lookup in DT_GNU_HASH uses."""

    first: int
    shift: int
    bloom: array[int]
    bits: int
    buckets: array[int]
    chains: array[int]


class Lookup(NamedTuple):
    """What a hash table reaches."""

    size: int
    """One more than the highest symbol index the table knows."""
    exact: bool
    """Whether `size` is the size of the symbol table."""
    reach: bytearray
    """One byte a symbol: 1 where a lookup can end."""
    table: GnuTable | None = None


def read_gnu_hash(memory: Memory, dynamic: Dynamic, layout: Layouts, room: int, defects: set[str]) -> Lookup:
    """A table without buckets defines nothing, and that is no fault: do_lookup_x passes over it."""
    address = dynamic.last[DT_GNU_HASH]
    head = numbers("I", memory.read(address, 16), layout.little)
    if len(head) < 4:
        defects.add("bad-dynamic:DT_GNU_HASH")
        return Lookup(0, False, bytearray())
    bucket_count, first, bloom_words, shift = head
    nothing = Lookup(first if first < room else 0, False, bytearray(first if first < room else 0))
    if bloom_words & (bloom_words - 1) or not bloom_words:  # dl-setup_hash.c asserts a power of two
        defects.add("bad-dynamic:DT_GNU_HASH")
    buckets_at = address + 16 + bloom_words * layout.word_bytes
    chains_at = buckets_at + 4 * bucket_count
    if 4 * bucket_count > memory.room(buckets_at):
        defects.add("bad-dynamic:DT_GNU_HASH")
        return nothing
    buckets = numbers("I", memory.read(buckets_at, 4 * bucket_count), layout.little)
    starts = bytearray(room)
    for start in buckets:
        if first <= start < room:
            starts[start] = 1
        elif start:
            defects.add("bad-dynamic:DT_GNU_HASH")
    top = starts.rfind(1)
    if top < 0:
        return nothing
    # Chains lie one behind the other: up to the last bucket's start, then on to the first end mark.
    data = memory.peek(chains_at, 4 * (room - first))
    ends = data[(0 if layout.little else 3) :: 4].translate(LOW_BIT)
    last = ends.find(1, top - first)
    if last < 0:
        data = memory.read(chains_at, 4 * (top + 1 - first))
        ends = data[(0 if layout.little else 3) :: 4].translate(LOW_BIT)
        last = len(ends) - 1
        defects.add("bad-dynamic:DT_GNU_HASH")
    if last < 0:
        return nothing
    size = first + last + 1
    begins = b"\1" + ends[:last]
    reach = bytearray(first) + (b"\1" * (last + 1) if starts[first:size] == begins else reached(starts[first:size], begins))
    chains = numbers("I", data[: 4 * (last + 1)], layout.little)
    bloom = numbers(layout.word, memory.read(address + 16, bloom_words * layout.word_bytes), layout.little)
    return Lookup(size, True, reach, GnuTable(first, shift, bloom, layout.bits, buckets, chains))


def reached(starts: bytearray, begins: bytes) -> bytearray:
    """A symbol is found when some bucket starts at it or before it within its chain."""
    found = bytearray(len(begins))
    on = 0
    for index, (start, begin) in enumerate(zip(starts, begins, strict=True)):
        on = 1 if start else 0 if begin else on
        found[index] = on
    return found


def gnu_hash(name: bytes) -> int:
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def findable(table: GnuTable, name: bytes, index: int) -> bool:
    """Whether a lookup of `name` ends at symbol `index`."""
    value = gnu_hash(name)
    if table.bloom:
        word = table.bloom[(value // table.bits) & (len(table.bloom) - 1)]
        if not (word >> (value % table.bits)) & (word >> ((value >> (table.shift & 31)) % table.bits)) & 1:
            return False
    start = table.buckets[value % len(table.buckets)]
    if not table.first <= start <= index or (table.chains[index - table.first] ^ value) >> 1:
        return False
    return not any(link & 1 for link in table.chains[start - table.first : index - table.first])


def drop_stale(lookup: Lookup, name_at: Callable[[int], bytes | None]) -> None:
    """Clears `reach` of symbols whose name no longer has the hash it stands under (a renamed string, a zeroed filter)."""
    table = lookup.table
    if table is None:
        return
    count = lookup.size - table.first
    step = max(count // SAMPLE, 1)
    if all(found(lookup, table, name_at, index) for index in range(table.first, lookup.size, step)):
        return
    spent = 0
    for index in range(table.first, lookup.size):
        name = name_at(index) if spent < REHASH_BYTES else None
        spent += len(name or b"") + 16
        if name is None or not findable(table, name, index):
            lookup.reach[index] = 0


def found(lookup: Lookup, table: GnuTable, name_at: Callable[[int], bytes | None], index: int) -> bool:
    name = name_at(index)
    return not lookup.reach[index] or (name is not None and findable(table, name, index))


def read_sysv_hash(memory: Memory, dynamic: Dynamic, layout: Layouts, machine: int, room: int, defects: set[str]) -> Lookup:
    address = dynamic.last[DT_HASH]
    code = "Q" if machine in WIDE_SYSV_HASH and layout.bits == 64 else "I"
    width = 8 if code == "Q" else 4
    head = numbers(code, memory.read(address, 2 * width), layout.little)
    if len(head) < 2:
        defects.add("bad-dynamic:DT_HASH")
        return Lookup(0, False, bytearray())
    bucket_count, chain_count = head
    available = max(memory.room(address) // width - 2, 0)
    if bucket_count > available or chain_count > available - bucket_count:
        defects.add("bad-dynamic:DT_HASH")
    bucket_count = min(bucket_count, available)
    count = min(chain_count, available - bucket_count, room)
    table = numbers(code, memory.read(address + 2 * width, width * (bucket_count + count)), layout.little)
    buckets, chains = table[:bucket_count], table[bucket_count:]
    reach = bytearray(count)
    for start in buckets:
        index = start
        while 0 < index < len(chains) and not reach[index]:
            reach[index] = 1
            index = chains[index]
        if index >= len(chains):
            defects.add("bad-dynamic:DT_HASH")
    return Lookup(count, chain_count == count, reach)
