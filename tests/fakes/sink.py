"""A sink that keeps what a source gives, for tests that look at the bytes themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence


class Kept:
    """Layers by index, archives in order (service.sources.LayerSink)."""

    def __init__(self) -> None:
        self.blobs: dict[int, bytes] = {}
        self.archives: list[bytes] = []

    async def blob(self, index: int, chunks: AsyncIterator[bytes]) -> None:
        self.blobs[index] = b"".join([chunk async for chunk in chunks])

    async def plan_elf(self, size: int, pieces: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, int]]:
        return [(0, size)]

    async def in_place(self, index: int, chunks: AsyncIterator[bytes]) -> None:
        self.blobs[index] = b"".join([chunk async for chunk in chunks])

    async def archive(self, chunks: AsyncIterator[bytes]) -> None:
        self.archives.append(b"".join([chunk async for chunk in chunks]))
