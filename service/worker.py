"""A pool of worker processes: bytes of images go in, facts and reports come out, and a death is an outcome.

Knows frames and processes; refuses to know what is in them. A worker serves one request at a time. Streams (layers,
archives) may occupy `parallel` workers; one more serves judging, so that a slow download never holds up a verdict, and one
more takes small layers past waiting ones, so that a big image holds up no small one (hostile I3).
The pipe to a worker is the only buffer between a source and its reader: a fast source waits (hostile.md, posture).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

import analyzers
from analyzers import frames
from analyzers.errors import Rejected
from analyzers.frames import FrameKind
from analyzers.limits import Limits
from analyzers.oci import Digest, ImageConfig
from analyzers.profile import HostProfile
from service.errors import WorkerDied
from service.settings import Workers
from service.worker_process import PIPE_BYTES, Parts, Process, resident_bytes

log = structlog.get_logger()

WATCH_SECONDS = 0.5
START_SECONDS = 30.0
SMALL_BYTES = 4 << 20
"""A layer up to this size is read beside the big ones when all of their workers are taken."""
Waited = TypeVar("Waited")

Sections = Mapping[str, Sequence[bytes]]
"""Packed facts of one layer: section name to its chunks."""
FetchSections = Callable[[str], Awaitable[Sections]]
"""Gives the stored sections of a layer key; called only for what the chosen worker does not hold."""


class LayerOutcome(msgspec.Struct, frozen=True):
    """One layer as a worker read it, with its facts still packed."""

    read: frames.LayerRead
    sections: dict[str, list[bytes]]


class MemberOutcome(msgspec.Struct, frozen=True):
    """One layer of an archive: read, or rejected with a code."""

    layer: LayerOutcome | None
    code: str = ""
    detail: str = ""


class ArchiveOutcome(msgspec.Struct, frozen=True):
    """One archive as a worker read it."""

    documents: dict[str, bytes]
    layers: dict[str, MemberOutcome]
    links: dict[str, str]
    members: dict[str, tuple[int, int]]
    """Offset and size of each regular member; empty when the archive itself is compressed."""
    missed: bytes
    """For `known_ranges` of a second pass; empty when nothing was missed."""
    known: frozenset[str]
    """Members passed over because they were known."""
    compression: str


class PoolStats(msgspec.Struct, frozen=True):
    """What the metrics show of the pool. Counters never fall."""

    alive: int
    busy: int
    started: int
    exits: dict[str, int]
    """Unexpected ends by reason."""
    recycled: int
    cpu_seconds: float
    bytes_in: int
    """Bytes of layers and archives handed to workers."""


class Pool:
    """Warm workers for layers, archives, judging and listing. Enter it before use; leaving it ends every worker."""

    def __init__(self, settings: Workers, limits: Limits | None = None) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._parallel = settings.parallel or os.cpu_count() or 1
        self._streams = asyncio.Semaphore(self._parallel)
        self._small = asyncio.Semaphore(1)
        self._slots = asyncio.Semaphore(self._parallel + 2)
        self._idle: list[Process] = []
        self._busy: set[Process] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._started = self._recycled = self._bytes_in = 0
        self._cpu_seconds = 0.0
        self._exits: dict[str, int] = {}
        self.confined: dict[str, str] = {}
        """What the kernel granted the worker started last; shown in the log and by `doctor`."""

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for process in self._busy:
            process.kill("closing")
        idle, self._idle = self._idle, []
        await asyncio.gather(*(process.leave() for process in idle))
        while self._leaving:
            await asyncio.gather(*self._leaving)

    @property
    def parallel(self) -> int:
        """How many layers are read at a time."""
        return self._parallel

    @property
    def stats(self) -> PoolStats:
        return PoolStats(
            alive=len(self._idle) + len(self._busy),
            busy=len(self._busy),
            started=self._started,
            exits=dict(self._exits),
            recycled=self._recycled,
            cpu_seconds=self._cpu_seconds,
            bytes_in=self._bytes_in,
        )

    async def layer(
        self,
        chunks: AsyncIterator[bytes],
        media_type: str = "",
        *,
        digest: str = "",
        size_bytes: int = 0,
        known_ranges: bytes = b"",
        progress: Callable[[int], None] | None = None,
    ) -> LayerOutcome:
        """One pass over one layer. Raises Rejected, WorkerDied, and whatever `chunks` raises.

        `size_bytes`: of the blob, 0 when unknown. `digest`: what `chunks` are checked against as they are drawn
        (blobs.verified); empty: the worker says what it is.
        After a refusal the rest of `chunks` is still drawn, so that a stream whose digest does not hold says so
        (hostile 37: corrupt and verified is final, corrupt and unverified is tried again).
        """
        request = frames.ReadLayer(media_type, self._limits, known_ranges, digest)
        small = 0 < size_bytes <= SMALL_BYTES and self._streams.locked()
        async with self._small if small else self._streams, self._worker(()) as process:
            answer, parts = await self._stream(process, request, chunks, progress)
        if not isinstance(answer, frames.LayerRead):
            raise WorkerDied("protocol")
        Digest(answer.blob_digest), Digest(answer.diff_id)
        return LayerOutcome(answer, parts.sections(answer.key))

    async def in_place(
        self,
        chunks: AsyncIterator[bytes],
        diff_id: str,
        source: str,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> LayerOutcome:
        """One pass over pieces of a layer that lies here, for facts that serve `source` alone. Raises as `layer` does.

        Each chunk is whole pieces (frames.piece) of at most DATA_BYTES.
        """
        request = frames.ReadInPlace(diff_id, source, self._limits)
        async with self._streams, self._worker(()) as process:
            answer, parts = await self._stream(process, request, chunks, progress)
        if not isinstance(answer, frames.LayerRead):
            raise WorkerDied("protocol")
        if answer.diff_id != diff_id:
            raise Rejected("left-out", "it was not read to its end")
        return LayerOutcome(answer, parts.sections(answer.key))

    async def plan_elf(self, size: int, pieces: Sequence[tuple[int, bytes]]) -> tuple[tuple[int, int], ...]:
        """Which ranges of a large ELF file are to be read, as far as these pieces tell. Raises Rejected, WorkerDied."""
        async with self._worker(()) as process:
            answer, _ = await self._ask(process, frames.PlanElf(size, tuple(pieces)), _no_sections)
        if not isinstance(answer, frames.Planned):
            raise WorkerDied("protocol")
        return answer.ranges

    async def archive(
        self,
        chunks: AsyncIterator[bytes],
        known: Collection[str] = (),
        index_only: bool = False,
        *,
        known_ranges: bytes = b"",
        progress: Callable[[int], None] | None = None,
    ) -> ArchiveOutcome:
        """One pass over a docker or OCI archive; layers in `known` are passed over. Raises as `layer` does."""
        request = frames.ReadArchive(tuple(sorted(known)), index_only, self._limits, known_ranges)
        async with self._streams, self._worker(()) as process:
            answer, parts = await self._stream(process, request, chunks, progress)
        if not isinstance(answer, frames.ArchiveRead):
            raise WorkerDied("protocol")
        return ArchiveOutcome(
            documents={owner: parts.joined(owner, "document") for owner in parts.bodies if "document" in parts.bodies[owner]},
            layers={member.name: _member(member, parts) for member in answer.members},
            links=answer.links,
            members=answer.places,
            missed=answer.missed,
            known=frozenset(answer.known),
            compression=answer.compression,
        )

    async def judge(
        self,
        image_id: str,
        config: ImageConfig,
        layer_keys: Sequence[str],
        fetch_sections: FetchSections,
        profile: HostProfile,
        overrides: msgspec.Struct | None = None,
    ) -> bytes:
        """The report of one image, as JSON bytes. Raises Rejected, WorkerDied, and whatever `fetch_sections` raises."""
        packed = msgspec.msgpack.encode(overrides) if overrides is not None else b""
        request = frames.JudgeImage(image_id, config, tuple(layer_keys), profile, packed)
        async with self._worker(layer_keys) as process:
            answer, parts = await self._ask(process, request, fetch_sections)
        if not isinstance(answer, frames.Judged):
            raise WorkerDied("protocol")
        return parts.joined("", "report")

    async def ldd(
        self,
        image_id: str,
        config: ImageConfig,
        layer_keys: Sequence[str],
        fetch_sections: FetchSections,
        profile: HostProfile,
        overrides: msgspec.Struct | None = None,
        *,
        paths: Sequence[bytes] = (),
        all_elf: bool = False,
    ) -> bytes:
        """One JSON line an ELF object (linkage.ObjectListing). Raises as `judge` does."""
        packed = msgspec.msgpack.encode(overrides) if overrides is not None else b""
        request = frames.ListObjects(image_id, config, tuple(layer_keys), tuple(paths), all_elf, profile, packed)
        async with self._worker(layer_keys) as process:
            answer, parts = await self._ask(process, request, fetch_sections)
        if not isinstance(answer, frames.Listed):
            raise WorkerDied("protocol")
        return parts.joined("", "lines")

    # One request on one worker

    async def _stream(
        self,
        process: Process,
        request: frames.Request,
        chunks: AsyncIterator[bytes],
        progress: Callable[[int], None] | None,
    ) -> tuple[frames.Result, Parts]:
        parts = Parts()
        receiver = asyncio.create_task(process.receive_reply(parts))
        done = 0
        try:
            await self._send_message(process, request)
            async with _until_death(receiver):
                async for chunk in chunks:
                    if not receiver.done():
                        await self._send_data(process, chunk)
                    elif receiver.exception() is not None:
                        break
                    done += len(chunk)
                    self._bytes_in += len(chunk)
                    if progress is not None:
                        progress(done)
            if not receiver.done():
                process.send(FrameKind.END)
            return self._take(process, await self._in_time(process, receiver)), parts
        finally:
            if not receiver.cancel() and not receiver.cancelled():
                receiver.exception()  # told already, or outweighed by what ended the source

    async def _ask(self, process: Process, request: frames.Request, fetch: FetchSections) -> tuple[frames.Result, Parts]:
        parts = Parts()
        await self._send_message(process, request)
        reply = await self._in_time(process, process.receive_reply(parts))
        if isinstance(reply, frames.Want):
            for key in reply.layers:
                await self._send_sections(process, key, await fetch(key))
            process.send(FrameKind.END)
            reply = await self._in_time(process, process.receive_reply(parts))
        return self._take(process, reply), parts

    def _take(self, process: Process, reply: frames.Reply) -> frames.Result:
        """The result of the last word on a request; raises Rejected where that is a refusal."""
        if not isinstance(reply, frames.Answer):
            raise WorkerDied("protocol")
        process.clean = True
        process.jobs += 1
        process.rss_bytes = reply.rss_bytes
        process.holds = frozenset(reply.holds)
        self._cpu_seconds += reply.cpu_seconds
        if isinstance(reply.result, frames.Failed):
            raise Rejected(reply.result.code, reply.result.detail)
        return reply.result

    async def _send_message(self, process: Process, request: frames.Request) -> None:
        process.request = (process.request + 1) & 0xFFFFFFFF
        for frame in frames.message_frames(process.request, request):
            process.incoming.write(frame)
            await self._drain(process)

    async def _send_data(self, process: Process, chunk: bytes) -> None:
        view = memoryview(chunk)
        for start in range(0, len(view), frames.DATA_BYTES):
            process.send(FrameKind.DATA, view[start : start + frames.DATA_BYTES])
            await self._drain(process)

    async def _send_sections(self, process: Process, key: str, sections: Sections) -> None:
        for name, chunks in sections.items():
            for chunk in chunks:
                for frame in frames.part_frames(process.request, key, name, chunk):
                    process.incoming.write(frame)
                await self._drain(process)

    async def _drain(self, process: Process) -> None:
        """Waits until the pipe has room. A broken pipe is not told here: the reader of answers knows why."""
        if process.has_room:
            return
        with contextlib.suppress(ConnectionError):
            await self._in_time(process, process.incoming.drain())

    async def _in_time(self, process: Process, wait: Awaitable[Waited]) -> Waited:
        """Waits for the worker no longer than its deadline; then it is killed, and the reason is `deadline`."""
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                return await wait
        except TimeoutError:
            process.kill("deadline")
            raise WorkerDied(await process.ended()) from None

    # Coming and going

    @contextlib.asynccontextmanager
    async def _worker(self, keys: Iterable[str]) -> AsyncIterator[Process]:
        """An idle worker, preferably one that holds these layers, or a new one; afterwards idle again or gone."""
        async with self._slots:
            wanted = frozenset(keys)
            self._idle.sort(key=lambda process: len(process.holds & wanted))
            process = self._idle.pop() if self._idle else await self._start()
            process.clean = False
            self._busy.add(process)
            watch = asyncio.create_task(self._watch(process))
            try:
                yield process
            except WorkerDied as death:
                self._exits[death.reason] = self._exits.get(death.reason, 0) + 1
                log.warning("worker died", reason=death.reason, pid=process.child.pid, last_words=process.last_words)
                raise
            finally:
                watch.cancel()
                self._busy.discard(process)
                self._release(process)

    def _release(self, process: Process) -> None:
        worn = process.jobs >= self._settings.recycle_after or process.rss_bytes > self._settings.recycle_memory_bytes
        if process.clean and not worn and process.child.returncode is None:
            self._idle.append(process)
            return
        if process.clean:
            self._recycled += 1
        else:
            process.kill("abandoned")
        self._see_off(process)

    def _see_off(self, process: Process) -> None:
        task = asyncio.create_task(process.leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _start(self) -> Process:
        """A new worker that has confined itself. Raises WorkerDied("start") when the machine has no room for one."""
        settings = self._settings
        wanted = {
            "memory_bytes": settings.address_space_bytes,
            "cpu_seconds": settings.cpu_seconds,
            "cache_bytes": settings.cache_bytes,
        }
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "analyzers", msgspec.json.encode(wanted).decode(),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                limit=PIPE_BYTES, cwd=Path(analyzers.__file__).parent.parent, env={"LANG": "C.UTF-8"},
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            log.warning("worker start failed", error=str(error))
            self._exits["start"] = self._exits.get("start", 0) + 1
            raise WorkerDied("start") from error
        process = Process(child)
        process.widen()
        self._started += 1
        try:
            async with asyncio.timeout(START_SECONDS):
                hello = await process.receive_reply(Parts())
            if not isinstance(hello, frames.Hello):
                raise WorkerDied("protocol")
        except (TimeoutError, WorkerDied) as error:
            # What kills a worker before it has seen a byte of an image is not that image's fault.
            process.kill("start")
            self._see_off(process)
            self._exits["start"] = self._exits.get("start", 0) + 1
            log.warning("worker start failed", error=str(error), last_words=process.last_words)
            raise WorkerDied("start") from error
        except asyncio.CancelledError:
            process.kill("abandoned")
            self._see_off(process)
            raise
        self.confined = hello.confined
        return process

    async def _watch(self, process: Process) -> None:
        """Kills a worker whose resident memory passes its ceiling (the address space limit is looser)."""
        while (resident := resident_bytes(process.child.pid)) is not None:
            if resident > self._settings.memory_bytes:
                process.kill("memory")
            await asyncio.sleep(WATCH_SECONDS)


@contextlib.asynccontextmanager
async def _until_death(receiver: asyncio.Task[frames.Reply]) -> AsyncIterator[None]:
    """Waiting for a source ends here when the worker dies meanwhile: a source that stalls must not hide that."""

    def told(done: asyncio.Task[frames.Reply]) -> None:
        if not done.cancelled() and done.exception() is not None:
            with contextlib.suppress(RuntimeError):  # the source came to its end in this very turn
                patience.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(None) as patience:
            receiver.add_done_callback(told)
            try:
                yield
            finally:
                receiver.remove_done_callback(told)
    except TimeoutError:
        if not patience.expired():
            raise


def _member(member: frames.MemberRead, parts: Parts) -> MemberOutcome:
    if member.read is None:
        return MemberOutcome(None, member.code, member.detail)
    return MemberOutcome(LayerOutcome(member.read, parts.sections(member.name)))


async def _no_sections(key: str) -> Sections:
    raise WorkerDied("protocol")
