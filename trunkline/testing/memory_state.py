"""The state store's twin in memory: the same contract without a disk, and a way to refuse commits."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator, Mapping

from trunkline.state.base import (
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
)
from trunkline.testing.memory_record import MemoryRecord


@dataclasses.dataclass(slots=True)
class _Tables:
    source_cursors: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    accepted: dict[str, int] = dataclasses.field(default_factory=dict)
    epochs: dict[str, int] = dataclasses.field(default_factory=dict)
    source_books: dict[SourceKey, int] = dataclasses.field(default_factory=dict)
    lane_books: dict[LaneKey, int] = dataclasses.field(default_factory=dict)
    lanes: dict[tuple[str, str], LaneState] = dataclasses.field(default_factory=dict)
    rows: dict[tuple[str, str, str, int], RetryRow] = dataclasses.field(default_factory=dict)
    intervals: dict[int, Interval] = dataclasses.field(default_factory=dict)
    snapshot: str | None = None
    record: MemoryRecord = dataclasses.field(default_factory=MemoryRecord)


class MemoryStateStore:
    """See :class:`trunkline.state.base.StateStore`. One process; commits may come from any thread, one at a time.

    ``full``: while it is True, commits raise StateFull. ``commits`` counts those that succeeded. :meth:`reopen` gives
    what a successor would find after this owner was killed.
    """

    def __init__(self) -> None:
        self.full = False
        self.commits = 0
        self._tables = _Tables()
        self._closed = False
        self._lock = threading.RLock()

    def reopen(self) -> MemoryStateStore:
        """A new owner's store on the committed state. This one can't commit any more."""
        successor = MemoryStateStore()
        with self._lock:
            successor._tables = self._tables
            self._closed = True
        return successor

    def commit(self, changes: Changes) -> None:
        with self._writing():
            taken = [interval.id for interval in changes.opened if interval.id in self._tables.intervals]
            if taken:
                raise StateError(f"interval {taken[0]} exists already")
            _apply(self._tables, changes)
            self.commits += 1

    def tidy(self, now_ms: int) -> bool:
        """All at once: there is never more left."""
        with self._writing():
            self._tables.record.tidy(now_ms)
        return False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StateError("the state is closed")
            if self.full:
                raise StateFull("no room for the state")
            yield

    def read(self) -> State:
        with self._lock:
            return _read(self._tables)

    def rows(self, destination: str) -> Iterable[RetryRow]:
        with self._lock:
            found = [row for row in self._tables.rows.values() if row.destination == destination]
        return iter(sorted(found, key=lambda row: row.due_at_ms))

    def source_books(self) -> Mapping[SourceKey, int]:
        with self._lock:
            return dict(self._tables.source_books)

    def record(
        self, since_ms: int, until_ms: int, *, destination: str | None = None, source: str | None = None
    ) -> Iterator[RecordRow]:
        with self._lock:
            return iter(list(self._tables.record.record(since_ms, until_ms, destination=destination, source=source)))

    def latencies(self, since_ms: int, until_ms: int, *, destination: str | None = None) -> Mapping[LatencyKey, int]:
        with self._lock:
            return self._tables.record.latencies(since_ms, until_ms, destination=destination)

    def losses(self, since_ms: int, *, destination: str | None = None) -> Mapping[LossKey, int]:
        with self._lock:
            return self._tables.record.losses(since_ms, destination=destination)

    def attempts_of(self, message_id: str) -> list[Attempt]:
        with self._lock:
            return self._tables.record.attempts_of(message_id)

    def attempts_at(self, destination: str, partition: str, place: int) -> list[Attempt]:
        with self._lock:
            return self._tables.record.attempts_at(destination, partition, place)

    def samples(self, destination: str | None = None, reason: str | None = None) -> list[Sample]:
        with self._lock:
            return self._tables.record.samples(destination, reason)

    def bulk_rows(self, destination: str) -> list[BulkRow]:
        with self._lock:
            return [row for row in _bulk_rows(self._tables) if row.destination == destination]

    def row_of(self, message_id: str) -> list[RetryRow]:
        with self._lock:
            found = [row for row in self._tables.rows.values() if row.message_id == message_id]
        return sorted(found, key=lambda row: (row.destination, row.subscription, row.place))

    def close(self) -> None:
        self._closed = True


def _bulk_rows(tables: _Tables) -> list[BulkRow]:
    return [tables.record.bulk[key] for key in sorted(tables.record.bulk)]


def _read(tables: _Tables) -> State:
    totals: dict[str, dict[str, int]] = {}
    for key, count in tables.source_books.items():
        outcomes = totals.setdefault(key.source, {})
        outcomes[key.outcome] = outcomes.get(key.outcome, 0) + count
    row_counts: dict[tuple[str, str], int] = {}
    for row in tables.rows.values():
        row_counts[row.destination, row.source] = row_counts.get((row.destination, row.source), 0) + 1
    cursors = set(tables.accepted) | set(tables.epochs)
    return State(
        source_cursors=dict(tables.source_cursors),
        accepted={partition: tables.accepted.get(partition, 0) for partition in cursors},
        epochs={partition: tables.epochs.get(partition, 0) for partition in cursors},
        source_totals=totals,
        lane_books=dict(tables.lane_books),
        lanes=dict(tables.lanes),
        intervals=tuple(tables.intervals[id] for id in sorted(tables.intervals)),
        row_counts=row_counts,
        snapshot=tables.snapshot,
        source_book_totals={source: dict(outcomes) for source, outcomes in totals.items()},
        bulk=tuple(_bulk_rows(tables)),
    )


def _apply(tables: _Tables, changes: Changes) -> None:
    tables.source_cursors |= changes.source_cursors
    tables.accepted |= changes.accepted
    tables.epochs |= changes.epochs
    for key, count in changes.source_books.items():
        known = key._replace(name=tables.record.settle_name(key.source, key.name))
        tables.source_books[known] = tables.source_books.get(known, 0) + count
    for lane_key, count in changes.lane_books.items():
        tables.lane_books[lane_key] = tables.lane_books.get(lane_key, 0) + count
    for place, lane in changes.lanes.items():
        if lane is None:
            tables.lanes.pop(place, None)
        else:
            tables.lanes[place] = lane
    for row_key, row in changes.rows.items():
        if row is None:
            tables.rows.pop(row_key, None)
        else:
            tables.rows[row_key] = row
    for interval in changes.opened:
        tables.intervals[interval.id] = interval
    for interval in changes.closed:
        if interval.id in tables.intervals:
            tables.intervals[interval.id] = interval
    if changes.snapshot is not None:
        tables.snapshot = changes.snapshot
    tables.record.apply(changes)
