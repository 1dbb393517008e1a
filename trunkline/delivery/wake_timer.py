"""Wakes a lane by the earliest of the times that were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class WakeTimer:
    """One timer of the loop at most, however many ask. For the loop's thread."""

    __slots__ = ("_at_s", "_handle", "_wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None
        self._at_s = 0.0

    def wake_in(self, wait_s: float) -> None:
        """At the latest: an earlier call that was asked for stays."""
        loop = asyncio.get_running_loop()
        at_s = loop.time() + wait_s
        if self._handle is not None:
            if self._at_s <= at_s:
                return
            self._handle.cancel()
        self._handle = loop.call_later(wait_s, self._fired)
        self._at_s = at_s

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fired(self) -> None:
        self._handle = None
        self._wake()
