"""Deliveries: what became of the events at each destination within a time, from the delivery record.

Two rates tell what retries are good for (the figures of Segment's own example are 93.36 % and 99.28 %):

* the *first-attempt rate*: events delivered at their first attempt, of all that were delivered, failed, or wait for a
  retry now;
* the *final rate*: events delivered at whatever attempt, of all that were delivered or failed.

Events that were filtered count in neither. An event counts in the minute in which it ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from trunkline.spec.delivery_codes import CodeText, text_of
from trunkline.spec.outcomes import (
    ACCEPTED,
    DELIVERED,
    ENTERED,
    FAILED,
    FAILED_ON_INGEST,
    FILTERED_AT_DESTINATION,
    FILTERED_AT_SOURCE,
)
from trunkline.state.base import (
    MINUTES_KEPT_H,
    RETRY,
    LatencyKey,
    RecordCounts,
    RecordKey,
    RecordRow,
    Sample,
    State,
    StateStore,
)
from trunkline.state.latency import percentiles

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
REPLAY_PREFIX: Final = "replay:"
"""What the destination of a replay begins with in the record."""
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Grouping = Literal["reason", "type", "name", "source", "app-version"]
_GROUP_OF: Final[Mapping[Grouping, Callable[[RecordKey], str]]] = {
    "reason": lambda key: key.reason,
    "type": lambda key: key.type,
    "name": lambda key: key.name,
    "source": lambda key: key.source,
    "app-version": lambda key: key.app_version,
}


@dataclass(slots=True)
class Tally:
    """Events by how they ended. ``first`` of those delivered were at their first attempt; ``retries`` are attempts
    beyond the first one of events that ended; ``repeated`` attempts that failed and are followed by another."""

    delivered: int = 0
    first: int = 0
    filtered: int = 0
    failed: int = 0
    retries: int = 0
    repeated: int = 0

    def add(self, outcome: str, counts: RecordCounts) -> None:
        if outcome == DELIVERED:
            self.delivered += counts.events
            self.first += counts.first
            self.retries += counts.retries
        elif outcome == FAILED:
            self.failed += counts.events
            self.retries += counts.retries
        elif outcome == FILTERED_AT_DESTINATION:
            self.filtered += counts.events
        elif outcome == RETRY:
            self.repeated += counts.events

    def first_attempt_rate(self, pending_retry: int = 0) -> float | None:
        return _rate(self.first, self.delivered + self.failed + pending_retry)

    @property
    def final_rate(self) -> float | None:
        return _rate(self.delivered, self.delivered + self.failed)


@dataclass(slots=True)
class ReasonLine:
    """One reason at one destination: what failed for good, and attempts that failed and were repeated. A batch that
    fails on one answer is one request and many events. Requests 0: nothing was attempted."""

    reason: str
    failed: RecordCounts = field(default_factory=RecordCounts)
    repeated: RecordCounts = field(default_factory=RecordCounts)
    filtered: int = 0

    @property
    def text(self) -> CodeText:
        return text_of(self.reason)

    @property
    def requests(self) -> int:
        return self.failed.requests + self.repeated.requests


@dataclass(slots=True)
class DestinationLine:
    """One destination, or a replay to one (``replay:<id>``)."""

    tally: Tally = field(default_factory=Tally)
    pending_retry: int = 0
    reasons: dict[str, ReasonLine] = field(default_factory=dict)
    groups: dict[str, Tally] = field(default_factory=dict)
    latency_ms: Mapping[str, float] | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def first_attempt_rate(self) -> float | None:
        return self.tally.first_attempt_rate(self.pending_retry)

    @property
    def final_rate(self) -> float | None:
        return self.tally.final_rate


@dataclass(slots=True)
class SourceLine:
    """What the source stage made of one source's events. ``entered`` of them came from another source, which forwards
    them: they are among the others, too."""

    entered: int = 0
    accepted: int = 0
    failed_on_ingest: int = 0
    filtered_at_source: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The view on [``since_ms``, ``until_ms``), as the record's grain allows."""

    since_ms: int
    until_ms: int
    by: Grouping | None
    sources: Mapping[str, SourceLine]
    destinations: Mapping[str, DestinationLine]

    def as_json(self) -> dict[str, object]:
        """The shape that ``trunkline deliveries --json`` prints."""
        return {
            "since_ms": self.since_ms,
            "until_ms": self.until_ms,
            "by": self.by,
            "sources": {slug: dataclasses.asdict(line) for slug, line in self.sources.items()},
            "destinations": {slug: _line_json(line) for slug, line in self.destinations.items()},
        }


def aligned(since_ms: int, until_ms: int, now_ms: int) -> tuple[int, int]:
    """The range in the record's own steps: whole minutes, whole hours where it goes back beyond what is kept by
    minutes. ``until_ms`` grows up to the end of its minute, so that what was counted just now is in it."""
    step_ms = MINUTE_MS if now_ms - since_ms < (MINUTES_KEPT_H - 1) * HOUR_MS else HOUR_MS
    return since_ms - since_ms % step_ms, -(-until_ms // MINUTE_MS) * MINUTE_MS


def read_deliveries(
    store: StateStore,
    since_ms: int,
    until_ms: int,
    *,
    destination: str | None = None,
    source: str | None = None,
    by: Grouping | None = None,
    samples: bool = False,
    with_pending: bool = True,
) -> Deliveries:
    """Sum up the record. ``with_pending``: the range reaches up to now, so events that wait for a retry belong to it.

    With a ``destination`` the sources' lines are left out. Raises StateError.
    """
    sources: dict[str, SourceLine] = {}
    destinations: dict[str, DestinationLine] = {}
    for row in store.record(since_ms, until_ms, destination=destination, source=source):
        if not row.key.destination:
            _add_to_source(sources.setdefault(row.key.source, SourceLine()), row)
        else:
            _add_to_destination(destinations.setdefault(row.key.destination, DestinationLine()), row, by)
    if with_pending:
        for slug, count in _pending(store.read(), destination, source).items():
            destinations.setdefault(slug, DestinationLine()).pending_retry = count
    _add_latencies(store, since_ms, until_ms, destination, source, destinations)
    if samples:
        for sample in store.samples(destination):
            line = destinations.get(sample.destination)
            if line is not None and since_ms <= sample.at_ms < until_ms:
                line.samples.append(sample)
    return Deliveries(since_ms, until_ms, by, dict(sorted(sources.items())), _in_order(destinations))


def _in_order(destinations: Mapping[str, DestinationLine]) -> dict[str, DestinationLine]:
    """Replays last; of a destination the reason with the most events first."""
    for line in destinations.values():
        ordered = sorted(line.reasons.values(), key=lambda item: (-item.failed.events, -item.repeated.events))
        line.reasons = {item.reason: item for item in ordered}
    return dict(sorted(destinations.items(), key=lambda item: (item[0].startswith(REPLAY_PREFIX), item[0])))


def _add_to_source(line: SourceLine, row: RecordRow) -> None:
    events, outcome = row.counts.events, row.key.outcome
    if outcome == ACCEPTED:
        line.accepted += events
        return
    if outcome == ENTERED:
        line.entered += events
        return
    if outcome == FAILED_ON_INGEST:
        line.failed_on_ingest += events
    elif outcome == FILTERED_AT_SOURCE:
        line.filtered_at_source += events
    else:
        return
    line.reasons[row.key.reason] = line.reasons.get(row.key.reason, 0) + events


def _add_to_destination(line: DestinationLine, row: RecordRow, by: Grouping | None) -> None:
    key, counts = row.key, row.counts
    line.tally.add(key.outcome, counts)
    if by is not None:
        line.groups.setdefault(_GROUP_OF[by](key), Tally()).add(key.outcome, counts)
    if key.outcome == DELIVERED:
        return
    reason = line.reasons.get(key.reason)
    if reason is None:
        reason = line.reasons[key.reason] = ReasonLine(key.reason)
    if key.outcome == FAILED:
        reason.failed.add(counts)
    elif key.outcome == RETRY:
        reason.repeated.add(counts)
    elif key.outcome == FILTERED_AT_DESTINATION:
        reason.filtered += counts.events


def _pending(state: State, destination: str | None, source: str | None) -> dict[str, int]:
    """Events that were attempted and wait for another attempt, by destination."""
    found: dict[str, int] = {}
    for (slug, of_source), count in state.row_counts.items():
        if destination in (None, slug) and source in (None, of_source):
            found[slug] = found.get(slug, 0) + count
    for row in state.bulk:
        if row.attempts and destination in (None, row.destination):
            count = sum(count for of_source, count in row.events.items() if source in (None, of_source))
            found[row.destination] = found.get(row.destination, 0) + count
    return found


def _add_latencies(
    store: StateStore,
    since_ms: int,
    until_ms: int,
    destination: str | None,
    source: str | None,
    destinations: Mapping[str, DestinationLine],
) -> None:
    by_destination: dict[str, dict[LatencyKey, int]] = {}
    for key, events in store.latencies(since_ms, until_ms, destination=destination).items():
        if source in (None, key.source):
            by_destination.setdefault(key.destination, {})[key] = events
    for slug, latencies in by_destination.items():
        bounds = percentiles(latencies, list(_QUANTILES.values()))
        line = destinations.get(slug)
        if line is not None and bounds is not None:
            line.latency_ms = dict(zip(_QUANTILES, bounds, strict=True))


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _tally_json(tally: Tally) -> dict[str, object]:
    return dataclasses.asdict(tally) | {"final_rate": tally.final_rate}


def _line_json(line: DestinationLine) -> dict[str, object]:
    tally = line.tally
    return {
        "delivered": tally.delivered,
        "filtered_at_destination": tally.filtered,
        "failed": tally.failed,
        "pending_retry": line.pending_retry,
        "delivered_at_first_attempt": tally.first,
        "retries": tally.retries,
        "first_attempt_rate": line.first_attempt_rate,
        "final_rate": line.final_rate,
        "latency_ms": line.latency_ms,
        "reasons": [
            {
                "reason": reason.reason,
                "title": reason.text.title,
                "meaning": reason.text.meaning,
                "mend": reason.text.mend,
                "failed": {"events": reason.failed.events, "requests": reason.failed.requests},
                "repeated": {"events": reason.repeated.events, "requests": reason.repeated.requests},
                "filtered": reason.filtered,
            }
            for reason in line.reasons.values()
        ],
        "groups": {name: _tally_json(group) for name, group in line.groups.items()},
        "samples": [dataclasses.asdict(sample) for sample in line.samples],
    }
