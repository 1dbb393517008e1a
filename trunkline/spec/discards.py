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


@dataclass(frozen=True, slots=True)
class Discard:
    """What a pure stage answers instead of an event. ``detail`` is for people, and empty where the reason says all."""

    reason: str
    detail: str = ""
