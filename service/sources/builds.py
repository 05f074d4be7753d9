"""The builds of one BuildKit as they stand: kept current by its stream, corrected by whole listings.

The stream is subscribed to first and the listing made second; what the stream told meanwhile is newer (hostile 106).
"""

from __future__ import annotations

import asyncio

from service.errors import SourceError
from service.rpc.history import RECORDS, BuildHistory, BuildRecord, Deleted
from service.sources import Build


class BuildBook:
    """The builds of one history, kept current by its stream, and corrected by whole listings."""

    def __init__(self, history: BuildHistory, stirred: asyncio.Event) -> None:
        """`stirred` is set when something was told, and when the stream has ended."""
        self.records: dict[str, BuildRecord] = {}
        self._stirred = stirred
        self._history = history
        self._told: dict[str, BuildRecord | None] = {}
        """What the stream told since the last listing began; None for what was deleted."""
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            async for told in self._history.follow():
                if isinstance(told, Deleted):
                    self.records.pop(told.ref, None)
                    self._told[told.ref] = None
                elif told.build.ref not in self.records:  # it comes again when its trace is stored
                    self.records[told.build.ref] = self._told[told.build.ref] = told
                else:
                    continue
                self._stirred.set()
        finally:
            self._stirred.set()

    async def relist(self) -> None:
        """Lists the history; what the stream tells meanwhile is newer (hostile 106). Raises SourceError."""
        self._told = {}
        listed = {record.build.ref: record for record in await self._history.stored()} | self._told
        kept = sorted((each for each in listed.values() if each is not None), key=lambda record: record.build.completed_at)
        self.records = {record.build.ref: record for record in kept[-RECORDS:]}

    def check(self) -> None:
        """Raises SourceError when the stream has ended, with what ended it."""
        if self._following.done():
            self._following.result()
            raise SourceError("the build history ended: its server was stopped")

    def by_digest(self) -> dict[str, Build]:
        """The last build of each result."""
        return {output.digest: each.build for each in self.in_order() for output in each.outputs}

    def in_order(self) -> list[BuildRecord]:
        """Oldest first."""
        return sorted(self.records.values(), key=lambda record: record.build.completed_at)

    def reaches_back(self) -> float:
        """Time of the oldest build that age would remove; what is older may have gone. Infinity without any."""
        return min((each.build.completed_at for each in self.records.values() if not each.pinned), default=float("inf"))

    async def close(self) -> None:
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
