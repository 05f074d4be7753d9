"""The build history of a BuildKit: what was built, into what, and from where, as records at the border to protobuf.

A record comes twice or more: replayed, at the build's end, and once more when its trace is stored. It is named by its ref,
so taking one again changes nothing (sources.md 1.4).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from service.rpc.dialling import ANSWER_SECONDS, Channel
from service.rpc.messages import BUILDKIT
from service.sources import Build

LISTEN = "/moby.buildkit.v1.Control/ListenBuildHistory"
RECORDS = 10_000
"""Most records kept in mind; a history of BuildKit's own keeps 50, or two days."""
NAMES = 100
"""Most names of one result."""
_COMPLETE, _DELETED = 1, 2
_TEXT_CHARACTERS = 300
_USER_OF_URL = re.compile(r"(?<=//)[^/@]*@")
_REMOTE = re.compile(r"(?:https?|git|ssh)://|git@")


class Output(msgspec.Struct, frozen=True):
    """What one exporter made."""

    digest: str
    media_type: str
    names: tuple[str, ...] = ()
    """As the exporter was given them; empty where there are none, or where the server does not record exporters."""


class BuildRecord(msgspec.Struct, frozen=True):
    """A finished build; one that failed, or exported only files, has no outputs."""

    build: Build
    outputs: tuple[Output, ...] = ()
    pinned: bool = False
    """Kept whatever its age."""


class Deleted(msgspec.Struct, frozen=True):
    """A build has left the history."""

    ref: str


class BuildHistory:
    """The history of one server. Raises SourceError: `unsupported` where BuildKit is older than 0.11."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def stored(self) -> list[BuildRecord]:
        """Every record there is now, the newest RECORDS of them, oldest first."""
        request = BUILDKIT["HistoryRequest"](early_exit=True)
        found = []
        events = self._channel.stream(LISTEN, request, BUILDKIT["HistoryEvent"], idle_seconds=ANSWER_SECONDS)
        try:
            async for event in events:
                if event.type == _COMPLETE:
                    found.append(_record(event.record))
        finally:
            await events.aclose()
        return sorted(found, key=lambda record: record.build.completed_at)[-RECORDS:]

    async def follow(self) -> AsyncGenerator[BuildRecord | Deleted, None]:
        """Builds as they end or are deleted, those stored before first; ends when the server says goodbye."""
        events = self._channel.stream(LISTEN, BUILDKIT["HistoryRequest"](), BUILDKIT["HistoryEvent"])
        try:
            async for event in events:
                if event.type == _COMPLETE:
                    yield _record(event.record)
                elif event.type == _DELETED:
                    yield Deleted(event.record.ref)
        finally:
            await events.aclose()


def _record(message: Any) -> BuildRecord:
    at = message.completed_at.seconds + message.completed_at.nanos / 1e9
    build = Build(_text(message.ref), _text(message.frontend), _source(message.frontend_attrs), at)
    return BuildRecord(build, () if message.error.code else _outputs(message), message.pinned)


def _outputs(message: Any) -> tuple[Output, ...]:
    """Results by the number of their exporter; older servers have one result for all (sources.md 1.4)."""
    results = dict(message.result.results) or ({0: message.result.first} if message.result.first.digest else {})
    found = []
    for number, descriptor in sorted(results.items()):
        if descriptor.digest:
            attrs = message.exporters[number].attrs if number < len(message.exporters) else {}
            names = [name.strip() for name in attrs.get("name", "").split(",") if name.strip()]
            if attrs.get("push-by-digest") == "true":
                names = [f"{name.partition('@')[0]}@{descriptor.digest}" for name in names]
            found.append(Output(descriptor.digest, descriptor.media_type, tuple(names[:NAMES])))
    return tuple(found)


def _source(attrs: Any) -> str:
    """The repository that was built, as far as the client recorded it; without the user and the query of a URL."""
    source = attrs.get("vcs:source", "")
    if source:
        revision = attrs.get("vcs:revision", "")
        source += f"#{revision}" if revision else ""
    elif _REMOTE.match(attrs.get("context", "")):
        source = attrs["context"]
    return _text(_USER_OF_URL.sub("", re.sub(r"\?[^#]*", "", source)))


def _text(text: str) -> str:
    """Bounded, on one line."""
    return "".join(character if character.isprintable() else "?" for character in text[:_TEXT_CHARACTERS])
