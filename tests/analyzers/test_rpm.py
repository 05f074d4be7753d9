"""rpm's database, made by rpm itself: what its packages have; and databases made to hurt, which teach nothing."""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from analyzers.layer import LayerReader
from analyzers.rpm import package_files
from tests.conftest import absent
from tests.make.layers import tar_of

SPEC = """Name: mesa-libGL
Version: 24.1
Release: 1
Summary: a test
License: none
%description
A test.
%install
mkdir -p %{buildroot}/usr/lib64/dri
echo x > %{buildroot}/usr/lib64/libGL.so.1.7.0
ln -s libGL.so.1.7.0 %{buildroot}/usr/lib64/libGL.so.1
echo x > %{buildroot}/usr/lib64/dri/libplugin.so.1
%files
/usr/lib64/libGL.so.1.7.0
/usr/lib64/libGL.so.1
/usr/lib64/dri/libplugin.so.1
"""


@functools.cache
def database() -> bytes:
    """The database of a root in which rpm installed one package that rpmbuild built."""
    if not shutil.which("rpmbuild"):
        absent("rpm is not installed")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "test.spec").write_text(SPEC)
        defines = ["--define", f"_topdir {home}", "--define", "__os_install_post %{nil}", "--define", "_build_id_links none"]
        environment = {**os.environ, "HOME": folder}
        build = ["rpmbuild", "-bb", *defines, str(home / "test.spec")]
        subprocess.run(build, env=environment, check=True, capture_output=True, timeout=120)
        (package,) = home.glob("RPMS/*/*.rpm")
        install = [
            "rpm",
            "--dbpath",
            f"{folder}/db",
            "--define",
            "_db_backend sqlite",
            "-i",
            "--justdb",
            "--nodeps",
            str(package),
        ]
        subprocess.run(install, env=environment, check=True, capture_output=True, timeout=120)
        return (home / "db" / "rpmdb.sqlite").read_bytes()


def test_every_file_of_an_installed_package_is_told() -> None:
    assert sorted(package_files(database())) == [
        (b"mesa-libGL", b"usr/lib64/dri/libplugin.so.1"),
        (b"mesa-libGL", b"usr/lib64/libGL.so.1"),
        (b"mesa-libGL", b"usr/lib64/libGL.so.1.7.0"),
    ]


@pytest.mark.parametrize("place", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
def test_a_layer_teaches_which_package_has_a_library(place: str) -> None:
    reader = LayerReader()
    reader.feed(tar_of({f"{place}/rpmdb.sqlite": database()}))
    assert reader.finish().packages == {b"libGL.so.1": b"mesa-libGL", b"libGL.so.1.7.0": b"mesa-libGL"}


def made(*statements: str, blobs: tuple[object, ...] = ()) -> bytes:
    connection = sqlite3.connect(":memory:")
    for statement in statements:
        connection.execute(statement)
    for blob in blobs:
        connection.execute("INSERT INTO Packages (blob) VALUES (?)", (blob,))
    connection.commit()
    return connection.serialize()


TABLE = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def test_a_database_made_to_hurt_teaches_nothing_and_ends() -> None:
    assert list(package_files(made(f"CREATE VIEW Packages AS {ENDLESS.replace('count(*)', 'count(*) AS blob')}"))) == []
    assert list(package_files(made(TABLE, blobs=("text", 7, None, b"", b"\xff" * 64)))) == []
    lies = struct.pack(">II", 4, 0) + b"".join(struct.pack(">IIII", tag, 6, 1 << 31, 1 << 31) for tag in (1000, 1116, 1117, 1118))
    assert list(package_files(made(TABLE, blobs=(lies,)))) == []
    slow = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob AS (hex(zeroblob(100000))))"
    assert list(package_files(made(slow, "INSERT INTO Packages (hnum) VALUES (1)"))) == []


@pytest.mark.parametrize("at", range(0, 4096, 97))
def test_a_damaged_database_raises_nothing(at: int) -> None:
    broken = bytearray(database())
    broken[at : at + 16] = b"\xff" * 16
    list(package_files(bytes(broken)))
    list(package_files(bytes(broken[: at + 100])))
