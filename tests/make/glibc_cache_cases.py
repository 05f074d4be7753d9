"""/etc/ld.so.cache as it is, as it was, and as nobody should write it: T68-T71, T74, T113, hostile 104."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.make.glibc_cases import ABSENT, LIB, Case, changed, fails, lib, prog, v
from tests.make.layers import Item, file


def cache(
    *entries: tuple[str, str, int, int],
    hwcaps: Sequence[str] = (),
    magic: bytes = b"glibc-ld.so.cache1.1",
    endian: int = 2,
    base: int = 0,
) -> bytes:
    """The new format, entries (name, path, flags, hwcap) in the order given; `base` is where it stands in the file."""
    size = 48 + 24 * len(entries)
    strings = b""
    rows = b""
    for name, path, flags, hwcap in entries:
        rows += struct.pack("<iIIIQ", flags, size + len(strings), size + len(strings) + len(name) + 1, 0, hwcap)
        strings += name.encode() + b"\0" + path.encode() + b"\0"
    extension = b""
    start = 0
    if hwcaps:
        strings += b"\0" * (-(base + size + len(strings)) % 4)
        names_at = [base + size + len(strings) + sum(len(each) + 1 for each in hwcaps[:index]) for index in range(len(hwcaps))]
        strings += b"".join(each.encode() + b"\0" for each in hwcaps)
        strings += b"\0" * (-(base + size + len(strings)) % 4)
        start = base + size + len(strings)
        table = struct.pack(f"<{len(hwcaps)}I", *names_at)
        extension = struct.pack("<IIIIII", 0xEAA42174, 1, 1, 0, start + 24, len(table)) + table
    header = magic + struct.pack("<IIB3xI12x", len(entries), len(strings), endian, start)
    return header + rows + strings + extension


def old_cache(*entries: tuple[str, str, int], then: bytes = b"") -> bytes:
    """The old format, with the new one behind it where asked."""
    strings, rows = b"", b""
    for name, path, flags in entries:
        rows += struct.pack("<iII", flags, len(strings), len(strings) + len(name) + 1)
        strings += name.encode() + b"\0" + path.encode() + b"\0"
    head = b"ld.so-1.7.0\0" + struct.pack("<I", len(entries)) + rows
    return head + (b"\0" * (-len(head) % 8) + then if then else strings)


X86 = 0x0303
EXTENSION = 1 << 62
FOUND = (LIB, "/d/libv.so", X86, 0)
CACHE_PATH = "etc/ld.so.cache"


def cached(data: bytes, **more: object) -> dict[str, Item | bytes | str]:
    return {"x": prog(LIB), CACHE_PATH: file(data), "d/libv.so": v(), **more}  # type: ignore[dict-item]


MISSING = fails(f"libv.so: {ABSENT}")
CACHES = (
    Case(id="t69_an_entry_without_any_configuration", items=lambda: cached(cache(FOUND))),
    Case(
        id="t68_a_configuration_without_an_entry",
        items=lambda: {
            "x": prog(LIB),
            "etc/ld.so.conf": "/d\n",
            "d/libv.so": v(),
            CACHE_PATH: file(cache(("libw.so", "/w", X86, 0))),
        },
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="t70_a_stale_entry_leads_on_to_the_default_directories",
        items=lambda: {"x": prog(LIB), CACHE_PATH: file(cache((LIB, "/gone/libv.so", X86, 0))), "usr/lib/libv.so": v()},
    ),
    Case(
        id="t71_a_stale_hardware_entry_hides_the_plain_one",
        since=(2, 33),
        items=lambda: cached(cache((LIB, "/gone/libv.so", X86, EXTENSION | 2 << 32), FOUND, hwcaps=["x86-64-v3"])),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="g37_the_best_hardware_entry_wins",
        since=(2, 33),
        items=lambda: cached(
            cache(
                (LIB, "/2/libv.so", X86, EXTENSION | 1 << 32),
                (LIB, "/d/libv.so", X86, EXTENSION | 2 << 32 | 1),
                (LIB, "/1/libv.so", X86, 0),
                hwcaps=["x86-64-v2", "x86-64-v3"],
            )
        ),
    ),
    Case(
        id="g37_a_hardware_entry_of_an_unknown_name",
        items=lambda: cached(cache((LIB, "/2/libv.so", X86, EXTENSION), FOUND, hwcaps=["x86-64-v9"])),
    ),
    Case(
        id="g37_a_hardware_entry_above_the_cpu",
        items=lambda: cached(cache((LIB, "/2/libv.so", X86, EXTENSION | 9 << 32), FOUND, hwcaps=["x86-64-v3"])),
    ),
    Case(id="g37_the_second_part_of_a_mixed_cache", items=lambda: cached(old_cache((LIB, "/old/libv.so", 3), then=cache(FOUND)))),
    Case(
        id="g37_hardware_entries_of_a_mixed_cache",
        since=(2, 33),
        items=lambda: cached(
            old_cache(
                (LIB, "/old/libv.so", 3),
                then=cache(
                    (LIB, "/d/libv.so", X86, EXTENSION | 2 << 32), (LIB, "/1/libv.so", X86, 0), hwcaps=["x86-64-v3"], base=32
                ),
            )
        ),
    ),
    Case(id="g35_the_old_format", items=lambda: cached(old_cache((LIB, "/d/libv.so", X86)))),
    Case(
        id="t74_an_entry_for_another_machine",
        items=lambda: cached(cache((LIB, "/d/libv.so", 0x3, 0))),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="t113_digits_are_compared_as_numbers",
        items=lambda: {
            "x": prog("libq.so.1"),
            "d/libq": lib("libq.so.01"),
            CACHE_PATH: file(cache(("libq.so.01", "/d/libq", X86, 0))),
        },
    ),
    Case(id="g37_a_platform_entry", items=lambda: cached(cache((LIB, "/d/libv.so", X86, 1 << 50))), lines=MISSING, exit_code=127),
    Case(id="g37_a_legacy_hardware_entry_up_to_2_39", items=lambda: cached(cache((LIB, "/d/libv.so", X86, 2))), until=(2, 39)),
    Case(
        id="g37_a_legacy_hardware_entry_since_2_40",
        items=lambda: cached(cache((LIB, "/d/libv.so", X86, 2))),
        since=(2, 40),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="g36_an_unreadable_cache",
        items=lambda: cached(b"", **{CACHE_PATH: file(cache(FOUND), 0o600)}),
        user="1000:1000",
        lines=MISSING,
        exit_code=127,
    ),
    Case(id="g36_a_wrong_magic", items=lambda: cached(cache(FOUND, magic=b"glibc-ld.so.cache1.2")), lines=MISSING, exit_code=127),
    Case(id="g36_the_other_byte_order", items=lambda: cached(cache(FOUND, endian=3)), lines=MISSING, exit_code=127),
    Case(id="g36_the_byte_order_not_said", items=lambda: cached(cache(FOUND, endian=0))),
    Case(
        id="h104_more_entries_than_bytes",
        items=lambda: cached(changed(cache(FOUND), 20, 2**32 - 1, 4)),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="h104_a_name_beyond_the_end",
        items=lambda: cached(changed(cache(FOUND), 52, 2**32 - 1, 4)),
        lines=MISSING,
        exit_code=127,
    ),
    Case(
        id="h104_a_path_beyond_the_end",
        items=lambda: cached(changed(cache(FOUND), 56, 2**32 - 1, 4)),
        lines=MISSING,
        exit_code=127,
    ),
    Case(id="g36_an_empty_cache", items=lambda: cached(b""), lines=MISSING, exit_code=127),
    Case(
        id="g30_a_text_file_in_the_cache",
        items=lambda: {"x": prog(LIB), CACHE_PATH: file(cache(FOUND)), "d/libv.so": "text" * 20},
        lines=fails("/d/libv.so: invalid ELF header"),
        exit_code=127,
    ),
    Case(
        id="g10_nodefaultlib_refuses_entries_of_default_directories",
        items=lambda: {
            "x": prog(LIB, flags=("-Wl,-z,nodefaultlib",)),
            CACHE_PATH: file(cache((LIB, "/usr/lib/libv.so", X86, 0))),
            "usr/lib/libv.so": v(),
        },
        lines=fails("libv.so: cannot open shared object file"),
        exit_code=127,
    ),
    Case(
        id="g10_nodefaultlib_takes_other_entries",
        items=lambda: {"x": prog(LIB, flags=("-Wl,-z,nodefaultlib",)), CACHE_PATH: file(cache(FOUND)), "d/libv.so": v()},
    ),
    Case(
        id="g10_a_cache_entry_comes_before_the_default_directories",
        items=lambda: cached(cache(FOUND), **{"usr/lib/libv.so": "text" * 20}),
    ),
)
