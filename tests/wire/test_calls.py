"""Segment's SDKs as they are: one of each call, and what the webhook gets is what was called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import wait_until

from .conftest import Wire
from .kit import sdks
from .kit.browser import Chromium, Pages, stock_snippet
from .kit.calls import instant, one_of_each
from .kit.compare import assert_is_what_was_sent
from .kit.sdks import Call, Client, Driver, Sdk

CALLED = ("type", "userId", "anonymousId", "previousId", "groupId", "event", "name", "category", "messageId")
OBJECTS = ("properties", "traits", "context", "integrations")
ARRIVAL_TIMEOUT_S = 30.0


@pytest.fixture
def client(request: pytest.FixtureRequest, wire: Wire, sdk: Sdk) -> Iterator[Client]:
    address = wire.proxies[sdk.name].address
    running: Client
    if sdk is sdks.BROWSER:
        chromium: Chromium = request.getfixturevalue("chromium")
        pages: Pages = request.getfixturevalue("pages")
        request.getfixturevalue("browser_sdk")
        running = chromium.open(pages.add("stock", f"<script>{stock_snippet(sdk.write_key, address)}</script>"))
    else:
        if sdk.needs_node:
            request.getfixturevalue("node_packages")
        running = Driver(sdk, address)
    yield running
    running.close()


@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
def test_what_arrives_is_what_was_called(wire: Wire, sdk: Sdk, client: Client) -> None:
    calls = one_of_each(sdk)
    for call in calls:
        client.call(call)
    client.finish()
    wait_until(
        lambda: len(wire.events(sdk.name)) >= len(calls),
        lambda: f"{len(calls)} events; there are {wire.events(sdk.name)}",
        timeout_s=ARRIVAL_TIMEOUT_S,
    )
    wire.product.wait_until_drained()

    arrived = wire.events(sdk.name)
    sent = sent_events(wire, sdk)
    assert sorted(event["messageId"] for event in arrived) == sorted(sent), "each id that was sent, once"
    for call in calls:
        event = find(arrived, call)
        assert_is_the_call(event, sdk.takes(call))
        assert_is_what_was_sent(event, *sent[event["messageId"]])
    assert client.output() == []
    assert {post.status for post in wire.proxies[sdk.name].posts()} == {200}


def sent_events(wire: Wire, sdk: Sdk) -> dict[str, tuple[dict[str, Any], str]]:
    """By messageId: the event as the SDK put it on the wire, and the request's sentAt."""
    sent = {}
    for post in wire.proxies[sdk.name].posts():
        for event in post.events():
            sent[event["messageId"]] = (event, post.payload()["sentAt"])
    return sent


def find(arrived: list[dict[str, Any]], call: Call) -> dict[str, Any]:
    matching = [event for event in arrived if event["type"] == call["type"] and event.get("event") == call.get("event")]
    assert len(matching) == 1, f"{call['type']} {call.get('event', '')}: {matching}"
    return matching[0]


def assert_is_the_call(event: dict[str, Any], call: Call) -> None:
    for key in CALLED:
        if key in call:
            assert event[key] == call[key], key
    for key in OBJECTS:
        if key in call:
            assert {name: event[key].get(name) for name in call[key]} == call[key], key
    if "timestamp" in call:
        assert instant(event["originalTimestamp"]) == instant(call["timestamp"])
