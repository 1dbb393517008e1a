from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.destinations.multi_status import MISSING, ItemStatus, read_multi_status

OK = ItemStatus(200)
ABSENT = ItemStatus(MISSING, "the answer has no status for this event")
SEGMENT = [
    {"status": 200, "sent": {"a": 1}, "body": "ok"},
    {"status": 429, "errortype": "TOO_MANY_REQUESTS", "errormessage": "slow down", "errorreporter": "DESTINATION"},
]


@pytest.mark.parametrize(
    ("answer", "events", "expected"),
    [
        (SEGMENT, 2, [OK, ItemStatus(429, "TOO_MANY_REQUESTS: slow down")]),
        ({"results": SEGMENT}, 2, [OK, ItemStatus(429, "TOO_MANY_REQUESTS: slow down")]),
        ({"items": SEGMENT, "results": "none"}, 2, [OK, ItemStatus(429, "TOO_MANY_REQUESTS: slow down")]),
        ([{"status": 200}], 3, [OK, ABSENT, ABSENT]),
        ([None, {"status": 200}], 2, [ABSENT, OK]),
        ([{"status": "200"}, {"status": 200.0}], 2, [ABSENT, OK]),
        ([{"status": True}, {"status": 42}, {"status": 200.5}, {"status": 200}], 4, [ABSENT] * 3 + [OK]),
        ([{"status": 400, "error": "bad"}], 1, [ItemStatus(400, "bad")]),
        ([{"status": 400, "message": "bad", "errortype": 3}], 1, [ItemStatus(400, "bad")]),
        ([{"status": 400, "errortype": "BAD"}], 1, [ItemStatus(400, "BAD")]),
        ([], 2, None),
        ([{}, {}], 2, None),
        ([{"status": 200}] * 3, 2, None),
        ({"status": 200}, 1, None),
        ({"results": {}}, 1, None),
        ("ok", 1, None),
        (None, 1, None),
    ],
)
def test_answers(answer: Any, events: int, expected: list[ItemStatus] | None) -> None:
    assert read_multi_status(json.dumps(answer).encode(), events) == expected


@pytest.mark.parametrize("body", [b"", b"ok", b'[{"status": 200}', b"\xff", b"[" * 100_000, b'["\\ud800"]'])
def test_what_is_no_json_can_not_be_read(body: bytes) -> None:
    assert read_multi_status(body, 1) is None


@given(st.binary(max_size=80), st.integers(1, 5))
def test_junk_does_not_raise(body: bytes, events: int) -> None:
    statuses = read_multi_status(body, events)
    assert statuses is None or len(statuses) == events


entries = st.fixed_dictionaries({"status": st.integers(-1, 999) | st.none() | st.floats(allow_nan=False) | st.text()})


@given(st.lists(entries | st.none() | st.integers(), max_size=6), st.integers(1, 6))
def test_every_event_has_a_status_that_http_knows(answer: list[Any], events: int) -> None:
    statuses = read_multi_status(json.dumps(answer).encode(), events)
    if statuses is not None:
        assert len(statuses) == events
        assert all(200 <= item.status <= 599 for item in statuses)
        for entry, item in zip(answer, statuses, strict=False):
            if isinstance(entry, dict) and isinstance(entry["status"], int) and 200 <= entry["status"] <= 599:
                assert item.status == entry["status"]
