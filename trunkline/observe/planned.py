"""Which of the things that a source sends its tracking plan knows, by name (``spec/event_path.md`` §4.3, §9)."""

from __future__ import annotations

from typing import Any, Final

from trunkline.pipeline.planned_names import PlannedNames, compile_names
from trunkline.pipeline.schema_document import SchemaDocument, UnknownReferenceError
from trunkline.pipeline.schema_engine import SchemaError
from trunkline.schema.limits import OTHER
from trunkline.schema.paths import split_path
from trunkline.spec.plans import COMMON, GROUP, IDENTIFY, PAGE, PAGE_EVENT, SCREEN, SCREEN_EVENT, TRACK, TrackingPlan

_VIEWED: Final = {PAGE: PAGE_EVENT, SCREEN: SCREEN_EVENT}
_Key = tuple[str, str]


class PlanView:
    """A source's plan, or none, asked by names. Of an event with several versions only the oldest counts, as in
    Segment."""

    def __init__(self, plan: TrackingPlan | None) -> None:
        rules = [rule for rule in plan.rules if rule.type != COMMON] if plan is not None else []
        rules.sort(key=lambda rule: -rule.version)
        self._rules = {(rule.type, rule.event): rule for rule in rules}
        self._types = {rule.type for rule in rules}
        self._names: dict[_Key, PlannedNames | bool | None] = {}

    def event(self, event_type: str, name: str) -> bool | None:
        """None: the plan does not speak of such events, or there is none."""
        if name == OTHER or not self._types:
            return None
        if self._key(event_type, name) is not None:
            return True
        # Other types are never blocked for being unplanned, unless the plan has rules of theirs.
        return False if event_type == TRACK or (event_type in _VIEWED and event_type in self._types) else None

    def property(self, event_type: str, name: str, path: str) -> bool | None:
        """Of an event that is planned. None: it is not, or nothing can be said."""
        key = self._key(event_type, name)
        if key is None or path == OTHER:
            return None
        if key not in self._names:
            self._names[key] = self._compile(key)
        names = self._names[key]
        return names.has_all(_value_at(path)) if isinstance(names, PlannedNames) else names

    def _key(self, event_type: str, name: str) -> _Key | None:
        """The rule that is for such events."""
        keys = [(event_type, name), (event_type, ""), (TRACK, _VIEWED.get(event_type, ""))]
        return next((key for key in keys if key in self._rules), None)

    def _compile(self, key: _Key) -> PlannedNames | bool | None:
        """True: it names none, so that all are planned; None: it cannot be read."""
        rule = self._rules[key]
        try:
            names = compile_names(
                SchemaDocument(rule.schema), "traits" if rule.type in (IDENTIFY, GROUP) else "properties"
            )
        except (UnknownReferenceError, SchemaError):
            return None
        return True if names is None else names


def _value_at(path: str) -> Any:
    """Properties that hold nothing but this path."""
    value: Any = None
    for key in reversed(split_path(path)):
        value = [value] if key == "$" else {key: value}
    return value
