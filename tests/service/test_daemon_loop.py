"""The daemon's loop is nobody's alone (hostile I9): while a big image is analysed, no turn of it takes long."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import aiohttp
import pytest

from service.daemon import open_daemon
from service.settings import JobSettings, LayoutSettings, ListenSettings, Settings, StateSettings, Workers
from tests.make.images import Image, oci_layout
from tests.make.layers import program, script, tar_of
from tests.service.parts import until

LONGEST_SECONDS = 0.25


def big_image() -> Image:
    """Fifty megabytes, thousands of entries, a program that is not found."""
    files = {f"usr/share/doc/package{number % 300}/file{number}": os.urandom(200) for number in range(6000)}
    libraries = {f"usr/lib/lib{number}.so": program(b"\x7fELF" + os.urandom(1_500_000)) for number in range(32)}
    return Image(layers=(tar_of(files), tar_of(libraries), tar_of({"bin/run": script("#!/opt/none\n")})), entrypoint=["/bin/run"])


async def test_no_turn_of_the_loop_takes_long_while_a_big_image_and_a_burst_of_tags_are_analysed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU time of the loop's thread is measured, turn by turn, so that a busy machine changes nothing."""
    turns: list[tuple[float, str]] = []
    run = asyncio.events.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        before = time.thread_time()
        run(handle)
        taken = time.thread_time() - before
        if taken > LONGEST_SECONDS / 10:
            turns.append((taken, repr(handle)))

    layouts = tmp_path / "layouts"
    small = Image(layers=(tar_of({"bin/run": script("#!/opt/none\n")}),), entrypoint=["/bin/run"])
    oci_layout(layouts / "big", {"1": big_image()}, "plain")
    oci_layout(layouts / "many", {f"v{number}": small for number in range(150)})
    settings = Settings(
        state=StateSettings(dir=str(tmp_path / "state"), min_free_bytes=0), listen=ListenSettings(port=0), docker=(), demo=False,
        layouts=(LayoutSettings(path=str(layouts), name="builds", poll_seconds=0.1),), workers=Workers(parallel=2),
        jobs=JobSettings(grace_seconds=1.0),
    )  # fmt: skip
    ending, reload = asyncio.Event(), asyncio.Event()
    async with open_daemon(settings, {}) as daemon:
        monkeypatch.setattr(asyncio.events.Handle, "_run", measured)
        running = asyncio.create_task(daemon.run(ending, reload, lambda: settings))
        fleet = daemon.ledger.fleet
        async with aiohttp.ClientSession(daemon.addresses[0]) as client:
            while len(fleet) < 151 or any(row.outcome == "queued" for row in fleet.rows()):
                for path in ("/metrics", "/", "/livez", "/api/v1/images?limit=500"):
                    async with client.get(path) as answer:
                        assert answer.status == 200
                        await answer.read()
                await asyncio.sleep(0.1)
        await until(lambda: daemon.vitals.longest_delay_seconds is not None)
        ending.set()
        await running
    assert {row.message for row in fleet.rows()} == {"exec /bin/run: no such file or directory"}
    assert max(turns, default=(0.0, "")) < (LONGEST_SECONDS, "")
