"""The answer 207 to a batch: one outcome an event, in the shape of Segment's own destinations.

The body is a JSON array, or an object with such an array as ``results`` or ``items``, of objects like
``{"status": 200}`` and ``{"status": 429, "errortype": "TOO_MANY_REQUESTS", "errormessage": "slow down"}``
(``spec/event_path.md`` §6.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

MULTI_STATUS: Final = 207
MISSING: Final = 500
_MESSAGES: Final = ("errormessage", "error", "message")


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """What a peer says of one event of a batch."""

    status: int
    detail: str = ""


def read_multi_status(body: bytes, events: int) -> list[ItemStatus] | None:
    """One status an event, in order; an event that the answer leaves out has 500.

    None when it can't be read as that: no JSON (also when it was cut at the client's limit), no array, more entries
    than events, or not one status in it.
    """
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if isinstance(answer, dict):
        answer = next((answer[key] for key in ("results", "items") if isinstance(answer.get(key), list)), None)
    if not isinstance(answer, list) or len(answer) > events:
        return None
    statuses = [_item(entry) for entry in answer]
    if not any(statuses):
        return None
    missing = ItemStatus(MISSING, "the answer has no status for this event")
    return [status or missing for status in statuses] + [missing] * (events - len(statuses))


def _item(entry: Any) -> ItemStatus | None:
    status = entry.get("status") if isinstance(entry, dict) else None
    if isinstance(status, bool) or not isinstance(status, int | float):
        return None
    if not 200 <= status <= 599 or status != int(status):
        return None
    return ItemStatus(int(status), _detail(entry))


def _detail(entry: Mapping[str, Any]) -> str:
    message = next((entry[key] for key in _MESSAGES if isinstance(entry.get(key), str)), "")
    kind = entry.get("errortype")
    return ": ".join(filter(None, [kind if isinstance(kind, str) else "", message]))
