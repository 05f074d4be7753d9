"""Builds in a real BuildKit: that of an engine, by buildx or directly, and served as a standalone one is.

No distribution has a package of buildkitd (sources.md 1.1). What a standalone one does otherwise is how it is dialled, and that
is had here: a socket, plain or with TLS both ways, whose connections lead to an engine's BuildKit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import select
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc.aio

from service.rpc.messages import define
from service.rpc.upgrade import upgraded
from tests.engine import ROOT, Engine

BUILDX = ROOT / "usr/libexec/docker/cli-plugins/docker-buildx"
SOLVE = "/moby.buildkit.v1.Control/Solve"
UPDATE = "/moby.buildkit.v1.Control/UpdateBuildHistory"
PRUNE = "/moby.buildkit.v1.Control/Prune"
MESSAGES = define(
    "tests.buildkit",
    {
        "SolveRequest": {
            "ref": (1, "string"),
            "definition": (2, "Definition"),
            "exporter": (3, "string"),
            "exporter_attrs": (4, "map string string"),
        },
        "Definition": {"def": (1, "repeated bytes")},
        "Op": {"inputs": (1, "repeated Input"), "file": (4, "FileOp"), "platform": (10, "Platform")},
        "Platform": {"architecture": (1, "string"), "os": (2, "string")},
        "Input": {"digest": (1, "string"), "index": (2, "int64")},
        "FileOp": {"actions": (2, "repeated FileAction")},
        "FileAction": {
            "input": (1, "int64"),
            "secondary": (2, "int64"),
            "output": (3, "int64"),
            "mkfile": (5, "MkFile"),
        },
        "MkFile": {"path": (1, "string"), "mode": (2, "int32"), "data": (3, "bytes"), "timestamp": (5, "int64")},
        "UpdateRequest": {"ref": (1, "string"), "pinned": (2, "bool"), "delete": (3, "bool")},
        "PruneRequest": {"filter": (1, "repeated string"), "all": (2, "bool")},
        "Nothing": {},
    },
)


def buildx(engine: Engine, files: Mapping[str, bytes], *options: str, check: bool = True) -> dict[str, Any]:
    """`docker buildx build` of these files, one of them the Dockerfile; what it wrote as metadata."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
            (Path(folder) / name).chmod(0o755)
        metadata = Path(folder) / "metadata.json"
        command = [str(BUILDX), "build", "--progress", "plain", "--network", "none", "--metadata-file", str(metadata)]
        done = subprocess.run(
            [*command, *options, folder], env=engine.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return dict(json.loads(metadata.read_text())) if metadata.exists() else {}


def solve_request(ref: str, name: str, data: bytes) -> Any:
    """A build without a client: one file, `/app`, that the image starts."""
    op = MESSAGES["Op"](platform={"os": "linux", "architecture": "amd64"})
    op.file.actions.add(input=-1, secondary=-1, output=0).mkfile.CopyFrom(
        MESSAGES["MkFile"](path="/app", mode=0o755, data=data, timestamp=-1)
    )
    made = op.SerializeToString(deterministic=True)
    last = MESSAGES["Op"](inputs=[{"digest": "sha256:" + hashlib.sha256(made).hexdigest()}])
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/app"], "Labels": {"name": name}}}
    request = MESSAGES["SolveRequest"](ref=ref, exporter="moby")
    request.definition.MergeFrom(MESSAGES["Definition"](**{"def": [made, last.SerializeToString(deterministic=True)]}))
    request.exporter_attrs.update({"name": name, "containerimage.config": json.dumps(config)})
    return request


async def solve(address: str, requests: Iterable[Any], at_once: int) -> None:
    """All of these builds, so many at a time, however long each waits for its turn in the engine."""
    slots = asyncio.Semaphore(at_once)
    async with grpc.aio.insecure_channel(address.replace("unix://", "unix:")) as channel:
        call = channel.unary_unary(
            SOLVE,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=MESSAGES["Nothing"].FromString,
        )

        async def one(request: Any) -> None:
            async with slots:
                await call(request)

        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(one(request))


class Standalone:
    """A BuildKit at an address of its own. `close` cuts every connection, `open` lets it be dialled again."""

    def __init__(self, engine: Engine, folder: Path, context: ssl.SSLContext | None = None) -> None:
        self.engine = engine
        self._path = str(folder / "b.sock")
        self._context = context
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self.address = ""
        self.open()

    def open(self) -> None:
        if self._context is None:
            Path(self._path).unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self._path)
            self._listener.listen()
            self.address = f"unix://{self._path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            except OSError:
                return  # closed

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            inner = self._context.wrap_socket(client, server_side=True) if self._context else client
            with inner, upgraded(self.engine.socket) as server:
                self._connections |= {inner, server}
                _pump(inner, server)

    def close(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for each in list(self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._connections.clear()


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Both ways by one thread: a socket with TLS is not for two."""
    ends = {one: other, other: one}
    with contextlib.suppress(OSError):
        while True:
            waiting = [each for each in ends if isinstance(each, ssl.SSLSocket) and each.pending()]
            for each in waiting or select.select(list(ends), [], [])[0]:
                each.settimeout(0.05)  # what is readable below TLS need not be a piece above it
                try:
                    piece = each.recv(1 << 16)
                except TimeoutError:
                    continue
                if not piece:
                    return
                ends[each].settimeout(None)
                ends[each].sendall(piece)


@contextlib.contextmanager
def standalone(engine: Engine, folder: Path, context: ssl.SSLContext | None = None) -> Iterator[Standalone]:
    """One for as long as the context lasts."""
    made = Standalone(engine, folder, context)
    try:
        yield made
    finally:
        made.close()
