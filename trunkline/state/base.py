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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

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


class SourceKey(NamedTuple):
    """What the source-side books are kept by."""

    source: str
    type: str
    name: str
    outcome: str
    reason: str


class LaneKey(NamedTuple):
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


class LaneState(NamedTuple):
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


class RecordKey(NamedTuple):
    """What the delivery record is kept by (``spec/event_path.md`` §8.6).

    ``minute`` is minutes since the epoch at which it was counted. ``destination`` is empty for what the source stage
    did. ``outcome`` is one of :mod:`trunkline.spec.outcomes`; :data:`RETRY` counts attempts that will be repeated.
    """

    minute: int
    destination: str
    source: str
    subscription: str
    type: str
    name: str
    app_version: str
    outcome: str
    reason: str


RETRY: Final = "retry"
"""An outcome of the delivery record only: an attempt that failed and will be repeated."""


@dataclass(slots=True)
class RecordCounts:
    """``events`` that ended so; ``first`` of them at their first attempt; ``retries`` attempts of theirs beyond the
    first; ``requests`` that carried them (a batch that fails on one answer is one request and many events)."""

    events: int = 0
    first: int = 0
    retries: int = 0
    requests: int = 0

    def add(self, other: RecordCounts) -> None:
        self.events += other.events
        self.first += other.first
        self.retries += other.retries
        self.requests += other.requests


class RecordRow(NamedTuple):
    """A row of the delivery record as it is read. ``grain_minutes`` is 1, or 60 for what was summed up: ``key.minute``
    is the first minute of the hour then."""

    key: RecordKey
    counts: RecordCounts
    grain_minutes: int


class LatencyKey(NamedTuple):
    """Events delivered in a minute by how long they took from receivedAt: the bucket's upper bound is
    ``2 ** (bucket / 2)`` ms."""

    minute: int
    destination: str
    source: str
    bucket: int


class LossKey(NamedTuple):
    """Events that failed, by the minute in which they were *received*: what a replay of that time would bring."""

    destination: str
    source: str
    received_minute: int
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that did not deliver at once, or one that ended a story of several. An event delivered at its first
    attempt leaves none. ``last_place`` is above ``place`` for a bulk batch, whose ``message_id`` is empty."""

    destination: str
    subscription: str
    partition: str
    place: int
    last_place: int
    message_id: str
    number: int
    at_ms: int
    outcome: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One example of a failure, secrets masked. ``sent`` is the event, ``request`` and ``response`` are JSON texts
    (method, url, headers, body; status, headers, body), cut at 4 KB each."""

    destination: str
    reason: str
    at_ms: int
    message_id: str
    sent: str
    request: str
    response: str


@dataclass(frozen=True, slots=True)
class BulkRow:
    """A bulk batch: the lane's events in [``place``, ``end_place``), written once to ``file``.

    ``open``: more may be added; the file counts up to ``size_bytes``. Otherwise it waits for its next attempt, and its
    members never change. ``events`` are the members by source, all of them pending.
    """

    destination: str
    partition: str
    place: int
    end_place: int
    open: bool
    file: str
    size_bytes: int
    events: Mapping[str, int]
    opened_at_ms: int
    attempts: int = 0
    first_attempt_at_ms: int = 0
    due_at_ms: int = 0
    last_error: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.destination, self.partition, self.place)


NAMES_PER_SOURCE: Final = 1000
"""So many event names of a source have keys of their own in the books and the record, the rest is OTHER_NAME."""
APP_VERSIONS_PER_SOURCE: Final = 100
OTHER_NAME: Final = "$other"
MINUTES_KEPT_H: Final = 48
"""The record by minutes is so old at most, then it is summed into hours."""
RECORD_KEPT_D: Final = 31
"""Hours, losses and samples are so old at most."""
ATTEMPTS_KEPT_D: Final = 7
ATTEMPTS_PER_DESTINATION: Final = 100_000
SAMPLES_PER_REASON: Final = 10


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
    bulk: dict[tuple[str, str, int], BulkRow | None] = field(default_factory=dict)
    record: dict[RecordKey, RecordCounts] = field(default_factory=dict)
    latencies: dict[LatencyKey, int] = field(default_factory=dict)
    losses: dict[LossKey, int] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    prepare: list[Callable[[], None]] = field(default_factory=list)
    """What must be done, in this order, before the commit: files that its rows speak of are made durable. Raises
    OSError. Whoever commits calls them first; repeating them does no harm."""
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
            or self.bulk
            or self.record
            or self.latencies
            or self.losses
            or self.attempts
            or self.samples
            or self.prepare
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
    bulk: tuple[BulkRow, ...] = ()

    @classmethod
    def empty(cls) -> State:
        """Before any worker has run."""
        return cls({}, {}, {}, {}, {}, {}, (), {}, None)


class DeliveryRecord(Protocol):
    """What became of the events, told apart from the books: by time, name and reason, and single stories.

    A time range holds every row that overlaps [``since_ms``, ``until_ms``): align it to minutes, or to hours beyond
    :data:`MINUTES_KEPT_H`, where it matters. A long range is read in several steps, each of them consistent. Whoever
    does not own the store opens a read-only one. All raise StateError.
    """

    def record(
        self, since_ms: int, until_ms: int, *, destination: str | None = None, source: str | None = None
    ) -> Iterator[RecordRow]:
        """The counters, in no particular order. The destination ``""`` is the source stage."""
        ...

    def latencies(self, since_ms: int, until_ms: int, *, destination: str | None = None) -> Mapping[LatencyKey, int]:
        """Delivered events by latency; what was summed into hours comes under the hour's first minute."""
        ...

    def losses(self, since_ms: int, *, destination: str | None = None) -> Mapping[LossKey, int]:
        """Failed events that were received since."""
        ...

    def attempts_of(self, message_id: str) -> list[Attempt]:
        """The attempts of an event at all destinations, oldest first. Bulk batches are not among them."""
        ...

    def attempts_at(self, destination: str, partition: str, place: int) -> list[Attempt]:
        """The attempts of the event at a place, those of bulk batches that held it among them, oldest first."""
        ...

    def samples(self, destination: str | None = None, reason: str | None = None) -> list[Sample]:
        """Examples of failures, newest first."""
        ...

    def bulk_rows(self, destination: str) -> list[BulkRow]:
        """A destination's bulk batches in the order of partitions and places."""
        ...

    def row_of(self, message_id: str) -> list[RetryRow]:
        """The retry rows that wait for an event, by destination, subscription and place."""
        ...


class StateStore(DeliveryRecord, Protocol):
    """Where a worker keeps its state."""

    def commit(self, changes: Changes) -> None:
        """All or nothing, durable on return. Raises StateFull or StateError; then nothing was committed."""
        ...

    def tidy(self, now_ms: int) -> bool:
        """Sum up and drop what has grown old, a bounded piece of it: some 50 ms at most. The owner calls it about once
        a minute, from where it commits; True when more is left. Raises StateFull or StateError as commit does."""
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
