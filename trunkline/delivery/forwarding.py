"""What one source tells another: events that its plan has blocked, and violations (``spec/event_path.md`` §4.4, §4.6).

Such events enter the other source after dedupe, in the envelope of what they come from, and its plan is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.pipeline.plan_edits import annotate
from trunkline.pipeline.source_program import PLAN, SourceResult
from trunkline.pipeline.violation_events import NAME, violation_event
from trunkline.spec.discards import Discard
from trunkline.spec.plans import SchemaConfiguration, TrackingPlan
from trunkline.spec.timestamps import format_timestamp
from trunkline.workspace.model import Snapshot

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An event on its way into the source ``to``."""

    to: str
    event: LoggedEvent


class Forwarder:
    """What one source forwards."""

    def __init__(self, source: str, name: str, plan: TrackingPlan, configuration: SchemaConfiguration) -> None:
        self._source = source
        self._name = name
        self._plan = plan
        self._violations_to = configuration.forward_violations_to
        self._blocked_to = configuration.forward_blocked_events_to

    def forward(self, event: LoggedEvent, result: SourceResult, received_at_ms: int) -> Iterator[Forwarded]:
        """``event`` as it came, ``result`` what the source's program said to it."""
        if self._blocked_to and isinstance(result.event, Discard) and result.stage == PLAN:
            body = annotate(event.body, _decode(result.protocols)) if result.protocols else event.body
            blocked = LoggedEvent(event.message_id, event.type, event.name, body, event.has_own_id)
            yield Forwarded(self._blocked_to, blocked)
        if self._violations_to and result.violations:
            content: Mapping[str, Any] = _decode(event.body)
            now = format_timestamp(received_at_ms * 1000)
            for index, violation in enumerate(result.violations):
                message_id, body = violation_event(
                    violation,
                    content,
                    source=self._source,
                    source_name=self._name,
                    plan=self._plan,
                    index=index,
                    now=now,
                )
                yield Forwarded(self._violations_to, LoggedEvent(message_id, "track", NAME, body))


def forwarder_of(snapshot: Snapshot, source: str) -> Forwarder | None:
    """None for a source that forwards nothing."""
    plan = snapshot.plan_by_source.get(source)
    if plan is None or source not in snapshot.sources:
        return None
    configuration = snapshot.schema_configuration_of(source)
    if not (configuration.forward_violations_to or configuration.forward_blocked_events_to):
        return None
    return Forwarder(source, snapshot.sources[source].name, plan, configuration)
