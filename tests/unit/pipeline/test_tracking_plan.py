from __future__ import annotations

import copy
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import events, is_part, values
from tests.unit.pipeline.plan_kit import FINE, INVALID_COUPON, JSON, ORDER, RULES, ask, identify, order, outcome, stage
from trunkline.pipeline.tracking_plan import check_schema, compile_plan
from trunkline.spec.discards import (
    COMMON_SCHEMA_VIOLATION,
    INVALID_PLAN,
    SCHEMA_VIOLATION,
    UNPLANNED,
    UNPLANNED_AND_SCHEMA_VIOLATION,
    Discard,
)
from trunkline.spec.plans import ALLOW, BLOCK, OMIT, Enforcement, Rule, SchemaConfiguration, TrackingPlan


def test_an_event_of_the_plan_passes_as_it_is() -> None:
    for actions in product((ALLOW, BLOCK), (ALLOW, OMIT), (ALLOW, BLOCK, OMIT), (ALLOW, BLOCK, OMIT)):
        unplanned, properties, violations, common = actions
        plan = stage(unplanned_events=unplanned, properties=properties, violations=violations, common=common)
        assert outcome(plan, order(coupon="AB", products=[{"sku": "1"}], address={}, anything={"x": [{}]})) is None
        assert outcome(plan, identify(email="a@b", age=5.0)) is None


@pytest.mark.parametrize("type", ["track", "identify", "group"])
@pytest.mark.parametrize("violations", [ALLOW, BLOCK, OMIT])
@pytest.mark.parametrize("properties", [ALLOW, OMIT])
def test_matrix_of_the_rule_of_the_event(type: str, properties: str, violations: str) -> None:
    plan = stage(properties=properties, violations=violations)
    if type == "track":
        event, key, wrong = order(new=1, coupon="ab"), "properties", "coupon"
    else:
        event, key, wrong = {**identify(new=1, age="x", email="a"), "type": type}, "traits", "age"
    found = outcome(plan, event)
    if violations == BLOCK:
        assert found == SCHEMA_VIOLATION
        return
    written, left = found
    assert [violation["field"] for violation in written["violations"]] == [f"{key}.{wrong}"]
    assert written.get("omitted") == (["new"] if properties == OMIT else None)
    assert written.get("omitted_on_violation") == ([wrong] if violations == OMIT else None)
    gone = {"new"} if properties == OMIT else set()
    gone |= {wrong} if violations == OMIT else set()
    assert left == {name: value for name, value in event[key].items() if name not in gone}


@pytest.mark.parametrize("type", ["track", "identify", "group"])
@pytest.mark.parametrize("common", [ALLOW, BLOCK, OMIT])
def test_matrix_of_the_common_rule(type: str, common: str) -> None:
    plan = stage(common=common)
    if type == "track":
        event, key, wrong = order(coupon="ABCD"), "properties", "coupon"
    else:
        event, key, wrong = {**identify(email="long"), "type": type}, "traits", "email"
    found = outcome(plan, event)
    if common == BLOCK:
        assert found == COMMON_SCHEMA_VIOLATION
        return
    written, left = found
    assert [violation["type"] for violation in written["violations"]] == ["String Lte"]
    assert (wrong in left) is (common == ALLOW)
    assert written.get("omitted_on_violation") == ([wrong] if common == OMIT else None)
    assert key in event


def test_calls_of_each_type_have_a_configuration_of_their_own() -> None:
    configuration = SchemaConfiguration(
        track=Enforcement(violations=BLOCK), identify=Enforcement(violations=OMIT), group=Enforcement()
    )
    plan = compile_plan(TrackingPlan("shop", "Shop", ("web",), RULES), configuration, "web")
    assert outcome(plan, order(coupon="a")) == SCHEMA_VIOLATION
    assert outcome(plan, identify(age="x"))[1] == {}
    assert outcome(plan, {**identify(age="x"), "type": "group"})[1] == {"age": "x"}


@pytest.mark.parametrize("name", ["order completed", "Order Completed ", "", None, 5, ["Order Completed"]])
def test_names_are_compared_to_the_letter(name: Any) -> None:
    event = {**FINE, "event": name}
    assert outcome(stage(unplanned_events=BLOCK), event) == UNPLANNED
    assert outcome(stage(unplanned_events=ALLOW, violations=BLOCK), event) is None


def test_an_unplanned_event_that_breaks_the_common_rule_too() -> None:
    verdict = ask(stage(unplanned_events=BLOCK), {"type": "track", "event": "New", "context": {"ip": "1"}})
    assert isinstance(verdict.body, Discard)
    assert verdict.body.reason == UNPLANNED_AND_SCHEMA_VIOLATION
    assert [violation.field for violation in verdict.violations] == ["userId"]
    assert msgspec.json.decode(verdict.protocols)["violations"][0]["description"] == "userId is required"


def test_unplanned_events_that_are_allowed_meet_the_common_rule() -> None:
    event = {"type": "track", "event": "New", "context": {"ip": "1"}}
    assert outcome(stage(common=BLOCK), event) == COMMON_SCHEMA_VIOLATION


def test_identify_group_and_alias_are_never_unplanned() -> None:
    plan = stage(RULES[0], unplanned_events=BLOCK, properties=OMIT, violations=BLOCK)
    for type in ("identify", "group", "alias"):
        assert outcome(plan, {**identify(new=1), "type": type}) is None


def test_alias_meets_the_common_rule_alone_as_track_calls_do() -> None:
    event = {"type": "alias", "context": {"ip": "1"}}
    assert outcome(stage(common=BLOCK, unplanned_events=BLOCK), event) == COMMON_SCHEMA_VIOLATION


def test_a_plan_of_common_rules_uses_their_controls_alone() -> None:
    plan = stage(RULES[3], unplanned_events=BLOCK, properties=OMIT, violations=BLOCK, common=OMIT)
    assert outcome(plan, {**FINE, "event": "Anything", "properties": {"x": 1}}) is None
    assert outcome(plan, order(coupon="ABCD", x=1))[1] == {"revenue": 1.5, "x": 1}


SAYS_A: JSON = {"properties": {"properties": {"required": ["a"]}}}
SAYS_B: JSON = {"properties": {"properties": {"required": ["b"]}}}


@pytest.mark.parametrize(("type", "event"), [("page", "Page Viewed"), ("screen", "Screen Viewed")])
def test_rules_of_pages_and_screens(type: str, event: str) -> None:
    call = {**FINE, "type": type, "name": "Home", "properties": {}}

    def missing(*rules: Rule) -> Any:
        found = outcome(stage(*rules, unplanned_events=BLOCK), call)
        return found[0]["violations"][0]["field"] if isinstance(found, tuple) else found

    by_track, by_type, by_name = Rule("track", SAYS_A, event), Rule(type, SAYS_B), Rule(type, SAYS_A, "Home")
    assert missing(by_track) == "properties.a"
    assert missing(by_track, by_type) == "properties.b"
    assert missing(by_track, by_type, by_name) == "properties.a"
    assert missing(Rule(type, SAYS_B, "Other"), by_track) == "properties.a"
    assert missing(Rule(type, SAYS_B, "Other")) == UNPLANNED
    assert missing(Rule("track", SAYS_A, "Order Completed")) is None


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (2, "properties.two"),
        (3, "properties.three"),
        (3.0, "properties.three"),
        (4, "properties.two"),
        (3.2, "properties.two"),
        ("3", "properties.two"),
        (True, "properties.two"),
        (None, "properties.two"),
        ([], "properties.two"),
    ],
)
def test_versions(version: Any, missing: str) -> None:
    def rule(number: int, name: str) -> Rule:
        return Rule("track", {"properties": {"properties": {"required": [name]}}}, "A", number)

    plan = stage(rule(3, "three"), rule(2, "two"))
    event = {**FINE, "event": "A", "properties": {}, "context": {"protocols": {"event_version": version}}}
    written, _ = outcome(plan, event)
    assert written["violations"][0]["field"] == missing
    assert written["event_version"] == version
    del event["context"]
    assert outcome(plan, event)[0]["violations"][0]["field"] == "properties.two"


def test_a_version_has_the_names_of_its_own_rule() -> None:
    def rule(number: int, name: str) -> Rule:
        return Rule("track", {"properties": {"properties": {"properties": {name: {}}}}}, "A", number)

    plan = stage(rule(1, "one"), rule(2, "two"), properties=OMIT)
    event = {**FINE, "event": "A", "properties": {"one": 1, "two": 2}, "context": {"protocols": {"event_version": 2}}}
    assert outcome(plan, event)[1] == {"two": 2}


def test_unplanned_names_at_every_depth() -> None:
    event = order(
        new=1,
        address={"city": "B", "zip": 1},
        products=[{"sku": "1", "x": 1}, {"sku": "2", "x": 2, "y": 3}, 5],
        list=["a", {"b": 1}],
        anything={"free": 1},
    )
    written, left = outcome(stage(properties=OMIT), event)
    assert written["omitted"] == ["new", "address.zip", "products.$.x", "products.$.y"]
    assert left == {
        "revenue": 1.5,
        "address": {"city": "B"},
        "products": [{"sku": "1"}, {"sku": "2"}, 5],
        "list": ["a", {"b": 1}],
        "anything": {"free": 1},
    }


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({}, {"a": 1, "b": 2, "c": {"d": 3}}),
        ({"type": "object", "required": ["a"]}, {"a": 1, "b": 2, "c": {"d": 3}}),
        ({"properties": {}}, {}),
        ({"properties": {"a": {}}, "additionalProperties": {}}, {"a": 1}),
        ({"patternProperties": {"^[ab]$": {}}}, {"a": 1, "b": 2}),
        ({"allOf": [{"properties": {"a": {}}}, {"anyOf": [{"properties": {"b": {}}}]}]}, {"a": 1, "b": 2}),
        ({"if": {"properties": {"a": {}}}, "then": {"properties": {"b": {}}}}, {"a": 1, "b": 2}),
        ({"not": {"properties": {"z": {}}}}, {"a": 1, "b": 2, "c": {"d": 3}}),
        ({"$ref": "#/definitions/named"}, {"a": 1, "c": {}}),
        ({"properties": {"c": {"$ref": "#/definitions/self"}}}, {"c": {}}),
        ({"properties": {"c": {"properties": {"d": True}}}}, {"c": {"d": 3}}),
    ],
)
def test_what_a_schema_plans(schema: JSON, left: JSON) -> None:
    whole = {
        "properties": {"properties": schema},
        "definitions": {
            "named": {"properties": {"a": {}, "c": {"properties": {}}}},
            "self": {"properties": {"e": {"$ref": "#/definitions/self"}}},
        },
    }
    event = {**FINE, "event": "A", "properties": {"a": 1, "b": 2, "c": {"d": 3}}}
    plan = stage(Rule("track", whole, "A"), properties=OMIT)
    found = outcome(plan, event)
    assert (event["properties"] if found is None else found[1]) == left


def test_omission_on_violation_takes_the_innermost_property() -> None:
    event = order(
        address={"city": 5, "x": 1},
        products=[{"sku": 5, "price": 3}, {"price": -1}, {"sku": "ok"}],
        list=["a", 5],
        coupon=None,
    )
    written, left = outcome(stage(violations=OMIT), event)
    assert written["omitted_on_violation"] == ["coupon", "address.city", "products.$.sku", "products.$.price", "list"]
    assert left == {"revenue": 1.5, "address": {"x": 1}, "products": [{"price": 3}, {}, {"sku": "ok"}]}
    assert [violation["field"] for violation in written["violations"]] == [
        "properties.coupon",
        "properties.address.city",
        "properties.products.0.sku",
        "properties.products.1.sku",
        "properties.products.1.price",
        "properties.list.1",
    ]


def test_what_is_missing_and_what_is_no_property_can_not_be_omitted() -> None:
    event = {**FINE, "context": {"ip": 5}, "properties": {}}
    written, left = outcome(stage(violations=OMIT, common=OMIT), event)
    assert left == {}
    assert "omitted_on_violation" not in written
    assert [violation["field"] for violation in written["violations"]] == ["properties.revenue", "context.ip"]
    strict = {"properties": {"properties": {"properties": {"a": {}}, "additionalProperties": False}}}
    written, left = outcome(
        stage(Rule("track", strict, "A"), violations=OMIT), {**FINE, "event": "A", "properties": {"x": 1}}
    )
    assert (written["omitted_on_violation"], left) == (["x"], {})


def test_unplanned_names_go_before_the_rule_is_asked() -> None:
    strict = {"properties": {"properties": {"properties": {"a": {}}, "additionalProperties": False}}}
    event = {**FINE, "event": "A", "properties": {"a": 1, "x": 1}}
    rule = Rule("track", strict, "A")
    assert outcome(stage(rule, violations=BLOCK), event) == SCHEMA_VIOLATION
    written, left = outcome(stage(rule, properties=OMIT, violations=BLOCK), event)
    assert (written, left) == ({"sourceId": "web", "omitted": ["x"]}, {"a": 1})


def test_the_common_rule_sees_what_is_left() -> None:
    event = order(coupon="lower")
    assert outcome(stage(common=BLOCK), event) == COMMON_SCHEMA_VIOLATION
    written, _ = outcome(stage(violations=OMIT, common=BLOCK), event)
    assert written["violations"] == [INVALID_COUPON]
    unplanned = Rule("track", {"properties": {"properties": {"properties": {}}}}, "Order Completed")
    assert outcome(stage(unplanned, RULES[3], properties=OMIT, common=BLOCK), event)[0]["omitted"] == [
        "revenue",
        "coupon",
    ]


def test_a_blocked_event_has_what_would_have_been_written() -> None:
    verdict = ask(stage(properties=OMIT, violations=BLOCK), order(new=1, coupon="ab"))
    assert verdict.body == Discard(SCHEMA_VIOLATION, INVALID_COUPON["description"])
    assert msgspec.json.decode(verdict.protocols) == {
        "sourceId": "web",
        "omitted": ["new"],
        "violations": [INVALID_COUPON],
    }
    assert [violation.type for violation in verdict.violations] == ["Pattern"]


def test_clients_keys_of_protocols_stay_and_ours_are_ours() -> None:
    event = order(coupon="ab")
    event["context"]["protocols"] = {"event_version": 1, "x": [1.50], "omitted": ["forged"], "sourceId": "forged"}
    written, _ = outcome(stage(), event)
    assert written == {"event_version": 1, "x": [1.5], "sourceId": "web", "violations": [INVALID_COUPON]}
    event["context"]["protocols"] = "none"
    assert outcome(stage(), event)[0] == {"sourceId": "web", "violations": [INVALID_COUPON]}


@pytest.mark.parametrize("context", [None, {}])
def test_an_event_without_context_gets_one(context: Any) -> None:
    event = {**order(coupon="ab"), "context": context}
    assert outcome(stage(RULES[0]), event)[0]["violations"] == [INVALID_COUPON]
    del event["context"]
    assert outcome(stage(RULES[0]), event)[0]["violations"] == [INVALID_COUPON]


def test_a_context_that_is_none_is_left_alone() -> None:
    verdict = ask(stage(RULES[0]), {**order(coupon="ab"), "context": "x"})
    assert isinstance(verdict.body, bytes)
    assert msgspec.json.decode(verdict.body)["context"] == "x"
    assert verdict.violations


def test_what_stays_keeps_its_spelling() -> None:
    body = (
        b'{"type":"track", "event":"Order Completed","userId":"u","context":{"ip":"\\u0031","n":1.50},'
        b'"properties":{"revenue":10.00,"new":1,"products":[{"sku":"1","price":1e2,"z":0}]}}'
    )
    verdict = stage(properties=OMIT).verdict(msgspec.json.decode(body), body)
    assert isinstance(verdict.body, bytes)
    for kept in (b'"ip":"\\u0031"', b'"n":1.50', b'"revenue":10.00', b'"price":1e2'):
        assert kept in verdict.body


def test_the_same_violation_of_two_rules_is_told_once() -> None:
    rules = (Rule("track", {"required": ["userId"]}, "A"), Rule("common", {"required": ["userId", "z"]}))
    verdict = ask(stage(*rules), {"type": "track", "event": "A", "context": {}})
    assert [violation.field for violation in verdict.violations] == ["userId", "z"]


@pytest.mark.parametrize("schema", [{"type": "strng"}, {"$ref": "http://127.0.0.1:9/"}, {"pattern": "(?=a)"}])
def test_a_rule_that_can_not_be_used_lets_nothing_pass_that_it_guards(schema: JSON) -> None:
    assert check_schema(schema)
    own, common = Rule("track", schema, "A"), Rule("common", schema)
    event = {**FINE, "event": "A", "properties": {}}
    for actions in ({"violations": BLOCK}, {"violations": OMIT}, {"properties": OMIT}):
        assert outcome(stage(own, **actions), event) == INVALID_PLAN
        assert outcome(stage(own, **actions), {**event, "event": "B"}) is None
    for action in (BLOCK, OMIT):
        assert outcome(stage(common, common=action), event) == INVALID_PLAN
    assert outcome(stage(own, common), event) is None
    verdict = ask(stage(own, violations=BLOCK), event)
    assert isinstance(verdict.body, Discard)
    assert "rule track 'A': " in verdict.body.detail


def test_an_event_that_is_nested_too_deep_for_the_engine_is_no_exception() -> None:
    deep: Any = 5
    for _ in range(600):
        deep = {"a": deep}
    inner = {"type": "object", "properties": {"a": {"$ref": "#/definitions/x"}}}
    schema = {"properties": {"properties": {"$ref": "#/definitions/x"}}, "definitions": {"x": inner}}
    assert check_schema(schema) == []
    plan = stage(Rule("track", schema, "A"), violations=BLOCK)
    event = {**FINE, "event": "A", "properties": deep}
    verdict = plan.verdict(event, msgspec.json.encode(event))
    assert verdict.body == Discard(SCHEMA_VIOLATION, "Internal Error the event is nested deeper than 150 levels")


def test_a_plan_is_compiled_rule_by_rule_when_events_need_them() -> None:
    """Whatever their size, and though one of them can't be used."""
    rules = tuple(Rule("track", {"type": "strng"}, str(number)) for number in range(2000))
    plan = stage(*rules, RULES[0], violations=BLOCK)
    assert outcome(plan, order()) is None


actions = st.sampled_from([ALLOW, BLOCK, OMIT])
any_properties = st.dictionaries(st.sampled_from([*ORDER["properties"]["properties"]["properties"], "new"]), values)
any_events = st.builds(
    lambda kind, name, properties, context, rest: {
        **rest,
        "type": kind,
        "event": name,
        "properties": properties,
        "traits": properties,
        "context": context,
    },
    st.sampled_from(["track", "identify", "group", "page", "screen", "alias", "x"]),
    st.sampled_from(["Order Completed", "x"]),
    any_properties | values,
    st.dictionaries(st.sampled_from(["ip", "protocols"]), values) | values,
    events,
)


@settings(max_examples=150, deadline=None)
@given(any_events, st.sampled_from([ALLOW, BLOCK]), st.sampled_from([ALLOW, OMIT]), actions, actions)
def test_nothing_is_added_but_protocols(
    event: JSON, unplanned: str, properties: str, violations: str, common: str
) -> None:
    plan = stage(unplanned_events=unplanned, properties=properties, violations=violations, common=common)
    body = msgspec.json.encode(event)
    event = msgspec.json.decode(body)
    before = copy.deepcopy(event)
    verdict = plan.verdict(event, body)
    assert event == before
    assert len(verdict.violations) <= 20
    if isinstance(verdict.body, Discard):
        assert BLOCK in (unplanned, violations, common)
        return
    after = msgspec.json.decode(verdict.body)
    if verdict.body is body:
        assert verdict.violations == () or not isinstance(event["context"], dict | None)
        return
    for whole in (after, event):
        context = whole.get("context")
        if isinstance(context, dict):
            context.pop("protocols", None)
        if not context:
            whole["context"] = None
    assert is_part(after, event)
    again = plan.verdict(msgspec.json.decode(verdict.body), verdict.body)
    if not verdict.violations:
        assert again.body is verdict.body
