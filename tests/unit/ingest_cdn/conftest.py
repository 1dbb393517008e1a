"""The CDN as an ASGI application, and a data directory with the real browser SDK in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.expected import missing
from trunkline.ingest.analytics_js import AnalyticsJsAssets, CdnError
from trunkline.ingest.cdn import Cdn
from trunkline.workspace.model import Destination, Snapshot, Source


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value.decode("latin-1") for key, value in self.headers if key == name.encode()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Answer]


def ask_cdn(
    cdn: Cdn,
    path: str,
    method: str = "GET",
    *,
    scheme: str = "http",
    client: str = "203.0.113.9",
    **headers: str | bytes,
) -> Answer:
    """One request; header names are given with underscores."""
    sent: list[dict[str, Any]] = []
    headers.setdefault("host", "events.example.com")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": scheme,
        "client": (client, 4711),
        "server": ("192.0.2.1", 8080),
        "headers": [
            (name.replace("_", "-").encode(), value.encode() if isinstance(value, str) else value)
            for name, value in headers.items()
            if value != ""
        ],
    }

    async def receive() -> dict[str, Any]:
        raise AssertionError("the CDN has no reason to read a body")

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(cdn(scope, receive, send))
    start, *parts = sent
    assert start["type"] == "http.response.start"
    assert [part["type"] for part in parts] == ["http.response.body"]
    answer = Answer(start["status"], start["headers"], parts[0]["body"])
    assert answer.header("access-control-allow-origin") == "*"
    assert answer.header("set-cookie") is None
    return answer


def make_snapshot() -> Snapshot:
    def source(slug: str, *keys: str, enabled: bool = True) -> Source:
        return Source(slug=slug, name=slug.title(), type="javascript", write_keys=keys, enabled=enabled)

    def destination(slug: str, *sources: str, enabled: bool = True) -> Destination:
        return Destination(
            slug=slug, name=slug.title(), type="webhook", sources=sources, enabled=enabled, settings={"url": "s3cret"}
        )

    sources = [source("web", "wk_web", "wk_web_new"), source("old", "wk_old", enabled=False), source("shop", "wk_shop")]
    destinations = [
        destination("zeta", "web"),
        destination("alpha", "web", "shop"),
        destination("off", "web", enabled=False),
        destination("elsewhere", "shop"),
    ]
    return Snapshot(
        version="1",
        slug="acme",
        name="Acme",
        sources={each.slug: each for each in sources},
        destinations={each.slug: each for each in destinations},
    )


@pytest.fixture(scope="session")
def installed_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segment's package, really fetched, once a run."""
    data_dir = tmp_path_factory.mktemp("data")
    try:
        AnalyticsJsAssets(data_dir).install()
    except CdnError as error:
        missing(f"the browser SDK can't be fetched here: {error}")
    return data_dir


@pytest.fixture
def cdn(installed_data_dir: Path) -> Cdn:
    return Cdn(make_snapshot, AnalyticsJsAssets(installed_data_dir))


@pytest.fixture
def bare_cdn(tmp_path: Path) -> Cdn:
    """Without the browser SDK."""
    return Cdn(make_snapshot, AnalyticsJsAssets(tmp_path))


@pytest.fixture
def ask() -> Ask:
    return ask_cdn


@pytest.fixture
def snapshot() -> Snapshot:
    return make_snapshot()
