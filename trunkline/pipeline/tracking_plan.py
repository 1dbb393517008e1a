"""Stage 5: what a source's tracking plan says to each event (``spec/event_path.md`` §4).

In this order: an event that the plan does not know; properties that its rule does not name; what breaks the rule; what
of the rest breaks the common rule. Each is allowed, blocked or taken out as the source's configuration has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.log.records import LoggedEvent
from trunkline.pipeline.plan_edits import annotate, remove_paths
from trunkline.pipeline.plan_schema import check_schema, examine_schema
from trunkline.pipeline.plan_violations import MAX_VIOLATIONS, Explainer, Finding
from trunkline.pipeline.planned_names import Path, PlannedNames, compile_names
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_engine import Predicate
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

PROPERTIES: Final = "properties"
TRAITS: Final = "traits"

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class CompiledRule:
    """One rule. Its schema is compiled when the first event needs it, so that a plan of many rules is activated at
    once."""

    __slots__ = ("_explainer", "_is_valid", "_key", "names", "refusal", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.names: PlannedNames | None = None
        """None if everything is planned."""
        self.refusal = ""
        """Why the rule can't be used; empty if it can."""
        self._key = TRAITS if rule.type in (IDENTIFY, GROUP) else PROPERTIES
        self._explainer: Explainer | None = None
        self._is_valid: Predicate = self._compile

    def _compile(self, event: Any) -> bool:
        problems, is_valid = examine_schema(self.rule.schema)
        if is_valid is None:
            path, reason, _ = problems[0]
            name = f" {self.rule.event!r}" if self.rule.event else ""
            self.refusal = f"rule {self.rule.type}{name}: {path or 'schema'}: {reason}"
            self._is_valid = _refuses
            return False
        document = SchemaDocument(self.rule.schema)
        self.names = compile_names(document, self._key)
        self._explainer = Explainer(document)
        self._is_valid = is_valid
        return is_valid(event)

    def accepts(self, event: Mapping[str, Any]) -> bool:
        """Whether nothing is wrong, if it can be said quickly."""
        try:
            return self._is_valid(event)
        except ValueError:
            return False

    def plans(self, event: Mapping[str, Any]) -> bool:
        """Whether all names of the event's properties or traits are planned. Asked after ``accepts``."""
        return self.names is None or self.names.has_all(event.get(self._key))

    def unplanned(self, event: Mapping[str, Any]) -> list[Path]:
        if self.names is None:
            return []
        return [*self.names.unplanned(event.get(self._key), (self._key,))]

    def findings(self, event: Mapping[str, Any]) -> list[Finding]:
        """What is wrong. Nothing for a rule that can't be used."""
        if self.accepts(event) or self._explainer is None:
            return []
        return self._explainer.explain(event)


def _refuses(_: Any) -> bool:
    return False


class _Versions:
    """The rules of one name, by version."""

    __slots__ = ("_by_number", "_oldest", "only")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_number = {rule.version: CompiledRule(rule) for rule in sorted(rules, key=lambda rule: -rule.version)}
        self._oldest = self._by_number[min(self._by_number)]
        self.only = self._oldest if len(self._by_number) == 1 else None
        """The rule, if there is one version."""

    def choose(self, event: Mapping[str, Any]) -> CompiledRule:
        """The version that the event asks for; the oldest for one that does not say, or asks for none there is."""
        context = event.get("context")
        protocols = context.get("protocols") if isinstance(context, Mapping) else None
        version = protocols.get("event_version") if isinstance(protocols, Mapping) else None
        if isinstance(version, float) and version.is_integer():
            version = int(version)
        if isinstance(version, bool) or not isinstance(version, int):
            return self._oldest
        return self._by_number.get(version, self._oldest)


class _Desk:
    """How calls of one type are judged."""

    __slots__ = ("_default", "_name_field", "_named", "checks_names", "enforcement", "is_complete")

    def __init__(
        self, enforcement: Enforcement, name_field: str, named: Mapping[str, _Versions], default: _Versions | None
    ) -> None:
        self.enforcement = enforcement
        self.checks_names = enforcement.unplanned_properties == OMIT
        self._name_field = name_field
        self._named = named
        self._default = default
        self.is_complete = False
        """Whether an event without a rule is unplanned."""

    def has_rule_for(self, name: str) -> bool:
        """``name`` as an event is counted under; wrong only by saying yes."""
        return self._default is not None or name in self._named

    def rule_of(self, event: Mapping[str, Any]) -> CompiledRule | None:
        name = event.get(self._name_field) if self._named else None
        versions = self._named.get(name, self._default) if isinstance(name, str) else self._default
        return None if versions is None else versions.only or versions.choose(event)


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
        for finding in findings:
            if finding.violation not in self.violations:
                self.violations.append(finding.violation)


class PlanStage:
    """The plan of one source, as the source is configured. Pure."""

    def __init__(self, plan: TrackingPlan, configuration: SchemaConfiguration, source: str) -> None:
        self._source = source
        self._blocks_unplanned = configuration.unplanned_events == BLOCK
        by_type: dict[str, dict[str, list[Rule]]] = {}
        for rule in plan.rules:
            by_type.setdefault(rule.type, {}).setdefault(rule.event, []).append(rule)
        named = {
            kind: {name: _Versions(rules) for name, rules in rules_by_name.items()}
            for kind, rules_by_name in by_type.items()
        }
        common = named.pop(COMMON, {}).get("")
        self._common = common
        self._desks = _desks(configuration, named)

    def passes_at_once(self, event: LoggedEvent) -> bool:
        """True: no rule is for the event, and it passes as it is. False: ask ``verdict``. Nothing is decoded."""
        desk = self._desks.get(event.type) or self._desks[""]
        if self._common is not None or (desk.is_complete and self._blocks_unplanned):
            return False
        return not desk.has_rule_for(event.name)

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
        elif not rule.accepts(event) or (desk.checks_names and not rule.plans(event)):
            return self._judge(event, body, desk.enforcement, rule, common)
        if common is None or common.accepts(event):
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


def _desks(configuration: SchemaConfiguration, named: Mapping[str, Mapping[str, _Versions]]) -> dict[str, _Desk]:
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
    return ".".join("$" if isinstance(part, int) else part for part in path[1:])
