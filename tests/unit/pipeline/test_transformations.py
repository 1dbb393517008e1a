"""Transformations: what each does, and in which order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.pipeline.transformation_kit import (
    CITY,
    EVENT,
    IDENTIFY,
    changed,
    properties,
    renames,
    rule,
    sets,
    stage,
    verdict,
)
from trunkline.pipeline.transformations import DROPPED
from trunkline.spec.discards import INVALID_TRANSFORMATION, TRANSFORMATION_DROP, Discard
from trunkline.spec.transformations import PropertyHash, PropertyValue, Transformation

# What each does


@pytest.mark.parametrize(
    ("pairs", "result"),
    [
        ([("total", "revenue")], properties(total=..., revenue=12.5)),
        ([("missing", "revenue")], properties()),
        ([("total.deeper", "revenue")], properties()),
        ([("nothing", "void")], properties(nothing=..., void=None)),
        ([("a\\.b", "c\\.d")], properties(**{"a.b": ..., "c.d": 1})),
        ([("a.b", "c")], properties()),
        ([("address.zip", "shipping.postal.code")], properties(address=CITY, shipping={"postal": {"code": "80331"}})),
        ([("address.zip", "zip")], properties(address={"city": "München"}, zip="80331")),
        ([("address.zip", "address.code")], properties(address={"city": "München", "code": "80331"})),
        ([("total", "total.value")], properties(total={"value": 12.5})),
        ([("address.zip", "address")], properties(address="80331")),
        # What stood there is replaced.
        ([("total", "plan")], properties(total=..., plan=12.5)),
        ([("total", "address.zip")], properties(total=..., address={"zip": 12.5, "city": "München"})),
        # All at once: places can be changed.
        ([("total", "plan"), ("plan", "total")], properties(total="my plan", plan=12.5)),
        ([("total", "plan"), ("plan", "title")], properties(total=..., plan=12.5, title="my plan")),
        ([("plan", "title"), ("total", "plan.price")], properties(total=..., plan={"price": 12.5}, title="my plan")),
        # A value on the way that is no object keeps the property where it is; null gives way.
        ([("total", "plan.price")], properties()),
        ([("total", "plan.price"), ("a\\.b", "b")], properties(**{"a.b": ..., "b": 1})),
        ([("total", "nothing.price")], properties(total=..., nothing={"price": 12.5})),
        ([("total", "products.price")], properties()),
        # One that stays blocks the next.
        ([("plan", "total.x"), ("total", "a\\.b.c")], properties()),
        # Lists are not looked into.
        ([("products.sku", "sku")], properties()),
        ([("products.0.sku", "sku")], properties()),
        ([("products", "items")], properties(products=..., items=EVENT["properties"]["products"])),
    ],
)  # fmt: skip
def test_renames(pairs: list[tuple[str, str]], result: Any) -> None:
    assert verdict(renames(*pairs)) == changed(EVENT, properties=result)


def test_renames_are_for_traits_of_identify_and_group() -> None:
    item = renames(("total", "revenue"))
    assert verdict(item, event=IDENTIFY) == changed(IDENTIFY, traits={"plan": "gold", "revenue": 3})
    group = {**IDENTIFY, "type": "group"}
    assert verdict(item, event=group) == changed(group, traits={"plan": "gold", "revenue": 3})
    odd = {**IDENTIFY, "type": "page"}
    assert verdict(item, event=odd) == odd
    assert verdict(item, event={**EVENT, "properties": [1]}) == {**EVENT, "properties": [1]}


def test_track_events_get_another_name_and_others_keep_theirs() -> None:
    item = rule(new_event_name="Order Completed")
    assert verdict(item) == changed(EVENT, event="Order Completed")
    for kind in ("page", "screen", "identify", "group", "alias"):
        event = {**EVENT, "type": kind, "name": "Home"}
        assert verdict(item, event=event) == event


@pytest.mark.parametrize(
    ("path", "value", "result"),
    [
        ("properties.channel", "web", changed(EVENT, properties=properties(channel="web"))),
        ("properties.total", 1, changed(EVENT, properties=properties(total=1))),
        ("properties.total", None, changed(EVENT, properties=properties(total=None))),
        ("properties.address.zip", "", changed(EVENT, properties=properties(address={"zip": "", "city": "München"}))),
        ("properties.x.y.z", [1, {"a": None}], changed(EVENT, properties=properties(x={"y": {"z": [1, {"a": None}]}}))),
        ("properties.nothing.x", 1, changed(EVENT, properties=properties(nothing={"x": 1}))),
        ("properties.plan.x", 1, EVENT),
        ("properties.products.sku", 1, EVENT),
        ("properties.c\\.d", 1, changed(EVENT, properties=properties(**{"c.d": 1}))),
        ("context.app.kind", "pos", changed(EVENT, context={"app": {"name": "shop", "kind": "pos"}})),
        ("context", {"a": 1}, changed(EVENT, context={"a": 1})),
        ("traits.x", 1, changed(EVENT, traits={"x": 1})),
        ("userId", "u2", changed(EVENT, userId="u2")),
        ("integrations.All", False, changed(EVENT, integrations={"All": False})),
        ("properties.__proto__.polluted", True, changed(EVENT, properties=properties(__proto__={"polluted": True}))),
    ],
)  # fmt: skip
def test_values(path: str, value: Any, result: Any) -> None:
    assert verdict(sets((path, value))) == result


def test_a_value_may_have_several_places() -> None:
    item = rule(values=(PropertyValue(("properties.a", "context.a"), 1), PropertyValue(("properties.b",), 2)))
    found = verdict(item)
    assert (found["properties"]["a"], found["context"]["a"], found["properties"]["b"]) == (1, 1, 2)


@pytest.mark.parametrize(
    ("path", "fql", "result"),
    [
        ("plan_name", "titlecase(properties.plan)", properties(plan_name="My Plan")),
        ("plan", "snakecase(properties.plan)", properties(plan="my_plan")),
        ("plan", "kebabcase(uppercase(properties.plan))", properties(plan="MY-PLAN")),
        ("properties.plan", "uppercase('usa')", properties(plan="USA")),
        ("zip", "properties.address.zip", properties(zip="80331")),
        ("first", "properties.products.\\0.sku", properties(first="1")),
        ("app.name", "context.app.name", properties(app={"name": "shop"})),
        ("copy", "properties.address", properties(copy={"zip": "80331", "city": "München"})),
        ("is_order", 'event = "Order Done"', properties(is_order=True)),
        ("is_big", "properties.total > 100", properties(is_big=False)),
        ("has", 'contains(properties.plan, "plan")', properties(has=True)),
        ("text", "string(properties.total)", properties(text="12.5")),
        ("kind", "typeof(properties.total)", properties(kind="number")),
        ("list", '[properties.plan, 1, "x"]', properties(list=["my plan", 1, "x"])),
        ("number", "5", properties(number=5)),
        # Null writes nothing, and so does what the function is not for.
        ("plan", "lowercase(properties.total)", properties()),
        ("plan", "properties.missing", properties()),
        ("plan", "properties.nothing", properties()),
        ("plan.deeper", "userId", properties()),
    ],
)
def test_computed_properties(path: str, fql: str, result: Any) -> None:
    assert verdict(rule(fql_properties=((path, fql),))) == changed(EVENT, properties=result)


def test_a_computed_property_may_stand_in_context_or_in_traits() -> None:
    assert verdict(rule(fql_properties=(("context.plan", "properties.plan"),)))["context"]["plan"] == "my plan"
    found = verdict(rule(fql_properties=(("plan", "uppercase(traits.plan)"),)), event=IDENTIFY)
    assert found["traits"] == {"plan": "GOLD", "total": 3}


@pytest.mark.parametrize(
    ("paths", "result"),
    [
        (["total"], {"total": 12.5}),
        (["total", "missing"], {"total": 12.5}),
        (["missing"], {}),
        (["a\\.b"], {"a.b": 1}),
        (["a.b"], {}),
        (["address"], {"address": EVENT["properties"]["address"]}),
        (["address.zip"], {"address": {"zip": "80331"}}),
        (["address.zip", "address"], {"address": EVENT["properties"]["address"]}),
        (["address", "address.zip"], {"address": EVENT["properties"]["address"]}),
        (["total.deeper"], {}),
        (["products.sku"], {}),
        ([key.replace(".", "\\.") for key in EVENT["properties"]], EVENT["properties"]),
    ],
)
def test_allow_lists(paths: list[str], result: Any) -> None:
    assert verdict(rule(allow_properties=tuple(paths))) == changed(EVENT, properties=result)


def test_an_allow_list_leaves_no_way_round_it() -> None:
    item = rule(allow_properties=("plan",))
    assert verdict(item, event=IDENTIFY) == changed(IDENTIFY, traits={"plan": "gold"})
    assert verdict(item, event={**EVENT, "properties": ["secret"]}) == {**EVENT, "properties": {}}
    assert verdict(item, event={**EVENT, "properties": "secret"}) == {**EVENT, "properties": {}}
    assert verdict(item, event={**EVENT, "properties": None}) == {**EVENT, "properties": None}
    assert verdict(item, event={"type": "track", "event": "E"}) == {"type": "track", "event": "E"}


def test_drop_discards_the_event() -> None:
    found = stage(rule(drop=True)).verdict(EVENT, b"{}")
    assert found is DROPPED
    assert Discard(TRANSFORMATION_DROP) == DROPPED
    assert verdict(rule(condition='event = "Other"', drop=True)) == EVENT


def test_drop_does_nothing_else() -> None:
    assert stage(rule(drop=True, values=(PropertyValue(("messageId",), 1),))).verdict(EVENT, b"{}") is DROPPED


# Order


def test_each_sees_the_event_as_the_one_before_it_left_it() -> None:
    first = rule(condition='event = "Order Done"', new_event_name="Second")
    second = rule(condition='event = "Second"', new_event_name="Third")
    assert verdict(first, second)["event"] == "Third"
    assert verdict(second, first)["event"] == "Second"
    back = rule(condition='event = "Third"', new_event_name="Order Done")
    assert verdict(first, second, back)["event"] == "Order Done", "and none is applied again"


def test_a_property_that_one_makes_is_there_for_the_next_and_one_that_it_takes_is_not() -> None:
    item = rule(condition="properties.revenue = 12.5", drop=True)
    assert verdict(renames(("total", "revenue")), item) is None
    assert verdict(renames(("total", "revenue")), rule(condition="properties.total = 12.5", drop=True)) is not None


def test_within_one_names_come_before_values_before_the_allow_list_before_hashes() -> None:
    item = rule(
        new_event_name="N",
        renames=(("total", "revenue"),),
        values=(PropertyValue(("properties.channel", "properties.gone"), "web"),),
        allow_properties=("revenue", "channel"),
        hash=PropertyHash(("properties.channel", "properties.plan"), "md5"),
    )
    hashed = "2567a5ec9705eb7ac2c984033e06189d"
    assert verdict(item) == changed(EVENT, event="N", properties={"revenue": 12.5, "channel": hashed})


def test_many_are_applied_as_if_each_were_asked() -> None:
    items = [
        rule(slug=f"t{number}", condition=f'event = "E{number}"', new_event_name=f"E{number + 1}")
        for number in range(300)
    ]
    assert verdict(*items, event={"type": "track", "event": "E0"})["event"] == "E300"
    assert verdict(*items, event={"type": "track", "event": "E299"})["event"] == "E300"
    assert verdict(*reversed(items), event={"type": "track", "event": "E0"})["event"] == "E1"
    assert verdict(*items, event={"type": "track", "event": "Else"})["event"] == "Else"


def test_what_is_off_does_nothing_and_need_not_be_readable() -> None:
    assert verdict(rule(enabled=False, drop=True), rule(enabled=False, condition="(")) == EVENT


# Bytes


def test_without_transformations_the_body_is_not_looked_at() -> None:
    body = b"not even JSON"
    assert stage().verdict({}, body) is body
    assert not stage().may_touch("track", "E")


@pytest.mark.parametrize(
    "item",
    [
        rule(condition='event = "Other"', values=(PropertyValue(("properties.x",), 1),)),
        rule(new_event_name="Order Done"),
        renames(("missing", "x")),
        renames(("total", "plan.x")),
        sets(("properties.plan", "my plan"), ("properties.nothing", None)),
        sets(("properties.plan.x", 1)),
        rule(fql_properties=(("plan", "lowercase(properties.plan)"),)),
        rule(fql_properties=(("plan", "properties.nothing"),)),
        rule(allow_properties=("total", "plan", "address", "a\\.b", "products", "nothing")),
        rule(hash=PropertyHash(("properties.missing", "properties.nothing", "properties.plan.x"))),
    ],
)
def test_what_changes_nothing_hands_the_same_bytes_on(item: Transformation) -> None:
    body = msgspec.json.encode(EVENT)
    assert stage(item).verdict(EVENT, body) is body


def test_what_is_not_touched_keeps_its_spelling() -> None:
    body = (
        b'{"type":"track","event":"E","messageId":"m","properties":{"a":1.0,"b":1e5,"c":12345678901234567890,'
        b'"d":{"e":-0.0,"f":[1E+2,0.10,"\\u00e9"]},"h":1.50,"x":"secret"},"context":{"n":1.000}}'
    )
    items = (
        rule(renames=(("c", "big"), ("h", "inner.h"))),
        rule(values=(PropertyValue(("properties.new",), 1.0),)),
        rule(fql_properties=(("copy", "properties.d.f"),)),
        rule(fql_properties=(("item", "properties.d.f.\\1"),)),
        rule(hash=PropertyHash(("properties.x",), "md5")),
    )
    found = stage(*items).verdict(msgspec.json.decode(body), body)
    assert found == (
        b'{"type":"track","event":"E","messageId":"m","properties":{"a":1.0,"b":1e5,"d":{"e":-0.0,"f":[1E+2,0.10,'
        b'"\\u00e9"]},"x":"5ebe2294ecd0e0f08eab7690d2a6ee69","big":12345678901234567890,"inner":{"h":1.50},"new":1.0,'
        b'"copy":[1E+2,0.10,"\\u00e9"],"item":0.10},"context":{"n":1.000}}'
    )


# What can't be compiled


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"condition": "("}, "column 2"),
        ({"condition": ""}, "empty"),
        ({"renames": (("a.b.c.d.e", "x"),)}, "5 keys"),
        ({"renames": (("a..b", "x"),)}, "empty"),
        ({"renames": (("", "x"),)}, "empty"),
        ({"renames": (("products.$.x", "x"),)}, "lists"),
        ({"renames": (("properties.x", "y"),)}, "counts from properties"),
        ({"renames": (("x", "context.y"),)}, "only properties and traits"),
        ({"renames": (("a", "x"), ("a.b", "y"))}, "same property"),
        ({"renames": (("a", "x"), ("b", "x.y"))}, "same place"),
        ({"renames": (("a", "a"),)}, "itself"),
        ({"values": (PropertyValue(("messageId",), "m"),)}, "messageId can't be changed"),
        ({"values": (PropertyValue(("type",), "page"),)}, "type can't be changed"),
        ({"values": (PropertyValue(("receivedAt",), "x"),)}, "receivedAt can't be changed"),
        ({"values": (PropertyValue(("event",), "x"),)}, "event can't be changed"),
        ({"values": (PropertyValue(("_metadata.bundled",), []),)}, "_metadata can't be changed"),
        ({"values": (PropertyValue(("tenant",), "x"),)}, "no field tenant"),
        ({"values": (PropertyValue(("userId.x",), "x"),)}, "holds no keys"),
        ({"values": (PropertyValue(("properties.x",), object()),)}, "unsupported"),
        ({"values": (PropertyValue(("properties.x",), "\ud800"),)}, "surrogates"),
        ({"fql_properties": (("x", "lowercas(a)"),)}, "no function"),
        ({"fql_properties": (("x", "null"),)}, "null"),
        ({"fql_properties": (("x", "all"),)}, "`all` is a condition"),
        ({"fql_properties": (("x", "1"),), "new_event_name": "N"}, "beside"),
        ({"allow_properties": ("",)}, "empty"),
        ({"hash": PropertyHash(("properties",))}, "itself can't be hashed"),
        ({"hash": PropertyHash(("properties.x",), "crc32")}, "no algorithm 'crc32'"),
        ({"hash": PropertyHash(("properties.x",), "sha256", "rot13")}, "no encoding 'rot13'"),
        ({"hash": PropertyHash(("properties.x",), key="")}, "key is empty"),
    ],
)
def test_what_can_not_be_compiled_lets_nothing_pass(keys: dict[str, Any], part: str) -> None:
    item = rule(slug="broken", **{"condition": 'event = "Other"', **keys})
    broken = stage(rule(), item, rule(drop=True))
    found = broken.verdict(EVENT, b"{}")
    assert isinstance(found, Discard)
    assert found.reason == INVALID_TRANSFORMATION
    assert found.detail.startswith("broken: ")
    assert part in found.detail
    assert stage(item).may_touch("page", "anything")


def test_a_secret_key_is_in_no_message() -> None:
    item = rule(hash=PropertyHash(("properties.x",), "crc32", key="very secret"))
    assert "very secret" not in repr(item)
    found = stage(item).verdict(EVENT, b"{}")
    assert isinstance(found, Discard)
    assert "very secret" not in found.detail


# Which events it concerns


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        ('event = "A"', [("track", "A"), ("page", "A"), ("page", "B")], [("track", "B"), ("track", "")]),
        ('type = "track" and event = "A"', [("track", "A")], [("track", "B"), ("page", "A"), ("identify", "")]),
        ('type = "identify"', [("identify", "")], [("track", "A"), ("group", "")]),
        ('event in ["A", "B"]', [("track", "A"), ("track", "B")], [("track", "C")]),
        ("properties.x = 1", [("track", "A"), ("page", "")], []),
        ("all", [("alias", "")], []),
        ("false", [], [("track", "A"), ("page", "")]),
    ],
)
def test_may_touch(condition: str, yes: list[tuple[str, str]], no: list[tuple[str, str]]) -> None:
    found = stage(rule(condition=condition, drop=True))
    assert [pair for pair in yes if not found.may_touch(*pair)] == []
    assert [pair for pair in no if found.may_touch(*pair)] == []
