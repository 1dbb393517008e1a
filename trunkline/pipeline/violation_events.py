"""The Track event ``Violation Generated`` that tells another source of a violation (``spec/event_path.md`` §4.6).

An event can break its plan in twenty places, and each of them is told by an event of its own; all that they have in
common is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from trunkline.spec.app_version import MAX_LENGTH
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
_ID_LENGTH: Final = len(ID_PREFIX) + 2 * _ID_BYTES
_encode: Final = msgspec.json.Encoder().encode


def _members(value: Any) -> bytes:
    """The JSON of an object, or of a list, without its brackets."""
    return _encode(value)[1:-1]


_BEHIND_APP: Final = b",%b},%b," % (
    _members({"library": LIBRARY}),
    _members({"event": NAME, "integrations": {}}),
)


class _Told(msgspec.Struct, gc=False):
    """What differs from violation to violation, but for the messageId."""

    description: str = msgspec.field(name="violationDescription")
    field: str = msgspec.field(name="violationField")
    type: str = msgspec.field(name="violationType")


_SHORTEST: Final = len(_members(_Told("", "", "")))


class ViolationTemplate:
    """The events that tell of the violations of one event, before any of them is made."""

    __slots__ = ("_behind_id", "_end", "_seed", "_start", "app_version", "least_bytes")

    def __init__(self, app_version: str, start: bytes, behind_id: bytes, end: bytes, seed: bytes) -> None:
        self.app_version = app_version
        """What :func:`trunkline.spec.app_version.app_version_of` finds in each of the events."""
        self._start = start
        self._behind_id = behind_id
        self._end = end
        self._seed = seed
        self.least_bytes = len(start) + _ID_LENGTH + len(behind_id) + _SHORTEST + len(end)
        """None of the events is smaller."""

    def make(self, violation: Violation, index: int, max_bytes: int) -> tuple[str, bytes] | None:
        """The messageId and the JSON of one event; None if that were larger than ``max_bytes``.

        ``index`` is the violation's place among those of the event. The messageId is the same each time for the same
        source, event and index.
        """
        told = _members(_Told(violation.description, violation.field, violation.type))
        if self.least_bytes - _SHORTEST + len(told) > max_bytes:
            return None
        message_id = ID_PREFIX + blake2b(b"%b,%d]" % (self._seed, index), digest_size=_ID_BYTES).hexdigest()
        return message_id, b"".join((self._start, message_id.encode(), self._behind_id, told, self._end))


class ViolationEvents:
    """How the violations of one source's events are told."""

    def __init__(self, source: str, source_name: str, plan: TrackingPlan) -> None:
        """``source`` is the slug of the source."""
        self._source = source
        self._origin = _members(
            {
                "sourceID": source,
                "sourceName": source_name,
                "sourceSlug": source,
                "trackingPlanID": f"rs_{plan.slug}",
                "trackingPlanName": plan.name,
            }
        )
        self._end = _members({"type": "track", "userId": USER_ID, "forwardedFromProject": source})

    def template(self, event: Mapping[str, Any], now: str) -> ViolationTemplate:
        """``event``: the one that the violations are of. ``now``: a time in ISO 8601."""
        kind = _text(event.get("type"))
        message_id = event.get("messageId")
        context = event.get("context")
        app = context.get("app") if isinstance(context, Mapping) else None
        version = _text(app.get("version")) if isinstance(app, Mapping) else ""
        told = _members(
            {
                "appVersion": version,
                "eventMessageID": _text(message_id),
                "eventName": _text(event.get(NAME_FIELDS.get(kind, ""))),
                "eventSentAt": _text(event.get("sentAt")) or ZERO_TIME,
                "eventTimestamp": _text(event.get("timestamp")) or ZERO_TIME,
                "eventType": kind,
            }
        )
        return ViolationTemplate(
            version[:MAX_LENGTH],
            b'{"context":{"app":%b%b"messageId":"' % (_encode(app), _BEHIND_APP),
            b'","properties":{%b,%b,' % (told, self._origin),
            b"},%b,%b}" % (_members({"receivedAt": now, "timestamp": now}), self._end),
            _encode([self._source, message_id])[:-1],
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
