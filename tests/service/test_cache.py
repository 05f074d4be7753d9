"""The cache of scans: layers are read once, several scans share it, and nothing that is wrong with it fails a scan."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from analyzers.facts import Coverage
from analyzers.frames import LayerRead
from service.cache import FILE_NAME, TOUCH_SECONDS, Cache, open_cache
from service.remembered import Refusal
from tests.make.command import Command
from tests.make.images import Image, oci_layout
from tests.make.layers import tar_of
from tests.make.starts import TRUE

IMAGE = Image(layers=(tar_of({"bin/app": TRUE}), tar_of({"etc/x": "x"})), cmd=["/bin/app"])


def read(number: int, coverage: Coverage = Coverage.FULL) -> LayerRead:
    return LayerRead(f"key-{number}", f"sha256:blob-{number}", f"sha256:diff-{number}", coverage.value, "stream", 10, 20, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "enoent" / FILE_NAME


async def test_facts_are_there_for_the_next_process(path: Path) -> None:
    first = Cache(path)
    await first.put_layer(read(1), "v1", {"entries": [b"a", b"b"], "elf": [b"c"]})
    first.close()
    second = Cache(path)
    assert await second.diff_id_of("sha256:blob-1") == "sha256:diff-1"
    found = await second.find_layer("sha256:diff-1", "v1")
    assert found is not None
    assert (found.key, found.coverage, found.bytes_out) == ("key-1", "full", 20)
    assert await second.sections("key-1") == {"entries": [b"a", b"b"], "elf": [b"c"]}
    assert await second.find_layer("sha256:diff-1", "v2") is None
    assert await second.diff_id_of("sha256:blob-2") == ""
    assert (first.trouble, second.trouble) == ("", "")


async def test_what_depends_on_limits_is_not_kept(path: Path) -> None:
    first = Cache(path)
    await first.put_layer(read(1, Coverage.PARTIAL), "v1", {"entries": [b"a"]})
    await first.put_refusal("sha256:blob-2", "v1", Refusal("too-large", ""))
    assert await first.find_layer("sha256:diff-1", "v1") is not None
    first.close()
    second = Cache(path)
    assert await second.find_layer("sha256:diff-1", "v1") is None
    assert await second.refusal("sha256:blob-2", "v1") is None


async def test_a_full_reading_is_preferred_to_a_partial_one_of_this_process(path: Path) -> None:
    first, second = Cache(path), Cache(path)
    await second.put_layer(read(1, Coverage.PARTIAL), "v1", {"entries": [b"a"]})
    await first.put_layer(read(1), "v1", {"entries": [b"whole"]})
    found = await second.find_layer("sha256:diff-1", "v1")
    assert found is not None
    assert (found.coverage, await second.sections(found.key)) == ("full", {"entries": [b"whole"]})


async def test_what_was_used_longest_ago_leaves_first(path: Path) -> None:
    now = [0.0]
    cache = Cache(path, max_bytes=2500, clock=lambda: now[0])
    for number in (1, 2, 3):
        now[0] += 2 * TOUCH_SECONDS
        await cache.put_layer(read(number), "v1", {"entries": [bytes(1000)]})
    now[0] += 2 * TOUCH_SECONDS
    await cache.touch(["key-1"])
    cache.close()
    later = Cache(path)
    assert [await later.find_layer(f"sha256:diff-{number}", "v1") is not None for number in (1, 2, 3)] == [True, False, True]
    assert await later.diff_id_of("sha256:blob-2") == ""


async def test_facts_found_stay_although_another_scan_makes_room(path: Path) -> None:
    cache = Cache(path)
    await cache.put_layer(read(1), "v1", {"entries": [b"a"]})
    cache.close()
    mine, other = Cache(path), Cache(path, max_bytes=0)
    found = await mine.find_layer("sha256:diff-1", "v1")
    other.close()
    assert found is not None
    assert await mine.sections(found.key) == {"entries": [b"a"]}


async def test_unusable_facts_are_forgotten_for_good(path: Path) -> None:
    cache = Cache(path)
    await cache.put_layer(read(1), "v1", {"entries": [b"a"]})
    await cache.forget_layer("key-1")
    assert await cache.find_layer("sha256:diff-1", "v1") is None
    assert await Cache(path).find_layer("sha256:diff-1", "v1") is None


async def test_a_file_that_is_no_database_is_begun_anew(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"not a database" * 1000)
    cache = Cache(path)
    await cache.put_layer(read(1), "v1", {"entries": [b"a"]})
    assert cache.trouble == ""
    assert await Cache(path).find_layer("sha256:diff-1", "v1") is not None


async def test_a_file_that_breaks_while_in_use_is_done_without(path: Path) -> None:
    cache = Cache(path)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE section")
    await cache.put_layer(read(1), "v1", {"entries": [b"a"]})
    assert "section" in cache.trouble
    assert await cache.sections("key-1") == {"entries": [b"a"]}
    await cache.touch(["key-1"])
    cache.close()


def test_a_folder_that_others_may_write_to_is_not_believed(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    assert "can be written by others" in Cache(path).trouble
    assert not path.exists()


def test_without_a_home_there_is_no_cache(tmp_path: Path) -> None:
    assert open_cache({}) is None
    assert open_cache({"XDG_CACHE_HOME": "relative"}) is None
    cache = open_cache({"HOME": str(tmp_path)})
    assert cache is not None
    assert cache.path == tmp_path / ".cache" / "enoent" / FILE_NAME
    assert oct(cache.path.parent.stat().st_mode & 0o777) == "0o700"
    cache.close()


# As a person meets it


def test_a_second_scan_reads_no_layer_again(enoent: Command, tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "app", {"1": IMAGE})
    first = enoent("scan", f"oci:{layout}")
    for blob in (layout / "blobs/sha256").iterdir():
        if not blob.read_bytes().startswith(b"{"):
            blob.unlink()
    assert enoent("scan", f"oci:{layout}") == first
    assert enoent("ldd", f"oci:{layout}").status == 0
    assert enoent("scan", f"oci:{layout}", "--no-cache").status == 2


def test_a_cache_that_cannot_be_written_is_noted_and_changes_no_answer(enoent: Command, tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "app", {"1": IMAGE})
    (tmp_path / "blocked").write_text("a file where a folder should be")
    said = enoent("scan", f"oci:{layout}", env={"XDG_CACHE_HOME": str(tmp_path / "blocked")})
    assert said.status == 0
    assert said.err.startswith("enoent: going on without the cache: ")
    assert said.err.count("\n") == 1
    quiet = enoent("scan", f"oci:{layout}", "--quiet", env={"XDG_CACHE_HOME": str(tmp_path / "blocked")})
    assert (quiet.status, quiet.err) == (0, "")


def test_scans_at_the_same_time_share_it(enoent: Command, tmp_path: Path) -> None:
    layouts = [oci_layout(tmp_path / f"app{number}", {"1": IMAGE}) for number in range(3)]
    running = [enoent.process("scan", f"oci:{layout}") for layout in layouts]
    ended = [(process.communicate(timeout=120), process.returncode) for process in running]
    assert [(errors, status) for (_, errors), status in ended] == [(b"", 0)] * 3


def test_nothing_of_the_cache_is_readable_by_others(enoent: Command, tmp_path: Path) -> None:
    shutil.rmtree(enoent.home / "cache", ignore_errors=True)
    before = os.umask(0)
    try:
        enoent("scan", f"oci:{oci_layout(tmp_path / 'app', {'1': IMAGE})}")
    finally:
        os.umask(before)
    assert (enoent.home / "cache/enoent").stat().st_mode & 0o077 == 0
