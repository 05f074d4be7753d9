"""What a live daemon exports: valid, bounded, from memory, and never a number that is not known."""

from __future__ import annotations

import asyncio
import html
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.database import BUSY_MILLISECONDS, FILE_NAME
from service.fleet import Fleet
from service.image_samples import Exposition
from service.metrics import MAX_SERIES_AN_IMAGE, Metrics
from tests.conftest import absent
from tests.daemon import live
from tests.make.images import Image, oci_layout
from tests.make.layers import program, script, tar_of
from tests.make.reports import failing, row

BASE = tar_of({"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/data": program(os.urandom(50_000))})
HOSTILE = (
    '"} 1\nenoent_build_info{version="evil',
    'a\\b"c\nd\te\x00f',
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "\u202etxt.exe",
    "{{ 7 * 7 }} {% raw %}",
    "'; DROP TABLE sighting; --",
    'up{job="x"} == 0 or vector(1)',
    "%s%n${jndi:ldap://x}",
    "é" * 300,
)


def image(name: str = "app", **config: Any) -> Image:
    own = tar_of({"bin/run": script("#!/opt/none\n"), "etc/name": name})
    return Image(layers=(BASE, own), **{"entrypoint": ["/bin/run"], **config})


def watching(folder: Path, **more: object) -> dict[str, object]:
    return {"layouts": [{"path": str(folder), "name": "builds", "poll_seconds": 0.1}], **more}


@pytest.mark.promtool
def test_promtool_finds_nothing_to_say_about_a_live_scrape(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        absent("promtool is not installed: run tests/setup/debian.sh")
    oci_layout(tmp_path / "layouts" / "app", {"1": image(), "2": Image(layers=(b"no tar" * 999,), entrypoint=["/x"])}, "plain")
    with live(tmp_path, watching(tmp_path / "layouts")) as daemon:
        daemon.until_settled(2)
        daemon.until(lambda: daemon.total("enoent_store_bytes") is not None)
        text = daemon.get("/metrics")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_h125_a_restart_resets_counters_and_a_gauge_that_is_not_known_is_absent(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    oci_layout(folder / "app", {"1": image()})
    with live(tmp_path, watching(folder), ready=False) as daemon:
        first = daemon.samples()
        daemon.until_settled(1)
        before = daemon.samples()
        started = daemon.total("process_start_time_seconds")
        assert daemon.total("enoent_analyses_total", outcome="done") == 1
        daemon.stop()
    names = {name for name, _ in first}
    assert "enoent_source_last_success_timestamp_seconds" not in names
    assert not {name for name in names if name.startswith("enoent_image_") and "series" not in name}
    unreachable = {"host": "127.0.0.1:1", "name": "dead", "poll_seconds": 0.5}
    with live(tmp_path, watching(folder, registries=[unreachable]), ready=False) as daemon:
        daemon.until(lambda: len(daemon.images()) == 1)
        after = daemon.samples()
        assert daemon.total("process_start_time_seconds") != started
        assert daemon.total("enoent_analyses_total") is None
        assert daemon.total("enoent_analysis_duration_seconds_count") == 0
        assert daemon.total("enoent_source_last_success_timestamp_seconds", source="dead") is None
        assert daemon.total("enoent_queue_oldest_timestamp_seconds") is None
        # What is stored is known at once: the image keeps its samples, to the last digit.
        images = {key: value for key, value in before.items() if key[0].startswith("enoent_image_") and "series" not in key[0]}
        assert {key: after.get(key) for key in images} == images


def test_h126_a_flood_of_hostile_names_is_capped_counted_and_valid() -> None:
    fleet = Fleet()
    one = row(failing(2), "app")
    for number in range(100_000):
        repository, tag = f"{HOSTILE[number % len(HOSTILE)]}/{number}", HOSTILE[number % 7]
        fleet.upsert(msgspec.structs.replace(one, repository=repository, tag=tag))
    exposition = Exposition(fleet, Metrics(fleet), 15_000)
    text = rendered(exposition).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    of_images = [family for name, family in families.items() if name.startswith("enoent_image_") and "series" not in name]
    series = sum(len(family.samples) for family in of_images)
    assert 15_000 - MAX_SERIES_AN_IMAGE <= series <= 15_000
    (kept,) = families["enoent_image_series"].samples
    (dropped,) = families["enoent_image_series_dropped"].samples
    (overflow,) = families["enoent_image_series_overflow"].samples
    assert kept.value == series
    assert dropped.value == overflow.value > 0
    fleet_wide = sum(sample.value for sample in families["enoent_fleet_images"].samples)
    assert fleet_wide == 100_000


def rendered(exposition: Exposition) -> bytes:
    async def scrape() -> bytes:
        await exposition._render()
        return b"".join([piece async for piece in exposition.plain()])

    return asyncio.run(scrape())


def test_h057_h126_what_names_and_configs_say_is_data_on_every_page_and_in_every_sample(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    hostile = {
        "labels": {text: text for text in HOSTILE},
        "env": ["PATH=/bin", *(f"X{number}={text}" for number, text in enumerate(HOSTILE) if "\x00" not in text)],
        "working_dir": "/" + HOSTILE[2],
    }
    named = {text: image(f"n{number}", **hostile) for number, text in enumerate(HOSTILE)}
    ran = {f"run{number}": image(f"r{number}", entrypoint=[text]) for number, text in enumerate(HOSTILE) if "\x00" not in text}
    oci_layout(folder / "app", {**named, **ran})
    with live(tmp_path, watching(folder)) as daemon:
        items = {item["tag"]: item for item in daemon.until_settled(len(named) + len(ran))}
        assert set(named) < set(items)
        assert {item["outcome"] for item in items.values()} == {"done"}
        versions = [labels for name, labels in daemon.samples() if name == "enoent_build_info"]
        assert len(versions) == 1
        assert daemon.total("enoent_image_start_verdict", repository="app") == len(items)
        for item in items.values():
            page = daemon.get(f"/images/{item['image_id']}")
            assert "<script>alert" not in page
            assert "\x1b" not in page
            assert "\x00" not in page
            assert daemon.report(item["image_id"])["verdict"]["state"] == "fails"
        assert "{{ 7 * 7 }}" in html.unescape(daemon.get(f"/images/{items[HOSTILE[5]]['image_id']}"))
        assert "<script>alert" not in daemon.get("/") + daemon.get("/?q=" + "%3Cscript%3E")
        log = (tmp_path / "log").read_text()
        assert all(json.loads(line)["event"] for line in log.splitlines())
        assert "\x1b" not in log
        assert "\u202e" not in log
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM sighting").fetchone() == (len(items),)
    connection.close()


def test_h127_a_locked_database_keeps_neither_a_scrape_nor_a_page_waiting_and_work_goes_on_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "layouts"
    oci_layout(folder / "app", {"1": image("one")})
    # Less than half of what SQLite itself would wait for the lock: whoever asks it gives no answer in this time.
    patience = BUSY_MILLISECONDS / 1000 / 2.5
    with live(tmp_path, watching(folder)) as daemon:
        daemon.until_settled(1)
        other = sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        oci_layout(folder / "late", {"1": image("late")})
        daemon.until(lambda: daemon.logged("store refuses"))
        for path in ("/metrics", "/", "/sources", "/api/v1/images", "/livez"):
            assert daemon.request("GET", path, timeout=patience)[0] == 200, path
        status, _, body = daemon.request("GET", "/readyz", timeout=patience)
        assert (status, b"the store takes no writes" in body) == (503, True)
        assert daemon.total("enoent_store_writable") == 0
        assert daemon.image("oci-layout/late:1")["standing"] == "waiting"
        other.execute("ROLLBACK")
        other.close()
        assert {item["standing"] for item in daemon.until_settled(2)} == {"fails"}
        daemon.until_ready()
        assert daemon.total("enoent_store_writable") == 1
        assert daemon.logged("store takes writes again")


def test_h117_a_full_disk_makes_it_unready_serves_what_is_known_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "layouts"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(state)], check=False, capture_output=True)
    if mounted.returncode != 0:
        absent(f"no tmpfs of our own: {mounted.stderr.decode()}")
    try:
        oci_layout(folder / "app", {"1": image("one")})
        with live(tmp_path, watching(folder, state={"min_free_bytes": 4 << 20})) as daemon:
            daemon.until_settled(1)
            (state / "filler").write_bytes(bytes(14 << 20))
            oci_layout(folder / "late", {"1": image("late")})
            daemon.until(lambda: b"bytes free" in daemon.request("GET", "/readyz")[2])
            assert "oci-layout/" in daemon.get("/")
            assert daemon.until(lambda: daemon.image("oci-layout/late:1"))["standing"] == "waiting"
            (state / "filler").unlink()
            daemon.until_ready()
            assert {item["standing"] for item in daemon.until_settled(2)} == {"fails"}
    finally:
        subprocess.run(["umount", "-l", str(state)], check=False)
