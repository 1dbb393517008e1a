"""How many requests a destination gets at a time: as many as it bears."""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final

from trunkline.clock import Clock

DECREASE: Final = 0.7

_SAME_MOMENT_S: Final = 1e-6


class Signal(Enum):
    """What an attempt says about the destination's load."""

    OK = "ok"
    """It answered. That it took long is no reason to send it less."""
    OVERLOAD = "overload"
    """A timeout, 429, 503, or a connection that was refused or reset."""


class AdaptiveConcurrency:
    """Additive increase, multiplicative decrease, from the maximum down.

    A full round of successes raises the limit by one. An overload lowers it to 0.7 of itself, but only one of each
    round does: attempts that began before the limit was lowered say nothing about the lower one.
    """

    def __init__(self, clock: Clock, maximum: int) -> None:
        """``maximum``: at least 1."""
        if maximum < 1:
            raise ValueError(f"a concurrency of {maximum}: give 1 or more")
        self._clock = clock
        self._maximum = maximum
        self._exact = float(maximum)
        self._slow_start = False
        self._changed_at_s = -inf
        self.limit = maximum
        """Requests that may be under way together, 1 to the maximum."""

    def end(self, signal: Signal, latency_s: float) -> None:
        """An attempt ended that began ``latency_s`` ago."""
        if signal is Signal.OK:
            if self.limit < self._maximum:
                self._raise(latency_s)
        elif self._began_after_change_s(latency_s) > _SAME_MOMENT_S:
            self._slow_start = False
            self._set(max(1.0, self._exact * DECREASE))
            self._changed_at_s = self._clock.monotonic_s()

    def restart(self) -> None:
        """The destination is back: begin with one request, and double with each round of successes until the first
        overload or the maximum."""
        self._slow_start = True
        self._set(1.0)
        self._changed_at_s = self._clock.monotonic_s()

    def _raise(self, latency_s: float) -> None:
        if not self._slow_start:
            self._set(self._exact + 1 / self._exact)
        elif self._began_after_change_s(latency_s) >= -_SAME_MOMENT_S:
            self._set(self._exact + 1)

    def _set(self, exact: float) -> None:
        self._exact = min(exact, float(self._maximum))
        self.limit = int(self._exact)

    def _began_after_change_s(self, latency_s: float) -> float:
        return self._clock.monotonic_s() - latency_s - self._changed_at_s
