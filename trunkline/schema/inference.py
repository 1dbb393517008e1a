"""A tracking plan made of events that came: what they all have in common becomes the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from trunkline.schema.shape import MAX_DEPTH, Budget, Shape
from trunkline.spec.plans import GROUP, IDENTIFY, MAX_RULES, MAX_SCHEMA_BYTES, PAGE, SCREEN, TRACK, Rule

DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"
MAX_NAMES: Final = 2 * MAX_RULES
"""Names of track events that are looked at; the more frequent of them become rules."""
MAX_SHAPES: Final = 300_000
REPORT_NAME: Final = "Violation Generated"
"""Violations that were forwarded as events are no part of what a source sends."""

_ORDER: Final = (TRACK, IDENTIFY, GROUP, PAGE, SCREEN)


class _Body(msgspec.Struct, gc=False):
    properties: Any = msgspec.UNSET
    traits: Any = msgspec.UNSET


_decode: Final = msgspec.json.Decoder(_Body).decode


class PlanInference:
    """Takes events one by one; memory is bounded. Every event that was taken keeps to :meth:`rules`."""

    def __init__(self, *, least: int = 10, enum_values: int = 0, shapes: int = MAX_SHAPES) -> None:
        """``least``: events that must have been seen before anything that all have is required. ``enum_values``: texts
        of which at most so many different ones came are listed as the permitted values; 0 never."""
        self._least = least
        self._enum_values = enum_values
        self._budget = Budget(shapes)
        self._shapes: dict[tuple[str, str], Shape] = {}
        self.events = 0
        """That were looked at."""
        self.left_out = 0
        """Events with a name beyond the limit: no rule speaks of them."""

    @property
    def incomplete(self) -> bool:
        """Whether properties were left out for want of memory."""
        return self._budget.exhausted

    def add(self, event_type: str, name: str, body: bytes) -> None:
        """Look at one event. Those of types that plans have no rules for are passed over. Raises
        msgspec.MsgspecError."""
        if event_type not in _ORDER or (event_type == TRACK and name == REPORT_NAME):
            return
        key = (event_type, name if event_type == TRACK else "")
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= MAX_NAMES:
                self.left_out += 1
                return
            # An event is an object of one key, so that a missing one counts as for any other object.
            shape = self._shapes[key] = Shape(self._budget, self._enum_values, MAX_DEPTH + 1)
        content, where = _decode(body), _content_key(event_type)
        value = content.traits if where == "traits" else content.properties
        shape.add({} if value is msgspec.UNSET else {where: value})
        self.events += 1

    def rules(self) -> Sequence[Rule]:
        """The most frequent track events, by name, then the other types: as many as a plan may have."""
        kept = sorted(self._shapes, key=lambda key: (key[0] == TRACK, -self._shapes[key].seen, key[1]))[:MAX_RULES]
        return [
            Rule(event_type, self._schema(self._shapes[event_type, name]), name)
            for event_type, name in sorted(kept, key=lambda key: (_ORDER.index(key[0]), key[1]))
        ]

    def count(self, rule: Rule) -> int:
        """How many events a rule is made of."""
        return self._shapes[rule.type, rule.event].seen

    def _schema(self, shape: Shape) -> dict[str, Any]:
        """As deep as a rule may be large."""
        for depth in range(MAX_DEPTH + 1, 0, -1):
            schema = {"$schema": DRAFT_7, "type": "object"} | shape.schema(least=self._least, depth=depth)
            if len(msgspec.json.encode(schema)) <= MAX_SCHEMA_BYTES:
                break
        return schema


def _content_key(event_type: str) -> str:
    return "traits" if event_type in (IDENTIFY, GROUP) else "properties"
