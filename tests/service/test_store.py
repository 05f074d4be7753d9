"""The state database: what is kept, what is refused, what leaves first, and what happens when the disk does not play along."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from analyzers.finding import Finding, Report, Severity, State, Verdict
from analyzers.frames import LayerRead, layer_key
from analyzers.oci import ImageConfig, Platform
from service.database import FILE_NAME, Database
from service.errors import StoreBusy, StoreError, StoreFull
from service.remembered import Refusal
from service.schema import METADATA
from service.settings import StateSettings
from service.sources import ImageSource, LayerSource, Sighting
from service.store import Store

FACTS = "facts-1"


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def layer_read(name: str, coverage: str = "full") -> LayerRead:
    diff_id = digest(name)
    return LayerRead(
        key=layer_key(diff_id, FACTS, coverage, "stream"), blob_digest=digest(name + ".gz"), diff_id=diff_id,
        coverage=coverage, verified="stream", bytes_in=10, bytes_out=20, entries=3,
    )  # fmt: skip


def image_source(name: str = "app", tag: str = "1") -> ImageSource:
    body = b'{"name": "%s"}' % name.encode()
    return ImageSource(
        sighting=Sighting("hub", "registry.test", name, tag, digest(name + tag)), platform=Platform(),
        manifest_digest=digest("manifest " + name), image_id="sha256:" + hashlib.sha256(body).hexdigest(),
        config_body=body, config=ImageConfig(), layers=(LayerSource(digest("l.gz"), digest("l"), 10),), compressed_bytes=10,
    )  # fmt: skip


def report_body(image: ImageSource, rule: str = "elf.needed-not-found") -> bytes:
    finding = Finding(rule, Severity.FATAL, "error while loading shared libraries", subject="/bin/app")
    return msgspec.json.encode(
        Report(image_id=image.image_id, platform="linux/amd64", verdict=Verdict(State.FAILS), findings=(finding,))
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(StateSettings(dir=str(tmp_path / "state"), min_free_bytes=0))
    yield store
    await store.close()


async def test_facts_come_back_as_they_were_put_chunk_by_chunk(store: Store) -> None:
    read, sections = layer_read("a"), {"entries": [b"one", b"two"], "elf": [b"three"]}
    await store.put_layer(read, FACTS, sections)
    await store.put_layer(read, FACTS, {"entries": [b"never"]})
    found = await store.find_layer(read.diff_id, FACTS)
    assert found is not None
    assert found.key == read.key
    assert await store.sections(found.key) == sections
    assert await store.diff_id_of(read.blob_digest) == read.diff_id
    assert await store.has_layers([read.key, read.key])
    assert not await store.has_layers([read.key, "another"])


async def test_facts_of_another_version_are_not_found_and_full_ones_are_preferred(store: Store) -> None:
    await store.put_layer(layer_read("a", "partial"), FACTS, {"entries": [b"p"]})
    await store.put_layer(layer_read("a", "full"), FACTS, {"entries": [b"f"]})
    found = await store.find_layer(digest("a"), FACTS)
    assert found is not None
    assert found.coverage == "full"
    assert await store.find_layer(digest("a"), "facts-2") is None


async def test_a_refusal_holds_for_its_version_of_the_readers(store: Store) -> None:
    await store.put_refusal(digest("bad"), FACTS, Refusal("bad-tar", "checksum"))
    assert await store.refusal(digest("bad"), FACTS) == Refusal("bad-tar", "checksum")
    assert await store.refusal(digest("bad"), "facts-2") is None


async def test_a_report_is_stored_with_its_image_manifest_and_findings(store: Store) -> None:
    image = image_source()
    await store.put_report(image, ["k1", "k2"], "report-key", "rules-1", report_body(image))
    assert await store.report("report-key") == report_body(image)
    stored = await store.image(image.image_id)
    assert stored is not None
    assert stored.layers == ("k1", "k2")
    assert stored.config == image.config_body
    assert await store.layers_of(image.manifest_digest) == image.layers


async def test_removal_takes_what_was_used_longest_ago_and_stays_below_the_limit(tmp_path: Path) -> None:
    now = [1000.0]
    settings = StateSettings(dir=str(tmp_path), max_bytes=16 << 20, min_free_bytes=0)
    store = await Store.open(settings, clock=lambda: now[0])
    for number in range(20):
        now[0] += 10_000
        await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [os.urandom(1 << 20)]})
        await store.touch([layer_read("l0").key])
    assert await store.stored_bytes() <= 16 << 20
    assert await store.find_layer(digest("l0"), FACTS) is not None
    assert await store.find_layer(digest("l1"), FACTS) is None
    assert await store.find_layer(digest("l19"), FACTS) is not None
    assert store.evicted
    assert store.database.size_bytes < 24 << 20
    await store.close()


async def test_facts_in_use_do_not_leave_for_want_of_room(tmp_path: Path) -> None:
    store = await Store.open(StateSettings(dir=str(tmp_path), max_bytes=16 << 20, min_free_bytes=0))
    held = layer_read("held")
    store.pin([held.key])
    await store.put_layer(held, FACTS, {"entries": [os.urandom(1 << 20)]})
    for number in range(20):
        await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [os.urandom(1 << 20)]})
    assert await store.sections(held.key)
    store.unpin([held.key])
    for number in range(20, 40):
        await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [os.urandom(1 << 20)]})
    assert not await store.sections(held.key)
    await store.close()


async def test_the_migrations_make_exactly_the_tables_that_the_code_knows(store: Store) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with store.database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_database_is_durable_and_gives_freed_pages_back(store: Store) -> None:
    async with store.database.writing() as connection:
        asked = {}
        for pragma in ("journal_mode", "synchronous", "auto_vacuum", "busy_timeout", "foreign_keys", "journal_size_limit"):
            asked[pragma] = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar()
    assert asked == {
        "journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2, "busy_timeout": 5000, "foreign_keys": 1,
        "journal_size_limit": 64 << 20,
    }  # fmt: skip


async def test_h118_a_database_locked_by_another_process_is_busy_and_reads_go_on(store: Store, tmp_path: Path) -> None:
    await store.put_layer(layer_read("a"), FACTS, {"entries": [b"x"]})
    other = sqlite3.connect(store.database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = time.monotonic()
    with pytest.raises(StoreBusy):
        await store.put_layer(layer_read("b"), FACTS, {"entries": [b"x"]})
    assert time.monotonic() - before < 8
    assert await store.find_layer(digest("a"), FACTS) is not None
    other.execute("ROLLBACK")
    other.close()
    await store.put_layer(layer_read("b"), FACTS, {"entries": [b"x"]})
    assert await store.find_layer(digest("b"), FACTS) is not None


async def test_h118_a_long_reader_does_not_let_the_journal_grow_past_its_limit_once_it_has_gone(store: Store) -> None:
    async with store.database.reading() as reader:
        await reader.execute(sa.text("SELECT count(*) FROM layer"))
        for number in range(20):
            await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [os.urandom(1 << 20)]})
    await store.database.checkpoint()
    journal = Path(f"{store.database.path}-wal")
    assert journal.stat().st_size <= 64 << 20


@pytest.mark.parametrize("damage", ["flip", "garbage", "newer", "foreign"])
async def test_h120_a_database_that_is_not_sound_is_refused_with_a_way_out_and_left_alone(tmp_path: Path, damage: str) -> None:
    settings = StateSettings(dir=str(tmp_path), min_free_bytes=0)
    store = await Store.open(settings)
    for number in range(40):
        await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [os.urandom(5000)]})
    await store.database.checkpoint()
    await store.close()
    path = tmp_path / FILE_NAME
    if damage == "flip":
        raw = bytearray(path.read_bytes())
        for offset in range(4096, len(raw), 4096):
            raw[offset : offset + 16] = bytes(16)
        path.write_bytes(raw)
    elif damage == "garbage":
        path.write_bytes(b"this is not a database at all" * 400)
    elif damage == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
    else:
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE accounts (id INTEGER)")
        connection.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StoreError) as refusal:
        await Store.open(settings)
    assert str(path) in str(refusal.value)
    assert any(word in str(refusal.value) for word in ("mv ", "another folder"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


async def test_h120_a_truncated_journal_loses_only_its_unfinished_end(tmp_path: Path) -> None:
    settings = StateSettings(dir=str(tmp_path), min_free_bytes=0)
    script = textwrap.dedent(
        """
        import asyncio, os, sys
        from service.settings import StateSettings
        from service.store import Store
        from tests.service.test_store import FACTS, layer_read
        async def main():
            store = await Store.open(StateSettings(dir=sys.argv[1], min_free_bytes=0))
            for number in range(10):
                await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [b"x" * 5000]})
            os.kill(os.getpid(), 9)
        asyncio.run(main())
        """
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == -9
    journal = Path(f"{tmp_path / FILE_NAME}-wal")
    os.truncate(journal, journal.stat().st_size - 3000)
    store = await Store.open(settings)
    found = [await store.find_layer(digest(f"l{number}"), FACTS) for number in range(10)]
    assert all(found[:9])
    await store.close()


async def test_h115_what_was_acknowledged_survives_kill_9_whole(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, sys
        from service.settings import StateSettings
        from service.store import Store
        from tests.service.test_store import FACTS, layer_read
        async def main():
            store = await Store.open(StateSettings(dir=sys.argv[1], min_free_bytes=0))
            for number in range(10_000):
                await store.put_layer(layer_read(f"l{number}"), FACTS, {"entries": [b"x" * 20000, b"y" * 20000]})
                print(number, flush=True)
        asyncio.run(main())
        """
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 15:
            break
    child.kill()
    acknowledged = max([15, *(int(line) for line in child.stdout if line.strip().isdigit())])
    child.wait()
    child.stdout.close()
    store = await Store.open(StateSettings(dir=str(tmp_path), min_free_bytes=0))
    for number in range(acknowledged + 1):
        found = await store.find_layer(digest(f"l{number}"), FACTS)
        assert found is not None
        assert [len(chunk) for chunk in (await store.sections(found.key))["entries"]] == [20000, 20000]
    await store.close()


async def fill(store: Store, kept: list[int]) -> None:
    while True:
        await store.put_layer(layer_read(f"l{len(kept)}"), FACTS, {"entries": [os.urandom(100_000)]})
        kept.append(len(kept))


async def test_h117_a_full_disk_refuses_writes_serves_reads_and_resumes_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs of our own: {mounted.stderr.decode()}")
    try:
        store = await Store.open(StateSettings(dir=str(folder), min_free_bytes=0))
        kept: list[int] = []
        with pytest.raises(StoreFull):
            await fill(store, kept)
        assert kept
        for number in kept:
            assert await store.find_layer(digest(f"l{number}"), FACTS) is not None
        subprocess.run(["mount", "-o", "remount,size=32m", str(folder)], check=True)
        await store.put_layer(layer_read("after"), FACTS, {"entries": [os.urandom(100_000)]})
        assert await store.find_layer(digest("after"), FACTS) is not None
        await store.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


async def test_h117_below_the_floor_of_free_space_nothing_is_written(tmp_path: Path) -> None:
    database = await Database.open(tmp_path, min_free_bytes=0)
    await database.close()
    store = await Store.open(StateSettings(dir=str(tmp_path), min_free_bytes=1 << 60))
    with pytest.raises(StoreFull, match="free"):
        await store.writable()
    assert await store.sightings() == []
    await store.close()


async def test_a_name_seen_again_keeps_its_first_time_and_an_examination_replaces_its_rows(store: Store) -> None:
    image = image_source()
    await store.note_sightings([image.sighting])
    await store.note_sightings([image.sighting])
    (row,) = await store.rows_of(image.sighting)
    assert (row.outcome, row.platform) == ("queued", "")
    done = msgspec.structs.replace(
        row, platform="linux/amd64", outcome="done", manifest_digest=image.manifest_digest, report_key="r"
    )
    other = msgspec.structs.replace(done, platform="linux/arm64")
    await store.put_examined(image.sighting, [done, other])
    rows = await store.rows_of(image.sighting)
    assert [found.platform for found in rows] == ["linux/amd64", "linux/arm64"]
    assert {found.first_seen for found in rows} == {row.first_seen}
    assert [found.platform for found in await store.resolved("hub", image.sighting.digest)] == ["linux/amd64", "linux/arm64"]
    await store.remove_sightings([image.sighting])
    assert await store.sightings() == []


async def test_ten_writers_at_once_wait_for_their_turn(store: Store) -> None:
    await asyncio.gather(*(store.put_layer(layer_read(f"l{n}"), FACTS, {"entries": [b"x"]}) for n in range(10)))
    assert await store.has_layers([layer_read(f"l{n}").key for n in range(10)])
