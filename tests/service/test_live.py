"""Open pages are told what changes while it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from service.live import LISTENERS
from service.running import Running
from tests.make.reports import failing, starting
from tests.make.site import World

RUNNING = Running(name="shop/api:1", platform="linux/amd64", layers=3, layers_known=1, done_bytes=5, total_bytes=10, seconds=0.5)


@pytest.fixture
def world() -> World:
    made = World()
    made.show(starting(1), "shop/api", "1")
    return made


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(world.app())) as made:
        yield made


async def next_event(stream: ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            line = await stream.content.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                return dict(json.loads(line[6:]))


async def test_a_listener_is_told_how_things_stand_and_what_changes(client: TestClient, world: World) -> None:
    async with client.get("/events") as stream:
        assert stream.content_type == "text/event-stream"
        first = await next_event(stream)
        assert (first["standings"]["starts"], first["standings"]["fails"], first["running"]) == (1, 0, [])
        world.show(failing(2), "shop/report", "1")
        second = await next_event(stream)
        assert second["standings"]["fails"] == 1
        assert second["revision"] != first["revision"]
        world.running = (RUNNING,)
        assert (await next_event(stream))["running"][0]["done_bytes"] == 5


async def test_the_same_is_had_once_as_json(client: TestClient, world: World) -> None:
    world.running = (RUNNING,)
    now = await (await client.get("/api/v1/now")).json()
    assert now["running"][0]["name"] == "shop/api:1"


async def test_open_tabs_are_limited_and_leave_their_place_when_closed(client: TestClient) -> None:
    streams = [await client.get("/events") for _ in range(LISTENERS)]
    assert (await client.get("/events")).status == 503
    streams.pop().close()
    for _ in range(100):
        freed = await client.get("/events")
        if freed.status == 200:
            break
        await asyncio.sleep(0.2)
    assert freed.status == 200
    for stream in (*streams, freed):
        stream.close()


async def test_open_streams_do_not_hold_up_the_end(world: World) -> None:
    client = TestClient(TestServer(world.app()))
    await client.start_server()
    stream = await client.get("/events")
    await next_event(stream)
    async with asyncio.timeout(10):
        await client.server.close()
    await client.close()
