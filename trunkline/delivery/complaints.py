"""Tells the operator, not too often, that a destination does not take its events."""

from __future__ import annotations

from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.destinations.kit import Outcome, Result

INTERVAL_S: Final = 60.0

_log = structlog.get_logger(__name__)


class Complaints:
    """Of one destination: the first at once, then one a minute at most."""

    def __init__(self, destination: str, clock: Clock) -> None:
        self._destination = destination
        self._clock = clock
        self._silent_until_s = float("-inf")

    def note(self, outcome: Outcome) -> None:
        """Log an attempt that failed, unless that was done a moment ago."""
        now_s = self._clock.monotonic_s()
        if now_s < self._silent_until_s:
            return
        self._silent_until_s = now_s + INTERVAL_S
        _log.warning(
            "destination.refuses",
            destination=self._destination,
            reason=outcome.reason,
            # What a peer answers may repeat what we sent, secrets included; our own words on why there was no answer
            # do not.
            detail="" if outcome.reason.isdigit() else outcome.detail,
            tried_again=outcome.result is Result.RETRY,
        )
