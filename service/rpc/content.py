"""The content store that BuildKit and containerd serve alike: bytes by digest."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from analyzers.oci import Digest
from service.blobs import verified
from service.outbound import IDLE_SECONDS
from service.rpc.dialling import Channel, Metadata
from service.rpc.messages import CONTENT

READ = "/containerd.services.content.v1.Content/Read"


class ContentStore:
    """Reads of one namespace; BuildKit needs none and serves its own."""

    def __init__(self, channel: Channel, namespace: str = "", idle_seconds: float = IDLE_SECONDS) -> None:
        self._channel = channel
        self._metadata: Metadata = (("containerd-namespace", namespace),) if namespace else ()
        self._idle_seconds = idle_seconds

    def blob(self, digest: str, size: int | None = None) -> AsyncGenerator[bytes, None]:
        """A blob, checked. Raises SourceError (`not-found` at any time: content may be collected while it is read)."""
        return verified(self._pieces(str(Digest(digest))), digest, size)

    async def _pieces(self, digest: str) -> AsyncGenerator[bytes, None]:
        request = CONTENT["ReadRequest"](digest=digest)
        pieces = self._channel.stream(READ, request, CONTENT["Piece"], self._metadata, self._idle_seconds)
        try:
            async for piece in pieces:
                yield piece.data
        finally:
            await pieces.aclose()
