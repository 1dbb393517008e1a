"""A lane's events that wait for another attempt, soonest first."""

from __future__ import annotations

import heapq
import itertools

from trunkline.clock import Clock
from trunkline.delivery.breaker import Breaker
from trunkline.delivery.window import LaneEvent


class WaitingEvents:
    """When each is due, by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, LaneEvent]] = []
        self._sequence = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, item: LaneEvent, wait_s: float) -> None:
        heapq.heappush(self._heap, (self._clock.monotonic_s() + wait_s, next(self._sequence), item))

    def wait_s(self) -> float:
        """Until the first is due; 0 or less: it is. There must be one."""
        return self._heap[0][0] - self._clock.monotonic_s()

    def peek(self) -> LaneEvent:
        return self._heap[0][2]

    def pop(self) -> LaneEvent:
        return heapq.heappop(self._heap)[2]

    def items(self) -> list[LaneEvent]:
        return [item for _, _, item in self._heap]

    def take_expired(self, before_ms: int, breaker: Breaker) -> list[LaneEvent]:
        """Those that are due, first attempted before then, and held up by nothing but the circuit."""
        now_s = self._clock.monotonic_s()
        expired, kept = [], []
        for entry in self._heap:
            item = entry[2]
            if entry[0] <= now_s and item.first_attempt_at_ms + held_up_ms(item, self._clock, breaker) <= before_ms:
                expired.append(item)
            else:
                kept.append(entry)
        if expired:
            heapq.heapify(kept)
            self._heap = kept
        return expired


def held_up_ms(item: LaneEvent, clock: Clock, breaker: Breaker) -> int:
    """For how long the event has been due and could not be sent, other than for an open circuit: stopped, disabled,
    held, rate-limited. That, and a clock that was put forward, expires nothing."""
    late_ms = clock.now_ms() - item.due_at_ms
    if late_ms <= 0:
        return 0
    now_s = clock.monotonic_s()
    return max(0, late_ms - int(breaker.open_time_s(now_s - late_ms / 1000, now_s) * 1000))
