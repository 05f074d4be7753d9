"""A BuildKit that says what a test wants: records in any order, twice or gone, blobs that are there or not. Real gRPC.

For what an engine's own BuildKit does not do: it records no names (26.1), has no lazy layers and prunes nothing while we watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from service.rpc.messages import BUILDKIT, CONTENT
from tests.make.images import MANIFEST, Image, manifest_of
from tests.make.layers import sha256

COMPLETE, DELETED = 1, 2
PIECE_BYTES = 1 << 20


class FakeBuildkit:
    """`records` is the history, `blobs` the content store."""

    def __init__(self) -> None:
        self.address = ""
        self.records: list[Any] = []
        self.blobs: dict[str, bytes] = {}
        self.refused: grpc.StatusCode | None = None
        """What every call is answered with, if anything."""
        self.listing: Callable[[], None] = lambda: None
        """Called when a listing has been asked for and is not answered yet."""
        self.reads: list[str] = []
        """Digests asked for."""
        self._followers: set[asyncio.Queue[Any]] = set()

    @property
    def followers(self) -> int:
        return len(self._followers)

    def keep(self, image: Image) -> str:
        """Puts an image into the content store; gives its manifest's digest."""
        manifest, blobs = manifest_of(image)
        self.blobs |= {sha256(blob.data): blob.data for blob in blobs} | {sha256(manifest): manifest}
        return sha256(manifest)

    def built(
        self, ref: str, digest: str, names: str = "", *, at: int = 0, attrs: Mapping[str, str] | None = None, **more: Any
    ) -> Any:
        """A record of a build, not yet told to anybody."""
        record = BUILDKIT["Record"](ref=ref, completed_at={"seconds": at}, **more)
        if digest:
            record.result.results[0].CopyFrom(BUILDKIT["Descriptor"](media_type=MANIFEST, digest=digest))
            record.exporters.add(type="image").attrs.update({"name": names, **(attrs or {})})
        return record

    def tell(self, record: Any, kind: int = COMPLETE) -> None:
        """A build has ended, or was deleted: it stands in the history, or does not, and whoever follows is told."""
        self.records = [each for each in self.records if each.ref != record.ref] + ([record] if kind == COMPLETE else [])
        for queue in self._followers:
            queue.put_nowait(BUILDKIT["HistoryEvent"](type=kind, record=record))

    async def _listen(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._refuse(context)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        if not request.early_exit:
            self._followers.add(queue)
        try:
            records = list(self.records)
            if request.early_exit:
                self.listing()
            for record in records:
                yield BUILDKIT["HistoryEvent"](type=COMPLETE, record=record)
            while not request.early_exit:
                yield await queue.get()
        finally:
            self._followers.discard(queue)

    async def _read(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._refuse(context)
        self.reads.append(request.digest)
        data = self.blobs.get(request.digest)
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"content {request.digest}: not found")
            return
        for start in range(0, len(data), PIECE_BYTES):
            yield CONTENT["Piece"](data=data[start : start + PIECE_BYTES])

    async def _refuse(self, context: Any) -> None:
        if self.refused is not None:
            await context.abort(self.refused, "refused")

    def _handlers(self) -> Sequence[Any]:
        def handler(method: Any, request: Any) -> Any:
            return grpc.unary_stream_rpc_method_handler(
                method, request_deserializer=request.FromString, response_serializer=lambda answer: answer.SerializeToString()
            )

        history = {"ListenBuildHistory": handler(self._listen, BUILDKIT["HistoryRequest"])}
        content = {"Read": handler(self._read, CONTENT["ReadRequest"])}
        return (
            grpc.method_handlers_generic_handler("moby.buildkit.v1.Control", history),
            grpc.method_handlers_generic_handler("containerd.services.content.v1.Content", content),
        )


@contextlib.asynccontextmanager
async def buildkit_at(folder: Path) -> AsyncIterator[FakeBuildkit]:
    """A fake BuildKit for as long as the context lasts."""
    fake = FakeBuildkit()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(fake._handlers())
    fake.address = f"unix://{folder}/buildkitd.sock"
    server.add_insecure_port(f"unix:{folder}/buildkitd.sock")
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
