"""Which build made an image, by the digest of its result: remembered beside the images, and joined to them when they are shown.

A build and the image it made may come from different sources: a BuildKit tells of the build, a registry shows what was pushed.
No report depends on it. The oldest builds leave first.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from service.database import Database
from service.schema import BUILD
from service.sources import Build

KEPT = 10_000
"""Builds remembered."""


class Builds:
    """The table `build` behind its meaning."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, Build]:
        """Every build by the digest of its result, oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(sa.select(BUILD).order_by(BUILD.c.completed_at))
            return {row.digest: Build(row.ref, row.frontend, row.source, row.completed_at) for row in rows}

    async def put(self, builds: Mapping[str, Build]) -> None:
        """The last build of each result."""
        async with self._database.writing() as connection:
            for digest, build in builds.items():
                told = {
                    "ref": build.ref, "frontend": build.frontend, "source": build.source, "completed_at": build.completed_at,
                }  # fmt: skip
                statement = insert(BUILD).values({"digest": digest} | told)
                await connection.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=told))
            kept = sa.select(BUILD.c.digest).order_by(BUILD.c.completed_at.desc()).limit(KEPT)
            await connection.execute(sa.delete(BUILD).where(BUILD.c.digest.not_in(kept)))
