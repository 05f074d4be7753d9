"""What is remembered: facts of layers, images, reports, sightings. Every public write is one transaction.

Knows the tables and the versions that key them; refuses to know what facts mean (they are passed on packed). Facts are
content-addressed, so writing twice is harmless; what was used longest ago leaves first when `state.max_bytes` is reached.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from analyzers.finding import Report
from analyzers.frames import LayerRead
from service.database import Database
from service.remedies import Learned, release_of
from service.remembered import Refusal, StoredImage, StoredLayer
from service.schema import BLOB, FINDING, IMAGE, LAYER, MANIFEST, PACKAGE, REJECTION, REPORT, SECTION, SIGHTING
from service.settings import StateSettings
from service.sources import ImageSource, LayerSource, Sighting

TOUCH_SECONDS = 3600.0
"""A use is written down at most this often; removal needs no finer order."""
KEEP_SHARE = 0.9
"""Removal goes on until this share of state.max_bytes is left, so that it does not run at every write."""
REMOVED_AT_ONCE = 64
LEARNED_AT_ONCE = 500
_ENCODE_LAYERS = msgspec.msgpack.Encoder(enc_hook=str).encode
"""A Digest is text of its own class."""

Clock = Callable[[], float]


class SightingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the fleet: a name, a platform, and what became of it."""

    sighting: Sighting
    platform: str
    manifest_digest: str
    image_id: str
    compressed_bytes: int
    outcome: str
    """`queued`, `done`, `rejected`, `not-an-image`, `unreachable`, ...; why in `detail`."""
    detail: str
    report_key: str
    first_seen: float
    last_seen: float
    analysed_at: float
    missing: int
    """Whole listings in a row that did not show it."""


class Store:
    """The tables behind their meanings. Open with `Store.open`, close once."""

    def __init__(self, database: Database, max_bytes: int, clock: Clock) -> None:
        self.database = database
        self._max_bytes = max_bytes
        self._clock = clock
        self._pins: Counter[str] = Counter()
        self._bytes = -1
        """Stored bytes as far as known; -1 before they were summed up."""
        self.evicted = 0
        """Layers removed since the start to stay below state.max_bytes."""

    @classmethod
    async def open(cls, settings: StateSettings, clock: Clock = time.time) -> Store:
        """Raises StoreError in words for the operator."""
        database = await Database.open(settings.folder, min_free_bytes=settings.min_free_bytes)
        return cls(database, settings.max_bytes, clock)

    async def close(self) -> None:
        await self.database.close()

    # Layers

    async def diff_id_of(self, blob_digest: str) -> str:
        """The diff ID that we computed from the bytes of this blob, or empty."""
        async with self.database.reading() as connection:
            found = await connection.scalar(sa.select(BLOB.c.diff_id).where(BLOB.c.digest == blob_digest))
        return str(found) if found else ""

    async def find_layer(self, diff_id: str, facts_version: str) -> StoredLayer | None:
        """The best facts of this layer: a full reading before a partial one."""
        query = (
            sa.select(LAYER.c.key, LAYER.c.diff_id, LAYER.c.coverage, LAYER.c.verified, LAYER.c.bytes_out, LAYER.c.used_at)
            .where(LAYER.c.diff_id == diff_id, LAYER.c.facts_version == facts_version)
            .order_by(LAYER.c.coverage, LAYER.c.verified.desc())
            .limit(1)
        )
        async with self.database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        return StoredLayer(row.key, row.diff_id, row.coverage, row.verified, row.bytes_out)

    async def has_layers(self, keys: Collection[str]) -> bool:
        """Whether facts of all these keys are at hand."""
        wanted = set(keys)
        query = sa.select(sa.func.count()).select_from(LAYER).where(LAYER.c.key.in_(wanted))
        async with self.database.reading() as connection:
            return (await connection.scalar(query) or 0) == len(wanted)

    async def sections(self, key: str) -> dict[str, list[bytes]]:
        """The packed facts of one layer; empty when they are not (or no longer) at hand. Counts as a use."""
        query = (
            sa.select(SECTION.c.name, SECTION.c.body)
            .join(LAYER, LAYER.c.id == SECTION.c.layer_id)
            .where(LAYER.c.key == key)
            .order_by(SECTION.c.name, SECTION.c.seq)
        )
        found: dict[str, list[bytes]] = {}
        async with self.database.reading() as connection:
            for name, body in await connection.execute(query):
                found.setdefault(name, []).append(body)
        return found

    async def put_layer(self, read: LayerRead, facts_version: str, sections: dict[str, list[bytes]]) -> None:
        """Facts and the pair of digests that leads to them, together or not at all."""
        now = self._clock()
        packed = sum(len(chunk) for chunks in sections.values() for chunk in chunks)
        row = {
            "key": read.key, "diff_id": read.diff_id, "facts_version": facts_version, "coverage": read.coverage,
            "verified": read.verified, "entries": read.entries, "bytes_out": read.bytes_out, "packed_bytes": packed,
            "stored_at": now, "used_at": now,
        }  # fmt: skip
        async with self.database.writing() as connection:
            statement = insert(LAYER).values(row).on_conflict_do_nothing().returning(LAYER.c.id)
            layer_id = await connection.scalar(statement)
            if layer_id is not None:
                rows = [
                    {"layer_id": layer_id, "name": name, "seq": seq, "body": chunk}
                    for name, chunks in sections.items()
                    for seq, chunk in enumerate(chunks)
                ]
                if rows:
                    await connection.execute(sa.insert(SECTION), rows)
            if read.blob_digest:
                pair = {"digest": read.blob_digest, "diff_id": read.diff_id, "bytes_in": read.bytes_in, "used_at": now}
                await connection.execute(insert(BLOB).values(pair).on_conflict_do_nothing())
        await self._make_room(packed)

    async def touch(self, keys: Collection[str]) -> None:
        """Notes that these layers were used, at most once an hour each."""
        now = self._clock()
        stale = sa.and_(LAYER.c.key.in_(set(keys)), LAYER.c.used_at < now - TOUCH_SECONDS)
        async with self.database.reading() as connection:
            if not await connection.scalar(sa.select(sa.func.count()).select_from(LAYER).where(stale)):
                return
        async with self.database.writing() as connection:
            await connection.execute(sa.update(LAYER).where(stale).values(used_at=now))

    def pin(self, keys: Collection[str]) -> None:
        """These facts are in use: they do not leave for want of room until as many `unpin`."""
        self._pins.update(keys)

    def unpin(self, keys: Collection[str]) -> None:
        """Ends a `pin`."""
        self._pins.subtract(keys)
        for key in keys:
            if self._pins[key] <= 0:
                del self._pins[key]

    async def forget_layer(self, key: str) -> None:
        """Drops facts that turned out unusable; the layer is read again when next wanted."""
        self._bytes = -1
        async with self.database.writing() as connection:
            await connection.execute(sa.delete(LAYER).where(LAYER.c.key == key))

    async def refusal(self, digest: str, facts_version: str) -> Refusal | None:
        """Why this blob was refused by readers of this version, or None."""
        query = sa.select(REJECTION.c.code, REJECTION.c.detail).where(
            REJECTION.c.digest == digest, REJECTION.c.facts_version == facts_version
        )
        async with self.database.reading() as connection:
            row = (await connection.execute(query)).first()
        return Refusal(row.code, row.detail) if row else None

    async def put_refusal(self, digest: str, facts_version: str, refusal: Refusal) -> None:
        """Final for these bytes and this version of the readers."""
        row = {
            "digest": digest, "facts_version": facts_version, "code": refusal.code, "detail": refusal.detail, "at": self._clock()
        }  # fmt: skip
        async with self.database.writing() as connection:
            await connection.execute(insert(REJECTION).values(row).on_conflict_do_nothing())

    # Images and reports

    async def report(self, key: str) -> bytes | None:
        """The stored report of this key."""
        async with self.database.reading() as connection:
            found = await connection.scalar(sa.select(REPORT.c.body).where(REPORT.c.key == key))
        return bytes(found) if found is not None else None

    async def reports(self, keys: Collection[str]) -> dict[str, bytes]:
        """The stored reports of these keys, as many as there are."""
        query = sa.select(REPORT.c.key, REPORT.c.body).where(REPORT.c.key.in_(set(keys)))
        async with self.database.reading() as connection:
            return {key: bytes(body) for key, body in await connection.execute(query)}

    async def layer_keys(self, image_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The keys of the facts that each of these images was last judged by, lowest layer first."""
        query = sa.select(IMAGE.c.image_id, IMAGE.c.layers).where(IMAGE.c.image_id.in_(set(image_ids)))
        async with self.database.reading() as connection:
            rows = await connection.execute(query)
            return {image_id: tuple(msgspec.msgpack.decode(keys, type=list[str])) for image_id, keys in rows}

    async def image(self, image_id: str) -> StoredImage | None:
        """Config and layer keys of an image examined before."""
        async with self.database.reading() as connection:
            row = (await connection.execute(sa.select(IMAGE).where(IMAGE.c.image_id == image_id))).first()
        if row is None:
            return None
        return StoredImage(row.image_id, row.platform, row.config, tuple(msgspec.msgpack.decode(row.layers, type=list[str])))

    async def put_report(self, image: ImageSource, layers: Sequence[str], key: str, rules_version: str, body: bytes) -> None:
        """A report with its image, its manifest and its findings, together or not at all."""
        now = self._clock()
        report = msgspec.json.decode(body, type=Report)
        verdict = report.verdict
        stored = {
            "image_id": image.image_id, "platform": str(image.platform), "config": image.config_body,
            "layers": msgspec.msgpack.encode(list(layers)), "stored_at": now,
        }  # fmt: skip
        row = {
            "key": key, "image_id": image.image_id, "rules_version": rules_version, "state": str(verdict.state),
            "reason": str(verdict.reason or ""), "body": body, "stored_at": now, "used_at": now,
        }  # fmt: skip
        findings = [
            {
                "report_key": key, "seq": seq, "rule": finding.rule, "severity": str(finding.severity),
                "subject": finding.subject, "message": finding.message, "layer": finding.layer,
            }
            for seq, finding in enumerate(report.findings)
        ]  # fmt: skip
        async with self.database.writing() as connection:
            upsert = insert(IMAGE).values(stored)
            await connection.execute(
                upsert.on_conflict_do_update(index_elements=["image_id"], set_={"layers": upsert.excluded.layers})
            )
            await _put_manifest(connection, image)
            await _learn_packages(connection, image, report)
            added = await connection.scalar(insert(REPORT).values(row).on_conflict_do_nothing().returning(REPORT.c.key))
            if added is not None and findings:
                await connection.execute(sa.insert(FINDING), findings)
        await self._make_room(len(body))

    async def layers_of(self, manifest_digest: str) -> tuple[LayerSource, ...]:
        """Layers as transported, with their compressed sizes."""
        async with self.database.reading() as connection:
            found = await connection.scalar(sa.select(MANIFEST.c.layers).where(MANIFEST.c.digest == manifest_digest))
        return msgspec.msgpack.decode(found, type=tuple[LayerSource, ...]) if found else ()

    async def packages_of(self, report: Report) -> dict[str, Learned]:
        """The packages that have the missing libraries of this report, as images of the same release and machine taught."""
        distribution, release = release_of(report)
        architecture = report.platform.split("/")[1] if "/" in report.platform else ""
        query = sa.select(PACKAGE.c.library, PACKAGE.c.package, PACKAGE.c.image_id).where(
            PACKAGE.c.distribution == distribution, PACKAGE.c.release == release,
            PACKAGE.c.architecture == architecture,
            PACKAGE.c.library.in_(report.missing),
        )  # fmt: skip
        async with self.database.reading() as connection:
            return {row.library: Learned(row.package, row.image_id) for row in await connection.execute(query)}

    # Sightings

    async def note_sightings(self, sightings: Iterable[Sighting]) -> None:
        """They were seen: new names get a row, known ones a time and a clean count of misses, and a name that shows
        another digest than before is waiting anew: what its former image was is no longer its verdict.
        """
        now = self._clock()
        async with self.database.writing() as connection:
            for sighting in sightings:
                first = now
                if sighting.digest:
                    moved = sa.delete(SIGHTING).where(_named(sighting), SIGHTING.c.digest.not_in(("", sighting.digest)))
                    former = list(await connection.scalars(moved.returning(SIGHTING.c.first_seen)))
                    first = min(former, default=now)
                seen = sa.update(SIGHTING).where(_named(sighting)).values(last_seen=now, missing=0)
                if (await connection.execute(seen)).rowcount == 0:
                    row = {"digest": sighting.digest, "outcome": "queued", "first_seen": first, "last_seen": now}
                    await connection.execute(sa.insert(SIGHTING).values(_name(sighting) | row))

    async def sightings(self, source: str | None = None) -> list[SightingRow]:
        """Every row, of one source or of all, by name."""
        query = sa.select(SIGHTING).order_by(
            SIGHTING.c.source, SIGHTING.c.registry, SIGHTING.c.repository, SIGHTING.c.tag, SIGHTING.c.platform
        )
        if source is not None:
            query = query.where(SIGHTING.c.source == source)
        async with self.database.reading() as connection:
            return [sighting_row(row) for row in await connection.execute(query)]

    async def rows_of(self, sighting: Sighting) -> list[SightingRow]:
        """The rows of one name, one a platform."""
        query = sa.select(SIGHTING).where(_named(sighting)).order_by(SIGHTING.c.platform)
        async with self.database.reading() as connection:
            return [sighting_row(row) for row in await connection.execute(query)]

    async def resolved(self, source: str, digest: str) -> list[SightingRow]:
        """What another name of the same source with the same digest turned out to be: spares the manifest request."""
        if not digest:
            return []
        first = (
            sa.select(SIGHTING.c.registry, SIGHTING.c.repository, SIGHTING.c.tag, SIGHTING.c.untagged)
            .where(SIGHTING.c.source == source, SIGHTING.c.digest == digest, SIGHTING.c.report_key != "")
            .limit(1)
        )
        async with self.database.reading() as connection:
            name = (await connection.execute(first)).first()
            if name is None:
                return []
            query = sa.select(SIGHTING).where(
                SIGHTING.c.source == source, SIGHTING.c.digest == digest, SIGHTING.c.registry == name.registry,
                SIGHTING.c.repository == name.repository, SIGHTING.c.tag == name.tag, SIGHTING.c.untagged == name.untagged,
            )  # fmt: skip
            return [sighting_row(row) for row in await connection.execute(query)]

    async def put_examined(self, sighting: Sighting, rows: Iterable[SightingRow]) -> None:
        """What an examination found replaces every earlier row of that name; first_seen is kept where a row says none."""
        now = self._clock()
        async with self.database.writing() as connection:
            first = await connection.scalar(sa.select(sa.func.min(SIGHTING.c.first_seen)).where(_named(sighting)))
            await connection.execute(sa.delete(SIGHTING).where(_named(sighting)))
            for row in rows:
                values = _name(sighting) | {
                    "digest": sighting.digest, "platform": row.platform, "manifest_digest": row.manifest_digest,
                    "image_id": row.image_id, "compressed_bytes": row.compressed_bytes, "outcome": row.outcome,
                    "detail": row.detail, "report_key": row.report_key, "first_seen": row.first_seen or first or now,
                    "last_seen": now,
                    "analysed_at": row.analysed_at,
                }  # fmt: skip
                await connection.execute(insert(SIGHTING).values(values).on_conflict_do_nothing())

    async def put_judged_again(self, image_id: str, report_key: str) -> None:
        """Newer rules gave another report of the same image: every name of it shows that from now on."""
        async with self.database.writing() as connection:
            named = sa.and_(SIGHTING.c.image_id == image_id, SIGHTING.c.report_key != "")
            await connection.execute(sa.update(SIGHTING).where(named).values(report_key=report_key, analysed_at=self._clock()))

    async def remove_sightings(self, sightings: Iterable[Sighting]) -> None:
        """The names are gone; facts and reports stay until room is needed."""
        async with self.database.writing() as connection:
            for sighting in sightings:
                await connection.execute(sa.delete(SIGHTING).where(_named(sighting)))

    async def keep_sources(self, names: Collection[str]) -> int:
        """Removes every name of another source, since nobody watches it any more; says how many rows those were."""
        async with self.database.writing() as connection:
            dropped = await connection.execute(sa.delete(SIGHTING).where(SIGHTING.c.source.not_in(names)))
        return int(dropped.rowcount)

    async def count_missing(self, sightings: Iterable[Sighting]) -> None:
        """One more whole listing did not show these names."""
        async with self.database.writing() as connection:
            for sighting in sightings:
                await connection.execute(sa.update(SIGHTING).where(_named(sighting)).values(missing=SIGHTING.c.missing + 1))

    # Room

    async def writable(self) -> bool:
        """Whether a write goes through now; the heart of readiness."""
        async with self.database.writing() as connection:
            await connection.execute(sa.update(LAYER).where(LAYER.c.id == -1).values(used_at=0))
        return True

    async def stored_bytes(self) -> int:
        """Bytes of packed facts and of reports."""
        async with self.database.reading() as connection:
            layers = await connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(LAYER.c.packed_bytes), 0)))
            reports = await connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(REPORT.c.body)), 0)))
        return int(layers or 0) + int(reports or 0)

    async def _make_room(self, added: int) -> None:
        """Removes what was used longest ago until facts and reports fit again. Current reports and pinned facts stay."""
        self._bytes = await self.stored_bytes() if self._bytes < 0 else self._bytes + added
        if self._bytes <= self._max_bytes:
            return
        excess = await self.stored_bytes() - int(self._max_bytes * KEEP_SHARE)
        shown = sa.select(SIGHTING.c.report_key).where(SIGHTING.c.report_key != "")
        old = sa.select(REPORT.c.key).where(REPORT.c.key.not_in(shown))
        oldest = (
            sa.select(LAYER.c.id, LAYER.c.packed_bytes)
            .where(LAYER.c.key.not_in(sorted(self._pins)))
            .order_by(LAYER.c.used_at, LAYER.c.id)
        )
        async with self.database.writing() as connection:
            size = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(REPORT.c.body)), 0)).where(REPORT.c.key.in_(old))
            excess -= int(await connection.scalar(size) or 0)
            await connection.execute(sa.delete(REPORT).where(REPORT.c.key.in_(old)))
            leaving = []
            for row in await connection.execute(oldest):
                if excess <= 0:
                    break
                leaving.append(row.id)
                excess -= row.packed_bytes
            for start in range(0, len(leaving), REMOVED_AT_ONCE):
                await connection.execute(sa.delete(LAYER).where(LAYER.c.id.in_(leaving[start : start + REMOVED_AT_ONCE])))
        self.evicted += len(leaving)
        self._bytes = -1
        await self.database.checkpoint()


async def _learn_packages(connection: Any, image: ImageSource, report: Report) -> None:
    """What the image's package database teaches about its release; who was first is believed."""
    distribution, release = release_of(report)
    if not (distribution and release):
        return
    place = {"distribution": distribution, "release": release, "architecture": image.platform.architecture}
    rows = [
        {**place, "library": library, "package": package, "image_id": image.image_id}
        for library, package in report.packages.items()
    ]
    for start in range(0, len(rows), LEARNED_AT_ONCE):
        await connection.execute(insert(PACKAGE).values(rows[start : start + LEARNED_AT_ONCE]).on_conflict_do_nothing())


async def _put_manifest(connection: Any, image: ImageSource) -> None:
    if not image.manifest_digest:
        return
    row = {
        "digest": image.manifest_digest, "image_id": image.image_id, "compressed_bytes": image.compressed_bytes,
        "layers": _ENCODE_LAYERS(image.layers),
    }  # fmt: skip
    await connection.execute(insert(MANIFEST).values(row).on_conflict_do_nothing())


def _name(sighting: Sighting) -> dict[str, str]:
    """The columns that make a name."""
    return {
        "source": sighting.source, "registry": sighting.registry, "repository": sighting.repository, "tag": sighting.tag,
        "untagged": "" if sighting.tag else sighting.digest,
    }  # fmt: skip


def _named(sighting: Sighting) -> sa.ColumnElement[bool]:
    return sa.and_(*(SIGHTING.c[column] == value for column, value in _name(sighting).items()))


def sighting_row(row: Any) -> SightingRow:
    """A row of the table `sighting` as data."""
    return SightingRow(
        sighting=Sighting(row.source, row.registry, row.repository, row.tag, row.digest), platform=row.platform,
        manifest_digest=row.manifest_digest, image_id=row.image_id, compressed_bytes=row.compressed_bytes,
        outcome=row.outcome, detail=row.detail, report_key=row.report_key, first_seen=row.first_seen,
        last_seen=row.last_seen, analysed_at=row.analysed_at, missing=row.missing,
    )  # fmt: skip
