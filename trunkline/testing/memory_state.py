"""The state store's twin in memory: the same contract without a disk, and a way to refuse commits."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping

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
)

NAMES_PER_SOURCE = 1000
OTHER_NAME = "$other"


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

    def reopen(self) -> MemoryStateStore:
        """A new owner's store on the committed state. This one can't commit any more."""
        successor = MemoryStateStore()
        successor._tables = self._tables
        self.close()
        return successor

    def commit(self, changes: Changes) -> None:
        if self._closed:
            raise StateError("the state is closed")
        if self.full:
            raise StateFull("no room for the state")
        tables = copy.copy(self._tables)
        for field in dataclasses.fields(tables):
            value = getattr(tables, field.name)
            if isinstance(value, dict):
                setattr(tables, field.name, dict(value))
        _apply(tables, changes)
        self._tables = tables
        self.commits += 1

    def read(self) -> State:
        tables = self._tables
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
        )

    def rows(self, destination: str) -> Iterable[RetryRow]:
        found = [row for row in self._tables.rows.values() if row.destination == destination]
        return iter(sorted(found, key=lambda row: row.due_at_ms))

    def source_books(self) -> Mapping[SourceKey, int]:
        return dict(self._tables.source_books)

    def close(self) -> None:
        self._closed = True


def _apply(tables: _Tables, changes: Changes) -> None:
    tables.source_cursors |= changes.source_cursors
    tables.accepted |= changes.accepted
    tables.epochs |= changes.epochs
    for key, count in changes.source_books.items():
        known = _with_known_name(tables, key)
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
        if interval.id in tables.intervals:
            raise StateError(f"interval {interval.id} exists already")
        tables.intervals[interval.id] = interval
    for interval in changes.closed:
        if interval.id in tables.intervals:
            tables.intervals[interval.id] = interval
    if changes.snapshot is not None:
        tables.snapshot = changes.snapshot


def _with_known_name(tables: _Tables, key: SourceKey) -> SourceKey:
    names = {known.name for known in tables.source_books if known.source == key.source} - {OTHER_NAME}
    if key.name in names or len(names) < NAMES_PER_SOURCE:
        return key
    return dataclasses.replace(key, name=OTHER_NAME)
