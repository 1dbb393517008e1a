"""Which of the things that a source sends its tracking plan knows, by name (``spec/event_path.md`` §4.3, §9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trunkline.schema.limits import OTHER
from trunkline.schema.paths import split_path
from trunkline.spec.plans import COMMON, GROUP, IDENTIFY, PAGE, PAGE_EVENT, SCREEN, SCREEN_EVENT, TRACK, TrackingPlan

_VIEWED: Final = {PAGE: PAGE_EVENT, SCREEN: SCREEN_EVENT}
_PLANNABLE: Final = (TRACK, PAGE, SCREEN, IDENTIFY, GROUP)

Schema = Mapping[str, Any]


class PlannedNames:
    """Of an event with several versions only the oldest counts, as in Segment."""

    def __init__(self, plan: TrackingPlan | None) -> None:
        self._rules: dict[tuple[str, str], tuple[int, Schema]] = {}
        for rule in plan.rules if plan is not None else ():
            key = (rule.type, rule.event)
            if rule.type != COMMON and (key not in self._rules or rule.version < self._rules[key][0]):
                self._rules[key] = (rule.version, rule.schema)

    def event(self, event_type: str, name: str) -> bool | None:
        """None: the plan does not speak of such events, or there is none."""
        if not self._rules or event_type not in _PLANNABLE or name == OTHER:
            return None
        return self._schema(event_type, name) is not None

    def property(self, event_type: str, name: str, path: str) -> bool | None:
        """Of an event of the plan. None: the event itself is not planned, or nothing can be said."""
        schema = self._schema(event_type, name)
        if schema is None or path == OTHER:
            return None
        known: Any = _properties(schema).get("traits" if event_type in (IDENTIFY, GROUP) else "properties")
        for key in split_path(path):
            if not isinstance(known, Mapping):
                return False
            known = known.get("items") if key == "$" else _properties(known).get(key)
        return known is not None

    def _schema(self, event_type: str, name: str) -> Schema | None:
        keys = [(event_type, name), (event_type, ""), (TRACK, _VIEWED.get(event_type, ""))]
        found = next((self._rules[key] for key in keys if key in self._rules), None)
        return found[1] if found is not None else None


def _properties(schema: Schema) -> Mapping[str, Any]:
    known = schema.get("properties")
    return known if isinstance(known, Mapping) else {}
