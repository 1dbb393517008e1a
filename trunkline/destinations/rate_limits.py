"""What an answer's headers say about waiting: ``Retry-After`` and the headers of rate limits.

Read are ``Retry-After`` (seconds or an HTTP date), ``RateLimit-Remaining`` with ``RateLimit-Reset``, ``RateLimit`` in
both of its drafted forms (``limit=100, remaining=0, reset=50`` and ``"default";r=0;t=50``), ``X-RateLimit-Remaining``
with ``X-RateLimit-Reset`` or ``X-RateLimit-Reset-After``. Whatever a peer writes there, nothing raises, and no wait is
longer than :data:`LONGEST_WAIT_S`; what can't be read is as if it were absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from trunkline.clock import Clock

LONGEST_WAIT_S: Final = 4 * 3600.0
PAUSING_STATUSES: Final = frozenset({429, 503})
"""With these, ``Retry-After`` speaks of the peer as a whole and not of one request."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,9})?")
_LONGEST_DATE: Final = 40
_LONGEST_LIST: Final = 1000
_EPOCH_S: Final = 1e9
"""Resets from here on are moments, not waits: as seconds since the epoch it is 2001, as a wait 31 years."""
_EPOCH_MS: Final = 1e12
_REMAINING: Final = re.compile(r"(?:^|[\s,;])(?:remaining|r)\s*=\s*([0-9]{1,15})(?![0-9.])", re.IGNORECASE)
_RESET: Final = re.compile(r"(?:^|[\s,;])(?:reset|t)\s*=\s*([0-9]{1,15})(?![0-9.])", re.IGNORECASE)


def retry_after_s(headers: Mapping[str, str], clock: Clock) -> float | None:
    """``Retry-After`` in seconds from now; None when absent or unreadable. A date that has passed is 0."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        at_s = _date_s(value.strip())
        if at_s is None:
            return None
        seconds = at_s - clock.now_ms() / 1000
    return min(max(0.0, seconds), LONGEST_WAIT_S)


def pause_s(status: int, headers: Mapping[str, str], clock: Clock) -> float | None:
    """How long the peer wants no request at all; None when it has no such wish.

    Cheap for an answer without such headers: four look-ups.
    """
    if status in PAUSING_STATUSES and "Retry-After" in headers:
        wait_s = retry_after_s(headers, clock)
        if wait_s is not None:
            return wait_s or None
    reset_s: float | None = None
    if "RateLimit-Remaining" in headers and _number(headers["RateLimit-Remaining"]) == 0:
        reset_s = _from_now_s(headers.get("RateLimit-Reset"), clock)
    if reset_s is None and "RateLimit" in headers:
        reset_s = _combined_s(headers["RateLimit"])
    if reset_s is None and "X-RateLimit-Remaining" in headers and _number(headers["X-RateLimit-Remaining"]) == 0:
        after_s = _number(headers.get("X-RateLimit-Reset-After", ""))
        reset_s = after_s if after_s is not None else _from_now_s(headers.get("X-RateLimit-Reset"), clock)
    if reset_s is None or reset_s <= 0:
        return None
    return min(reset_s, LONGEST_WAIT_S)


def _number(value: str) -> float | None:
    """A plain number, decimals allowed."""
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _date_s(text: str) -> float | None:
    """An HTTP date in seconds since the epoch."""
    if len(text) > _LONGEST_DATE or not text.isascii():
        return None
    try:
        at = parsedate_to_datetime(text)
        # Without a zone it would be taken for local time; HTTP dates are in GMT.
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _from_now_s(value: str | None, clock: Clock) -> float | None:
    """A reset, told as a wait or as a moment: the magnitude tells which."""
    number = _number(value) if value is not None else None
    if number is None or number < _EPOCH_S:
        return number
    at_s = number / 1000 if number >= _EPOCH_MS else number
    return at_s - clock.now_ms() / 1000


def _combined_s(value: str) -> float | None:
    """The longest reset among the limits that are used up, of one header that holds remaining and reset."""
    if len(value) > _LONGEST_LIST:
        return None
    # The older form is one limit with commas inside, the newer one a list of limits.
    limits = [value] if "=" in value.split(";")[0] else value.split(",")
    waits = [
        float(reset[1])
        for limit in limits
        if (remaining := _REMAINING.search(limit)) and not int(remaining[1]) and (reset := _RESET.search(limit))
    ]
    return max(waits, default=None)
