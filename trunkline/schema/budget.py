"""A share of a core that optional work may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from trunkline.clock import Clock

_SAVED_S: Final = 5.0
"""So much wall time's share may be saved up: a burst is looked at whole."""


class CpuBudget:
    """CPU time of the calling thread, earned at a steady rate. For one thread."""

    def __init__(self, clock: Clock, share: float, cpu_s: Callable[[], float] = time.thread_time) -> None:
        """``share`` of a core, 0 to 1. ``cpu_s`` tells the CPU time that the thread has taken."""
        self._clock = clock
        self._share = share
        self._cpu_s = cpu_s
        self._left_s = share * _SAVED_S
        self._earned_at_s = clock.monotonic_s()
        self._working_since_s = 0.0

    def begin(self) -> bool:
        """Optional work may follow. Whether there is time for it."""
        now_s = self._clock.monotonic_s()
        earned_s = (now_s - self._earned_at_s) * self._share
        self._earned_at_s = now_s
        self._left_s = min(self._left_s + earned_s, self._share * _SAVED_S)
        self._working_since_s = self._cpu_s()
        return self._left_s > 0

    def spend(self) -> bool:
        """Take what was used since :meth:`begin` or the last call. Whether there is time for more."""
        cpu_s = self._cpu_s()
        self._left_s -= cpu_s - self._working_since_s
        self._working_since_s = cpu_s
        return self._left_s > 0
