"""A registry on a free port that can be made to misbehave: what real ones cannot be asked to do.

It speaks HTTP/1.1 by hand over asyncio, so that every byte can be wrong. Without faults it is a correct registry in memory:
manifests, blobs with ranges, tags and a catalog in pages. It records all that it is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import msgspec

from tests.make.images import INDEX, MANIFEST, Image, index_of, manifest_of
from tests.make.layers import sha256

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


def error(status: int, code: str = "", message: str = "", **headers: str) -> Answer:
    """An answer that tells of an error as registries do."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def challenge(realm: str, *, scheme: str = "Bearer", **parameters: str) -> Answer:
    """A 401 that sends the client to `realm`."""
    stated = ",".join(f'{name}="{value}"' for name, value in {"realm": realm, **parameters}.items())
    return Answer(401, {"WWW-Authenticate": f"{scheme} {stated}"})


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


class FakeRegistry:
    """Content, faults, and a list of what was asked."""

    def __init__(self) -> None:
        self.host = ""
        """Host and port, as in image names."""
        self.requests: list[Request] = []
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        """Body and media type by repository and by tag or digest."""
        self.blobs: dict[str, bytes] = {}
        self.page_size = 1000
        self.connections = 0
        """How many were ever made."""
        self.open = set[asyncio.StreamWriter]()
        """Those that are open."""
        self._faults: list[_Fault] = []

    def push(self, name: str, *images: Image, compression: str = "gzip") -> str:
        """Puts images under `repository:tag`; several become an index. Gives the digest of what the tag names."""
        repository, _, tag = name.rpartition(":")
        children = {}
        for image in images:
            body, blobs = manifest_of(image, compression)
            children[image.platform] = body
            self.blobs.update({blob.digest: blob.data for blob in blobs})
            self.manifests[repository, sha256(body)] = body, MANIFEST
        single = len(images) == 1
        return self.put(repository, tag, body if single else index_of(children), MANIFEST if single else INDEX)

    def put(self, repository: str, tag: str, body: bytes, media_type: str = MANIFEST) -> str:
        """Puts these bytes under a tag and under their digest, whatever they are."""
        self.manifests[repository, tag] = self.manifests[repository, sha256(body)] = body, media_type
        return sha256(body)

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
        self.open.add(writer)
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which is its right
        finally:
            self.open.discard(writer)
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
        assert made is None or isinstance(made, Answer)
        answer = made or self.honest(request)
        writer.write(answer.head() + (b"" if request.method == "HEAD" else answer.body))
        await writer.drain()
        return "Connection" not in answer.headers

    def honest(self, request: Request) -> Answer:
        """What a registry without faults answers."""
        path = urllib.parse.unquote(request.path.partition("?")[0]).removeprefix("/v2/")
        if match := re.fullmatch(r"(.+)/manifests/([^/]+)", path):
            found = self.manifests.get((match[1], match[2]))
            if found is None:
                return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            body, media_type = found
            return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": sha256(body)}, body)
        if match := re.fullmatch(r"(.+)/blobs/([^/]+)", path):
            return self._blob(match[2], request.headers.get("range", ""))
        if match := re.fullmatch(r"(.+)/tags/list", path):
            tags = sorted(tag for repository, tag in self.manifests if repository == match[1] and ":" not in tag)
            return self._page(request, "tags", tags, {"name": match[1]}) if tags else error(404, "NAME_UNKNOWN")
        if path == "_catalog":
            return self._page(request, "repositories", sorted({repository for repository, _ in self.manifests}), {})
        return Answer(200) if path == "" else error(404)

    def _blob(self, digest: str, ranged: str) -> Answer:
        data = self.blobs.get(digest)
        if data is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if match := re.fullmatch(r"bytes=(\d+)-", ranged):
            start = int(match[1])
            if start >= len(data):
                return Answer(416)
            return Answer(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])
        return Answer(200, {"Accept-Ranges": "bytes"}, data)

    def _page(self, request: Request, field: str, names: list[str], more: dict[str, str]) -> Answer:
        rest = [name for name in names if name > request.query.get("last", "")]
        page = rest[: self.page_size]
        body = json.dumps({**more, field: page}).encode()
        if len(page) == len(rest):
            return Answer(200, {}, body)
        where = request.path.partition("?")[0]
        return Answer(200, {"Link": f'<{where}?last={page[-1]}&n={self.page_size}>; rel="next"'}, body)

    def hang_up(self) -> None:
        """Cuts every connection."""
        for writer in self.open:
            writer.transport.abort()


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
async def serving(tls: ssl.SSLContext | None = None, registry: FakeRegistry | None = None) -> AsyncIterator[FakeRegistry]:
    """A fake registry for as long as the context lasts."""
    registry = registry or FakeRegistry()
    server = await asyncio.start_server(registry.serve, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    registry.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield registry
    finally:
        server.close()
        registry.hang_up()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def serving_raw(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A server of raw sockets on a free port, which is given; every connection ends with it."""
    tasks: set[asyncio.Task[object]] = set()

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError):
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
