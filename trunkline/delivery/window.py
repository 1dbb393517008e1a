"""The events of a lane from the first that is not settled, and which of them are."""

from __future__ import annotations

from collections import deque

import msgspec

from trunkline.destinations.kit import OutgoingEvent


class LaneEvent(msgspec.Struct, eq=False, gc=False):
    """One event on its way through a lane. ``settled`` speaks of the window only; ``elapsed_s`` is how much of the
    time for retries had gone by when the last attempt began; ``reason`` why that failed.

    By the monotonic clock, which nobody sets: ``first_s`` when the time for retries began, ``due_s`` when the next
    attempt is due, ``queued_s`` since when the event could have been sent.

    ``until``, if not 0: with this one all of the lane's events up to that place are settled.
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
    until: int = 0


class Window:
    """The events in the order of their places. What is settled at its beginning is dropped, and its first place is the
    lane's mark."""

    def __init__(self) -> None:
        self._items: deque[LaneEvent] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def append(self, item: LaneEvent) -> None:
        self._items.append(item)

    def settle(self, first: int, last: int) -> None:
        """Every event of the lane from ``first`` to ``last``, behind all that is here, is settled. An empty window need
        not know."""
        items = self._items
        if not items:
            return
        if items[-1].settled:
            items[-1].until = last
        else:
            items.append(LaneEvent(first, None, 0, settled=True, until=last))

    def drop_settled(self) -> None:
        items = self._items
        while items and items[0].settled:
            items.popleft()

    @property
    def first_place(self) -> int:
        return self._items[0].place

    @property
    def last_place(self) -> int:
        last = self._items[-1]
        return last.until or last.place

    def unsettled(self) -> list[LaneEvent]:
        return [item for item in self._items if not item.settled]

    def settled_runs(self) -> list[tuple[int, int]]:
        """Runs [first, last] of places such that every event of the lane within a run is settled."""
        runs: list[tuple[int, int]] = []
        first: int | None = None
        last = 0
        for item in self._items:
            if item.settled:
                first = item.place if first is None else first
                last = item.until or item.place
            elif first is not None:
                runs.append((first, last))
                first = None
        if first is not None:
            runs.append((first, last))
        return runs
