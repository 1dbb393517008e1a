"""The words of violations, against what Go's ``xeipuuv/gojsonschema`` 1.2.0 answered to the same pairs.

``gojsonschema_cases.json`` has its answers as they came: type, field, description, and the property that the error is
about. Segment puts the path before a missing property's name; so do we, and before those that are too many.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline.pipeline.findings import MAX_TEXT, MAX_VIOLATIONS
from trunkline.pipeline.go_values import go_json, go_number
from trunkline.pipeline.plan_schema import examine_schema
from trunkline.pipeline.plan_violations import MAX_STEPS, Explainer
from trunkline.pipeline.schema_document import SchemaDocument

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "gojsonschema_cases.json").read_bytes())
OF_A_PROPERTY = ("required", "additional_property_not_allowed", "invalid_property_name")


def segment_words(kind: str, field: str, description: str, name: str) -> tuple[str, str, str]:
    if kind in OF_A_PROPERTY:
        field = name if field == "(root)" else f"{field}.{name}"
    if kind == "required":
        description = f"{field} is required"
    return kind.replace("_", " ").title(), field, description


def explain(schema: dict[str, Any], event: dict[str, Any]) -> list[tuple[str, str, str]]:
    findings = Explainer(SchemaDocument(schema)).explain(event)
    return [(found.violation.type, found.violation.field, found.violation.description) for found in findings]


@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_same_words_as_segments_validator(case: dict[str, Any]) -> None:
    wanted = sorted(segment_words(*error) for error in case["errors"])
    assert sorted(explain(case["schema"], case["instance"])) == wanted


@pytest.mark.parametrize("case", CASES, ids=[str(number) for number in range(len(CASES))])
def test_the_fast_engine_agrees(case: dict[str, Any]) -> None:
    problems, is_valid = examine_schema(case["schema"])
    assert is_valid is not None, problems
    assert is_valid(case["instance"]) == (not case["errors"])


def test_types_are_title_cased_and_in_the_order_of_the_schema() -> None:
    schema = {
        "required": ["userId", "x"],
        "properties": {"properties": {"properties": {"b": {"type": "integer"}, "a": {"minimum": 10}}}},
    }
    assert explain(schema, {"properties": {"a": 1, "b": "x"}}) == [
        ("Required", "userId", "userId is required"),
        ("Required", "x", "x is required"),
        ("Invalid Type", "properties.b", "Invalid type. Expected: integer, given: string"),
        ("Number Gte", "properties.a", "Must be greater than or equal to 10"),
    ]


def test_formats_say_nothing_about_what_is_no_text() -> None:
    assert explain({"properties": {"a": {"format": "date-time"}}}, {"a": 5}) == []


def test_there_is_an_end_to_violations_and_their_texts() -> None:
    found = explain({"required": [f"a{number}" for number in range(100)]}, {})
    assert len(found) == MAX_VIOLATIONS
    [(_, _, description)] = explain({"enum": ["x" * 5000]}, {})
    assert len(description) == MAX_TEXT


def test_an_explanation_that_takes_too_long_ends() -> None:
    schema = {"items": {"anyOf": [{"const": number} for number in range(500)]}}
    [(kind, _, description)] = explain({"properties": {"a": {"anyOf": [schema]}}}, {"a": list(range(-200, 0))})
    assert (kind, description) == ("Internal", "Internal Error the event takes too long to check")


def test_long_lists_in_a_schema_times_long_lists_in_an_event() -> None:
    """Billions of steps, were they not counted."""
    names = [f"n{number}" for number in range(20_000)]
    schemas: list[dict[str, Any]] = [
        {"required": names},
        {"enum": names},
        {"const": names},
        {"properties": {name: {} for name in names}},
        {"dependencies": {"a": names}},
        {"patternProperties": {name: {} for name in names}},
    ]
    for schema in schemas:
        event = {"a": [{"a": 1}] * 10_000, "b": 1}
        assert explain({"properties": {"a": {"items": schema}, "b": {"type": "string"}}}, event)


def test_an_event_that_is_nested_too_deep_is_said_to_be() -> None:
    schema = {"properties": {"a": {"$ref": "#"}, "b": {"type": "string"}}}
    event: dict[str, Any] = {"b": 1}
    for _ in range(240):
        event = {"a": event}
    [(kind, field, description)] = explain(schema, event)
    assert (kind, field) == ("Internal", "(root)")
    assert "nested deeper than 150 levels" in description


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (-0.0, "0"),
        (10, "10"),
        (100000, "100000"),
        (1000000, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
    ],
)
def test_numbers_as_go_prints_them(number: float, written: str) -> None:
    assert go_number(number) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, "1"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (1e-7, "1e-7"),
        (0.000001, "0.000001"),
        (2**60 + 1, "1152921504606847000"),
        ({"b": "<&>", "a": [None, True]}, '{"a":[null,true],"b":"\\u003c\\u0026\\u003e"}'),
    ],
)
def test_json_as_go_writes_it(value: Any, written: str) -> None:
    assert go_json(value) == written


def bounded(schema: dict[str, Any], event: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The findings about an event that is not valid, none of which took more steps than there are."""
    explainer = Explainer(SchemaDocument(schema))
    findings = explainer.explain(event)
    assert findings
    assert explainer.steps <= MAX_STEPS + 32_000 // 8  # one look at the longest text of an event is one piece
    assert explainer.explain(event) == findings  # whatever is compiled by now
    return [(found.violation.type, found.violation.field, found.violation.description) for found in findings]


BIG = [{"b": 1}] * 3500
WRONG_AT_THE_END: dict[str, Any] = {"z": {"type": "integer"}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"anyOf": [{"const": [number]} for number in range(500)]}, BIG),
        ({"anyOf": [{"const": [{"b": 1}] * 3499 + [{"b": number}]} for number in range(2, 50)]}, BIG),
        ({"enum": [[{"b": 1}] * 3499 + [{"b": number}] for number in range(2, 50)]}, BIG),
        ({"anyOf": [{"pattern": f"b{number}$"} for number in range(1000)]}, "ab" * 15_000),
        ({"patternProperties": {f"b{number}$": {} for number in range(1000)}}, {"ab" * 15_000: 1}),
        ({"anyOf": [{"format": "json-pointer"}] * 100}, "/~0" * 10_000 + "~"),
        ({"uniqueItems": True}, [[number] for number in range(4000)]),
        ({"items": {"multipleOf": 1e-300}}, [1e300] * 5000),
        ({"items": {"required": [f"r{number}" for number in range(500)]}}, [{}] * 10_000),
        ({"items": {"dependencies": {f"r{number}": ["b"] for number in range(500)}}}, BIG),
        ({"anyOf": [{"required": [f"r{number}" for number in range(500)]}] * 40}, {}),
        ({"contains": {"required": ["x", "y"]}}, BIG),
        ({"not": {"items": {"required": ["b"]}}}, BIG),
        ({"if": {"items": {"required": ["b"]}}, "then": {"items": {"required": ["c"]}}}, BIG),
    ],
)
def test_steps_are_counted_whatever_takes_them(schema: dict[str, Any], value: Any) -> None:
    bounded({"properties": {"a": schema, **WRONG_AT_THE_END}}, {"a": value, "z": "1"})


def test_what_many_values_break_is_told_of_the_first_ones_at_once() -> None:
    explainer = Explainer(SchemaDocument({"properties": {"a": {"items": {"type": "integer"}}}}))
    findings = explainer.explain({"a": ["x"] * 8000})
    assert [found.culprit for found in findings] == [("a", index) for index in range(MAX_VIOLATIONS)]
    assert explainer.steps < 200


def test_the_best_alternative_is_known_by_all_its_findings() -> None:
    """Of the first one there are more than are told."""
    many = {"required": [f"r{number}" for number in range(MAX_VIOLATIONS + 5)]}
    some = {"required": [f"s{number}" for number in range(MAX_VIOLATIONS + 2)]}
    [first, second, *_] = explain({"anyOf": [many, some]}, {})
    assert first[0] == "Number Any Of"
    assert second == ("Required", "s0", "s0 is required")


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf", "if", "not", "$ref"])
def test_schemas_in_schemas_times_objects_in_objects_never_raise(keyword: str) -> None:
    """Each level of the event leads through ninety schemas."""
    definitions: dict[str, Any] = {"d90": {"properties": {"a": {"$ref": "#/definitions/d0"}, "b": False}}}
    for number in range(90):
        inner: dict[str, Any] = {"$ref": f"#/definitions/d{number + 1}"}
        definitions[f"d{number}"] = (
            {"if": inner, "then": True, "else": False}
            if keyword == "if"
            else inner
            if keyword == "$ref"
            else {keyword: inner if keyword == "not" else [inner]}
        )
    schema = {"definitions": definitions, "properties": {"p": {"$ref": "#/definitions/d0"}}, "required": ["q"]}
    event: dict[str, Any] = {"b": 1}
    for _ in range(140):
        event = {"a": event}
    assert bounded(schema, {"p": event})


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ({"a": [1, {"b": None}]}, True),
        ({"a": [1.0, {"b": None}]}, True),
        ({"a": [True, {"b": None}]}, False),
        ({"a": [1, {"b": 0}]}, False),
        ({"a": [1, {"c": None}]}, False),
        ({"a": {"0": 1}}, False),
        ([1], False),
        ([], True),
        ({}, False),
        (1, False),
        (True, True),
        ("true", False),
    ],
)
def test_options_are_compared_as_json_has_it(value: Any, is_one: bool) -> None:
    schema = {"properties": {"v": {"enum": [{"a": [1, {"b": None}]}, [], True]}}}
    _, is_valid = examine_schema(schema)
    assert is_valid is not None
    assert is_valid({"v": value}) == is_one
    assert (explain(schema, {"v": value}) == []) == is_one
