from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.pipeline.violation_events import ViolationEvents
from trunkline.spec.app_version import app_version_of
from trunkline.spec.plans import TrackingPlan
from trunkline.spec.violations import Violation

PLAN = TrackingPlan("shop", "Acme Ecommerce TP", ("web",), ())
MISSING = Violation("Required", "properties.products", "properties.products is required")
ORDER = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "node-1",
    "sentAt": "2018-08-23T21:35:02.858Z",
    "context": {"app": {"version": "2.1", "name": "Acme"}},
}
NOW = "2018-09-05T23:05:25.862Z"


def make(event: dict[str, Any], index: int = 0, source: str = "web") -> tuple[str, dict[str, Any]]:
    made = ViolationEvents(source, "Acme Store", PLAN).template(event, NOW).make(MISSING, index, sys.maxsize)
    assert made is not None
    return made[0], msgspec.json.decode(made[1])


def test_the_event_has_the_shape_of_segments() -> None:
    message_id, event = make(ORDER)
    assert message_id.startswith("sch-")
    assert event == {
        "context": {
            "app": {"version": "2.1", "name": "Acme"},
            "library": {"name": "analytics-node", "version": "2.1.0"},
        },
        "event": "Violation Generated",
        "integrations": {},
        "messageId": message_id,
        "properties": {
            "appVersion": "2.1",
            "eventMessageID": "node-1",
            "eventName": "Order Completed",
            "eventSentAt": "2018-08-23T21:35:02.858Z",
            "eventTimestamp": "0001-01-01T00:00:00Z",
            "eventType": "track",
            "sourceID": "web",
            "sourceName": "Acme Store",
            "sourceSlug": "web",
            "trackingPlanID": "rs_shop",
            "trackingPlanName": "Acme Ecommerce TP",
            "violationDescription": "properties.products is required",
            "violationField": "properties.products",
            "violationType": "Required",
        },
        "receivedAt": NOW,
        "timestamp": NOW,
        "type": "track",
        "userId": "schema-violations",
        "forwardedFromProject": "web",
    }


def test_the_message_id_follows_from_source_event_and_index() -> None:
    assert make(ORDER) == make(ORDER)
    ids = {make(ORDER)[0], make(ORDER, 1)[0], make(ORDER, source="app")[0], make({**ORDER, "messageId": "node-2"})[0]}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"type": "page", "name": "Home"}, "Home"),
        ({"type": "screen", "name": 5}, ""),
        ({"type": "identify", "event": "x"}, ""),
        ({"type": [], "event": {}, "context": [], "messageId": None, "timestamp": 5}, ""),
        ({"context": {"app": "x"}}, ""),
    ],
)
def test_whatever_the_event_has_is_no_exception(event: dict[str, Any], name: str) -> None:
    _, made = make(event)
    assert made["properties"]["eventName"] == name
    assert made["properties"]["eventTimestamp"] == "0001-01-01T00:00:00Z"


GOLDEN = (
    (
        (
            b'{"type":"page","name":"Caf\\u00e9 \\"1\\"","event":"not this","messageId":"ajs-\\\\\\u2028",'
            b'"sentAt":"2018-08-23T21:35:02.858Z","timestamp":"2018-08-23T21:35:02.1Z","context":{"locale":"en","app":'
            b'{"version":"2.1","build":1.50,"big":12345678901234567890,"nested":{"a": [null, true, 1e300]}}}}'
        ),
        Violation("Invalid Type", 'properties.ü"x"', "Invalid type. Expected: string, given: \x01\n"),
        3,
        "sch-bf7ba956e9248e3100a3e7750004f7fc",
        (
            '{"context":{"app":{"version":"2.1","build":1.5,"big":12345678901234567890,"nested":{"a":[null,true,1e300]}},'
            '"library":{"name":"analytics-node","version":"2.1.0"}},"event":"Violation Generated","integrations":{},'
            '"messageId":"sch-bf7ba956e9248e3100a3e7750004f7fc","properties":{"appVersion":"2.1","eventMessageID":'
            '"ajs-\\\\\u2028","eventName":"Café \\"1\\"","eventSentAt":"2018-08-23T21:35:02.858Z","eventTimestamp":'
            '"2018-08-23T21:35:02.1Z","eventType":"page","sourceID":"web","sourceName":"Acme Störe","sourceSlug":"web",'
            '"trackingPlanID":"rs_shop","trackingPlanName":"Acme \\"Ecommerce\\" TP é","violationDescription":'
            '"Invalid type. Expected: string, given: \\u0001\\n","violationField":"properties.ü\\"x\\"",'
            '"violationType":"Invalid Type"},"receivedAt":"2018-09-05T23:05:25.862Z","timestamp":'
            '"2018-09-05T23:05:25.862Z","type":"track","userId":"schema-violations","forwardedFromProject":"web"}'
        ),
    ),
    (
        b'{"type":"identify","messageId":5,"context":[]}',
        Violation("Required", "(root)", "userId is required"),
        0,
        "sch-3db212770f82b72c50775a0109287f0b",
        (
            '{"context":{"app":null,"library":{"name":"analytics-node","version":"2.1.0"}},"event":'
            '"Violation Generated","integrations":{},"messageId":"sch-3db212770f82b72c50775a0109287f0b",'
            '"properties":{"appVersion":"","eventMessageID":"","eventName":"","eventSentAt":"0001-01-01T00:00:00Z","eventTimestamp":'
            '"0001-01-01T00:00:00Z","eventType":"identify","sourceID":"web","sourceName":"Acme Störe",'
            '"sourceSlug":"web","trackingPlanID":"rs_shop","trackingPlanName":"Acme \\"Ecommerce\\" TP é",'
            '"violationDescription":"userId is required","violationField":"(root)","violationType":"Required"},'
            '"receivedAt":"2018-09-05T23:05:25.862Z","timestamp":"2018-09-05T23:05:25.862Z","type":"track","userId":'
            '"schema-violations","forwardedFromProject":"web"}'
        ),
    ),
)


@pytest.mark.parametrize(("event", "violation", "index", "message_id", "body"), GOLDEN)
def test_every_byte(event: bytes, violation: Violation, index: int, message_id: str, body: str) -> None:
    """An event that is forwarded a second time, after a crash, is the same: its id and its bytes do not change."""
    plan = TrackingPlan("shop", 'Acme "Ecommerce" TP é', ("web",), ())
    template = ViolationEvents("web", "Acme Störe", plan).template(msgspec.json.decode(event), NOW)
    assert template.make(violation, index, sys.maxsize) == (message_id, body.encode())


TEXTS = st.text(st.characters(codec="utf-8"), max_size=80)
VALUES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXTS | st.dictionaries(TEXTS, TEXTS, max_size=2)
)
APPS = VALUES | st.fixed_dictionaries({"version": VALUES}, optional={"name": VALUES})
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["track", "page", "identify"]) | VALUES,
        "event": VALUES,
        "name": VALUES,
        "messageId": VALUES,
        "timestamp": VALUES,
        "context": VALUES | st.fixed_dictionaries({"app": APPS}),
    },
)


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.builds(Violation, TEXTS, TEXTS, TEXTS), TEXTS, TEXTS)
def test_the_size_is_known_before_and_the_version_too(
    content: dict[str, Any], violation: Violation, name: str, plan_name: str
) -> None:
    event = msgspec.json.decode(msgspec.json.encode(content))
    template = ViolationEvents("web", name, TrackingPlan("shop", plan_name, ("web",), ())).template(event, NOW)
    made = template.make(violation, 7, sys.maxsize)
    assert made is not None
    size_bytes = len(made[1])
    assert template.least_bytes <= size_bytes
    assert template.make(violation, 7, size_bytes) == made
    assert template.make(violation, 7, size_bytes - 1) is None
    assert template.app_version == app_version_of(made[1])
    shortest = template.make(Violation("", "", ""), 7, template.least_bytes)
    assert shortest is not None
    assert len(shortest[1]) == template.least_bytes
    assert msgspec.json.decode(made[1])["properties"]["violationDescription"] == violation.description
