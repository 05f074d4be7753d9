"""The two hash tables of dynamic symbols: how many symbols they tell of, and which of them a lookup can reach (G47).

Both tables are walked as the loaders walk them, with every number bounded by what is mapped: a bucket or a chain that
leaves the file ends there (hostile 84). Mirrors elf/dl-lookup.c do_lookup_x and elf/dl-setup_hash.c.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.elf.dynamic import DT_GNU_HASH, DT_HASH, Dynamic
from analyzers.elf.layouts import Layouts, numbers
from analyzers.elf.memory import Memory

WIDE_SYSV_HASH = frozenset({22, 0x9026})
"""s390 and alpha: entries of the System V table are words of the class."""


class Lookup(NamedTuple):
    """What a hash table reaches."""

    size: int
    """One more than the highest symbol index the table knows."""
    first: int
    """Lowest symbol index that can be in the table."""
    holes: frozenset[int]
    """Indexes from `first` on that no bucket leads to."""
    exact: bool
    """whether `size` is the size of the symbol table."""

    def reachable(self, count: int) -> bytearray:
        """One byte a symbol: 1 where a lookup can end."""
        found = bytearray(min(self.first, count)) + b"\1" * (min(self.size, count) - min(self.first, count))
        for hole in self.holes:
            if hole < len(found):
                found[hole] = 0
        return found + bytes(count - len(found))


def read_gnu_hash(memory: Memory, dynamic: Dynamic, layout: Layouts, room: int, defects: set[str]) -> Lookup | None:
    address = dynamic.last[DT_GNU_HASH]
    head = numbers("I", memory.read(address, 16), layout.little)
    if len(head) < 4 or not head[0]:
        defects.add("bad-dynamic:DT_GNU_HASH")
        return None
    bucket_count, first, bloom_words = head[0], head[1], head[2]
    if bloom_words & (bloom_words - 1) or not bloom_words:  # dl-setup_hash.c asserts a power of two
        defects.add("bad-dynamic:DT_GNU_HASH")
    buckets_at = address + 16 + bloom_words * layout.word_bytes
    chains_at = buckets_at + 4 * bucket_count
    if 4 * bucket_count > memory.room(buckets_at):
        defects.add("bad-dynamic:DT_GNU_HASH")
        return None
    buckets = numbers("I", memory.read(buckets_at, 4 * bucket_count), layout.little)
    starts = set(buckets)
    starts.discard(0)
    stray = {start for start in starts if start < first or start >= room}
    if stray:
        defects.add("bad-dynamic:DT_GNU_HASH")
        starts -= stray
    if not starts:
        return Lookup(min(first, room), min(first, room), frozenset(), exact=False)
    # Chains lie one behind the other: read up to the last bucket's start, then on to the first end mark.
    top = max(starts)
    chains = numbers("I", memory.read(chains_at, 4 * (top + 1 - first)), layout.little)
    while len(chains) == top + 1 - first and not chains[-1] & 1 and top + 1 < room:
        step = min(256, room - top - 1)
        more = numbers("I", memory.peek(chains_at + 4 * (top + 1 - first), 4 * step), layout.little)
        if not more:
            more = numbers("I", memory.read(chains_at + 4 * (top + 1 - first), 4), layout.little)
        if not more:
            break
        end = next((index for index, value in enumerate(more) if value & 1), len(more) - 1)
        chains += more[: end + 1]
        top += end + 1
    if not chains or not chains[-1] & 1:
        defects.add("bad-dynamic:DT_GNU_HASH")
    begins = {index for index, value in enumerate(chains, first + 1) if value & 1}
    begins.add(first)
    begins.discard(first + len(chains))
    holes = find_holes(begins, starts, first, len(chains)) if begins != starts else frozenset()
    return Lookup(first + len(chains), first, holes, exact=True)


def find_holes(begins: set[int], starts: set[int], first: int, length: int) -> frozenset[int]:
    """Symbols that precede every bucket's start within their chain: no bucket leads there."""
    holes = set()
    reached = False
    for index in range(first, first + length):
        if index in starts:
            reached = True
        elif index in begins:
            reached = False
        if not reached:
            holes.add(index)
    return frozenset(holes)


def read_sysv_hash(
    memory: Memory, dynamic: Dynamic, layout: Layouts, machine: int, room: int, defects: set[str]
) -> Lookup | None:
    address = dynamic.last[DT_HASH]
    code = "Q" if machine in WIDE_SYSV_HASH and layout.bits == 64 else "I"
    width = 8 if code == "Q" else 4
    head = numbers(code, memory.read(address, 2 * width), layout.little)
    if len(head) < 2 or not head[0]:
        defects.add("bad-dynamic:DT_HASH")
        return None
    bucket_count, chain_count = head
    available = max(memory.room(address) // width - 2, 0)
    if bucket_count > available or chain_count > available - bucket_count:
        defects.add("bad-dynamic:DT_HASH")
    bucket_count = min(bucket_count, available)
    count = min(chain_count, available - bucket_count, room)
    table = numbers(code, memory.read(address + 2 * width, width * (bucket_count + count)), layout.little)
    buckets, chains = table[:bucket_count], table[bucket_count:]
    found = bytearray(count)
    for start in buckets:
        index = start
        while 0 < index < len(chains) and not found[index]:
            found[index] = 1
            index = chains[index]
        if index >= len(chains):
            defects.add("bad-dynamic:DT_HASH")
    holes = frozenset(index for index, seen in enumerate(found) if not seen) if 0 in found[1:] else frozenset({0})
    return Lookup(count, 0, holes, exact=chain_count == count)
