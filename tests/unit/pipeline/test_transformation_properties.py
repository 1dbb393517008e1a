"""Transformations: what they never do, whatever the event and whatever they say."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import events
from tests.unit.pipeline.transformation_kit import (
    rule,
    sets,
    stage,
)
from trunkline.pipeline.transformations import MAX_TRANSFORMED_BYTES
from trunkline.spec.discards import INVALID_TRANSFORMATION, TRANSFORMATION_DROP, Discard
from trunkline.spec.transformations import PropertyHash, PropertyValue, Transformation

KINDS = st.sampled_from(["track", "page", "identify", "group", "alias", 5, None])
NAMES: st.SearchStrategy[Any] = st.sampled_from(["A", "B", "C", {}, [], None, 1])
CONDITIONS = st.sampled_from(
    ['event = "A"', 'event = "B" and type = "track"', 'type = "page"', "all", "false", 'type in ["group", "identify"]',
     'event = "A" or type = "alias"', "properties.a = 1", '!(event = "C")', 'event = "C" and event = "A"']
)  # fmt: skip
typed_events = st.builds(
    lambda event, kind, name, parent, inner: {**event, "type": kind, "event": name, parent: inner},
    events, KINDS, NAMES, st.sampled_from(["properties", "traits"]), events,
)  # fmt: skip
PROPERTY_PATHS = st.sampled_from(["a", "b", "a.b", "b.c", "c", "d\\.e", "x y", "0", "ü", "a.a.a", "c.b"])
TOP_PATHS = st.one_of(
    st.builds("{}.{}".format, st.sampled_from(["properties", "traits", "context"]), PROPERTY_PATHS),
    st.sampled_from(["userId", "name", "integrations.x"]),
)
VALUES = st.sampled_from([None, True, 1, 1.5, "text", [], {}, {"a": {"b": 1}}, [{"a": 1}]])
FQL = st.sampled_from(
    ["lowercase(event)", "properties.a", "properties", "traits.b.c", "string(properties.a)", "type = 'track'", "1.5",
     "length(properties.b)", "[properties.a, userId]", "properties.a.\\0", "number(properties.c)"]
)  # fmt: skip
transformations = st.builds(
    rule,
    condition=CONDITIONS,
    drop=st.sampled_from([False, False, False, True]),
    new_event_name=st.sampled_from(["", "", "A", "B"]),
    renames=st.lists(st.tuples(PROPERTY_PATHS, PROPERTY_PATHS), max_size=3).map(tuple),
    values=st.lists(
        st.builds(PropertyValue, st.lists(TOP_PATHS, min_size=1, max_size=2).map(tuple), VALUES), max_size=2
    ).map(tuple),
    allow_properties=st.lists(PROPERTY_PATHS, max_size=3).map(tuple),
    hash=st.none()
    | st.builds(PropertyHash, st.lists(TOP_PATHS.filter(lambda path: "integ" not in path), max_size=3).map(tuple)),
) | st.builds(rule, condition=CONDITIONS, fql_properties=st.tuples(st.tuples(PROPERTY_PATHS | TOP_PATHS, FQL)))


@settings(max_examples=60)
@given(typed_events, st.lists(transformations, max_size=4))
def test_nothing_is_ever_mutated_and_the_answer_is_always_an_event_or_a_discard(
    event: dict[str, Any], items: list[Transformation]
) -> None:
    body = msgspec.json.encode(event)
    before, compiled = copy.deepcopy(event), stage(*items)
    found = compiled.verdict(event, body)
    assert event == before
    assert body == msgspec.json.encode(before)
    if isinstance(found, Discard):
        assert found.reason in (TRANSFORMATION_DROP, INVALID_TRANSFORMATION)
    else:
        decoded = msgspec.json.decode(found)
        assert isinstance(decoded, dict)
        if found is not body and found == body:
            changes_back = any(item.renames or (item.values and item.allow_properties) for item in items)
            assert changes_back, "only places that were changed back make bytes anew"
        for own in ("type", "messageId"):
            assert decoded.get(own) == event.get(own)
    assert compiled.verdict(event, body) == found


@settings(max_examples=60)
@given(typed_events, st.lists(transformations, max_size=4))
def test_what_may_not_be_touched_is_not(event: dict[str, Any], items: list[Transformation]) -> None:
    compiled, body = stage(*items), msgspec.json.encode(event)
    name = event["event"] if event["type"] == "track" else event.get("name")
    if not compiled.may_touch(event["type"] or "", name if isinstance(name, str) else ""):
        assert compiled.verdict(event, body) is body


@settings(max_examples=60)
@given(typed_events, st.lists(transformations, min_size=2, max_size=4))
def test_one_stage_of_many_does_as_many_stages_of_one(event: dict[str, Any], items: list[Transformation]) -> None:
    body: bytes | Discard = msgspec.json.encode(event)
    together = stage(*items).verdict(event, msgspec.json.encode(event))
    for item in items:
        alone = stage(item)
        refusal = alone.verdict(event, b"{}")
        if isinstance(refusal, Discard) and refusal.reason == INVALID_TRANSFORMATION:
            assert isinstance(together, Discard)
            return
    for item in items:
        if isinstance(body, bytes):
            body = stage(item).verdict(msgspec.json.decode(body), body)
    assert together == body


@settings(max_examples=60)
@given(
    typed_events,
    st.one_of(
        st.builds(lambda paths: rule(allow_properties=tuple(paths)), st.lists(PROPERTY_PATHS, min_size=1, max_size=4)),
        st.builds(lambda path, value: sets((path, value)), TOP_PATHS, VALUES),
        st.builds(lambda path: rule(fql_properties=((path, "lowercase(properties.b)"),)), PROPERTY_PATHS),
        st.just(rule(new_event_name="A")),
    ),
)
def test_done_twice_is_done_once(event: dict[str, Any], item: Transformation) -> None:
    compiled = stage(item)
    once = compiled.verdict(event, msgspec.json.encode(event))
    assert isinstance(once, bytes)
    again = msgspec.json.decode(once)
    if again.get("properties") == event.get("properties") or not item.fql_properties:
        assert compiled.verdict(again, once) is once


# Hostile events


def test_a_large_event() -> None:
    event = {"type": "track", "event": "E", "properties": {f"key {n}.x": "ü" * 8 for n in range(1200)}}
    body = msgspec.json.encode(event)
    assert len(body) > 32_000
    item = rule(
        renames=(("key 7\\.x", "seven"),),
        values=(PropertyValue(("properties.key 8\\.x",), 8),),
        hash=PropertyHash(("properties.key 9\\.x",), "md5"),
    )
    rewritten = stage(item).verdict(event, body)
    assert isinstance(rewritten, bytes)
    found = msgspec.json.decode(rewritten)
    assert len(found["properties"]) == 1200
    assert found["properties"]["seven"] == "ü" * 8
    assert found["properties"]["key 8.x"] == 8
    assert len(found["properties"]["key 9.x"]) == 32


@pytest.mark.parametrize("shape", ["objects", "lists"])
def test_deep_nesting_is_not_opened_further_than_the_path(shape: str) -> None:
    depth = 400
    inner = '{"a":' * depth + "1" + "}" * depth if shape == "objects" else "[" * depth + "1" + "]" * depth
    body = f'{{"type":"track","event":"E","properties":{{"a":{inner},"x":1}}}}'.encode()
    event = msgspec.json.decode(body)
    item = rule(
        renames=(("a.a.a.a", "z"),),
        values=(PropertyValue(("properties.a.a.b",), 1), PropertyValue(("properties.y",), 1)),
        hash=PropertyHash(("properties.a.a.a.c",), "md5"),
    )
    found = stage(item).verdict(event, body)
    assert isinstance(found, bytes)
    assert msgspec.json.decode(found)["properties"]["y"] == 1


def test_copies_of_copies_can_not_grow_without_end() -> None:
    items = [
        rule(
            slug=f"t{number}", condition=f"properties.n{number} = null", fql_properties=((f"n{number}", "properties"),)
        )
        for number in range(40)
    ]
    event = {"type": "track", "event": "E", "properties": {"a": "x" * 1000}}
    found = stage(*items).verdict(event, msgspec.json.encode(event))
    assert isinstance(found, Discard)
    assert found.reason == INVALID_TRANSFORMATION
    assert f"{MAX_TRANSFORMED_BYTES:,} are the most" in found.detail


def test_what_grows_too_deep_is_discarded() -> None:
    items = [rule(slug=f"t{n}", fql_properties=(("a.a.a.a.a.a.a.a", "properties.a"),)) for n in range(300)]
    event = {"type": "track", "event": "E", "properties": {"a": {}}}
    found = stage(*items).verdict(event, msgspec.json.encode(event))
    assert isinstance(found, Discard)
    assert found.reason == INVALID_TRANSFORMATION


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b'{"a":'])
def test_what_is_no_object_raises_as_filters_do(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        stage(sets(("properties.x", 1))).verdict({}, body)
