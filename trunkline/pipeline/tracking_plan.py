"""Stage 5: what a source's tracking plan says to each event (``spec/event_path.md`` §4).

In this order: an event that the plan does not know; properties that its rule does not name; what breaks the rule; what
of the rest breaks the common rule. Each is allowed, blocked or taken out as the source's configuration has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.pipeline.event_head import app_version_of_head, decode_head
from trunkline.pipeline.findings import MAX_VIOLATIONS, Finding
from trunkline.pipeline.plan_edits import annotate, remove_paths
from trunkline.pipeline.plan_rules import PROPERTIES, TRAITS, CompiledRule, Versions
from trunkline.pipeline.plan_schema import check_schema
from trunkline.pipeline.planned_names import Path
from trunkline.pipeline.schema_functions import Check
from trunkline.spec.app_version import app_version_of
from trunkline.spec.discards import (
    COMMON_SCHEMA_VIOLATION,
    INVALID_PLAN,
    SCHEMA_VIOLATION,
    UNPLANNED,
    UNPLANNED_AND_SCHEMA_VIOLATION,
    Discard,
)
from trunkline.spec.plans import (
    ALLOW,
    BLOCK,
    COMMON,
    GROUP,
    IDENTIFY,
    OMIT,
    PAGE,
    PAGE_EVENT,
    SCREEN,
    SCREEN_EVENT,
    TRACK,
    Enforcement,
    Rule,
    SchemaConfiguration,
    TrackingPlan,
)
from trunkline.spec.violations import PlanVerdict, Violation

__all__ = ["PlanStage", "check_schema", "compile_plan"]

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class _Desk:
    """How calls of one type are judged."""

    __slots__ = ("_default", "_named", "enforcement", "is_complete", "name_field")

    def __init__(
        self, enforcement: Enforcement, name_field: str, named: Mapping[str, Versions], default: Versions | None
    ) -> None:
        self.enforcement = enforcement
        self.name_field = name_field
        """Where events have the name that rules are for; empty if there is one rule for all."""
        self._named = named
        self._default = default
        self.is_complete = False
        """Whether an event without a rule is unplanned."""

    def versions_of(self, name: Any) -> Versions | None:
        """The rules for an event of this name."""
        return self._named.get(name, self._default) if isinstance(name, str) else self._default

    def knows(self, name: str) -> bool:
        return name in self._named

    def rule_of(self, event: Mapping[str, Any]) -> CompiledRule | None:
        versions = self.versions_of(event.get(self.name_field) if self.name_field else None)
        return None if versions is None else versions.only or versions.choose(event)


_Ready: TypeAlias = tuple[Check | None, Check | None, _Desk, Versions | None]
"""What of an event's head tells that it is fine: by its own rule, by the common one; and how the rule was found."""


class _Case:
    """One event while it is judged."""

    __slots__ = ("body", "event", "omitted", "omitted_on_violation", "violations")

    def __init__(self, event: Mapping[str, Any], body: bytes) -> None:
        self.event = event
        self.body = body
        self.omitted: list[str] = []
        self.omitted_on_violation: list[str] = []
        self.violations: list[Violation] = []

    def omit(self, paths: Sequence[Path], names: list[str]) -> None:
        self.body = remove_paths(self.body, paths)
        self.event = _decode(self.body)
        names[:] = dict.fromkeys([*names, *map(_shown, paths)])

    def add(self, findings: Iterable[Finding]) -> None:
        self.violations = list(dict.fromkeys([*self.violations, *(finding.violation for finding in findings)]))


class PlanStage:
    """The plan of one source, as the source is configured. Pure."""

    def __init__(self, plan: TrackingPlan, configuration: SchemaConfiguration, source: str) -> None:
        self._source = source
        self._blocks_unplanned = configuration.unplanned_events == BLOCK
        by_type: dict[str, dict[str, list[Rule]]] = {}
        for rule in plan.rules:
            by_type.setdefault(rule.type, {}).setdefault(rule.event, []).append(rule)
        named = {
            kind: {
                name: Versions(rules, checks_names=_checks_names(configuration, kind)) for name, rules in found.items()
            }
            for kind, found in by_type.items()
        }
        common = named.pop(COMMON, {}).get("")
        self._common = common
        self._desks = _desks(configuration, named)
        self._ready: dict[tuple[str, str], _Ready] = {}
        """By type and name, for names that there are rules for."""

    def passes_at_once(self, event: LoggedEvent) -> bool:
        """True: no rule is for the event, and it passes as it is. False: ask ``verdict``. Nothing is decoded."""
        desk = self._desks.get(event.type) or self._desks[""]
        if self._common is not None or (desk.is_complete and self._blocks_unplanned):
            return False
        return desk.versions_of(event.name) is None

    def clears(self, event: LoggedEvent) -> str | None:
        """The event's app version, if it passes as it is by what little of it was decoded. None: ask ``verdict``."""
        ready = self._ready.get((event.type, event.name)) or self._prepare(event)
        if ready is None:
            return None
        check, check_common, desk, versions = ready
        if check is None and check_common is None:
            return app_version_of(event.body)
        try:
            head = decode_head(event.body)
        except msgspec.MsgspecError:
            return None
        if head.type != event.type:
            return None
        if desk.name_field:
            name = getattr(head, desk.name_field)
            if name != event.name and desk.versions_of(name) is not versions:
                return None
        if (check is None or check(head)) and (check_common is None or check_common(head)):
            return app_version_of_head(head)
        return None

    def _prepare(self, event: LoggedEvent) -> _Ready | None:
        """What says quickly that events like this one are fine; None if nothing does, or not yet."""
        desk = self._desks.get(event.type) or self._desks[""]
        versions = desk.versions_of(event.name)
        if versions is None and desk.is_complete and self._blocks_unplanned:
            return None
        checks: list[Check | None] = []
        for found in (versions, self._common):
            if found is not None and (found.only is None or found.only.check_head is None):
                return None
            checks.append(found.only.check_head if found is not None and found.only is not None else None)
        ready = (checks[0], checks[1], desk, versions)
        if desk.knows(event.name):  # never by the names that clients make up
            self._ready[event.type, event.name] = ready
        return ready

    def verdict(self, event: Mapping[str, Any], body: bytes) -> PlanVerdict:
        """What the plan says to an event; ``event`` is ``body`` decoded, neither is changed.

        An event with which nothing is wrong comes back as the same ``body``. Never raises for the JSON of an object.
        """
        kind = event.get("type")
        desk = self._desks.get(kind, self._desks[""]) if isinstance(kind, str) else self._desks[""]
        rule = desk.rule_of(event)
        common = None if self._common is None else self._common.only or self._common.choose(event)
        if rule is None:
            if desk.is_complete and self._blocks_unplanned:
                return self._unplanned(event, body, common)
        elif not rule.is_fine(event):
            return self._judge(event, body, desk.enforcement, rule, common)
        if common is None or common.is_fine(event):
            return PlanVerdict(body)
        return self._judge(event, body, desk.enforcement, rule, common)

    def _unplanned(self, event: Mapping[str, Any], body: bytes, common: CompiledRule | None) -> PlanVerdict:
        case = _Case(event, body)
        case.add(common.findings(event) if common is not None else ())
        return self._discard(case, UNPLANNED_AND_SCHEMA_VIOLATION if case.violations else UNPLANNED)

    def _judge(
        self,
        event: Mapping[str, Any],
        body: bytes,
        enforcement: Enforcement,
        rule: CompiledRule | None,
        common: CompiledRule | None,
    ) -> PlanVerdict:
        case = _Case(event, body)
        if rule is not None:
            if rule.refusal and (enforcement.violations != ALLOW or enforcement.unplanned_properties == OMIT):
                return PlanVerdict(Discard(INVALID_PLAN, rule.refusal))
            if enforcement.unplanned_properties == OMIT and (paths := rule.unplanned(case.event)):
                case.omit(paths, case.omitted)
            if _breaks(case, rule, enforcement.violations):
                return self._discard(case, SCHEMA_VIOLATION)
        if common is not None:
            if _breaks(case, common, enforcement.common_violations):
                return self._discard(case, COMMON_SCHEMA_VIOLATION)
            if common.refusal and enforcement.common_violations != ALLOW:
                return PlanVerdict(Discard(INVALID_PLAN, common.refusal))
        protocols = self._protocols(case)
        if not protocols:
            return PlanVerdict(body)
        violations = tuple(case.violations[:MAX_VIOLATIONS])
        return PlanVerdict(annotate(case.body, protocols), _encode(protocols), violations)

    def _discard(self, case: _Case, reason: str) -> PlanVerdict:
        violations = tuple(case.violations[:MAX_VIOLATIONS])
        detail = violations[0].description if violations else ""
        protocols = self._protocols(case)
        return PlanVerdict(Discard(reason, detail), _encode(protocols) if protocols else b"", violations)

    def _protocols(self, case: _Case) -> dict[str, Any]:
        """What is written into ``context.protocols``; empty if nothing is."""
        parts: dict[str, Any] = {
            "omitted": case.omitted,
            "omitted_on_violation": case.omitted_on_violation,
            "violations": [
                {"type": violation.type, "field": violation.field, "description": violation.description}
                for violation in case.violations[:MAX_VIOLATIONS]
            ],
        }
        written = {key: value for key, value in parts.items() if value}
        return {"sourceId": self._source, **written} if written else {}


def compile_plan(plan: TrackingPlan, configuration: SchemaConfiguration, source: str) -> PlanStage:
    """The plan for one source, by its slug. Never raises: a rule that can't be used lets nothing pass that it should
    guard."""
    return PlanStage(plan, configuration, source)


def _desks(configuration: SchemaConfiguration, named: Mapping[str, Mapping[str, Versions]]) -> dict[str, _Desk]:
    """By type; ``""`` for types that only the common rule is for."""
    track = named.get(TRACK, {})
    desks = {
        "": _Desk(configuration.track, "", {}, None),
        TRACK: _Desk(configuration.track, "event", track, None),
        IDENTIFY: _Desk(configuration.identify, "", {}, named.get(IDENTIFY, {}).get("")),
        GROUP: _Desk(configuration.group, "", {}, named.get(GROUP, {}).get("")),
    }
    desks[TRACK].is_complete = bool(named)
    for kind, event in ((PAGE, PAGE_EVENT), (SCREEN, SCREEN_EVENT)):
        own = named.get(kind, {})
        desks[kind] = _Desk(configuration.track, "name", own, own.get("") or track.get(event))
        desks[kind].is_complete = bool(own)
    return desks


def _checks_names(configuration: SchemaConfiguration, kind: str) -> bool:
    own = {IDENTIFY: configuration.identify, GROUP: configuration.group}
    return kind != COMMON and own.get(kind, configuration.track).unplanned_properties == OMIT


def _breaks(case: _Case, rule: CompiledRule, action: str) -> bool:
    """Whether the event is to be blocked for what breaks the rule. What is to be omitted is gone afterwards."""
    findings = rule.findings(case.event)
    case.add(findings)
    if findings and action == OMIT:
        paths = [path for finding in findings if (path := _property_of(finding.culprit))]
        if paths:
            case.omit(paths, case.omitted_on_violation)
    return bool(findings) and action == BLOCK


def _property_of(culprit: Path) -> Path:
    """The property or trait that a value belongs to: items of lists stay in their places, so the list goes. Empty for
    what is neither, such as ``context``."""
    end = len(culprit)
    while end > 0 and isinstance(culprit[end - 1], int):
        end -= 1
    return culprit[:end] if end > 1 and culprit[0] in (PROPERTIES, TRAITS) else ()


def _shown(path: Path) -> str:
    """The path as Segment shows it: below properties or traits, ``$`` for each item of a list."""
    if len(path) == 2:
        return str(path[1])
    return ".".join("$" if isinstance(part, int) else part for part in path[1:])
