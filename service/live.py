"""What pages are told while they are open: counts of the fleet and the examinations under way, as server-sent events.

Events are sent when something changed, a comment as a heartbeat otherwise. A page that is not listened to costs nothing; there
are at most so many listeners, so that open tabs cannot take the daemon's memory.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from aiohttp import web

from service.routes import Call, Refused, Route, Site
from service.running import Running

LISTENERS = 64
LOOK_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
LISTENING: web.AppKey[set[asyncio.Task[None]]] = web.AppKey("listening")


class News(msgspec.Struct, frozen=True):
    """One event: how the fleet stands, and what is running."""

    revision: int
    """Another number: rows have changed."""
    standings: dict[str, int]
    running: tuple[Running, ...]


def news(site: Site) -> News:
    """As of now, from memory."""
    standings = {str(standing): count for standing, count in site.fleet.standings().items()}
    return News(site.fleet.revision, standings, site.running())


async def events(site: Site, call: Call) -> web.StreamResponse:
    """An endless stream. Refused 503 when too many listen already."""
    listening = call.request.app[LISTENING]
    task = asyncio.current_task()
    if task is None or len(listening) >= LISTENERS:
        raise Refused(503, "too many pages are listening", {"Retry-After": "30"})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(call.request)
    listening.add(task)
    try:
        await _tell(site, response)
    finally:
        listening.discard(task)
    return response


async def _tell(site: Site, response: web.StreamResponse) -> None:
    told: bytes = b""
    quiet = 0.0
    with contextlib.suppress(ConnectionError):
        while True:
            current = msgspec.json.encode(news(site))
            if current != told:
                await response.write(b"data: " + current + b"\n\n")
                told, quiet = current, 0.0
            elif quiet >= HEARTBEAT_SECONDS:
                await response.write(b": still here\n\n")
                quiet = 0.0
            await asyncio.sleep(LOOK_SECONDS)
            quiet += LOOK_SECONDS


async def stop_listening(app: web.Application) -> None:
    """At shutdown: open streams would keep the server waiting."""
    open_streams = app[LISTENING]
    for task in tuple(open_streams):
        task.cancel()


async def show(site: Site, call: Call) -> web.StreamResponse:
    """The same once, for terminals and programs."""
    return web.Response(body=msgspec.json.encode(news(site)), content_type="application/json")


ROUTES = (
    Route("GET", "/events", events, "read"),
    Route("GET", "/api/v1/now", show, "read", "How the fleet stands and what is being examined", answer=News),
)
