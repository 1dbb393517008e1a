"""A lane's events that wait for another attempt, soonest first."""

from __future__ import annotations

import heapq
import itertools
from typing import Final

from trunkline.clock import Clock
from trunkline.delivery.circuit_time import CircuitTime
from trunkline.delivery.window import LaneEvent
from trunkline.destinations.kit import OutgoingEvent
from trunkline.state.base import RetryRow

ROUNDING_S: Final = 1e-6


class WaitingEvents:
    """When each is due, by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, LaneEvent]] = []
        self._sequence = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, item: LaneEvent) -> None:
        """``item.due_s`` says when."""
        heapq.heappush(self._heap, (item.due_s, next(self._sequence), item))

    def wait_s(self) -> float:
        """Until the first is due; 0 or less: it is. There must be one."""
        wait_s = self._heap[0][0] - self._clock.monotonic_s()
        # A timer that was set for the moment finds that it has come, whatever was lost in adding.
        return wait_s if wait_s > ROUNDING_S else min(wait_s, 0.0)

    def peek(self) -> LaneEvent:
        return self._heap[0][2]

    def pop(self) -> LaneEvent:
        return heapq.heappop(self._heap)[2]

    def items(self) -> list[LaneEvent]:
        return [item for _, _, item in self._heap]

    def take_expired(self, window_s: float, circuit: CircuitTime) -> list[LaneEvent]:
        """Those that are due, first attempted so long ago, and held up by nothing but the circuit."""
        now_s = self._clock.monotonic_s()
        expired, kept = [], []
        for entry in self._heap:
            item = entry[2]
            over_s = now_s - item.first_s - window_s
            if entry[0] <= now_s and over_s >= 0 and held_up_s(item.due_s, now_s, circuit) <= over_s:
                expired.append(item)
            else:
                kept.append(entry)
        if expired:
            heapq.heapify(kept)
            self._heap = kept
        return expired


def held_up_s(due_s: float, now_s: float, circuit: CircuitTime) -> float:
    """For how long what was due could not be sent, other than for an open circuit: stopped, disabled, held,
    rate-limited. That expires nothing."""
    late_s = now_s - due_s
    return max(0.0, late_s - circuit.since_s(due_s)) if late_s > 0 else 0.0


def event_of(row: RetryRow, now_ms: int, now_s: float, window_s: float) -> LaneEvent:
    """The event of a row that an earlier run has written, its times by this run's monotonic clock."""
    outgoing = OutgoingEvent(row.message_id, row.source, row.type, row.name, row.event)
    event = LaneEvent(row.place, outgoing, row.received_at_ms, row.attempts)
    event.first_s = now_s - max(0, now_ms - row.first_attempt_at_ms) / 1000
    event.due_s = now_s + min((row.due_at_ms - now_ms) / 1000, window_s)
    event.reason = row.last_error.partition(" ")[0]
    event.settled = event.has_row = True
    return event
