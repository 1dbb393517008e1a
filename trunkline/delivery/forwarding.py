"""What one source tells another: events that its plan has blocked, and violations (``spec/event_path.md`` §4.4, §4.6).

Such events enter the other source after dedupe, in the envelope of what they come from, and its plan is not asked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.pipeline.plan_edits import annotate
from trunkline.pipeline.source_program import PLAN, SourceResult
from trunkline.pipeline.violation_events import NAME, ViolationEvents, ViolationTemplate
from trunkline.spec.discards import Discard
from trunkline.spec.plans import SchemaConfiguration, TrackingPlan
from trunkline.spec.timestamps import format_timestamp
from trunkline.spec.violations import Violation
from trunkline.workspace.model import Snapshot

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An event on its way into the source ``to``."""

    to: str
    event: LoggedEvent


@dataclass(frozen=True, slots=True)
class ForwardedViolations:
    """What tells of one event's violations on its way into the source ``to``: an event for each of them. They are made
    only where there is room for them."""

    to: str
    events: ViolationEvents
    violations: tuple[Violation, ...]
    event: LoggedEvent
    """The one that the violations are of, as it came."""
    received_at_ms: int

    type: ClassVar[str] = "track"
    name: ClassVar[str] = NAME

    def template(self) -> ViolationTemplate:
        return self.events.template(_decode(self.event.body), format_timestamp(self.received_at_ms * 1000))

    def make(self, template: ViolationTemplate, index: int, max_bytes: int = sys.maxsize) -> LoggedEvent | None:
        """The event that tells of one violation. None if its body were larger than ``max_bytes``."""
        made = template.make(self.violations[index], index, max_bytes)
        return None if made is None else LoggedEvent(made[0], self.type, self.name, made[1])


class Forwarder:
    """What one source forwards."""

    def __init__(self, source: str, name: str, plan: TrackingPlan, configuration: SchemaConfiguration) -> None:
        self._events = ViolationEvents(source, name, plan)
        self._violations_to = configuration.forward_violations_to
        self._blocked_to = configuration.forward_blocked_events_to

    def collect(
        self, event: LoggedEvent, result: SourceResult, received_at_ms: int
    ) -> Iterator[Forwarded | ForwardedViolations]:
        """``event`` as it came, ``result`` what the source's program said to it."""
        if self._blocked_to and isinstance(result.event, Discard) and result.stage == PLAN:
            body = annotate(event.body, _decode(result.protocols)) if result.protocols else event.body
            blocked = LoggedEvent(event.message_id, event.type, event.name, body, event.has_own_id)
            yield Forwarded(self._blocked_to, blocked)
        if self._violations_to and result.violations:
            yield ForwardedViolations(self._violations_to, self._events, result.violations, event, received_at_ms)

    def forward(self, event: LoggedEvent, result: SourceResult, received_at_ms: int) -> Iterator[Forwarded]:
        """The same with every event made."""
        for item in self.collect(event, result, received_at_ms):
            if isinstance(item, Forwarded):
                yield item
                continue
            template = item.template()
            for index in range(len(item.violations)):
                made = item.make(template, index)
                assert made is not None, "there is room for all"
                yield Forwarded(item.to, made)


def forwarder_of(snapshot: Snapshot, source: str) -> Forwarder | None:
    """None for a source that forwards nothing."""
    plan = snapshot.plan_by_source.get(source)
    if plan is None or source not in snapshot.sources:
        return None
    configuration = snapshot.schema_configuration_of(source)
    if not (configuration.forward_violations_to or configuration.forward_blocked_events_to):
        return None
    return Forwarder(source, snapshot.sources[source].name, plan, configuration)
