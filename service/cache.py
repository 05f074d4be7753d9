"""The cache of `enoent scan`: facts of layers in one SQLite file of the user's, so that a second scan reads none of them again.

The daemon's store is another thing: its tables, migrations and single writer cost more at start than many a scan takes
(SQLAlchemy and Alembic 0.25 s of CPU, this 0.01 s), while a cache is shared by scans that run at the same time, and may be
thrown away. Only whole facts that everybody may use are kept; partial ones and refusals depend on the limits in force and are
found anew.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from analyzers.facts import Coverage, Verified
from analyzers.frames import LayerRead
from analyzers.limits import MIB
from service.memory import Memory
from service.remembered import StoredLayer

FILE_NAME = "facts-1.sqlite3"
"""The number is that of the tables below; another form is another file."""
MAX_BYTES = 512 * MIB
KEEP_SHARE = 0.9
BUSY_SECONDS = 5.0
TOUCH_SECONDS = 3600.0
_UNSOUND = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_TABLES = """
PRAGMA synchronous = NORMAL;
PRAGMA auto_vacuum = INCREMENTAL;
CREATE TABLE IF NOT EXISTS layer (
    key TEXT PRIMARY KEY, diff_id TEXT NOT NULL, facts_version TEXT NOT NULL, verified TEXT NOT NULL,
    bytes_out INTEGER NOT NULL, packed_bytes INTEGER NOT NULL, used_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS layer_by_diff_id ON layer (diff_id, facts_version);
CREATE TABLE IF NOT EXISTS section (
    key TEXT NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (key, name, seq));
CREATE TABLE IF NOT EXISTS pair (digest TEXT PRIMARY KEY, diff_id TEXT NOT NULL);
"""
Found = TypeVar("Found")


class Cache(Memory):
    """A Memory with a file behind it. Its calls block for milliseconds.

    A file that cannot be used is no reason to fail: what is wrong with it stands in `trouble`, and all goes on without it.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.path = path
        self.trouble = ""
        self._max_bytes = max_bytes
        self._clock = clock
        self._file: sqlite3.Connection | None = None
        try:
            self._file = _open(path)
        except (sqlite3.Error, OSError) as error:
            self.trouble = f"{path}: {error}"

    def close(self) -> None:
        """Makes room if need be, and closes the file."""
        self._work(lambda file: _make_room(file, self._max_bytes), None)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _work(self, ask: Callable[[sqlite3.Connection], Found], otherwise: Found) -> Found:
        """One transaction; `otherwise` when there is no file. After its first trouble the file is used no more."""
        if self._file is None:
            return otherwise
        try:
            with self._file:
                return ask(self._file)
        except sqlite3.Error as error:
            self.trouble = f"{self.path}: {error}"
            self._file.close()
            self._file = None
            return otherwise

    async def diff_id_of(self, blob_digest: str) -> str:
        known = await super().diff_id_of(blob_digest)
        return known or self._work(lambda file: _diff_id_of(file, blob_digest), "")

    async def find_layer(self, diff_id: str, facts_version: str) -> StoredLayer | None:
        known = await super().find_layer(diff_id, facts_version)
        if known is not None and known.coverage == Coverage.FULL:
            return known
        kept = self._work(lambda file: _find(file, diff_id, facts_version), None)
        if kept is None:
            return known
        # At once and in the same transaction, since another scan may make room at any time.
        stored, sections = kept
        self._layers[stored.key] = (stored, facts_version, sections)
        return stored

    async def put_layer(self, read: LayerRead, facts_version: str, sections: dict[str, list[bytes]]) -> None:
        await super().put_layer(read, facts_version, sections)
        if read.coverage == Coverage.FULL and not read.verified.startswith(Verified.LOCAL):
            self._work(lambda file: _put(file, read, facts_version, sections, self._clock()), None)

    async def forget_layer(self, key: str) -> None:
        await super().forget_layer(key)
        self._work(lambda file: _forget(file, [key]), None)

    async def touch(self, keys: Collection[str]) -> None:
        now = self._clock()
        rows = [(now, key, now - TOUCH_SECONDS) for key in keys]
        self._work(lambda file: file.executemany("UPDATE layer SET used_at = ? WHERE key = ? AND used_at < ?", rows), None)


def open_cache(env: Mapping[str, str]) -> Cache | None:
    """The cache below XDG_CACHE_HOME, or ~/.cache; None where the environment names neither that nor a home."""
    home = env.get("XDG_CACHE_HOME", "") or (f"{env['HOME']}/.cache" if env.get("HOME") else "")
    return Cache(Path(home) / "enoent" / FILE_NAME) if home.startswith("/") else None


def _open(path: Path) -> sqlite3.Connection:
    """The file with its tables; one that is no database, or damaged, is begun anew. Raises OSError and sqlite3.Error."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.parent.stat()
    if folder.st_uid != os.geteuid() or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        # Whoever can write there could have us believe anything of any image.
        raise PermissionError(f"{path.parent} can be written by others")
    try:
        return _connected(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _UNSOUND:
            raise
        path.unlink()
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        file.executescript(_TABLES)
    except sqlite3.Error:
        file.close()
        raise
    return file


def _diff_id_of(file: sqlite3.Connection, blob_digest: str) -> str:
    row = file.execute("SELECT diff_id FROM pair WHERE digest = ?", (blob_digest,)).fetchone()
    return str(row[0]) if row else ""


def _find(file: sqlite3.Connection, diff_id: str, facts_version: str) -> tuple[StoredLayer, dict[str, list[bytes]]] | None:
    query = "SELECT key, verified, bytes_out FROM layer WHERE diff_id = ? AND facts_version = ? ORDER BY verified DESC LIMIT 1"
    file.execute("BEGIN")
    row = file.execute(query, (diff_id, facts_version)).fetchone()
    if row is None:
        return None
    sections: dict[str, list[bytes]] = {}
    for name, body in file.execute("SELECT name, body FROM section WHERE key = ? ORDER BY name, seq", (row[0],)):
        sections.setdefault(name, []).append(body)
    return StoredLayer(row[0], diff_id, Coverage.FULL.value, row[1], row[2]), sections


def _put(file: sqlite3.Connection, read: LayerRead, facts_version: str, sections: Mapping[str, list[bytes]], now: float) -> None:
    rows = [(read.key, name, seq, body) for name, bodies in sections.items() for seq, body in enumerate(bodies)]
    packed = sum(len(row[3]) for row in rows)
    layer = (read.key, read.diff_id, facts_version, read.verified, read.bytes_out, packed, now)
    file.execute("INSERT OR REPLACE INTO layer VALUES (?, ?, ?, ?, ?, ?, ?)", layer)
    file.executemany("INSERT OR REPLACE INTO section VALUES (?, ?, ?, ?)", rows)
    if read.blob_digest:
        file.execute("INSERT OR REPLACE INTO pair VALUES (?, ?)", (read.blob_digest, read.diff_id))


def _forget(file: sqlite3.Connection, keys: Collection[str]) -> None:
    for key in keys:
        file.execute("DELETE FROM section WHERE key = ?", (key,))
        file.execute("DELETE FROM layer WHERE key = ?", (key,))


def _make_room(file: sqlite3.Connection, max_bytes: int) -> None:
    """What was used longest ago goes first, until a tenth is free again."""
    (total,) = file.execute("SELECT coalesce(sum(packed_bytes), 0) FROM layer").fetchone()
    if total <= max_bytes:
        return
    leaving = []
    for key, packed in file.execute("SELECT key, packed_bytes FROM layer ORDER BY used_at").fetchall():
        if total <= max_bytes * KEEP_SHARE:
            break
        leaving.append(key)
        total -= packed
    _forget(file, leaving)
    file.execute("DELETE FROM pair WHERE diff_id NOT IN (SELECT diff_id FROM layer)")
    file.commit()
    file.execute("PRAGMA incremental_vacuum").fetchall()
