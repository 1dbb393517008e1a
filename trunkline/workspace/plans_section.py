"""The tracking plans of a workspace's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trunkline.spec.plans import MAX_RULES, Rule, SchemaConfiguration, TrackingPlan
from trunkline.workspace import vocabulary
from trunkline.workspace.plan_rules import (
    TOO_MANY,
    RuleKey,
    RuleProblem,
    check_heading,
    check_rule_schema,
    key_of,
    make_rule,
)
from trunkline.workspace.problem import shown
from trunkline.workspace.schema_section import SchemaSection, configuration_keys
from trunkline.workspace.section_reader import Neighbours, ReadSection, Refuse, SectionReader, plain
from trunkline.workspace.yaml_tree import At, Broken, Node, locate, step

_EXAMPLE: Final = "rules: [{type: track, event: Order Completed, schema: {type: object}}]"
_HEADING: Final = ("type", "event", "version")
_MAX_SLUG_CHARACTERS: Final = 64
_MAX_SCHEMA_PROBLEMS: Final = 20
"""Reported of one schema; what is wrong there is often wrong in all of it."""

_TOP_OF_EVENTS: Final = frozenset(
    {
        "type",
        "event",
        "properties",
        "traits",
        "context",
        "integrations",
        "userId",
        "anonymousId",
        "groupId",
        "previousId",
        "messageId",
        "name",
        "category",
        "channel",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "receivedAt",
        "version",
        "writeKey",
        "projectId",
    }
)

RulesOfFile = Callable[[At, str], Sequence[Rule] | None]
"""The rules that a file holds, by the place of its name and the plan's slug; None if they can't be had, which is
reported."""


class PlansSection(SectionReader):
    """Reads plans; what is wrong is reported and left out."""

    def __init__(
        self,
        section: ReadSection,
        refuse: Refuse,
        note: Refuse,
        near: Neighbours,
        schema: SchemaSection,
        rules_of_file: RulesOfFile,
    ) -> None:
        super().__init__(section, refuse)
        self._note = note
        self._near = near
        self._schema = schema
        self._rules_of_file = rules_of_file
        self._schemas: dict[int, tuple[Node, Any, list[RuleProblem]]] = {}
        """By the identity of the node that they were read from (and that is kept alive here)."""

    def plan(self, at: At, keys: Mapping[str, At], slug: str, name: str) -> TrackingPlan:
        """``keys``: all of the plan that have a value."""
        sources = self._sources(keys.get("sources"))
        if "sources" not in keys:
            self._note(at, "no source has this plan", "Add sources: [web] when it should say something")
        own = [source for source in sources if source not in self._near.configured]
        return TrackingPlan(
            slug=slug,
            name=name,
            sources=sources,
            rules=self._plan_rules(at, slug, keys.get("rules"), keys.get("file")),
            enforce=self._schema.configuration(keys.get("enforce"), own),
        )

    def _sources(self, at: At | None) -> tuple[str, ...]:
        found = []
        for item, slug in self._texts(at, "the source", "Write sources: [web]", _MAX_SLUG_CHARACTERS):
            if not self._known(item, slug, self._near.sources, "source"):
                continue
            plan, first = self._near.plan_of[slug]
            if first.path != item.path:
                reason = f"the source {slug} has the plan {plan} already, by line {first.node.line}"
                self._refuse(item, reason, "A source has one plan: take it out of one of them")
            found.append(slug)
        return tuple(found)

    def _plan_rules(self, at: At, slug: str, rules: At | None, file: At | None) -> tuple[Rule, ...]:
        if rules is not None and file is not None:
            self._refuse(file, f"the rules stand in line {rules.node.line} already", "Remove rules, or file")
            return ()
        if file is not None:
            return tuple(self._rules_of_file(file, slug) or ())
        if rules is None:
            self._refuse(At(at.node, step(at.path, "rules")), "missing", f"Add {_EXAMPLE}")
            return ()
        listed = self._list(rules, f"Write {_EXAMPLE}")
        if len(listed) > MAX_RULES:
            self._refuse(rules, f"{len(listed)} rules", TOO_MANY)
            return ()
        if not listed and isinstance(rules.node.value, list):
            self._note(rules, "there is no rule, so every event is unplanned", f"Write {_EXAMPLE}")
        lines: dict[RuleKey, int] = {}
        found = []
        for item in listed:
            rule = self._rule(item)
            if rule is None:
                continue
            key = key_of(rule)
            if key in lines:
                reason = f"a rule of this type, event and version stands in line {lines[key]} already"
                self._refuse(item, reason, "Keep one of them, or give it another version")
            lines.setdefault(key, item.node.line)
            found.append(rule)
        return tuple(found)

    def _rule(self, at: At) -> Rule | None:
        if not isinstance(at.node.value, dict | Broken):
            self._refuse(at, "a mapping is wanted here", f"Write {_EXAMPLE}")
            return None
        keys = self._section(at, vocabulary.RULE)
        if keys is None:
            return None
        try:
            kind, event, version = (plain(keys[key].node) if key in keys else None for key in _HEADING)
            schema, found = self._schema_of(keys.get("schema"))
        except ValueError:
            return None
        problems = [*check_heading(kind, event, version), *found]
        for problem in problems:
            base = keys.get(problem.key)
            if base is None:
                self._refuse(At(at.node, step(at.path, problem.key)), problem.reason, problem.mend)
            else:
                node, path = locate(base, problem.inner)
                self._refuse(At(node, path), problem.reason, problem.mend)
        if problems:
            return None
        self._note_misplaced(keys["schema"], schema)
        return make_rule(kind, event, version, schema)

    def _note_misplaced(self, at: At, schema: Mapping[str, Any]) -> None:
        """A schema that means the properties alone blocks every event, or none."""
        listed, required = schema.get("properties", {}), schema.get("required", [])
        names = [*listed, *required]
        if names and _TOP_OF_EVENTS.isdisjoint(names):
            reason = f"it is for the whole event, and no event has {shown(names[0])} at its top"
            mend = "Put what properties must hold below properties: {properties: {…}}, traits below {traits: {…}}"
            self._note(at, reason, mend)

    def _schema_of(self, at: At | None) -> tuple[Any, list[RuleProblem]]:
        """The schema and what is wrong with it, read once for all aliases. Raises ValueError for a broken one."""
        if at is None:
            return None, check_rule_schema(None)
        known = self._schemas.get(id(at.node))
        if known is None:
            schema = plain(at.node)
            known = self._schemas[id(at.node)] = (at.node, schema, check_rule_schema(schema)[:_MAX_SCHEMA_PROBLEMS])
        return known[1:]


def plan_keys(plan: TrackingPlan, *, rules: bool = True) -> dict[str, Any]:
    """What :class:`PlansSection` reads this from; keys that say nothing are left out. Without ``rules`` the caller adds
    a ``file``."""
    keys: dict[str, Any] = {"slug": plan.slug, "name": plan.name}
    if plan.sources:
        keys["sources"] = list(plan.sources)
    if plan.enforce != SchemaConfiguration():
        keys["enforce"] = configuration_keys(plan.enforce)
    if rules:
        keys["rules"] = [_rule_keys(rule) for rule in plan.rules]
    return keys


def _rule_keys(rule: Rule) -> dict[str, Any]:
    keys: dict[str, Any] = {"type": rule.type}
    if rule.event:
        keys["event"] = rule.event
    return {**keys, "version": rule.version, "schema": dict(rule.schema)}
