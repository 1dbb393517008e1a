"""Timestamps as clients spell them, and as Trunkline spells them.

Read: every ISO 8601 date-time that Segment's SDKs write (``spec/event_path.md`` §1.15): ``Z`` or an offset or
nothing (then UTC), any number of fractional digits (beyond microseconds they are cut), month, day and hour without
leading zero (``2015-2-02T…`` stands in Segment's own docs), a date alone, lower case. Numbers of 9 to 16 digits, as
a string or not, are epoch times: seconds below 10¹¹, milliseconds above (our own addition: Segment documents ISO
8601 only).

Written: UTC, ``Z``, three digits, or six if the time has microseconds.

Times are whole microseconds since the epoch. Most timestamps of a moment's traffic share their second, hence the
two small tables from the text of a second to its time and back: a third of the cost of ``datetime``.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE_US: Final = 60_000_000
_EPOCH_SECONDS_BELOW: Final = 100_000_000_000
_LOOSE: Final = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?\s*([Zz]|[+-]\d{2}:?\d{2}|[+-]\d{2})?)?",
    re.ASCII,
)
_EPOCH_NUMBER: Final = re.compile(r"-?\d{9,16}(?:\.\d{1,9})?", re.ASCII)
_CANONICAL: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", re.ASCII)

_MILLISECONDS: Final = {f".{ms:03}Z": ms * 1000 for ms in range(1000)}
_MILLISECOND_TEXTS: Final = list(_MILLISECONDS)
_MAX_SECONDS: Final = 8192
_time_of_second: dict[str, int] = {}
_text_of_second: dict[int, str] = {}


def parse_timestamp(text: str) -> int | None:
    """Microseconds since the epoch; None if the text is no timestamp."""
    second = _time_of_second.get(text[:19])
    ms = _MILLISECONDS.get(text[19:])
    if second is not None and ms is not None:
        return second + ms
    time = _parse_loose(text)
    if time is not None and ms is not None and _CANONICAL.fullmatch(text):
        if len(_time_of_second) >= _MAX_SECONDS:
            _time_of_second.clear()
        _time_of_second[text[:19]] = time - ms
    return time


def _parse_loose(text: str) -> int | None:
    text = text.strip()
    match = _LOOSE.fullmatch(text) if len(text) < 64 else None
    if match is None:
        return parse_epoch(float(text)) if _EPOCH_NUMBER.fullmatch(text) else None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        time = datetime(  # noqa: DTZ001
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0")[:6].ljust(6, "0")),
        )
    except ValueError:
        return None
    microseconds = (time - _EPOCH) // _MICROSECOND
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset_us = (int(digits[:2]) * 60 + int(digits[2:])) * _MINUTE_US
        microseconds += offset_us if zone[0] == "-" else -offset_us
    return microseconds


def parse_epoch(number: float) -> int:
    """Microseconds of an epoch time in seconds (below 10¹¹) or milliseconds."""
    return round(number * 1_000_000) if abs(number) < _EPOCH_SECONDS_BELOW else round(number * 1000)


def is_canonical(text: str) -> bool:
    """Whether the spelling is complete and in UTC, so that it may stay as the client sent it."""
    return _CANONICAL.fullmatch(text) is not None


def format_timestamp(time_us: int) -> str:
    """Raises OverflowError outside of the years 1 to 9999."""
    second, rest = divmod(time_us, 1_000_000)
    text = _text_of_second.get(second)
    if text is None:
        if len(_text_of_second) >= _MAX_SECONDS:
            _text_of_second.clear()
        text = (_EPOCH + timedelta(seconds=second)).isoformat()
        _text_of_second[second] = text
    ms, us = divmod(rest, 1000)
    return f"{text}.{rest:06}Z" if us else text + _MILLISECOND_TEXTS[ms]
