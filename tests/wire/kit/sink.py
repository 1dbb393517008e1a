"""The webhook's other end: it keeps what is posted to it, by path."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from aiohttp import web

from .loop import BackgroundLoop

Event = dict[str, Any]


class Sink:
    """``POST /<name>`` keeps the event under that name."""

    def __init__(self, loop: BackgroundLoop) -> None:
        self._loop = loop
        self._events: dict[str, list[Event]] = defaultdict(list)
        self.port = loop.run(self._start())

    async def _start(self) -> int:
        application = web.Application()
        application.router.add_post("/{name}", self._keep)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _keep(self, request: web.Request) -> web.Response:
        self._events[request.match_info["name"]].append(json.loads(await request.read()))
        return web.Response()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def events(self, name: str) -> list[Event]:
        """What came so far, in the order of arrival."""
        return list(self._events[name])

    def close(self) -> None:
        self._loop.run(self._runner.cleanup())
