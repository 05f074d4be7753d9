"""Ten thousand images as the daemon keeps them: what a scrape and the pages cost, and what it takes to hold them.

Two dozen images are analysed by the daemon itself: those of the demonstration, on bases from small to a whole Debian. Their
stored facts and reports are then written down under ten thousand names, each a tag with a config, an image ID, a top layer and a
report of its own, as if all of them had been pushed. A daemon is started on that state and asked as Prometheus and people ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from analyzers.finding import Report, Severity
from analyzers.judges import RULES_VERSION
from analyzers.profile import DEFAULT_PROFILE
from analyzers.readers import FACTS_VERSION
from benchmarks.daemon import Probe
from benchmarks.measure import peak_bytes
from service.demo import build_demo
from service.pipeline import report_key
from service.schema import FINDING, HISTORY, IMAGE, LAYER, REPORT, SECTION, SIGHTING
from service.settings import StateSettings
from service.store import SightingRow, Store
from service.tiny_elf import dynamic_program, static_program
from tests.browser.chromium import Browser, ChromiumAbsent, started
from tests.daemon import LiveDaemon, live
from tests.make.dive import ARCHIVE
from tests.make.images import Image, oci_layout
from tests.make.layers import program, tar_of

IMAGES = 10_000
TAGS = 8
SCRAPES = 20
LOADS = 5
SOURCE = "production"
HEAVY_BYTES = 20_000
"""Reports beyond this are those of whole systems."""
AT_ONCE = 500
FIRST_ID = 1_000_000
LOADER = "/lib64/ld-linux-x86-64.so.2"
FORMS = {
    "text": {"Accept": "text/plain", "Accept-Encoding": "identity"},
    "text, gzip": {"Accept": "text/plain", "Accept-Encoding": "gzip"},
    "OpenMetrics, gzip": {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "Accept-Encoding": "gzip"},
}
PAGES = {
    "fleet": "/", "fleet, searched": "/?q=team-3+service", "fleet, by size": "/?sort=-size", "findings": "/findings",
    "changes": "/changes", "API, 500 images": "/api/v1/images?limit=500",
}  # fmt: skip


def measure() -> dict[str, Any]:
    """Everything, by name."""
    with tempfile.TemporaryDirectory(prefix="enoent-fleet-") as name:
        folder = Path(name)
        asyncio.run(_multiply(folder, _analysed(folder)))
        return {"fleet": _asked(folder)}


def _analysed(folder: Path) -> list[str]:
    """Image IDs of the templates, stored by a daemon that has analysed them."""
    build_demo(folder / "images")
    if ARCHIVE.exists():
        base = ARCHIVE.read_bytes()
        programs = {"static": static_program("hello"), "dynamic": dynamic_program("hello", LOADER, ["libc.so.6"]),
                    "lacking": dynamic_program("hello", LOADER, ["libssl.so.1.1", "libc.so.6"])}  # fmt: skip
        for kind, content in programs.items():
            made = Image(layers=(base, tar_of({"srv/app": program(content)})), entrypoint=["/srv/app"])
            oci_layout(folder / "images" / f"debian-{kind}", {"1": made})
    with live(folder, {"layouts": [{"path": str(folder / "images"), "name": "templates"}]}) as daemon:
        found = daemon.until_settled()
        daemon.stop()
    return [item["image_id"] for item in found if item["outcome"] == "done"]


async def _multiply(folder: Path, templates: list[str]) -> None:
    """Ten thousand tags made of them, half of them Debian's where it is to be had; written as the store does, many at once."""
    chance = random.Random(1)
    store = await Store.open(StateSettings(dir=str(folder / "state"), min_free_bytes=0))
    try:
        known = {row.image_id: row for row in await store.sightings()}
        bodies = await store.reports({row.report_key for row in known.values()})
        await store.keep_sources([SOURCE])
        heavy = [each for each in templates if len(bodies[known[each].report_key]) > HEAVY_BYTES] or templates
        made = [await _template(store, known[each], bodies[known[each].report_key]) for each in templates]
        by_id = {each.row.image_id: each for each in made}
        for start in range(0, IMAGES, AT_ONCE):
            rows: dict[sa.Table, list[dict[str, Any]]] = {}
            for number in range(start, min(start + AT_ONCE, IMAGES)):
                chosen = chance.choice(heavy if number % 2 else templates)
                for table, row in _copied(by_id[chosen], number):
                    rows.setdefault(table, []).append(row)
            async with store.database.writing() as connection:
                for table, values in rows.items():
                    await connection.execute(sa.insert(table), values)
    finally:
        await store.close()


class Template(NamedTuple):
    """An analysed image."""

    row: SightingRow
    config: bytes
    layers: tuple[str, ...]
    """Keys of its layers' facts."""
    report: Report
    top: dict[str, list[bytes]]
    """Facts of its highest layer."""


async def _template(store: Store, row: SightingRow, body: bytes) -> Template:
    stored = await store.image(row.image_id)
    assert stored is not None
    top = await store.sections(stored.layers[-1])
    return Template(row, stored.config, stored.layers, msgspec.json.decode(body, type=Report), top)


def _copied(template: Template, number: int) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    """The rows of one more image: the template's, with a config and a top layer of its own."""
    now = time.time()
    repository, tag = divmod(number, TAGS)
    manifest = _digest(f"manifest {number}")
    diff_id = _digest(f"layer {number}")
    document = json.loads(template.config)
    document["config"]["Labels"] = {"number": str(number)}
    document["rootfs"]["diff_ids"][-1] = diff_id
    config = json.dumps(document).encode()
    image_id = "sha256:" + hashlib.sha256(config).hexdigest()
    top = template.layers[-1]
    layers = (*template.layers[:-1], diff_id + "|" + top.partition("|")[2])
    key = report_key(image_id, layers, DEFAULT_PROFILE, None)
    report = template.report
    shown = (*report.layers[:-1], msgspec.structs.replace(report.layers[-1], diff_id=diff_id))
    report = msgspec.structs.replace(report, image_id=image_id, layers=shown)
    packed = sum(len(chunk) for chunks in template.top.values() for chunk in chunks)
    yield LAYER, {
        "id": FIRST_ID + number, "key": layers[-1], "diff_id": diff_id, "facts_version": FACTS_VERSION, "coverage": "full",
        "verified": "stream", "entries": shown[-1].entries, "bytes_out": shown[-1].size_bytes, "packed_bytes": packed,
        "stored_at": now, "used_at": now,
    }  # fmt: skip
    for name, chunks in template.top.items():
        for seq, chunk in enumerate(chunks):
            yield SECTION, {"layer_id": FIRST_ID + number, "name": name, "seq": seq, "body": chunk}
    yield IMAGE, {
        "image_id": image_id, "platform": template.row.platform, "config": config,
        "layers": msgspec.msgpack.encode(list(layers)), "stored_at": now,
    }  # fmt: skip
    verdict = report.verdict
    yield REPORT, {
        "key": key, "image_id": image_id, "rules_version": RULES_VERSION, "state": str(verdict.state),
        "reason": str(verdict.reason or ""), "body": msgspec.json.encode(report), "stored_at": now, "used_at": now,
    }  # fmt: skip
    for seq, found in enumerate(report.findings):
        yield FINDING, {
            "report_key": key, "seq": seq, "rule": found.rule, "severity": str(found.severity), "subject": found.subject,
            "message": found.message, "layer": found.layer,
        }  # fmt: skip
    shown_as = {
        "source": SOURCE, "registry": "registry.example.test", "repository": f"team-{repository % 40}/service-{repository}",
        "tag": f"1.{tag}.0", "platform": template.row.platform, "manifest_digest": manifest, "image_id": image_id,
        "report_key": key, "compressed_bytes": template.row.compressed_bytes,
    }  # fmt: skip
    seen = dict.fromkeys(("first_seen", "last_seen", "analysed_at"), now)
    yield SIGHTING, {**shown_as, **seen, "digest": manifest, "outcome": "done"}
    rules = sorted({found.rule for found in report.findings if found.severity in (Severity.FATAL, Severity.LATER)})
    changed = {"state": str(verdict.state), "reason": str(verdict.reason or ""), "message": verdict.message, "at": now}
    for size in (report.size_bytes - 1_000_000, report.size_bytes):
        before = {"image_id": "sha256:before"} if size != report.size_bytes else {}
        yield HISTORY, {**shown_as, **changed, **before, "rules": " ".join(rules), "size_bytes": size}


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _asked(folder: Path) -> dict[str, Any]:
    """What the daemon does with them. Its registry cannot be reached, so nothing changes but what we push to a folder."""
    late = folder / "late"
    settings = {
        "registries": [{"host": "127.0.0.1:1", "name": SOURCE, "poll_seconds": 3600}],
        "layouts": [{"path": str(late), "name": "late", "poll_seconds": 0.2}],
    }
    found: dict[str, Any] = {"images": IMAGES, "state_bytes": sum(path.stat().st_size for path in (folder / "state").iterdir())}
    begun = time.perf_counter()
    with live(folder, settings, ready=False) as daemon, _browser(folder) as browser:
        daemon.until(lambda: sum(json.loads(daemon.get("/api/v1/now"))["standings"].values()) == IMAGES, "the fleet", seconds=300)
        found["ready_seconds"] = time.perf_counter() - begun
        daemon.until_ready()
        found["series"] = daemon.total("enoent_image_series")
        found["scrapes"] = {name: _scraped(daemon, headers) for name, headers in FORMS.items()}
        found["changing"] = _scraped_while_changing(daemon, late)
        found["pages"] = {name: _timed(daemon, path, {"Accept-Encoding": "identity"}) for name, path in PAGES.items()}
        image_id = daemon.images(repository="team-3/service-3")[0]["image_id"]
        found["pages"]["image"] = _timed(daemon, f"/images/{image_id}", {"Accept-Encoding": "identity"})
        if browser is not None:
            found["browser"] = _loaded(browser, daemon.url)
        found["daemon_bytes"] = peak_bytes(daemon.process.pid)
    return found


def _timed(daemon: LiveDaemon, path: str, headers: Mapping[str, str], times: int = LOADS) -> dict[str, float]:
    seconds, size = [], 0
    for _ in range(times):
        begun = time.perf_counter()
        status, _, body = daemon.request("GET", path, headers=headers)
        seconds.append(time.perf_counter() - begun)
        assert status == 200, (path, status)
        size = len(body)
    return {"median_seconds": statistics.median(seconds), "longest_seconds": max(seconds), "bytes": size}


def _scraped(daemon: LiveDaemon, headers: Mapping[str, str]) -> dict[str, float]:
    """Scrapes one after the other, with somebody else asking for a turn of the loop all the while."""
    with Probe(daemon) as probe:
        taken = _timed(daemon, "/metrics", headers, SCRAPES)
    return {**taken, "stall_seconds": probe.longest}


def _scraped_while_changing(daemon: LiveDaemon, late: Path) -> dict[str, float]:
    """The same while images come in, so that the samples have to be written anew."""
    seconds = []
    with Probe(daemon) as probe:
        for number in range(SCRAPES):
            made = Image(layers=(tar_of({"app": program(static_program(f"late {number}"))}),), entrypoint=["/app"])
            oci_layout(late / f"app-{number}", {"1": made})
            daemon.until(lambda wanted=number + 1: daemon.logged("image done", image=f"oci-layout/app-{wanted - 1}:1"))  # type: ignore[misc]
            begun = time.perf_counter()
            status, _, body = daemon.request("GET", "/metrics", headers=FORMS["OpenMetrics, gzip"])
            seconds.append(time.perf_counter() - begun)
            assert status == 200
    shown = gzip.decompress(body).decode()
    return {
        "median_seconds": statistics.median(seconds), "longest_seconds": max(seconds), "bytes": len(body),
        "stall_seconds": probe.longest, "plain_bytes": len(shown),
    }  # fmt: skip


@contextlib.contextmanager
def _browser(folder: Path) -> Iterator[Browser | None]:
    """None where there is no browser."""
    (folder / "browser").mkdir()
    with contextlib.ExitStack() as stack:
        running = None
        with contextlib.suppress(ChromiumAbsent):
            running = stack.enter_context(started(folder / "browser"))
        yield running


def _loaded(browser: Browser, url: str) -> dict[str, float]:
    """From the click to the load event of the fleet page, files and all, each time in a new profile."""
    taken = []
    for _ in range(LOADS):
        page = browser.page()
        page.resize(1280)
        page.open(url)
        taken.append(page.js("performance.getEntriesByType('navigation')[0].duration") / 1000)
    return {"median_seconds": statistics.median(taken), "longest_seconds": max(taken)}
