"""What is sent of an archived event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.client.archive import BadLine, restore_event
from trunkline.client.lines import Line
from trunkline.spec.context import ObjectMemory
from trunkline.spec.event import decode_event
from trunkline.spec.limits import MAX_EVENT_BYTES
from trunkline.spec.normalise import Arrival

ARCHIVED = {
    "type": "track",
    "event": "Order Completed",
    "userId": "u1",
    "messageId": "ajs-1",
    "timestamp": "2024-05-01T10:00:03.100Z",
    "originalTimestamp": "2024-05-01T10:00:00.000Z",
    "sentAt": "2024-05-01T10:00:02.000Z",
    "receivedAt": "2024-05-01T10:00:05.100Z",
    "projectId": "p",
    "writeKey": "wk_old",
    "properties": {"revenue": 42},
}
NOW_MS = 1_795_000_000_000


def restored(event: dict[str, Any], number: int = 1) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(restore_event(Line(number, json.dumps(event).encode())))
    return sent


def as_the_server_keeps_it(event: dict[str, Any]) -> dict[str, Any]:
    arrival = Arrival(ObjectMemory(), NOW_MS)
    result = arrival.normalise(decode_event(restore_event(Line(1, json.dumps(event).encode())), None), False)
    assert isinstance(result, tuple)
    kept: dict[str, Any] = json.loads(result[0])
    return kept


def test_times_and_message_id_survive_the_server() -> None:
    kept = as_the_server_keeps_it(ARCHIVED)
    assert kept["timestamp"] == ARCHIVED["timestamp"]
    assert kept["originalTimestamp"] == ARCHIVED["originalTimestamp"]
    assert kept["messageId"] == "ajs-1"
    assert kept["receivedAt"].startswith("2026-")


def test_a_raw_event_is_not_moved_by_the_time_it_lay_in_a_log() -> None:
    raw = {key: value for key, value in ARCHIVED.items() if key not in ("originalTimestamp", "receivedAt")}
    assert as_the_server_keeps_it(raw)["timestamp"] == ARCHIVED["timestamp"]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"receivedAt": "2024-05-01T10:00:05Z", "sentAt": "2024-05-01T10:00:02Z"}, "2024-05-01T10:00:05Z"),
        ({"sentAt": "2024-05-01T10:00:02Z"}, "2024-05-01T10:00:02Z"),
        ({"received_at": "2024-05-01T10:00:05Z"}, "2024-05-01T10:00:05Z"),
        ({"timestamp": None, "receivedAt": "2024-05-01T10:00:05Z"}, "2024-05-01T10:00:05Z"),
    ],
)
def test_an_event_without_a_timestamp_gets_that_of_its_first_arrival(times: dict[str, Any], expected: str) -> None:
    event = {"type": "page", "userId": "u1", **times}
    assert restored(event)["timestamp"] == expected
    assert as_the_server_keeps_it(event)["timestamp"] == expected


def test_what_a_server_wrote_goes_and_all_else_stays_byte_for_byte() -> None:
    line = (
        b'{"type":"track","event":"\\u00e9","userId":"u","messageId":"m","timestamp":"2024-05-01T10:00:00Z",'
        b'"properties":{"a": 1.10, "b":12345678901234567890},"own":[1, 2]'
    )
    archived = line + b',"sent_at":"x","message_id":"m2","project_id":"p","received_at":"y","projectId":"q"}'
    assert restore_event(Line(1, archived)) == line + b"}"


def test_a_missing_message_id_is_made_of_text_and_line() -> None:
    event = {"type": "track", "event": "A", "userId": "u"}
    first = restored(event, 7)["messageId"]
    assert first == restored(event, 7)["messageId"]
    assert first.startswith("line-")
    assert len({first, restored(event, 8)["messageId"], restored({**event, "userId": "v"}, 7)["messageId"]}) == 3
    assert restored({**event, "messageId": None}, 7)["messageId"].startswith("line-")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", "invalid_request"),
        (b'{"a":1,"a":2}', "invalid_request"),
        (b'{"a":NaN}', "invalid_request"),
        (b'{"a":"\xff"}', "invalid_request"),
        (b"[1]", "bad_request"),
        (b'"text"', "bad_request"),
        (b'{"batch":[]}', "bad_request"),
        (b'{"type":"track","properties":{"a":"%b"}}' % (b"x" * MAX_EVENT_BYTES), "event_too_large"),
    ],
)
def test_bad_lines_have_a_code_and_a_reason(text: bytes, code: str) -> None:
    with pytest.raises(BadLine) as caught:
        restore_event(Line(1, text))
    assert caught.value.code == code
    assert caught.value.message
