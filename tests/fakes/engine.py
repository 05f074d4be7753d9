"""A Docker engine on a unix socket that can be made to misbehave. Honest, it lists, inspects and exports images in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

from tests.fakes.server import Answer, FakeServer, Raw, Request, listening
from tests.make.images import Image, docker_archive

API_VERSION = "1.45"


class FakeEngine(FakeServer):
    """Images by tag, besides faults and a list of what was asked."""

    def __init__(self, socket: Path) -> None:
        super().__init__()
        self.socket = str(socket)
        self.images: dict[str, Image] = {}
        self.stirred = asyncio.Event()
        """Set it, and whoever follows events is told of one."""

    def honest(self, request: Request) -> Answer | Raw:
        path = re.sub(r"^/v[0-9.]+", "", urllib.parse.unquote(request.path.partition("?")[0]))
        if path == "/version":
            return _json({"ApiVersion": API_VERSION, "Version": "26.1.5"})
        if path == "/info":
            return _json({"Driver": "overlay2", "DockerRootDir": "/nonexistent", "DriverStatus": []})
        if path == "/events":
            return self._events
        if path == "/images/json":
            return _json([{"Id": image.image_id, "RepoTags": [tag]} for tag, image in self.images.items()])
        if match := re.fullmatch(r"/images/(.+)/(json|history|get)", path):
            return self._image(match[1], match[2])
        return _json({"message": path}, 404)

    def _image(self, name: str, what: str) -> Answer:
        found = {tag: image for tag, image in self.images.items() if name in (tag, image.image_id)}
        if not found:
            return _json({"message": f"No such image: {name}"}, 404)
        image = next(iter(found.values()))
        if what == "get":
            return Answer(200, {"Content-Type": "application/x-tar"}, docker_archive(found))
        if what == "history":
            return _json([])
        config = json.loads(image.config())
        layers = config["rootfs"]["diff_ids"]
        return _json(
            {
                "Id": image.image_id, "Architecture": config["architecture"], "Os": config["os"], "Config": config["config"],
                "RootFS": {"Type": "layers", "Layers": layers},
            }
        )  # fmt: skip

    async def _events(self, request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await writer.drain()
            await self.stirred.wait()
            self.stirred.clear()
            line = json.dumps({"Type": "image", "Action": "tag", "Actor": {"ID": "x"}}).encode() + b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))


def _json(fields: object, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json", "Api-Version": API_VERSION}, json.dumps(fields).encode())


@contextlib.asynccontextmanager
async def engine_at(socket: Path) -> AsyncIterator[FakeEngine]:
    """A fake engine for as long as the context lasts."""
    engine = FakeEngine(socket)
    async with listening(engine, path=socket):
        yield engine
