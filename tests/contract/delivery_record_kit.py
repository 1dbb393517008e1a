"""Parts of a delivery record, and what a store tells of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from trunkline.state.base import Attempt, BulkRow, RecordKey, Sample, StateStore

MINUTE_MS = 60_000
HOUR = 60
DAY = 24 * HOUR
START = 490_000 * HOUR
"""A minute at which an hour begins."""
EVER = 1 << 60


def key(minute: int = START, **more: Any) -> RecordKey:
    values: dict[str, Any] = {
        "minute": minute,
        "destination": "hook",
        "source": "web",
        "subscription": "",
        "type": "track",
        "name": "Order Completed",
        "app_version": "1.0",
        "outcome": "delivered",
        "reason": "",
    }
    return RecordKey(**(values | more))


def attempt(at_ms: int = START * MINUTE_MS, **more: Any) -> Attempt:
    values: dict[str, Any] = {
        "destination": "hook",
        "subscription": "",
        "partition": "0",
        "place": 7,
        "last_place": 7,
        "message_id": "m7",
        "number": 1,
        "at_ms": at_ms,
        "outcome": "retry",
        "reason": "503",
        "detail": "HTTP 503",
    }
    return Attempt(**(values | more))


def sample(at_ms: int = START * MINUTE_MS, **more: Any) -> Sample:
    values: dict[str, Any] = {
        "destination": "hook",
        "reason": "503",
        "at_ms": at_ms,
        "message_id": f"m{at_ms}",
        "sent": '{"type":"track"}',
        "request": '{"method":"POST"}',
        "response": '{"status":503}',
    }
    return Sample(**(values | more))


def bulk_row(place: int, **more: Any) -> BulkRow:
    values: dict[str, Any] = {
        "destination": "hook",
        "partition": "0",
        "place": place,
        "end_place": place + 5,
        "open": True,
        "file": f"bulk-{place}",
        "size_bytes": 100,
        "events": {"web": 4, "app": 1},
        "opened_at_ms": 5,
    }
    return BulkRow(**(values | more))


def tidy(store: StateStore, minute: int) -> None:
    for _ in range(1000):
        if not store.tidy(minute * MINUTE_MS):
            return
    raise AssertionError("tidying does not end")


def rows_of(store: StateStore, since_ms: int = 0, until_ms: int = EVER, **only: str) -> dict[Any, tuple[int, ...]]:
    found = {}
    for row in store.record(since_ms, until_ms, **only):
        assert (row.key, row.grain_minutes) not in found, "a key comes once"
        found[row.key, row.grain_minutes] = dataclasses.astuple(row.counts)
    return found
