"""The embedded state store: one SQLite file (WAL, synchronous=FULL), one writing process.

Plain ``sqlite3``: the statements are few and hot. Schema changes are numbered ``schema_N.sql`` files applied in
order; ``PRAGMA user_version`` says which is in force.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import zstandard

from trunkline.failpoints import failpoint
from trunkline.state.base import (
    Changes,
    Interval,
    LaneKey,
    LaneState,
    RetryRow,
    SourceKey,
    State,
    StateError,
    StateFull,
    StateTooNew,
)

SCHEMA_VERSION: Final = 1
NAMES_PER_SOURCE: Final = 1000
OTHER_NAME: Final = "$other"

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
        """Open, create or migrate. Raises StateTooNew, StateError (not a state file, or none when read only)."""
        self._path = path
        self._read_only = read_only
        self._names: dict[str, set[str]] = {}
        if read_only and not path.exists():
            raise StateError(f"{path}: there is no state here; is this a data directory that has been served?")
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
            self._db.execute("PRAGMA busy_timeout=10000")
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except sqlite3.Error as error:
            raise StateError(f"{path}: cannot open the state: {error}") from error
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

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
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            self._write(changes)
            failpoint("state.commit.before")
            db.execute("COMMIT")
            failpoint("state.commit.after")
        except (sqlite3.Error, OSError) as error:
            with contextlib.suppress(sqlite3.Error):  # the error at hand says more
                if db.in_transaction:
                    db.execute("ROLLBACK")
            self._names.clear()
            if "full" in str(error) or isinstance(error, OSError):
                raise StateFull(f"{self._path}: no room for the state: {error}") from error
            raise StateError(f"{self._path}: commit failed: {error}") from error

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
        for (destination, partition), lane in changes.lanes.items():
            if lane is None:
                db.execute("DELETE FROM lanes WHERE destination=? AND partition=?", (destination, partition))
            else:
                db.execute(
                    "INSERT OR REPLACE INTO lanes VALUES (?,?,?,?)",
                    (destination, partition, lane.mark, json.dumps(lane.settled)),
                )
        for key, row in changes.rows.items():
            if row is None:
                db.execute(
                    "DELETE FROM retries WHERE destination=? AND subscription=? AND partition=? AND place=?",
                    key,
                )
            else:
                db.execute(
                    f"INSERT OR REPLACE INTO retries ({_ROW_COLUMNS}) "  # noqa: S608 - constant column list
                    "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    self._row_values(row),
                )
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
            name = key.name if self._knows_name(key.source, key.name) else OTHER_NAME
            rows.append((key.source, key.type, name, key.outcome, key.reason, count))
        self._db.executemany(_UPSERT_SOURCE_BOOK, rows)
        self._db.executemany(_UPSERT_SOURCE_TOTAL, [(s, outcome, n) for (s, outcome), n in totals.items()])

    def _knows_name(self, source: str, name: str) -> bool:
        """Whether the name has, or can still get, a key of its own: the keys are capped, the totals are not."""
        names = self._names.get(source)
        if names is None:
            found = self._db.execute("SELECT DISTINCT name FROM source_books WHERE source=?", (source,))
            names = self._names[source] = {row[0] for row in found}
        if name in names:
            return True
        if len(names) >= NAMES_PER_SOURCE:
            return False
        names.add(name)
        return True

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
        found = self._db.execute(
            f"SELECT {_ROW_COLUMNS} FROM retries WHERE destination=? ORDER BY due_at_ms",  # noqa: S608
            (destination,),
        )
        for row in found.fetchall():
            values = (*row[:-1], self._decompressor.decompress(row[-1]))
            yield RetryRow(*values)

    def source_books(self) -> Mapping[SourceKey, int]:
        return {
            SourceKey(*row[:5]): row[5]
            for row in self._db.execute("SELECT source, type, name, outcome, reason, count FROM source_books")
        }

    def close(self) -> None:
        self._db.close()


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
