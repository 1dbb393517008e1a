"""``GET /health`` and ``GET /metrics`` of the ingest port."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from trunkline.observe.metrics import METRICS_CONTENT_TYPE, render_metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """``problems`` are those of a workspace file that was refused: the last good one is in force meanwhile.

    ``why`` says what is wrong when not ready.
    """

    ready: bool
    why: str
    workspace: str
    snapshot: str
    problems: list[str]


async def _answer(send: Send, status: int, body: bytes, content_type: str = "application/json") -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def health_app(report: Callable[[], HealthReport], token: str | None) -> AsgiApp:
    """200 when ready, 503 when not. Anybody may know how many problems the workspace's file has; their text, which
    quotes the file, is for those who may read ``/metrics``."""

    async def health(scope: Scope, receive: object, send: Send) -> None:
        state = report()
        body: dict[str, object] = {
            "success": state.ready,
            "status": "ok" if state.ready else "unavailable",
            "problem_count": len(state.problems),
        }
        if not state.ready:
            body |= {"code": "unavailable", "message": state.why}
        if _may_read(scope, dict(scope["headers"]), token):
            body |= {"workspace": state.workspace, "snapshot": state.snapshot, "problems": state.problems}
        ready = state.ready
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
