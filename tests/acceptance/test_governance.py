"""Tracking plans, transformations and schema filters in the real tree: what arrives, is forwarded and is counted."""

from __future__ import annotations

from typing import Any

from tests.support.fixtures import MakeServer
from tests.support.sink import Sink
from tests.support.workspace import source, webhook, workspace

PLAN = {
    "slug": "shop",
    "sources": ["web"],
    "enforce": {
        "unplanned_events": "block",
        "unplanned_properties": "omit",
        "violations": "block",
        "forward_violations_to": "monitor",
        "forward_blocked_events_to": "quarantine",
    },
    "rules": [
        {
            "type": "track",
            "event": "Order Completed",
            "schema": {
                "type": "object",
                "properties": {
                    "properties": {
                        "type": "object",
                        "properties": {"revenue": {"type": "number"}, "coupon": {"type": "string"}},
                        "required": ["revenue"],
                    }
                },
            },
        }
    ],
}


def track(message_id: str, event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": "u1", "messageId": message_id, "properties": properties}


def test_a_plan_blocks_omits_and_forwards(sink: Sink, make_server: MakeServer) -> None:
    web, quarantine, monitor, app = (sink.place(name) for name in ("web", "quarantine", "monitor", "app"))
    for place in (web, quarantine, monitor):
        place.keep_hits = True
    config = workspace(
        [
            source("web"),
            source("quarantine"),
            source("monitor"),
            source("app") | {"schema_filters": {"blocked_events": ["Noise"]}},
        ],
        [
            webhook("hook", web.url, ["web"]),
            webhook("quarantine-hook", quarantine.url, ["quarantine"]),
            webhook("monitor-hook", monitor.url, ["monitor"]),
            webhook("app-hook", app.url, ["app"]),
        ],
        tracking_plans=[PLAN],
        transformations=[
            {
                "slug": "rename",
                "source": "web",
                "if": 'event = "Order Completed"',
                "rename_event": "Purchase",
                "rename_properties": {"revenue": "value"},
            }
        ],
    )
    server = make_server(config)
    server.start()
    for key, event in (
        ("wk_web", track("good", "Order Completed", revenue=10, coupon="X")),
        ("wk_web", track("wide", "Order Completed", revenue=11, card="4111")),
        ("wk_web", track("wrong", "Order Completed", revenue="12")),
        ("wk_web", track("unknown", "Cart Viewed", a=1)),
        ("wk_web", track("unknown", "Cart Viewed", a=1)),
        ("wk_app", track("noise", "Noise")),
        ("wk_app", track("kept", "Signal")),
    ):
        server.send(key, event)
    names = ("hook", "quarantine-hook", "monitor-hook", "app-hook")
    books = server.wait_until_drained(*names)
    assert web.ids() == {"good", "wide"}
    assert app.ids() == {"kept"}
    arrived = {hit.json()["messageId"]: hit.json() for hit in web.hits}
    assert {event["event"] for event in arrived.values()} == {"Purchase"}
    assert arrived["wide"]["properties"] == {"value": 11}
    assert arrived["wide"]["context"]["protocols"] == {"sourceId": "web", "omitted": ["card"]}
    assert "protocols" not in arrived["good"].get("context", {})

    assert quarantine.ids() == {"wrong", "unknown"}
    [told] = [hit.json() for hit in monitor.hits]
    assert told["event"] == "Violation Generated"
    assert told["properties"]["eventMessageID"] == "wrong"
    assert told["properties"]["violationDescription"] == "Invalid type. Expected: number, given: string"

    assert books.destinations["hook"].received == 5
    assert books.destinations["hook"].filtered_at_source == 3
    assert books.destinations["quarantine-hook"].received == 2
    assert books.destinations["monitor-hook"].received == 1
    assert books.destinations["app-hook"].filtered_at_source == 1

    server.kill_child("worker")
    server.send("wk_web", track("late", "Cart Viewed"))
    server.send("wk_web", track("wrong", "Order Completed", revenue="12"))
    server.wait_until_drained(*names)
    assert quarantine.ids() == {"wrong", "unknown", "late"}
    assert len(monitor.hits) == 1
    status, report = server.verify()
    assert status == 0, report
    assert server.stop() == 0
