"""Segment's SDKs that can't be installed here, each as the request that its code sends.

Path, authentication, headers, encoding and shape of the body follow ``spec/event_path.md`` §1.15, one row each.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contract.http_surface import request_bytes, run_surface

KEY = "wk_web"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
ANONYMOUS = "9a5e2c3e-6e1f-4e52-8a37-0d6f0c1f7a11"


@dataclass
class Sdk:
    """``body`` is the request's JSON; ``timestamp``, if given, is what all events carry as their own."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    gzipped: bool = False
    chunked: bool = False
    separators: tuple[str, str] = (",", ":")
    own_ids: bool = True
    library: dict[str, Any] = field(default_factory=dict)
    escape_slashes: bool = False


def calls(common: dict[str, Any], timestamp: str, *, track: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """One of each call that every SDK knows."""
    shared = {**common, "timestamp": timestamp}
    return [
        {"type": "identify", "messageId": "id-1", "userId": "u1", "traits": {"email": "a@example.com"}, **shared},
        {
            "type": "track",
            "messageId": "id-2",
            "userId": "u1",
            "event": "Order Completed",
            "properties": {"revenue": 19.9, "url": "https://example.com/a", "name": "Jürgen"},
            **shared,
            **(track or {}),
        },
        {"type": "screen", "messageId": "id-3", "userId": "u1", "name": "Home", "properties": {}, **shared},
        {"type": "group", "messageId": "id-4", "userId": "u1", "groupId": "g1", "traits": {"plan": "pro"}, **shared},
        {"type": "alias", "messageId": "id-5", "userId": "u2", "previousId": "u1", **shared},
    ]


def library(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version}


GO = library("analytics-go", "3.3.0")
JAVA = library("analytics-java", "3.5.2")
RUBY = library("analytics-ruby", "2.5.0")
PHP = library("analytics-php", "3.8.0")
DOTNET = library("Analytics-CSharp", "2.5.0")
KOTLIN = library("analytics-kotlin", "1.19.0")
SWIFT = library("analytics-swift", "1.7.0")
ANDROID = library("analytics-android", "4.11.3")
REACT_NATIVE = library("@segment/analytics-react-native", "2.21.0")

SDKS = {
    "go": Sdk(
        "/v1/batch",
        {**BASIC, "Content-Type": "application/json", "User-Agent": "analytics-go (version: 3.0.0)"},
        {
            "messageId": "batch-1",
            "sentAt": "2026-11-21T10:11:13.123456789Z",
            "batch": calls({}, "2026-11-21T10:11:12.123456789Z"),
            "context": {"library": GO},
        },
        library=GO,
    ),
    "java": Sdk(
        "/v1/import/",
        {**BASIC, "Content-Type": "application/json; charset=UTF-8", "User-Agent": "analytics-java/3.5.2"},
        {
            "batch": calls({"context": {"library": JAVA}, "channel": "server"}, "2026-11-21T10:11:12.123Z"),
            "sentAt": "2026-11-21T10:11:13.123Z",
            "context": {"library": JAVA},
            "sequence": 1,
            "writeKey": KEY,
        },
        library=JAVA,
    ),
    "ruby": Sdk(
        "/v1/import",
        {
            **BASIC,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "analytics-ruby/2.5.0",
        },
        {
            "sentAt": "2026-11-21T10:11:13.123+00:00",
            "batch": calls({"context": {"library": RUBY}}, "2026-11-21T10:11:12.123+00:00"),
        },
        library=RUBY,
    ),
    "php": Sdk(
        "/v1/batch",
        {**BASIC, "Content-Type": "application/json", "User-Agent": "analytics-php/3.8.0"},
        {
            "batch": calls({"context": {"library": {**PHP, "consumer": "LibCurl"}}}, "2026-11-21T10:11:12+00:00"),
            "sentAt": "2026-11-21T10:11:13+00:00",
        },
        library={**PHP, "consumer": "LibCurl"},
        escape_slashes=True,
    ),
    "php with gzip": Sdk(
        "/v1/batch",
        {**BASIC, "Content-Type": "application/json", "User-Agent": "analytics-php/3.8.0"},
        {
            "batch": calls({"context": {"library": PHP}}, "2026-11-21T10:11:12.000Z"),
            "sentAt": "2026-11-21T10:11:13.000Z",
        },
        gzipped=True,
        library=PHP,
        escape_slashes=True,
    ),
    "dotnet": Sdk(
        "/v1/b",
        {"Content-Type": "application/json; charset=utf-8", "User-Agent": "analytics-csharp/2.5.0"},
        {
            "batch": calls(
                {
                    "anonymousId": ANONYMOUS,
                    "context": {"library": DOTNET, "instanceId": "x"},
                    "integrations": {},
                    "_metadata": {"bundled": [], "unbundled": [], "bundledIds": []},
                },
                "2026-11-21T10:11:12.1234567Z",
                track={"userId": ""},
            ),
            "sentAt": "2026-11-21T10:11:13.1234567Z",
            "writeKey": KEY,
        },
        gzipped=True,
        library=DOTNET,
    ),
    "kotlin": Sdk(
        "/v1/b",
        {"Content-Type": "text/plain", "User-Agent": "analytics-kotlin/1.19.0"},
        {
            "batch": calls(
                {
                    "anonymousId": ANONYMOUS,
                    "context": {"library": KOTLIN, "device": {"id": "d", "type": "android"}},
                    "integrations": {},
                    "_metadata": {"bundled": [], "unbundled": [], "bundledIds": []},
                },
                "2026-11-21T10:11:12.123Z",
                track={"userId": ""},
            ),
            "sentAt": "2026-11-21T10:11:13.123Z",
            "writeKey": KEY,
        },
        gzipped=True,
        chunked=True,
        library=KOTLIN,
    ),
    "swift": Sdk(
        "/v1/b",
        {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "analytics-ios/1.7.0",
            "Accept-Encoding": "gzip",
        },
        {
            "batch": calls(
                {
                    "anonymousId": ANONYMOUS,
                    "context": {"library": SWIFT, "os": {"name": "iOS", "version": "18.1"}},
                    "integrations": {},
                    "_metadata": {"bundledIds": [], "unbundled": [], "bundled": []},
                },
                "2026-11-21T10:11:12.123Z",
            ),
            "sentAt": "2026-11-21T10:11:13.123Z",
            "writeKey": KEY,
        },
        library=SWIFT,
    ),
    "react native": Sdk(
        "/v1/b",
        {"Content-Type": "application/json; charset=utf-8", "User-Agent": "okhttp/4.12.0", "X-Retry-Count": "1"},
        {
            "batch": calls(
                {
                    "anonymousId": ANONYMOUS,
                    "context": {"library": REACT_NATIVE, "app": {"name": "demo", "version": "1"}},
                    "integrations": {},
                    "_metadata": {"bundled": [], "unbundled": [], "bundledIds": []},
                },
                "2026-11-21T10:11:12.123Z",
            ),
            "sentAt": "2026-11-21T10:11:13.123Z",
            "writeKey": KEY,
        },
        library=REACT_NATIVE,
    ),
    "android classic": Sdk(
        "/v1/import",
        {"Content-Type": "application/json", "User-Agent": "analytics-android/4.11.3"},
        {
            "batch": calls(
                {
                    "anonymousId": ANONYMOUS,
                    "channel": "mobile",
                    "context": {"library": ANDROID, "userAgent": "Dalvik/2.1.0"},
                    "integrations": {},
                },
                "2026-11-21T10:11:12.123Z",
            ),
            "sentAt": "2026-11-21T10:11:13.123Z",
            "writeKey": KEY,
        },
        gzipped=True,
        chunked=True,
        library=ANDROID,
    ),
}


def build(sdk: Sdk) -> bytes:
    text = json.dumps(sdk.body, separators=sdk.separators, ensure_ascii=sdk.escape_slashes)
    if sdk.escape_slashes:
        text = text.replace("/", "\\/")
    body = text.encode()
    headers = dict(sdk.headers)
    if sdk.gzipped:
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    if sdk.chunked:
        headers["Transfer-Encoding"] = "chunked"
        parts = [body[start : start + 100] for start in range(0, len(body), 100)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
    return request_bytes("POST", sdk.path, body, headers)


@pytest.mark.parametrize("name", SDKS)
def test_sdk(name: str) -> None:
    sdk = SDKS[name]
    with run_surface() as surface:
        client = surface.client()
        client.send(build(sdk))
        answer = client.read_answer()
        # Java insists on a boolean success; Ruby parses every body and looks for error.
        assert (answer.status, answer.json()) == (200, {"success": True})
        assert surface.rejections() == []
        (chunk,) = surface.chunks()
        assert chunk.source == "web"
        sent: list[dict[str, Any]] = sdk.body["batch"]
        assert [event.message_id for event in chunk.events] == [event["messageId"] for event in sent]
        assert all(event.has_own_id for event in chunk.events)
        assert [event.type for event in chunk.events] == [event["type"] for event in sent]
        for event, received in zip(sent, surface.events(), strict=True):
            assert received["originalTimestamp"] == event["timestamp"]
            assert received["sentAt"] == sdk.body["sentAt"]
            assert received["context"]["library"] == sdk.library
            assert "writeKey" not in received
            for field_name in ("traits", "properties", "event", "name", "groupId", "previousId", "integrations"):
                if field_name in event:
                    assert received[field_name] == event[field_name]
            if event.get("userId"):
                assert received["userId"] == event["userId"]
            else:
                assert "userId" not in received
            # All of these sent their events one second after they happened.
            delay = (_ms(received["receivedAt"]) - _ms(received["timestamp"])) % 60_000
            assert abs(delay - 1000) <= 1


def _ms(timestamp: str) -> int:
    return int(timestamp[14:16]) * 60_000 + round(float(timestamp[17:-1]) * 1000)
