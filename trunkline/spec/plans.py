"""A tracking plan and what a source does about events that break it (``spec/event_path.md`` §4.1, §4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TRACK: Final = "track"
IDENTIFY: Final = "identify"
GROUP: Final = "group"
PAGE: Final = "page"
SCREEN: Final = "screen"
COMMON: Final = "common"
"""A rule for every event of the source, whatever its type."""
RULE_TYPES: Final = (TRACK, IDENTIFY, GROUP, PAGE, SCREEN, COMMON)

ALLOW: Final = "allow"
BLOCK: Final = "block"
OMIT: Final = "omit"

PAGE_EVENT: Final = "Page Viewed"
SCREEN_EVENT: Final = "Screen Viewed"
"""The track rules that page and screen calls meet where the plan has no rule of their own type."""

MAX_RULES: Final = 2000
MAX_SCHEMA_BYTES: Final = 256 << 10
"""Of one rule's schema as JSON."""


@dataclass(frozen=True)
class Rule:
    """What events of one type must look like: ``schema`` (JSON Schema, draft 7) is for the whole event.

    ``event`` is the name of a track event, or of a page or screen if the rule is for it alone; otherwise empty.
    """

    type: str
    schema: Mapping[str, Any]
    event: str = ""
    version: int = 1


@dataclass(frozen=True)
class Enforcement:
    """What happens to calls of one kind. Unplanned properties (traits): ``allow`` or ``omit``. Violations of the
    event's own rule, and of the common one: ``allow``, ``block`` or ``omit``."""

    unplanned_properties: str = ALLOW
    violations: str = ALLOW
    common_violations: str = ALLOW


@dataclass(frozen=True)
class SchemaConfiguration:
    """What a source does by its plan. Page and screen calls follow ``track``, as Segment's do.

    ``forward_violations_to`` and ``forward_blocked_events_to`` are slugs of sources, empty for none.
    """

    unplanned_events: str = ALLOW
    track: Enforcement = Enforcement()
    identify: Enforcement = Enforcement()
    group: Enforcement = Enforcement()
    forward_violations_to: str = ""
    forward_blocked_events_to: str = ""


@dataclass(frozen=True)
class TrackingPlan:
    """``enforce`` holds for its sources unless a source has a configuration of its own."""

    slug: str
    name: str
    sources: tuple[str, ...]
    rules: tuple[Rule, ...]
    enforce: SchemaConfiguration = SchemaConfiguration()
