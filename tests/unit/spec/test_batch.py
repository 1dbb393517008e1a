"""The envelope of a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.spec.batch import parse_batch
from trunkline.spec.strict_json import InvalidJson

EVENT = {"type": "track", "event": "A", "userId": "u"}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("more", [{}, {"messageId": "m", "sequence": 3}, {"unknown": {"a": 1}}, {"sequence": "x"}])
def test_what_the_envelope_says(separators: tuple[str, str], more: dict[str, Any]) -> None:
    body = {
        "batch": [EVENT, 5],
        "writeKey": "wk",
        "sentAt": "now",
        "context": {"a": 1},
        "integrations": {"b": 2},
        **more,
    }
    batch = parse_batch(json.dumps(body, separators=separators).encode())
    assert [json.loads(bytes(item)) for item in batch.items] == [EVENT, 5]
    assert (batch.write_key, batch.sent_at) == ("wk", "now")
    assert json.loads(batch.context or b"") == {"a": 1}
    assert json.loads(batch.integrations or b"") == {"b": 2}


@pytest.mark.parametrize("body", ["{}", '{"batch":[]}', '{"batch":[],"writeKey":null,"context":null}', '{"x":1}'])
def test_an_empty_batch(body: str) -> None:
    batch = parse_batch(body.encode())
    assert batch.items == []
    assert (batch.write_key, batch.sent_at, batch.context, batch.integrations) == (None, None, None, None)


def test_a_write_key_that_is_no_string_is_none() -> None:
    assert parse_batch(b'{"batch":[],"writeKey":5,"sentAt":{}}').write_key is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "must be a JSON object"),
        (b"5", "must be a JSON object"),
        (b'{"batch":{}}', "array of events"),
        (b'{"batch":null}', "array of events"),
        (b'{"batch":[],"context":5}', "context of the batch"),
        (b'{"batch":[],"integrations":[]}', "integrations of the batch"),
        (b"", "malformed"),
        (b"{", "malformed"),
        (b'{"batch":[}', "malformed"),
        (b'{"batch":[{"a":NaN}]}', "malformed"),
        (b'{"batch":["\xff"]}', "invalid UTF-8"),
        (b'{"batch":[],"batch":[]}', "duplicate key"),
        (b'{"batch":[],"writeKey":"a", "writeKey":"a"}', "duplicate key"),
        (b'{"batch":[],"x":{"a":1,"a":1}}', "duplicate key"),
        (b'{"batch":[],"context":{"a":1,"a":1}}', "duplicate key"),
        (b'{"batch":[],"integrations":{"a":{"b":1,"b":1}}}', "duplicate key"),
        (b'{"batch":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "malformed"),
    ],
)
def test_what_is_no_batch(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidJson, match=reason):
        parse_batch(body)
