"""Dialling: a channel to a unix socket or a TCP address with its certificates, and the meaning of what fails on it.

Addresses come from the configuration alone, never from an image or an answer, so they need no check of where they lie.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from service.errors import SettingsError, SourceError
from service.outbound import is_loopback

# gRPC's own words go to standard error, where the log is; what matters of them is in the errors it gives.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

ANSWER_SECONDS = 20.0
"""How long an answer may take that is not a stream."""
MESSAGE_BYTES = 4 << 20
"""Largest message taken: content comes in pieces of 1 MiB, a record of a build has some kilobytes."""
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # Who calls has pauses of its own; between two attempts a channel only repeats what the last one met.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Builders and node daemons are not reached through the proxies that are for the web.
    ("grpc.enable_http_proxy", 0),
)
_CODES = {
    grpc.StatusCode.NOT_FOUND: "not-found",
    grpc.StatusCode.DEADLINE_EXCEEDED: "slow",
    grpc.StatusCode.UNAUTHENTICATED: "unauthorized",
    grpc.StatusCode.PERMISSION_DENIED: "denied",
    grpc.StatusCode.OUT_OF_RANGE: "truncated",
    grpc.StatusCode.UNIMPLEMENTED: "unsupported",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "manifest-too-large",
}
Metadata = Sequence[tuple[str, str]]


class Certificates:
    """What a TCP address is dialled with: files in PEM. Nothing but `ca` and the server is not told who we are."""

    def __init__(self, ca: str = "", cert: str = "", key: str = "", server_name: str = "") -> None:
        self._ca, self._cert, self._key = ca, cert, key
        self.server_name = server_name

    def __bool__(self) -> bool:
        return bool(self._ca or self._cert or self._key)

    def read(self) -> Any:
        """Credentials of a channel. Raises SettingsError naming the file."""
        ca, cert, key = (self._file(path) for path in (self._ca, self._cert, self._key))
        return grpc.ssl_channel_credentials(ca, key, cert)

    @staticmethod
    def _file(path: str) -> bytes | None:
        if not path:
            return None
        try:
            return Path(path).expanduser().read_bytes()
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from error


class Channel:
    """One connection, made when it is first needed and again when it was lost. `who` is what errors call the other side."""

    def __init__(self, target: str, who: str, credentials: Any = None, server_name: str = "") -> None:
        self.who = who
        self.secure = credentials is not None
        """Whether it speaks TLS."""
        self._target = target
        self._closed = False
        options = [*_OPTIONS, *([("grpc.ssl_target_name_override", server_name)] if server_name else [])]
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, [*options, ("grpc.default_authority", "localhost")])
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options)

    async def ask(self, path: str, request: Any, answer: Any, metadata: Metadata = ()) -> Any:
        """One answer of the class `answer`. Raises SourceError."""
        call = self._channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
        try:
            return await call(request, timeout=ANSWER_SECONDS, metadata=tuple(metadata))
        except grpc.RpcError as error:
            raise self.failure(error) from error
        except asyncio.CancelledError:
            self._check_open()
            raise

    async def stream(
        self, path: str, request: Any, answer: Any, metadata: Metadata = (), idle_seconds: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """Answers as they come, until the other side ends them. Raises SourceError; `slow` after so long without one."""
        method = self._channel.unary_stream(path, type(request).SerializeToString, answer.FromString)
        call = method(request, metadata=tuple(metadata))
        try:
            while True:
                async with asyncio.timeout(idle_seconds):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                yield message
        except TimeoutError as error:
            raise SourceError(f"{self.who}: no answer in {idle_seconds:g} seconds", code="slow") from error
        except grpc.RpcError as error:
            raise self.failure(error) from error
        except asyncio.CancelledError:
            self._check_open()
            raise
        finally:
            call.cancel()

    def _check_open(self) -> None:
        """gRPC cancels whoever waits on a channel that is closed. Raises SourceError unless somebody else wanted it so."""
        task = asyncio.current_task()
        if self._closed and not (task and task.cancelling()):
            raise SourceError(f"{self.who}: the source was closed")

    def failure(self, error: Any) -> SourceError:
        """What the other side, or the way to it, said."""
        status, said = error.code(), str(error.details() or "")
        code = _CODES.get(status, "unreachable")
        if status is grpc.StatusCode.UNAVAILABLE and "handshake" in said.lower():
            code = "tls"
        if status is grpc.StatusCode.UNAVAILABLE and "last error: " in said:
            # All the stages of a connection stand there; the last says what was met.
            said = f"nobody answers at {self._target}: {said.rpartition(': ')[2]}"
        said = said[:300]
        final = code in ("not-found", "unsupported", "manifest-too-large")
        return SourceError(f"{self.who}: {said or status.name.lower()}", temporary=not final, code=code)

    async def close(self) -> None:
        """Ends what is under way on it with a SourceError."""
        self._closed = True
        await self._channel.close()


def dial(address: str, who: str, certificates: Certificates | None = None, *, insecure: bool = False) -> Channel:
    """A channel to `unix:///path` or `tcp://host:port`; plain TCP only to loopback or when `insecure`. Raises SettingsError."""
    scheme, _, place = address.partition("://")
    if scheme == "unix":
        return Channel(f"unix:{place}", who)
    certificates = certificates or Certificates()
    host = place.rpartition(":")[0].strip("[]")
    if not certificates and (insecure or is_loopback(host)):
        return Channel(place, who)
    return Channel(place, who, certificates.read(), certificates.server_name)
