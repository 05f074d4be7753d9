"""What a source tells until it has listed once more: the way tests take events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from service.sources import EventKind, ImageEvent, Sighting, Source

LISTINGS = (EventKind.LISTED, EventKind.LISTED_PARTIALLY)


class Watch:
    """Events of one source, a listing at a time."""

    def __init__(self, events: AsyncIterator[ImageEvent]) -> None:
        self._events = events

    async def listing(self) -> tuple[dict[str, str], list[str], bool]:
        """Digests by `repository:tag` and names that have gone, up to the end of a listing; whether it was whole."""
        seen: dict[str, str] = {}
        gone: list[str] = []
        async for event in self._events:
            if event.kind in LISTINGS:
                return seen, gone, event.kind is EventKind.LISTED
            assert event.sighting is not None
            if event.kind is EventKind.APPEARED:
                seen[name_of(event.sighting)] = event.sighting.digest
            else:
                gone.append(name_of(event.sighting))
        raise AssertionError("the events ended")

    async def next(self) -> tuple[EventKind, str]:
        """The next event and the name it is about."""
        event = await anext(self._events)
        return event.kind, name_of(event.sighting) if event.sighting else ""

    async def until(self, kind: EventKind, name: str) -> None:
        """Waits for that event; others may come before."""
        while await self.next() != (kind, name):
            pass


def name_of(sighting: Sighting) -> str:
    return f"{sighting.repository}:{sighting.tag}"


@contextlib.asynccontextmanager
async def watched(source: Source, seconds: float = 30) -> AsyncIterator[Watch]:
    """A watch of a source that must give what is waited for within these seconds."""
    events = source.events()
    try:
        async with asyncio.timeout(seconds):
            yield Watch(events)
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()
