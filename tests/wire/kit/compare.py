"""What an event must be at the webhook, given what a client put on the wire."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .calls import instant


def assert_is_what_was_sent(event: dict[str, Any], sent: dict[str, Any], sent_at: str) -> None:
    """Field by field; only the server's own fields may be new (``spec/event_path.md`` §1.7)."""
    for key, value in sent.items():
        if key in ("timestamp", "sentAt", "writeKey", "context") or value is None:
            continue
        assert event[key] == value, key
    for key, value in sent.get("context", {}).items():
        assert event["context"][key] == value, f"context.{key}"
    assert "writeKey" not in event
    original = instant(sent["timestamp"])
    assert instant(event["originalTimestamp"]) == original
    corrected = instant(event["receivedAt"]) - (instant(sent_at) - original)
    assert abs(instant(event["timestamp"]) - corrected) <= timedelta(milliseconds=1)
