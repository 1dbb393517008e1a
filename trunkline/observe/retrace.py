"""The pure stages once more, for one event: what each of a source's stages made of it, and what one destination was to
get. They run with the workspace that was in force when the event was accepted, as envelopes name it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import msgspec

from trunkline.delivery.gates import gate_of
from trunkline.delivery.judgement import judge
from trunkline.log.records import AcceptedEvent, BlockedEvent, LoggedEvent
from trunkline.pipeline.gate import TAKES_EVERYTHING, GatedType
from trunkline.pipeline.plan_edits import annotate
from trunkline.pipeline.source_program import PLAN, SourceProgram, SourceResult, compile_source
from trunkline.rehearsal.difference import Difference, bodies_differ
from trunkline.schema.protocols import protocols_of_json
from trunkline.spec.codes import SOURCE_DISABLED
from trunkline.spec.delivery_codes import text_of
from trunkline.spec.discards import (
    COMMON_SCHEMA_VIOLATION,
    EVENT_SETTING,
    FILTERED_BY_RULES,
    FORWARDING_LIMIT,
    INVALID_PLAN,
    INVALID_TRANSFORMATION,
    SCHEMA_VIOLATION,
    TRANSFORMATION_DROP,
    UNPLANNED,
    UNPLANNED_AND_SCHEMA_VIOLATION,
    Discard,
)
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.violations import Violation
from trunkline.workspace.model import Destination, Snapshot

TRANSFORMATIONS: Final = "transformations"
SCHEMA: Final = "schema"
SOURCE_STAGE: Final = "source stage"
FORWARDED: Final = "forwarded"
_STAGE_OF: Final = {
    UNPLANNED: PLAN,
    SCHEMA_VIOLATION: PLAN,
    UNPLANNED_AND_SCHEMA_VIOLATION: PLAN,
    COMMON_SCHEMA_VIOLATION: PLAN,
    INVALID_PLAN: PLAN,
    TRANSFORMATION_DROP: TRANSFORMATIONS,
    INVALID_TRANSFORMATION: TRANSFORMATIONS,
    EVENT_SETTING: SCHEMA,
}
_CHANGED: Final = {
    PLAN: "The tracking plan {plan} changed it.",
    TRANSFORMATIONS: "Transformations of the source changed it.",
    SCHEMA: "The source's schema filters omitted traits.",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One stage that the event came to, and what it made of it: sentences. ``passed`` False: it ended there."""

    stage: str
    passed: bool
    text: str
    mend: str = ""
    violations: tuple[Violation, ...] = ()
    changes: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneVerdict:
    """What a destination's stages say to an event. ``reason`` empty: it passes, with ``changes``. ``doubt``: why it may
    have been otherwise, a sentence."""

    reason: str = ""
    detail: str = ""
    changes: tuple[Difference, ...] = ()
    doubt: str = ""


class Retracer:
    """Runs stages again. Snapshots are read once each."""

    def __init__(
        self,
        snapshot_of: Callable[[str], Snapshot | None] = lambda version: None,
        type_of: Callable[[Destination], GatedType] = lambda destination: TAKES_EVERYTHING,
        *,
        current: Snapshot | None = None,
    ) -> None:
        """``snapshot_of``: the workspace of a version, None if it is not kept; ``current``: the one in force now;
        ``type_of``: a destination's type."""
        self._read = snapshot_of
        self._type_of = type_of
        self._current = current
        self._snapshots: dict[str, Snapshot | None] = {}

    def _snapshot(self, version: str) -> Snapshot | None:
        if not version:
            return None
        if self._current is not None and self._current.version == version:
            return self._current
        if version not in self._snapshots:
            self._snapshots[version] = self._read(version)
        return self._snapshots[version]

    # -- at the source -------------------------------------------------------------------------------------------

    def passed(
        self, version: str, source: str, event: LoggedEvent, accepted: bytes, *, forwarded: bool = False
    ) -> list[Step]:
        """The stages that had something to say to an event that was accepted as ``accepted``."""
        snapshot = self._snapshot(version)
        steps: list[Step] = []
        body = event.body
        if snapshot is not None:
            for stage, program in _programs(snapshot, source):
                result = _run(program, event, forwarded)
                if result is None or isinstance(result.event, Discard):
                    break
                changes = tuple(bodies_differ(body, result.event.body))
                body = result.event.body
                step = _passed_stage(snapshot, source, stage, result, changes, forwarded)
                if step is not None:
                    steps.append(step)
        rest = tuple(bodies_differ(body, accepted))
        if rest:
            why = "what did it can't be told any more" if snapshot is not None else "the workspace of then is not kept"
            steps.append(Step(SOURCE_STAGE, True, f"Changed on its way; {why}.", changes=rest))
        return steps

    def blocked(self, version: str, event: BlockedEvent, *, forwarded: bool = False) -> Step:
        """The stage that ended it."""
        text = text_of(event.reason)
        violations = _violations(event)
        detail = ""
        snapshot = self._snapshot(version)
        if snapshot is not None:
            logged = LoggedEvent(event.message_id, event.type, event.name, event.body)
            for _, program in _programs(snapshot, event.source):
                result = _run(program, logged, forwarded)
                if result is not None and isinstance(result.event, Discard) and result.event.reason == event.reason:
                    detail = result.event.detail
                    violations = violations or result.violations
        said = f"Blocked as {event.reason}: {text.meaning}"
        if detail and not violations:
            said += f" ({detail})"
        return Step(_STAGE_OF.get(event.reason, SOURCE_STAGE), False, said, text.mend, violations)

    def ended_at_target(self, version: str, event: BlockedEvent) -> Step | None:
        """Why a blocked event is not at the source that it was forwarded to. None: it was forwarded to none."""
        snapshot = self._snapshot(version)
        if snapshot is None or _STAGE_OF.get(event.reason) != PLAN:
            return None
        slug = snapshot.schema_configuration_of(event.source).forward_blocked_events_to
        if not slug:
            return None
        target = snapshot.sources.get(slug)
        reason = SOURCE_DISABLED if target is None or not target.enabled else FORWARDING_LIMIT
        stage = ""
        if reason != SOURCE_DISABLED:
            for name, program in _programs(snapshot, slug):
                result = _run(program, forwarded_event(event), forwarded=True)
                if result is not None and isinstance(result.event, Discard):
                    reason, stage = result.event.reason, f", stage {name},"
                    break
        text = text_of(reason)
        return Step(
            FORWARDED,
            False,
            f"Forwarded to source {slug}, and there{stage} discarded as {reason}: {text.meaning}",
            text.mend,
        )

    # -- at a destination ----------------------------------------------------------------------------------------

    def judge(self, version: str, slug: str, event: AcceptedEvent) -> LaneVerdict | None:
        """What a destination's stages say; None if no workspace that is known connects it to the event's source."""
        snapshot, doubt = self._snapshot(version), ""
        if snapshot is None and self._current is not None:
            snapshot, doubt = self._current, "The workspace of then is not known, so this is what today's says."
        destination = snapshot.destinations.get(slug) if snapshot is not None else None
        if snapshot is None or destination is None or event.source not in destination.sources:
            return None
        least, most = [self._judge(snapshot, destination, event, drawn) for drawn in (_Drawn(0.0), _Drawn(1.0))]
        if isinstance(least, Discard):
            detail = least.detail or _filter_at_fault(snapshot, destination, event, self._type_of(destination), least)
            return LaneVerdict(least.reason, detail, doubt=doubt)
        if isinstance(most, Discard):
            return LaneVerdict(most.reason, doubt="A sample decided by chance.")
        return LaneVerdict(changes=tuple(bodies_differ(event.body, least.body)), doubt=doubt)

    def _judge(
        self, snapshot: Snapshot, destination: Destination, event: AcceptedEvent, random: Random
    ) -> AcceptedEvent | Discard:
        return judge(event, gate_of(snapshot, destination, event.source, random, self._type_of(destination)))


class _Drawn(Random):
    """Always the same number. 0 is within every sample that keeps anything, 1 in none that leaves out anything."""

    def __init__(self, number: float) -> None:
        super().__init__(0)
        self._number = number

    def random(self) -> float:
        return self._number


def _filter_at_fault(
    snapshot: Snapshot, destination: Destination, event: AcceptedEvent, kind: GatedType, discard: Discard
) -> str:
    """Which filters drop the event. Each looks at it as it came, so each can be asked alone."""
    if discard.reason != FILTERED_BY_RULES:
        return ""
    found = []
    for number, item in enumerate(destination.filters, 1):
        alone = replace(destination, filters=(item,))
        verdict = judge(event, gate_of(snapshot, alone, event.source, _Drawn(0.0), kind))
        if isinstance(verdict, Discard) and verdict.reason == discard.reason:
            title = f" ({item.title})" if item.title else ""
            found.append(f"filter {number}{title}: {item.action} {item.condition}")
    return "; ".join(found)


def _programs(snapshot: Snapshot, source: str) -> Iterator[tuple[str, SourceProgram]]:
    """A source's stages, each with those before it: the name of the last one, and all of them so far."""
    definition = snapshot.sources.get(source)
    if definition is None:
        return
    plan, configuration = snapshot.plan_by_source.get(source), snapshot.schema_configuration_of(source)
    transformations = snapshot.transformations_of(source)
    filters = definition.schema_filters
    yield PLAN, compile_source(source, plan, configuration, (), SchemaFilters())
    yield TRANSFORMATIONS, compile_source(source, plan, configuration, transformations, SchemaFilters())
    yield SCHEMA, compile_source(source, plan, configuration, transformations, filters)


def _run(program: SourceProgram, event: LoggedEvent, forwarded: bool) -> SourceResult | None:
    """None for a body that cannot be read."""
    try:
        return program.run(event, forwarded=forwarded)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _passed_stage(
    snapshot: Snapshot,
    source: str,
    stage: str,
    result: SourceResult,
    changes: tuple[Difference, ...],
    forwarded: bool,
) -> Step | None:
    plan = snapshot.plan_by_source.get(source)
    slug = plan.slug if plan is not None else ""
    if stage == PLAN and plan is not None and not forwarded:
        if result.violations:
            mend = "Correct the event where it is made, or the rule of the plan."
            wrong = {violation.field for violation in result.violations}
            without = any(change.kind == "removed" and change.path in wrong for change in changes)
            how = " without what is wrong" if without else ""
            text = f"Breaks the tracking plan {slug}, which lets such events pass{how}."
            return Step(stage, True, text, mend, result.violations, changes)
        if not changes:
            return Step(stage, True, f"The tracking plan {slug} has nothing against it.")
    if changes:
        return Step(stage, True, _CHANGED[stage].format(plan=slug), changes=changes)
    return None


def forwarded_event(event: BlockedEvent) -> LoggedEvent:
    """A blocked event as it enters the source that it is forwarded to."""
    body = event.body
    if event.protocols:
        with contextlib.suppress(msgspec.MsgspecError):
            body = annotate(body, msgspec.json.decode(event.protocols))
    return LoggedEvent(event.message_id, event.type, event.name, body)


def _violations(event: BlockedEvent) -> tuple[Violation, ...]:
    try:
        return protocols_of_json(event.protocols).violations
    except msgspec.MsgspecError:
        return ()


def difference_lines(changes: Sequence[Difference], at_most: int = 20) -> list[str]:
    """For people, a line each."""
    lines = [_line(change) for change in changes[:at_most]]
    if len(changes) > at_most:
        lines.append(f"and {len(changes) - at_most:,} more changes: --json has them all")
    return lines


def _line(change: Difference) -> str:
    if change.kind == "added":
        return f"{change.path} was added: {_value(change.after)}"
    if change.kind == "removed":
        return f"{change.path} was removed, it was {_value(change.before)}"
    return f"{change.path} was {_value(change.before)}, is {_value(change.after)}"


_VALUE_CHARACTERS: Final = 120


def _value(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[: _VALUE_CHARACTERS - 1]}…"
