"""An image is examined: resolve, read what is not known, judge by stored facts, remember the report.

Knows the order of things and the two versions that key them; refuses to know where bytes come from, how they are parsed
or where results are kept. Nothing flows back: every arrow of the picture is a return value. Reading is at most once a
layer: one flight a digest, whatever number of images waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

import msgspec

from analyzers.errors import Rejected
from analyzers.judges import RULES_VERSION
from analyzers.oci import Platform
from analyzers.profile import HostProfile
from analyzers.readers import FACTS_VERSION
from analyzers.start import Overrides
from service.blobs import end
from service.errors import SourceError
from service.remembered import Refusal, Remembering, StoredLayer
from service.sources import ImageSource, LayerSource, LostImage, Sighting, Source
from service.worker import LayerOutcome, MemberOutcome, Pool, Sections

TURNS = 10
"""How often an image may find that a layer it waited for was not read after all."""


class Progress(Protocol):
    """Told of each layer: bytes of `total` (0: unknown) so far; `state` is `known`, `reading` or `done`."""

    def __call__(self, index: int, digest: str, done: int, total: int, state: str) -> None: ...


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one image of one platform."""

    image: ImageSource
    outcome: str
    """`done`, or the code under which the image could not be analysed."""
    detail: str = ""
    report: bytes = b""
    """The Report as JSON; empty unless done."""
    report_key: str = ""
    layers: tuple[str, ...] = ()
    """Keys of the layers' facts, lowest first."""
    layers_read: int = 0
    """How many of them had to be read for this examination."""
    bytes_read: int = 0


class Examiner:
    """Examines images; what lives over time is only which layers are being read at the moment."""

    def __init__(self, memory: Remembering, pool: Pool, profile: HostProfile | None = None) -> None:
        self.memory = memory
        self.pool = pool
        self.profile = profile or HostProfile()
        self._flights: dict[str, asyncio.Event] = {}
        self.cache_hits = 0
        """Layers that were known already, counted an image each."""
        self.shared_reads = 0
        """Layers that were being read for another image already, counted an image each."""

    async def examine(
        self,
        source: Source,
        sighting: Sighting,
        platforms: Collection[Platform] = (),
        overrides: Overrides | None = None,
        progress: Progress | None = None,
    ) -> list[Examined]:
        """The images behind a sighting, each examined. Raises SourceError, NotAnImage, Rejected (the name as a whole),
        WorkerDied and StoreError; what is wrong with the bytes of one image is its outcome.
        """
        examined = []
        for image in await source.resolve(sighting, platforms):
            if isinstance(image, LostImage):
                raise image.error
            examined.append(await self.examine_image(source, image, overrides, progress))
        return examined

    async def examine_image(
        self, source: Source, image: ImageSource, overrides: Overrides | None = None, progress: Progress | None = None
    ) -> Examined:
        """One image of one platform, read as far as it is not known, and judged."""
        visit = Visit(image, progress)
        try:
            layers = await self._know_layers(source, visit)
            key, report = await self._judged(image, layers, overrides)
        except Rejected as refusal:
            return Examined(image=image, outcome=refusal.code, detail=refusal.detail, bytes_read=visit.bytes_read)
        finally:
            self.memory.unpin(visit.pinned)
        keys = tuple(layer.key for layer in layers)
        return Examined(
            image=image, outcome="done", report=report, report_key=key, layers=keys,
            layers_read=visit.layers_read, bytes_read=visit.bytes_read,
        )  # fmt: skip

    async def judge_again(self, image: ImageSource) -> Examined | None:
        """By the facts at hand and without any network; None when some are no longer there."""
        visit = Visit(image, None)
        try:
            layers = [layer for at in range(len(image.layers)) if (layer := await self._known(visit, at)) is not None]
            if len(layers) != len(image.layers):
                return None
            key, report = await self._judged(image, layers, None)
        except Rejected as refusal:
            return Examined(image=image, outcome=refusal.code, detail=refusal.detail)
        except FactsLost:
            return None
        finally:
            self.memory.unpin(visit.pinned)
        return Examined(
            image=image, outcome="done", report=report, report_key=key, layers=tuple(layer.key for layer in layers)
        )  # fmt: skip

    async def list_linkage(
        self,
        source: Source,
        image: ImageSource,
        paths: Sequence[bytes] = (),
        *,
        all_elf: bool = False,
        overrides: Overrides | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """What each ELF object of an image would load, one JSON line each. Raises as `examine` and Rejected."""
        visit = Visit(image, progress)
        try:
            layers = await self._know_layers(source, visit)
            return await self.pool.ldd(
                image.image_id, image.config, [layer.key for layer in layers], self._sections, self.profile, overrides,
                paths=paths, all_elf=all_elf,
            )  # fmt: skip
        finally:
            self.memory.unpin(visit.pinned)

    # Layers

    async def _know_layers(self, source: Source, visit: Visit) -> list[StoredLayer]:
        """Facts of every layer: known, or read now, or read by another image while we wait."""
        for _ in range(TURNS):
            known = [await self._known(visit, index) for index in range(len(visit.image.layers))]
            layers = [layer for layer in known if layer is not None]
            if len(layers) == len(known):
                await self.memory.touch({layer.key for layer in layers})
                return layers
            mine, others = self._claim(visit, [index for index, layer in enumerate(known) if layer is None])
            if mine:
                await self._fly(source, visit, mine)
            for flight in others:
                await flight.wait()
        raise SourceError(f"{source.name} did not give every layer of {visit.image.image_id}", code="layers-missing")

    async def _known(self, visit: Visit, index: int) -> StoredLayer | None:
        """The facts of a layer if a read may be skipped: by a digest pair computed by us, or, where the source names
        layers by diff ID alone, by that. Raises Rejected for what was refused before.
        """
        if index in visit.known:
            return visit.known[index]
        layer = visit.image.layers[index]
        if layer.foreign:
            raise Rejected("foreign-layer", f"layer {index} is kept elsewhere and is never fetched")
        diff_id = await self.memory.diff_id_of(layer.digest) if layer.digest else layer.diff_id
        found = await self.memory.find_layer(diff_id, FACTS_VERSION) if diff_id else None
        if found is None and diff_id and not layer.digest:
            found = await self.memory.find_layer(diff_id, local_version(visit.image.sighting.source))
        if found is not None:
            if visit.pin(self.memory, found.key) and index not in visit.read:
                if index in visit.shared:
                    self.shared_reads += 1
                else:
                    self.cache_hits += 1
                visit.tell(index, layer.size_bytes, "known")
            visit.known[index] = found
            return found
        if layer.digest and (refused := await self.memory.refusal(layer.digest, FACTS_VERSION)):
            raise Rejected(refused.code, refused.detail)
        return None

    def _claim(self, visit: Visit, absent: Sequence[int]) -> tuple[list[int], list[asyncio.Event]]:
        """Which absent layers are ours to read, and whose flights to wait for."""
        mine, others = [], []
        for index in absent:
            name = _name(visit.image.layers[index])
            if name in self._flights:
                others.append(self._flights[name])
                visit.shared.add(index)
            else:
                self._flights[name] = asyncio.Event()
                mine.append(index)
        return mine, others

    async def _fly(self, source: Source, visit: Visit, mine: Sequence[int]) -> None:
        """Reads what is still unknown of our own layers: between the first look and the claim another flight may have landed."""
        try:
            absent = [index for index in mine if await self._known(visit, index) is None]
            if not absent:
                return
            sink = Sink(self, visit, absent)
            await source.read(visit.image, absent, sink)
            if sink.again:
                # Ranges found to be needed too late cost one more pass, and only one (decisions 1).
                await source.read(visit.image, sorted(sink.again), sink)
        finally:
            for index in mine:
                self._flights.pop(_name(visit.image.layers[index])).set()

    async def keep(self, outcome: LayerOutcome) -> None:
        """Facts of a layer become known to everybody, in one transaction."""
        await self.memory.put_layer(outcome.read, FACTS_VERSION, outcome.sections)

    # Judging

    async def _judged(self, image: ImageSource, layers: Sequence[StoredLayer], overrides: Overrides | None) -> tuple[str, bytes]:
        keys = [layer.key for layer in layers]
        key = report_key(image.image_id, keys, self.profile, overrides)
        known = await self.memory.report(key)
        if known is not None:
            return key, known
        try:
            report = await self.pool.judge(image.image_id, image.config, keys, self._sections, self.profile, overrides)
        except Rejected as refusal:
            if refusal.code != "bad-facts":
                raise
            for lost in keys:
                await self.memory.forget_layer(lost)
            raise FactsLost(f"stored facts of {image.image_id} cannot be read") from refusal
        await self.memory.put_report(image, keys, key, RULES_VERSION, report)
        return key, report

    async def _sections(self, key: str) -> Sections:
        found = await self.memory.sections(key)
        if not found:
            raise FactsLost(f"facts of {key} are gone")
        return found


class FactsLost(SourceError):
    """Facts that were at hand are not any more; the layers are read again at the next try."""

    def __init__(self, message: str) -> None:
        super().__init__(message, temporary=True, code="facts-lost")


class Visit:
    """One image under examination: what it holds on to, and what it cost."""

    def __init__(self, image: ImageSource, progress: Progress | None) -> None:
        self.image = image
        self.pinned: list[str] = []
        self.known: dict[int, StoredLayer] = {}
        """Facts found so far; pinned, so they stay."""
        self.read: set[int] = set()
        self.shared: set[int] = set()
        """Layers that another image was found reading."""
        self.bytes_read = 0
        self._progress = progress

    @property
    def layers_read(self) -> int:
        return len(self.read)

    def pin(self, memory: Remembering, key: str) -> bool:
        """Holds these facts until the visit ends; says whether it is news."""
        if key in self.pinned:
            return False
        memory.pin([key])
        self.pinned.append(key)
        return True

    def tell(self, index: int, done: int, state: str) -> None:
        layer = self.image.layers[index]
        if self._progress is not None:
            self._progress(index, layer.digest or layer.diff_id, done, layer.size_bytes, state)


class Sink:
    """Takes the bytes that a source gives for one image, and hands them to workers (service.sources.LayerSink)."""

    def __init__(self, examiner: Examiner, visit: Visit, wanted: Collection[int]) -> None:
        self._examiner = examiner
        self._visit = visit
        self._wanted = set(wanted)
        self._ranges: dict[int, bytes] = {}
        self._archive_ranges = b""
        self.again: set[int] = set()
        """Layers whose first pass missed ranges; their facts wait for the second."""

    async def blob(self, index: int, chunks: AsyncIterator[bytes]) -> None:
        """Layer `index` as stored. A refusal of verified bytes is remembered."""
        layer = self._visit.image.layers[index]
        second = index in self.again
        try:
            outcome = await self._examiner.pool.layer(
                chunks, layer.media_type, digest=layer.digest, size_bytes=layer.size_bytes,
                known_ranges=self._ranges.get(index, b""),
                progress=lambda done: self._visit.tell(index, done, "reading"),
            )  # fmt: skip
        except Rejected as refusal:
            if layer.digest:
                await self._examiner.memory.put_refusal(layer.digest, FACTS_VERSION, Refusal(refusal.code, refusal.detail))
            raise
        finally:
            await end(chunks)
        self._check(layer, outcome)
        self._visit.bytes_read += outcome.read.bytes_in
        if outcome.read.missed and not second:
            self._ranges[index] = outcome.read.missed
            self.again.add(index)
            return
        self._visit.read.add(index)
        await self._examiner.keep(outcome)
        self._visit.tell(index, outcome.read.bytes_in, "done")

    async def plan_elf(self, size: int, pieces: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, int]]:
        """See service.sources.LayerSink."""
        return await self._examiner.pool.plan_elf(size, pieces)

    async def in_place(self, index: int, chunks: AsyncIterator[bytes]) -> None:
        """Layer `index` as pieces. What goes wrong is no outcome: the source has another way, and knows it."""
        image = self._visit.image
        layer = image.layers[index]
        try:
            outcome = await self._examiner.pool.in_place(
                chunks, layer.diff_id, image.sighting.source,
                progress=lambda done: self._visit.tell(index, done, "reading"),
            )  # fmt: skip
        finally:
            await end(chunks)
        if outcome.read.missed:
            raise Rejected("left-out", "more of its files is wanted than was planned")
        self._visit.bytes_read += outcome.read.bytes_in
        self._visit.read.add(index)
        await self._examiner.memory.put_layer(outcome.read, local_version(image.sighting.source), outcome.sections)
        self._visit.tell(index, outcome.read.bytes_in, "done")

    async def archive(self, chunks: AsyncIterator[bytes]) -> None:
        """An archive with our layers among others: all that it has become known, by their own diff IDs."""
        image, wanted = self._visit.image, self._wanted
        known = {name for at, layer in enumerate(image.layers) if at not in wanted for name in (layer.digest, layer.diff_id)}
        try:
            outcome = await self._examiner.pool.archive(
                chunks, known - {""}, known_ranges=self._archive_ranges,
                progress=lambda done: self._visit.tell(min(wanted), done, "reading"),
            )  # fmt: skip
        finally:
            await end(chunks)
        second, self._archive_ranges = bool(self._archive_ranges), outcome.missed
        for member in outcome.layers.values():
            if member.layer is None:
                continue
            self._visit.bytes_read += member.layer.read.bytes_in
            if member.layer.read.missed and not second:
                self.again |= wanted
            else:
                await self._examiner.keep(member.layer)
        self._visit.read |= wanted
        refused = [member for member in outcome.layers.values() if member.layer is None]
        if refused and not self.again:
            await self._refuse_if_ours(refused[0])

    async def _refuse_if_ours(self, member: MemberOutcome) -> None:
        """An archive may hold other images; its refused layer is our outcome only where one of ours is still unknown."""
        for index in self._wanted:
            layer = self._visit.image.layers[index]
            diff_id = layer.diff_id or await self._examiner.memory.diff_id_of(layer.digest)
            if not diff_id or await self._examiner.memory.find_layer(diff_id, FACTS_VERSION) is None:
                raise Rejected(member.code, member.detail)

    @staticmethod
    def _check(layer: LayerSource, outcome: LayerOutcome) -> None:
        """Where no digest was checked on the way, the diff ID must be the one that the layer is said to have."""
        read = outcome.read
        if not layer.digest and layer.diff_id and read.diff_id != layer.diff_id:
            raise Rejected("digest-mismatch", f"a layer said to be {layer.diff_id} is {read.diff_id}")


def local_version(source: str) -> str:
    """What facts are remembered under that only this source vouches for: nobody else finds them (decisions 2)."""
    return f"{FACTS_VERSION}@{source}"


def report_key(image_id: str, layers: Sequence[str], profile: HostProfile, overrides: Overrides | None) -> str:
    """Names all that a report depends on (decisions 3): config, rules, host, facts with their coverage, overrides."""
    named = (image_id, RULES_VERSION, str(profile), tuple(layers), overrides or Overrides())
    return hashlib.sha256(msgspec.msgpack.encode(named)).hexdigest()


def _name(layer: LayerSource) -> str:
    """What single flight goes by."""
    return layer.digest or layer.diff_id
