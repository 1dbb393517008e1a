"""The contract of the state store, and the values that go in and out of it.

One process writes (the worker), any number may read. Everything that belongs together is one :class:`Changes`,
committed in one transaction, so that the counters always speak of exactly the cursor beside them.

A *place* addresses one event of the accepted log: the position of its envelope and its index in it, packed into
one ordered integer (:func:`place_of`). Like positions, places are ordered and not contiguous.

Errors::

    StateError
    ├── StateFull      the disk has no room; nothing was committed, the same changes may be committed again
    └── StateTooNew    the file was written by a newer program
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

PLACE_BITS: Final = 12
MAX_SURVIVORS: Final = 1 << PLACE_BITS
"""An envelope holds at most so many survivors, so that a place fits into 63 bits."""


class StateError(Exception):
    """Base of everything the state store raises."""


class StateFull(StateError):
    """The disk has no room. Nothing was committed."""


class StateTooNew(StateError):
    """The state was written by a newer version of the program."""


def place_of(position: int, index: int) -> int:
    """The place of the ``index``-th survivor of the envelope at ``position``."""
    return position << PLACE_BITS | index


def position_of(place: int) -> int:
    """The position of the envelope that holds the event at ``place``."""
    return place >> PLACE_BITS


def index_of(place: int) -> int:
    """The index of the event at ``place`` within its envelope."""
    return place & (MAX_SURVIVORS - 1)


@dataclass(frozen=True, slots=True)
class SourceKey:
    """What the source-side books are kept by."""

    source: str
    type: str
    name: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What the destination-side books are kept by."""

    destination: str
    source: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch in which a (source, destination) connection was open.

    ``open_place`` and ``close_place`` bound the accepted events that belong to it (a place, half open).
    ``open_received`` and ``close_received`` are the source's running totals in the ingested log, by partition,
    at the source stage's cursor then; ``open_books`` and ``close_books`` the source's running outcomes.
    """

    id: int
    destination: str
    source: str
    opened_at_ms: int
    open_place: int
    open_received: Mapping[str, int]
    open_books: Mapping[str, int]
    closed_at_ms: int | None = None
    close_place: int | None = None
    close_received: Mapping[str, int] | None = None
    close_books: Mapping[str, int] | None = None

    def holds(self, place: int) -> bool:
        return self.open_place <= place and (self.close_place is None or place < self.close_place)


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane with work in flight or behind. A lane without a row follows the applied position.

    ``mark``: every event of the lane below this place is settled. ``settled``: runs [first, last] of places
    above the mark such that every event of the lane within a run is settled (or has a retry row).
    """

    destination: str
    partition: str
    mark: int
    settled: tuple[tuple[int, int], ...] = ()

    def is_settled(self, place: int) -> bool:
        return place < self.mark or any(first <= place <= last for first, last in self.settled)


@dataclass(frozen=True, slots=True)
class RetryRow:
    """An event that waits for its next attempt, or whose attempt has lasted for over a second."""

    destination: str
    subscription: str
    partition: str
    place: int
    message_id: str
    source: str
    type: str
    name: str
    received_at_ms: int
    attempts: int
    first_attempt_at_ms: int
    due_at_ms: int
    last_error: str
    resume_stage: str
    event: bytes = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str, int]:
        return (self.destination, self.subscription, self.partition, self.place)


@dataclass(slots=True)
class Changes:
    """One commit."""

    source_cursors: dict[tuple[str, str], int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    source_books: dict[SourceKey, int] = field(default_factory=dict)
    lane_books: dict[LaneKey, int] = field(default_factory=dict)
    lanes: dict[tuple[str, str], LaneState | None] = field(default_factory=dict)
    rows: dict[tuple[str, str, str, int], RetryRow | None] = field(default_factory=dict)
    opened: list[Interval] = field(default_factory=list)
    closed: list[Interval] = field(default_factory=list)
    snapshot: str | None = None

    @property
    def empty(self) -> bool:
        return not (
            self.source_cursors
            or self.accepted
            or self.epochs
            or self.source_books
            or self.lane_books
            or self.lanes
            or self.rows
            or self.opened
            or self.closed
            or self.snapshot is not None
        )


@dataclass(frozen=True, slots=True)
class State:
    """All of the state as of one commit. Retry rows come without their events when only counted."""

    source_cursors: Mapping[tuple[str, str], int]
    accepted: Mapping[str, int]
    epochs: Mapping[str, int]
    source_totals: Mapping[str, Mapping[str, int]]
    lane_books: Mapping[LaneKey, int]
    lanes: Mapping[tuple[str, str], LaneState]
    intervals: tuple[Interval, ...]
    row_counts: Mapping[tuple[str, str], int]
    snapshot: str | None
    source_book_totals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """``source_books`` summed by source and outcome: must be equal to ``source_totals``."""

    @classmethod
    def empty(cls) -> State:
        """Before any worker has run."""
        return cls({}, {}, {}, {}, {}, {}, (), {}, None)


class StateStore(Protocol):
    """Where a worker keeps its state."""

    def commit(self, changes: Changes) -> None:
        """All or nothing, durable on return. Raises StateFull or StateError; then nothing was committed."""
        ...

    def read(self) -> State:
        """A consistent view of one commit."""
        ...

    def rows(self, destination: str) -> Iterable[RetryRow]:
        """A destination's retry rows, soonest first."""
        ...

    def source_books(self) -> Mapping[SourceKey, int]:
        """The source-side books in full."""
        ...

    def close(self) -> None: ...
