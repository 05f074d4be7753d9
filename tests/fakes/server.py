"""Servers that can be made to misbehave: HTTP/1.1 by hand over asyncio, so that every byte can be wrong.

A fake of one kind says what an honest server answers; faults stand before that, and all that is asked is recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

TLS_HELLO = b"\x16"
REASONS = {200: "OK", 206: "Partial Content", 401: "Unauthorized", 404: "Not Found", 416: "Range Not Satisfiable"}


class Request(msgspec.Struct, frozen=True):
    """What was asked for; names of headers in lower case."""

    method: str
    path: str
    """With its query, as sent."""
    headers: dict[str, str]
    body: bytes = b""

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))


class Answer(msgspec.Struct, frozen=True):
    """An answer; its length is stated unless the headers say something of it."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def head(self) -> bytes:
        stated = {name.lower() for name in self.headers}
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Said So')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not stated & {"content-length", "transfer-encoding", "connection"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


Raw = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]
Step = Answer | bytes | Callable[[Request], Answer | None] | Raw
"""An answer, raw bytes after which the connection closes, a function that makes an answer (None: the honest one), or a
coroutine function that writes what it likes and after which the connection closes."""


class _Fault:
    def __init__(self, method: str, part: str, steps: Sequence[Step], repeat: bool) -> None:
        self.method = method
        self.part = part
        self.steps = list(steps)
        self.repeat = repeat

    def take(self, request: Request) -> Step | None:
        if self.method not in ("", request.method) or self.part not in request.path or not self.steps:
            return None
        return self.steps[0] if self.repeat else self.steps.pop(0)


class FakeServer:
    """Faults, and a list of what was asked; `honest` is for those who inherit."""

    def __init__(self) -> None:
        self.host = ""
        """Host and port, as in image names."""
        self.requests: list[Request] = []
        self.connections = 0
        """How many were ever made."""
        self.open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        """Those that are open, and who serves them."""
        self._faults: list[_Fault] = []

    def honest(self, request: Request) -> Answer | Raw:
        """What a server without faults answers."""
        raise NotImplementedError

    def once(self, method: str, part: str, *steps: Step) -> None:
        """The next requests of that method with `part` in their path meet these steps, one each, in order."""
        self._faults.append(_Fault(method, part, steps, repeat=False))

    def always(self, method: str, part: str, step: Step) -> None:
        """Every such request meets this step."""
        self._faults.append(_Fault(method, part, [step], repeat=True))

    def mend(self) -> None:
        """No faults any more."""
        self._faults.clear()

    def asked(self, method: str = "", part: str = "") -> list[Request]:
        """Requests of that method with `part` in their path."""
        return [each for each in self.requests if method in ("", each.method) and part in each.path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open[writer] = asyncio.current_task()
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, which is its right, or the test is over
        finally:
            self.open.pop(writer, None)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        step = next((step for fault in self._faults if (step := fault.take(request)) is not None), None)
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            return False
        if callable(step) and asyncio.iscoroutinefunction(step):
            await step(request, writer)
            return False
        made = step(request) if callable(step) else step
        answer = made or self.honest(request)
        if not isinstance(answer, Answer):
            await answer(request, writer)
            return False
        writer.write(answer.head() + (b"" if request.method == "HEAD" else answer.body))
        await writer.drain()
        return "Connection" not in answer.headers

    def hang_up(self) -> None:
        """Cuts every connection."""
        for writer, task in list(self.open.items()):
            writer.transport.abort()
            if task is not None:
                task.cancel()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    if (first := await reader.read(1)) == TLS_HELLO:
        return None
    line = (first + await reader.readline()).decode("latin-1").split()
    if len(line) < 2:
        return None
    headers: dict[str, str] = {}
    while text := (await reader.readline()).decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line[0], line[1], headers, body)


@contextlib.asynccontextmanager
async def listening(server: FakeServer, tls: ssl.SSLContext | None = None, path: Path | None = None) -> AsyncIterator[None]:
    """The server on a free port of this machine, or on a unix socket, for as long as the context lasts."""
    if path is not None:
        sockets = await asyncio.start_unix_server(server.serve, path, limit=1 << 20)
    else:
        sockets = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
        server.host = f"127.0.0.1:{sockets.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        sockets.close()
        server.hang_up()
        await sockets.wait_closed()


@contextlib.asynccontextmanager
async def serving_raw(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A server of raw sockets on a free port, which is given; every connection ends with it."""
    tasks: set[asyncio.Task[object]] = set()

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(kept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
