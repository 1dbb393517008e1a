"""A clock for tests that set the time themselves."""

from __future__ import annotations


class HandClock:
    """Moves when told."""

    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def pass_s(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)
