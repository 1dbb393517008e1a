"""What of an event breaks a schema, in the words and the order of Segment's validator (Go's ``xeipuuv/gojsonschema``).

Asked only about events that :mod:`trunkline.pipeline.schema_engine` says no to, so it is written for the right words,
not for speed. Of alternatives (``anyOf``, ``oneOf``, ``contains``) it tells what is wrong with the one that fits best:
a schema scores a point for each group of keywords that was looked at, and loses two for each finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, NamedTuple

from trunkline.pipeline.go_values import canonical, go_json, go_number
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_engine import check_format, compile_pattern
from trunkline.spec.violations import Violation

MAX_VIOLATIONS: Final = 20
"""Of one event by one schema; the first ones count."""
MAX_TEXT: Final = 1000
"""Characters of a field or a description; the rest is cut off."""
MAX_STEPS: Final = 20_000
"""To explain one event: a schema that is asked takes four, a name that is looked up one."""
_STEPS_TO_ASK: Final = 4
MAX_LEVELS: Final = 150

Path = tuple[str | int, ...]


class Finding(NamedTuple):
    """``culprit``: the path of the value that must go for the violation to be gone; empty where there is none."""

    violation: Violation
    culprit: Path


class _Exhausted(Exception):
    """The explanation takes too long, or the event is nested too deep."""


class _Result:
    __slots__ = ("findings", "score")

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.score = 0

    def add(self, kind: str, path: Path, description: str, culprit: Path | None = None) -> None:
        """``path`` is that of the field; it is the culprit too unless another is named."""
        field = ".".join(map(str, path)) if path else "(root)"
        violation = Violation(kind.replace("_", " ").title(), _cut(field), _cut(description))
        self.findings.append(Finding(violation, path if culprit is None else culprit))
        self.score -= 2

    def merge(self, other: _Result) -> None:
        self.findings += other.findings
        self.score += other.score


class Explainer:
    """Of one schema that :func:`trunkline.pipeline.plan_schema.check_schema` finds no fault with."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._patterns: dict[str, Callable[[Any], bool]] = {}
        self._enums: dict[int, tuple[frozenset[Any], str]] = {}
        self._steps = 0

    def explain(self, event: Mapping[str, Any]) -> list[Finding]:
        """All that is wrong, in a stable order; empty if nothing is. Never raises."""
        self._steps = 0
        result = _Result()
        try:
            self._ask(self._document.root, event, (), result)
        except (_Exhausted, ValueError) as error:
            if not result.findings:
                result.add("internal", (), f"Internal Error {error}", ())
        return result.findings[:MAX_VIOLATIONS]

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise _Exhausted("the event takes too long to check")

    def _ask_apart(self, schema: Any, value: Any, path: Path) -> _Result:
        result = _Result()
        self._ask(schema, value, path, result)
        return result

    def _ask(self, schema: Any, value: Any, path: Path, result: _Result) -> None:
        self._spend(_STEPS_TO_ASK)
        if len(path) > MAX_LEVELS:
            raise _Exhausted(f"the event is nested deeper than {MAX_LEVELS} levels")
        if schema is True or schema is False:
            if not schema:
                result.add("false", path, "False always fails validation")
            return
        if "$ref" in schema:
            self._ask(self._document.resolve(schema), value, path, result)
            return
        given = _type_of(value)
        types = schema.get("type", ())
        if isinstance(types, str):
            types = (types,)
        if types and given not in types and not (given == "integer" and "number" in types):
            wanted = f"[{','.join(types)}]" if len(types) > 1 else types[0]
            result.add("invalid_type", path, f"Invalid type. Expected: {wanted}, given: {given}")
            return
        self._combined(schema, value, path, result)
        if given == "array":
            self._array(schema, value, path, result)
        elif given == "object":
            self._object(schema, value, path, result)
        elif given in ("integer", "number"):
            _number(schema, value, path, result)
        self._options(schema, value, path, result)
        if given == "string":
            self._string(schema, value, path, result)
        elif given == "object":
            for name, inner in schema.get("properties", {}).items():
                self._spend(1)
                if name in value:
                    self._ask(inner, value[name], (*path, name), result)
        result.score += 1

    def _combined(self, schema: Mapping[str, Any], value: Any, path: Path, result: _Result) -> None:
        """Schemas that look at the same value."""
        if schema.get("anyOf"):
            self._any_of(schema["anyOf"], value, path, result)
        if schema.get("oneOf"):
            self._one_of(schema["oneOf"], value, path, result)
        if schema.get("allOf"):
            parts = [self._ask_apart(inner, value, path) for inner in schema["allOf"]]
            for part in parts:
                result.merge(part)
            if any(part.findings for part in parts):
                result.add("number_all_of", path, "Must validate all the schemas (allOf)", ())
        if "not" in schema and not self._ask_apart(schema["not"], value, path).findings:
            result.add("number_not", path, "Must not validate the schema (not)")
        if isinstance(value, Mapping):
            self._dependencies(schema.get("dependencies", {}), value, path, result)
        if "if" in schema:
            self._condition(schema, value, path, result)
        result.score += 1

    def _any_of(self, branches: Sequence[Any], value: Any, path: Path, result: _Result) -> None:
        parts = []
        for inner in branches:
            part = self._ask_apart(inner, value, path)
            if not part.findings:
                return
            parts.append(part)
        result.add("number_any_of", path, "Must validate at least one schema (anyOf)")
        result.merge(_best(parts))

    def _one_of(self, branches: Sequence[Any], value: Any, path: Path, result: _Result) -> None:
        parts = [self._ask_apart(inner, value, path) for inner in branches]
        fitting = sum(not part.findings for part in parts)
        if fitting != 1:
            result.add("number_one_of", path, "Must validate one and only one schema (oneOf)")
            if fitting == 0:
                result.merge(_best(parts))

    def _dependencies(self, rules: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: _Result) -> None:
        for name, wanted in rules.items():
            self._spend(1)
            if name not in value:
                continue
            if isinstance(wanted, list):
                for other in wanted:
                    self._spend(1)
                    if other not in value:
                        result.add("missing_dependency", path, f"Has a dependency on {other}", ())
            else:
                self._ask(wanted, value, path, result)

    def _condition(self, schema: Mapping[str, Any], value: Any, path: Path, result: _Result) -> None:
        is_met = not self._ask_apart(schema["if"], value, path).findings
        keyword = "then" if is_met else "else"
        if keyword not in schema:
            return
        part = self._ask_apart(schema[keyword], value, path)
        if part.findings:
            state = "was valid" if is_met else "was not valid"
            result.add(f"condition_{keyword}", path, f'Must validate "{keyword}" as "if" {state}', ())
            result.merge(part)

    def _array(self, schema: Mapping[str, Any], value: Sequence[Any], path: Path, result: _Result) -> None:
        self._items(schema, value, path, result)
        least, most = schema.get("minItems"), schema.get("maxItems")
        if least is not None and len(value) < least:
            result.add("array_min_items", path, f"Array must have at least {int(least)} items")
        if most is not None and len(value) > most:
            result.add("array_max_items", path, f"Array must have at most {int(most)} items")
        if schema.get("uniqueItems") is True:
            seen: dict[Any, int] = {}
            for index, item in enumerate(value):
                key = canonical(item)
                if key in seen:
                    result.add("unique", path, f"array items[{seen[key]},{index}] must be unique")
                seen[key] = index
        if "contains" in schema:
            parts = []
            for index, item in enumerate(value):
                part = self._ask_apart(schema["contains"], item, (*path, index))
                if not part.findings:
                    break
                parts.append(part)
            else:
                result.add("contains", path, "At least one of the items must match")
                if parts:
                    result.merge(_best(parts))
        result.score += 1

    def _items(self, schema: Mapping[str, Any], value: Sequence[Any], path: Path, result: _Result) -> None:
        items = schema.get("items")
        if items is None:
            return
        if not isinstance(items, list):
            for index, item in enumerate(value):
                result.merge(self._ask_apart(items, item, (*path, index)))
            return
        for index, (inner, item) in enumerate(zip(items, value, strict=False)):
            result.merge(self._ask_apart(inner, item, (*path, index)))
        others = schema.get("additionalItems", True)
        if len(value) > len(items) and others is False:
            result.add("array_no_additional_items", path, "No additional items allowed on array")
        elif others is not True and others is not False:
            for index in range(len(items), len(value)):
                result.merge(self._ask_apart(others, value[index], (*path, index)))

    def _object(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: _Result) -> None:
        least, most = schema.get("minProperties"), schema.get("maxProperties")
        if least is not None and len(value) < least:
            result.add("array_min_properties", path, f"Must have at least {int(least)} properties")
        if most is not None and len(value) > most:
            result.add("array_max_properties", path, f"Must have at most {int(most)} properties")
        for name in schema.get("required", ()):
            self._spend(1)
            if name in value:
                result.score += 1
            else:
                field = (*path, name)
                result.add("required", field, f"{'.'.join(map(str, field))} is required", ())
        self._additional(schema, value, path, result)
        if "propertyNames" in schema:
            for name in value:
                part = self._ask_apart(schema["propertyNames"], name, path)
                if part.findings:
                    field = (*path, name)
                    result.add("invalid_property_name", field, f'Property name of "{name}" does not match')
                    part.findings = [Finding(finding.violation, field) for finding in part.findings]
                    result.merge(part)
        result.score += 1

    def _additional(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: Path, result: _Result) -> None:
        """Properties by pattern, and those that are named nowhere."""
        named = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        others = schema.get("additionalProperties", True)
        if not patterns and others is True:
            return
        for name, inner in value.items():
            self._spend(1)
            field = (*path, name)
            is_matched = False
            for pattern, wanted in patterns.items():
                self._spend(1)
                if self._matches(pattern, name):
                    is_matched = True
                    result.merge(self._ask_apart(wanted, inner, field))
            result.score += is_matched
            if is_matched or name in named:
                continue
            if others is False:
                result.add("additional_property_not_allowed", field, f"Additional property {name} is not allowed")
            elif others is not True:
                result.merge(self._ask_apart(others, inner, field))

    def _matches(self, pattern: str, text: str) -> bool:
        matches = self._patterns.get(pattern)
        if matches is None:
            matches = self._patterns[pattern] = compile_pattern(pattern)
        return matches(text)

    def _options(self, schema: Mapping[str, Any], value: Any, path: Path, result: _Result) -> None:
        field = ".".join(map(str, path)) if path else "(root)"
        if "const" in schema:
            wanted, listed = self._enum(id(schema), (schema["const"],))
            if canonical(value) not in wanted:
                result.add("const", path, f"{field} does not match: {listed}")
        if schema.get("enum"):
            wanted, listed = self._enum(id(schema["enum"]), schema["enum"])
            if canonical(value) not in wanted:
                result.add("enum", path, f"{field} must be one of the following: {listed}")
        result.score += 1

    def _enum(self, key: int, options: Sequence[Any]) -> tuple[frozenset[Any], str]:
        """The options, and how they are told, as far as that can be seen. ``key``: the id of a part of the schema."""
        known = self._enums.get(key)
        if known is None:
            listed = ", ".join(go_json(option) for option in options)[: MAX_TEXT + 1]
            known = self._enums[key] = frozenset(map(canonical, options)), listed
        return known

    def _string(self, schema: Mapping[str, Any], value: str, path: Path, result: _Result) -> None:
        least, most = schema.get("minLength"), schema.get("maxLength")
        if least is not None and len(value) < least:
            result.add("string_gte", path, f"String length must be greater than or equal to {int(least)}")
        if most is not None and len(value) > most:
            result.add("string_lte", path, f"String length must be less than or equal to {int(most)}")
        pattern, name = schema.get("pattern"), schema.get("format")
        if pattern is not None and not self._matches(pattern, value):
            result.add("pattern", path, f"Does not match pattern '{pattern}'")
        if name and not check_format(name, value):
            result.add("format", path, f"Does not match format '{name}'")
        result.score += 1


def _best(parts: Iterable[_Result]) -> _Result:
    """The first of those with the most points."""
    return max(parts, key=lambda part: part.score)


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


def _number(schema: Mapping[str, Any], value: float, path: Path, result: _Result) -> None:
    step = schema.get("multipleOf")
    if step is not None and (_exact(value) / _exact(step)).denominator != 1:
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
    result.score += 1


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
