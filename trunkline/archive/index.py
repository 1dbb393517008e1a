"""The index of the archive: one SQLite file (WAL, synchronous=FULL), written by the archive process alone.

It also holds how far the archive has come, so that a file's rows and the cursor behind them are one commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from trunkline.archive.errors import IndexFailed, IndexLocked, IndexTooNew
from trunkline.archive.file_draft import FileDraft
from trunkline.archive.layout import Kind
from trunkline.failpoints import failpoint
from trunkline.files import lock_file
from trunkline.sqlite import mend_rights, transaction

SCHEMA_VERSION: Final = 2
OLDEST_READABLE: Final = 1
"""Readers take an index of this schema as it is: without the archive's process nobody upgrades it."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a partition is archived; ``covered`` is what tells a repeated append by (partition, group)."""

    position: int = 0
    epoch: int = 0
    covered: Mapping[tuple[str, str], int] = field(default_factory=dict)
    flushed_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A flush that has begun: all below position ``stop``, cut at ``file_bytes``, into objects of these keys."""

    stop: int
    file_bytes: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is durable in the object store under ``key``."""

    key: str
    partition: str
    draft: FileDraft


def open_index(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to an index, or to a new file. Raises IndexFailed, IndexTooNew."""
    try:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=10,
        )
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise IndexFailed(f"{path}: cannot open the archive's index: {error}") from error
    if version > SCHEMA_VERSION:
        db.close()
        raise IndexTooNew(
            f"{path}: the archive's index has schema {version}, this program knows {SCHEMA_VERSION}; "
            "run the newer version again, or restore the data directory's backup"
        )
    if read_only and version < OLDEST_READABLE:
        db.close()
        raise IndexFailed(f"{path}: the archive's index has schema {version}; start `trunkline serve` to upgrade it")
    return db


class ArchiveIndex:
    """The writer's side."""

    def __init__(self, path: Path) -> None:
        """Open, create or migrate. Raises IndexLocked, IndexTooNew, IndexFailed."""
        self._path = path
        with self._errors("lock"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(path.with_name(f"{path.name}.lock"))
        self._connection: sqlite3.Connection | None = None
        self.archive_id = ""
        """Eight hexadecimal digits, this index's own, part of every object's name."""
        try:
            with self._errors("prepare"):
                self._migrate()
                ((self.archive_id,),) = self._db.execute("SELECT value FROM facts WHERE key='archive_id'").fetchall()
        except BaseException:
            self.close()
            raise

    @property
    def _db(self) -> sqlite3.Connection:
        """Opened anew behind a write that was refused: SQLite opens what it may not write for reading, and stays so
        when that is mended. Raises IndexFailed, sqlite3.Error, OSError."""
        if self._connection is None:
            mend_rights(self._path)
            db = open_index(self._path, read_only=False)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
            except BaseException:
                db.close()
                raise
            self._connection = db
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for number in range(version + 1, SCHEMA_VERSION + 1):
            script = resources.files("trunkline.archive").joinpath(f"schema_{number}.sql").read_text("utf-8")
            self._db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};")
            self._db.execute("INSERT OR IGNORE INTO facts VALUES ('archive_id', ?)", (secrets.token_hex(4),))
            failpoint("archive.migrate.before_commit")
            self._db.execute("COMMIT")
            failpoint("archive.migrate.after_commit")

    # -- the writer's progress -----------------------------------------------------------------------------------

    def cursor(self, partition: str) -> Cursor:
        with self._errors("read"):
            row = self._db.execute(
                "SELECT position, epoch, covered, flushed_at_ms FROM cursors WHERE partition=?", (partition,)
            ).fetchone()
        if row is None:
            return Cursor()
        return Cursor(row[0], row[1], {(p, group): stop for p, group, stop in json.loads(row[2])}, row[3])

    def plan(self, partition: str) -> Plan | None:
        """The flush that had begun and was not committed."""
        with self._errors("read"):
            row = self._db.execute(
                "SELECT stop, file_bytes, keys FROM plans WHERE partition=?", (partition,)
            ).fetchone()
        return Plan(row[0], row[1], tuple(json.loads(row[2]))) if row else None

    def begin(self, partition: str, plan: Plan) -> None:
        """Record what a flush is about to write. Durable on return."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO plans VALUES (?,?,?,?)",
                (partition, plan.stop, plan.file_bytes, json.dumps(plan.keys)),
            )
            failpoint("archive.plan.before_commit")
        failpoint("archive.plan.after_commit")

    def commit(self, partition: str, cursor: Cursor, files: Sequence[NewFile], stale: Sequence[str] = ()) -> None:
        """End a flush: its files, the cursor behind them and no plan any more. Objects ``stale`` are to be removed."""
        covered = json.dumps([[*key, stop] for key, stop in cursor.covered.items()])
        with self._transaction():
            for file in files:
                self._insert(file)
            self._db.execute(
                "INSERT OR REPLACE INTO cursors VALUES (?,?,?,?,?)",
                (partition, cursor.position, cursor.epoch, covered, cursor.flushed_at_ms),
            )
            self._db.execute("DELETE FROM plans WHERE partition=?", (partition,))
            self._db.executemany("INSERT OR IGNORE INTO doomed VALUES (?)", [(key,) for key in stale])
            failpoint("archive.commit.before")
        failpoint("archive.commit.after")

    def _insert(self, file: NewFile) -> None:
        draft, members = file.draft, file.draft.members
        slices, tables = draft.bloom_slices(), draft.kind.tables
        done = self._db.execute(
            f"INSERT INTO {tables}files (partition, source, day_ms, key, size_bytes, events, "  # noqa: S608 - a constant
            "first_received_at_ms, last_received_at_ms, first_place, last_place, bloom_slices) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                file.partition,
                draft.source,
                draft.day_ms,
                file.key,
                draft.size_bytes,
                draft.events,
                min(member.first_received_at_ms for member in members),
                max(member.last_received_at_ms for member in members),
                members[0].first_place,
                members[-1].last_place,
                len(slices),
            ),
        )
        self._db.executemany(
            f"INSERT INTO {tables}blooms VALUES (?,?,?)",  # noqa: S608
            [(done.lastrowid, number, bits) for number, bits in enumerate(slices)],
        )
        self._db.executemany(
            f"INSERT INTO {tables}members VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
            [
                (
                    done.lastrowid,
                    number,
                    member.offset,
                    member.length,
                    member.events,
                    member.first_received_at_ms,
                    member.last_received_at_ms,
                    member.first_place,
                    member.last_place,
                    member.places,
                )
                for number, member in enumerate(members)
            ],
        )

    # -- retention -----------------------------------------------------------------------------------------------

    def expire(self, kind: Kind, before_ms: int, at_most: int) -> int:
        """Forget files of days that ended before this time, oldest first, and doom their objects; how many."""
        tables = kind.tables
        with self._transaction():
            found = self._db.execute(
                f"SELECT id, key FROM {tables}files WHERE day_ms <= ? - 86400000 ORDER BY day_ms, id LIMIT ?",  # noqa: S608
                (before_ms, at_most),
            ).fetchall()
            self._db.executemany("INSERT OR IGNORE INTO doomed VALUES (?)", [(key,) for _, key in found])
            gone = [(number,) for number, _ in found]
            for table, column in (("members", "file_id"), ("blooms", "file_id"), ("files", "id")):
                self._db.executemany(f"DELETE FROM {tables}{table} WHERE {column}=?", gone)  # noqa: S608
            failpoint("archive.expire.before_commit")
        failpoint("archive.expire.after_commit")
        return len(found)

    def doomed(self, at_most: int) -> list[str]:
        """Keys of objects that are to be removed."""
        with self._errors("read"):
            return [key for (key,) in self._db.execute("SELECT key FROM doomed LIMIT ?", (at_most,))]

    def removed(self, keys: Sequence[str]) -> None:
        """These objects are gone."""
        with self._transaction():
            self._db.executemany("DELETE FROM doomed WHERE key=?", [(key,) for key in keys])

    def close(self) -> None:
        self._disconnect()
        os.close(self._lock_fd)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, durable at the end. Raises IndexFailed; then the same may be tried again."""
        with self._errors("write"), transaction(self._db):
            yield

    @contextlib.contextmanager
    def _errors(self, does: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
                self._disconnect()
            raise IndexFailed(
                f"{self._path}: cannot {does} the archive's index: {error}. Check the disk and the file's owner"
            ) from error


def _lock(path: Path) -> int:
    """Two writers would overwrite each other's objects with other cuts."""
    try:
        return lock_file(path)
    except BlockingIOError:
        raise IndexLocked(f"{path}: another process writes this archive. It ends with its supervisor; wait") from None


def committed_cursor(path: Path) -> dict[str, int]:
    """How far each partition of the accepted log is archived; ``{}`` when there is no index yet.

    Below these positions the archive does not need the log any more. Raises IndexFailed.
    """
    if not path.exists():
        return {}
    db = None
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=1)
        if db.execute("PRAGMA user_version").fetchone() == (0,):
            return {}
        return dict(db.execute("SELECT partition, position FROM cursors").fetchall())
    except sqlite3.Error as error:
        raise IndexFailed(f"{path}: cannot read the archive's index: {error}") from error
    finally:
        if db is not None:
            db.close()
