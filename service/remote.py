"""A scan answered by a running daemon, when one is configured (decisions 10): what it watches has been read and judged already.

Only names of registries are asked about, as the image itself says to start: files and engines are this machine's own, and no
daemon judges for other settings. What it does not know, or has not finished, is read here. Its answer covers the platforms
that it watches and is as old as its last look at the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from yarl import URL

from analyzers.finding import Report
from analyzers.oci import Platform, parse_platform
from analyzers.start import Overrides
from service.blobs import collect
from service.errors import SourceError
from service.outbound import HostPolicy, Outbound, is_loopback
from service.scan import SCHEMA, UNDECIDED, Question, Scan, ScannedImage, Surroundings, exit_status, scan, silence, worst
from service.secret import Secret
from service.silencing import Silenced
from service.sources import Build

ANSWER_BYTES = 64 << 20
Answer = TypeVar("Answer")
WAITING = "waiting"
"""Standing of a row that is not analysed yet (fleet.Standing)."""


class Row(msgspec.Struct, frozen=True):
    """What is needed of api.ImageItem."""

    platform: str
    manifest_digest: str
    image_id: str
    standing: str
    outcome: str
    detail: str
    report_url: str
    build: Build | None = None


class _Rows(msgspec.Struct, frozen=True):
    items: tuple[Row, ...]


class _Document(msgspec.Struct, frozen=True):
    """What is needed of api.ImageDocument."""

    report: Report
    compressed_layer_bytes: tuple[int, ...]
    silenced: tuple[Silenced, ...] = ()


async def scan_by_daemon(question: Question, around: Surroundings) -> Scan:
    """The daemon's answer where it has one, else that of this process. Raises as `scan` does."""
    settings = around.settings.scan
    if question.reference.transport != "registry" or question.overrides != Overrides():
        return await scan(question, around)
    try:
        images = await _answer(settings.server, token_of(around), question, around)
    except SourceError as error:
        around.onlooker.note(f"{settings.server} gives no answer ({error}); reading the image here")
        images = []
    if not images:
        return await scan(question, around)
    status = worst([image.exit_status for image in images])
    return Scan(
        schema=SCHEMA, reference=str(question.reference), answered_by=settings.server, exit_status=status, error="",
        images=tuple(images),
    )  # fmt: skip


async def _answer(server: str, token: Secret, question: Question, around: Surroundings) -> list[ScannedImage]:
    client = DaemonClient(server, token)
    try:
        return await _ask(client, question, around)
    finally:
        await client.close()


async def _ask(client: DaemonClient, question: Question, around: Surroundings) -> list[ScannedImage]:
    """Nothing where the daemon does not have every image asked for. Raises SourceError."""
    reference = question.reference
    named = {"registry": reference.registry, "repository": reference.repository, "tag": reference.tag, "limit": "200"}
    rows = [row for row in await client.rows(named) if row.manifest_digest or row.standing == WAITING]
    if reference.digest:
        rows = [row for row in rows if row.manifest_digest == reference.digest]
    rows = [row for row in rows if not question.platforms or among(row.platform, question.platforms)]
    missing = [each for each in question.platforms if not any(among(row.platform, (each,)) for row in rows)]
    if not rows or missing or any(row.standing == WAITING for row in rows):
        return []
    return await scanned_images(client, rows, question, around)


def token_of(around: Surroundings) -> Secret:
    """The token of the daemon that the settings name; empty where they name none. Raises SettingsError."""
    token = around.settings.scan.token
    return token.read(around.env, "scan.token") if token.file or token.env else Secret("")


async def scanned_images(
    client: DaemonClient, rows: Sequence[Row], question: Question, around: Surroundings
) -> list[ScannedImage]:
    """What the daemon knows of these rows. Raises SourceError."""
    return [await _image(client, row, question, around) for row in rows]


def among(text: str, platforms: Sequence[Platform]) -> bool:
    """A platform named without a variant means every variant of it."""
    if not text:
        return False
    found = parse_platform(text)
    return any(
        found == wanted or (not wanted.variant and (found.os, found.architecture) == (wanted.os, wanted.architecture))
        for wanted in platforms
    )


async def _image(client: DaemonClient, row: Row, question: Question, around: Surroundings) -> ScannedImage:
    document = await client.document(row.report_url) if row.report_url else None
    image = ScannedImage(
        platform=row.platform,
        exit_status=UNDECIDED if document is None else exit_status(document.report, question.fail_on),
        outcome=row.outcome,
        detail=row.detail,
        image_id=row.image_id,
        manifest_digest=row.manifest_digest,
        compressed_layer_bytes=() if document is None else document.compressed_layer_bytes,
        report=None if document is None else document.report,
    )
    return silence(image, question, around, () if document is None else document.silenced)


class DaemonClient:
    """Questions that are put to a running daemon. Raises SourceError where a token would go over plain HTTP."""

    def __init__(self, server: str, token: Secret) -> None:
        self._base = URL(server)
        host = self._base.host or ""
        if token and self._base.scheme != "https" and not is_loopback(host):
            raise SourceError(f"{server}: a token is not sent over plain HTTP", temporary=False, code="tls")
        self._outbound = Outbound(HostPolicy((host,), (host,)))
        self._headers = {"Authorization": f"Bearer {token.reveal()}"} if token else {}

    async def rows(self, query: dict[str, str]) -> tuple[Row, ...]:
        """The names of the fleet that fit. Raises SourceError, as `document` does."""
        return (await self.get(f"/api/v1/images?{urlencode(query)}", _Rows)).items

    async def document(self, path: str) -> _Document:
        return await self.get(path, _Document)

    async def get(self, path: str, kind: type[Answer]) -> Answer:
        """What is at a path of it. Raises SourceError."""
        async with self._outbound.request("GET", self._base.join(URL(path, encoded=True)), self._headers) as response:
            if response.status != 200:
                raise SourceError(f"it answers {response.status}", code=f"http-{response.status}")
            body = await collect(response.content.iter_any(), ANSWER_BYTES)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise SourceError(f"it answers something else than a daemon of this version would: {error}") from error

    async def close(self) -> None:
        await self._outbound.close()
