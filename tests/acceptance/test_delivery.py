"""What goes in at the Tracking API comes out at the destinations that are connected, once, and is counted."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter

from tests.support.fixtures import MakeServer
from tests.support.sink import Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace


def track(message_id: str, **more: object) -> dict[str, object]:
    return {"type": "track", "event": "Order Completed", "userId": "u1", "messageId": message_id, **more}


def test_events_reach_exactly_the_destinations_that_are_connected(sink: Sink, make_server: MakeServer) -> None:
    both, web_only, off, nobody = (sink.place(name) for name in ("both", "web", "off", "nobody"))
    server = make_server(
        workspace(
            [source("web"), source("app"), source("quiet")],
            [
                webhook("both", both.url, ["web", "app"]),
                webhook("web", web_only.url, ["web"]),
                webhook("off", off.url, ["web", "app"], enabled=False),
                webhook("nobody", nobody.url, ["quiet"]),
            ],
        ),
        settings={"ingest_processes": "2"},
    )
    server.start()
    for number in range(20):
        server.send("wk_web", *(track(f"web-{number}-{at}") for at in range(5)))
        server.send("wk_app", track(f"app-{number}"))
    books = server.wait_until_drained("both", "web")
    web = {f"web-{number}-{at}" for number in range(20) for at in range(5)}
    app = {f"app-{number}" for number in range(20)}
    assert both.taken == Counter(web | app)
    assert web_only.taken == Counter(web)
    assert not off.received
    assert not nobody.received
    assert books.destinations["both"].received == books.destinations["both"].delivered == 120
    assert books.destinations["web"].received == books.destinations["web"].delivered == 100
    assert books.destinations["nobody"].received == 0
    assert "off" not in books.destinations
    assert (books.sources["web"].received, books.sources["app"].accepted) == (100, 20)


def test_a_message_id_is_delivered_once_across_sources_and_restarts(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    server = make_server(workspace([source("web"), source("app")], [webhook("hook", hook.url, ["web", "app"])]))
    server.start()
    server.send("wk_web", track("m1"), track("m2"), track("m1"))
    server.send("wk_app", track("m1"), track("m3"))
    server.wait_until_drained("hook")
    assert server.stop() == 0
    server.start()
    server.send("wk_app", track("m2"), track("m3"), track("m4"))
    server.wait_until_drained("hook")
    server.kill()
    server.start()
    server.send("wk_web", track("m4"), track("m5"))
    # An event without a messageId of its own can't be a duplicate.
    server.send("wk_web", *({"type": "track", "event": "E", "userId": "u"} for _ in range(3)))
    books = server.wait_until_drained("hook")
    line = books.destinations["hook"]
    assert (line.received, line.filtered_at_source, line.delivered) == (13, 5, 8)
    assert {f"m{number}" for number in range(1, 6)} < hook.ids()
    assert hook.doubles() == 0


def test_rejections_and_objects_are_counted(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")
    server = make_server(workspace([source("web")], [webhook("hook", hook.url, ["web"])]))
    server.start()
    answer = server.post(
        "/v1/batch",
        {
            "writeKey": "wk_web",
            "batch": [
                track("good"),
                {"type": "track", "userId": "u1", "messageId": "no-event-name"},
                {"type": "track", "event": "E", "messageId": "nobody"},
                {"type": "nonsense", "userId": "u1"},
            ],
        },
    )
    assert answer.status == 200
    objects = [{"id": str(number), "collection": "rooms", "properties": {"name": "Blue"}} for number in range(3)]
    answer = server.post("/v1/set", {"writeKey": "wk_web", "objects": objects, **objects[0]})
    assert answer.status == 200, answer.body
    wait_until(lambda: server.balanced_books().sources["web"].objects > 0, "objects are counted")
    books = server.wait_until_drained("hook")
    line = books.destinations["hook"]
    assert (line.received, line.failed_on_ingest, line.delivered) == (4, 3, 1)
    assert books.sources["web"].received == 4
    # What was refused has claimed no messageId: the mended event goes through.
    server.send("wk_web", track("no-event-name"))
    server.wait_until_drained("hook")
    assert hook.taken == {"good": 1, "no-event-name": 1}


def test_a_webhook_gets_the_json_with_headers_and_signature(sink: Sink, make_server: MakeServer) -> None:
    hook, plain = sink.place("hook"), sink.place("plain")
    hook.keep_hits = plain.keep_hits = True
    server = make_server(
        workspace(
            [source("web")],
            [
                webhook("hook", hook.url, ["web"], shared_secret="s3cret", headers={"X-Team": "growth"}),
                webhook("plain", plain.url, ["web"]),
            ],
        )
    )
    server.start()
    server.send("wk_web", track("m1", properties={"name": "Grüße ☃"}, context={"library": {"name": "x"}}))
    server.wait_until_drained("hook", "plain")
    [hit], [plain_hit] = hook.hits, plain.hits
    assert hit.headers["content-type"].startswith("application/json")
    assert hit.headers["x-team"] == "growth"
    assert hit.headers["x-signature"] == hmac.new(b"s3cret", hit.body, hashlib.sha1).hexdigest()
    assert "x-signature" not in plain_hit.headers
    assert hit.headers["user-agent"].startswith("Trunkline/")
    event = json.loads(hit.body)
    assert event["messageId"] == "m1"
    assert event["event"] == "Order Completed"
    assert event["properties"] == {"name": "Grüße ☃"}
    assert event["context"]["library"] == {"name": "x"}
    assert {"receivedAt", "timestamp", "originalTimestamp"} <= set(event)
