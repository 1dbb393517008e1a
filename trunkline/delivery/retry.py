"""When a failed attempt is tried again: pure arithmetic, no clock, no I/O.

Up to four hours from the first attempt, nine or ten attempts in that time, the waits random around an exponential
growth (``spec/event_path.md`` §8.1). The last attempt lies near the end of the window, so that a peer which recovers
late still gets the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """All times in seconds. A wait is drawn evenly from [1 - spread, 1 + spread] times its mean."""

    window_s: float = 4 * 3600
    first_wait_s: float = 2.0
    growth: float = 3.2
    spread: float = 0.5
    longest_wait_s: float = 90 * 60
    last_attempt_within_s: float = 15 * 60
    max_attempts: int = 10

    def wait_s(
        self, attempts: int, elapsed_s: float, random: Random, retry_after_s: float | None = None
    ) -> float | None:
        """Seconds until the next attempt after ``attempts`` of them, the first ``elapsed_s`` ago; None = give up.

        ``retry_after_s``, the peer's wish, may lengthen a wait but not past the window.
        """
        left_s = self.window_s - elapsed_s
        if left_s <= 0 or attempts >= self.max_attempts:
            return None
        mean_s = min(self.first_wait_s * self.growth ** (attempts - 1), self.longest_wait_s)
        wait_s = mean_s * random.uniform(1 - self.spread, 1 + self.spread)
        if retry_after_s is not None:
            wait_s = max(wait_s, retry_after_s)
        last_chance = attempts + 1 >= self.max_attempts or wait_s > left_s
        if not last_chance:
            return min(wait_s, self.longest_wait_s) if retry_after_s is None else wait_s
        if left_s <= self.last_attempt_within_s:
            return None if wait_s > left_s else wait_s
        return left_s - random.uniform(0, self.last_attempt_within_s)
