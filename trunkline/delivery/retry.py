"""When a failed attempt is tried again: pure arithmetic, no clock, no I/O.

Up to four hours from the first attempt, nine or ten attempts in that time, the waits random around an exponential
growth (``spec/event_path.md`` §8.1). The last attempt lies near the end of the window, so that a peer which recovers
late still gets the event. A destination may have another window and another number of attempts, within bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

WINDOW_BOUNDS_S: Final = (60.0, 24 * 3600.0)
"""Shortest and longest time from the first attempt to the last that a destination may ask for."""

ATTEMPTS_BOUNDS: Final = (1, 20)
"""Fewest and most attempts, the first one included, that a destination may ask for."""

STEEPEST_GROWTH: Final = 10.0
"""With few attempts the first wait grows instead: 2 s, then nothing for 4 hours, would be no spreading."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """All times in seconds. A wait is drawn evenly from [1 - spread, 1 + spread] times its mean."""

    window_s: float = 4 * 3600
    first_wait_s: float = 2.0
    growth: float = 3.2
    spread: float = 0.5
    longest_wait_s: float = 90 * 60
    last_attempt_within_s: float = 60.0
    max_attempts: int = 10

    @classmethod
    def bounded(cls, window_s: float | None, attempts: int | None) -> RetryPolicy:
        """The policy of a destination that asks for a window or a number of attempts of its own; None: the default.

        The attempts spread over the window as the default's do over four hours. Raises ValueError outside of
        :data:`WINDOW_BOUNDS_S` and :data:`ATTEMPTS_BOUNDS`.
        """
        window_s = DEFAULT_POLICY.window_s if window_s is None else window_s
        attempts = DEFAULT_POLICY.max_attempts if attempts is None else attempts
        shortest_s, longest_s = WINDOW_BOUNDS_S
        if not shortest_s <= window_s <= longest_s:
            raise ValueError(f"a retry window of {window_s:g} s: give {shortest_s:g} to {longest_s:g} seconds")
        fewest, most = ATTEMPTS_BOUNDS
        if not fewest <= attempts <= most:
            raise ValueError(f"{attempts} attempts: give {fewest} to {most}")
        return _scaled(float(window_s), attempts)

    def wait_s(
        self, attempts: int, elapsed_s: float, random: Random, retry_after_s: float | None = None
    ) -> float | None:
        """Seconds until the next attempt after ``attempts`` of them, the first ``elapsed_s`` ago; None = give up.

        ``retry_after_s``, the peer's wish, may lengthen a wait but not past the window.
        """
        left_s = self.window_s - elapsed_s
        if left_s <= 0 or attempts >= self.max_attempts:
            return None
        wait_s = self.first_wait_s * self.growth ** (attempts - 1)
        if wait_s > self.longest_wait_s:
            wait_s = self.longest_wait_s
        wait_s *= 1 + self.spread * (2 * random.random() - 1)
        if retry_after_s is not None:
            wait_s = max(wait_s, retry_after_s)
        last_chance = attempts + 1 >= self.max_attempts or wait_s > left_s
        if not last_chance:
            return min(wait_s, self.longest_wait_s) if retry_after_s is None else wait_s
        if left_s <= self.last_attempt_within_s:
            return None if wait_s > left_s else wait_s
        return left_s - random.random() * self.last_attempt_within_s


DEFAULT_POLICY: Final = RetryPolicy()


@lru_cache(maxsize=256)
def _scaled(window_s: float, attempts: int) -> RetryPolicy:
    """The default's proportions at another size: the mean waits add up to the middle of the last attempt's range."""
    if (window_s, attempts) == (DEFAULT_POLICY.window_s, DEFAULT_POLICY.max_attempts):
        return DEFAULT_POLICY
    waits = max(1, attempts - 1)
    scale = window_s / DEFAULT_POLICY.window_s
    within_s = DEFAULT_POLICY.last_attempt_within_s * scale
    # Two or three waits that fill a window must each be longer than the share that the default allows one of nine.
    longest_s = min(max(DEFAULT_POLICY.longest_wait_s * scale, 1.5 * window_s / waits), window_s)
    target_s = window_s - within_s / 2

    def total_s(first_s: float, growth: float) -> float:
        return sum(min(first_s * growth**step, longest_s) for step in range(waits))

    first_s, growth = DEFAULT_POLICY.first_wait_s, STEEPEST_GROWTH
    if total_s(first_s, growth) >= target_s:
        low, high = 1.0, STEEPEST_GROWTH
        for _ in range(50):
            growth = (low + high) / 2
            low, high = (growth, high) if total_s(first_s, growth) < target_s else (low, growth)
    else:
        low, high = first_s, window_s
        for _ in range(50):
            first_s = (low + high) / 2
            low, high = (first_s, high) if total_s(first_s, growth) < target_s else (low, first_s)
    return RetryPolicy(
        window_s=window_s,
        first_wait_s=first_s,
        growth=growth,
        longest_wait_s=longest_s,
        last_attempt_within_s=within_s,
        max_attempts=attempts,
    )
