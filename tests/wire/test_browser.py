"""The ways in which pages load the browser SDK from here, over plain http too."""

from __future__ import annotations

import pytest

from tests.support.waiting import wait_until

from .conftest import Wire
from .kit import sdks
from .kit.browser import Chromium, Pages, stock_snippet

WRITE_KEY = sdks.BROWSER.write_key
CALL = {"type": "track", "event": "Loaded", "properties": {"number": 1}}


@pytest.fixture
def address(wire: Wire, browser_sdk: None) -> str:
    return wire.proxies["browser"].address


def head_of(kind: str, address: str) -> str:
    if kind == "no snippet":
        return f'<script src="{address}/analytics.js/v1/{WRITE_KEY}/analytics.min.js" async></script>'
    if kind == "own page call":
        return f"<script>{stock_snippet(WRITE_KEY, address, page=True)}</script>"
    renamed = f"<script>{stock_snippet(WRITE_KEY, address, globalAnalyticsKey='ours')}</script>"
    if kind == "renamed beside another vendor's":
        return "<script>window.analytics = {_cdn: 'https://elsewhere.invalid', vendor: 7}</script>" + renamed
    assert kind == "renamed"
    return renamed


@pytest.mark.parametrize(
    ("kind", "analytics_key"),
    [
        ("own page call", "analytics"),
        ("no snippet", "analytics"),
        ("renamed", "ours"),
        ("renamed beside another vendor's", "ours"),
    ],
)
def test_a_page_talks_to_no_one_but_us(
    wire: Wire, chromium: Chromium, pages: Pages, address: str, kind: str, analytics_key: str
) -> None:
    before = len(wire.events("browser"))
    url = pages.add(kind.replace(" ", "-").replace("'", ""), head_of(kind, address))
    page = chromium.open(url, analytics_key)
    try:
        page.call(CALL)
        expected = 2 if kind == "own page call" else 1

        def arrived() -> bool:
            return len(wire.events("browser")) >= before + expected

        wait_until(arrived, "the calls at the webhook", timeout_s=30)
        track = next(event for event in wire.events("browser")[before:] if event["type"] == "track")
        assert track["context"]["page"]["title"] == "Shop"
        assert track["context"]["campaign"] == {"source": "wire", "name": "spring"}
        assert page.hosts_asked == {"localhost", "127.0.0.1"}
        assert page.output() == []
        vendor = page.evaluate("window.analytics && window.analytics.vendor")
        assert vendor == (7 if "vendor" in kind else None)
        left = page.evaluate("'analytics' in window")
        assert left == (kind != "renamed"), "nothing of ours stays under a name that the page did not give"
    finally:
        page.close()


def test_queries_of_a_link_become_calls(wire: Wire, chromium: Chromium, pages: Pages, address: str) -> None:
    """This part of the SDK comes as a bundle of its own (``spec/event_path.md`` §1.14)."""
    before = len(wire.events("browser"))
    head = f"<script>{stock_snippet(WRITE_KEY, address)}</script>"
    page = chromium.open(pages.add("link", head) + "&ajs_event=Link+Opened&ajs_uid=u-9")
    try:

        def names() -> set[str]:
            return {str(event.get("event", event["type"])) for event in wire.events("browser")[before:]}

        wait_until(lambda: names() >= {"Link Opened", "identify"}, lambda: f"both calls: {names()}", timeout_s=30)
        paths = {request.path for request in wire.proxies["browser"].recorded if request.method == "GET"}
        assert any(path.startswith("/analytics-next/bundles/queryString.bundle.") for path in paths)
        assert page.hosts_asked == {"localhost", "127.0.0.1"}
        assert page.output() == []
    finally:
        page.close()


def test_batches_are_sent_when_the_visitor_leaves(wire: Wire, chromium: Chromium, pages: Pages, address: str) -> None:
    """Batching mode posts ``/v1/b``, at the latest while the page goes away (``spec/event_path.md`` §1.15)."""
    before = len(wire.events("browser"))
    strategy = {"strategy": "batching", "config": {"size": 10, "timeout": 60_000}}
    load = {"integrations": {"Segment.io": {"deliveryStrategy": strategy}}}
    page = chromium.open(pages.add("batching", f"<script>{stock_snippet(WRITE_KEY, address, load=load)}</script>"))
    try:
        for number in (1, 2, 3):
            page.call({**CALL, "properties": {"number": number}})
        page.leave_for(pages.add("next", ""))

        def numbers() -> list[int]:
            return sorted(event["properties"]["number"] for event in wire.events("browser")[before:])

        wait_until(lambda: numbers() == [1, 2, 3], lambda: f"all three calls: {numbers()}", timeout_s=30)
        assert [post.path for post in wire.proxies["browser"].posts()[-1:]] == ["/v1/b"]
        assert page.output() == []
    finally:
        page.close()


def test_nothing_sets_a_cookie(wire: Wire, chromium: Chromium, pages: Pages, address: str) -> None:
    page = chromium.open(pages.add("cookies", f"<script>{stock_snippet(WRITE_KEY, address)}</script>"))
    try:
        cookies = page.cookies(address)
        assert cookies == [], "the SDK keeps its own on the page's site; the server sets none"
    finally:
        page.close()
