"""The webhook's other end in the demonstration: an HTTP server on this machine that counts what it is given."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from trunkline.cli.demo_tally import Tally
from trunkline.clock import Clock


class DemoSink:
    """Answers 200 to each event."""

    def __init__(self, tally: Tally, clock: Clock) -> None:
        self._tally = tally
        self._clock = clock
        app = web.Application()
        app.router.add_post("/events", self._take)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> str:
        """The address for the webhook's settings. Raises OSError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        return f"http://127.0.0.1:{port}/events"

    async def _take(self, request: web.Request) -> web.Response:
        event: dict[str, Any] = msgspec.json.decode(await request.read())
        kind = event["type"]
        self._tally.arrive(
            event["messageId"],
            kind,
            event.get("event", kind) if kind == "track" else kind,
            event.get("userId") or f"visitor {event.get('anonymousId', '')[:8]}",
            now_s=self._clock.monotonic_s(),
            now_ms=self._clock.now_ms(),
        )
        return web.Response()

    async def stop(self) -> None:
        await self._runner.cleanup()
