"""The BuildKit inside a Docker engine: what it built, and, with the containerd store, every image of the engine by its blobs.

Engines tell of their builds late or not at all (sources.md 2.2); the history tells at once. With the containerd store an
image's id is the digest of its index, so that nothing has to be exported; a graphdriver's images have no blobs.
"""

from __future__ import annotations

import structlog

from service.errors import SourceError
from service.rpc.content import ContentStore
from service.rpc.dialling import Channel
from service.rpc.history import BuildHistory
from service.rpc.upgrade import Passage
from service.sources.contents import StoredImages

log = structlog.get_logger()


class EmbeddedBuildkit:
    """Reached; `close` once. A lost connection is made again by itself."""

    def __init__(self, channel: Channel, passage: Passage | None) -> None:
        self.history = BuildHistory(channel)
        self.content = ContentStore(channel)
        self.images = StoredImages(channel.who, self.content)
        self._channel = channel
        self._passage = passage

    @classmethod
    async def reach(cls, socket: str, who: str, *, upgrades: bool) -> EmbeddedBuildkit | None:
        """The BuildKit of the engine at this socket, or None where it is too old to tell; `upgrades`: by way of `/grpc`."""
        passage = Passage(socket) if upgrades else None
        channel = Channel(passage.target if passage else f"unix:{socket}", who)
        reached = cls(channel, passage)
        try:
            await reached.history.stored()
        except SourceError as error:
            log.info("build history absent", source=who, error=str(error))
            await reached.close()
            return None
        return reached

    async def close(self) -> None:
        await self._channel.close()
        if self._passage is not None:
            self._passage.close()
