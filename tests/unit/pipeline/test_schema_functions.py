"""A rule's generated function says yes only where the engine and the planned names do."""

from __future__ import annotations

from itertools import product
from types import FunctionType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import scalars, values
from trunkline.log.records import LoggedEvent
from trunkline.pipeline.event_head import decode_head
from trunkline.pipeline.plan_rules import EVALUATIONS_BEFORE
from trunkline.pipeline.plan_schema import examine_schema
from trunkline.pipeline.planned_names import compile_names
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_functions import MAX_LEVELS, MAX_TESTS, Check, generate_check
from trunkline.pipeline.tracking_plan import PlanStage, compile_plan
from trunkline.spec.app_version import app_version_of
from trunkline.spec.plans import BLOCK, COMMON, OMIT, TRACK, Enforcement, Rule, SchemaConfiguration, TrackingPlan

JSON = dict[str, Any]
NAMES = ("a", "b", "c", "properties", "ü")
decode = msgspec.json.Decoder(dict[str, Any]).decode


def checks(schema: JSON, *, checks_names: bool = True) -> tuple[Check | None, Check | None]:
    """For an event, for its head."""
    document = SchemaDocument(schema)
    planned = compile_names(document, "properties") if checks_names else None
    names = {"properties": planned} if planned is not None else {}
    return generate_check(document, names, of_head=False), generate_check(document, names, of_head=True)


def truth(schema: JSON, event: JSON, *, checks_names: bool = True) -> bool:
    problems, is_valid = examine_schema(schema)
    assert is_valid is not None, problems
    planned = compile_names(SchemaDocument(schema), "properties") if checks_names else None
    return is_valid(event) and (planned is None or planned.has_all(event.get("properties")))


names = st.sampled_from(NAMES)
types = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
texts = st.sampled_from(["", "a", "S-1", "S-", "ü", "2026-11-22", "x" * 7])
small = st.integers(0, 3)
bounds = st.integers(-5, 5) | st.floats(-5, 5)
leaves = st.fixed_dictionaries(
    {},
    optional={
        "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
        "enum": st.lists(st.none() | texts, min_size=1, max_size=3, unique=True),
        "const": st.none() | texts,
        "minimum": bounds,
        "exclusiveMaximum": bounds,
        "minLength": small,
        "maxLength": small,
        "minItems": small,
        "maxProperties": small,
        "pattern": st.sampled_from(["^S-", "^S-$", "[0-9]+", "ü"]),
        "format": st.sampled_from(["date", "email", "of-no-one"]),
        "description": texts,
    },
)


def objects(inner: st.SearchStrategy[JSON]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries(
        {"properties": st.dictionaries(names, inner | st.just({}), max_size=4)},
        optional={
            "type": st.sampled_from(["object", ["object", "null"], ["object", "string"]]),
            "required": st.lists(names, max_size=2, unique=True),
            "additionalProperties": st.booleans() | st.just({}),
            "allOf": st.lists(inner, min_size=1, max_size=2),
        },
    )


def lists(inner: st.SearchStrategy[JSON]) -> st.SearchStrategy[JSON]:
    return st.fixed_dictionaries({"items": inner}, optional={"type": st.just("array"), "maxItems": small})


schemas = st.recursive(leaves, lambda inner: objects(inner) | lists(inner), max_leaves=8)
json_values = st.recursive(
    scalars | texts | bounds,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
events = st.fixed_dictionaries({}, optional={"properties": json_values, "context": values, "userId": scalars})


@st.composite
def fitting(draw: st.DrawFn, schema: Any) -> Any:
    """A value that the schema may well take, lest most draws fail at its first word."""
    if not isinstance(schema, dict) or draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    if "properties" in schema:
        members = schema["properties"]
        chosen = draw(st.lists(st.sampled_from(sorted(members)), unique=True)) if members else []
        chosen = [*dict.fromkeys([*chosen, *schema.get("required", ())])]
        return {name: draw(fitting(members.get(name, {}))) for name in chosen}
    if "items" in schema:
        return draw(st.lists(fitting(schema["items"]), max_size=3))
    kind = schema.get("type")
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    return draw(
        {
            "array": st.lists(scalars, max_size=3),
            "boolean": st.booleans(),
            "integer": st.integers(-6, 6),
            "null": st.none(),
            "number": bounds,
            "object": st.dictionaries(names, scalars, max_size=3),
            "string": texts,
        }.get(kind or "", texts | bounds)
    )


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_yes_means_yes(data: st.DataObject, checks_names: bool) -> None:
    inner = data.draw(objects(schemas))
    schema = {"properties": {"properties": inner, "context": {"type": "object"}}, "required": ["userId"]}
    of_event, of_head = checks(schema, checks_names=checks_names)
    for _ in range(5):
        event = data.draw(events) | {"properties": data.draw(fitting(inner))}
        body = msgspec.json.encode(event)
        event = decode(body)
        right = truth(schema, event, checks_names=checks_names)
        if of_event is not None:
            assert of_event(event) in ((True, False) if right else (False,))
        if of_head is not None and isinstance(event.get("context", {}), dict):
            assert of_event is not None
            assert of_head(decode_head(body)) == of_event(event)


ORDER: JSON = {
    "type": "object",
    "properties": {
        "properties": {
            "type": "object",
            "properties": {
                "order_id": {"type": "string", "minLength": 1},
                "total": {"type": "number", "minimum": 0},
                "currency": {"type": "string", "enum": ["EUR", "USD"]},
                "coupon": {"type": ["string", "null"]},
                "day": {"type": "string", "format": "date"},
                "products": {
                    "type": "array",
                    "maxItems": 2,
                    "items": {
                        "type": "object",
                        "properties": {"sku": {"type": "string", "pattern": "^S-"}, "n": {"type": "integer"}},
                        "required": ["sku"],
                    },
                },
                "address": {"$ref": "#/definitions/address"},
                "anything": {},
            },
            "required": ["order_id", "anything"],
        },
        "context": {"type": "object"},
    },
    "required": ["properties", "messageId"],
    "definitions": {"address": {"properties": {"city": {"const": "B"}}}},
}
FINE: JSON = {
    "order_id": "o",
    "anything": None,
    "total": 5,
    "currency": "EUR",
    "coupon": None,
    "day": "2026-11-22",
    "products": [{"sku": "S-1", "n": 1}, {"sku": "S-2"}],
    "address": {"city": "B"},
}


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, True),
        ({"total": 0.0}, True),
        ({"coupon": "x"}, True),
        ({"products": []}, True),
        ({"anything": [{"free": 1}]}, True),
        ({"address": 5}, True),  # it is nowhere said to be an object
        ({"order_id": ""}, False),
        ({"order_id": None}, False),
        ({"total": -1}, False),
        ({"total": True}, False),
        ({"total": "5"}, False),
        ({"currency": "GBP"}, False),
        ({"currency": ["EUR"]}, False),
        ({"coupon": 5}, False),
        ({"day": "2026-02-30"}, False),
        ({"products": [{"sku": "S-1"}] * 3}, False),
        ({"products": [{"sku": "X"}]}, False),
        ({"products": [{"n": 1}]}, False),
        ({"products": [{"sku": "S-", "n": True}]}, False),
        ({"products": [{"sku": "S-", "more": 1}]}, False),
        ({"products": {}}, False),
        ({"address": {"city": "C"}}, False),
        ({"address": {"city": "B", "zip": 1}}, False),
        ({"new": 1}, False),
    ],
)
def test_a_plan_as_people_write_it_gets_an_exact_function(change: JSON, fine: bool) -> None:
    event = {"type": "track", "messageId": "m", "properties": FINE | change, "context": {"app": {}}}
    assert truth(ORDER, event) == fine
    of_event, of_head = checks(ORDER)
    assert of_event is not None
    assert of_head is not None
    assert of_event(event) == fine
    assert of_head(decode_head(msgspec.json.encode(event))) == fine


def test_an_object_with_all_that_is_planned_is_not_asked_for_each_name() -> None:
    inner: JSON = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}
    for closed, checks_names in product((False, True), repeat=2):
        schema = {"properties": {"properties": {**inner, "additionalProperties": not closed}}}
        of_event, _ = checks(schema, checks_names=checks_names)
        assert isinstance(of_event, FunctionType)
        assert ("len" in of_event.__code__.co_freevars) == (closed or checks_names)


def test_rules_that_say_the_same_share_their_code() -> None:
    one, two = (checks({"properties": {"properties": {"properties": {"a": {"enum": [text]}}}}})[0] for text in "ab")
    assert isinstance(one, FunctionType)
    assert isinstance(two, FunctionType)
    assert one.__code__ is two.__code__
    for value in "ab":
        assert (one({"properties": {"a": value}}), two({"properties": {"a": value}})) == (value == "a", value == "b")
    bounds = (1, 1.0, 0, 0.0, -0.0, 2)
    of_bounds = [checks({"properties": {"properties": {"properties": {"a": {"minimum": it}}}}})[0] for it in bounds]
    codes = [check.__code__ for check in of_bounds if isinstance(check, FunctionType)]
    assert len(set(map(id, codes))) == len(bounds), "equal numbers of different types are not the same constant"


def test_what_no_json_holds_is_left_to_the_engine() -> None:
    of_event, _ = checks({"properties": {"properties": {"properties": {"a": {"pattern": "ü"}}}}})
    assert of_event is not None
    assert not of_event({"properties": {"a": "\ud800"}})


@pytest.mark.parametrize("missing", ["order_id", "anything"])
def test_what_is_required(missing: str) -> None:
    of_event, _ = checks(ORDER)
    assert of_event is not None
    event = {"messageId": "m", "properties": {key: value for key, value in FINE.items() if key != missing}}
    assert not of_event(event)
    assert not of_event({"messageId": "m"})
    assert not of_event({"properties": FINE})
    assert not of_event({"messageId": "m", "properties": FINE, "context": []})


def deep(levels: int) -> JSON:
    schema: JSON = {"type": "string"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"properties": {"properties": {"a": {"not": {}}}}}},
        {"properties": {"properties": {"properties": {"a": {"enum": [1]}}}}},
        {"properties": {"properties": {"properties": {"a": {"uniqueItems": True}}}}},
        {"properties": {"properties": {"properties": {"a": {"items": [{"type": "string"}]}}}}},
        {"properties": {"properties": {"properties": {"a": False}}}},
        {"properties": {"properties": {"properties": {"a": {"minimum": 1 << 60}}}}},
        {"properties": {"properties": {"properties": {"a": {"format": "regex"}}}}},
        {"properties": {"properties": {"properties": {"a": {"allOf": [{"minLength": 1}] * MAX_TESTS}}}}},
        {"properties": {"properties": {"properties": {"a": {"contentEncoding": "base64"}}}}},
        {"properties": {"properties": {"properties": {"a": {}}, "patternProperties": {"b": {}}}}},
        {"properties": {"properties": {"properties": {"a": {}}, "additionalProperties": {"type": "string"}}}},
        {"minProperties": 1},
        {"additionalProperties": False},
        {"type": "string"},
        {"properties": {"properties": {"$ref": "#/definitions/self"}}},
        {"properties": {"properties": deep(MAX_LEVELS + 1)}},
        {"properties": {"properties": {"properties": {f"k{n}": {"type": "string"} for n in range(MAX_TESTS)}}}},
    ],
)
def test_what_is_rare_is_left_to_the_engine(schema: JSON) -> None:
    schema = {**schema, "definitions": {"self": {"properties": {"a": {"$ref": "#/definitions/self"}}}}}
    assert checks(schema) == (None, None)


def test_what_a_head_does_not_hold_is_asked_of_the_event() -> None:
    for field, inner in (("context", {"properties": {"app": {}}}), ("timestamp", {"type": "string"})):
        of_event, of_head = checks({"properties": {field: inner}})
        assert of_event is not None
        assert of_head is None


def warm(stage: PlanStage, event: JSON) -> LoggedEvent:
    body = msgspec.json.encode(event)
    for _ in range(EVALUATIONS_BEFORE + 1):
        assert stage.verdict(event, body).body is body
    return LoggedEvent("m", str(event["type"]), str(event.get("event", "")), body)


def plan(*rules: Rule, enforcement: Enforcement | None = None) -> PlanStage:
    blocking = enforcement or Enforcement(unplanned_properties=OMIT, violations=BLOCK, common_violations=BLOCK)
    return compile_plan(
        TrackingPlan("shop", "Shop", ("web",), rules),
        SchemaConfiguration(track=blocking, unplanned_events=BLOCK),
        "web",
    )


def test_a_rule_that_is_asked_often_clears_events_by_their_heads() -> None:
    stage = plan(Rule(TRACK, ORDER, "E"), Rule(COMMON, {"required": ["userId"]}))
    event = {"type": "track", "event": "E", "messageId": "m", "userId": "u", "properties": FINE}
    assert stage.clears(LoggedEvent("m", "track", "E", msgspec.json.encode(event))) is None
    logged = warm(stage, event)
    assert stage.clears(logged) == ""
    changes: tuple[JSON, ...] = (
        {"userId": None, "properties": {}},
        {"properties": {**FINE, "new": 1}},
        {"event": "F"},
        {"type": "identify"},
        {"type": 5},
        {"context": None},
    )
    for change in changes:
        body = msgspec.json.encode({**event, **change})
        assert stage.clears(LoggedEvent("m", "track", "E", body)) is None, change
        assert stage.clears(LoggedEvent("m", "track", "F", body)) is None, change
    without = msgspec.json.encode({key: value for key, value in event.items() if key != "userId"})
    assert stage.clears(LoggedEvent("m", "track", "E", without)) is None
    assert stage.clears(LoggedEvent("m", "track", "E", b"[]")) is None


@pytest.mark.parametrize("version", ["1.2.3", "v" * 100, 5, None])
def test_the_app_version_comes_with_it(version: object) -> None:
    stage = plan(Rule(TRACK, ORDER, "E"))
    event = {
        "type": "track",
        "event": "E",
        "messageId": "m",
        "properties": FINE,
        "context": {"app": {"version": version}},
    }
    logged = warm(stage, event)
    assert stage.clears(logged) == app_version_of(logged.body)
    assert stage.clears(warm(stage, {**event, "context": {"app": version}})) == ""


def test_names_that_have_no_rule_are_not_remembered() -> None:
    stage = plan(Rule(COMMON, {"required": ["userId"]}), enforcement=Enforcement(common_violations=BLOCK))
    event = {"type": "page", "name": "P", "userId": "u"}
    body = msgspec.json.encode(event)
    for _ in range(EVALUATIONS_BEFORE + 1):
        stage.verdict(event, body)
    for number in range(10):
        named = msgspec.json.encode({**event, "name": f"P{number}"})
        assert stage.clears(LoggedEvent("m", "page", f"P{number}", named)) == ""
    assert not stage._ready


def test_versions_are_chosen_by_the_whole_event() -> None:
    stage = plan(Rule(TRACK, ORDER, "E"), Rule(TRACK, {}, "E", version=2))
    event = {"type": "track", "event": "E", "messageId": "m", "properties": FINE}
    assert stage.clears(warm(stage, event)) is None


def test_names_are_no_matter_where_they_are_not_asked_for() -> None:
    stage = plan(Rule(TRACK, ORDER, "E"), enforcement=Enforcement(violations=BLOCK))
    event = {"type": "track", "event": "E", "messageId": "m", "properties": {**FINE, "new": 1}}
    assert stage.clears(warm(stage, event)) == ""


@settings(max_examples=40)
@given(st.data())
def test_a_warm_plan_says_what_a_cold_one_says(data: st.DataObject) -> None:
    rules = (
        Rule(TRACK, ORDER, "E"),
        Rule(COMMON, {"required": ["userId"], "properties": {"userId": {"maxLength": 3}}}),
    )
    warmed, cold = plan(*rules), plan(*rules)
    warm(warmed, {"type": "track", "event": "E", "messageId": "m", "userId": "u", "properties": FINE})
    inner = ORDER["properties"]["properties"]
    changes = st.dictionaries(st.sampled_from([*FINE, "new"]), json_values, max_size=2)
    for _ in range(5):
        properties = data.draw(st.just(FINE) | fitting(inner) | json_values)
        if isinstance(properties, dict):
            properties = {**properties, **data.draw(changes)}
        event = {"type": "track", "event": "E", "messageId": "m", "properties": properties}
        event |= {"userId": data.draw(st.just("u") | texts | st.none())}
        body = msgspec.json.encode(event)
        event = decode(body)
        expected = cold.verdict(event, body)
        assert warmed.verdict(event, body) == expected
        if warmed.clears(LoggedEvent("m", "track", "E", body)) is not None:
            assert expected.body is body
