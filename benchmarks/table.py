"""The numbers as a table for people, each with what it is held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MIB = 1 << 20
DAEMON_CEILING, WORKER_CEILING = 256 * MIB, 512 * MIB
CPU_RATIO = 2.0
WARM_SECONDS = 0.5
JUDGE_SECONDS = 0.3
EVERY_ELF_SECONDS = 1.0
LAG_SECONDS = 0.25
BUILD_SECONDS = 2.0
BYTES_A_FILE = 40
SCRAPE_SECONDS = 0.3
_WIDTH = 58


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The whole table."""
    machine = facts["machine"]
    yield f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}"
    yield f"load average before: {machine['load_before']:.1f}"
    yield from _builds(facts)
    if "image" in facts:
        yield from _analyses(facts, facts["image"])
    if "fleet" in facts:
        yield from _fleet(facts["fleet"])


def _analyses(facts: Mapping[str, Any], image: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"image: {image['uncompressed_bytes'] / 1e9:.3f} GB in {image['layers']} layers, "
        f"{image['compressed_bytes'] / 1e6:.0f} MB "
        f"compressed (gzip ratio {image['gzip_ratio']:.2f}), {image['entries']:,} entries, {image['elf_files']:,} ELF files"
    )
    yield ""
    yield _row("floor (inflate, SHA-256 twice), CPU", _seconds(facts["floor"]))
    yield _row("  in each run", ", ".join(map(_seconds, facts["floors"])))
    for name, title in (("cold", "cold"), ("daemon_cold", "cold, by the daemon itself")):
        if name in facts:
            yield from _cold(title, facts[name], facts["floor"])
            if name == "cold":
                yield _row("  in each run", ", ".join(map(_seconds, facts["colds"])))
    for name, title in (("warm", "one 1 MB layer more"), ("daemon_warm", "one 1 MB layer more, by the daemon itself")):
        if name in facts:
            yield _row(f"{title}, wall", _seconds(facts[name]["wall_seconds"]), f"below {WARM_SECONDS} s")
            yield _row(f"{title}, CPU", _both(facts[name]))
    yield from _judging(facts)
    yield from _isolation(facts)
    yield from _many(facts)


def _builds(facts: Mapping[str, Any]) -> Iterator[str]:
    for store, seconds in facts.get("after_builds", {}).items():
        shown = f"{_seconds(sorted(seconds)[len(seconds) // 2])} (at most {_seconds(max(seconds))})"
        yield _row(f"from the end of a build to its verdict, {store}", shown, f"below {BUILD_SECONDS} s")


def _cold(title: str, cost: Mapping[str, Any], floor: float) -> Iterator[str]:
    cpu = cost["daemon_cpu_seconds"] + cost["workers_cpu_seconds"]
    yield _row(f"{title}, CPU", _both(cost))
    yield _row(f"{title}, CPU against the floor", f"{cpu / floor:.2f} x", f"at most {CPU_RATIO} x")
    yield _row(f"{title}, wall", _seconds(cost["wall_seconds"]))
    yield _row(f"{title}, daemon's peak memory", _mib(cost["daemon_peak_bytes"]), f"ceiling {_mib(DAEMON_CEILING)}")
    workers = ", ".join(map(_mib, cost["workers_peak_bytes"]))
    yield _row(f"{title}, workers' peak memory", workers, f"ceiling {_mib(WORKER_CEILING)} each")
    yield _row(
        f"{title}, longest stall of the loop", _milliseconds(cost["loop_lag_seconds"]), f"below {LAG_SECONDS * 1e3:.0f} ms"
    )


def _judging(facts: Mapping[str, Any]) -> Iterator[str]:
    if "judge_held" in facts:
        limit = f"at most {JUDGE_SECONDS} s"
        yield _row("judged by a worker that holds the layers", _seconds(facts["judge_held"]["wall_seconds"]), limit)
    if "judge_from_store" in facts:
        yield _row("judged from the store by another worker", _seconds(facts["judge_from_store"]["wall_seconds"]))
    if "list_every_elf" in facts:
        cost = facts["list_every_elf"]
        yield _row("every ELF file listed", _seconds(cost["wall_seconds"]), f"at most {EVERY_ELF_SECONDS} s")
        yield _row("every ELF file listed, worker's peak memory", _mib(cost["workers_peak_bytes"][0]))
    if "stored_bytes" in facts:
        yield _row("facts on disk", _mib(facts["stored_bytes"]))


def _isolation(facts: Mapping[str, Any]) -> Iterator[str]:
    if "behind_seconds" not in facts:
        return
    alone, behind = facts["alone_seconds"], facts["behind_seconds"]
    yield _row("a small image alone, wall", _milliseconds(alone))
    shown = ", ".join(_milliseconds(each) for each in behind)
    yield _row("the same while the big one is read", shown, f"2 x: {_milliseconds(2 * alone)}")
    yield _row(
        "longest stall of the loop meanwhile", _milliseconds(facts["loop_lag_seconds"]), f"below {LAG_SECONDS * 1e3:.0f} ms"
    )


def _many(facts: Mapping[str, Any]) -> Iterator[str]:
    if "many_layers" in facts:
        cost = facts["many_layers"]
        yield _row("120 small layers, wall", _seconds(cost["wall_seconds"]))
        yield _row("120 small layers, CPU", _both(cost))
    if "many_files" in facts:
        many = facts["many_files"]
        read, title = many["read"], f"{many['entries'] / 1e6:.1f} million entries"
        yield _row(f"{title}, wall", _seconds(read["wall_seconds"]))
        yield _row(f"{title}, worker's peak memory", _mib(read["workers_peak_bytes"][0]), f"ceiling {_mib(WORKER_CEILING)}")
        yield _row(f"{title}, the same an entry", f"{many['worker_bytes_a_file']:.0f} B", f"meant: {BYTES_A_FILE} B")
        yield _row(f"{title}, stored an entry", f"{many['stored_bytes_a_file']:.1f} B")
        yield _row(f"{title}, judged, wall", _seconds(many["judged"]["wall_seconds"]))
        peak = many["judged"]["workers_peak_bytes"][0]
        yield _row(f"{title}, judged, worker's peak memory", _mib(peak), f"ceiling {_mib(WORKER_CEILING)}")


def _fleet(fleet: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"{fleet['images']:,} images, {fleet['series']:,.0f} series, state {_mib(fleet['state_bytes'])}"
    yield _row("daemon started, fleet shown", _seconds(fleet["ready_seconds"]))
    yield _row("daemon's peak memory", _mib(fleet["daemon_bytes"]), f"ceiling {_mib(DAEMON_CEILING)}")
    limit = f"below {SCRAPE_SECONDS * 1e3:.0f} ms"
    for form, taken in (*fleet["scrapes"].items(), ("while images come in, gzip", fleet["changing"])):
        yield _row(f"scrape, {form}, {taken['bytes'] / 1e6:.1f} MB", _middle(taken), limit)
        stall = f"below {LAG_SECONDS * 1e3:.0f} ms"
        yield _row("  slowest /livez meanwhile", _milliseconds(taken["stall_seconds"]), stall)
    for page, taken in fleet["pages"].items():
        yield _row(f"page, {page}, {taken['bytes'] / 1e3:.0f} kB", _middle(taken))
    if "browser" in fleet:
        yield _row("fleet page loaded in Chromium, files and all", _middle(fleet["browser"]))


def _middle(taken: Mapping[str, float]) -> str:
    return f"{_milliseconds(taken['median_seconds'])}, at most {_milliseconds(taken['longest_seconds'])}"


def _row(what: str, value: str, against: str = "") -> str:
    return f"{what:<{_WIDTH}} {value}" + (f"  ({against})" if against else "")


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms"


def _mib(value: float) -> str:
    return f"{value / MIB:.0f} MiB"


def _both(cost: Mapping[str, Any]) -> str:
    daemon, workers = cost["daemon_cpu_seconds"], cost["workers_cpu_seconds"]
    return f"{daemon + workers:.2f} s (daemon {daemon:.2f}, workers {workers:.2f})"
