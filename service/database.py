"""The SQLite file: opened with care, written through one connection, and refused in plain words when it is not sound.

Knows pragmas, migrations and what SQLite's errors mean; knows no table. WAL with synchronous=FULL, since an accepted
result must survive a power cut; one writer, which alone checkpoints (hostile 115-120).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from service.errors import StoreBusy, StoreError, StoreFull

FILE_NAME = "enoent.sqlite3"
BUSY_MILLISECONDS = 5000
JOURNAL_BYTES = 64 << 20
READERS = 3
CACHE_KIB = 8 << 10
FREED_PAGES = 4096
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One open state database. `writing` gives the one writer its turn; `reading` never waits for it."""

    def __init__(self, path: Path, writer: AsyncEngine, readers: AsyncEngine, min_free_bytes: int) -> None:
        self.path = path
        self._writer = writer
        self._readers = readers
        self._turn = asyncio.Lock()
        self._min_free_bytes = min_free_bytes

    @classmethod
    async def open(cls, folder: Path, *, min_free_bytes: int = 0) -> Database:
        """Opens, checks and migrates. Raises StoreError saying what is wrong and how to recover."""
        path = folder / FILE_NAME
        _make_folder(folder)
        with _translated(path):
            await asyncio.to_thread(_refuse_unsound, path)
        writer = _engine(path, writes=True)
        database = cls(path, writer, _engine(path, writes=False), min_free_bytes)
        try:
            with _translated(path):
                async with writer.begin() as connection:
                    await connection.run_sync(_migrate)
        except StoreError:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        await self._readers.dispose()
        await self._writer.dispose()

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction of the one writer: whole or absent. Raises StoreBusy, StoreFull, StoreError."""
        if self.free_bytes < self._min_free_bytes:
            raise StoreFull(f"{self.path.parent}: less than {self._min_free_bytes} bytes free")
        async with self._turn:
            with _translated(self.path):
                async with self._writer.begin() as connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view that sees no unfinished write. Raises StoreError."""
        with _translated(self.path):
            async with self._readers.connect() as connection:
                yield connection

    @property
    def free_bytes(self) -> int:
        """Room that the disk has for us."""
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize

    @property
    def size_bytes(self) -> int:
        """The database and its journal on disk."""
        names = (self.path, Path(f"{self.path}-wal"))
        return sum(name.stat().st_size for name in names if name.exists())

    @property
    def journal_bytes(self) -> int:
        """The journal on disk, which a checkpoint folds back."""
        journal = Path(f"{self.path}-wal")
        return journal.stat().st_size if journal.exists() else 0

    async def checkpoint(self) -> None:
        """Folds the journal back and gives freed pages to the disk; the writer's own duty (hostile 118)."""
        async with self._turn:
            with _translated(self.path):
                async with self._writer.connect() as connection:
                    # On the driver's own connection: neither statement may stand in a transaction.
                    driver = (await connection.get_raw_connection()).driver_connection
                    assert isinstance(driver, aiosqlite.Connection)
                    for pragma in (f"incremental_vacuum({FREED_PAGES})", "wal_checkpoint(TRUNCATE)"):
                        await driver.execute_fetchall(f"PRAGMA {pragma}")


async def look_at(folder: Path) -> None:
    """Whether the database there, if there is one, could be used; not a byte of it is changed. Raises StoreError."""
    path = folder / FILE_NAME
    with _translated(path):
        await asyncio.to_thread(_refuse_unsound, path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"state.dir: {folder}: {error.strerror}") from error


def _engine(path: Path, *, writes: bool) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1 if writes else READERS,
        max_overflow=0,
    )
    pragmas = [f"busy_timeout = {BUSY_MILLISECONDS}", "foreign_keys = ON", f"cache_size = -{CACHE_KIB}"]
    if writes:
        # auto_vacuum counts only before the first page is written, hence before WAL.
        pragmas = ["auto_vacuum = INCREMENTAL", *pragmas, "journal_mode = WAL", "synchronous = FULL"]
        pragmas += [f"journal_size_limit = {JOURNAL_BYTES}"]
    else:
        pragmas += ["query_only = ON"]

    @sa.event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # SQLAlchemy shall say BEGIN, not the driver, so that a transaction is exactly what is written here.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _refuse_unsound(path: Path) -> None:
    """Looks at an existing file without changing a byte of it. Raises StoreError."""
    if not path.exists():
        return
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_MILLISECONDS / 1000)
    try:
        told = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
        if told != ["ok"]:
            raise _damaged(path, "; ".join(told))
        tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "alembic_version" not in tables:
            raise StoreError(f"{path} is a database, but not one of ours; set state.dir to another folder")
        versions = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")] if tables else []
    finally:
        connection.close()
    known = {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}
    if unknown := [version for version in versions if version not in known]:
        raise StoreError(
            f"{path} was written by a newer version (schema {unknown[0]}); run that version, "
            f"or move the file away to begin anew: mv {path} {path}.newer"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _migrate(connection: sa.Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _damaged(path: Path, detail: str) -> StoreError:
    return StoreError(
        f"{path} is damaged ({detail[:200]}). Nothing was changed. To save what can be read: "
        f"sqlite3 {path} .recover | sqlite3 {path}.recovered; to begin anew: mv {path} {path}.damaged"
    )


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours. What is not about the file, such as a broken constraint, stays a defect."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(cause)) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreBusy(f"{path} is locked by another process") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
            raise StoreFull(f"{path} cannot be written: {cause}") from error
        if code == sqlite3.SQLITE_CANTOPEN or isinstance(cause, sqlite3.OperationalError):
            raise StoreError(f"{path}: {cause}") from error
        raise
