"""The words of violations, against what Go's ``xeipuuv/gojsonschema`` 1.2.0 answered to the same pairs.

``gojsonschema_cases.json`` has its answers as they came: type, field, description, and the property that the error is
about. Segment puts the path before a missing property's name; so do we, and before those that are too many.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline.pipeline.go_values import go_json, go_number
from trunkline.pipeline.plan_schema import examine_schema
from trunkline.pipeline.plan_violations import MAX_TEXT, MAX_VIOLATIONS, Explainer
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
