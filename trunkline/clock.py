"""The one source of time. Everything else takes a :class:`Clock`; a lint rule forbids the rest."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for what is waited for."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC. May jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only move forward, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()
