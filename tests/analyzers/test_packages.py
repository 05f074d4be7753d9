"""Package databases as they stream by: which package brought a library, in bounded room, and nothing from what is no database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analyzers.layer import LayerReader
from analyzers.packages import DATABASE_BYTES, PackageSink, database_of
from analyzers.wire import pack, unpack
from service.known_packages import KNOWN, known_package
from tests.conftest import absent
from tests.make.layers import tar_of

INSTALLED = """C:Q1abc=
P:musl
V:1.2.5-r0
F:lib
R:ld-musl-x86_64.so.1
R:libc.musl-x86_64.so.1

P:zlib
F:usr/lib
R:libz.so.1
R:libz.so.1.3.1

P:zlib-dev
F:usr/lib
R:libz.so

P:nodejs
F:usr/bin
R:node
F:usr/lib/node
R:libnode.so.115
"""
DPKG = Path("/var/lib/dpkg/info")


def facts_of(items: dict[str, str | bytes]) -> dict[bytes, bytes]:
    reader = LayerReader()
    reader.feed(tar_of(items))
    read = reader.finish()
    assert unpack({section.name: section.chunks for section in pack(read)}).packages == read.packages
    return read.packages


def test_apk_names_the_package_of_each_library_and_of_nothing_else() -> None:
    assert facts_of({"lib/apk/db/installed": INSTALLED}) == {
        b"ld-musl-x86_64.so.1": b"musl", b"libc.musl-x86_64.so.1": b"musl", b"libz.so.1": b"zlib", b"libz.so.1.3.1": b"zlib",
    }  # fmt: skip


def test_dpkg_lists_are_named_after_their_package() -> None:
    listed = "/.\n/usr/lib\n/usr/lib/x86_64-linux-gnu/libGL.so.1.7.0\n/usr/lib/x86_64-linux-gnu/libGL.so.1"
    found = facts_of(
        {
            "var/lib/dpkg/info/libgl1:amd64.list": listed,
            "var/lib/dpkg/info/libgl-dev:amd64.list": "/usr/lib/x86_64-linux-gnu/libGL.so\n",
            "var/lib/dpkg/status.d/libssl3.md5sums": "0f  usr/lib/x86_64-linux-gnu/libssl.so.3\n",
            "opt/notes.list": "/usr/lib/libtrap.so.1\n",
        }
    )
    assert found == {b"libGL.so.1.7.0": b"libgl1", b"libGL.so.1": b"libgl1", b"libssl.so.3": b"libssl3"}


def test_a_real_debian_teaches_what_dpkg_itself_answers() -> None:
    if not DPKG.is_dir():
        absent("this is no Debian")
    lists = {f"var/lib/dpkg/info/{path.name}": path.read_bytes() for path in DPKG.glob("lib[cgsz]*.list")}
    found = facts_of(lists)
    assert found[b"libc.so.6"] == b"libc6"
    assert found[b"libgcc_s.so.1"] == b"libgcc-s1"
    assert found[b"libstdc++.so.6"] == b"libstdc++6"


def test_the_built_in_table_says_what_the_packages_of_this_debian_have() -> None:
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    number = re.search(r'^VERSION_ID="?(\d+)', release, re.MULTILINE)
    if "ID=debian" not in release or number is None or ("debian", number[1]) not in KNOWN:
        absent("the table has nothing of this machine's release")
    compared = 0
    for library, package in KNOWN["debian", number[1]].items():
        lists = [*DPKG.glob(f"{package}.list"), *DPKG.glob(f"{package}:*.list")]
        compared += bool(lists)
        assert not lists or re.search(rf"/{re.escape(library)}$", lists[0].read_text(), re.MULTILINE), (library, package)
    assert compared > 10


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_database_may_come_in_any_pieces(step: int) -> None:
    found: dict[bytes, bytes] = {}
    sink = PackageSink(b"lib/apk/db/installed", found)
    view = memoryview(INSTALLED.encode())
    for at in range(0, len(view), step):
        sink.feed(view[at : at + step])
    sink.close()
    assert len(found) == 4


def test_a_hostile_database_costs_bounded_room() -> None:
    found: dict[bytes, bytes] = {}
    sink = PackageSink(b"lib/apk/db/installed", found)
    block = memoryview(b"x" * (1 << 20))
    for _ in range(DATABASE_BYTES // len(block) + 2):
        sink.feed(block)
    assert len(sink._line) <= 4096
    sink.feed(memoryview(b"\nP:late\nF:lib\nR:liblate.so.1\n"))
    sink.close()
    many = PackageSink(b"lib/apk/db/installed", found)
    many.feed(memoryview(b"P:p\nF:lib\n" + b"".join(b"R:lib%d.so.1\n" % number for number in range(30_000))))
    assert len(found) == 20_000


def test_only_the_databases_themselves_are_read() -> None:
    assert database_of(b"var/lib/dpkg/info/a.list") == "dpkg"
    assert database_of(b"usr/lib/apk/db/installed") == "apk"
    assert not any(
        map(database_of, (b"etc/apt/sources.list", b"installed", b"var/lib/dpkg/info/a.md5sums", b"x/lib/apk/db/installed"))
    )


def test_the_table_knows_releases_and_says_nothing_of_others() -> None:
    assert known_package("debian", "12", "libssl.so.3") == "libssl3"
    assert known_package("debian", "13", "libssl.so.3") == "libssl3t64"
    assert known_package("alpine", "3.20", "libstdc++.so.6") == "libstdc++"
    assert known_package("debian", "12", "libssl.so.1.1") == ""
    assert known_package("gentoo", "", "libssl.so.3") == ""
