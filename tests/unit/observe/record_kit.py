"""Small pieces of a delivery record for the tests of its views."""

from __future__ import annotations

from trunkline.state.base import Changes, Interval, LaneKey, LatencyKey, LossKey, RecordCounts, RecordKey, StateStore
from trunkline.state.latency import bucket_of

NOW_MS = 1_790_000_070_000
"""In the middle of a minute."""
MINUTE = NOW_MS // 60_000


def counted(
    changes: Changes,
    outcome: str,
    events: int,
    *,
    destination: str = "hook",
    source: str = "web",
    reason: str = "",
    minute: int = MINUTE,
    type: str = "track",
    name: str = "Order Completed",
    app_version: str = "",
    first: int = 0,
    retries: int = 0,
    requests: int = 0,
) -> None:
    """Add a row of the record to a commit."""
    key = RecordKey(minute, destination, source, "", type, name, app_version, outcome, reason)
    changes.record[key] = RecordCounts(events, first, retries, requests)


def took(changes: Changes, latency_ms: int, events: int, *, destination: str = "hook", source: str = "web") -> None:
    key = LatencyKey(MINUTE, destination, source, bucket_of(latency_ms))
    changes.latencies[key] = changes.latencies.get(key, 0) + events


def lost(
    changes: Changes, events: int, minute: int, *, destination: str = "hook", source: str = "web", reason: str = "500"
) -> None:
    """Failed events that were received in a minute."""
    changes.losses[LossKey(destination, source, minute, reason)] = events
    book = LaneKey(destination, source, "failed", reason)
    changes.lane_books[book] = changes.lane_books.get(book, 0) + events


def interval(
    id: int,
    opened_at_ms: int,
    *,
    destination: str = "hook",
    source: str = "web",
    accepted: int = 0,
    open_place: int = 0,
    closed_at_ms: int | None = None,
    close_accepted: int = 0,
    close_place: int | None = None,
) -> Interval:
    """``accepted`` and ``close_accepted``: how many events of the source had been accepted then."""
    if closed_at_ms is None:
        return Interval(id, destination, source, opened_at_ms, open_place, {}, {"accepted": accepted})
    return Interval(
        id,
        destination,
        source,
        opened_at_ms,
        open_place,
        {},
        {"accepted": accepted},
        closed_at_ms,
        close_place or 0,
        {},
        {"accepted": close_accepted},
    )


def commit_intervals(store: StateStore, *intervals: Interval) -> None:
    """Open them all, and close those that are closed."""
    store.commit(Changes(opened=list(intervals)))
    closed = [item for item in intervals if item.closed_at_ms is not None]
    if closed:
        store.commit(Changes(closed=closed))
