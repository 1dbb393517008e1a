"""Moments as people give them on the command line, and how they are printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import typer

from trunkline.clock import Clock
from trunkline.observe.wording import minute_text, time_text

__all__ = ["TIME_HELP", "minute_text", "parse_time", "time_text"]

TIME_HELP: Final = "ISO time (UTC unless it says otherwise) or how long ago: 90s, 30m, 24h, 7d."
_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_AGO = re.compile(r"(\d{1,9})\s*([smhdw])")


def parse_time(text: str, clock: Clock) -> int:
    """Milliseconds since the epoch of ``2026-11-21T10:00:00Z``, ``2026-11-21`` (its first moment), ``24h`` (so long
    ago) or ``now``. A time without an offset is UTC.

    Raises typer.BadParameter, which a command shows with its usage.
    """
    wanted = text.strip()
    if wanted == "now":
        return clock.now_ms()
    ago = _AGO.fullmatch(wanted)
    if ago is not None:
        return max(0, clock.now_ms() - int(ago[1]) * _UNITS_MS[ago[2]])
    try:
        moment = datetime.fromisoformat(wanted)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment_ms = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        moment_ms = -1
    if moment_ms < 0:
        raise typer.BadParameter(
            f"{text!r} is no time. Give one such as 2026-11-21T10:00:00Z, 2026-11-21, or 24h, 7d for so long ago."
        )
    return moment_ms
