"""How fast a destination may be sent to: its own rates, and the pauses that it asks for."""

from __future__ import annotations

from typing import Final

from trunkline.clock import Clock

LONGEST_PAUSE_S: Final = 4 * 3600.0
"""No peer may stop its lane for longer than the window for retries."""

BURST_S: Final = 1.0

_CLOSE_ENOUGH_S: Final = 1e-6
"""Rounding must not make a caller that waited exactly as long as it was told wait again."""


class _Bucket:
    """A token bucket, kept as the moment at which it is full again: nothing to refill, nothing that drifts.

    It holds the tokens of one second. A taking larger than that needs a full bucket and leaves a debt.
    """

    __slots__ = ("full_at_s", "rate", "size")

    def __init__(self, rate: float, now_s: float) -> None:
        self.rate = rate
        self.size = rate * BURST_S
        self.full_at_s = now_s

    def wait_s(self, tokens: int, now_s: float) -> float:
        return self.full_at_s - now_s - max(0.0, self.size - tokens) / self.rate

    def take(self, tokens: int, now_s: float) -> None:
        self.full_at_s = max(self.full_at_s, now_s) + tokens / self.rate


class Limiter:
    """One for each destination, shared by all that send to it. In any stretch of time it lets through at most the rate
    times the stretch, and one second's worth on top (or the largest batch, if that is more)."""

    def __init__(self, clock: Clock, requests_per_s: float | None, events_per_s: float | None) -> None:
        """None: no limit of that kind. Raises ValueError for a rate that is not above 0."""
        self._clock = clock
        now_s = clock.monotonic_s()
        self._requests = _bucket("requests_per_s", requests_per_s, now_s)
        self._events = _bucket("events_per_s", events_per_s, now_s)
        self._unlimited = self._requests is None and self._events is None
        self._paused_until_s: float | None = None

    def wait_s(self, events: int) -> float:
        """Seconds until a request with so many events may be sent; 0: now. Takes nothing."""
        if self._unlimited and self._paused_until_s is None:
            return 0.0
        now_s = self._clock.monotonic_s()
        wait_s = self._pause_left_s(now_s)
        if self._requests is not None:
            wait_s = max(wait_s, self._requests.wait_s(1, now_s))
        if self._events is not None:
            wait_s = max(wait_s, self._events.wait_s(events, now_s))
        return wait_s if wait_s > _CLOSE_ENOUGH_S else 0.0

    def take(self, events: int) -> None:
        """A request with so many events is sent."""
        if self._unlimited:
            return
        now_s = self._clock.monotonic_s()
        if self._requests is not None:
            self._requests.take(1, now_s)
        if self._events is not None:
            self._events.take(events, now_s)

    def pause(self, seconds: float) -> None:
        """The peer wants no request for so long. Of several wishes the one that ends last counts."""
        if not seconds > 0:
            return
        until_s = self._clock.monotonic_s() + min(seconds, LONGEST_PAUSE_S)
        if self._paused_until_s is None or until_s > self._paused_until_s:
            self._paused_until_s = until_s

    @property
    def paused_for_s(self) -> float:
        """Seconds that are left of the peer's pause; 0: none."""
        return 0.0 if self._paused_until_s is None else self._pause_left_s(self._clock.monotonic_s())

    def _pause_left_s(self, now_s: float) -> float:
        if self._paused_until_s is None:
            return 0.0
        left_s = self._paused_until_s - now_s
        if left_s > _CLOSE_ENOUGH_S:
            return left_s
        self._paused_until_s = None
        return 0.0


def _bucket(name: str, rate: float | None, now_s: float) -> _Bucket | None:
    if rate is None:
        return None
    if not 0 < rate < float("inf"):
        raise ValueError(f"{name} is {rate}: give a number above 0, or leave it out for no limit")
    return _Bucket(rate, now_s)
