"""Stages 5 to 7 for the events of one source, compiled from one snapshot (``spec/event_path.md`` §0): tracking plan,
source transformations, schema event filters.

Live traffic, rehearsal and ``why`` run the same program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.pipeline.schema_filters import compile_schema_filters
from trunkline.pipeline.stages import pure_source_stages
from trunkline.pipeline.tracking_plan import PlanStage, compile_plan
from trunkline.pipeline.transformations import compile_transformations
from trunkline.spec.app_version import app_version_of
from trunkline.spec.discards import Discard
from trunkline.spec.event import NAME_FIELDS
from trunkline.spec.plans import SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.transformations import Transformation
from trunkline.spec.violations import Violation

PLAN: Final = "plan"

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Named(msgspec.Struct, gc=False):
    event: Any = ""
    name: Any = ""


_decode_names: Final = msgspec.json.Decoder(_Named).decode


class PureStage(Protocol):
    """A stage that answers with the event's JSON, or with why it ends."""

    def may_touch(self, type: str, name: str, /) -> bool: ...

    def verdict(self, event: Mapping[str, Any], body: bytes, /) -> bytes | Discard: ...


class SourceResult(msgspec.Struct, frozen=True):
    """``event`` is what goes on (the same object if nothing was changed), or why nothing does, and then at which stage.

    ``protocols`` and ``violations``: as :class:`trunkline.spec.violations.PlanVerdict` has them.
    """

    event: LoggedEvent | Discard
    stage: str = ""
    protocols: bytes = b""
    violations: tuple[Violation, ...] = ()


class SourceProgram:
    """The stages of one source. Pure."""

    def __init__(self, plan: PlanStage | None, others: Mapping[str, PureStage | None]) -> None:
        """``others``: by the names of the stages, None for one that has nothing to do."""
        names = pure_source_stages()
        if names[0] != PLAN or set(names[1:]) != set(others):
            raise ValueError(f"stages {[PLAN, *others]} for a program of {list(names)}")
        self._plan = plan
        self._others = tuple((name, stage) for name in names[1:] if (stage := others[name]) is not None)
        self.is_empty = plan is None and not self._others
        """Whether every event passes as it is."""

    def passes(self, event: LoggedEvent) -> str | None:
        """The event's app version, if it is quickly said that the event passes as it is. None: :meth:`run` says."""
        if self._others and self._may_touch(event):
            return None
        return app_version_of(event.body) if self._plan is None else self._plan.clears(event)

    def _may_touch(self, event: LoggedEvent) -> bool:
        for _, stage in self._others:  # noqa: SIM110 - this is asked for every event, and a loop takes half the time
            if stage.may_touch(event.type, event.name):
                return True
        return False

    def run(self, event: LoggedEvent, *, forwarded: bool = False) -> SourceResult:
        """``forwarded``: the event comes from another source, whose plan has spoken; this one's does not
        (``spec/event_path.md`` §4.4). Raises msgspec.MsgspecError for a body that a stage looks at and that is no JSON
        object."""
        body = event.body
        content: dict[str, Any] | None = None
        protocols = b""
        violations: tuple[Violation, ...] = ()
        plan = None if forwarded else self._plan
        if plan is not None and not plan.passes_at_once(event):
            content = _decode(body)
            verdict = plan.verdict(content, body)
            protocols, violations = verdict.protocols, verdict.violations
            if isinstance(verdict.body, Discard):
                return SourceResult(verdict.body, PLAN, protocols, violations)
            if verdict.body is not body:
                body = verdict.body
                content = None
        for name, stage in self._others:
            if content is None:
                content = _decode(body)
            changed = stage.verdict(content, body)
            if isinstance(changed, Discard):
                return SourceResult(changed, name, protocols, violations)
            if changed is not body:
                body = changed
                content = None
        if body is event.body:
            return SourceResult(event, "", protocols, violations)
        return SourceResult(_changed(event, body), "", protocols, violations)


def _changed(event: LoggedEvent, body: bytes) -> LoggedEvent:
    name = getattr(_decode_names(body), NAME_FIELDS[event.type]) if event.type in NAME_FIELDS else ""
    counted = name if isinstance(name, str) else ""
    return LoggedEvent(event.message_id, event.type, counted, body, event.has_own_id)


EMPTY_PROGRAM: Final = SourceProgram(None, dict.fromkeys(pure_source_stages()[1:]))


def compile_source(
    source: str,
    plan: TrackingPlan | None,
    configuration: SchemaConfiguration,
    transformations: tuple[Transformation, ...],
    filters: SchemaFilters,
) -> SourceProgram:
    """``transformations``: those of the source itself. Never raises: what can't be compiled lets nothing pass."""
    return SourceProgram(
        compile_plan(plan, configuration, source) if plan is not None else None,
        {
            "transformations": compile_transformations(transformations) if transformations else None,
            "schema": compile_schema_filters(filters, has_plan=plan is not None),
        },
    )
