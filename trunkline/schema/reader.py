"""Reading what was seen. Any process may, at any time; a reader may be made before there is a database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trunkline.schema.database import mend_of, open_database
from trunkline.schema.errors import SchemaFailed
from trunkline.schema.limits import DAY_MS, HOUR_MS
from trunkline.schema.paths import type_names


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """``name``: of a track event, page or screen, else empty. ``blocked`` is the sum of ``reasons``. ``sampled``: the
    counts of its properties are estimates. Times are receivedAt, of all time; counts are of the time asked for."""

    source: str
    type: str
    name: str
    first_ms: int
    last_ms: int
    allowed: int
    reasons: dict[str, int]
    sampled: bool

    @property
    def blocked(self) -> int:
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True)
class SeenProperty:
    """``blocked``: with the whole event, or taken out because of a violation; ``omitted``: taken out as unplanned."""

    path: str
    types: tuple[str, ...]
    first_ms: int
    last_ms: int
    allowed: int
    blocked: int
    omitted: int


@dataclass(frozen=True, slots=True)
class ViolationSample:
    """``body`` holds the first bytes of an event of ``size_bytes``: as it was accepted, or ingested if ``blocked``."""

    received_at_ms: int
    message_id: str
    blocked: bool
    size_bytes: int
    body: bytes


@dataclass(frozen=True, slots=True)
class SeenViolation:
    """``type`` such as ``Required``, ``event_type`` such as ``track``. ``count`` is of the time asked for."""

    source: str
    event_type: str
    name: str
    field: str
    type: str
    description: str
    first_ms: int
    last_ms: int
    count: int
    samples: tuple[ViolationSample, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockedEvents:
    """Events of one name that the source kept back for one reason. ``count`` is of the time asked for."""

    source: str
    type: str
    name: str
    reason: str
    last_ms: int
    count: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Accepted events that the observer missed, ever, because the log did not hold them any more."""

    events: int
    last_ms: int


class SchemaReader:
    """Every method raises SchemaFailed or SchemaTooNew; without a database there is nothing.

    ``since_ms`` bounds counts: to the hour in which that moment lies if it is within the last two days, else to the UTC
    day; for counts of properties to the day. Only what was seen since is listed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """Whether anything was ever observed here."""
        return self._path.exists()

    def events(
        self,
        *,
        source: str | None = None,
        event_type: str | None = None,
        name: str | None = None,
        since_ms: int | None = None,
    ) -> list[SeenEvent]:
        """By source, type and name."""
        where, values = _where(since_ms, source=source, type=event_type, name=name)
        if since_ms is None:
            counts = "SELECT event_id, reason, count FROM outcomes"
        else:
            counts = "SELECT event_id, reason, sum(count) AS count FROM event_counts WHERE bucket_ms >= ? GROUP BY 1, 2"
            values = [self._bucket(since_ms), *values]
        rows = self._select(
            f"WITH c AS ({counts}) SELECT source, type, name, first_ms, last_ms, sampled, reason, count "  # noqa: S608
            f"FROM events JOIN c ON c.event_id = events.id WHERE {where} ORDER BY source, type, name, reason",
            values,
        )
        found: dict[tuple[str, str, str], SeenEvent] = {}
        for *key, first_ms, last_ms, sampled, reason, count in rows:
            at = (key[0], key[1], key[2])
            before = found.get(at) or SeenEvent(*at, first_ms, last_ms, 0, {}, bool(sampled))
            if reason:
                before.reasons[reason] = count
                found[at] = before
            else:
                found[at] = SeenEvent(*at, first_ms, last_ms, count, before.reasons, bool(sampled))
        return list(found.values())

    def properties(self, source: str, event_type: str, name: str, *, since_ms: int | None = None) -> list[SeenProperty]:
        """Of one event (traits of identify and group calls, whose name is empty), by path."""
        values: list[Any] = [source, event_type, name]
        if since_ms is None:
            counted, join = "allowed, blocked, omitted", ""
        else:
            counted = "d.allowed, d.blocked, d.omitted"
            join = (
                "JOIN (SELECT property_id, sum(allowed) AS allowed, sum(blocked) AS blocked, sum(omitted) AS omitted "
                "FROM property_days WHERE day_ms >= ? GROUP BY 1) AS d ON d.property_id = p.id "
            )
            values.insert(0, since_ms - since_ms % DAY_MS)
        rows = self._select(
            f"SELECT path, types, first_ms, last_ms, {counted} FROM properties AS p {join}"  # noqa: S608
            "WHERE event_id = (SELECT id FROM events WHERE source=? AND type=? AND name=?) ORDER BY path",
            values,
        )
        return [SeenProperty(row[0], type_names(row[1]), *row[2:]) for row in rows]

    def violations(
        self, *, source: str | None = None, since_ms: int | None = None, samples: bool = False
    ) -> list[SeenViolation]:
        """The most frequent of each source first."""
        where, values = _where(since_ms, source=source)
        counted = "count"
        if since_ms is not None:
            counted = "(SELECT sum(count) FROM violation_counts WHERE violation_id = v.id AND bucket_ms >= ?) AS count"
            values = [self._bucket(since_ms), *values]
        rows = self._select(
            f"SELECT id, source, event_type, name, field, type, description, first_ms, last_ms, {counted} "  # noqa: S608
            f"FROM violations AS v WHERE {where} ORDER BY source, 10 DESC, id",
            values,
        )
        found = [(row[0], SeenViolation(*row[1:])) for row in rows if row[-1]]
        return [replace(one, samples=self._samples(row_id)) if samples else one for row_id, one in found]

    def _samples(self, violation_id: int) -> tuple[ViolationSample, ...]:
        rows = self._select(
            "SELECT received_at_ms, message_id, blocked, size_bytes, body FROM samples WHERE violation_id=? "
            "ORDER BY received_at_ms DESC, id DESC",
            [violation_id],
        )
        return tuple(ViolationSample(row[0], row[1], bool(row[2]), row[3], row[4]) for row in rows)

    def blocked(self, *, source: str | None = None, since_ms: int | None = None) -> list[BlockedEvents]:
        """The most frequent of each source first."""
        where, values = _where(None, source=source)
        counted = "o.count"
        if since_ms is not None:
            counted = (
                "(SELECT sum(count) FROM event_counts AS c WHERE c.event_id = o.event_id AND c.reason = o.reason "
                "AND bucket_ms >= ?)"
            )
            values = [self._bucket(since_ms), *values]
        rows = self._select(
            f"SELECT source, type, name, reason, o.last_ms, {counted} FROM outcomes AS o "  # noqa: S608
            f"JOIN events ON events.id = o.event_id WHERE reason != '' AND {where} ORDER BY source, 6 DESC, name",
            values,
        )
        return [BlockedEvents(*row) for row in rows if row[-1]]

    def skipped(self) -> Skipped | None:
        """What was missed; None if nothing was."""
        [(events, last_ms)] = self._select("SELECT sum(events), max(at_ms) FROM skips", []) or [(None, None)]
        return Skipped(events, last_ms) if events else None

    def _bucket(self, since_ms: int) -> int:
        """The start of the oldest count that reaches to this moment or beyond."""
        rows = self._select("SELECT value FROM facts WHERE key='hours_since_ms'", [])
        span_ms = DAY_MS if rows and since_ms < rows[0][0] else HOUR_MS
        return since_ms - since_ms % span_ms

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        if not self.exists:
            return []
        try:
            with contextlib.closing(open_database(self._path, read_only=True)) as db:
                return db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise SchemaFailed(f"{self._path}: cannot read the schema's database: {error}. {mend_of(error)}") from error


def _where(since_ms: int | None, **columns: str | None) -> tuple[str, list[Any]]:
    where, values = ["1"], list[Any]()
    for column, value in columns.items():
        if value is not None:
            where.append(f"{column} = ?")
            values.append(value)
    if since_ms is not None:
        where.append("last_ms >= ?")
        values.append(since_ms)
    return " AND ".join(where), values
