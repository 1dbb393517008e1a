"""Filters, integrations and consent in the real tree: what arrives, what is counted, what a replay does."""

from __future__ import annotations

from typing import Any

from tests.support.fixtures import MakeServer
from tests.support.sink import Sink
from tests.support.workspace import source, webhook, workspace


def track(message_id: str, event: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": "u1", "messageId": message_id, **more}


def test_filters_decide_and_the_books_say_why(sink: Sink, make_server: MakeServer) -> None:
    orders, lean, marketing, rest = (sink.place(name) for name in ("orders", "lean", "marketing", "rest"))
    lean.keep_hits = True
    config = workspace(
        [source("web")],
        [
            webhook("orders", orders.url, ["web"])
            | {"filters": [{"if": 'event = "Order Completed" and properties.revenue >= 10', "action": "only_send"}]},
            webhook("lean", lean.url, ["web"])
            | {
                "filters": [
                    {"if": 'event = "Heartbeat"', "action": "drop"},
                    {"if": "all", "action": "drop_properties", "fields": {"properties": ["card"]}},
                ]
            },
            webhook("marketing", marketing.url, ["web"]) | {"consent_categories": ["ads"]},
            webhook("rest", rest.url, ["web"]),
        ],
    )
    server = make_server(config)
    server.start()
    no_ads = {"context": {"consent": {"categoryPreferences": {"ads": False}}}}
    for event in (
        track("big", "Order Completed", properties={"revenue": 42, "card": "4111"}),
        track("small", "Order Completed", properties={"revenue": 1, "card": "4111"}),
        track("beat", "Heartbeat"),
        track("private", "Order Completed", properties={"revenue": 20}, **no_ads),
        track("only-rest", "Page Read", integrations={"All": False, "rest": True}),
    ):
        server.send("wk_web", event)
    books = server.wait_until_drained("orders", "lean", "marketing", "rest")
    assert orders.ids() == {"big", "private"}
    assert lean.ids() == {"big", "small", "private"}
    assert marketing.ids() == {"big", "small", "beat"}
    assert rest.ids() == {"big", "small", "beat", "private", "only-rest"}
    assert not any("card" in hit.json()["properties"] for hit in lean.hits)
    filtered = {name: books.destinations[name].filtered_at_destination for name in books.destinations}
    assert filtered == {"orders": 3, "lean": 2, "marketing": 2, "rest": 0}
    server.kill_child("worker")
    server.send("wk_web", track("after", "Heartbeat"))
    books = server.wait_until_drained("orders", "lean", "marketing", "rest")
    assert "after" in rest.ids() - lean.ids()
    assert books.destinations["lean"].filtered_at_destination == 3
    status, report = server.verify()
    assert status == 0, report
    assert server.stop() == 0
