"""One worker process, its pipes and the frames on them: why it ended, and what it said last.

Knows the protocol of analyzers/frames.py from our side; refuses to know what is asked, and which worker serves whom (worker.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from pathlib import Path

from analyzers import frames
from analyzers.frames import FrameKind
from service.errors import WorkerDied

PIPE_BYTES = 1 << 20
STDERR_BYTES = 4096
LEAVE_SECONDS = 2.0
MAX_ANSWER_BYTES = 256 << 20
"""All parts of one answer; nothing honest comes near, since facts are packed."""


class Parts:
    """Parts of one answer as they arrive, by owner and name, within a ceiling."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, list[bytes]]] = {}
        self._bytes = 0

    def add(self, part: frames.Part) -> None:
        self._bytes += len(part.body)
        if self._bytes > MAX_ANSWER_BYTES:
            raise frames.ProtocolBroken("an answer beyond its ceiling")
        self.bodies.setdefault(part.owner, {}).setdefault(part.name, []).append(part.body)

    def sections(self, owner: str) -> dict[str, list[bytes]]:
        return self.bodies.get(owner, {})

    def joined(self, owner: str, name: str) -> bytes:
        return b"".join(self.bodies.get(owner, {}).get(name, ()))


class Process:
    """One worker process and its pipes. `holds` is what it said of its cache after its last answer."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self.child = child
        self.incoming = child.stdin
        self.outgoing = child.stdout
        self.holds: frozenset[str] = frozenset()
        self.jobs = 0
        self.rss_bytes = 0
        self.request = 0
        self.blame = ""
        self.clean = True
        """No request is open on it."""
        self._stderr = bytearray()
        self._tail = asyncio.create_task(self._keep_tail(child.stderr))

    def widen(self) -> None:
        """A pipe of one MiB spares both sides most of their turns; the kernel may refuse that to an ordinary user."""
        pipe = self.incoming.transport.get_extra_info("pipe")
        with contextlib.suppress(OSError, ValueError):  # ValueError: it has gone already, and its pipe is closed
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    async def _keep_tail(self, stderr: asyncio.StreamReader) -> None:
        while chunk := await stderr.read(STDERR_BYTES):
            self._stderr += chunk
            del self._stderr[:-STDERR_BYTES]

    async def receive(self) -> tuple[frames.Header, bytes]:
        """The next frame. Raises WorkerDied at the end of the pipe, ProtocolBroken on nonsense."""
        try:
            head = frames.parse_header(await self.outgoing.readexactly(frames.HEADER_BYTES))
            return head, await self.outgoing.readexactly(head.length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise WorkerDied(await self.ended()) from None

    async def receive_reply(self, parts: Parts) -> frames.Reply:
        """The next whole message of the request at hand; parts on the way are collected. Raises WorkerDied."""
        beginning = b""
        try:
            while True:
                head, body = await self.receive()
                if head.request != self.request:
                    raise frames.ProtocolBroken(f"an answer to {head.request}")
                if head.kind == FrameKind.PART:
                    parts.add(frames.decode_part(body))
                elif head.kind == FrameKind.MESSAGE:
                    return frames.decode_reply(beginning + body)
                elif head.kind == FrameKind.MORE and len(beginning) < frames.MAX_MESSAGE_BYTES:
                    beginning += body
                else:
                    raise frames.ProtocolBroken(f"{head.kind.name} from a worker")
        except frames.ProtocolBroken as error:
            self.kill("protocol")
            raise WorkerDied(await self.ended()) from error

    def send(self, kind: FrameKind, body: bytes | memoryview = b"") -> None:
        # One write: the worker would wake up for a header alone.
        self.incoming.write(b"".join((frames.header(kind, self.request, len(body)), body)))

    @property
    def has_room(self) -> bool:
        """Everything written so far is in the pipe."""
        return self.incoming.transport.get_write_buffer_size() == 0

    def kill(self, blame: str) -> None:
        """Ends it now; the first blame is the reason that is told."""
        if self.child.returncode is None:
            self.blame = self.blame or blame
            with contextlib.suppress(ProcessLookupError):
                self.child.kill()

    async def ended(self) -> str:
        """Why it ended: memory, cpu, deadline, protocol, signal-N or exit-N."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                code = await self.child.wait()
        except TimeoutError:
            self.kill("protocol")
            code = await self.child.wait()
        await self._tail
        if self.blame:
            return self.blame
        if code == frames.EXIT_MEMORY:
            return "memory"
        if code == -signal.SIGXCPU:
            return "cpu"
        return f"signal-{-code}" if code < 0 else f"exit-{code}"

    @property
    def last_words(self) -> str:
        return self._stderr.decode("utf-8", "replace")

    async def leave(self) -> None:
        """Asks it to go by closing its pipe; kills it when it does not."""
        self.incoming.close()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self.child.wait()
        except TimeoutError:
            self.kill("leave")
            await self.child.wait()
        await self._tail


def resident_bytes(pid: int) -> int | None:
    """Resident memory of another process; None once it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None
