"""A worker asks the registered types what they take."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.sink import Sink
from tests.unit.runtime.test_worker import Running, chunk, run, snapshot_of
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.destinations.webhook import WebhookType
from trunkline.log.records import LoggedEvent
from trunkline.spec.capabilities import BROWSER


class PagesOnly(WebhookType):
    name = "pages-only"
    methods = frozenset({"page"})


class BrowsersOnly(WebhookType):
    name = "browsers-only"
    source_kinds = frozenset({BROWSER})


def test_a_destination_gets_what_its_type_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for kind in (PagesOnly(), BrowsersOnly()):
        monkeypatch.setitem(cast(dict[str, Any], NATIVE_DESTINATIONS), kind.name, kind)
    sink = Sink()
    places = {slug: sink.place(slug) for slug in ("pages", "browsers", "all")}
    plain = snapshot_of({slug: place.url for slug, place in places.items()})
    types = {"pages": "pages-only", "browsers": "browsers-only", "all": "webhook"}
    destinations = {
        slug: dataclasses.replace(destination, type=types[slug]) for slug, destination in plain.destinations.items()
    }
    web = dataclasses.replace(plain.sources["web"], type="javascript")
    snapshot = dataclasses.replace(plain, sources={**plain.sources, "web": web}, destinations=destinations)

    async def test() -> None:
        running = Running(tmp_path, snapshot, seed=0, accepted_duplicates=False)
        for source in ("web", "app"):
            both = chunk(source, f"{source}-track")
            body = f'{{"type":"page","messageId":"{source}-page"}}'.encode()
            both.events.append(LoggedEvent(f"{source}-page", "page", "Home", body))
            running.ingest("0", both)
        await running.wait_until(lambda: len(places["all"].ids()) == 4, "all arrive")
        await running.stop()
        assert places["pages"].ids() == {"web-page", "app-page"}
        assert places["browsers"].ids() == {"web-track", "web-page"}
        books = running.books()
        assert books.problems == []
        reasons = Counter[tuple[str, str]]()
        for key, count in running.store.read().lane_books.items():
            if key.reason:
                reasons[key.destination, key.reason] += count
        assert reasons == {("pages", "UNSUPPORTED_EVENT_TYPE"): 2, ("browsers", "UNSUPPORTED_EVENT_TYPE"): 2}

    try:
        run(test())
    finally:
        sink.close()
