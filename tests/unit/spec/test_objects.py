"""The Objects API's rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.spec.objects import parse_objects
from trunkline.spec.strict_json import InvalidJson

GOOD: dict[str, Any] = {"collection": "rooms", "objects": [{"id": "1", "properties": {"a": 1.5, "b": "x", "c": None}}]}


def test_objects_are_recorded_one_by_one() -> None:
    request = parse_objects(
        b'{"writeKey":"wk","collection":"my_rooms","objects":'
        b'[{"id":"1","properties":{"a":1.50,"b":true}},{"id":"2","properties":{}}]}'
    )
    assert request.write_key == "wk"
    assert request.objects == [
        b'{"collection":"my_rooms","id":"1","properties":{"a":1.50,"b":true}}',
        b'{"collection":"my_rooms","id":"2","properties":{}}',
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"collection": "Rooms"},
        {"collection": "_rooms"},
        {"collection": "rooms_"},
        {"collection": "rooms2"},
        {"collection": ""},
        {"collection": "a" * 101},
        {"collection": 5},
        {"collection": "rooms\n"},
        {"objects": []},
        {"objects": GOOD["objects"] * 11},
        {"objects": {}},
        {"objects": [{"id": 1, "properties": {}}]},
        {"objects": [{"id": "", "properties": {}}]},
        {"objects": [{"id": "x" * 101, "properties": {}}]},
        {"objects": [{"id": "1"}]},
        {"objects": [{"id": "1", "properties": {"a": {}}}]},
        {"objects": [{"id": "1", "properties": {"a": []}}]},
        {"objects": [{"id": "1", "properties": {"a": "x" * 32 * 1024}}]},
    ],
)
def test_each_rule(change: dict[str, Any]) -> None:
    parse_objects(json.dumps(GOOD).encode())
    with pytest.raises(InvalidJson):
        parse_objects(json.dumps({**GOOD, **change}).encode())


def test_the_largest_of_all() -> None:
    largest = {
        "collection": "a" * 100,
        "objects": [{"id": "x" * 100, "properties": {"a": "x" * (32 * 1024 - 3)}}] * 10,
    }
    assert len(parse_objects(json.dumps(largest).encode()).objects) == 10
