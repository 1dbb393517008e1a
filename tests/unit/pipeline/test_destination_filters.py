"""Destination filters: what each action does, their order, and that none of them ever adds anything."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import KEYS, events, is_part, paths
from trunkline.fql.constants import ANY, NEVER, Constants
from trunkline.pipeline.destination_filters import DROPPED, CompiledFilters, compile_filters
from trunkline.spec.discards import FILTERED_BY_RULES, INVALID_FILTER, Discard
from trunkline.spec.filters import ACTIONS, Filter

EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u1",
    "properties": {
        "email": "a@b.c",
        "revenue": 12.5,
        "products": [{"sku": "1", "price": 3}, {"sku": "2"}, "odd", None],
    },
    "context": {"ip": "1.2.3.4", "traits": {"email": "a@b.c"}},
}


def compiled(*filters: Filter, source: str = "web", seed: int = 0) -> CompiledFilters:
    return compile_filters(filters, source, Random(seed))


def verdict(*filters: Filter, event: Mapping[str, Any] = EVENT) -> Any:
    """The event that is sent, decoded, or None if none is."""
    sent = compiled(*filters).verdict(event, msgspec.json.encode(event))
    return None if isinstance(sent, Discard) else msgspec.json.decode(sent)


def rule(condition: str, action: str, **keys: Any) -> Filter:
    return Filter(condition, action, **keys)


DROP_ORDERS = rule('event = "Order Completed"', "drop")
DROP_OTHERS = rule('event = "Heartbeat"', "drop")
HIDE_EMAIL = rule("all", "drop_properties", fields={"properties": ("email",)})


def test_without_filters_every_event_passes_as_it_is() -> None:
    filters, body = compiled(), b"not even JSON"
    assert filters.is_pure_pass
    assert filters.verdict({}, body) is body
    assert filters.constants == ANY


@pytest.mark.parametrize(
    ("filters", "is_sent"),
    [
        ([DROP_ORDERS], False),
        ([DROP_OTHERS], True),
        ([rule("all", "drop")], False),
        ([rule('event = "Order Completed"', "only_send")], True),
        ([rule('event = "Heartbeat"', "only_send")], False),
        ([rule('type = "track"', "only_send"), rule("properties.revenue > 10", "only_send")], True),
        ([rule('type = "track"', "only_send"), rule("properties.revenue > 13", "only_send")], False),
        ([rule('type = "page"', "only_send"), rule('type = "track"', "only_send")], False),
        ([rule("all", "only_send")], True),
        ([rule("all", "sample", percent=0.0)], False),
        ([rule("all", "sample", percent=1.0)], True),
        ([rule('event = "Heartbeat"', "sample", percent=0.0)], True),
        ([rule("properties.email.nothing", "drop")], True),
        ([rule("properties.email.nothing", "only_send")], False),
        ([rule("properties.revenue", "drop")], True),
        ([rule("length( userId ) < 1", "drop")], True),
    ],
)
def test_dropping(filters: list[Filter], is_sent: bool) -> None:
    body = msgspec.json.encode(EVENT)
    result = compiled(*filters).verdict(EVENT, body)
    assert (result is body) if is_sent else (result is DROPPED)
    assert DROPPED.reason == FILTERED_BY_RULES


@pytest.mark.parametrize(
    ("fields", "path", "left"),
    [
        ({"properties": ("email", "revenue", "nothing")}, ("properties",), {"products"}),
        ({"": ("userId", "context")}, (), {"type", "event", "properties"}),
        ({"context.traits": ("email",)}, ("context", "traits"), set()),
        ({"context": ("traits",)}, ("context",), {"ip"}),
        ({"properties.products": ("price",)}, ("properties", "products", 0), {"sku"}),
        ({"properties.products.0": ("sku",)}, ("properties", "products", 0), {"price"}),
        ({"properties.products.0": ("sku",)}, ("properties", "products", 1), {"sku"}),
    ],
)
def test_drop_properties(fields: Mapping[str, tuple[str, ...]], path: tuple[Any, ...], left: set[str]) -> None:
    sent = verdict(rule("all", "drop_properties", fields=fields))
    assert is_part(sent, EVENT)
    for step in path:
        sent = sent[step]
    assert set(sent) == left


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"properties": ("revenue",)}, {**EVENT, "properties": {"revenue": 12.5}}),
        ({"properties": ()}, {**EVENT, "properties": {}}),
        ({"": ("type", "event")}, {"type": "track", "event": "Order Completed"}),
        (
            {"": ("properties",), "properties": ("products",), "properties.products": ("sku",)},
            {"properties": {"products": [{"sku": "1"}, {"sku": "2"}, "odd", None]}},
        ),
    ],
)
def test_allow_properties(fields: Mapping[str, tuple[str, ...]], expected: Any) -> None:
    assert verdict(rule("all", "allow_properties", fields=fields)) == expected


@pytest.mark.parametrize("path", ["nothing", "properties.nothing.more", "userId", "userId.0", "properties.products.9"])
def test_a_parent_that_is_no_object_is_left_alone(path: str) -> None:
    body = msgspec.json.encode(EVENT)
    for action in ("drop_properties", "allow_properties"):
        assert compiled(rule("all", action, fields={path: ("a", "0", "length")})).verdict(EVENT, body) is body


def test_items_of_lists_inside_of_a_list_become_null_so_that_the_others_keep_their_places() -> None:
    event = {"rows": [["a", "b", "c"], {"1": "x", "2": "y"}]}
    dropped = verdict(rule("all", "drop_properties", fields={"rows": ("1",)}), event=event)
    assert dropped == {"rows": [["a", None, "c"], {"2": "y"}]}
    allowed = verdict(rule("all", "allow_properties", fields={"rows": ("1",)}), event=event)
    assert allowed == {"rows": [[None, "b", None], {"1": "x"}]}


def test_properties_are_dropped_where_the_condition_holds_only() -> None:
    hide = rule('event = "Heartbeat"', "drop_properties", fields={"": ("userId",)})
    assert verdict(hide) == EVENT


def test_what_stays_keeps_its_spelling() -> None:
    body = (
        b'{"type":"track", "n":1.0,"big":123456789012345678901234567890,"e":1E5,'
        b'"properties" : {"email":"x","deep":{"f": 0.10,"u":"\\u00fc"}}}'
    )
    sent = compiled(HIDE_EMAIL).verdict(msgspec.json.decode(body), body)
    assert sent == (
        b'{"type":"track","n":1.0,"big":123456789012345678901234567890,"e":1E5,'
        b'"properties":{"deep":{"f": 0.10,"u":"\\u00fc"}}}'
    )


def test_a_drop_comes_before_the_property_that_it_looks_at_is_dropped() -> None:
    by_email = rule('properties.email = "a@b.c"', "drop")
    assert verdict(HIDE_EMAIL, by_email) is None
    assert verdict(by_email, HIDE_EMAIL) is None


def test_every_condition_looks_at_the_event_as_it_came() -> None:
    second = rule('properties.email = "a@b.c"', "drop_properties", fields={"": ("userId",)})
    third = rule('userId = "u1"', "allow_properties", fields={"": ("type", "userId", "properties")})
    for filters in ([HIDE_EMAIL, second, third], [third, second, HIDE_EMAIL]):
        sent = verdict(*filters)
        assert set(sent) == {"type", "properties"}
        assert "email" not in sent["properties"]


def test_a_sample_comes_before_all_else() -> None:
    """Swapped, the event would be dropped before a number is taken from the generator."""

    class Counting(Random):
        taken = 0

        def random(self) -> float:
            self.taken += 1
            return 0.9

    random = Counting()
    filters = compile_filters([DROP_ORDERS, rule("all", "sample", percent=0.5)], "web", random)
    assert filters.verdict(EVENT, b"") is DROPPED
    assert random.taken == 1


def test_a_random_sample_keeps_its_part() -> None:
    filters = compiled(rule("all", "sample", percent=0.3), seed=7)
    kept = sum(filters.verdict(EVENT, b"{}") is not DROPPED for _ in range(10_000))
    assert 2_800 < kept < 3_200
    again = compiled(rule("all", "sample", percent=0.3), seed=7)
    assert kept == sum(again.verdict(EVENT, b"{}") is not DROPPED for _ in range(10_000))


def test_a_filter_that_is_off_or_of_another_source_says_nothing() -> None:
    off = rule("all", "drop", enabled=False)
    other = rule("all", "drop", sources=("api",))
    assert compiled(off, other).is_pure_pass
    assert not compiled(off, other, source="api").is_pure_pass
    assert compiled(off, other, source="api").verdict(EVENT, b"{}") is DROPPED


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (rule('event = "', "drop"), "filter 2"),
        (rule("", "drop"), "filter 2"),
        (rule("all", "explode", title="Boom"), "filter 2 (Boom): the action 'explode' is not known"),
        (rule("all", "sample"), "a sample without percent"),
        (rule("all", "sample", percent=0.5, path=".".join("a" * 51)), "a path of 51 keys; 50 are the most"),
        (rule("all", "drop_properties"), "no fields"),
        (rule("all", "allow_properties", fields={".".join("a" * 51): ("b",)}), "a path of 51 keys"),
    ],
)
def test_a_filter_that_can_not_be_read_lets_nothing_pass_and_says_so(bad: Filter, says: str) -> None:
    filters = compiled(DROP_OTHERS, bad)
    result = filters.verdict(EVENT, b"{}")
    assert isinstance(result, Discard)
    assert result.reason == INVALID_FILTER
    assert says in result.detail
    assert not filters.is_pure_pass
    assert filters.constants == ANY, "every event must come to the filter, so that the reason is counted"
    assert compiled(Filter(**{**vars(bad), "enabled": False})).is_pure_pass


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ANY),
        ([HIDE_EMAIL, rule("all", "sample", percent=0.0)], ANY),
        ([rule('event = "A"', "only_send")], Constants(None, frozenset("A"))),
        (
            [rule('event in ["A", "B"] and type = "track"', "only_send")],
            Constants(frozenset({"track"}), frozenset("AB")),
        ),
        ([rule('event in ["A", "B"]', "only_send"), rule('event = "B"', "only_send")], Constants(None, frozenset("B"))),
        ([rule('event = "A"', "only_send"), rule('event = "B"', "only_send")], NEVER),
        ([rule('event = "A"', "drop")], ANY),
        ([rule('event != "A"', "drop")], Constants(None, frozenset("A"))),
        ([rule('!(event = "A")', "drop")], Constants(None, frozenset("A"))),
        ([rule('type != "track" or event != "A"', "drop")], Constants(frozenset({"track"}), frozenset("A"))),
        ([rule('event != "A" and event != "B"', "drop")], Constants(None, frozenset("AB"))),
        ([rule("all", "drop")], NEVER),
        ([rule("all", "only_send")], ANY),
    ],
)
def test_constants_say_what_an_event_must_be(filters: list[Filter], expected: Constants) -> None:
    assert compiled(*filters).constants == expected


conditions = st.recursive(
    st.sampled_from(
        [
            'a = "x"',
            "a != null",
            'type = "a"',
            'type != "b"',
            'event in ["a", "b"]',
            'event != "a"',
            'event = "b"',
            'typeof(properties) = "list"',
            "b.c",
        ]
    ),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | inner.map(lambda one: f"!({one})")
    ),
    max_leaves=4,
) | st.just("all")
fields = st.dictionaries(paths, st.lists(st.sampled_from(KEYS), max_size=4).map(tuple), min_size=1, max_size=3)
filters_of = st.builds(
    Filter,
    conditions,
    st.sampled_from(ACTIONS),
    percent=st.floats(0, 1),
    path=paths,
    fields=fields,
)
named_events = st.builds(
    lambda event, kind, name: {**event, "type": kind, "event": name},
    events,
    st.sampled_from(["a", "b", "c", 1, None]),
    st.sampled_from(["a", "b", "c", None, ["a"]]),
)


@given(st.lists(filters_of, max_size=5), events | named_events)
def test_filters_never_change_their_input_and_never_add_anything(filters: list[Filter], event: dict[str, Any]) -> None:
    body, before = msgspec.json.encode(event), copy.deepcopy(event)
    result = compiled(*filters).verdict(event, body)
    assert event == before
    assert body == msgspec.json.encode(event)
    if isinstance(result, bytes) and result is not body:
        sent = msgspec.json.decode(result)
        assert is_part(sent, msgspec.json.decode(body))
        assert sent != msgspec.json.decode(body), "what is rewritten has changed"


@given(st.lists(filters_of, max_size=5), st.randoms(use_true_random=False), events | named_events)
def test_the_order_of_filters_makes_no_difference(filters: list[Filter], turn: Any, event: dict[str, Any]) -> None:
    steady = [item for item in filters if item.action != "sample" or item.path]
    turned = list(steady)
    turn.shuffle(turned)
    body = msgspec.json.encode(event)
    one, other = compiled(*steady).verdict(event, body), compiled(*turned).verdict(event, body)
    if isinstance(one, bytes) and isinstance(other, bytes):
        assert msgspec.json.decode(one) == msgspec.json.decode(other)
    else:
        assert one == other


@given(st.lists(filters_of, max_size=4), named_events)
def test_constants_are_sound(filters: list[Filter], event: dict[str, Any]) -> None:
    ready = compiled(*filters)
    if isinstance(ready.verdict(event, msgspec.json.encode(event)), bytes):
        bounds = ready.constants
        assert bounds.types is None or event["type"] in bounds.types
        assert bounds.events is None or event["event"] in bounds.events
