"""A real HTTP proxy between an SDK and the product: it records what the SDK sends, and fails on demand."""

from __future__ import annotations

import gzip
import json
from collections import deque
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from .loop import BackgroundLoop, serve

_NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te"}


@dataclass(frozen=True)
class Refuse:
    """Answer in the product's place, as it would when it is overloaded."""

    status: int
    retry_after_s: int | None = None


@dataclass(frozen=True)
class LoseAnswer:
    """Hand the request to the product, wait for its answer, and cut the connection instead of passing it on."""


Fault = Refuse | LoseAnswer


@dataclass(frozen=True)
class Recorded:
    """One request as the SDK sent it. ``status`` is what it was answered, None if the connection was cut."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int | None

    def payload(self) -> dict[str, Any]:
        """The body as JSON, unpacked."""
        raw = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        payload: dict[str, Any] = json.loads(raw)
        return payload

    def events(self) -> list[dict[str, Any]]:
        """The events in the body, as they stood there."""
        payload = self.payload()
        batch: list[dict[str, Any]] = payload.get("batch", [payload])
        return batch


class FaultProxy:
    """Forwards everything with its Host header as it came; event requests meet the faults that are queued."""

    def __init__(self, loop: BackgroundLoop, upstream_port: int) -> None:
        self._loop = loop
        self._upstream = f"http://127.0.0.1:{upstream_port}"
        self._faults: deque[Fault] = deque()
        self.recorded: list[Recorded] = []
        self.cut_off = False
        """While this holds, event requests that meet no fault lose their connection and never reach the product."""
        self._runner, self.port = loop.run(self._start())
        self.address = f"http://127.0.0.1:{self.port}"

    async def _start(self) -> tuple[web.AppRunner, int]:
        self._client = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=30))
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return await serve(application, auto_decompress=False)

    def fail_next(self, *faults: Fault) -> None:
        """The next event requests meet these, one each."""
        self._faults.extend(faults)

    @property
    def faults_left(self) -> int:
        return len(self._faults)

    def posts(self) -> list[Recorded]:
        """The requests that carried events."""
        return [each for each in self.recorded if each.method == "POST"]

    def attempts(self) -> list[Recorded]:
        """Those, and a browser's questions whether it may send one."""
        return [each for each in self.recorded if each.method in ("POST", "OPTIONS")]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        fault = self._faults.popleft() if request.method == "POST" and self._faults else None
        if isinstance(fault, Refuse):
            response: web.Response | None = _refusal(fault)
        elif fault is None and self.cut_off and request.method == "POST":
            response = None
        else:
            try:
                response = await self._forward(request, body)
            except (aiohttp.ClientError, TimeoutError):
                response = None  # the product is down: the SDK sees its connection break
        if isinstance(fault, LoseAnswer):
            assert response is not None, "the product answered nothing that could be lost"
            response = None
        status = None if response is None else response.status
        self.recorded.append(Recorded(request.method, request.path, headers, body, status))
        if response is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return response

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED]
        async with self._client.request(
            request.method,
            self._upstream + request.raw_path,
            headers=headers,
            data=body or None,
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            response = web.Response(status=answer.status, body=content)
            response.headers.clear()
            for name, value in answer.headers.items():
                if name.lower() not in _NOT_FORWARDED:
                    response.headers.add(name, value)
            return response

    def close(self) -> None:
        async def close() -> None:
            await self._runner.cleanup()
            await self._client.close()

        self._loop.run(close())


def _refusal(fault: Refuse) -> web.Response:
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
    body = {"success": False, "code": "too_many_requests", "message": "Slow down."}
    return web.json_response(body, status=fault.status, headers=headers)
