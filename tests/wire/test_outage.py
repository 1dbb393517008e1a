"""The server refuses, loses answers and is killed in mid-run; every SDK delivers all by its own retries, once each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from tests.support.waiting import wait_until

from .conftest import Wire
from .kit import sdks
from .kit.browser import Chromium, Pages, stock_snippet
from .kit.calls import numbered
from .kit.proxy import LoseAnswer, Refuse
from .kit.sdks import Client, Driver, Sdk

FAULTS = (Refuse(503), Refuse(503, retry_after_s=1), Refuse(429, retry_after_s=1), LoseAnswer())
RECOVERY_TIMEOUT_S = 120.0

STEPS = 9
"""Calls of each SDK in the run."""


@dataclass
class Storm:
    """What is left after it."""

    wire: Wire
    books: dict[str, dict[str, int]]
    cut_while_dead: dict[str, int]


@pytest.fixture(scope="module")
def storm(wire: Wire, node_packages: None, chromium: Chromium, pages: Pages, browser_sdk: None) -> Iterator[Storm]:
    """All SDKs go through the same outage together, each behind a proxy of its own."""
    addresses = {name: proxy.address for name, proxy in wire.proxies.items()}
    with ExitStack() as stack:
        clients: list[Client] = []
        for sdk in sdks.PROGRAMS:
            clients.append(stack.enter_context(closing(Driver(sdk, addresses[sdk.name]))))
        snippet = stock_snippet(sdks.BROWSER.write_key, addresses[sdks.BROWSER.name])
        clients.append(stack.enter_context(closing(chromium.open(pages.add("storm", f"<script>{snippet}</script>")))))

        def call(*numbers: int) -> None:
            for client in clients:
                for number in numbers:
                    client.call(numbered(client.sdk, number))

        call(1, 2)
        await_steps(wire, 2)

        for proxy in wire.proxies.values():
            proxy.fail_next(*FAULTS)
        call(3, 4, 5)
        await_steps(wire, 5)
        await_faults(wire)
        await_answers(wire)
        # Everything sent so far is committed, so a kill can double nothing: what comes twice now is our fault.
        wire.product.wait_until_drained()

        # Now the same with a lost answer in between: the SDKs hold event 6 for unsent, the server has delivered it.
        for proxy in wire.proxies.values():
            proxy.fail_next(LoseAnswer())
            proxy.cut_off = True
        call(6)
        await_steps(wire, 6)
        wire.product.wait_until_drained()

        wire.product.kill()
        before = {name: len(proxy.attempts()) for name, proxy in wire.proxies.items()}
        for proxy in wire.proxies.values():
            proxy.cut_off = False
        call(7)
        await_attempts(wire, before)
        cut = {
            name: sum(each.status is None for each in proxy.attempts()[before[name] :])
            for name, proxy in wire.proxies.items()
        }
        wire.product.start()
        call(8, 9)
        for client in clients:
            client.finish()
        await_steps(wire, STEPS)
        wire.product.wait_until_drained()
        yield Storm(wire, wire.books(), cut)


def await_steps(wire: Wire, count: int) -> None:
    def missing() -> dict[str, list[int]]:
        return {
            sdk.name: left for sdk in sdks.ALL if (left := sorted(set(range(1, count + 1)) - set(steps_of(wire, sdk))))
        }

    wait_until(lambda: not missing(), lambda: f"all events; missing by SDK: {missing()}", timeout_s=RECOVERY_TIMEOUT_S)


def await_faults(wire: Wire) -> None:
    """An SDK that had fewer requests to send than there are faults gets the rest in its next calls."""

    def left() -> dict[str, int]:
        return {name: proxy.faults_left for name, proxy in wire.proxies.items() if proxy.faults_left}

    wait_until(lambda: not left(), lambda: f"every fault was met; left: {left()}", timeout_s=RECOVERY_TIMEOUT_S)


def await_answers(wire: Wire) -> None:
    """Each SDK knows of each event that it arrived, so that the next fault meets new events."""

    def unanswered() -> dict[str, set[str]]:
        found = {}
        for name, proxy in wire.proxies.items():
            posts = proxy.posts()
            sent = {event["messageId"] for post in posts for event in post.events()}
            answered = {event["messageId"] for post in posts if post.status == 200 for event in post.events()}
            if sent != answered:
                found[name] = sent - answered
        return found

    wait_until(
        lambda: not unanswered(),
        lambda: f"an answer for each event; none yet: {unanswered()}",
        timeout_s=RECOVERY_TIMEOUT_S,
    )


def await_attempts(wire: Wire, before: dict[str, int]) -> None:
    def silent() -> list[str]:
        return [name for name, proxy in wire.proxies.items() if len(proxy.attempts()) <= before[name]]

    wait_until(
        lambda: not silent(),
        lambda: f"every SDK tried while the server was dead; silent: {silent()}",
        timeout_s=RECOVERY_TIMEOUT_S,
    )


def steps_of(wire: Wire, sdk: Sdk) -> list[int]:
    return [event["properties"]["number"] for event in wire.events(sdk.name)]


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
def test_every_event_arrives_once(storm: Storm, sdk: Sdk) -> None:
    assert sorted(steps_of(storm.wire, sdk)) == list(range(1, STEPS + 1))


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
def test_the_outage_was_real(storm: Storm, sdk: Sdk) -> None:
    posts = storm.wire.proxies[sdk.name].posts()
    statuses = [post.status for post in posts]
    assert statuses.count(503) == 2
    assert statuses.count(429) == 1
    assert storm.cut_while_dead[sdk.name] >= 1
    ids = [event["messageId"] for post in posts for event in post.events()]
    assert len(ids) > len(set(ids)) == STEPS, "events were sent again, under their first id"


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("sdk", sdks.ALL, ids=lambda sdk: sdk.name)
def test_the_books_say_the_same(storm: Storm, sdk: Sdk) -> None:
    book = storm.books[f"hook-{sdk.name}"]
    assert book["delivered"] == STEPS
    assert book["filtered_at_source"] >= 2, "each of the two lost answers made the SDK send a duplicate"
    assert book["received"] == book["delivered"] + book["filtered_at_source"]
