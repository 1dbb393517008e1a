"""The Track event ``Violation Generated`` that tells another source of a violation (``spec/event_path.md`` §4.6)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from trunkline.spec.event import NAME_FIELDS
from trunkline.spec.plans import TrackingPlan
from trunkline.spec.violations import Violation

NAME: Final = "Violation Generated"
USER_ID: Final = "schema-violations"
ID_PREFIX: Final = "sch-"
ZERO_TIME: Final = "0001-01-01T00:00:00Z"
"""Stands for a time that the event does not have."""
LIBRARY: Final = {"name": "analytics-node", "version": "2.1.0"}
"""What Segment sends these events with; consumers look for it."""

_ID_BYTES: Final = 16
_encode: Final = msgspec.json.Encoder().encode


def violation_event(
    violation: Violation,
    event: Mapping[str, Any],
    *,
    source: str,
    source_name: str,
    plan: TrackingPlan,
    index: int,
    now: str,
) -> tuple[str, bytes]:
    """The messageId and the JSON of the event that tells of one violation.

    ``source`` is the slug of the source that ``event`` came from, ``index`` the violation's place among those of the
    event, ``now`` a time in ISO 8601. The messageId is the same each time for the same source, event and index.
    """
    context = event.get("context")
    app = context.get("app") if isinstance(context, Mapping) else None
    version = app.get("version") if isinstance(app, Mapping) else None
    kind = _text(event.get("type"))
    message_id = _id(source, event, index)
    body = {
        "context": {"app": app, "library": LIBRARY},
        "event": NAME,
        "integrations": {},
        "messageId": message_id,
        "properties": {
            "appVersion": _text(version),
            "eventMessageID": _text(event.get("messageId")),
            "eventName": _text(event.get(NAME_FIELDS.get(kind, ""))),
            "eventSentAt": _text(event.get("sentAt")) or ZERO_TIME,
            "eventTimestamp": _text(event.get("timestamp")) or ZERO_TIME,
            "eventType": kind,
            "sourceID": source,
            "sourceName": source_name,
            "sourceSlug": source,
            "trackingPlanID": f"rs_{plan.slug}",
            "trackingPlanName": plan.name,
            "violationDescription": violation.description,
            "violationField": violation.field,
            "violationType": violation.type,
        },
        "receivedAt": now,
        "timestamp": now,
        "type": "track",
        "userId": USER_ID,
        "forwardedFromProject": source,
    }
    return message_id, _encode(body)


def _id(source: str, event: Mapping[str, Any], index: int) -> str:
    seed = _encode([source, event.get("messageId"), index])
    return ID_PREFIX + blake2b(seed, digest_size=_ID_BYTES).hexdigest()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
