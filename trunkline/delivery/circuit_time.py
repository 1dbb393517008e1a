"""How long nothing but an open circuit has kept a lane from sending: the only time in which events expire."""

from __future__ import annotations

from collections import deque

from trunkline.clock import Clock
from trunkline.delivery.breaker import KEPT_PERIODS, Breaker


class CircuitTime:
    """The breaker's open time, less the time in which the lane was held: disabled, or unable to record."""

    def __init__(self, breaker: Breaker, clock: Clock) -> None:
        self._breaker = breaker
        self._clock = clock
        self._held: deque[tuple[float, float]] = deque(maxlen=KEPT_PERIODS)
        self._held_since_s: float | None = None

    def hold(self) -> None:
        """From now on the lane is held. Again does no harm."""
        if self._held_since_s is None:
            self._held_since_s = self._clock.monotonic_s()

    def release(self) -> None:
        if self._held_since_s is not None:
            self._held.append((self._held_since_s, self._clock.monotonic_s()))
            self._held_since_s = None

    def since_s(self, since_s: float) -> float:
        """Seconds of it from that monotonic moment to now."""
        now_s = self._clock.monotonic_s()
        total_s = self._breaker.open_time_s(since_s, now_s)
        for held_s, released_s in self._held:
            if released_s > since_s:
                total_s -= self._breaker.open_time_s(max(held_s, since_s), released_s)
        if self._held_since_s is not None:
            total_s -= self._breaker.open_time_s(max(self._held_since_s, since_s), now_s)
        return max(0.0, total_s)

    @property
    def at_a_stretch_s(self) -> float:
        """Seconds of it since the circuit opened; 0 while it is closed."""
        opened_at_s = self._breaker.opened_at_s
        return 0.0 if opened_at_s is None else self.since_s(opened_at_s)
