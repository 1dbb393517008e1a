"""Differences between two JSON values."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import events, keys, scalars
from trunkline.rehearsal.difference import ROOT, bodies_differ, differences


def found(before: Any, after: Any) -> set[tuple[str, str, str]]:
    return {(one.kind, one.path, one.place) for one in differences(before, after)}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, set()),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, set()),
        ({"a": 1}, {"a": 1.0}, {("changed", "a", "a")}),
        ({"a": 1}, {"a": True}, {("changed", "a", "a")}),
        ({"a": None}, {}, {("removed", "a", "a")}),
        ({}, {"a": {"b": {"c": 1}}}, {("added", "a", "a")}),
        ({"a": {"b.c": 1}}, {"a": {"b.c": 2}}, {("changed", "a.b\\.c", "a.b\\.c")}),
        ({"a": [{"b": 1}, {"b": 1}]}, {"a": [{"b": 1}, {}]}, {("removed", "a[1].b", "a[].b")}),
        ({"a": [1, 2]}, {"a": [1]}, {("removed", "a[1]", "a[]")}),
        ({"a": [1]}, {"a": [1, 2]}, {("added", "a[1]", "a[]")}),
        ({"a": {}}, {"a": []}, {("changed", "a", "a")}),
        (1, 2, {("changed", ROOT, ROOT)}),
    ],
)
def test_each_kind(before: Any, after: Any, expected: set[tuple[str, str, str]]) -> None:
    assert found(before, after) == expected


@settings(max_examples=60)
@given(events)
def test_a_value_has_no_difference_from_its_copy(event: dict[str, Any]) -> None:
    assert found(event, copy.deepcopy(event)) == set()


@settings(max_examples=60)
@given(events, keys, scalars)
def test_one_change_is_found_as_one(event: dict[str, Any], key: str, value: Any) -> None:
    changed = {**event, key: value}
    same = key in event and type(event[key]) is type(value) and event[key] == value
    assert len(found(event, changed)) == (0 if same else 1)


def test_bodies() -> None:
    assert bodies_differ(b'{"a": 1, "b": 2}', b'{"b":2,"a":1}') == []
    [one] = bodies_differ(b'{"a": 1}', b'{"a": 2}')
    assert (one.kind, one.path, one.before, one.after) == ("changed", "a", 1, 2)
    [one] = bodies_differ(b'{"a": 1}', b"no json")
    assert one.path == ROOT


@settings(max_examples=5)
@given(st.integers(200, 900))
def test_depth_does_not_exhaust_the_stack(depth: int) -> None:
    deep = [msgspec.json.encode({"a": 1}), msgspec.json.encode({"a": 2})]
    for _ in range(depth):
        deep = [b'{"a":' + text + b"}" for text in deep]
    assert len(bodies_differ(*deep)) == 1
