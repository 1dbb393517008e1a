"""Times and counts in words, the same in every view."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(moment_ms: int) -> str:
    """To the second, UTC, in a form that commands take."""
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def minute_text(moment_ms: int) -> str:
    """To the minute, UTC, in a form that commands take."""
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def duration_text(milliseconds: float) -> str:
    """In the unit that fits."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count_text(count: int, what: str) -> str:
    """``1 event``, ``2,000 events``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def violation_text(kind: str, field: str, description: str) -> str:
    """``Invalid Type, properties.total: Invalid type. …``; a field that the description begins with stands once."""
    named = not field or not description or description.startswith(f"{field} ")
    return f"{kind}: {description or field}" if named else f"{kind}, {field}: {description}"
