"""What a destination costs that does not want an event: one source, 1,000 destinations each of which wants one event by
name, and events that none wants (what a taken event costs is measured elsewhere). In one process: the dispatcher, its
lanes and the commit to a real state store."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.support import HEADER, Row
from trunkline.clock import SystemClock
from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.delivery.budget import MemoryBudget
from trunkline.delivery.dispatch import DeliveryDefaults, Dispatcher
from trunkline.delivery.feed import Feed
from trunkline.delivery.gate import Gate, GateSettings
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.delivery.pace import Pace
from trunkline.destinations.kit import DELIVERED_OUTCOME, SINGLE_EVENTS, Outcome, OutgoingEvent
from trunkline.log.base import ACCEPTED
from trunkline.log.records import RECORD_VERSION, AcceptedEvent, Envelope
from trunkline.runtime.connections import Connections
from trunkline.spec.filters import ONLY_SEND, Filter
from trunkline.state.base import Changes
from trunkline.state.sqlite import SqliteStateStore
from trunkline.testing.memory_log import MemoryLog
from trunkline.workspace.model import Destination, Snapshot, Source

DESTINATIONS = 1_000
ENVELOPES = 100
EVENTS = 100
ENVELOPES_A_COMMIT = 10
"""With so many lanes commits come 0.2 s apart or more, so at 5,000 events a second one finds 10 envelopes of 100 events
or more."""


def workspace(destinations: int) -> Snapshot:
    return Snapshot(
        "v",
        "acme",
        "Acme",
        {"web": Source("web", "web", "http", ("wk",))},
        {
            f"d{number}": Destination(
                f"d{number}",
                f"d{number}",
                "webhook",
                ("web",),
                True,
                {},
                filters=(Filter(f'event = "E{number}"', ONLY_SEND),),
            )
            for number in range(destinations)
        },
    )


def envelope(random: Random, position: int) -> PlacedEnvelope:
    events = []
    for number in range(EVENTS):
        name = f"E{DESTINATIONS + random.randrange(DESTINATIONS)}"
        message_id = f"m{position}-{number}"
        body = f'{{"messageId":"{message_id}","type":"track","event":"{name}","properties":{{"a":"{"x" * 800}"}}}}'
        events.append(AcceptedEvent("web", 0, message_id, "track", name, body.encode()))
    content = Envelope(RECORD_VERSION, 1, "0", "shared", position, position + 1, "v", events, b"", [], [])
    return PlacedEnvelope(position, position + 1, content)


class Instant:
    """A sender to which everything is delivered at once."""

    batch = SINGLE_EVENTS

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        return [DELIVERED_OUTCOME] * len(events)

    async def close(self) -> None:
        """Nothing is open."""


async def cpu_s(directory: Path, destinations: int) -> float:
    """CPU of handing out all envelopes and committing what came of them."""
    clock, random, log = SystemClock(), Random(1), MemoryLog()
    log.appender(ACCEPTED, "0")
    store = SqliteStateStore(directory / f"{destinations}.db")
    budget = MemoryBudget(1 << 30)
    pace = Pace()
    touched: set[Lane] = set()

    def make(slug: str, feed: Feed) -> Lane:
        return Lane(
            slug,
            "0",
            feed=feed,
            gate=Gate(clock, random, GateSettings()),
            pace=pace,
            share=budget.share(slug),
            bulk_directory=directory,
            on_change=touched.add,
            clock=clock,
            random=random,
            settings=LaneSettings(),
        )

    dispatcher = Dispatcher(
        make,
        lambda destination: Instant,
        lambda position: EnvelopeReader(log.reader(ACCEPTED, "0", position)),
        0,
        DeliveryDefaults(),
    )
    changes = Changes()
    snapshot = workspace(destinations)
    connections = Connections([])
    connections.switch(snapshot, changes, now_ms=0, accepted_position=0, received={}, books={})
    dispatcher.activate(snapshot, connections.intervals, changes)
    store.commit(changes)
    placed = [envelope(random, number + 1) for number in range(ENVELOPES)]
    began_s = time.process_time()
    for number, one in enumerate(placed):
        dispatcher.dispatch(one)
        if number % ENVELOPES_A_COMMIT == 0:
            changes = Changes()
            recorded = [lane for lane in touched if lane.collect(changes)]
            touched.clear()
            store.commit(changes)
            for lane in recorded:
                lane.recorded()
    used_s = time.process_time() - began_s
    store.close()
    return used_s


def row() -> Row:
    with tempfile.TemporaryDirectory(prefix="trunkline-routes-") as folder:
        many = asyncio.run(cpu_s(Path(folder), DESTINATIONS))
        one = asyncio.run(cpu_s(Path(folder), 1))
    pairs = ENVELOPES * EVENTS * (DESTINATIONS - 1)
    cost_us = (many - one) / pairs * 1e6
    return Row(
        "CPU per (event, destination) that its filter leaves out, 1,000 destinations",
        f"{cost_us:.3f} µs",
        "—",
        None,
        "0.1 µs (aim 0.01)",
        [f"{(many - one) / ENVELOPES / EVENTS * 1e6:.0f} µs an event for all together, commits included"],
    )


def main() -> None:
    if "--quick" in sys.argv:
        global ENVELOPES
        ENVELOPES = 20
    print(f"{HEADER}\n{row()}")


if __name__ == "__main__":
    main()
