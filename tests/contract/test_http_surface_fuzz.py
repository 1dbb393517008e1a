"""Random requests over raw sockets: no hang, no status but the documented ones, a server that lives on."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.http_surface import Client, ServerClosed, Surface, request_bytes, run_surface
from trunkline.ingest.options import IngestOptions

DOCUMENTED = {200, 400, 404, 405, 408, 429, 431, 503}
PATHS = st.sampled_from(
    [
        "/v1/track", "/v1/t", "/v1/identify/", "/v1/alias", "/v1/group", "/v1/page", "/v1/screen", "/v1/batch",
        "/v1/import/", "/v1/b", "/v1/m", "/v1/set", "/v1/pixel/page", "/v1/pixel/track", "/v1/projects/x/settings", "/",
        "/v1/", "//v1/track", "/v1/track%00", "/v1/%ff",
    ]
)  # fmt: skip
METHODS = st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
SCALARS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.sampled_from(["wk_web", "wk_server", "wk_off", "track", "page", "2026-01-01T00:00:00Z", "x" * 200])
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "type", "userId", "anonymousId", "event", "name", "category", "properties", "traits", "context", "integrations",
        "timestamp", "originalTimestamp", "sentAt", "receivedAt", "messageId", "writeKey", "groupId", "previousId",
        "from", "to", "version", "channel", "_metadata", "batch", "collection", "objects", "id", "library", "direct",
    ]
) | st.text(max_size=5)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)
EVENTS = st.fixed_dictionaries({"type": st.sampled_from(["track", "page", "alias", "group"])}, optional={
    "userId": SCALARS, "event": SCALARS, "properties": VALUES, "context": VALUES, "timestamp": SCALARS,
    "sentAt": SCALARS, "messageId": SCALARS, "writeKey": SCALARS, "integrations": VALUES,
})  # fmt: skip
BATCHES = st.fixed_dictionaries(
    {"batch": st.lists(EVENTS | VALUES, max_size=5), "writeKey": st.just("wk_web")},
    optional={"sentAt": SCALARS, "context": VALUES, "integrations": VALUES},
)
BODIES = st.binary(max_size=60) | st.builds(
    lambda value, ascii_only, spaced: json.dumps(
        value, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else (",", ":")
    ).encode("utf-8", "replace"),
    VALUES | EVENTS | BATCHES,
    st.booleans(),
    st.booleans(),
)
HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
HEADERS = st.fixed_dictionaries({}, optional={
    "Authorization": HEADER_TEXT | st.sampled_from(["Basic d2tfd2ViOg==", "Bearer x", "Basic"]),
    "Content-Type": HEADER_TEXT,
    "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "", "identity"]),
    "Origin": HEADER_TEXT,
    "Access-Control-Request-Headers": HEADER_TEXT,
    "X-Forwarded-For": HEADER_TEXT,
    "User-Agent": HEADER_TEXT,
    "Connection": st.sampled_from(["close", "keep-alive", "upgrade"]),
    "Upgrade": st.sampled_from(["h2c", "websocket"]),
    "Expect": st.sampled_from(["100-continue", "x"]),
})  # fmt: skip
GOOD = request_bytes("POST", "/v1/track", b'{"event":"A","userId":"u","writeKey":"wk_server"}')


@pytest.fixture(scope="module")
def surface() -> Iterator[Surface]:
    with run_surface(IngestOptions(body_timeout_s=1.0, header_timeout_s=1.0)) as running:
        yield running
        client = running.client()
        client.send(GOOD)
        assert client.read_answer().status == 200


def exchange(surface: Surface, data: bytes, method: str = "POST") -> int | None:
    """The status of the first final answer; None if the server closed the connection."""
    client = Client(surface.port, timeout_s=10)
    try:
        with contextlib.suppress(ConnectionError):
            client.send(data)
        while True:
            try:
                answer = client.read_answer(method)
            except (ServerClosed, ConnectionError):
                return None
            if answer.status == 100:
                continue
            assert "set-cookie" not in answer.headers
            if answer.headers["content-type"] == "application/json" and method != "HEAD":
                body = answer.json()
                assert body["success"] is (answer.status == 200)
                assert answer.status == 200 or {"code", "message", "error"} <= set(body)
            return answer.status
    finally:
        client.close()


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(METHODS, PATHS, HEADERS, BODIES, st.booleans())
def test_requests(
    surface: Surface, method: str, path: str, headers: dict[str, str], body: bytes, compress: bool
) -> None:
    if compress and headers.get("Content-Encoding") == "gzip":
        body = gzip.compress(body)
    assert exchange(surface, request_bytes(method, path, body, headers), method) in DOCUMENTED


@FUZZ
@given(st.sampled_from(["page", "track", "group"]), st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_pixels(surface: Surface, kind: str, query: str) -> None:
    query = query.replace("#", "")
    assert exchange(surface, request_bytes("GET", f"/v1/pixel/{kind}?{query}"), "GET") == 200


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, 40))
def test_requests_with_a_damaged_spot(surface: Surface, junk: bytes, at: int, length: int) -> None:
    """A part of a good request replaced: what is left may be incomplete, then the clock answers."""
    data = GOOD[:at] + junk + GOOD[at + length :]
    status = exchange(surface, data + b"\r\n\r\n")
    assert status is None or status in DOCUMENTED
