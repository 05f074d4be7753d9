"""A Docker engine as a source: docker-py lists and follows events in a thread of its own; exports stream through aiohttp.

Events are hints that the engine may lose (it keeps 256), so each one, and a timer, leads to a listing, which is the truth.
Only GET requests are made, and the one that leads to the engine's BuildKit (embedded.py), which tells of builds and, with
the containerd store, gives the blobs. An export is one archive of all layers in the engine's own order (sources.md 2.4); it
is asked for only when a layer is not known. The config comes from the engine's data root or its BuildKit where they have it,
and is else put together from `inspect`: its digest is then that of our own bytes, so that no engine can speak for another.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import docker
import docker.errors
import msgspec
import requests.exceptions
import structlog
import urllib3.exceptions

from analyzers.errors import Malformed, Rejected
from analyzers.oci import Digest, ImageConfig, Platform, parse_config
from service.blobs import collect
from service.errors import SourceError
from service.outbound import IDLE_SECONDS, paced
from service.registry.reference import parse_image_name
from service.rpc.upgrade import upgraded
from service.sources import EventKind, ImageEvent, ImageSource, LayerSink, LayerSource, LostImage, Sighting
from service.sources.manifests import sha256
from service.sources.settings import DockerSettings

if TYPE_CHECKING:
    from service.sources.builds import BuildBook
    from service.sources.embedded import EmbeddedBuildkit

UNTAGGED = "<untagged>"
SETTLE_SECONDS = 0.3
"""Events come in bursts; one listing serves a burst."""
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 120.0
"""The containerd store takes some milliseconds an image to list."""
FIRST_BYTE_SECONDS = 600.0
"""Engines with a graphdriver write the whole archive to their disk before its first byte."""
CONTAINERD_STORE = ["driver-type", "io.containerd.snapshotter.v1"]
"""Stands in the driver's status of an engine that keeps its images in containerd."""
SPEAKS_HTTP2 = (1, 53)
"""API of engines whose socket speaks HTTP/2 without an upgrade, and may refuse one."""
CONFIG_BYTES = 8 << 20
_LAYER_WORDS = ("RUN", "COPY", "ADD", "WORKDIR", "/bin/sh -c")
log = structlog.get_logger()
_FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)


class DockerSource:
    """Implements Source over one engine."""

    kind = "docker"

    def __init__(
        self,
        settings: DockerSettings,
        *,
        request_seconds: float = REQUEST_SECONDS,
        first_byte_seconds: float = FIRST_BYTE_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._request_seconds = request_seconds
        self._first_byte_seconds = first_byte_seconds
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._client: docker.APIClient | None = None
        self._root: Path | None = None
        self._blobs = False
        """Whether its images are blobs of a content store."""
        self._buildkit: EmbeddedBuildkit | None = None
        self._sought = False
        """Whether its BuildKit was looked for."""
        self._session: aiohttp.ClientSession | None = None
        self._connecting = asyncio.Lock()

    async def _connected(self) -> docker.APIClient:
        async with self._connecting:
            if self._client is None:
                self._client, self._root = await self._blocking(self._connect)
            return self._client

    def _connect(self) -> tuple[docker.APIClient, Path | None]:
        path = self._settings.socket
        try:
            # docker-py would tell of everything that it could not get a version.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(CONNECT_SECONDS)
                probe.connect(path)
        except OSError as error:
            code = {FileNotFoundError: "not-found", PermissionError: "denied"}.get(type(error), "unreachable")
            why = "" if code == "not-found" else f": {error.strerror or error}"
            raise SourceError(f"no Docker engine at {path}{why}", code=code) from error
        client = docker.APIClient(f"unix://{path}", version="auto", timeout=max(1, round(self._request_seconds)))
        info = client.info()
        root = info.get("DockerRootDir")
        driver = info.get("Driver")
        self._blobs = CONTAINERD_STORE in (info.get("DriverStatus") or [])
        configs = Path(root) / "image" / str(driver) / "imagedb" / "content" / "sha256" if root and driver else None
        return client, configs

    async def _blocking(self, call: Any, *arguments: Any, **keywords: Any) -> Any:
        """A docker-py call beside the loop, its failures as ours."""
        try:
            async with asyncio.timeout(self._request_seconds):
                return await _in_daemon_thread(partial(call, *arguments, **keywords))
        except TimeoutError as error:
            self._client = None
            raise SourceError(f"{self.name}: the engine does not answer", code="slow") from error
        except docker.errors.NotFound as error:
            raise SourceError(f"{self.name}: {error.explanation or error}", temporary=False, code="not-found") from error
        except _FAILURES as error:
            self._client = None
            raise SourceError(f"{self.name}: the engine does not answer: {type(error).__name__}") from error

    async def events(self) -> AsyncIterator[ImageEvent]:
        """Subscribes first and lists second, so that nothing falls between (hostile 106)."""
        client = await self._connected()
        stirred = asyncio.Event()
        stream = await self._blocking(client.events, filters={"type": "image"})
        follower = _Follower(stream, asyncio.get_running_loop(), stirred)
        shown: dict[tuple[str, str, str], Sighting] = {}
        book: BuildBook | None = None
        try:
            book = await self._follow_builds(stirred)
            while True:
                stirred.clear()
                builds = book.by_digest() if book is not None else {}
                now = {_name(sighting): sighting for sighting in await self._list(client)}
                for name, sighting in shown.items():
                    if name not in now:
                        yield ImageEvent(EventKind.GONE, sighting)
                for sighting in now.values():
                    yield ImageEvent(EventKind.APPEARED, sighting, builds.get(sighting.digest))
                shown = now
                yield ImageEvent(EventKind.LISTED)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_seconds):
                        await stirred.wait()
                await asyncio.sleep(SETTLE_SECONDS)
                if follower.ended:
                    self._client = None
                    raise SourceError(f"{self.name}: the engine ended its events")
                if book is not None:
                    book.check()
        finally:
            follower.stop()
            if book is not None:
                await book.close()

    async def _follow_builds(self, stirred: asyncio.Event) -> BuildBook | None:
        """What the engine builds: many engines tell of it nowhere else. None where there is no history."""
        self._sought = False
        buildkit = await self._reach_buildkit()
        if buildkit is None:
            return None
        from service.sources.builds import BuildBook

        book = BuildBook(buildkit.history, stirred)
        await book.relist()
        return book

    async def _reach_buildkit(self) -> EmbeddedBuildkit | None:
        """The engine's own BuildKit, looked for once a contact; None where it is too old, or hidden by a filter."""
        client = await self._connected()
        async with self._connecting:
            if self._buildkit is not None or self._sought:
                return self._buildkit
            self._sought = True
            upgrades = True
            try:
                (await _in_daemon_thread(partial(upgraded, self._settings.socket))).close()
            except SourceError as error:
                upgrades = False
                if tuple(map(int, client.api_version.split("."))) < SPEAKS_HTTP2:
                    log.info("build history absent", source=self.name, error=str(error))
                    return None
            from service.sources.embedded import EmbeddedBuildkit  # gRPC is for engines that have it

            self._buildkit = await EmbeddedBuildkit.reach(self._settings.socket, self.name, upgrades=upgrades)
            return self._buildkit

    async def _list(self, client: docker.APIClient) -> list[Sighting]:
        rows = await self._blocking(client.images)
        return [sighting for row in rows for sighting in self._sightings(row)]

    def _sightings(self, row: dict[str, Any]) -> list[Sighting]:
        found = []
        for name in row.get("RepoTags") or []:
            try:
                reference = parse_image_name(name)
            except Malformed:
                continue  # `<none>:<none>` of old engines
            found.append(Sighting(self.name, reference.registry, reference.repository, reference.tag, row["Id"]))
        return found or [Sighting(self.name, "docker", UNTAGGED, "", row["Id"])]

    async def resolve(self, sighting: Sighting, platforms: Collection[Platform]) -> list[ImageSource | LostImage]:
        client = await self._connected()
        what = sighting.digest or f"{sighting.repository}:{sighting.tag}".rstrip(":")
        inspected = await self._blocking(client.inspect_image, what)
        if self._blobs and (found := await self._by_blobs(sighting, inspected["Id"], platforms)) is not None:
            return found
        body = await asyncio.to_thread(self._stored_config, inspected["Id"])
        if body is None:
            body = await self._built_config(inspected["Id"])
        if body is None:
            body = _config_body(inspected, await self._blocking(client.history, inspected["Id"]))
        config = parse_config(body)
        if platforms and (config.platform.os, config.platform.architecture) not in {(p.os, p.architecture) for p in platforms}:
            raise SourceError(f"{what} is for {config.platform}", temporary=False, code="no-such-platform")
        if not config.diff_ids and inspected.get("RootFS", {}).get("Layers"):
            raise Rejected("config-mismatch", "the engine lists layers that the config does not")
        image: ImageSource | LostImage = self._image(sighting, inspected["Id"], body, config)
        return [image]

    async def _by_blobs(
        self, sighting: Sighting, image_id: str, platforms: Collection[Platform]
    ) -> list[ImageSource | LostImage] | None:
        """The images behind an id that is a manifest's digest; None where the blobs cannot be had."""
        buildkit = await self._reach_buildkit()
        if buildkit is None:
            return None
        try:
            return await buildkit.images.resolve(msgspec.structs.replace(sighting, digest=image_id), platforms)
        except SourceError as error:
            if error.code in ("not-found", "unreachable"):
                return None
            raise

    def _image(self, sighting: Sighting, image_id: str, body: bytes, config: ImageConfig) -> ImageSource:
        named = Sighting(sighting.source, sighting.registry, sighting.repository, sighting.tag, image_id)
        layers = tuple(LayerSource(diff_id=diff_id) for diff_id in config.diff_ids)
        return ImageSource(named, config.platform, "", sha256(body), body, config, layers)

    def _stored_config(self, image_id: str) -> bytes | None:
        """The config as the engine stores it, when this process may read it and its digest holds."""
        if self._root is None:
            return None
        try:
            body = (self._root / Digest(image_id).hex).read_bytes()
        except (OSError, Malformed):
            return None  # another machine's engine, no permission, or the containerd store: inspect serves
        return body if sha256(body) == image_id else None

    async def _built_config(self, image_id: str) -> bytes | None:
        """The config that a build wrote, from the BuildKit that is followed."""
        if self._buildkit is None:
            return None
        try:
            return await collect(self._buildkit.content.blob(image_id), CONFIG_BYTES)
        except (SourceError, Malformed):
            return None  # pulled or loaded, or its build has left the history: inspect serves

    async def read(self, image: ImageSource, wanted: Collection[int], sink: LayerSink) -> None:
        if image.manifest_digest and (buildkit := await self._reach_buildkit()) is not None:
            await buildkit.images.read(image, wanted, sink)
        elif wanted:
            await sink.archive(self._export(image.sighting.digest))

    async def _export(self, image_id: str) -> AsyncGenerator[bytes, None]:
        client = await self._connected()
        url = f"http://docker/v{client.api_version}/images/{image_id}/get"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self._settings.socket),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self._first_byte_seconds),
                auto_decompress=False,
                read_bufsize=1 << 20,
            )
        try:
            async with self._session.get(url) as response:
                if response.status != 200:
                    raise SourceError(
                        f"{self.name}: the engine answers {response.status} to an export",
                        temporary=response.status != 404,
                        code="not-found" if response.status == 404 else "unreachable",
                    )
                async for chunk in paced(response.content, f"{self.name}: the export", self._idle_seconds, self._clock):
                    yield chunk
        except TimeoutError as error:
            raise SourceError(f"{self.name}: the engine does not begin its export", code="slow") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SourceError(f"{self.name}: the engine does not export: {type(error).__name__}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._buildkit is not None:
            await self._buildkit.close()
        if self._client is not None:
            await _in_daemon_thread(self._client.close)


async def _in_daemon_thread(call: Callable[[], Any]) -> Any:
    """What a blocking call gives. A thread of asyncio's pool would keep the process from ending while an engine hangs."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 raised again where the call was made
            future.set_exception(error)

    threading.Thread(target=run, name="docker call", daemon=True).start()
    return await asyncio.wrap_future(future)


class _Follower:
    """The thread that waits for events and rings for each; it ends with its stream."""

    def __init__(self, stream: Any, loop: asyncio.AbstractEventLoop, stirred: asyncio.Event) -> None:
        self.ended = False
        self._loop = loop
        self._stirred = stirred
        self._stream = stream
        threading.Thread(target=self._follow, name="docker events", daemon=True).start()

    def _follow(self) -> None:
        try:
            for _ in self._stream:
                self._ring()
        except (ValueError, *_FAILURES):
            pass  # the stream's end is what is told, whatever ended it
        finally:
            self.ended = True
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._stirred.set)

    def stop(self) -> None:
        """Ends the stream, and so the thread."""
        # AttributeError: docker-py looks for the socket of a response that has ended meanwhile.
        with contextlib.suppress(AttributeError, *_FAILURES):
            self._stream.close()


def _name(sighting: Sighting) -> tuple[str, str, str]:
    return (sighting.registry, sighting.repository, sighting.tag or sighting.digest)


def _config_body(inspected: dict[str, Any], history: list[dict[str, Any]]) -> bytes:
    """An image config with what `inspect` and `history` tell; canonical, so that the same answer gives the same bytes."""
    layers = inspected.get("RootFS", {}).get("Layers") or []
    fields = {
        "architecture": inspected.get("Architecture", ""),
        "os": inspected.get("Os", ""),
        "variant": inspected.get("Variant", ""),
        "created": inspected.get("Created", ""),
        "config": inspected.get("Config") or {},
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": _history(history, len(layers)),
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _history(rows: list[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """Instructions, oldest first. The engine does not say which made no layer; where that cannot be told, there are none."""
    made = [(str(row.get("CreatedBy", "")), int(row.get("Size") or 0)) for row in reversed(rows)]
    filled = [size > 0 or (text.startswith(_LAYER_WORDS) and "#(nop)" not in text) for text, size in made]
    if sum(filled) != layers:
        filled = [size > 0 for _, size in made]
    if sum(filled) != layers:
        return []
    return [{"created_by": text, "empty_layer": not full} for (text, _), full in zip(made, filled, strict=True)]
