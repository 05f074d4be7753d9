"""A clock that only moves when somebody sleeps by it, or when a test says so."""

from __future__ import annotations

import asyncio


class Clock:
    """Call it for the time in seconds; `sleep` in place of asyncio.sleep."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []
        """Every pause, in order."""

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
