"""Timestamps as clients spell them, and as Trunkline spells them.

Read: every ISO 8601 date-time that Segment's SDKs write (``spec/event_path.md`` §1.15): ``Z`` or an offset or
nothing (then UTC), any number of fractional digits (beyond microseconds they are cut), month, day and hour without
leading zero (``2015-2-02T…`` stands in Segment's own docs), a date alone, lower case. Numbers of 9 to 16 digits, as
a string or not, are epoch times: seconds below 10¹¹, milliseconds above (our own addition: Segment documents ISO
8601 only).

Written: UTC, ``Z``, three digits, or six if the time has microseconds.

Times are naive ``datetime`` in UTC: half the cost of aware ones, and nothing here has another zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001
_SECONDS_BELOW: Final = 100_000_000_000
_LOOSE: Final = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?\s*([Zz]|[+-]\d{2}:?\d{2}|[+-]\d{2})?",
    re.ASCII,
)
_CANONICAL: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", re.ASCII)
_EPOCH_NUMBER: Final = re.compile(r"-?\d{9,16}(?:\.\d{1,9})?", re.ASCII)
_from_iso: Final = datetime.fromisoformat


def parse_timestamp(text: str) -> datetime | None:
    """The time in UTC, naive; None if the text is no timestamp."""
    if len(text) >= 20 and text[-1] == "Z" and text[10] == "T":
        try:
            time = _from_iso(text[:-1])
        except ValueError:
            return _parse_loose(text)
        if time.tzinfo is None:
            return time
    return _parse_loose(text)


def _parse_loose(text: str) -> datetime | None:
    text = text.strip()
    match = _LOOSE.fullmatch(text) if len(text) < 64 else None
    if match is None:
        return parse_epoch(float(text)) if _EPOCH_NUMBER.fullmatch(text) else None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        time = datetime(  # noqa: DTZ001
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
            int((fraction or "0")[:6].ljust(6, "0")),
        )  # fmt: skip
        if zone and zone not in "Zz":
            digits = zone[1:].replace(":", "").ljust(4, "0")
            offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            time = time + offset if zone[0] == "-" else time - offset
    except (ValueError, OverflowError):
        return None
    return time


def parse_epoch(number: float) -> datetime | None:
    """An epoch time in seconds (below 10¹¹) or milliseconds; None if it is out of range."""
    try:
        seconds = number if abs(number) < _SECONDS_BELOW else number / 1000
        return EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


def is_canonical(text: str) -> bool:
    """Whether the spelling is complete and in UTC, so that it may stay as the client sent it."""
    return _CANONICAL.fullmatch(text) is not None


def format_timestamp(time: datetime) -> str:
    if time.microsecond % 1000:
        return time.isoformat(timespec="microseconds") + "Z"
    return time.isoformat(timespec="milliseconds") + "Z"


def from_epoch_ms(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).replace(tzinfo=None, microsecond=epoch_ms % 1000 * 1000)
