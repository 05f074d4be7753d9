"""A gate in a pipeline: the verdict of what was just built or pushed, waited for where a daemon watches, else made here.

An image is gone by by its digest: a tag may still show the verdict of what it named before. What is not known in time is not
decided, and never passes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from analyzers.oci import Digest
from service.errors import SettingsError, SourceError
from service.ledger import is_retried
from service.registry.reference import Reference, parse_image_name, parse_reference
from service.remote import WAITING, DaemonClient, Row, among, scanned_images, token_of
from service.scan import SCHEMA, UNDECIDED, Question, Scan, ScannedImage, Surroundings, scan, worst
from service.sources.build import registry_source
from service.sources.settings import RegistrySettings

METADATA_BYTES = 8 << 20
LOOK_FIRST_SECONDS = 0.5
LOOK_LONGEST_SECONDS = 3.0
_ELSEWHERE = frozenset({"denied", "not-found", "unauthorized", "unreachable", "no-such-platform"})
"""Failures after which another place may have the image."""


class Wanted(NamedTuple):
    """One result that has to start."""

    shown: str
    """What people are told."""
    references: tuple[Reference, ...]
    """Places where it can be read, in the order in which they are tried."""
    digests: tuple[str, ...] = ()
    """What it may be known by: of its index or manifest, and the image ID."""
    build: str = ""
    """Ref of the build; empty where it is not known."""


class Gate(NamedTuple):
    """What is asked, and how long an answer may take. `question.reference` counts for nothing."""

    wanted: tuple[Wanted, ...]
    question: Question
    timeout_seconds: float


def wanted_of(text: str) -> Wanted:
    """A reference, or a bare digest that only a daemon knows. Raises Malformed."""
    if text.startswith(("sha256:", "sha512:")):
        return Wanted(text, (), (Digest(text),))
    reference = parse_reference(text)
    return Wanted(str(reference), (reference,), (reference.digest,) if reference.digest else ())


def read_metadata(path: Path) -> tuple[Wanted, ...]:
    """The results that `--metadata-file` of buildx tells of: one of a build, one a target of a bake. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            body = file.read(METADATA_BYTES + 1)
        document = msgspec.json.decode(body[:METADATA_BYTES], type=dict[str, Any])
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: not the metadata of a build: {error}") from error
    targets = [document, *(each for each in document.values() if isinstance(each, dict))]
    found = tuple(_target(each) for each in targets if isinstance(each.get("containerimage.digest"), str))
    if found:
        return found
    build = document.get("buildx.build.ref")
    if not isinstance(build, str) or not build:
        raise SettingsError(f"{path}: no image was built: it names neither containerimage.digest nor buildx.build.ref")
    return (Wanted(build, (), (), _ref(build)),)


def _target(fields: Mapping[str, Any]) -> Wanted:
    """Raises Malformed."""
    digest = Digest(fields["containerimage.digest"])
    config = fields.get("containerimage.config.digest")
    digests = (digest, Digest(config)) if isinstance(config, str) else (digest,)
    names = [name.strip() for name in str(fields.get("image.name") or "").split(",") if name.strip()]
    local = [Reference("docker", place=each) for each in dict.fromkeys(digests)]
    pushed = [msgspec.structs.replace(parse_image_name(name), digest=digest) for name in names]
    shown = names[0] if names else digest
    return Wanted(shown, (*local, *pushed), tuple(dict.fromkeys(digests)), _ref(str(fields.get("buildx.build.ref") or "")))


def _ref(build: str) -> str:
    """How its builder calls a build; buildx puts the names of builder and node before it."""
    return build.rpartition("/")[2]


async def gate(asked: Gate, around: Surroundings) -> Scan:
    """The verdicts of all that is wanted, as one answer. Raises EnoentError where nothing at all can be said."""
    server = around.settings.scan.server
    if server:
        images = await _wait(asked, around)
    else:
        images = []
        for each in asked.wanted:
            images += await _here(each, asked.question, around)
    status = worst([image.exit_status for image in images])
    shown = ", ".join(each.shown for each in asked.wanted)
    return Scan(schema=SCHEMA, reference=shown, answered_by=server, exit_status=status, error="", images=tuple(images))


def failed_gate(asked: Sequence[Wanted], error: str) -> Scan:
    """The answer where there is none."""
    shown = ", ".join(each.shown for each in asked)
    return Scan(schema=SCHEMA, reference=shown, answered_by="", exit_status=UNDECIDED, error=error, images=())


# Without a daemon


async def _here(wanted: Wanted, question: Question, around: Surroundings) -> list[ScannedImage]:
    """Read from the first place that has it."""
    failure: SourceError | None = None
    for reference in wanted.references:
        try:
            return list((await scan(question._replace(reference=reference), around)).images)
        except SourceError as error:
            if error.code not in _ELSEWHERE:
                raise
            failure = error
    raise failure or SourceError(
        f"nothing says where {wanted.shown} is; name a repository, or a daemon (--server)", temporary=False
    )


# By a daemon


async def _wait(asked: Gate, around: Surroundings) -> list[ScannedImage]:
    """Until the daemon has a verdict of everything, or time is up."""
    client = DaemonClient(around.settings.scan.server, token_of(around))
    images = []
    until = time.monotonic() + asked.timeout_seconds
    try:
        for each in asked.wanted:
            known = each if each.digests or each.build else await _now_named(each, around)
            images += await _verdict(known, asked, client, around, until)
    finally:
        await client.close()
    return images


async def _verdict(wanted: Wanted, asked: Gate, client: DaemonClient, around: Surroundings, until: float) -> list[ScannedImage]:
    """Raises SourceError when the daemon does not know the image in time."""
    pause = LOOK_FIRST_SECONDS
    while True:
        rows, trouble = await _look(wanted, client)
        if rows and all(map(_is_settled, rows)):
            break
        left = until - time.monotonic()
        if left <= 0 and not rows:
            said = trouble or "it has not seen this image; does it watch where it was built, or where it was pushed?"
            waited = f"no verdict of {around.settings.scan.server} in {asked.timeout_seconds:g} seconds"
            raise SourceError(f"{waited}: {said}", code="slow")
        if left <= 0:
            break
        await asyncio.sleep(min(pause, left))
        pause = min(1.5 * pause, LOOK_LONGEST_SECONDS)
    for build in {row.build for row in rows if row.build is not None}:
        made = f"build {build.ref}" + (f" by {build.frontend}" if build.frontend else "")
        around.onlooker.note(made + (f" from {build.source}" if build.source else ""))
    platforms = asked.question.platforms
    chosen = [row for row in rows if not platforms or among(row.platform, platforms)]
    missing = [str(each) for each in platforms if not any(among(row.platform, (each,)) for row in chosen)]
    if missing:
        raise SourceError(f"{wanted.shown} has no image for {', '.join(missing)}", temporary=False, code="no-such-platform")
    images = await scanned_images(client, chosen, asked.question, around)
    late = f"the daemon had no verdict in {asked.timeout_seconds:g} seconds"
    return [image if image.outcome != "queued" else msgspec.structs.replace(image, detail=late) for image in images]


async def _look(wanted: Wanted, client: DaemonClient) -> tuple[list[Row], str]:
    """What the daemon shows of it now, and why it shows nothing: one that is restarting is asked again. Raises SourceError."""
    rows: dict[tuple[str, str], Row] = {}
    queries = [{"digest": digest} for digest in wanted.digests] or [{"build": wanted.build}]
    try:
        for query in queries:
            for row in await client.rows(query | {"limit": "200", "sort": "name"}):
                # Several names and sources may show one image; a settled row of it is as good as any other.
                key = (row.platform, row.image_id)
                if key not in rows or not _is_settled(rows[key]):
                    rows[key] = row
    except SourceError as error:
        if error.code in ("http-400", "http-401", "http-403", "tls"):
            raise
        return [], str(error)
    return _without_placeholders(list(rows.values())), ""


def _without_placeholders(rows: list[Row]) -> list[Row]:
    """Names that are not examined yet say nothing of their platforms; where another name has, they are left out."""
    return [row for row in rows if row.platform] or rows


def _is_settled(row: Row) -> bool:
    """Whether no later look of the daemon's own will say more."""
    return row.standing != WAITING and not is_retried(row.outcome)


async def _now_named(wanted: Wanted, around: Surroundings) -> Wanted:
    """What a tag names at this moment, by its registry: the daemon may still know what it named before."""
    (reference,) = wanted.references
    if reference.transport != "registry":
        raise SettingsError(f"{wanted.shown}: a daemon is asked by digest; give --metadata-file, or the image's digest")
    known = [each for each in around.settings.registries if each.host == reference.registry]
    source = registry_source(known[0] if known else RegistrySettings(host=reference.registry), 2)
    try:
        digest = await source.client.head(reference.repository, reference.tag)
    finally:
        await source.close()
    if digest is None:
        raise SourceError(f"{wanted.shown} is not there", temporary=False, code="not-found")
    return wanted._replace(digests=(digest,))
