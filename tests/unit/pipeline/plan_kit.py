"""A tracking plan for tests, events that keep it, and what a stage made of them."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from trunkline.pipeline.tracking_plan import PlanStage, compile_plan
from trunkline.spec.discards import Discard
from trunkline.spec.plans import ALLOW, Enforcement, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.violations import PlanVerdict

JSON = dict[str, Any]

ORDER: JSON = {
    "type": "object",
    "properties": {
        "properties": {
            "type": "object",
            "required": ["revenue"],
            "properties": {
                "revenue": {"type": "number"},
                "coupon": {"type": "string", "pattern": "^[A-Z]+$"},
                "address": {"type": "object", "properties": {"city": {"type": "string"}}},
                "products": {
                    "type": "array",
                    "items": {"required": ["sku"], "properties": {"sku": {"type": "string"}, "price": {"minimum": 0}}},
                },
                "anything": {},
                "list": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}
TRAITS: JSON = {"properties": {"traits": {"properties": {"email": {"type": "string"}, "age": {"type": "integer"}}}}}
COMMON: JSON = {
    "required": ["userId"],
    "properties": {
        "context": {"required": ["ip"], "properties": {"ip": {"type": "string"}}},
        "properties": {"properties": {"coupon": {"maxLength": 3}}},
        "traits": {"properties": {"email": {"maxLength": 3}}},
    },
}
RULES = (
    Rule("track", ORDER, "Order Completed"),
    Rule("identify", TRAITS),
    Rule("group", TRAITS),
    Rule("common", COMMON),
)
FINE: JSON = {"type": "track", "event": "Order Completed", "userId": "u", "context": {"ip": "1"}}


def stage(
    *rules: Rule, unplanned_events: str = ALLOW, properties: str = ALLOW, violations: str = ALLOW, common: str = ALLOW
) -> PlanStage:
    """The same enforcement for calls of all types."""
    enforcement = Enforcement(properties, violations, common)
    configuration = SchemaConfiguration(unplanned_events, enforcement, enforcement, enforcement)
    return compile_plan(TrackingPlan("shop", "Shop", ("web",), rules or RULES), configuration, "web")


def ask(plan: PlanStage, event: JSON) -> PlanVerdict:
    """The verdict, after a look at what holds for all of them."""
    body = msgspec.json.encode(event)
    before = copy.deepcopy(event)
    verdict = plan.verdict(event, body)
    assert event == before
    if verdict.body is body and isinstance(event.get("context", {}), dict | None):
        assert (verdict.protocols, verdict.violations) == (b"", ())
    return verdict


def outcome(plan: PlanStage, event: JSON) -> Any:
    """The reason of a discard, ``None`` for an event that passes as it is, or what was written into it and what is
    left of its properties or traits."""
    verdict = ask(plan, event)
    if isinstance(verdict.body, Discard):
        return verdict.body.reason
    after = msgspec.json.decode(verdict.body)
    if not verdict.protocols:
        assert after == event
        return None
    written = after["context"]["protocols"]
    assert {key: written[key] for key in msgspec.json.decode(verdict.protocols)} == msgspec.json.decode(
        verdict.protocols
    )
    assert written["sourceId"] == "web"
    return written, after.get("properties", after.get("traits"))


def order(**properties: Any) -> JSON:
    return {**copy.deepcopy(FINE), "properties": {"revenue": 1.5, **properties}}


def identify(**traits: Any) -> JSON:
    return {"type": "identify", "userId": "u", "context": {"ip": "1"}, "traits": traits}


INVALID_COUPON = {
    "type": "Pattern",
    "field": "properties.coupon",
    "description": "Does not match pattern '^[A-Z]+$'",
}
