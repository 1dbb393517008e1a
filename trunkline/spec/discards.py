"""Why an event is filtered at a destination: Segment's names of the reasons, and some of our own.

The texts for people are in :mod:`trunkline.spec.delivery_codes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FILTERED_BY_END_USER_CONSENT: Final = "FILTERED_BY_END_USER_CONSENT"
"""The event's consent preferences forbid one of the destination's categories."""
FILTERED_BY_INTEGRATIONS_OBJECT: Final = "FILTERED_BY_INTEGRATIONS_OBJECT"
"""The event's ``integrations`` turn the destination off."""
MESSAGE_SENT_CLIENT_SIDE: Final = "MESSAGE_SENT_CLIENT_SIDE"
"""The destination got the event from the browser or app itself."""
FILTERED_BY_RULES: Final = "FILTERED_BY_RULES"
"""A destination filter dropped the event, or a sample left it out."""
INVALID_FILTER: Final = "INVALID_FILTER"
"""A destination filter can't be read, so nothing passes (ours: Segment drops such events without a word)."""

UNSUPPORTED_EVENT_TYPE: Final = "UNSUPPORTED_EVENT_TYPE"
"""The destination does not take events of this type, or none of sources of this kind."""
FILTERED_BY_INTEGRATION_FILTER: Final = "FILTERED_BY_INTEGRATION_FILTER"
"""The source's schema keeps the event from the destination (ours: Segment counts it with the integrations object)."""

UNPLANNED: Final = "unplanned"
"""At the source: the tracking plan does not know the event."""
SCHEMA_VIOLATION: Final = "schema_violation"
UNPLANNED_AND_SCHEMA_VIOLATION: Final = "unplanned_and_schema_violation"
COMMON_SCHEMA_VIOLATION: Final = "common_schema_violation"
EVENT_SETTING: Final = "event_setting"
"""At the source: its schema blocks the event."""
TRANSFORMATION_DROP: Final = "transformation_drop"
"""At the source or a destination: a transformation drops the event (ours)."""
INVALID_TRANSFORMATION: Final = "invalid_transformation"
"""A transformation can't be read, so nothing passes (ours)."""
INVALID_PLAN: Final = "invalid_plan"
"""The tracking plan can't be read, and it is there to block (ours)."""
FORWARDING_LIMIT: Final = "forwarding_limit"
"""At the source that violations are forwarded to: one step brought more of them than fit (ours)."""


@dataclass(frozen=True, slots=True)
class Discard:
    """What a pure stage answers instead of an event. ``detail`` is for people, and empty where the reason says all."""

    reason: str
    detail: str = ""
