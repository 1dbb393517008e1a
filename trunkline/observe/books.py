"""The books: what became of every event at every destination, checked against the log.

For every destination, at every moment::

    received = failed_on_ingest + filtered_at_source + filtered_at_destination + delivered + failed + pending

``received`` is read from the ingested log (what other sources forward: from the source's books), the outcomes from the
state store, and ``pending`` is counted, never subtracted: ingested records that no applied envelope covers, accepted
events that the lane has not settled, retry rows. The state is read first, then the heads of the log, so the sum is
exact beside a running server. A record, a row or a delta that got lost therefore shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.log.base import ACCEPTED, INGESTED, EventLog, LogError
from trunkline.log.records import OBJECT_COUNT_PREFIX, RecordError, decode_envelope
from trunkline.replay.books import ReplayBooks, check_replays
from trunkline.replay.model import is_replay
from trunkline.spec.outcomes import (
    ACCEPTED as ACCEPTED_OUTCOME,
)
from trunkline.spec.outcomes import (
    DELIVERED,
    ENTERED,
    FAILED,
    FAILED_ON_INGEST,
    FILTERED_AT_DESTINATION,
    FILTERED_AT_SOURCE,
    OBJECT,
)
from trunkline.state.base import (
    MAX_SURVIVORS,
    Interval,
    LaneState,
    State,
    place_of,
    position_of,
)


@dataclass(slots=True)
class DestinationBooks:
    """One destination's line. The unit is one event at this destination."""

    received: int = 0
    failed_on_ingest: int = 0
    filtered_at_source: int = 0
    filtered_at_destination: int = 0
    delivered: int = 0
    failed: int = 0
    pending: int = 0

    @property
    def accounted(self) -> int:
        """What ``received`` must be."""
        return (
            self.failed_on_ingest
            + self.filtered_at_source
            + self.filtered_at_destination
            + self.delivered
            + self.failed
            + self.pending
        )


@dataclass(slots=True)
class SourceBooks:
    """One source's line: events by what the source stage made of them, objects apart. ``entered`` are those of
    ``received`` that another source has forwarded."""

    received: int = 0
    entered: int = 0
    failed_on_ingest: int = 0
    filtered_at_source: int = 0
    accepted: int = 0
    pending: int = 0
    objects: int = 0


@dataclass(frozen=True, slots=True)
class Books:
    """The result of a check. ``problems`` is empty when the books balance.

    ``overtaken``: retention has dropped records that the state still counts on, so problems may come from a state that
    was read too long ago. Beside a running server it is worth reading it again.
    """

    destinations: Mapping[str, DestinationBooks]
    sources: Mapping[str, SourceBooks]
    problems: list[str]
    overtaken: bool = False
    replays: Mapping[str, ReplayBooks] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, object]:
        """The shape that ``trunkline verify --json`` prints."""
        return {
            "balanced": self.balanced,
            "destinations": {slug: dataclasses.asdict(books) for slug, books in self.destinations.items()},
            "sources": {slug: dataclasses.asdict(books) for slug, books in self.sources.items()},
            "replays": {replay_id: dataclasses.asdict(books) for replay_id, books in self.replays.items()},
            "problems": self.problems,
        }


def check_books(state: State, log: EventLog, replay_directory: Path | None = None) -> Books:
    """Count everything. ``state`` must have been read before this call; without ``replay_directory`` replays are left
    out. Raises LogError when the log is unreadable."""
    problems: list[str] = []
    heads: dict[str, Mapping[str, int]] = {}
    uncovered: dict[str, int] = {}
    covered: dict[str, int] = {}
    cursors = {partition: position for (partition, _), position in state.source_cursors.items()}
    for partition in log.partitions(INGESTED):
        head = log.totals(INGESTED, partition)
        heads[partition] = head.counts
        cursor = cursors.get(partition, 0)
        for source, count in log.totals(INGESTED, partition, cursor).counts.items():
            covered[source] = covered.get(source, 0) + count
        for record in log.index(INGESTED, partition, cursor, head.position):
            for source, count in record.counts.items():
                uncovered[source] = uncovered.get(source, 0) + count
    destinations = _destinations(state, log, heads, uncovered)
    sources = _sources(state, heads, uncovered)
    for slug, books in destinations.items():
        if books.received != books.accounted:
            problems.append(
                f"destination {slug}: received {books.received}, accounted for {books.accounted} "
                f"({books.received - books.accounted:+d})"
            )
    problems += _source_problems(state, covered)
    problems += _accepted_problems(state, log)
    for topic in (INGESTED, ACCEPTED):
        for partition in log.partitions(topic):
            problems += log.check(topic, partition)
    overtaken = bool(problems) and _is_overtaken(state, log)
    replays: dict[str, ReplayBooks] = {}
    if replay_directory is not None:
        replays, wrong = check_replays(state, replay_directory)
        problems += wrong
    return Books(destinations, sources, problems, overtaken, replays)


def _is_overtaken(state: State, log: EventLog) -> bool:
    needed = [(INGESTED, partition, at) for (partition, _), at in state.source_cursors.items()]
    needed += [(ACCEPTED, lane.partition, position_of(lane.mark)) for lane in _live_lanes(state)]
    return any(log.totals(topic, partition, at).position > at for topic, partition, at in needed)


def _destinations(
    state: State, log: EventLog, heads: Mapping[str, Mapping[str, int]], uncovered: Mapping[str, int]
) -> dict[str, DestinationBooks]:
    destinations: dict[str, DestinationBooks] = {}
    for interval in state.intervals:
        books = destinations.setdefault(interval.destination, DestinationBooks())
        source = interval.source
        if interval.close_received is not None:
            end = interval.close_received
            outcomes = interval.close_books or {}
        else:
            end = {partition: counts.get(source, 0) for partition, counts in heads.items()}
            outcomes = state.source_totals.get(source, {})
            books.pending += uncovered.get(source, 0)
        books.received += sum(end.values()) - sum(interval.open_received.values())
        books.received += outcomes.get(ENTERED, 0) - interval.open_books.get(ENTERED, 0)
        for outcome in (FAILED_ON_INGEST, FILTERED_AT_SOURCE):
            count = outcomes.get(outcome, 0) - interval.open_books.get(outcome, 0)
            setattr(books, outcome, getattr(books, outcome) + count)
    for key, count in state.lane_books.items():
        if is_replay(key.destination):
            continue
        books = destinations.setdefault(key.destination, DestinationBooks())
        if key.outcome in (FILTERED_AT_DESTINATION, DELIVERED, FAILED):
            setattr(books, key.outcome, getattr(books, key.outcome) + count)
    for (destination, _), count in state.row_counts.items():
        if not is_replay(destination):
            destinations.setdefault(destination, DestinationBooks()).pending += count
    for row in state.bulk:
        books = destinations.setdefault(row.destination, DestinationBooks())
        books.pending += sum(row.events.values())
    for lane in _live_lanes(state):
        intervals = [interval for interval in state.intervals if interval.destination == lane.destination]
        books = destinations.setdefault(lane.destination, DestinationBooks())
        books.pending += _unsettled(lane, intervals, log, state.accepted.get(lane.partition, 0))
    return dict(sorted(destinations.items()))


def _live_lanes(state: State) -> list[LaneState]:
    """Those whose places are of the accepted log."""
    return [lane for lane in state.lanes.values() if not is_replay(lane.destination)]


def _unsettled(lane: LaneState, intervals: list[Interval], log: EventLog, applied: int) -> int:
    """Accepted events below the applied position that belong to the lane and are not settled."""
    count = 0
    runs = lane.settled
    for record in log.index(ACCEPTED, lane.partition, position_of(lane.mark), applied):
        first, last = place_of(record.position, 0), place_of(record.position, MAX_SURVIVORS - 1)
        sources = [interval.source for interval in intervals if interval.holds(first)]
        if not any(record.counts.get(source) for source in sources):
            continue
        untouched = lane.mark <= first and not any(run[0] <= last and first <= run[1] for run in runs)
        if untouched:
            count += sum(record.counts.get(source, 0) for source in sources)
        else:
            for place, source in _events(log, lane.partition, record.position):
                count += source in sources and not lane.is_settled(place)
    return count


def _events(log: EventLog, partition: str, position: int) -> Iterator[tuple[int, str]]:
    """Places and sources of the events (not objects) of one envelope."""
    reader = log.reader(ACCEPTED, partition, position)
    try:
        [record] = reader.read(1, 1)
        for index, event in enumerate(decode_envelope(record.payload).survivors):
            if event.type != OBJECT:
                yield place_of(position, index), event.source
    finally:
        reader.close()


def _sources(
    state: State, heads: Mapping[str, Mapping[str, int]], uncovered: Mapping[str, int]
) -> dict[str, SourceBooks]:
    sources: dict[str, SourceBooks] = {}
    for counts in heads.values():
        for key, count in counts.items():
            if key.startswith(OBJECT_COUNT_PREFIX):
                sources.setdefault(key.removeprefix(OBJECT_COUNT_PREFIX), SourceBooks()).objects += count
            else:
                sources.setdefault(key, SourceBooks()).received += count
    for slug, totals in state.source_totals.items():
        if totals.get(ENTERED):
            sources.setdefault(slug, SourceBooks())  # it may have nothing but what others forward
    for slug, books in sources.items():
        outcomes = state.source_totals.get(slug, {})
        books.failed_on_ingest = outcomes.get(FAILED_ON_INGEST, 0)
        books.filtered_at_source = outcomes.get(FILTERED_AT_SOURCE, 0)
        books.accepted = outcomes.get(ACCEPTED_OUTCOME, 0)
        books.entered = outcomes.get(ENTERED, 0)
        books.received += books.entered
        books.pending = uncovered.get(slug, 0)
    return dict(sorted(sources.items()))


def _source_problems(state: State, covered: Mapping[str, int]) -> list[str]:
    """What envelopes cover must have ended in an outcome of the source's books, event by event."""
    problems = []
    outcomes: tuple[str, ...]
    for slug in sorted(set(covered) | set(state.source_totals)):
        if slug.startswith(OBJECT_COUNT_PREFIX):
            source, outcomes = slug.removeprefix(OBJECT_COUNT_PREFIX), (OBJECT,)
        else:
            source, outcomes = slug, (FAILED_ON_INGEST, FILTERED_AT_SOURCE, ACCEPTED_OUTCOME)
        totals = state.source_totals.get(source, {})
        counted = sum(totals.get(outcome, 0) for outcome in outcomes)
        passed = covered.get(slug, 0) + (totals.get(ENTERED, 0) if slug == source else 0)
        if counted != passed:
            problems.append(
                f"source {slug}: the source stage has passed {passed}, its books hold {counted} ({passed - counted:+d})"
            )
    for source in sorted(set(state.source_totals) | set(state.source_book_totals)):
        totals, books = state.source_totals.get(source, {}), state.source_book_totals.get(source, {})
        problems += [
            f"source {source}: {totals.get(outcome, 0)} events are {outcome}, its books by type and name hold "
            f"{books.get(outcome, 0)}"
            for outcome in sorted(set(totals) | set(books))
            if totals.get(outcome, 0) != books.get(outcome, 0)
        ]
    return problems


def _accepted_problems(state: State, log: EventLog) -> list[str]:
    """The accepted log must hold exactly what the source's books call accepted."""
    in_log: dict[str, int] = {}
    for partition in log.partitions(ACCEPTED):
        try:
            totals = log.totals(ACCEPTED, partition, state.accepted.get(partition, 0))
        except (LogError, RecordError) as error:
            return [str(error)]
        for key, count in totals.counts.items():
            in_log[key] = in_log.get(key, 0) + count
    problems = []
    for slug, outcomes in state.source_totals.items():
        for key, outcome in ((slug, ACCEPTED_OUTCOME), (OBJECT_COUNT_PREFIX + slug, OBJECT)):
            if in_log.get(key, 0) != outcomes.get(outcome, 0):
                problems.append(
                    f"source {key}: the accepted log holds {in_log.get(key, 0)}, its books {outcomes.get(outcome, 0)}"
                )
    return problems
