"""/etc/ld.so.cache: both formats, the hwcaps extension, and glibc's own way of looking a name up in it.

Mirrors `elf/dl-cache.c` and `sysdeps/generic/dl-cache.h` (G35-G37). Every number of the file is bounded by its size: a
cache that lies is distrusted as a whole (None) or an entry at a time, as the loader does (hostile 104).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

NEW_MAGIC = b"glibc-ld.so.cache1.1"
OLD_MAGIC = b"ld.so-1.7.0"
NEW_HEADER, NEW_ENTRY = 48, 24
OLD_HEADER, OLD_ENTRY = 16, 12
EXTENSION_MAGIC = 0xEAA42174
EXTENSIONS_READ = 64
HWCAPS_READ = 1_024
SAME_NAME_READ = 1_024
"""Entries of one name that are looked at; real caches have fewer than ten."""
HWCAP_EXTENSION = 1 << 62
STRING_BYTES = 4_096
"""No path that can be opened is longer."""


class Entry(NamedTuple):
    """One line of the cache. `hwcap` is None in the old format, which has none."""

    flags: int
    key: int
    value: int
    hwcap: int | None


class Cache(NamedTuple):
    """A cache that the loader trusts; entries are read when they are looked at."""

    data: bytes
    order: str
    table: int
    """Where the entries begin."""
    nlibs: int
    strings: int
    """What offsets of strings are counted from."""
    new: bool
    hwcaps: tuple[bytes, ...] = ()
    """Names of the sub-directories that extension entries refer to, sorted by name."""

    def entry(self, index: int) -> Entry:
        if self.new:
            flags, key, value, _, hwcap = struct.unpack_from(self.order + "iIIIQ", self.data, self.table + index * NEW_ENTRY)
            return Entry(flags, key, value, hwcap)
        flags, key, value = struct.unpack_from(self.order + "iII", self.data, self.table + index * OLD_ENTRY)
        return Entry(flags, key, value, None)

    def string(self, offset: int) -> bytes | None:
        """None for an offset outside the file."""
        start = self.strings + offset
        if start >= len(self.data):
            return None
        return self.data[start : start + STRING_BYTES].partition(b"\0")[0]


def read_cache(data: bytes, *, little: bool) -> tuple[Cache | None, str]:
    """The cache as a loader of this byte order sees it, or why it ignores the file (G36)."""
    order = "<" if little else ">"
    if len(data) > NEW_HEADER and data.startswith(NEW_MAGIC):
        return _read_new(data, order, 0)
    if len(data) > OLD_HEADER and data.startswith(OLD_MAGIC):
        (count,) = struct.unpack_from(order + "I", data, 12)
        if (len(data) - OLD_HEADER) // OLD_ENTRY < count:
            return None, "it has fewer entries than it says"
        after = OLD_HEADER + count * OLD_ENTRY
        start = after + -after % 8
        if len(data) >= start + NEW_HEADER and data.startswith(NEW_MAGIC, start):
            return _read_new(data, order, start)
        return Cache(data, order, OLD_HEADER, count, after, False), ""
    return None, "it is no cache" if data else "it is empty"


def _read_new(data: bytes, order: str, start: int) -> tuple[Cache | None, str]:
    (count,) = struct.unpack_from(order + "I", data, start + 20)
    if (len(data) - start - NEW_HEADER) // NEW_ENTRY < count:
        return None, "it has fewer entries than it says"
    if data[start + 28] & 3 not in (0, 2 if order == "<" else 3):
        return None, "it was written for the other byte order"
    return Cache(data, order, start + NEW_HEADER, count, start, True, _read_hwcaps(data, order, start)), ""


def _read_hwcaps(data: bytes, order: str, start: int) -> tuple[bytes, ...]:
    """cache_extension_load: the directory of sections, of which only tag 1 matters here. Offsets count from the file's start."""
    (offset,) = struct.unpack_from(order + "I", data, start + 32)
    if not offset or offset % 4 or offset + 8 > len(data):
        return ()
    magic, count = struct.unpack_from(order + "II", data, offset)
    if magic != EXTENSION_MAGIC:
        return ()
    for index in range(min(count, EXTENSIONS_READ)):
        place = offset + 8 + 16 * index
        if place + 16 > len(data):
            return ()
        tag, _, at, size = struct.unpack_from(order + "IIII", data, place)
        if at + size > len(data):
            return ()
        if tag == 1 and at % 4 == 0 and size % 4 == 0 and size // 4 <= HWCAPS_READ:
            offsets = struct.unpack_from(f"{order}{size // 4}I", data, at)
            return tuple(data[each : each + STRING_BYTES].partition(b"\0")[0] for each in offsets)
    return ()


def compare_names(left: bytes, right: bytes) -> int:
    """_dl_cache_libcmp: byte by byte, but runs of digits as numbers (G37)."""
    at = to = _common(left, right)
    while at < len(left):
        mine, other = left[at], right[to] if to < len(right) else 0
        if 48 <= mine <= 57:
            if not 48 <= other <= 57:
                return 1
            first, at = _number(left, at)
            second, to = _number(right, to)
            if first != second:
                return -1 if _signed(first - second) < 0 else 1
        elif 48 <= other <= 57:
            return -1
        elif mine != other:
            return mine - other
        else:
            at, to = at + 1, to + 1
    return -(right[to] if to < len(right) else 0)


def _common(left: bytes, right: bytes) -> int:
    """A place up to which both are the same and which is not inside a number: names may be long, and most look alike."""
    if left == right:
        return len(left)
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    while low > 0 and 48 <= left[low - 1] <= 57:
        low -= 1
    return low


def _number(text: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(text) and 48 <= text[at] <= 57:
        value = (value * 10 + text[at] - 48) & 0xFFFFFFFF  # an int of the loader wraps
        at += 1
    return value, at


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


class Acceptance(NamedTuple):
    """What a loader takes from a cache."""

    flags: tuple[int, ...]
    """Its own first."""
    active: Sequence[bytes]
    """Hardware sub-directories that the host can use, best first."""
    isa: int
    """ISA bits of the host (x86); every bit where there are none."""
    release: tuple[int, int]
    legacy_hwcap: int = 0
    """Legacy capability bits of the host (up to 2.39)."""


class Hit(NamedTuple):
    """The one path that a look-up gives, and how many entries of that name were passed over."""

    path: bytes | None
    passed: int = 0


_TLS = 1 << 63


def look_up(cache: Cache, name: bytes, accepts: Acceptance) -> Hit:
    """search_cache: binary search, then the run of entries with that name, best usable hardware level first (G37)."""
    low, high = 0, cache.nlibs - 1
    while low <= high:
        middle = (low + high) // 2
        key = cache.string(cache.entry(middle).key)
        if key is None:
            return Hit(None)
        order = compare_names(name, key)
        if order == 0:
            return _pick(cache, _run(cache, middle, high, name), accepts)
        if order < 0:
            low = middle + 1
        else:
            high = middle - 1
    return Hit(None)


def _run(cache: Cache, middle: int, high: int, name: bytes) -> list[Entry]:
    """Every entry of that name around `middle`; names lie in falling order."""

    def same(index: int) -> bool:
        key = cache.string(cache.entry(index).key)
        return key is not None and compare_names(name, key) == 0

    first = last = middle
    while first > max(0, middle - SAME_NAME_READ) and same(first - 1):
        first -= 1
    while last < min(high, middle + SAME_NAME_READ) and same(last + 1):
        last += 1
    return [cache.entry(index) for index in range(first, last + 1)]


def _pick(cache: Cache, entries: list[Entry], accepts: Acceptance) -> Hit:
    priorities = _priorities(cache.hwcaps, accepts.active)
    best: bytes | None = None
    best_priority = 0
    for entry in entries:
        value = cache.string(entry.value)
        if entry.flags not in accepts.flags or value is None:
            continue
        named = entry.hwcap is not None and _is_extension(entry.hwcap) and accepts.release >= (2, 33)
        if named and entry.hwcap is not None:
            if not accepts.isa >> ((entry.hwcap >> 32) & 0x3FF) & 1:
                continue
            index = entry.hwcap & 0xFFFFFFFF
            priority = priorities[index] if index < len(priorities) else 0
            if priority and (best is None or priority < best_priority):
                best, best_priority = value, priority
            continue
        if best is not None and accepts.release >= (2, 33):
            break
        if best is not None and entry.flags != accepts.flags[0]:
            continue
        if not _usable_hwcap(entry.hwcap or 0, accepts):
            continue
        best = value
        if entry.flags == accepts.flags[0]:
            break
    return Hit(best, len(entries) - (best is not None))


def _is_extension(hwcap: int) -> bool:
    """dl_cache_hwcap_extension: bit 62, and nothing else above the ISA level's ten bits."""
    return hwcap >> 42 == HWCAP_EXTENSION >> 42


def _usable_hwcap(hwcap: int, accepts: Acceptance) -> bool:
    """Legacy capability bits: honoured up to 2.39, refused since (platform bits never fit a host of today)."""
    if accepts.release >= (2, 40):
        return hwcap == 0
    return not hwcap & ~(accepts.legacy_hwcap | _TLS)


def _priorities(names: tuple[bytes, ...], active: Sequence[bytes]) -> list[int]:
    """glibc_hwcaps_priorities_init: the cache's sorted names merged with the host's; 0 is not usable."""
    host = sorted(active)
    at = 0
    found = []
    for name in names:
        while at < len(host) and host[at] < name:
            at += 1
        if at < len(host) and host[at] == name:
            found.append(active.index(name) + 1)
            at += 1
        else:
            found.append(0)
    return found
