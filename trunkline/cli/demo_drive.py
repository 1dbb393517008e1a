"""Sends the shop's calls at a bounded rate, as SDKs do: the website's one by one, the others in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from trunkline.cli.demo_tally import Tally
from trunkline.cli.demo_traffic import WEB, Call, Shop
from trunkline.client.tracking import SendError, TrackingClient
from trunkline.clock import Clock
from trunkline.spec.timestamps import format_timestamp

TICK_S: Final = 0.02
BATCH_EVENTS: Final = 10
BATCH_AGE_S: Final = 0.25
MAX_IN_FLIGHT: Final = 64


class Driver:
    """One run of traffic."""

    def __init__(
        self,
        shop: Shop,
        clients: Mapping[str, TrackingClient],
        tally: Tally,
        clock: Clock,
        *,
        rate: float,
        time_answers: bool,
    ) -> None:
        """``time_answers``: latencies are those of the answers, because nothing is known of the arrivals."""
        self._shop = shop
        self._clients = clients
        self._tally = tally
        self._clock = clock
        self._rate = rate
        self._time_answers = time_answers
        self._waiting: dict[str, list[Call]] = {}
        self._waiting_since_s: dict[str, float] = {}
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float, stop: asyncio.Event) -> None:
        """Until the time is over or ``stop`` is set; then what is under way is awaited."""
        started_s = self._clock.monotonic_s()
        produced = 0
        while not stop.is_set() and (elapsed_s := self._clock.monotonic_s() - started_s) < seconds:
            due = int(elapsed_s * self._rate) - produced
            # After a pause of the machine the rest is dropped: a burst would not be the rate that was asked for.
            produced += max(0, due - int(self._rate))
            for _ in range(min(due, int(self._rate) or 1)):
                produced += 1
                await self._take(self._shop.next())
            await self._flush(self._clock.monotonic_s() - BATCH_AGE_S)
            self._tally.sending_for_s = self._clock.monotonic_s() - started_s
            await asyncio.sleep(TICK_S)
        await self._flush(float("inf"))
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def cancel(self) -> None:
        """Give up what is under way."""
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, call: Call) -> None:
        call.event.setdefault("timestamp", self._now())
        if call.source == WEB:
            await self._launch(call.source, [call])
            return
        waiting = self._waiting.setdefault(call.source, [])
        if not waiting:
            self._waiting_since_s[call.source] = self._clock.monotonic_s()
        waiting.append(call)
        if len(waiting) >= BATCH_EVENTS:
            await self._launch(call.source, self._waiting.pop(call.source))

    async def _flush(self, before_s: float) -> None:
        for source in [source for source in self._waiting if self._waiting_since_s[source] <= before_s]:
            await self._launch(source, self._waiting.pop(source))

    async def _launch(self, source: str, calls: list[Call]) -> None:
        while len(self._in_flight) >= MAX_IN_FLIGHT:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._send(source, calls))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _send(self, source: str, calls: list[Call]) -> None:
        tally = self._tally
        body: dict[str, Any]
        if source == WEB:
            body = calls[0].event | {"sentAt": self._now()}
            path, content_type = body["type"][0], "text/plain"
        else:
            body = {"batch": [call.event for call in calls], "sentAt": self._now()}
            path, content_type = "batch", "application/json"
        started_s = self._clock.monotonic_s()
        tally.sending(calls, started_s)
        try:
            verdict = await self._clients[source].post(path, msgspec.json.encode(body), content_type=content_type)
        except SendError as error:
            tally.unsent += len(calls)
            tally.trouble = str(error)
            return
        took_s = self._clock.monotonic_s() - started_s if self._time_answers else None
        tally.answered(calls, [rejected.code for rejected in verdict.rejected], verdict.attempts - 1, took_s)

    def _now(self) -> str:
        return format_timestamp(self._clock.now_ms() * 1000)
