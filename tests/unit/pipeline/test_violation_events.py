from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trunkline.pipeline.violation_events import violation_event
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
    message_id, body = violation_event(
        MISSING, event, source=source, source_name="Acme Store", plan=PLAN, index=index, now=NOW
    )
    return message_id, msgspec.json.decode(body)


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
