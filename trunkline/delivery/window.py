"""The events of a lane from the first that is not settled, and which of them are."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from trunkline.destinations.kit import OutgoingEvent


class LaneEvent(msgspec.Struct, eq=False, gc=False):
    """One event on its way through a lane. ``settled`` speaks of the window only; ``elapsed_s`` is how much of the
    time for retries had gone by when the last attempt began; ``reason`` why that failed.

    By the monotonic clock, which nobody sets: ``first_s`` when the time for retries began, ``due_s`` when the next
    attempt is due, ``queued_s`` since when the event could have been sent.
    """

    place: int
    outgoing: OutgoingEvent | None
    received_at_ms: int
    attempts: int = 0
    first_s: float = 0.0
    due_s: float = 0.0
    elapsed_s: float = 0.0
    queued_s: float = 0.0
    settled: bool = False
    has_row: bool = False
    reason: str = ""


def settled_runs(window: Iterable[LaneEvent]) -> list[tuple[int, int]]:
    """Runs [first, last] of places such that every event of the window within a run is settled."""
    runs: list[tuple[int, int]] = []
    first: int | None = None
    last = 0
    for item in window:
        if item.settled:
            first = item.place if first is None else first
            last = item.place
        elif first is not None:
            runs.append((first, last))
            first = None
    if first is not None:
        runs.append((first, last))
    return runs
