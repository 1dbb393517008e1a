"""A plan made of traffic: what came keeps to it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.schema.schema_world import body_of
from trunkline.pipeline.plan_schema import check_schema
from trunkline.schema.inference import MAX_NAMES, PlanInference
from trunkline.schema.shape import MAX_KEYS, is_date_time
from trunkline.spec.plans import MAX_RULES, MAX_SCHEMA_BYTES

_TEXTS = st.sampled_from(["", "a", "b", "2026-11-22T01:00:00Z", "2026-13-22T01:00:00Z", "2026-11-22", "é\x00"])
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b.c", "$", "d"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_CONTENT = st.none() | st.dictionaries(st.sampled_from(["a", "b", "items", "when"]), _JSON, max_size=4)
_KIND = st.sampled_from(
    [("track", "A"), ("track", "B"), ("identify", ""), ("group", ""), ("page", "Home"), ("screen", "")]
)


@settings(max_examples=80, deadline=None)
@given(
    events=st.lists(st.tuples(_KIND, _CONTENT), max_size=12),
    least=st.integers(1, 4),
    enum_values=st.sampled_from([0, 1, 3]),
    shapes=st.sampled_from([3, 1000]),
)
@example(events=[(("track", "A"), {"when": "2026-11-22T01:00:00Z"})] * 12, least=1, enum_values=1, shapes=1000)
def test_every_event_keeps_to_the_plan_that_was_made_of_it(
    events: list[tuple[tuple[str, str], dict[str, Any] | None]], least: int, enum_values: int, shapes: int
) -> None:
    inference = PlanInference(least=least, enum_values=enum_values, shapes=shapes)
    bodies = [(kind, name, body_of(kind, name, content)) for (kind, name), content in events]
    for body in bodies:
        inference.add(*body)
    rules = {(rule.type, rule.event): rule for rule in inference.rules()}
    validators = {}
    for key, rule in rules.items():
        assert check_schema(rule.schema) == []
        validators[key] = jsonschema_rs.Draft7Validator(dict(rule.schema), validate_formats=True)
    for kind, name, content in bodies:
        validators[kind, name if kind == "track" else ""].validate(json.loads(content))


def schema_of(*contents: dict[str, Any], least: int = 1, enum_values: int = 0) -> dict[str, Any]:
    inference = PlanInference(least=least, enum_values=enum_values)
    for content in contents:
        inference.add("track", "A", body_of("track", "A", content))
    [rule] = inference.rules()
    found = rule.schema["properties"]["properties"]
    assert isinstance(found, dict)
    return found


def test_types_requirements_and_items() -> None:
    assert schema_of(
        {"id": 1, "price": 1, "who": None, "items": [{"sku": "a"}], "at": "2026-11-22T01:02:03.5Z", "none": None},
        {"id": 2, "price": 1.5, "who": "x", "items": [{"sku": "b", "n": True}, {}], "at": "2026-11-22T01:02:03+01:00"},
    ) == {
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "id": {"type": "integer"},
            "items": {
                "type": "array",
                "items": {"type": "object", "properties": {"n": {"type": "boolean"}, "sku": {"type": "string"}}},
            },
            "none": {},
            "price": {"type": "number"},
            "who": {"type": ["string", "null"]},
        },
        "required": ["at", "id", "items", "price", "who"],
    }


def test_the_properties_themselves_are_required_where_all_events_have_them() -> None:
    inference = PlanInference(least=2)
    for name, contents in (("A", [{"a": 1}, {"a": 2}]), ("B", [{"a": 1}, None]), ("C", [{"a": 1}])):
        for content in contents:
            inference.add("track", name, body_of("track", name, content))
    required = {rule.event: rule.schema.get("required") for rule in inference.rules()}
    assert required == {"A": ["properties"], "B": None, "C": None}


def test_few_values_become_an_enumeration_only_when_asked() -> None:
    contents = [{"plan": ["pro", "free"][at % 2], "id": f"u{at}", "tag": None if at % 2 else "x"} for at in range(40)]
    assert "enum" not in schema_of(*contents)["properties"]["plan"]
    asked = schema_of(*contents, enum_values=5)["properties"]
    assert asked["plan"]["enum"] == ["free", "pro"]
    assert asked["tag"]["enum"] == ["x", None]
    assert "enum" not in asked["id"]


def test_a_map_is_not_spelled_out() -> None:
    contents = [{"by_id": {f"u{at}-{n}": n for n in range(10)} | {"total": 10}} for at in range(200)]
    [found] = schema_of(*contents)["properties"].values()
    assert found == {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}


def test_other_types_and_reports_make_no_rules() -> None:
    inference = PlanInference()
    inference.add("alias", "", b"{}")
    inference.add("track", "Violation Generated", b"{}")
    inference.add("page", "Home", body_of("page", "Home", {"a": 1}))
    inference.add("page", "Shop", body_of("page", "Shop", {"a": 1}))
    [page] = inference.rules()
    assert (page.type, page.event, inference.count(page)) == ("page", "", 2)


def test_the_more_frequent_names_become_rules() -> None:
    inference = PlanInference(least=1)
    for at in range(MAX_NAMES + 5):
        for _ in range(2 if at % 2 else 1):
            inference.add("track", f"E{at}", b"{}")
    inference.add("identify", "", b"{}")
    rules = inference.rules()
    assert len(rules) == MAX_RULES
    assert inference.left_out > 0
    assert {int(rule.event[1:]) % 2 for rule in rules if rule.type == "track"} == {1}


def test_a_large_schema_is_cut_to_what_a_rule_may_be() -> None:
    inference = PlanInference(least=1)
    content = {f"k{at}": {"name" * 20 + str(n): {"x": n} for n in range(30)} for at in range(100)}
    inference.add("track", "A", body_of("track", "A", content))
    [rule] = inference.rules()
    assert 1000 < len(json.dumps(rule.schema)) <= MAX_SCHEMA_BYTES
    assert rule.schema["properties"]["properties"]["properties"]["k0"] == {"type": "object"}


@pytest.mark.parametrize(
    ("text", "is_moment"),
    [
        ("2026-11-22T01:02:03Z", True),
        ("2026-11-22T01:02:03.123456789+14:00", True),
        ("2024-02-29T23:59:59-00:00", True),
        ("2023-02-29T00:00:00Z", False),
        ("2026-11-22T24:00:00Z", False),
        ("2026-11-22T23:59:60Z", False),
        ("2026-11-22t01:02:03z", False),
        ("2026-11-22 01:02:03Z", False),
        ("2026-11-22T01:02:03", False),
        ("2026-11-22T01:02:03+24:00", False),
        ("0000-01-01T00:00:00Z", False),
    ],
)
def test_moments(text: str, is_moment: bool) -> None:
    assert is_date_time(text) is is_moment
    if is_moment:
        jsonschema_rs.Draft7Validator({"format": "date-time"}, validate_formats=True).validate(text)


def test_many_keys_stay_within_the_limit() -> None:
    found = schema_of({f"k{at}": 1 for at in range(MAX_KEYS + 50)})
    assert len(found["properties"]) == MAX_KEYS
