"""What each tag showed over time: a row whenever its image or its verdict changed, and what the change was.

Pages, the feed, growth metrics and webhooks are made from it. Noting the same row twice is harmless, so that an examination
repeated after a crash tells nobody twice. Only names with a tag have a history; untagged images never change.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from analyzers.finding import Severity, State
from service.database import Database
from service.fleet import FleetRow
from service.schema import HISTORY

KEPT_A_NAME = 100
"""Rows kept of one name and platform; the oldest leave first."""
_TELLING = (Severity.FATAL, Severity.LATER)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What one tag and platform showed from `at` on."""

    id: int
    source: str
    registry: str
    repository: str
    tag: str
    platform: str
    manifest_digest: str
    image_id: str
    report_key: str
    state: str
    reason: str
    message: str
    rules: tuple[str, ...]
    """Rules of fatal and later findings, sorted."""
    size_bytes: int
    compressed_bytes: int
    at: float

    @property
    def name(self) -> str:
        """As people write it."""
        place = f"{self.registry}/{self.repository}" if self.registry else self.repository
        return f"{place}:{self.tag}"


class ChangeKind(enum.StrEnum):
    """What a change means to the people of that image, worst first."""

    FAILS_NOW = "fails-now"
    """It did not fail before, or was never seen, and will not start."""
    FAILS_OTHERWISE = "fails-otherwise"
    """It failed before and fails for another reason."""
    VERDICT_LOST = "verdict-lost"
    """It was decided before and is not any more."""
    NEW_RULE = "new-rule"
    """It starts, with a finding of a rule it did not have."""
    RECOVERED = "recovered"
    """It failed before and starts."""
    PUSHED = "pushed"
    """Another image of the same verdict."""
    APPEARED = "appeared"
    """Seen for the first time, and not failing."""


class Change(msgspec.Struct, frozen=True):
    """One step in the history of a tag."""

    kind: ChangeKind
    after: Moment
    before: Moment | None = None

    @property
    def growth_bytes(self) -> int:
        """Change of the uncompressed size; 0 for the first image."""
        return self.after.size_bytes - self.before.size_bytes if self.before is not None else 0

    @property
    def new_rules(self) -> tuple[str, ...]:
        """Rules of fatal and later findings that the image before did not have."""
        known = self.before.rules if self.before is not None else ()
        return tuple(rule for rule in self.after.rules if rule not in known)


Also = Callable[[AsyncConnection, Sequence[Change]], Awaitable[object]]


class History:
    """The table `history` behind its meaning."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def note(self, rows: Iterable[FleetRow], also: Also | None = None) -> list[Change]:
        """Writes down what has changed and says what the changes are. Rows without a verdict change nothing.

        `also` writes what follows from the changes in the same transaction.
        """
        telling = [row for row in rows if row.tag and row.state is not None]
        if not telling:
            return []
        changes: list[Change] = []
        async with self._database.writing() as connection:
            for row in telling:
                before = _moment((await connection.execute(_latest(row, 1))).first())
                if before is not None and (before.image_id, before.state, before.reason) == _shown(row):
                    continue
                values = _values(row, self._clock())
                number = await connection.scalar(sa.insert(HISTORY).values(values).returning(HISTORY.c.id))
                after = _moment((await connection.execute(sa.select(HISTORY).where(HISTORY.c.id == number))).first())
                assert after is not None
                kept = _latest(row, KEPT_A_NAME).with_only_columns(HISTORY.c.id)
                await connection.execute(sa.delete(HISTORY).where(_named(row), HISTORY.c.id.not_in(kept)))
                changes.append(Change(kind_of(before, after), after, before))
            if changes and also is not None:
                await also(connection, changes)
        return changes

    async def of_tag(
        self, registry: str, repository: str, tag: str, platform: str = "", limit: int = KEPT_A_NAME
    ) -> list[Moment]:
        """The moments of a tag, the latest first; of one platform or of all."""
        query = sa.select(HISTORY).where(HISTORY.c.registry == registry, HISTORY.c.repository == repository, HISTORY.c.tag == tag)
        if platform:
            query = query.where(HISTORY.c.platform == platform)
        return await self._read(query.order_by(HISTORY.c.id.desc()).limit(limit))

    async def moment(self, number: int) -> Moment | None:
        """One moment by its number."""
        return next(iter(await self._read(sa.select(HISTORY).where(HISTORY.c.id == number))), None)

    async def latest(self, limit: int = 50) -> list[Change]:
        """The latest changes of the whole fleet, the newest first."""
        found = []
        for after in await self._read(sa.select(HISTORY).order_by(HISTORY.c.id.desc()).limit(limit)):
            earlier = sa.select(HISTORY).where(
                HISTORY.c.source == after.source, HISTORY.c.registry == after.registry, HISTORY.c.repository == after.repository,
                HISTORY.c.tag == after.tag, HISTORY.c.platform == after.platform, HISTORY.c.id < after.id,
            )  # fmt: skip
            before = next(iter(await self._read(earlier.order_by(HISTORY.c.id.desc()).limit(1))), None)
            found.append(Change(kind_of(before, after), after, before))
        return found

    async def last_changes(self) -> dict[tuple[str, str, str, str, str], Change]:
        """By (source, registry, repository, tag, platform): what the last push changed, for names that had two."""
        place = sa.func.row_number().over(
            partition_by=(HISTORY.c.source, HISTORY.c.registry, HISTORY.c.repository, HISTORY.c.tag, HISTORY.c.platform),
            order_by=HISTORY.c.id.desc(),
        )
        ranked = sa.select(HISTORY, place.label("place")).subquery()
        pairs: dict[tuple[str, str, str, str, str], list[Moment]] = {}
        async with self._database.reading() as connection:
            query = sa.select(ranked).where(ranked.c.place <= 2).order_by(ranked.c.id.desc())
            for row in await connection.execute(query):
                moment = _moment(row)
                if moment is not None:
                    pairs.setdefault((row.source, row.registry, row.repository, row.tag, row.platform), []).append(moment)
        two = {name: pair for name, pair in pairs.items() if len(pair) == 2}
        return {name: Change(kind_of(before, after), after, before) for name, (after, before) in two.items()}

    async def _read(self, query: sa.Select[Any]) -> list[Moment]:
        async with self._database.reading() as connection:
            return [moment for row in await connection.execute(query) if (moment := _moment(row)) is not None]


def kind_of(before: Moment | None, after: Moment) -> ChangeKind:
    """What a change means."""
    was = before.state if before is not None else ""
    if after.state == State.FAILS:
        return ChangeKind.FAILS_OTHERWISE if was == State.FAILS else ChangeKind.FAILS_NOW
    if after.state == State.UNKNOWN and was in (State.STARTS, State.FAILS):
        return ChangeKind.VERDICT_LOST
    if before is None:
        return ChangeKind.APPEARED
    if was == State.FAILS and after.state == State.STARTS:
        return ChangeKind.RECOVERED
    return ChangeKind.NEW_RULE if set(after.rules) - set(before.rules) else ChangeKind.PUSHED


def _shown(row: FleetRow) -> tuple[str, str, str]:
    return row.image_id, str(row.state or ""), str(row.reason or "")


def _named(row: FleetRow) -> sa.ColumnElement[bool]:
    return sa.and_(
        HISTORY.c.repository == row.repository, HISTORY.c.tag == row.tag, HISTORY.c.platform == row.platform,
        HISTORY.c.source == row.source, HISTORY.c.registry == row.registry,
    )  # fmt: skip


def _latest(row: FleetRow, count: int) -> sa.Select[Any]:
    return sa.select(HISTORY).where(_named(row)).order_by(HISTORY.c.id.desc()).limit(count)


def _values(row: FleetRow, now: float) -> dict[str, object]:
    image_id, state, reason = _shown(row)
    rules = sorted({found.rule for found in row.loud if found.severity in _TELLING})
    return {
        "source": row.source, "registry": row.registry, "repository": row.repository, "tag": row.tag, "platform": row.platform,
        "manifest_digest": row.manifest_digest, "image_id": image_id, "report_key": row.report_key, "state": state,
        "reason": reason, "message": row.message, "rules": " ".join(rules), "size_bytes": row.size_bytes,
        "compressed_bytes": row.compressed_bytes, "at": now,
    }  # fmt: skip


def _moment(row: Any) -> Moment | None:
    if row is None:
        return None
    return Moment(
        id=row.id, source=row.source, registry=row.registry, repository=row.repository, tag=row.tag, platform=row.platform,
        manifest_digest=row.manifest_digest, image_id=row.image_id, report_key=row.report_key, state=row.state,
        reason=row.reason, message=row.message, rules=tuple(row.rules.split()), size_bytes=row.size_bytes,
        compressed_bytes=row.compressed_bytes, at=row.at,
    )  # fmt: skip
