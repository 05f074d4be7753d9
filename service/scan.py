"""One reference asked for at the command line: read, judged, and what came of each platform's image.

Puts pool, memory and source together for one question and takes them apart again. Nothing is told to people here: the
result is data, with one exit status for every image (decisions 15).
"""

from __future__ import annotations

import contextlib
import platform as machine
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from analyzers.errors import EnoentError, Malformed, Rejected
from analyzers.finding import Finding, Report, Severity, State
from analyzers.linkage import ObjectListing
from analyzers.oci import Platform, normalise
from analyzers.start import Overrides
from service.cache import open_cache
from service.errors import SourceError, StoreError, WorkerDied
from service.memory import Memory
from service.pipeline import Examiner, Progress
from service.registry.reference import Reference, parse_image_name
from service.remembered import Remembering
from service.settings import Settings
from service.silencing import Silenced, Silences, day_of
from service.silencing import describe as describe_silence
from service.sources import ImageSource, LostImage, Source
from service.sources.build import source_for
from service.sources.settings import DockerSettings
from service.worker import ArchiveOutcome, Pool

SCHEMA = "1"
STARTS, FAILS, UNDECIDED, USAGE = 0, 1, 2, 64
_SEVERITIES = tuple(Severity)
_FORESEEN = (SourceError, Rejected, WorkerDied, StoreError)
"""What may end the examination of one image; anything else is a defect of ours."""


class Onlooker(Protocol):
    """Who waits for the answer."""

    def begin(self, image: ImageSource) -> Progress | None:
        """An image is about to be read; gives what is to be told of its layers."""

    def note(self, text: str) -> None:
        """Something that changes no answer, but that a person may want to mend."""


class Surroundings(NamedTuple):
    """What a question is answered in."""

    settings: Settings
    env: Mapping[str, str]
    onlooker: Onlooker


class ScannedImage(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the image of one platform."""

    platform: str
    exit_status: int
    """0 starts, 1 will not start or has a finding that counts, 2 could not be decided."""
    outcome: str
    """`done`, or a stable word for why there is no report, such as `truncated` or `unreachable`."""
    detail: str
    """One sentence for a person; empty when done."""
    image_id: str
    manifest_digest: str
    """Empty where there is no manifest."""
    compressed_layer_bytes: tuple[int, ...]
    """Transported size of each layer, lowest first; 0 where the source does not tell."""
    report: Report | None
    silenced: tuple[Silenced, ...] = ()
    """Findings that the configuration silences: they are in the report, and do not count for the exit status."""


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `enoent scan --format json`."""

    schema: str
    """Version of this document; new fields do not change it."""
    reference: str
    """The reference as it was understood, with registry and tag."""
    answered_by: str
    """Address of the daemon that had read and judged it before; empty when this process did."""
    exit_status: int
    """That of the process: 1 beats 2 beats 0."""
    error: str
    """Why there is no image at all, as printed to standard error; else empty."""
    images: tuple[ScannedImage, ...]


class Question(NamedTuple):
    """What is asked of an image."""

    reference: Reference
    platforms: tuple[Platform, ...] = ()
    overrides: Overrides = Overrides()
    fail_on: Severity = Severity.FATAL
    cached: bool = True
    """Whether facts of layers are kept in, and taken from, the user's cache."""


class Listing(NamedTuple):
    """The objects of one image, as `enoent ldd` shows them."""

    platform: str
    objects: tuple[ObjectListing, ...]


def exit_status(report: Report, fail_on: Severity = Severity.FATAL, silenced: Collection[Silenced] = ()) -> int:
    """0, 1 or 2 for one report (decisions 15). What was not seen is never clean; what is silenced does not count."""
    counting = _SEVERITIES[: _SEVERITIES.index(fail_on) + 1]
    hushed = hushes_failure(report, silenced)
    if report.verdict.state is State.FAILS and not hushed:
        return FAILS
    if any(finding.severity in counting for finding in loud_findings(report, silenced)):
        return FAILS
    return STARTS if (report.verdict.state is State.STARTS or hushed) and report.complete else UNDECIDED


def loud_findings(report: Report, silenced: Collection[Silenced]) -> list[Finding]:
    """The findings that nobody silenced."""
    away = {each.finding for each in silenced}
    return [finding for place, finding in enumerate(report.findings) if place not in away]


def hushes_failure(report: Report, silenced: Collection[Silenced]) -> bool:
    """Whether an image will not start for reasons that are all silenced."""
    fatal = [place for place, finding in enumerate(report.findings) if finding.severity is Severity.FATAL]
    away = {each.finding for each in silenced}
    return report.verdict.state is State.FAILS and bool(fatal) and away.issuperset(fatal)


def worst(statuses: Collection[int]) -> int:
    """Of several images: 1 beats 2 beats 0; nothing at all is undecided."""
    return FAILS if FAILS in statuses else max(statuses, default=UNDECIDED)


async def scan(question: Question, around: Surroundings) -> Scan:
    """Every image behind the reference. Raises EnoentError where nothing at all can be said; see `failed_scan`."""
    images = []
    async with _looking(question, around) as (examiner, source, sources):
        for image in sources:
            if isinstance(image, LostImage):
                images.append(_lost(image))
            else:
                scanned = await _examine(examiner, source, image, question, around.onlooker.begin(image))
                images.append(silence(scanned, question, around))
    status = worst([image.exit_status for image in images])
    return Scan(
        schema=SCHEMA, reference=str(question.reference), answered_by="", exit_status=status, error="", images=tuple(images)
    )


def failed_scan(reference: Reference, error: EnoentError) -> Scan:
    """The answer where the reference as a whole could not be read."""
    return Scan(schema=SCHEMA, reference=str(reference), answered_by="", exit_status=UNDECIDED, error=describe(error), images=())


def _lost(image: LostImage) -> ScannedImage:
    return ScannedImage(
        platform=str(image.platform), exit_status=UNDECIDED, outcome=code_of(image.error), detail=describe(image.error),
        image_id="", manifest_digest="", compressed_layer_bytes=(), report=None,
    )  # fmt: skip


async def _examine(
    examiner: Examiner, source: Source, image: ImageSource, question: Question, progress: Progress | None
) -> ScannedImage:
    try:
        examined = await examiner.examine_image(source, image, question.overrides, progress)
        outcome, detail, body = examined.outcome, examined.detail, examined.report
    except _FORESEEN as error:
        outcome, detail, body = code_of(error), describe(error), b""
    report = msgspec.json.decode(body, type=Report) if body else None
    return ScannedImage(
        platform=str(image.platform),
        exit_status=UNDECIDED if report is None else exit_status(report, question.fail_on),
        outcome=outcome,
        detail=detail,
        image_id=image.image_id,
        manifest_digest=image.manifest_digest,
        compressed_layer_bytes=tuple(layer.size_bytes for layer in image.layers),
        report=report,
    )


def silence(image: ScannedImage, question: Question, around: Surroundings, also: Sequence[Silenced] = ()) -> ScannedImage:
    """The same with what the settings silence, and with what a daemon said to be silenced already (`also`)."""
    if image.report is None or not (around.settings.silence or also):
        return image
    name = _silenced_as(question.reference)
    silences = Silences(around.settings.silence, day_of(time.time()))
    for lapsed in silences.missed(*name, image.report):
        around.onlooker.note(describe_silence(lapsed))
    merged = {each.finding: each for each in (*also, *silences.of(*name, image.report))}
    silenced = tuple(merged[place] for place in sorted(merged))
    status = exit_status(image.report, question.fail_on, silenced)
    return msgspec.structs.replace(image, silenced=silenced, exit_status=status)


def _silenced_as(reference: Reference) -> tuple[str, str]:
    """Registry and repository that silences are compared with; files go by `transport:path`."""
    if reference.transport == "registry":
        return reference.registry, reference.repository
    with contextlib.suppress(Malformed):
        if reference.transport == "docker":
            named = parse_image_name(reference.place)
            return named.registry, named.repository
    return "", f"{reference.transport}:{reference.place}"


async def list_objects(
    question: Question, around: Surroundings, paths: Sequence[bytes], *, all_elf: bool = False
) -> list[Listing]:
    """What the objects of each image would load; of this machine's platform where none is named and that is among them.

    Raises EnoentError.
    """
    listings = []
    async with _looking(question, around) as (examiner, source, images):
        own = [image for image in images if _same_machine(image.platform)]
        for image in images if question.platforms or not own else own:
            if isinstance(image, LostImage):
                raise image.error
            lines = await examiner.list_linkage(
                source, image, paths, all_elf=all_elf, overrides=question.overrides, progress=around.onlooker.begin(image)
            )
            objects = tuple(msgspec.json.decode(line, type=ObjectListing) for line in lines.splitlines())
            listings.append(Listing(str(image.platform), objects))
    return listings


def objects_status(objects: Sequence[ObjectListing]) -> int:
    """0 when every object would be loaded, 1 when one would not, 2 when one could not be decided, or there is none."""
    by_state = {State.STARTS: STARTS, State.FAILS: FAILS, State.UNKNOWN: UNDECIDED}
    return worst([by_state[each.verdict] for each in objects])


def _same_machine(platform: Platform) -> bool:
    own = normalise("linux", machine.machine())
    return (platform.os, platform.architecture) == (own.os, own.architecture)


def code_of(error: EnoentError) -> str:
    """The stable word of an error."""
    if isinstance(error, SourceError | Rejected):
        return error.code
    return "worker-died" if isinstance(error, WorkerDied) else "store"


def describe(error: EnoentError) -> str:
    """One sentence for a person."""
    if isinstance(error, WorkerDied):
        return f"the worker process that read it was ended ({error.reason}); the limits stand under [workers]"
    return str(error)


@contextlib.asynccontextmanager
async def _looking(
    question: Question, around: Surroundings
) -> AsyncIterator[tuple[Examiner, Source, Sequence[ImageSource | LostImage]]]:
    """An examiner, the source that the reference names, and the images behind it; all closed in the end."""
    settings = around.settings
    docker = docker_engines(settings.docker, around.env)
    with _remembering(question, around) as memory:
        async with Pool(settings.workers, settings.limits) as pool:

            async def index_archive(chunks: AsyncIterator[bytes]) -> ArchiveOutcome:
                return await pool.archive(chunks, index_only=True)

            source, sighting = source_for(question.reference, settings.registries, docker, index_archive=index_archive)
            try:
                images = await source.resolve(sighting, question.platforms)
                yield Examiner(memory, pool, settings.profile), source, images
            finally:
                await source.close()


@contextlib.contextmanager
def _remembering(question: Question, around: Surroundings) -> Iterator[Remembering]:
    cache = open_cache(around.env) if question.cached else None
    if cache is None:
        yield Memory()
        return
    try:
        yield cache
    finally:
        cache.close()
        if cache.trouble:
            around.onlooker.note(f"going on without the cache: {cache.trouble}")


def docker_engines(configured: Sequence[DockerSettings], env: Mapping[str, str]) -> Sequence[DockerSettings]:
    """The engines to ask, the first one first: those of the settings, else that of DOCKER_HOST. Raises SourceError."""
    host = env.get("DOCKER_HOST", "")
    if not host or tuple(configured) != Settings().docker:
        return configured
    scheme, _, socket = host.partition("://")
    if scheme != "unix":
        raise SourceError(f"DOCKER_HOST is {host}; only unix:// sockets are asked", temporary=False, code="denied")
    return (DockerSettings(socket=socket),)
