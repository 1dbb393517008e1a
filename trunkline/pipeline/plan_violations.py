"""What of an event breaks a schema, in the words and the order of Segment's validator (Go's ``xeipuuv/gojsonschema``).

Asked only about events that :mod:`trunkline.pipeline.schema_engine` says no to, so it is written for the right words,
not for speed. Of alternatives (``anyOf``, ``oneOf``, ``contains``) it tells what is wrong with the one that fits best:
a schema scores a point for each group of keywords that was looked at, and loses two for each finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

from trunkline.pipeline.findings import MAX_TEXT, MAX_VIOLATIONS, Enough, Finding, Path, Result, better_of
from trunkline.pipeline.go_values import canonical, go_json, go_number
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_engine import check_format, compile_pattern

MAX_STEPS: Final = 12_000
"""To explain one event. A step takes some 0.3 us, and the events of all other sources wait meanwhile."""
_STEPS_TO_ASK: Final = 4
_STEPS_OF_A_CHECK: Final = 4
_NAMES_A_STEP: Final = 4
_STEPS_OF_A_PATTERN: Final = 100
"""Whether it is compiled already or not, or else the answer would depend on what came before."""
_STEPS_TO_DIVIDE: Final = 80
_CHARACTERS_A_STEP: Final = 64
"""That a pattern is looked for in."""
_FORMATTED_A_STEP: Final = 8
"""Characters that a format is compared with."""
MAX_LEVELS: Final = 150
"""Of the event."""
MAX_ASKED_INSIDE: Final = 200
"""Schemas asked by schemas asked by schemas: each is two or three calls deep, and Python allows a thousand."""


class _Exhausted(Exception):
    """The explanation takes too long, or the event is nested too deep."""


_OF_ARRAYS: Final = frozenset(["items", "minItems", "maxItems", "uniqueItems", "contains"])
_OF_OBJECTS: Final = frozenset(
    ["minProperties", "maxProperties", "required", "patternProperties", "additionalProperties", "propertyNames"]
)
_OF_NUMBERS: Final = frozenset(["multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"])
_OF_STRINGS: Final = frozenset(["minLength", "maxLength", "pattern", "format"])


_Check = Callable[[Any, Any, Path, Result], None]


class _Checks(NamedTuple):
    """What a schema wants of values of one type."""

    refusal: str
    """That it takes none of this type; empty if it does."""
    each: tuple[_Check, ...]
    """Called with the schema, the value, its path and the result."""
    score: int


class Explainer:
    """Of one schema that :func:`trunkline.pipeline.plan_schema.check_schema` finds no fault with."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._checks: dict[tuple[int, str], _Checks] = {}
        self._patterns: dict[str, Callable[[Any], bool]] = {}
        self._options: dict[int, _Options] = {}
        self._met: set[str] = set()
        self._steps = 0
        self._asked_inside = 0

    def explain(self, event: Mapping[str, Any]) -> list[Finding]:
        """All that is wrong, in a stable order; empty if nothing is. Never raises. For an event that takes more than
        MAX_STEPS it is what was found until then, or that nothing could be."""
        self._steps = 0
        self._asked_inside = 0
        self._met.clear()
        result = Result(MAX_VIOLATIONS)
        reason = ""
        try:
            self._ask(self._document.root, event, (), result)
        except Enough:
            pass
        except RecursionError:
            reason = "the event is nested too deep"
        except (_Exhausted, ValueError) as error:
            reason = str(error)
        if reason and not result.notes:
            result.add("internal", (), f"Internal Error {reason}", ())
        return [note.finding() for note in result.notes]

    @property
    def steps(self) -> int:
        """That the last explanation took."""
        return self._steps

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise _Exhausted("the event takes too long to check")

    def _ask(self, schema: Any, value: Any, path: Path, result: Result) -> None:
        self._spend(_STEPS_TO_ASK)
        if len(path) > MAX_LEVELS:
            raise _Exhausted(f"the event is nested deeper than {MAX_LEVELS} levels")
        while schema is not True and schema is not False and "$ref" in schema:
            self._spend(_STEPS_TO_ASK)
            schema = self._document.resolve(schema)
        if schema is True or schema is False:
            if not schema:
                result.add("false", path, "False always fails validation")
            return
        given = _type_of(value)
        checks = self._checks.get((id(schema), given))
        if checks is None:
            checks = self._checks[id(schema), given] = self._checks_of(schema, given)
        if checks.refusal:
            result.add("invalid_type", path, checks.refusal)
            return
        if checks.each:
            if self._asked_inside > MAX_ASKED_INSIDE:
                raise _Exhausted(f"more than {MAX_ASKED_INSIDE} schemas in schemas are asked about one value")
            self._spend(_STEPS_OF_A_CHECK * len(checks.each))
            self._asked_inside += 1
            for check in checks.each:
                check(schema, value, path, result)
            self._asked_inside -= 1
        result.score += checks.score

    def _fits(self, schema: Any, value: Any, path: Path) -> bool:
        inside = self._asked_inside
        try:
            self._ask(schema, value, path, Result(1))
        except Enough:
            self._asked_inside = inside
            return False
        return True

    def _checks_of(self, schema: Mapping[str, Any], given: str) -> _Checks:
        """In the order in which Segment's validator looks; and a point for each group of keywords."""
        types = schema.get("type", ())
        if isinstance(types, str):
            types = (types,)
        if types and given not in types and not (given == "integer" and "number" in types):
            wanted = f"[{','.join(types)}]" if len(types) > 1 else types[0]
            return _Checks(f"Invalid type. Expected: {wanted}, given: {given}", (), 0)
        each: list[_Check] = []
        if schema.get("anyOf"):
            each.append(self._any_of)
        if schema.get("oneOf"):
            each.append(self._one_of)
        if schema.get("allOf"):
            each.append(self._all_of)
        if "not" in schema:
            each.append(self._not)
        if given == "object" and schema.get("dependencies"):
            each.append(self._dependencies)
        if "if" in schema and ("then" in schema or "else" in schema):
            each.append(self._condition)
        groups = 3
        by_type: Mapping[str, tuple[frozenset[str], _Check]] = {
            "array": (_OF_ARRAYS, self._array),
            "object": (_OF_OBJECTS, self._object),
            "integer": (_OF_NUMBERS, self._number),
            "number": (_OF_NUMBERS, self._number),
        }
        if given in by_type:
            groups += 1
            keywords, own = by_type[given]
            if not keywords.isdisjoint(schema):
                each.append(own)
        if "const" in schema or schema.get("enum"):
            each.append(self._chosen)
        if given == "string":
            groups += 1
            if not _OF_STRINGS.isdisjoint(schema):
                each.append(self._string)
        if given == "object" and schema.get("properties"):
            each.append(self._properties)
        return _Checks("", tuple(each), groups)

    def _any_of(self, schema: Mapping[str, Any], value: Any, path: Path, result: Result) -> None:
        best: Result | None = None
        for inner in schema["anyOf"]:
            part = Result()
            self._ask(inner, value, path, part)
            if not part.count:
                return
            best = better_of(best, part)
        result.add("number_any_of", path, "Must validate at least one schema (anyOf)")
        if best is not None:
            result.merge(best)

    def _one_of(self, schema: Mapping[str, Any], value: Any, path: Path, result: Result) -> None:
        best: Result | None = None
        fitting = 0
        for inner in schema["oneOf"]:
            part = Result()
            self._ask(inner, value, path, part)
            fitting += not part.count
            best = better_of(best, part)
        if fitting != 1:
            result.add("number_one_of", path, "Must validate one and only one schema (oneOf)")
            if fitting == 0 and best is not None:
                result.merge(best)

    def _all_of(self, schema: Mapping[str, Any], value: Any, path: Path, result: Result) -> None:
        before = result.count
        for inner in schema["allOf"]:
            self._ask(inner, value, path, result)
        if result.count > before:
            result.add("number_all_of", path, "Must validate all the schemas (allOf)", ())

    def _not(self, schema: Mapping[str, Any], value: Any, path: Path, result: Result) -> None:
        if self._fits(schema["not"], value, path):
            result.add("number_not", path, "Must not validate the schema (not)")

    def _dependencies(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: Result) -> None:
        self._spend(len(schema["dependencies"]) // _NAMES_A_STEP)
        for name, wanted in schema["dependencies"].items():
            if name not in value:
                continue
            if isinstance(wanted, list):
                self._spend(1 + len(wanted) // _NAMES_A_STEP)
                for other in wanted:
                    if other not in value:
                        result.add("missing_dependency", path, f"Has a dependency on {other}", ())
            else:
                self._ask(wanted, value, path, result)

    def _condition(self, schema: Mapping[str, Any], value: Any, path: Path, result: Result) -> None:
        is_met = self._fits(schema["if"], value, path)
        keyword = "then" if is_met else "else"
        if keyword not in schema:
            return
        part = Result()
        self._ask(schema[keyword], value, path, part)
        if part.count:
            state = "was valid" if is_met else "was not valid"
            result.add(f"condition_{keyword}", path, f'Must validate "{keyword}" as "if" {state}', ())
            result.merge(part)

    def _array(self, schema: Mapping[str, Any], value: Sequence[Any], path: Path, result: Result) -> None:
        if "items" in schema:
            self._items(schema, value, path, result)
        least, most = schema.get("minItems"), schema.get("maxItems")
        if least is not None and len(value) < least:
            result.add("array_min_items", path, f"Array must have at least {int(least)} items")
        if most is not None and len(value) > most:
            result.add("array_max_items", path, f"Array must have at most {int(most)} items")
        if schema.get("uniqueItems") is True:
            seen: dict[Any, int] = {}
            for index, item in enumerate(value):
                key = self._canonical(item)
                if key in seen:
                    result.add("unique", path, f"array items[{seen[key]},{index}] must be unique")
                seen[key] = index
        if "contains" in schema:
            self._contains(schema["contains"], value, path, result)

    def _contains(self, wanted: Any, value: Sequence[Any], path: Path, result: Result) -> None:
        best: Result | None = None
        for index, item in enumerate(value):
            part = Result()
            self._ask(wanted, item, (*path, index), part)
            if not part.count:
                return
            best = better_of(best, part)
        result.add("contains", path, "At least one of the items must match")
        if best is not None:
            result.merge(best)

    def _items(self, schema: Mapping[str, Any], value: Sequence[Any], path: Path, result: Result) -> None:
        items = schema["items"]
        if not isinstance(items, list):
            for index, item in enumerate(value):
                self._ask(items, item, (*path, index), result)
            return
        for index, (inner, item) in enumerate(zip(items, value, strict=False)):
            self._ask(inner, item, (*path, index), result)
        others = schema.get("additionalItems", True)
        if len(value) > len(items) and others is False:
            result.add("array_no_additional_items", path, "No additional items allowed on array")
        elif others is not True and others is not False:
            for index in range(len(items), len(value)):
                self._ask(others, value[index], (*path, index), result)

    def _object(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: Result) -> None:
        least, most = schema.get("minProperties"), schema.get("maxProperties")
        if least is not None and len(value) < least:
            result.add("array_min_properties", path, f"Must have at least {int(least)} properties")
        if most is not None and len(value) > most:
            result.add("array_max_properties", path, f"Must have at most {int(most)} properties")
        required = schema.get("required", ())
        self._spend(len(required) // _NAMES_A_STEP)
        for name in required:
            if name in value:
                result.score += 1
            else:
                self._spend(2)
                result.add("required", (*path, name), "is required", (), names_field=True)
        self._additional(schema, value, path, result)
        if "propertyNames" in schema:
            for name in value:
                part = Result()
                self._ask(schema["propertyNames"], name, path, part)
                if part.count:
                    field = (*path, name)
                    result.add("invalid_property_name", field, f'Property name of "{name}" does not match')
                    part.notes = [note._replace(culprit=field) for note in part.notes]
                    result.merge(part)

    def _properties(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: Result) -> None:
        self._spend(len(schema["properties"]) // _NAMES_A_STEP)
        for name, inner in schema["properties"].items():
            if name in value:
                self._ask(inner, value[name], (*path, name), result)

    def _additional(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: Result) -> None:
        """Properties by pattern, and those that are named nowhere."""
        named = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        others = schema.get("additionalProperties", True)
        if not patterns and others is True:
            return
        for name, inner in value.items():
            self._spend(2)
            field = (*path, name)
            is_matched = False
            for pattern, wanted in patterns.items():
                if self._matches(pattern, name):
                    is_matched = True
                    self._ask(wanted, inner, field, result)
            result.score += is_matched
            if is_matched or name in named:
                continue
            if others is False:
                result.add("additional_property_not_allowed", field, f"Additional property {name} is not allowed")
            elif others is not True:
                self._ask(others, inner, field, result)

    def _matches(self, pattern: str, text: str) -> bool:
        self._spend(1 + len(text) // _CHARACTERS_A_STEP)
        if pattern not in self._met:
            self._spend(_STEPS_OF_A_PATTERN)
            self._met.add(pattern)
        matches = self._patterns.get(pattern)
        if matches is None:
            matches = self._patterns[pattern] = compile_pattern(pattern)
        return matches(text)

    def _chosen(self, schema: Mapping[str, Any], value: Any, path: Path, result: Result) -> None:
        if "const" in schema:
            options = self._options.get(id(schema)) or self._list(id(schema), (schema["const"],))
            if not self._is_among(value, options):
                result.add("const", path, f"does not match: {options.listed}", names_field=True)
        if schema.get("enum"):
            options = self._options.get(id(schema["enum"])) or self._list(id(schema["enum"]), schema["enum"])
            if not self._is_among(value, options):
                result.add("enum", path, f"must be one of the following: {options.listed}", names_field=True)

    def _list(self, key: int, values: Sequence[Any]) -> _Options:
        """``key``: the id of the part of the schema that has the values."""
        listed = _written(values)
        scalars: set[Any] = set()
        others: dict[tuple[bool, int], list[Any]] = {}
        for value in values:
            if isinstance(value, list | Mapping):
                others.setdefault((isinstance(value, list), len(value)), []).append(value)
            else:
                scalars.add(value if isinstance(value, str) else canonical(value))
        options = self._options[key] = _Options(frozenset(scalars), others, listed)
        return options

    def _is_among(self, value: Any, options: _Options) -> bool:
        if not isinstance(value, list | Mapping):
            return canonical(value) in options.scalars
        others = options.others.get((isinstance(value, list), len(value)), ())
        return any(self._is_same(value, other) for other in others)

    def _is_same(self, one: Any, other: Any) -> bool:
        """As equal canonical values are, but no longer than up to the first difference."""
        self._spend(2)
        if isinstance(one, Mapping):
            return (
                isinstance(other, Mapping)
                and len(one) == len(other)
                and all(key in other and self._is_same(inner, other[key]) for key, inner in one.items())
            )
        if isinstance(one, list):
            return isinstance(other, list) and len(one) == len(other) and all(map(self._is_same, one, other))
        return not isinstance(other, list | Mapping) and bool(canonical(one) == canonical(other))

    def _canonical(self, value: Any) -> Any:
        self._spend(1)
        if isinstance(value, Mapping):
            self._spend(5 + len(value))
            return "object", frozenset((key, self._canonical(inner)) for key, inner in value.items())
        if isinstance(value, list):
            self._spend(5)
            return "array", tuple(self._canonical(inner) for inner in value)
        return canonical(value)

    def _string(self, schema: Mapping[str, Any], value: str, path: Path, result: Result) -> None:
        least, most = schema.get("minLength"), schema.get("maxLength")
        if least is not None and len(value) < least:
            result.add("string_gte", path, f"String length must be greater than or equal to {int(least)}")
        if most is not None and len(value) > most:
            result.add("string_lte", path, f"String length must be less than or equal to {int(most)}")
        pattern, name = schema.get("pattern"), schema.get("format")
        if pattern is not None and not self._matches(pattern, value):
            result.add("pattern", path, f"Does not match pattern '{pattern}'")
        if name:
            self._spend(_STEPS_TO_ASK + len(value) // _FORMATTED_A_STEP)
            if not check_format(name, value):
                result.add("format", path, f"Does not match format '{name}'")

    def _number(self, schema: Mapping[str, Any], value: float, path: Path, result: Result) -> None:
        step = schema.get("multipleOf")
        if step is not None:
            self._spend(_STEPS_TO_DIVIDE)
            if (_exact(value) / _exact(step)).denominator != 1:
                result.add("multiple_of", path, f"Must be a multiple of {go_number(step)}")
        most, below = schema.get("maximum"), schema.get("exclusiveMaximum")
        if most is not None and value > most:
            result.add("number_lte", path, f"Must be less than or equal to {go_number(most)}")
        if below is not None and value >= below:
            result.add("number_lt", path, f"Must be less than {go_number(below)}")
        least, above = schema.get("minimum"), schema.get("exclusiveMinimum")
        if least is not None and value < least:
            result.add("number_gte", path, f"Must be greater than or equal to {go_number(least)}")
        if above is not None and value <= above:
            result.add("number_gt", path, f"Must be greater than {go_number(above)}")


class _Options(NamedTuple):
    """What ``enum`` or ``const`` allow."""

    scalars: frozenset[Any]
    others: Mapping[tuple[bool, int], Sequence[Any]]
    """Lists and objects, by whether it is a list, and the length."""
    listed: str
    """As far as it can be seen."""


def _written(values: Sequence[Any]) -> str:
    """The values as they are told, at least up to MAX_TEXT characters."""
    text = ""
    for value in values:
        text += f"{', ' if text else ''}{go_json(_beginning(value, [MAX_TEXT]))}"
        if len(text) > MAX_TEXT:
            break
    return text[: MAX_TEXT + 1]


def _beginning(value: Any, left: list[int]) -> Any:
    """As much of a value as MAX_TEXT characters can show. ``left``: how many values more that is."""
    left[0] -= 1
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if left[0] < 0:
        return None
    if isinstance(value, Mapping):
        return {key: _beginning(value[key], left) for key in sorted(value)[: left[0] + 1]}
    return [_beginning(inner, left) for inner in value[: left[0] + 1]] if isinstance(value, list) else value


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def _exact(number: float) -> Fraction:
    """The number as it was written."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))
