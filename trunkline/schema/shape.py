"""The shape of JSON values that were seen, and the JSON Schema (draft 7) that all keep to. Memory is bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from trunkline.schema.paths import ARRAY, INTEGER, NULL, NUMBER, OBJECT, STRING, TYPE_OF, type_names

MAX_KEYS: Final = 300
"""Of one object; one with more is a map whose keys are data, of which only the usual ones are named."""
MAX_DEPTH: Final = 10
_USUAL: Final = 0.01
"""The share of a map's objects that a key must be in, to be named."""
_MAX_ENUM_CHARACTERS: Final = 100
_ENUM_EVIDENCE: Final = 10
"""So many times as often as there are values must a text have been seen before they count as all there are."""

_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII)


class Budget:
    """Room for so many shapes, of everything that is looked at together."""

    def __init__(self, shapes: int) -> None:
        self._left = shapes
        self.exhausted = False

    def take(self) -> bool:
        if self._left <= 0:
            self.exhausted = True
            return False
        self._left -= 1
        return True


class Shape:
    """What was seen at one place. ``enum_values``: up to so many different texts are remembered; 0 for none."""

    __slots__ = (
        "_budget",
        "_depth",
        "_enum_values",
        "_is_map",
        "_items",
        "_keys",
        "_objects",
        "_only_times",
        "_texts",
        "_values",
        "seen",
        "types",
    )

    def __init__(self, budget: Budget, enum_values: int = 0, depth: int = MAX_DEPTH) -> None:
        self._budget = budget
        self._enum_values = enum_values
        self._depth = depth
        self.seen = 0
        self.types = 0
        self._objects = 0
        self._texts = 0
        self._only_times = True
        self._values: set[str] | None = set() if enum_values else None
        self._keys: dict[str, Shape] | None = None
        self._is_map = False
        self._items: Shape | None = None

    def add(self, value: Any) -> None:
        """Look at one value, as it is decoded from JSON."""
        bit = TYPE_OF[type(value)]
        self.seen += 1
        self.types |= bit
        if bit == STRING:
            self._add_text(value)
        elif bit == OBJECT:
            self._add_object(value)
        elif bit == ARRAY and value and self._depth:
            if self._items is None:
                if not self._budget.take():
                    return
                self._items = Shape(self._budget, self._enum_values, self._depth - 1)
            for item in value:
                self._items.add(item)

    def _add_text(self, text: str) -> None:
        self._texts += 1
        if self._only_times and not is_date_time(text):
            self._only_times = False
        if self._values is not None:
            self._values.add(text)
            if len(self._values) > self._enum_values or len(text) > _MAX_ENUM_CHARACTERS:
                self._values = None

    def _add_object(self, value: Mapping[str, Any]) -> None:
        self._objects += 1
        if not self._depth:
            return
        if self._keys is None:
            self._keys = {}
        keys = self._keys
        for key, item in value.items():
            shape = keys.get(key)
            if shape is None:
                if len(keys) >= MAX_KEYS or not self._budget.take():
                    self._is_map = self._is_map or len(keys) >= MAX_KEYS
                    continue
                shape = keys[key] = Shape(self._budget, self._enum_values, self._depth - 1)
            shape.add(item)

    # -- as a schema -----------------------------------------------------------------------------------------------

    def schema(self, *, least: int, depth: int = MAX_DEPTH) -> dict[str, Any]:
        """JSON Schema that every value seen keeps to. A key is required if every object had it, and there were at
        least ``least``. Below ``depth`` levels only types are told."""
        types = self.types & ~INTEGER if self.types & NUMBER else self.types
        if types in (0, NULL):
            return {}  # null says nothing of what else may stand there
        names = type_names(types)
        schema: dict[str, Any] = {"type": names[0] if len(names) == 1 else list(names)}
        if types & STRING:
            if self._only_times:
                schema["format"] = "date-time"
            elif types in (STRING, STRING | NULL) and self._are_all(self._values):
                schema["enum"] = [*sorted(self._values or ()), *((None,) if types & NULL else ())]
        if not depth:
            return schema
        if self._items is not None:
            items = self._items.schema(least=least, depth=depth - 1)
            if items:
                schema["items"] = items
        if self._keys:
            schema |= self._object_schema(least, depth)
        return schema

    def _are_all(self, values: set[str] | None) -> bool:
        """Whether these texts came often enough to count as all there are."""
        return bool(values) and self._texts >= _ENUM_EVIDENCE * len(values or ())

    def _object_schema(self, least: int, depth: int) -> dict[str, Any]:
        assert self._keys is not None
        usual = self._objects * _USUAL if self._is_map else 0
        named = {key: shape for key, shape in sorted(self._keys.items()) if shape.seen >= usual}
        schema: dict[str, Any] = {}
        if named:
            schema["properties"] = {key: shape.schema(least=least, depth=depth - 1) for key, shape in named.items()}
        required = [key for key, shape in named.items() if shape.seen == self._objects]
        if required and self._objects >= least:
            schema["required"] = required
        return schema


def is_date_time(text: str) -> bool:
    """Whether any validator takes it for an RFC 3339 moment: no leap seconds, no lower-case letters."""
    if not _DATE_TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True
