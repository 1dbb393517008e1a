"""Events and schemas that were made to hurt."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from trunkline.pipeline import schema_engine
from trunkline.pipeline.plan_rules import CompiledRule
from trunkline.pipeline.plan_schema import check_schema
from trunkline.pipeline.tracking_plan import compile_plan
from trunkline.spec.discards import INVALID_PLAN, SCHEMA_VIOLATION, Discard
from trunkline.spec.plans import BLOCK, OMIT, Enforcement, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.violations import PlanVerdict

PLANNED = {"properties": {"properties": {"type": "object", "properties": {"a": {}}}}}


def verdict_of(schema: dict[str, Any], event: dict[str, Any], enforcement: Enforcement) -> PlanVerdict:
    plan = TrackingPlan("shop", "Shop", ("web",), (Rule("track", schema, "E"),))
    body = msgspec.json.encode({"type": "track", "event": "E", **event})
    return compile_plan(plan, SchemaConfiguration(track=enforcement), "web").verdict(msgspec.json.decode(body), body)


def test_omitting_many_properties_takes_time_in_proportion() -> None:
    """Comparing each name with all others would not come back within the test's limit."""
    names = [f"k{number}" for number in range(200_000)]
    verdict = verdict_of(PLANNED, {"properties": dict.fromkeys(names, 1)}, Enforcement(unplanned_properties=OMIT))
    assert isinstance(verdict.body, bytes)
    assert msgspec.json.decode(verdict.body)["context"]["protocols"]["omitted"] == names


def test_half_a_surrogate_pair_in_a_schema_lets_nothing_pass() -> None:
    schema = {"properties": {"properties": {"required": ["\ud800"]}}}
    [(_, reason, mend)] = check_schema(schema)
    assert "surrogate" in reason
    assert mend
    verdict = verdict_of(schema, {"properties": {}}, Enforcement(violations=BLOCK))
    assert isinstance(verdict.body, Discard)
    assert verdict.body.reason == INVALID_PLAN


DEEP = {
    "properties": {
        "properties": {
            "properties": {
                "list": {"items": {"properties": {"x": {}}}},
                "deep": {"$ref": "#/definitions/node"},
                "good": {"properties": {"x": {}}},
            }
        }
    },
    "definitions": {"node": {"properties": {"n": {"$ref": "#/definitions/node"}}}},
}


def chain(levels: int, value: dict[str, Any]) -> dict[str, Any]:
    for _ in range(levels):
        value = {"n": value}
    return value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("list", [{"q": 1}] * 4000),
        ("deep", chain(150, {f"q{number}": 1 for number in range(3000)})),
        ("deep", chain(1, {"n" * 3000 + str(number): 1 for number in range(30)})),
    ],
)
def test_a_property_with_too_much_in_it_that_is_not_planned_goes_as_a_whole(name: str, value: Any) -> None:
    """An event of 32 KB would become one of a megabyte by the list of what was omitted."""
    event = {"properties": {"new": 1, name: value, "good": {"x": 1, "y": 2}}}
    verdict = verdict_of(DEEP, event, Enforcement(unplanned_properties=OMIT))
    assert isinstance(verdict.body, bytes)
    changed = msgspec.json.decode(verdict.body)
    assert changed["properties"] == {"good": {"x": 1}}
    assert sorted(changed["context"]["protocols"]["omitted"]) == sorted(["new", name, "good.y"])
    assert not CompiledRule(Rule("track", DEEP, "E"), checks_names=True).is_fine(event)


def test_what_is_omitted_deep_in_an_event_is_named_as_long_as_there_is_room() -> None:
    items = [{f"q{number}": 1, "x": number} for number in range(1000)]
    verdict = verdict_of(DEEP, {"properties": {"list": items}}, Enforcement(unplanned_properties=OMIT))
    assert isinstance(verdict.body, bytes)
    changed = msgspec.json.decode(verdict.body)
    assert changed["properties"]["list"] == [{"x": number} for number in range(1000)]
    assert changed["context"]["protocols"]["omitted"] == [f"list.$.q{number}" for number in range(1000)]


@pytest.mark.parametrize("event", [{"": 1}, {"a": 1, "": 1}])
def test_an_empty_name_is_a_name(event: dict[str, Any]) -> None:
    verdict = verdict_of(PLANNED, {"properties": event}, Enforcement(unplanned_properties=OMIT))
    assert isinstance(verdict.body, bytes)
    assert "" not in msgspec.json.decode(verdict.body)["properties"]


def test_an_event_that_takes_too_long_to_explain_is_blocked_none_the_less() -> None:
    schema = {"properties": {"properties": {"properties": {"a": {"items": {"enum": ["x"]}}, "z": {"type": "integer"}}}}}
    event = {"properties": {"a": ["x"] * 7000, "z": "1"}}
    verdict = verdict_of(schema, event, Enforcement(violations=BLOCK))
    assert isinstance(verdict.body, Discard)
    assert verdict.body.reason == SCHEMA_VIOLATION
    [violation] = verdict.violations
    assert violation.type == "Internal"
    allowed = verdict_of(schema, event, Enforcement(violations=OMIT))
    assert isinstance(allowed.body, bytes)
    assert allowed.violations == (violation,)


def test_an_event_brings_no_expression_that_is_compiled() -> None:
    """Each of these would be megabytes and milliseconds; there are more than two thousand of them."""
    schema = {"properties": {"properties": {"properties": {"a": {"items": {"format": "regex"}}}}}}
    event = {"properties": {"a": [f"(.{{1,1000}}){number}" for number in range(2200)]}}
    with patch.object(schema_engine, "_compile", side_effect=AssertionError):
        verdict = verdict_of(schema, event, Enforcement(violations=BLOCK))
    assert isinstance(verdict.body, bytes)
