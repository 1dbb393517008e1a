"""Polling: a busy machine makes a test slower, never red."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def wait_until(
    condition: Callable[[], bool],
    what: str | Callable[[], str],
    *,
    timeout_s: float = PATIENCE_S,
    pause_s: float = 0.05,
) -> None:
    """Return as soon as it holds. Raises AssertionError that says what did not come."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause_s)
