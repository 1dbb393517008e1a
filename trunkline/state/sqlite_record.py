"""The delivery record in a SQLite state: how it is written with a commit, and how it is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final

from trunkline.state.base import (
    APP_VERSIONS_PER_SOURCE,
    SAMPLES_PER_REASON,
    Attempt,
    BulkRow,
    Changes,
    LatencyKey,
    LossKey,
    RecordCounts,
    RecordKey,
    RecordRow,
    Sample,
)
from trunkline.state.sqlite_keys import MINUTES_A_DAY, CappedNames, KeyIds

MINUTE_MS: Final = 60_000
HOUR: Final = 60
"""Minutes, and the grain of the rows that were summed up."""

_KEY_COLUMNS = ("destination", "source", "subscription", "type", "name", "app_version", "outcome", "reason")
_UPSERT_RECORD = (
    "INSERT INTO delivery_record VALUES (1,?,?,?,?,?,?) ON CONFLICT (grain, minute, key) DO UPDATE SET "
    "events = events + excluded.events, first = first + excluded.first, retries = retries + excluded.retries, "
    "requests = requests + excluded.requests"
)
_UPSERT_LATENCY = (
    "INSERT INTO latencies VALUES (1,?,?,?,?) "
    "ON CONFLICT (grain, minute, key, bucket) DO UPDATE SET events = events + excluded.events"
)
_UPSERT_LOSS = (
    "INSERT INTO losses (destination, source, received_minute, reason, events) VALUES (?,?,?,?,?) "
    "ON CONFLICT (received_minute, destination, source, reason) DO UPDATE SET events = events + excluded.events"
)
_ATTEMPT_COLUMNS = (
    "destination, subscription, partition, place, last_place, message_id, number, at_ms, outcome, reason, detail"
)
_INSERT_ATTEMPT = f"INSERT INTO attempts ({_ATTEMPT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
_UPSERT_ATTEMPT_COUNT = (
    "INSERT INTO attempt_counts VALUES (?,?) ON CONFLICT (destination) DO UPDATE SET count = count + excluded.count"
)
_SAMPLE_COLUMNS = "destination, reason, at_ms, message_id, sent, request, response"
_INSERT_SAMPLE = f"INSERT INTO samples ({_SAMPLE_COLUMNS}) VALUES (?,?,?,?,?,?,?)"  # noqa: S608
_TRIM_SAMPLES = (
    "DELETE FROM samples WHERE destination=? AND reason=? AND id NOT IN (SELECT id FROM samples "
    "WHERE destination=? AND reason=? ORDER BY at_ms DESC, id DESC LIMIT ?)"
)
_BULK_COLUMNS = (
    "destination, partition, place, end_place, open, file, size_bytes, events, opened_at_ms, attempts, "
    "first_attempt_at_ms, due_at_ms, last_error"
)
_REPLACE_BULK = f"INSERT OR REPLACE INTO bulk ({_BULK_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608


class SqliteRecord:
    """The tables of the delivery record and of bulk batches on the store's connection. Errors are sqlite3's."""

    def __init__(self, db: sqlite3.Connection, names: CappedNames) -> None:
        self._db = db
        self._names = names
        self._versions = CappedNames(db, "app_version", APP_VERSIONS_PER_SOURCE)
        self._keys = KeyIds(db, "record_keys", _KEY_COLUMNS)
        self._lanes = KeyIds(db, "record_lanes", ("destination", "source"))

    def forget(self) -> None:
        """What was written was rolled back."""
        self._versions.forget()
        self._keys.forget()
        self._lanes.forget()

    @property
    def keys(self) -> tuple[KeyIds, KeyIds]:
        """The keys of all counters."""
        return self._keys, self._lanes

    # -- writing, within the store's transaction --

    def write(self, changes: Changes) -> None:
        db = self._db
        if changes.bulk:
            self._write_bulk(changes.bulk)
        if changes.record:
            db.executemany(_UPSERT_RECORD, self._record_values(changes.record))
        if changes.latencies:
            lane_of = self._lanes.id_of
            db.executemany(
                _UPSERT_LATENCY,
                [
                    (minute, lane_of((destination, source), minute), bucket, events)
                    for (minute, destination, source, bucket), events in changes.latencies.items()
                ],
            )
        if changes.losses:
            db.executemany(_UPSERT_LOSS, [(*key, events) for key, events in changes.losses.items()])
        if changes.attempts:
            self._write_attempts(changes.attempts)
        if changes.samples:
            self._write_samples(changes.samples)

    def _record_values(self, record: Mapping[RecordKey, RecordCounts]) -> list[tuple[int, int, int, int, int, int]]:
        name_of, version_of, id_of = self._names.settle, self._versions.settle, self._keys.id_of
        values = []
        for key, counts in record.items():
            minute, destination, source, subscription, type, name, app_version, outcome, reason = key
            name, app_version = name_of(source, name), version_of(source, app_version)
            id = id_of((destination, source, subscription, type, name, app_version, outcome, reason), minute)
            values.append((minute, id, counts.events, counts.first, counts.retries, counts.requests))
        return values

    def _write_attempts(self, attempts: list[Attempt]) -> None:
        counts: dict[str, int] = {}
        values = []
        for a in attempts:
            counts[a.destination] = counts.get(a.destination, 0) + 1
            span = (a.destination, a.subscription, a.partition, a.place, a.last_place)
            values.append((*span, a.message_id, a.number, a.at_ms, a.outcome, a.reason, a.detail))
        self._db.executemany(_INSERT_ATTEMPT, values)
        self._db.executemany(_UPSERT_ATTEMPT_COUNT, list(counts.items()))

    def _write_samples(self, samples: list[Sample]) -> None:
        newest: dict[tuple[str, str], list[Sample]] = {}
        for sample in samples:
            newest.setdefault((sample.destination, sample.reason), []).append(sample)
        for key, found in newest.items():
            newest[key] = sorted(found, key=lambda sample: sample.at_ms)[-SAMPLES_PER_REASON:]
        self._db.executemany(
            _INSERT_SAMPLE,
            [
                (s.destination, s.reason, s.at_ms, s.message_id, s.sent, s.request, s.response)
                for found in newest.values()
                for s in found
            ],
        )
        self._db.executemany(_TRIM_SAMPLES, [(*key, *key, SAMPLES_PER_REASON) for key in newest])

    def _write_bulk(self, rows: Mapping[tuple[str, str, int], BulkRow | None]) -> None:
        gone = [key for key, row in rows.items() if row is None]
        if gone:
            self._db.executemany("DELETE FROM bulk WHERE destination=? AND partition=? AND place=?", gone)
        kept = [_bulk_values(row) for row in rows.values() if row is not None]
        if kept:
            self._db.executemany(_REPLACE_BULK, kept)

    # -- reading --

    def record(
        self, since_ms: int, until_ms: int, *, destination: str | None, source: str | None
    ) -> Iterator[RecordRow]:
        conditions = ""
        filters: list[Any] = []
        for column, value in (("destination", destination), ("source", source)):
            if value is not None:
                conditions += f" AND k.{column}=?"
                filters.append(value)
        columns = ", ".join(f"k.{column}" for column in _KEY_COLUMNS)
        query = _both_grains(
            "delivery_record",
            "record_keys",
            f"{columns}, r.events, r.first, r.retries, r.requests",
            conditions,
            by_key=destination is not None,
        )
        for minutes, hours in self._stretches("delivery_record", since_ms, until_ms):
            for row in self._db.execute(query, (*minutes, *filters, *hours, *filters)).fetchall():
                yield RecordRow(RecordKey(*row[1:10]), RecordCounts(*row[10:]), row[0])

    def latencies(self, since_ms: int, until_ms: int, *, destination: str | None) -> dict[LatencyKey, int]:
        conditions, filters = ("", ()) if destination is None else (" AND k.destination=?", (destination,))
        query = _both_grains(
            "latencies",
            "record_lanes",
            "k.destination, k.source, r.bucket, r.events",
            conditions,
            by_key=destination is not None,
        )
        found: dict[LatencyKey, int] = {}
        for minutes, hours in self._stretches("latencies", since_ms, until_ms):
            for row in self._db.execute(query, (*minutes, *filters, *hours, *filters)).fetchall():
                key = LatencyKey(*row[1:5])
                found[key] = found.get(key, 0) + row[5]
        return found

    def _stretches(self, table: str, since_ms: int, until_ms: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """The range in steps, each short enough for one snapshot: [from, to) of the minutes and of the hours to read.

        Steps end where hours end: a minute's row moves within its hour only, so that no step sees it twice or misses
        it, whatever is summed up between two steps.
        """
        ((first_minute, last_minute, first_hour, last_hour),) = self._db.execute(
            f"SELECT (SELECT min(minute) FROM {table} WHERE grain=1), (SELECT max(minute) FROM {table} WHERE grain=1), "  # noqa: S608
            f"(SELECT min(minute) FROM {table} WHERE grain=60), (SELECT max(minute) FROM {table} WHERE grain=60)"
        ).fetchall()
        firsts = [minute for minute in (first_minute, first_hour) if minute is not None]
        lasts = [minute for minute in (last_minute, last_hour) if minute is not None]
        if not firsts:
            return
        since = max(since_ms // MINUTE_MS, min(firsts))
        until = min(-(-until_ms // MINUTE_MS), max(lasts) + HOUR)
        start = since - since % HOUR
        while start < until:
            by_minutes = first_minute is not None and start + MINUTES_A_DAY > first_minute
            end = start + (HOUR if by_minutes else MINUTES_A_DAY)
            yield (max(start, since), min(end, until)), (start, min(end, until))
            start = end

    def losses(self, since_ms: int, *, destination: str | None) -> dict[LossKey, int]:
        query = "SELECT destination, source, received_minute, reason, events FROM losses WHERE received_minute >= ?"
        values: tuple[Any, ...] = (since_ms // MINUTE_MS,)
        if destination is not None:
            query += " AND destination=?"
            values += (destination,)
        return {LossKey(*row[:4]): row[4] for row in self._db.execute(query, values).fetchall()}

    def attempts_of(self, message_id: str) -> list[Attempt]:
        found = self._db.execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM attempts WHERE message_id=? AND message_id <> '' ORDER BY at_ms, id",  # noqa: S608
            (message_id,),
        )
        return [Attempt(*row) for row in found.fetchall()]

    def attempts_at(self, destination: str, partition: str, place: int) -> list[Attempt]:
        found = self._db.execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM attempts WHERE id IN ("  # noqa: S608 - constant column list
            "SELECT id FROM attempts INDEXED BY attempts_by_place WHERE destination=? AND place=? "
            "UNION SELECT id FROM attempts INDEXED BY attempts_of_bulk "
            "WHERE last_place > place AND destination=? AND place <= ? AND last_place >= ?"
            ") AND partition=? ORDER BY at_ms, id",
            (destination, place, destination, place, place, partition),
        )
        return [Attempt(*row) for row in found.fetchall()]

    def samples(self, destination: str | None, reason: str | None) -> list[Sample]:
        conditions, values = [], []
        for column, value in (("destination", destination), ("reason", reason)):
            if value is not None:
                conditions.append(f"{column}=?")
                values.append(value)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        found = self._db.execute(
            f"SELECT {_SAMPLE_COLUMNS} FROM samples{where} ORDER BY at_ms DESC, id DESC",  # noqa: S608
            values,
        )
        return [Sample(*row) for row in found.fetchall()]

    def bulk_rows(self, destination: str | None = None) -> list[BulkRow]:
        """Of one destination, or all."""
        where, values = ("", ()) if destination is None else (" WHERE destination=?", (destination,))
        found = self._db.execute(
            f"SELECT {_BULK_COLUMNS} FROM bulk{where} ORDER BY destination, partition, place",  # noqa: S608
            values,
        )
        return [_bulk_row(row) for row in found.fetchall()]


def _both_grains(table: str, keys: str, columns: str, conditions: str, *, by_key: bool) -> str:
    """A query for the rows of minutes and of hours in one snapshot. ``by_key``: few keys match, so hours are looked up
    by key; minutes have no such index."""
    minutes = f"{table} r CROSS JOIN {keys} k ON k.id=r.key"
    hours = f"{keys} k CROSS JOIN {table} r INDEXED BY {table}_by_key ON r.key=k.id" if by_key else minutes
    return " UNION ALL ".join(
        f"SELECT r.grain, r.minute, {columns} FROM {joined} "  # noqa: S608 - constant names
        f"WHERE r.grain={grain} AND r.minute >= ? AND r.minute < ?{conditions}"
        for grain, joined in ((1, minutes), (HOUR, hours))
    )


def _bulk_values(row: BulkRow) -> tuple[Any, ...]:
    return (
        row.destination,
        row.partition,
        row.place,
        row.end_place,
        int(row.open),
        row.file,
        row.size_bytes,
        json.dumps(dict(row.events)),
        row.opened_at_ms,
        row.attempts,
        row.first_attempt_at_ms,
        row.due_at_ms,
        row.last_error,
    )


def _bulk_row(row: tuple[Any, ...]) -> BulkRow:
    values = (*row[:4], bool(row[4]), *row[5:7], json.loads(row[7]), *row[8:])
    return BulkRow(*values)
