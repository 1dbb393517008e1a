"""The rules of a tracking plan, each compiled when the first event needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from trunkline.pipeline.findings import Finding
from trunkline.pipeline.plan_schema import examine_schema
from trunkline.pipeline.plan_violations import Explainer
from trunkline.pipeline.planned_names import Path, PlannedNames, compile_names
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_engine import Predicate
from trunkline.pipeline.schema_functions import Check, generate_check
from trunkline.spec.plans import GROUP, IDENTIFY, Rule

PROPERTIES: Final = "properties"
TRAITS: Final = "traits"
EVALUATIONS_BEFORE: Final = 50
"""So often the engine answers before a rule gets a function of its own, which costs as much to generate."""
HEAD_LATER: Final = 1
"""Events after that, its function for events that are decoded in part: one step is not to be too long."""


class CompiledRule:
    """One rule. Its schema is compiled when the first event needs it, so that a plan of many rules is activated at
    once."""

    __slots__ = (
        "_check",
        "_checks_names",
        "_evaluations_left",
        "_explainer",
        "_is_valid",
        "_key",
        "check_head",
        "names",
        "refusal",
        "rule",
    )

    def __init__(self, rule: Rule, *, checks_names: bool) -> None:
        """``checks_names``: whether :meth:`is_fine` asks if all names are planned."""
        self.rule = rule
        self.names: PlannedNames | None = None
        """None if everything is planned, or nobody asks."""
        self.refusal = ""
        """Why the rule can't be used; empty if it can."""
        self.check_head: Check | None = None
        """Whether an :class:`EventHead` is certainly fine; None while, or if, only :meth:`is_fine` tells."""
        self._check: Check | None = None
        self._checks_names = checks_names
        self._evaluations_left = EVALUATIONS_BEFORE + HEAD_LATER
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
        self.names = compile_names(document, self._key) if self._checks_names else None
        self._explainer = Explainer(document)
        self._is_valid = is_valid
        return is_valid(event)

    def is_fine(self, event: Mapping[str, Any]) -> bool:
        """Whether nothing is wrong with the event, and no name unplanned where that is asked."""
        if self._evaluations_left > 0:
            self._evaluations_left -= 1
            if self._evaluations_left == HEAD_LATER and not self.refusal:
                self._check = self._generate(of_head=False)
            elif self._evaluations_left == 0 and self._check is not None:
                self.check_head = self._generate(of_head=True)
        if self._check is not None and self._check(event):
            return True
        return self.accepts(event) and (self.names is None or self.names.has_all(event.get(self._key)))

    def _generate(self, *, of_head: bool) -> Check | None:
        names = {self._key: self.names} if self.names is not None else {}
        with suppress(RecursionError):  # the caller stands too deep: the engine goes on
            return generate_check(SchemaDocument(self.rule.schema), names, of_head=of_head)
        return None

    def accepts(self, event: Mapping[str, Any]) -> bool:
        """Whether the event fits the schema."""
        try:
            return self._is_valid(event)
        except ValueError:
            return False

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


class Versions:
    """The rules of one name, by version."""

    __slots__ = ("_by_number", "_oldest", "only")

    def __init__(self, rules: Iterable[Rule], *, checks_names: bool) -> None:
        self._by_number = {
            rule.version: CompiledRule(rule, checks_names=checks_names)
            for rule in sorted(rules, key=lambda rule: -rule.version)
        }
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
