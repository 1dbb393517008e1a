"""Events and schemas that were made to hurt."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline.pipeline.plan_schema import check_schema
from trunkline.pipeline.tracking_plan import compile_plan
from trunkline.spec.discards import INVALID_PLAN, Discard
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
