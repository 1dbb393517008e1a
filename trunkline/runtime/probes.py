"""``GET /health`` and ``GET /metrics`` of the ingest port."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from trunkline.observe.metrics import METRICS_CONTENT_TYPE, render_metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Send = Callable[[Message], Awaitable[None]]


async def _answer(send: Send, status: int, body: bytes, content_type: str = "application/json") -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def health_app(report: Callable[[], tuple[bool, Mapping[str, object]]]) -> AsgiApp:
    """200 when ready, 503 when not; the report says more either way."""

    async def health(scope: Scope, receive: object, send: Send) -> None:
        ready, details = report()
        body = {"success": ready, "status": "ok" if ready else "unavailable", **details}
        await _answer(send, 200 if ready else 503, json.dumps(body).encode())

    return health


def metrics_app(directory: Path, publish: Callable[[], None], token: str | None) -> AsgiApp:
    """For callers on this machine, or with the token. A request that a proxy forwarded is not from this machine."""

    async def metrics(scope: Scope, receive: object, send: Send) -> None:
        headers = dict(scope["headers"])
        if not _may_read(scope, headers, token):
            message = "Send the token of the setting metrics_token: Authorization: Bearer TOKEN."
            await _answer(send, 403, json.dumps({"success": False, "code": "forbidden", "message": message}).encode())
            return
        publish()
        await _answer(send, 200, render_metrics(directory), METRICS_CONTENT_TYPE)

    return metrics


def _may_read(scope: Scope, headers: Mapping[bytes, bytes], token: str | None) -> bool:
    if token is not None:
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(given, token.encode())
    client = scope.get("client")
    if client is None or b"x-forwarded-for" in headers or b"forwarded" in headers:
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:
        return False
