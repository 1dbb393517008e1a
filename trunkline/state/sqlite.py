"""The embedded state store: one SQLite file (WAL, synchronous=FULL), one writing process.

Plain ``sqlite3``: the statements are few and hot. Schema changes are numbered ``schema_N.sql`` files applied in
order; ``PRAGMA user_version`` says which is in force.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import zstandard

from trunkline.failpoints import failpoint
from trunkline.sqlite import check_rights
from trunkline.state.base import (
    NAMES_PER_SOURCE,
    Attempt,
    BulkRow,
    Changes,
    Interval,
    LaneKey,
    LaneState,
    LatencyKey,
    LossKey,
    RecordRow,
    RetryRow,
    Sample,
    SourceKey,
    State,
    StateError,
    StateFull,
    StateTooNew,
)
from trunkline.state.sqlite_keys import CappedNames
from trunkline.state.sqlite_record import SqliteRecord
from trunkline.state.sqlite_tidy import tidy

SCHEMA_VERSION: Final = 2

_UPSERT_SOURCE_BOOK = (
    "INSERT INTO source_books VALUES (?,?,?,?,?,?) "
    "ON CONFLICT (source, type, name, outcome, reason) DO UPDATE SET count = count + excluded.count"
)
_UPSERT_SOURCE_TOTAL = (
    "INSERT INTO source_totals VALUES (?,?,?) "
    "ON CONFLICT (source, outcome) DO UPDATE SET count = count + excluded.count"
)
_UPSERT_LANE_BOOK = (
    "INSERT INTO lane_books VALUES (?,?,?,?,?) "
    "ON CONFLICT (destination, source, outcome, reason) DO UPDATE SET count = count + excluded.count"
)
_ROW_COLUMNS = (
    "destination, subscription, partition, place, message_id, source, type, name, received_at_ms, attempts, "
    "first_attempt_at_ms, due_at_ms, last_error, resume_stage, event"
)


class SqliteStateStore:
    """See :class:`trunkline.state.base.StateStore`."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open, create or migrate. Raises StateTooNew, StateFull, StateError (not a state file, or none when
        read only)."""
        self._path = path
        self._read_only = read_only
        if read_only and not path.exists():
            raise StateError(f"{path}: there is no state here; is this a data directory that has been served?")
        if not read_only:
            try:
                check_rights(path)
            except OSError as error:
                raise StateError(f"{path}: cannot be written: {error}. Mend the file's owner or rights") from error
        with self._opening():
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
        try:
            with self._opening():
                self._db.execute("PRAGMA busy_timeout=10000")
                if not read_only:
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.execute("PRAGMA synchronous=FULL")
                self._migrate()
        except BaseException:
            self._db.close()  # a migration that is under way is rolled back
            raise
        self._names = CappedNames(self._db, "name", NAMES_PER_SOURCE)
        self._record = SqliteRecord(self._db, self._names)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if _is_full(error):
                raise StateFull(f"{self._path}: no room to open the state: {error}") from error
            raise StateError(f"{self._path}: cannot open the state: {error}") from error

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StateTooNew(
                f"{self._path}: the state has schema {version}, this program knows {SCHEMA_VERSION}; "
                "run the newer version again, or restore the data directory's backup"
            )
        if version == SCHEMA_VERSION:
            return
        if self._read_only:
            raise StateError(f"{self._path}: the state has schema {version}; start `trunkline serve` to upgrade it")
        for number in range(version + 1, SCHEMA_VERSION + 1):
            script = resources.files("trunkline.state").joinpath(f"schema_{number}.sql").read_text("utf-8")
            self._db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};")
            failpoint("state.migrate.before")
            self._db.execute("COMMIT")
            failpoint("state.migrate.after")

    def commit(self, changes: Changes) -> None:
        with self._transaction():
            self._write(changes)
            self._record.write(changes)

    def tidy(self, now_ms: int) -> bool:
        with self._transaction():
            return tidy(self._db, self._record.keys, now_ms)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            yield
            failpoint("state.commit.before")
            db.execute("COMMIT")
            failpoint("state.commit.after")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):  # the error at hand says more
                if db.in_transaction:
                    db.execute("ROLLBACK")
            self._names.forget()
            self._record.forget()
            if _is_full(error):
                raise StateFull(f"{self._path}: no room for the state: {error}") from error
            if isinstance(error, sqlite3.Error):
                raise StateError(f"{self._path}: commit failed: {error}") from error
            raise

    def _write(self, changes: Changes) -> None:
        db = self._db
        if changes.source_cursors:
            db.executemany(
                "INSERT OR REPLACE INTO source_cursors VALUES (?,?,?)",
                [(p, group, position) for (p, group), position in changes.source_cursors.items()],
            )
        for partition, epoch in changes.epochs.items():
            db.execute(
                "INSERT INTO accepted_cursors VALUES (?,0,?) "
                "ON CONFLICT (partition) DO UPDATE SET epoch = excluded.epoch",
                (partition, epoch),
            )
        for partition, position in changes.accepted.items():
            db.execute(
                "INSERT INTO accepted_cursors VALUES (?,?,0) "
                "ON CONFLICT (partition) DO UPDATE SET position = excluded.position",
                (partition, position),
            )
        if changes.source_books:
            self._write_source_books(changes.source_books)
        if changes.lane_books:
            db.executemany(
                _UPSERT_LANE_BOOK,
                [(k.destination, k.source, k.outcome, k.reason, n) for k, n in changes.lane_books.items()],
            )
        if changes.lanes:
            gone = [key for key, lane in changes.lanes.items() if lane is None]
            kept = [
                (*key, lane.mark, json.dumps(lane.settled)) for key, lane in changes.lanes.items() if lane is not None
            ]
            db.executemany("DELETE FROM lanes WHERE destination=? AND partition=?", gone)
            db.executemany("INSERT OR REPLACE INTO lanes VALUES (?,?,?,?)", kept)
        if changes.rows:
            self._write_rows(changes.rows)
        for interval in changes.opened:
            db.execute(
                "INSERT INTO intervals (id, destination, source, opened_at_ms, open_place, open_received, "
                "open_books) VALUES (?,?,?,?,?,?,?)",
                (
                    interval.id,
                    interval.destination,
                    interval.source,
                    interval.opened_at_ms,
                    interval.open_place,
                    json.dumps(dict(interval.open_received)),
                    json.dumps(dict(interval.open_books)),
                ),
            )
        for interval in changes.closed:
            db.execute(
                "UPDATE intervals SET closed_at_ms=?, close_place=?, close_received=?, close_books=? WHERE id=?",
                (
                    interval.closed_at_ms,
                    interval.close_place,
                    json.dumps(dict(interval.close_received or {})),
                    json.dumps(dict(interval.close_books or {})),
                    interval.id,
                ),
            )
        if changes.snapshot is not None:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('snapshot', ?)", (changes.snapshot,))

    def _write_source_books(self, books: Mapping[SourceKey, int]) -> None:
        totals: dict[tuple[str, str], int] = {}
        rows = []
        for key, count in books.items():
            totals[key.source, key.outcome] = totals.get((key.source, key.outcome), 0) + count
            name = self._names.settle(key.source, key.name)
            rows.append((key.source, key.type, name, key.outcome, key.reason, count))
        self._db.executemany(_UPSERT_SOURCE_BOOK, rows)
        self._db.executemany(_UPSERT_SOURCE_TOTAL, [(s, outcome, n) for (s, outcome), n in totals.items()])

    def _write_rows(self, rows: Mapping[tuple[str, str, str, int], RetryRow | None]) -> None:
        gone = [key for key, row in rows.items() if row is None]
        if gone:
            self._db.executemany(
                "DELETE FROM retries WHERE destination=? AND subscription=? AND partition=? AND place=?", gone
            )
        kept = [self._row_values(row) for row in rows.values() if row is not None]
        if kept:
            self._db.executemany(
                f"INSERT OR REPLACE INTO retries ({_ROW_COLUMNS}) "  # noqa: S608 - constant column list
                "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                kept,
            )

    def _row_values(self, row: RetryRow) -> tuple[Any, ...]:
        return (
            row.destination,
            row.subscription,
            row.partition,
            row.place,
            row.message_id,
            row.source,
            row.type,
            row.name,
            row.received_at_ms,
            row.attempts,
            row.first_attempt_at_ms,
            row.due_at_ms,
            row.last_error,
            row.resume_stage,
            self._compressor.compress(row.event),
        )

    def read(self) -> State:
        db = self._db
        try:
            db.execute("BEGIN")
            try:
                return State(
                    source_cursors={
                        (p, g): n for p, g, n in db.execute("SELECT partition, intake, position FROM source_cursors")
                    },
                    accepted=dict(db.execute("SELECT partition, position FROM accepted_cursors").fetchall()),
                    epochs=dict(db.execute("SELECT partition, epoch FROM accepted_cursors").fetchall()),
                    source_totals=self._read_totals("SELECT source, outcome, count FROM source_totals"),
                    source_book_totals=self._read_totals(
                        "SELECT source, outcome, sum(count) FROM source_books GROUP BY source, outcome"
                    ),
                    lane_books={
                        LaneKey(*row[:4]): row[4]
                        for row in db.execute("SELECT destination, source, outcome, reason, count FROM lane_books")
                    },
                    lanes={
                        (d, p): LaneState(d, p, mark, tuple((a, b) for a, b in json.loads(settled)))
                        for d, p, mark, settled in db.execute("SELECT * FROM lanes")
                    },
                    intervals=tuple(_interval(row) for row in db.execute("SELECT * FROM intervals ORDER BY id")),
                    row_counts={
                        (d, s): n
                        for d, s, n in db.execute(
                            "SELECT destination, source, count(*) FROM retries GROUP BY destination, source"
                        )
                    },
                    snapshot=next((v for (v,) in db.execute("SELECT value FROM facts WHERE key='snapshot'")), None),
                    bulk=tuple(self._record.bulk_rows()),
                )
            finally:
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StateError(f"{self._path}: cannot read the state: {error}") from error

    def _read_totals(self, query: str) -> dict[str, dict[str, int]]:
        totals: dict[str, dict[str, int]] = {}
        for source, outcome, count in self._db.execute(query):
            totals.setdefault(source, {})[outcome] = count
        return totals

    def rows(self, destination: str) -> Iterable[RetryRow]:
        return self._read_rows("destination=? ORDER BY due_at_ms", destination)

    def row_of(self, message_id: str) -> list[RetryRow]:
        return self._read_rows("message_id=? ORDER BY destination, subscription, place", message_id)

    def _read_rows(self, which: str, value: str) -> list[RetryRow]:
        with self._reading():
            found = self._db.execute(
                f"SELECT {_ROW_COLUMNS} FROM retries WHERE {which}",  # noqa: S608 - constant texts
                (value,),
            ).fetchall()
        return [self._row(row) for row in found]

    def _row(self, row: tuple[Any, ...]) -> RetryRow:
        values = (*row[:-1], self._decompressor.decompress(row[-1]))
        return RetryRow(*values)

    def source_books(self) -> Mapping[SourceKey, int]:
        with self._reading():
            return {
                SourceKey(*row[:5]): row[5]
                for row in self._db.execute("SELECT source, type, name, outcome, reason, count FROM source_books")
            }

    def record(
        self, since_ms: int, until_ms: int, *, destination: str | None = None, source: str | None = None
    ) -> Iterator[RecordRow]:
        with self._reading():
            yield from self._record.record(since_ms, until_ms, destination=destination, source=source)

    def latencies(self, since_ms: int, until_ms: int, *, destination: str | None = None) -> Mapping[LatencyKey, int]:
        with self._reading():
            return self._record.latencies(since_ms, until_ms, destination=destination)

    def losses(self, since_ms: int, *, destination: str | None = None) -> Mapping[LossKey, int]:
        with self._reading():
            return self._record.losses(since_ms, destination=destination)

    def attempts_of(self, message_id: str) -> list[Attempt]:
        with self._reading():
            return self._record.attempts_of(message_id)

    def attempts_at(self, destination: str, partition: str, place: int) -> list[Attempt]:
        with self._reading():
            return self._record.attempts_at(destination, partition, place)

    def samples(self, destination: str | None = None, reason: str | None = None) -> list[Sample]:
        with self._reading():
            return self._record.samples(destination, reason)

    def bulk_rows(self, destination: str) -> list[BulkRow]:
        with self._reading():
            return self._record.bulk_rows(destination)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(f"{self._path}: cannot read the state: {error}") from error

    def close(self) -> None:
        self._db.close()


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) or (isinstance(error, sqlite3.Error) and "full" in str(error))


def _interval(row: tuple[Any, ...]) -> Interval:
    return Interval(
        id=row[0],
        destination=row[1],
        source=row[2],
        opened_at_ms=row[3],
        open_place=row[4],
        open_received=json.loads(row[5]),
        open_books=json.loads(row[6]),
        closed_at_ms=row[7],
        close_place=row[8],
        close_received=json.loads(row[9]) if row[9] is not None else None,
        close_books=json.loads(row[10]) if row[10] is not None else None,
    )
