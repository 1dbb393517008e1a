"""The preview of a filter, in Segment's shapes and in ours."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from trunkline.rehearsal.preview import PreviewError, preview_filter

PAYLOAD = {"type": "track", "event": "Order Completed", "userId": "u1", "properties": {"email": "a@b", "revenue": 42}}


def preview(condition: str, *actions: dict[str, Any], payload: dict[str, Any] | None = None) -> Any:
    request = {"filter": {"if": condition, "actions": list(actions)}, "payload": payload or PAYLOAD}
    answer = preview_filter(json.dumps(request).encode(), Random(0))
    assert answer["inputPayload"] == (payload or PAYLOAD)
    return answer["result"]


@pytest.mark.parametrize("name", ["DROP", "drop", "drop_event"])
def test_drop(name: str) -> None:
    assert preview("event = 'Order Completed'", {"type": name}) is None
    assert preview("event = 'Other'", {"type": name}) == PAYLOAD


def test_properties() -> None:
    lean = preview("all", {"type": "DROP_PROPERTIES", "fields": {"properties": ["email"]}})
    assert lean == {**PAYLOAD, "properties": {"revenue": 42}}
    only = preview("properties.revenue > 1", {"type": "ALLOW_PROPERTIES", "fields": {"properties": ["email"]}})
    assert only["properties"] == {"email": "a@b"}
    both = preview(
        "all",
        {"type": "ALLOW_PROPERTIES", "fields": {"properties": ["email", "revenue"]}},
        {"type": "DROP_PROPERTIES", "fields": {"": ["userId"]}},
    )
    assert both == {key: value for key, value in PAYLOAD.items() if key != "userId"}


def test_samples() -> None:
    assert preview("all", {"type": "SAMPLE", "percent": 0}) is None
    assert preview("all", {"type": "SAMPLE", "percent": 1, "path": "userId"}) == PAYLOAD
    assert preview("type = 'page'", {"type": "SAMPLE", "percent": 0.0}) == PAYLOAD


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        ("", "not a filter and a payload"),
        ("[]", "not a filter and a payload"),
        ('{"filter": {"if": "all"}, "payload": {}}', "actions"),
        ('{"filter": {"if": "all", "actions": []}, "payload": {}}', "there is none"),
        ('{"filter": {"if": "all", "actions": [{"type": "DORP"}]}, "payload": {}}', "'DORP' is no action"),
        ('{"filter": {"if": "all", "actions": [{}]}, "payload": {}}', "nothing is no action"),
        ('{"filter": {"if": "event =", "actions": [{"type": "DROP"}]}, "payload": {}}', "column 8"),
        ('{"filter": {"if": "all", "actions": [{"type": "SAMPLE"}]}, "payload": {}}', "percent"),
        ('{"filter": {"if": "all", "actions": [{"type": "SAMPLE", "percent": 10}]}, "payload": {}}', "0 to 1"),
        ('{"filter": {"if": "all", "actions": [{"type": "DROP_PROPERTIES"}]}, "payload": {}}', "fields"),
        (
            '{"filter": {"if": "all", "actions": [{"type": "DROP_PROPERTIES", "fields": {"a": "b"}}]}, "payload": {}}',
            "fields",
        ),
        ('{"filter": {"if": "all", "actions": [{"type": "DROP"}]}, "payload": 1}', "payload"),
        ("[" * 5000, "not a filter and a payload"),
    ],
)
def test_what_is_wrong_is_said(request_text: str, said: str) -> None:
    with pytest.raises(PreviewError, match=said):
        preview_filter(request_text.encode(), Random(0))


def test_a_path_that_is_too_long_is_said() -> None:
    with pytest.raises(PreviewError, match="keys"):
        preview("all", {"type": "DROP_PROPERTIES", "fields": {".".join("a" * 60): ["x"]}})
