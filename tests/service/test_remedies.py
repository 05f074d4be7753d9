"""Remedies from data: learned from the fleet's own package databases, else from the table; joined when read, never stored."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from analyzers.finding import Part, Report
from service.bases import Base, fits
from service.remedies import Learned, remedies_of
from service.sources import EventKind, ImageEvent
from tests.conftest import absent
from tests.fakes.source import MemorySource
from tests.fleet import programs
from tests.make import roots
from tests.make.elves import ToolAbsent
from tests.make.images import Image
from tests.make.layers import program, tar_of
from tests.make.reports import failing
from tests.make.site import World
from tests.service.parts import assembled

DEBIAN = "ID=debian\nVERSION_ID=12\n"
GL = "/usr/lib/x86_64-linux-gnu/libGL.so.1\n"


def missing(*libraries: str, os: str = "debian 12", **changes: object) -> Report:
    return msgspec.structs.replace(failing(1), missing=libraries, os=os, **changes)


def lacking(library: str) -> Image:
    """A Debian whose program lacks a library."""
    try:
        root = {**roots.debian(), "etc/os-release": DEBIAN, "app": program(programs.user_of(library))}
    except ToolAbsent as error:
        absent(str(error))
    return Image(layers=(tar_of(root),), entrypoint=["/app"])


# From the table


def test_one_command_brings_all_that_is_missing_and_known() -> None:
    (remedy,) = remedies_of(missing("libGL.so.1", "libgthread-2.0.so.0", "libnobody.so.9"), {})
    assert remedy.packages == ("libgl1", "libglib2.0-0")
    assert "apt-get install -y --no-install-recommends libgl1 libglib2.0-0" in remedy.command
    assert "debian 12 has libGL.so.1 in libgl1; libgthread-2.0.so.0 in libglib2.0-0 (by the built-in table)." in remedy.text
    assert "libnobody" not in remedy.text


@pytest.mark.parametrize(
    ("os", "library", "command"),
    [
        ("ubuntu 24.04", "libssl.so.3", "libssl3t64"),
        ("debian 11", "libssl.so.1.1", "libssl1.1"),
        ("alpine 3.20.3", "libstdc++.so.6", "apk add --no-cache libstdc++"),
    ],
)
def test_the_release_decides_the_package(os: str, library: str, command: str) -> None:
    (remedy,) = remedies_of(missing(library, os=os), {})
    assert command in remedy.command


def test_failure_10_a_library_that_the_release_no_longer_has_gets_no_made_up_package() -> None:
    assert remedies_of(missing("libssl.so.1.1"), {}) == ()
    assert remedies_of(missing("libssl.so.3", os="scratch"), {}) == ()


# From the fleet


async def test_a_package_is_learned_from_another_image_of_the_same_release(tmp_path: Path) -> None:
    teacher = tar_of({"etc/os-release": DEBIAN, "var/lib/dpkg/info/libgl1-nv:amd64.list": GL})
    other = tar_of({"etc/os-release": "ID=debian\nVERSION_ID=11\n", "var/lib/dpkg/info/libgl1-old.list": GL})
    async with assembled(tmp_path) as parts:
        source = MemorySource()
        source.put("old", Image(layers=(other,), entrypoint=["/app"]))
        source.put("teacher", Image(layers=(teacher,), entrypoint=["/app"]))
        source.put("broken", lacking("libGL.so.1"))
        source.put("arm", Image(layers=(teacher,), entrypoint=["/app"], platform="linux/arm64"))
        events = [ImageEvent(EventKind.APPEARED, source.sighting(tag)) for tag in source.images]
        await parts.follower(source).take([*events, ImageEvent(EventKind.LISTED)])
        await parts.work_off()
        rows = {row.tag: row for row in parts.fleet.rows()}
        body = await parts.store.report(rows["broken"].report_key) or b""
        report = msgspec.json.decode(body, type=Report)
        assert report.missing == ("libGL.so.1",)
        learned = await parts.store.packages_of(report)
        assert learned == {"libGL.so.1": Learned("libgl1-nv", rows["teacher"].image_id)}
        (remedy,) = remedies_of(report, learned, {rows["teacher"].image_id: "shop/teacher:1"})
        assert "libGL.so.1 in libgl1-nv (learned from shop/teacher:1)" in remedy.text
        assert b"libgl1-nv" not in body, "what others teach is never stored in a report"


async def test_page_and_api_join_what_the_fleet_has_learned() -> None:
    world = World()
    report = missing(
        "libGL.so.1", parts=(Part("/app", "/app", 1000, interpreter="/lib64/ld-linux-x86-64.so.2", needs=("libc.so.6",)),)
    )
    teacher = failing(7)
    world.show(report, "shop/app", "1")
    world.show(teacher, "shop/teacher", "1")
    world.reports.packages["libGL.so.1"] = Learned("libgl1", teacher.image_id)
    async with TestClient(TestServer(world.app())) as client:
        document = await (await client.get(f"/api/v1/images/{report.image_id}")).json()
        assert document["remedies"][0]["learned_from"] == [teacher.image_id]
        assert {fit["base"]: fit["starts"] for fit in document["bases"]}["debian:12-slim"] is True
        page = await (await client.get(f"/images/{report.image_id}")).text()
        assert "learned from registry.example.test/shop/teacher:1" in page
        assert "What it would run on" in page


# Bases


PROGRAM = Part("/app", "/app", 100, interpreter="/lib64/ld-linux-x86-64.so.2", needs=("libx.so.1", "libc.so.6"), glibc="2.34")
LIBX = Part("libx.so.1", "/usr/lib/libx.so.1", 30, needs=("liby.so.1", "libm.so.6"))
LIBY = Part("liby.so.1", "/usr/lib/liby.so.1", 7, glibc="2.35")
PARTS = (PROGRAM, LIBX, LIBY, Part("libm.so.6", "/lib/libm.so.6", 900), Part("libc.so.6", "/lib/libc.so.6", 2000))


def tried(parts: tuple[Part, ...], release: str = "2.36", libraries: str = "libc.so.6 libm.so.6", libc: str = "glibc") -> str:
    base = Base("own", libc, release, frozenset(libraries.split()), 5000, "a test")
    report = msgspec.structs.replace(failing(1), parts=parts)
    (fit,) = [fit for fit in fits(report, [base]) if fit.base == "own"]
    return f"{fit.size_bytes} {fit.why}" if fit.starts else fit.why


def test_what_a_base_lacks_and_the_image_has_is_copied_along_and_weighed() -> None:
    assert tried(PARTS) == "5137 With libx.so.1, liby.so.1 copied along."
    assert tried(PARTS, libraries="libc.so.6 libm.so.6 libx.so.1") == "5100 It brings every library."


def test_parts_of_glibc_are_never_copied_from_another_image() -> None:
    assert tried(PARTS, libraries="libc.so.6") == "It lacks libm.so.6, which this image cannot give it."


def test_the_newest_version_that_program_and_copied_libraries_want_must_be_there() -> None:
    assert tried(PARTS, release="2.34") == "The program wants glibc 2.35, and it has 2.34."
    assert tried(PARTS, release="2.34", libraries="libc.so.6 libm.so.6 libx.so.1").startswith("5100")


def test_s3_another_family_never_does_and_a_static_program_runs_anywhere() -> None:
    assert tried(PARTS, libc="musl", release="1.2.5") == "The program wants glibc, and it has musl."
    assert tried(PARTS, libc="") == "The program wants glibc, and it has no C library."
    assert tried((msgspec.structs.replace(PROGRAM, interpreter=""),)) == "5100 The program is static."
    assert fits(msgspec.structs.replace(failing(1), parts=())) == ()
