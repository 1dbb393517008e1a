"""Normalisation: the timestamp formula, what is added, what is kept byte for byte."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.spec.context import ObjectMemory
from trunkline.spec.event import Event, decode_event
from trunkline.spec.limits import MAX_PROPERTIES
from trunkline.spec.normalise import Arrival
from trunkline.spec.strict_json import InvalidJson
from trunkline.spec.timestamps import parse_timestamp
from trunkline.spec.verdicts import judge

RECEIVED_MS = 1_767_323_045_678
RECEIVED = "2026-01-02T03:04:05.678Z"
COMPACT = (",", ":")
BASE = {"type": "track", "event": "A", "userId": "u", "messageId": "m"}
LIBRARY = {"name": "unknown", "version": "unknown"}
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1))

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)


def normalise_text(text: bytes, *, client_side: bool = False, received_ms: int = RECEIVED_MS, **arrival: Any) -> bytes:
    decoded = decode_event(text, None)
    assert judge(decoded) is None
    shared = Arrival(ObjectMemory(), received_ms, **arrival)
    result = shared.normalise(decoded, client_side)
    shared.check()
    assert not isinstance(result, str), result
    return result[0]


def normalise(event: dict[str, Any], **options: Any) -> dict[str, Any]:
    text = json.dumps(event, separators=options.pop("separators", COMPACT)).encode()
    body = json.loads(normalise_text(text, **options))
    assert isinstance(body, dict)
    return body


def test_an_event_without_anything_gets_every_default() -> None:
    body = normalise({"type": "identify", "anonymousId": "a"})
    assert body.pop("messageId").startswith("api-")
    assert body == {
        "type": "identify",
        "anonymousId": "a",
        "context": {"library": LIBRARY},
        "integrations": {},
        "timestamp": RECEIVED,
        "originalTimestamp": RECEIVED,
        "receivedAt": RECEIVED,
    }


@given(TIMES, TIMES, st.sampled_from(["milliseconds", "microseconds"]), st.booleans())
def test_timestamp_is_received_minus_what_the_clients_clock_says_has_passed(
    original: datetime, sent: datetime, precision: str, in_batch: bool
) -> None:
    given_time, sent_at = original.isoformat(timespec=precision) + "Z", sent.isoformat(timespec=precision) + "Z"
    event = {**BASE, "timestamp": given_time}
    body = normalise(event, sent_at=sent_at) if in_batch else normalise({**event, "sentAt": sent_at})
    received = datetime(1970, 1, 1) + timedelta(milliseconds=RECEIVED_MS)
    expected = received - (datetime.fromisoformat(sent_at) - datetime.fromisoformat(given_time))
    assert datetime.fromisoformat(body["timestamp"]).replace(tzinfo=None) == expected
    assert body["originalTimestamp"] == given_time
    assert body["sentAt"] == sent_at
    assert body["receivedAt"] == RECEIVED


@pytest.mark.parametrize(
    ("fields", "timestamp", "original"),
    [
        ({}, RECEIVED, RECEIVED),
        ({"sentAt": "2026-01-01T00:00:00Z"}, RECEIVED, "2026-01-01T00:00:00Z"),
        ({"sentAt": "junk"}, RECEIVED, RECEIVED),
        ({"timestamp": "2012-12-02T00:30:08.276Z"}, "2012-12-02T00:30:08.276Z", "2012-12-02T00:30:08.276Z"),
        ({"timestamp": "2012-12-02T00:30:08Z"}, "2012-12-02T00:30:08Z", "2012-12-02T00:30:08Z"),
        ({"timestamp": "2015-2-02T00:30:08.276Z"}, "2015-02-02T00:30:08.276Z", "2015-2-02T00:30:08.276Z"),
        ({"timestamp": "2012-12-02T02:30:08+02:00"}, "2012-12-02T00:30:08.000Z", "2012-12-02T02:30:08+02:00"),
        ({"timestamp": 1354408208276}, "2012-12-02T00:30:08.276Z", "1354408208276"),
        ({"timestamp": "junk"}, RECEIVED, "junk"),
        ({"timestamp": {"a": 1}}, RECEIVED, RECEIVED),
        ({"timestamp": None}, RECEIVED, RECEIVED),
        ({"timestamp": "2012-12-02T00:30:08Z", "sentAt": "junk"}, "2012-12-02T00:30:08Z", "2012-12-02T00:30:08Z"),
        ({"originalTimestamp": "2026-01-01T00:00:00.000Z", "sentAt": "2026-01-01T00:00:01.000Z"},
         "2026-01-02T03:04:04.678Z", "2026-01-01T00:00:00.000Z"),
        ({"timestamp": "9999-12-31T23:59:59.999Z", "sentAt": "1999-01-01T00:00:00Z"}, RECEIVED,
         "9999-12-31T23:59:59.999Z"),
        ({"timestamp": "2026-01-01T00:00:00.1234567Z", "sentAt": "2026-01-01T00:00:01.1234567Z"},
         "2026-01-02T03:04:04.678Z", "2026-01-01T00:00:00.1234567Z"),
    ],
)  # fmt: skip
def test_timestamp_without_the_usual_two(fields: dict[str, Any], timestamp: str, original: str) -> None:
    body = normalise({**BASE, **fields})
    assert (body["timestamp"], body["originalTimestamp"]) == (timestamp, original)


def test_received_at_cannot_be_set() -> None:
    for value in ("1999-01-01T00:00:00Z", 5, None):
        assert normalise({**BASE, "receivedAt": value})["receivedAt"] == RECEIVED


@given(OBJECTS, OBJECTS, TIMES, st.booleans())
def test_normalising_twice_changes_the_time_of_receipt_only(
    properties: dict[str, Any], extra: dict[str, Any], time: datetime, client_side: bool
) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(Event)} | {"from", "to"}
    event = {
        **BASE,
        "properties": properties,
        "timestamp": time.isoformat() + "Z",
        "sentAt": "2026-01-01T00:00:00Z",
        **{name: value for name, value in extra.items() if name not in known},
    }
    options: dict[str, Any] = {"client_side": client_side, "client_ip": "192.0.2.1", "user_agent": "UA"}
    once = normalise_text(json.dumps(event).encode(), **options)
    twice = normalise_text(once, received_ms=RECEIVED_MS + 86_400_000, **options)
    assert json.loads(twice) == {**json.loads(once), "receivedAt": "2026-01-03T03:04:05.678Z"}


@given(OBJECTS, OBJECTS, st.booleans())
def test_objects_are_kept_byte_for_byte(first: dict[str, Any], second: dict[str, Any], ascii_only: bool) -> None:
    properties = json.dumps(first, separators=COMPACT, ensure_ascii=ascii_only).encode()
    context = json.dumps({**second, "library": {"name": "x"}}, separators=COMPACT, ensure_ascii=ascii_only).encode()
    for head in (b'{"type":"track","event":"A","userId":"u"', b'{"type":"track","event":"A","userId":"u","x":[1.0]'):
        body = normalise_text(b'%b,"properties":%b,"traits":%b,"context":%b}' % (head, properties, properties, context))
        assert b'"properties":' + properties in body
        assert b'"traits":' + properties in body
        assert context in body or second.get("direct") is True
        assert (b'"x":[1.0]' in body) == (b'"x"' in head) or b'"x":[1.0]' in properties + context


def test_numbers_keep_their_spelling() -> None:
    text = (
        b'{"type":"track","event":"A","userId":"u","properties":{"a":1.50,"b":1E5,"c":123456789012345678901234567890}}'
    )
    assert b'"properties":{"a":1.50,"b":1E5,"c":123456789012345678901234567890}' in normalise_text(text)


def test_unknown_fields_are_kept_and_the_write_key_is_not() -> None:
    event = {**BASE, "writeKey": "wk", "foo": {"a": [1.5]}, "version": 2, "channel": "server", "_metadata": {"b": []}}
    body = normalise(event)
    assert "writeKey" not in body
    for name in ("foo", "version", "channel", "_metadata"):
        assert body[name] == event[name]
    assert "writeKey" not in normalise({**BASE, "writeKey": 5})


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [("m", "m"), (5, "5"), (1.50, "1.5"), ("x" * 100, "x" * 100)],
)
def test_message_ids_that_are_the_clients_own(given_id: Any, expected: str) -> None:
    for _ in range(2):
        decoded = decode_event(json.dumps({**BASE, "messageId": given_id}).encode(), None)
        result = Arrival(ObjectMemory(), RECEIVED_MS).normalise(decoded, False)
        assert not isinstance(result, str)
        assert result[1:] == (expected, True)
        assert json.loads(result[0])["messageId"] == expected


@pytest.mark.parametrize("given_id", [None, "", True, {}, []])
def test_message_ids_that_are_none(given_id: Any) -> None:
    decoded = decode_event(json.dumps({**BASE, "messageId": given_id}).encode(), None)
    result = Arrival(ObjectMemory(), RECEIVED_MS).normalise(decoded, False)
    assert not isinstance(result, str)
    assert result[1].startswith("api-")
    assert result[2] is False


def test_a_long_message_id_is_replaced_by_its_hash() -> None:
    first, second = normalise({**BASE, "messageId": "y" * 101}), normalise({**BASE, "messageId": "y" * 101})
    assert first["messageId"] == second["messageId"]
    assert len(first["messageId"]) <= 100


CALLER = {"client_ip": "192.0.2.1", "user_agent": "UA"}


@pytest.mark.parametrize(
    ("context", "client_side", "expected"),
    [
        (None, False, {"library": LIBRARY}),
        ({}, False, {"library": LIBRARY}),
        ({"library": {"name": "x"}}, False, {"library": {"name": "x"}}),
        ({"a": 1}, False, {"a": 1, "library": LIBRARY}),
        ({}, True, {"library": LIBRARY, "ip": "192.0.2.1", "userAgent": "UA"}),
        ({"library": {"name": "x"}}, True, {"library": {"name": "x"}, "ip": "192.0.2.1", "userAgent": "UA"}),
        ({"ip": "0.0.0.0", "userAgent": "mine"}, True, {"ip": "0.0.0.0", "userAgent": "mine", "library": LIBRARY}),
        ({"direct": True}, False, {"direct": True, "library": LIBRARY, "ip": "192.0.2.1"}),
        ({"direct": True, "ip": "1.1.1.1"}, False, {"direct": True, "library": LIBRARY, "ip": "1.1.1.1"}),
        ({"direct": "true"}, False, {"direct": "true", "library": LIBRARY}),
        ({"page": {"library": 1, "ip": 2}}, True,
         {"page": {"library": 1, "ip": 2}, "library": LIBRARY, "ip": "192.0.2.1", "userAgent": "UA"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("separators", [COMPACT, (", ", ": ")])
def test_context(context: Any, client_side: bool, expected: dict[str, Any], separators: tuple[str, str]) -> None:
    event = {**BASE, "context": context}
    assert normalise(event, client_side=client_side, separators=separators, **CALLER)["context"] == expected


def test_context_without_a_caller() -> None:
    assert normalise(BASE, client_side=True)["context"] == {"library": LIBRARY}


def test_what_the_batch_says_is_merged_and_the_item_wins() -> None:
    shared = {"context": b'{"library":{"name":"go"},"a":1,"b":{"x":1}}', "integrations": b'{"All":true,"S":false}'}
    body = normalise({**BASE, "context": {"b": {"y": 2}}, "integrations": {"S": True}}, **shared)
    assert body["context"] == {"library": {"name": "go"}, "a": 1, "b": {"y": 2}}
    assert body["integrations"] == {"All": True, "S": True}
    body = normalise(BASE, **shared)
    assert body["context"] == {"library": {"name": "go"}, "a": 1, "b": {"x": 1}}
    assert body["integrations"] == {"All": True, "S": False}


def test_the_batchs_sent_at_applies_to_every_item() -> None:
    event = {**BASE, "timestamp": "2026-01-01T00:00:00Z", "sentAt": "2026-01-01T00:00:01Z"}
    body = normalise(event, sent_at="2026-01-01T00:01:00Z")
    assert body["timestamp"] == "2026-01-02T03:03:05.678Z"
    assert body["sentAt"] == "2026-01-01T00:01:00Z"
    assert normalise(event)["timestamp"] == "2026-01-02T03:04:04.678Z"


def test_too_many_properties_lose_the_extra_ones() -> None:
    properties = {f"p{number}": number for number in range(MAX_PROPERTIES + 5)}
    kept = normalise({**BASE, "properties": properties})["properties"]
    assert kept == {f"p{number}": number for number in range(MAX_PROPERTIES)}


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"track","event":"A","event":"A","userId":"u"}',
        b'{"type":"track","event":"A","userId":"u","x":1,"x":1}',
        b'{"type":"track","event":"A","userId":"u","properties":{"a":1,"a":2}}',
        b'{"type":"track","event":"A","userId":"u","properties":{"a":[{"b":1,"b":1}]}}',
        b'{"type":"track","event":"A","userId":"u","traits":{"a":1,"a":2}}',
        b'{"type":"track","event":"A","userId":"u","context":{"a":1,"a":2}}',
        b'{"type":"track","event":"A","userId":"u","integrations":{"a":1,"a":2}}',
        b'{"type":"track","event":"A","userId":"u","_metadata":{"a":1,"a":2}}',
        b'{"type":"track","event":"A","userId":"u","_metadata":[{"a":1,"a":2}]}',
        b'{"type":"track","event":"A","userId":"u","userId":"u"}',
        b'{"type":"track","event":"A","userId":"u","user\\u0049d":"u"}',
        b'{"type":"track","event":"A","userId":"u","version":{"a":1,"a":1}}',
        b'{"type":"track","event":"A","userId":"u","messageId":{"a":1,"a":1}}',
    ],
)
def test_a_duplicate_key_anywhere_is_found(text: bytes) -> None:
    with pytest.raises(InvalidJson, match="duplicate key"):
        normalise_text(text)


@given(st.dictionaries(st.sampled_from(["type", "event", "userId", "name", "channel", "sentAt"]), st.text(max_size=8)),
       st.booleans(), st.booleans())  # fmt: skip
def test_decoding_and_encoding_respells_no_text(fields: dict[str, str], ascii_only: bool, spaced: bool) -> None:
    """The fast path rests on this: encoding a decoded field is never longer than what the client wrote."""
    text = json.dumps(fields, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else COMPACT).encode()
    decoded = decode_event(text, None)
    assert {name: getattr(decoded.event, name) for name in fields} == fields
    assert not decoded.extra


def test_received_at_is_one_for_a_request() -> None:
    shared = Arrival(ObjectMemory(), RECEIVED_MS)
    bodies = []
    for number in range(3):
        result = shared.normalise(decode_event(json.dumps({**BASE, "messageId": str(number)}).encode(), None), False)
        assert not isinstance(result, str)
        bodies.append(json.loads(result[0]))
    assert {body["receivedAt"] for body in bodies} == {RECEIVED}
    assert parse_timestamp(RECEIVED) == RECEIVED_MS * 1000
