"""Webhook senders against the sink on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import GuardedClient
from trunkline.destinations.kit import HttpClient, Outcome, OutgoingEvent, Surroundings
from trunkline.destinations.webhook import WebhookSender, WebhookType
from trunkline.workspace.model import DeliveryOptions, Destination

NOW_S = 1_800_000_000
LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"),))

T = TypeVar("T")


class StillClock:
    def now_ms(self) -> int:
        return NOW_S * 1000

    def monotonic_s(self) -> float:
        return 0.0


def events(count: int) -> list[OutgoingEvent]:
    return [event(f"m{number}") for number in range(count)]


def event(message_id: str) -> OutgoingEvent:
    body = f'{{"messageId":"{message_id}","type":"track","event":"Ünïcode, [x]"}}'.encode()
    return OutgoingEvent(message_id, "web", "track", "Ünïcode", body)


def sender_of(url: str, http: HttpClient, *, delivery: DeliveryOptions | None = None, **settings: Any) -> WebhookSender:
    """A sender of checked settings."""
    settings = {"url": url, **settings}
    assert WebhookType().check_settings(settings) == []
    options = delivery or DeliveryOptions()
    destination = Destination("hook", "Hook", "webhook", ("web",), True, settings, options)
    return WebhookType().open(destination, Surroundings(http, Path("/nonexistent"), StillClock()))


def with_sender(
    url: str,
    use: Callable[[WebhookSender], Awaitable[T]],
    *,
    delivery: DeliveryOptions | None = None,
    policy: EgressPolicy = LOOPBACK,
    **settings: Any,
) -> T:
    """What ``use`` returns of a sender with a real client."""

    async def run() -> T:
        client = GuardedClient(lambda: policy, timeout_s=5)
        try:
            return await use(sender_of(url, client, delivery=delivery, **settings))
        finally:
            await client.close()

    return asyncio.run(run())


def send(url: str, batch: Sequence[OutgoingEvent], **how: Any) -> list[Outcome]:
    """The outcomes of one call of ``send``."""

    async def use(sender: WebhookSender) -> Sequence[Outcome]:
        return await sender.send(batch)

    return list(with_sender(url, use, **how))
