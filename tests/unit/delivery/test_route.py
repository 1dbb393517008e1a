"""Routes: for any filters and events a lane gets what its stages alone would let through, and counts the rest."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.unit.delivery.lane_setup import snapshot_of, tight_lanes
from tests.unit.delivery.lane_world import World
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome
from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.gate import compile_gate
from trunkline.spec.discards import Discard
from trunkline.spec.filters import Filter
from trunkline.spec.outcomes import DELIVERED, FILTERED_AT_DESTINATION
from trunkline.workspace.model import Snapshot

FILTERS: tuple[tuple[Filter, ...], ...] = (
    (),
    (Filter('event = "A"', "only_send"),),
    (Filter('event = "A" or event = "B"', "only_send"),),
    (Filter('type = "track" and event = "B"', "only_send"),),
    (Filter('type = "identify"', "only_send"),),
    (Filter('event = "A"', "drop"),),
    (Filter('type = "page"', "drop"), Filter("properties.n > 2", "only_send")),
    (Filter("all", "drop_properties", fields={"properties": ("n",)}),),
    (Filter("properties.n = 1", "drop"), Filter("all", "allow_properties", fields={"": ("messageId", "event")})),
    (Filter("all", "drop"),),
)


def snapshot(number_of_sources: int) -> Snapshot:
    sources = ["web", "app"][:number_of_sources]
    plain = snapshot_of({f"d{number}": sources for number in range(len(FILTERS))})
    destinations = {
        slug: dataclasses.replace(
            destination, filters=FILTERS[number], consent_categories=("ads",) if number % 3 == 0 else ()
        )
        for number, (slug, destination) in enumerate(plain.destinations.items())
    }
    return dataclasses.replace(plain, destinations=destinations)


def random_event(random: Random, number: int, sources: int) -> AcceptedEvent:
    kind = random.choice(["track", "track", "track", "identify", "page"])
    fields: dict[str, Any] = {"messageId": f"m{number}", "type": kind, "properties": {"n": random.randrange(4)}}
    if kind == "track" or random.random() < 0.1:
        fields["event"] = random.choice("ABC")
    if random.random() < 0.3:
        fields["integrations"] = random.choice([{}, {"All": False}, {"All": False, "d2": True}, {"d1": False}])
    if random.random() < 0.2:
        fields["context"] = {"consent": {"categoryPreferences": {"ads": random.random() < 0.5}}}
    name = str(fields.get("event", "")) if kind == "track" else ""
    body = json.dumps(fields, separators=(",", ":")).encode()
    return AcceptedEvent(random.choice(["web", "app"][:sources]), 0, f"m{number}", kind, name, body)


def expected(workspace: Snapshot, events: list[AcceptedEvent]) -> tuple[set[tuple[str, str]], Counter[str]]:
    """By the stages alone, event by event."""
    delivered, refused = set(), Counter[str]()
    for slug, destination in workspace.destinations.items():
        for event in events:
            stage = compile_gate(destination, event.source, workspace.consent_categories, Random(0))
            if isinstance(stage.passes(json.loads(event.body), event.body), Discard):
                refused[slug] += 1
            else:
                delivered.add((slug, event.message_id))
    return delivered, refused


def deliver(destination: str, message_id: str, before: int) -> Outcome:
    return DELIVERED_OUTCOME


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_lane_gets_what_its_stages_let_through(sources: int, tight: bool, seed: int) -> None:
    """Handed over or read from the log, with crashes in between."""

    async def test() -> None:
        random = Random(seed)
        world = World(deliver, seed=seed)
        workspace = snapshot(sources)
        world.activate(workspace)
        events: list[AcceptedEvent] = []
        for _ in range(12):
            envelope = [random_event(random, len(events) + number, sources) for number in range(random.randrange(1, 9))]
            events += envelope
            world.append_events(envelope)
            await asyncio.sleep(0)
            if random.random() < 0.3:
                world.commit()
            if random.random() < 0.2:
                world.crash()
        await world.settle()
        await world.close()
        delivered, refused = expected(workspace, events)
        assert {key for key, count in world.finals.items() if count} == delivered
        books = world.books()
        assert {
            slug: count for (slug, outcome), count in books.items() if outcome == FILTERED_AT_DESTINATION
        } == refused
        assert {slug: count for (slug, outcome), count in books.items() if outcome == DELIVERED} == Counter(
            slug for slug, _ in delivered
        )

    with tight_lanes(queue_events=3) if tight else tight_lanes(read_bytes=1 << 20):
        asyncio.run(test())


def books_of(world: World, wanted: str) -> dict[str, int]:
    return {slug: count for (slug, outcome), count in world.books().items() if outcome == wanted}
