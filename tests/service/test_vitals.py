"""What makes the daemon unready, told from memory; and gauges that are absent until they are known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.fleet import SourceStatus
from service.vitals import FIRST_TRY_SECONDS, STALE_SECONDS, Vitals
from tests.service.parts import Parts, assembled, until


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with assembled(tmp_path) as made:
        yield made


@pytest.fixture
def vitals(parts: Parts) -> Vitals:
    made = Vitals(parts.ledger, parts.metrics, parts.examiner, parts.examining)
    made.starting, made.began_at = "", time.monotonic()
    return made


async def test_it_is_ready_when_nothing_keeps_it(vitals: Vitals) -> None:
    assert await vitals.unready() == []


async def test_what_is_still_to_be_done_and_stopping_are_told(vitals: Vitals) -> None:
    vitals.starting = "reading what is stored"
    vitals.stopping = True
    assert await vitals.unready() == ["stopping", "reading what is stored"]


async def test_a_source_is_waited_for_until_its_first_attempt_has_ended_either_way(parts: Parts, vitals: Vitals) -> None:
    parts.fleet.note_source(SourceStatus(name="hub", kind="registry"))
    assert await vitals.unready() == ["source hub was not tried yet"]
    parts.fleet.note_source(SourceStatus(name="hub", kind="registry", up=False, error="cannot be reached"))
    assert await vitals.unready() == []


async def test_a_source_that_does_not_come_to_an_end_is_waited_for_only_for_a_while(parts: Parts, vitals: Vitals) -> None:
    parts.fleet.note_source(SourceStatus(name="hub", kind="registry"))
    vitals.began_at -= FIRST_TRY_SECONDS
    assert await vitals.unready() == []


async def test_a_store_that_refuses_or_does_not_answer_is_told(parts: Parts, vitals: Vitals) -> None:
    parts.ledger.note_trouble("disk full")
    assert await vitals.unready() == ["the store takes no writes: disk full"]
    parts.ledger.note_trouble("")
    vitals._looked_at -= STALE_SECONDS + 1
    assert await vitals.unready() == ["the store does not answer"]


async def test_h125_gauges_are_absent_until_they_are_known(parts: Parts, vitals: Vitals) -> None:
    unknown = ("enoent_queue_jobs", "enoent_store_bytes", "enoent_event_loop_delay_seconds")
    text = parts.metrics.text().decode()
    assert not [name for name in unknown if f"# TYPE {name} " in text]
    tasks = [asyncio.create_task(vitals.watch()), asyncio.create_task(vitals.beat())]
    await until(lambda: all(f"# TYPE {name} " in parts.metrics.text().decode() for name in unknown))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert parts.metrics.value("enoent_store_bytes") == 0
