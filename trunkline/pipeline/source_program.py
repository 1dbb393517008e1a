"""Stages 5 to 7 for the events of one source, compiled from one snapshot (``spec/event_path.md`` §0): tracking plan,
source transformations, schema event filters.

Live traffic, rehearsal and ``why`` run the same program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.pipeline.schema_filters import SchemaStage, compile_schema_filters
from trunkline.pipeline.tracking_plan import PlanStage, compile_plan
from trunkline.pipeline.transformations import TransformStage, compile_transformations
from trunkline.spec.discards import Discard
from trunkline.spec.plans import SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.transformations import Transformation
from trunkline.spec.violations import Violation

NAME_FIELDS: Final[Mapping[str, str]] = {"track": "event", "page": "name", "screen": "name"}
"""Where each type has the name under which it is counted."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class SourceResult:
    """``event`` is what goes on (the same object if nothing was changed), or why nothing does, and then at which stage.

    ``protocols`` and ``violations``: as :class:`trunkline.spec.violations.PlanVerdict` has them.
    """

    event: LoggedEvent | Discard
    stage: str = ""
    protocols: bytes = b""
    violations: tuple[Violation, ...] = ()


class SourceProgram:
    """The stages of one source. Pure."""

    def __init__(self, plan: PlanStage | None, transformations: TransformStage | None, schema: SchemaStage | None):
        self._plan = plan
        self._transformations = transformations
        self._schema = schema
        self.is_empty = plan is None and transformations is None and schema is None
        """Whether every event passes as it is."""

    def run(self, event: LoggedEvent, *, forwarded: bool = False) -> SourceResult:
        """``forwarded``: the event comes from another source, whose plan has spoken; this one's does not
        (``spec/event_path.md`` §4.4). Raises msgspec.MsgspecError for a body that is no JSON object."""
        content = _decode(event.body)
        body = event.body
        protocols, violations = b"", ()
        if self._plan is not None and not forwarded:
            verdict = self._plan.verdict(content, body)
            protocols, violations = verdict.protocols, verdict.violations
            if isinstance(verdict.body, Discard):
                return SourceResult(verdict.body, "plan", protocols, violations)
            if verdict.body is not body:
                body = verdict.body
                content = _decode(body)
        for name, stage in (("transformations", self._transformations), ("schema", self._schema)):
            if stage is None:
                continue
            changed = stage.verdict(content, body)
            if isinstance(changed, Discard):
                return SourceResult(changed, name, protocols, violations)
            if changed is not body:
                body = changed
                content = _decode(body)
        if body is event.body:
            return SourceResult(event, "", protocols, violations)
        name = content.get(NAME_FIELDS.get(event.type, ""), "")
        renamed = name if isinstance(name, str) else event.name
        return SourceResult(
            LoggedEvent(event.message_id, event.type, renamed, body, event.has_own_id), "", protocols, violations
        )


EMPTY_PROGRAM: Final = SourceProgram(None, None, None)


def compile_source(
    source: str,
    name: str,
    plan: TrackingPlan | None,
    configuration: SchemaConfiguration,
    transformations: tuple[Transformation, ...],
    filters: SchemaFilters,
) -> SourceProgram:
    """``transformations``: those of the source itself. Never raises: what can't be compiled lets nothing pass."""
    return SourceProgram(
        compile_plan(plan, configuration, source) if plan is not None else None,
        compile_transformations(transformations) if transformations else None,
        compile_schema_filters(filters, has_plan=plan is not None),
    )
