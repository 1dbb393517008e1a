"""The database of what was seen: one SQLite file (WAL), written by one process, read by any.

Counts and the cursor behind them are one transaction, so that nothing counts twice or not at all, however the process
ends. A commit that a power failure takes away takes its cursor away too: the log brings the same again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from trunkline.failpoints import failpoint
from trunkline.files import lock_file
from trunkline.schema.errors import SchemaFailed, SchemaLocked, SchemaTooNew
from trunkline.schema.limits import DAY_MS, DAYS_KEPT, HOURS_KEPT_MS
from trunkline.schema.tally import ViolationKey
from trunkline.sqlite import check_rights, transaction

SCHEMA_VERSION: Final = 1
_TIDY_STEP: Final = 200

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a partition was observed. ``covered`` tells a repeated append by (partition, group); ``units`` are those
    of all records below ``position``, None before the first."""

    position: int = 0
    epoch: int = 0
    covered: Mapping[tuple[str, str], int] = field(default_factory=dict)
    units: int | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """So many accepted events had gone from the log before ``position`` when the observer came."""

    at_ms: int
    partition: str
    position: int
    events: int


@dataclass(slots=True)
class Changes:
    """What a commit writes: rows in the order of the statements' parameters."""

    cursors: Mapping[str, Cursor]
    skips: Sequence[Skip] = ()
    events: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)
    event_counts: list[Row] = field(default_factory=list)
    properties: list[Row] = field(default_factory=list)
    property_days: list[Row] = field(default_factory=list)
    violations: list[Row] = field(default_factory=list)
    violation_counts: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)


_UPSERTS: Final = (
    (
        "events",
        (
            "INSERT INTO events VALUES (?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
            "first_ms=min(first_ms, excluded.first_ms), last_ms=max(last_ms, excluded.last_ms), "
            "sampled=max(sampled, excluded.sampled)"
        ),
    ),
    (
        "outcomes",
        (
            "INSERT INTO outcomes VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET "
            "last_ms=max(last_ms, excluded.last_ms), count=count+excluded.count"
        ),
    ),
    (
        "event_counts",
        "INSERT INTO event_counts VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET count=count+excluded.count",
    ),
    (
        "properties",
        (
            "INSERT INTO properties VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
            "types=types|excluded.types, first_ms=min(first_ms, excluded.first_ms), "
            "last_ms=max(last_ms, excluded.last_ms), allowed=allowed+excluded.allowed, "
            "blocked=blocked+excluded.blocked, omitted=omitted+excluded.omitted"
        ),
    ),
    (
        "property_days",
        (
            "INSERT INTO property_days VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET allowed=allowed+excluded.allowed, "
            "blocked=blocked+excluded.blocked, omitted=omitted+excluded.omitted"
        ),
    ),
    (
        "violations",
        (
            "INSERT INTO violations VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET "
            "first_ms=min(first_ms, excluded.first_ms), last_ms=max(last_ms, excluded.last_ms), "
            "count=count+excluded.count"
        ),
    ),
    (
        "violation_counts",
        "INSERT INTO violation_counts VALUES (?,?,?) ON CONFLICT DO UPDATE SET count=count+excluded.count",
    ),
    (
        "samples",
        (
            "INSERT INTO samples (violation_id, received_at_ms, message_id, blocked, size_bytes, body) "
            "VALUES (?,?,?,?,?,?)"
        ),
    ),
)
_FOLDS: Final = (
    (
        "INSERT INTO event_counts SELECT event_id, reason, bucket_ms - bucket_ms % :day, count FROM event_counts "
        "WHERE bucket_ms < :before AND bucket_ms % :day ON CONFLICT DO UPDATE SET count=count+excluded.count"
    ),
    "DELETE FROM event_counts WHERE bucket_ms < :before AND bucket_ms % :day",
    (
        "INSERT INTO violation_counts SELECT violation_id, bucket_ms - bucket_ms % :day, count FROM violation_counts "
        "WHERE bucket_ms < :before AND bucket_ms % :day ON CONFLICT DO UPDATE SET count=count+excluded.count"
    ),
    "DELETE FROM violation_counts WHERE bucket_ms < :before AND bucket_ms % :day",
    "DELETE FROM event_counts WHERE bucket_ms < :oldest",
    "DELETE FROM violation_counts WHERE bucket_ms < :oldest",
    "DELETE FROM property_days WHERE day_ms < :oldest",
)


def mend_of(error: Exception) -> str:
    """What to do about what SQLite or the disk says."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            "It is damaged: stop `trunkline serve`, remove the file and those that its name begins with, and start "
            "again: it begins anew with what the log still holds"
        )
    return "Check the disk and the file's owner"


def open_database(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to a database, or to a new file. Raises SchemaFailed, SchemaTooNew."""
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
        raise SchemaFailed(f"{path}: cannot open the schema's database: {error}. {mend_of(error)}") from error
    if version > SCHEMA_VERSION:
        db.close()
        raise SchemaTooNew(
            f"{path}: the schema's database has version {version}, this program knows {SCHEMA_VERSION}; run the newer "
            "version again, or remove the file to begin anew"
        )
    if read_only and version < SCHEMA_VERSION:
        db.close()
        raise SchemaFailed(
            f"{path}: the schema's database has version {version}; start `trunkline serve` to upgrade it"
        )
    return db


class SchemaDatabase:
    """The writer's side. For one thread at a time; every method may raise SchemaFailed."""

    def __init__(self, path: Path) -> None:
        """Open, create or migrate. Raises SchemaLocked, SchemaTooNew, SchemaFailed."""
        self._path = path
        with self._errors("lock"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(path.with_name(f"{path.name}.lock"))
        try:
            with self._errors("write"):
                check_rights(path)
            self._db = open_database(path, read_only=False)
        except BaseException:
            os.close(self._lock_fd)
            raise
        try:
            with self._errors("prepare"):
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.execute("PRAGMA foreign_keys=ON")
                self._migrate()
        except BaseException:
            self.close()
            raise

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for number in range(version + 1, SCHEMA_VERSION + 1):
            script = resources.files("trunkline.schema").joinpath(f"schema_{number}.sql").read_text("utf-8")
            self._db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};\nCOMMIT;")

    # -- what is known ---------------------------------------------------------------------------------------------

    def cursor(self, partition: str) -> Cursor:
        rows = self._select("SELECT position, epoch, covered, units FROM cursors WHERE partition=?", partition)
        if not rows:
            return Cursor()
        position, epoch, covered, units = rows[0]
        return Cursor(position, epoch, {(p, group): stop for p, group, stop in json.loads(covered)}, units)

    def event_rows(self, source: str, event_type: str) -> list[tuple[int, str]]:
        return self._select("SELECT id, name FROM events WHERE source=? AND type=?", source, event_type)

    def property_rows(self, event_id: int) -> list[tuple[int, str]]:
        return self._select("SELECT id, path FROM properties WHERE event_id=?", event_id)

    def violation_rows(self, source: str) -> list[tuple[int, ViolationKey]]:
        rows = self._select(
            "SELECT id, source, event_type, name, field, type, description FROM violations WHERE source=?", source
        )
        return [(row[0], row[1:]) for row in rows]

    def next_ids(self) -> tuple[int, int, int]:
        """Of events, properties and violations."""
        tables = ("events", "properties", "violations")
        event, prop, violation = (self._select(f"SELECT max(id) FROM {table}")[0][0] or 0 for table in tables)  # noqa: S608
        return event + 1, prop + 1, violation + 1

    def size_bytes(self) -> int:
        """Of the pages that are in use: those that were freed are used again."""
        [(pages,)], [(unused,)], [(page_bytes,)] = (
            self._select(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - unused) * page_bytes)

    # -- writing ---------------------------------------------------------------------------------------------------

    def commit(self, changes: Changes, *, samples_kept: int) -> None:
        """Counts and cursors, all or nothing."""
        with self._transaction():
            for name, statement in _UPSERTS:
                self._db.executemany(statement, getattr(changes, name))
            self._db.executemany(
                # By id: what came while the clock was ahead must not stay for as long as it was ahead.
                "DELETE FROM samples WHERE violation_id=?1 AND id NOT IN (SELECT id FROM samples WHERE violation_id=?1 "
                "ORDER BY id DESC LIMIT ?2)",
                [(violation_id, samples_kept) for violation_id in {row[0] for row in changes.samples}],
            )
            failpoint("schema.commit.between")
            self._db.executemany(
                "INSERT INTO skips VALUES (?,?,?,?)",
                [(skip.at_ms, skip.partition, skip.position, skip.events) for skip in changes.skips],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO cursors VALUES (?,?,?,?,?)",
                [
                    (
                        partition,
                        cursor.position,
                        cursor.epoch,
                        json.dumps([[*key, stop] for key, stop in cursor.covered.items()]),
                        cursor.units or 0,
                    )
                    for partition, cursor in changes.cursors.items()
                ],
            )
            failpoint("schema.commit.before")
        failpoint("schema.commit.after")

    def tidy(self, now_ms: int, retention_ms: int) -> int:
        """Forget what was not seen for so long, fold hours into days; how many events, properties and violations
        went. Call it between commits, and look everything up anew behind it."""
        gone = 0
        before_ms = now_ms - retention_ms
        for table in ("events", "properties", "violations"):
            while True:
                with self._transaction():
                    done = self._db.execute(
                        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE last_ms < ? LIMIT ?)",  # noqa: S608
                        (before_ms, _TIDY_STEP),
                    ).rowcount
                gone += done
                if done < _TIDY_STEP:
                    break
        today_ms = now_ms - now_ms % DAY_MS
        values = {"day": DAY_MS, "before": today_ms - HOURS_KEPT_MS, "oldest": today_ms - DAYS_KEPT * DAY_MS}
        with self._transaction():
            for statement in _FOLDS:
                self._db.execute(statement, values)
            # It never goes back as a clock may: hours that were folded stay so.
            self._db.execute(
                "INSERT INTO facts VALUES ('hours_since_ms', ?) "
                "ON CONFLICT DO UPDATE SET value=max(value, excluded.value)",
                (values["before"],),
            )
            self._db.execute("DELETE FROM skips WHERE at_ms < ?", (before_ms,))
            failpoint("schema.tidy.before_commit")
        return gone

    def close(self) -> None:
        self._db.close()
        os.close(self._lock_fd)

    def _select(self, query: str, *values: object) -> list[Any]:
        with self._errors("read"):
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. Raises SchemaFailed; then the same may be tried again."""
        with self._errors("write"), transaction(self._db):
            yield

    @contextlib.contextmanager
    def _errors(self, does: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SchemaFailed(
                f"{self._path}: cannot {does} the schema's database: {error}. {mend_of(error)}"
            ) from error


def _lock(path: Path) -> int:
    try:
        return lock_file(path)
    except BlockingIOError:
        raise SchemaLocked(f"{path}: another process writes this database. It ends with its supervisor; wait") from None
