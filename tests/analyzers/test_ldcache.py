"""/etc/ld.so.cache: what is trusted of it, and bytes that nobody's ldconfig wrote (hostile 104)."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.loader.ldcache import Acceptance, Cache, compare_names, look_up, read_cache
from tests.conftest import absent
from tests.make.glibc_cache_cases import EXTENSION, X86, cache, old_cache

ACCEPTS = Acceptance((X86,), (b"x86-64-v3", b"x86-64-v2"), 7, (2, 36), 2)


def read(data: bytes) -> Cache:
    found, why = read_cache(data, little=True)
    assert found is not None, why
    return found


@pytest.mark.parametrize(
    ("left", "right", "sign"),
    [
        (b"libq.so.1", b"libq.so.01", 0),
        (b"libq.so.2", b"libq.so.10", -1),
        (b"libq.so.10", b"libq.so.2", 1),
        (b"liba.so", b"libb.so", -1),
        (b"lib.so", b"lib.so.1", -1),
        (b"lib1", b"liba", 1),
        (b"liba", b"lib1", -1),
        (b"lib12a", b"lib12b", -1),
        (b"lib1200", b"lib12", 1),
        (b"", b"", 0),
        (b"a", b"", 1),
        (b"x4294967297", b"x1", 0),
    ],
)
def test_g37_names_are_compared_with_their_numbers(left: bytes, right: bytes, sign: int) -> None:
    order = compare_names(left, right)
    assert (order > 0) - (order < 0) == sign


@given(st.text("ab019.", max_size=12), st.text("ab019.", max_size=12))
def test_g37_comparison_is_that_of_the_loader_byte_for_byte(first: str, second: str) -> None:
    left, right = first.encode(), second.encode()
    ours, theirs = compare_names(left, right), _slowly(left, right)
    assert (ours > 0) - (ours < 0) == (theirs > 0) - (theirs < 0)


def _slowly(left: bytes, right: bytes) -> int:
    """_dl_cache_libcmp as it is written, one character after the other."""
    at = to = 0
    while at < len(left):
        mine, other = left[at], right[to] if to < len(right) else 0
        if chr(mine).isdigit():
            if not chr(other).isdigit():
                return 1
            first = second = 0
            while at < len(left) and chr(left[at]).isdigit():
                first, at = first * 10 + left[at] - 48, at + 1
            while to < len(right) and chr(right[to]).isdigit():
                second, to = second * 10 + right[to] - 48, to + 1
            if first != second:
                return -1 if first < second else 1
        elif chr(other).isdigit():
            return -1
        elif mine != other:
            return mine - other
        else:
            at, to = at + 1, to + 1
    return -(right[to] if to < len(right) else 0)


def test_every_name_of_this_machines_cache_is_found() -> None:
    path = Path("/etc/ld.so.cache")
    if not path.exists():
        absent("this machine has no ld.so.cache")
    found = read(path.read_bytes())
    assert found.nlibs > 10
    for index in range(found.nlibs):
        entry = found.entry(index)
        name = found.string(entry.key)
        assert name is not None
        if entry.flags == X86:
            assert look_up(found, name, ACCEPTS).path is not None


def test_g35_an_empty_run_of_other_machines_entries_says_how_many_were_passed_over() -> None:
    hit = look_up(read(cache(("a", "/1", 3, 0), ("a", "/2", 0xA03, 0))), b"a", ACCEPTS)
    assert (hit.path, hit.passed) == (None, 2)


def test_g37_up_to_2_32_the_loaders_own_flags_win_over_an_earlier_entry() -> None:
    arm = Acceptance((0x0903, 3), (), -1, (2, 31))
    both = read(cache(("a", "/soft", 3, 0), ("a", "/hard", 0x0903, 0)))
    assert look_up(both, b"a", arm).path == b"/hard"
    assert look_up(both, b"a", arm._replace(release=(2, 36))).path == b"/soft"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"x" * 100, "it is no cache"),
        (cache(("a", "/a", X86, 0))[:48], "it is no cache"),
        (b"ld.so-1.7.0\0" + struct.pack("<I", 1 << 31) + bytes(40), "it has fewer entries than it says"),
        (cache(("a", "/a", X86, 0), endian=3), "it was written for the other byte order"),
        (cache(("a", "/a", X86, 0), endian=1), "it was written for the other byte order"),
    ],
)
def test_h104_a_cache_that_lies_is_ignored_with_the_reason(data: bytes, why: str) -> None:
    assert read_cache(data, little=True) == (None, why)


def test_h104_extensions_that_lead_outside_mean_no_hardware_names() -> None:
    good = cache(("a", "/a", X86, EXTENSION), hwcaps=["x86-64-v3"])
    assert read(good).hwcaps == (b"x86-64-v3",)
    for offset in (1, 2**31, len(good) - 4):
        assert read(good[:32] + struct.pack("<I", offset) + good[36:]).hwcaps == ()


def test_h104_a_million_equal_names_are_looked_at_in_part() -> None:
    size = 48 + 24 * 40_000
    rows = struct.pack("<iIIIQ", 3, size, size, 0, 0) * 40_000
    data = b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xI12x", 40_000, 2, 2, 0) + rows + b"a\0"
    assert look_up(read(data), b"a", ACCEPTS).passed < 3_000


def test_h104_no_bytes_make_a_look_up_fail() -> None:
    dice = random.Random(104)
    models = (
        cache(("b", "/b", X86, EXTENSION | 2 << 32), ("a", "/a", X86, 0), hwcaps=["x86-64-v2", "x86-64-v3"]),
        old_cache(("b", "/b", 3), ("a", "/a", 3), then=cache(("a", "/a", X86, 0), base=40)),
        old_cache(("b", "/b", X86), ("a", "/a", X86)),
    )
    for _ in range(3_000):
        data = bytearray(dice.choice(models))
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        found, _why = read_cache(bytes(data[: dice.randint(1, len(data))]), little=dice.random() < 0.9)
        if found is not None:
            path = look_up(found, dice.choice((b"a", b"b", b"c")), ACCEPTS).path
            assert path is None or path in data
