"""Lanes between an accepted log and scripted senders, committed and crashed at the test's will."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from unittest.mock import patch

from trunkline.clock import Clock, SystemClock
from trunkline.delivery import feed as feed_module
from trunkline.delivery import lane as lane_module
from trunkline.delivery import ledger as ledger_module
from trunkline.delivery import queue as queue_module
from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.delivery.breaker import BreakerSettings
from trunkline.delivery.budget import MemoryBudget
from trunkline.delivery.dispatch import DeliveryDefaults, Dispatcher
from trunkline.delivery.feed import Feed
from trunkline.delivery.gate import Gate, GateSettings
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.kit import DELIVERED_OUTCOME, SINGLE_EVENTS, Outcome, OutgoingEvent, Result, Sender
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.records import RECORD_VERSION, AcceptedEvent, Envelope, encode_envelope
from trunkline.runtime.connections import Connections
from trunkline.state.base import Changes
from trunkline.testing.memory_log import MemoryLog
from trunkline.testing.memory_state import MemoryStateStore
from trunkline.workspace.model import Destination, Snapshot, Source

QUICK = RetryPolicy(first_wait_s=0.001, growth=1.0, longest_wait_s=0.002, max_attempts=1000)
NEVER_OPENS = BreakerSettings(least_outcomes=1 << 60)
RETRY = Outcome(Result.RETRY, "503")
FAILED = Outcome(Result.FAILED, "400")
HANG = None

Answer = Callable[[str, str, int], Outcome | None]
"""(destination, messageId, how many attempts came before) to the outcome; None hangs until let go or cancelled."""


def snapshot_of(destinations: Mapping[str, Sequence[str]], *, disabled: Sequence[str] = ()) -> Snapshot:
    """Destinations with their sources."""
    sources = {source for names in destinations.values() for source in names}
    return Snapshot(
        version=repr((destinations, tuple(disabled))),
        slug="acme",
        name="Acme",
        sources={slug: Source(slug, slug, "http", (f"wk_{slug}",)) for slug in sources},
        destinations={
            slug: Destination(slug, slug, "scripted", tuple(names), slug not in disabled, {})
            for slug, names in destinations.items()
        },
    )


@contextlib.contextmanager
def tight_lanes(queue_events: int = 10_000, rows: int = 10_000, row_after_s: float = 1.0) -> Iterator[None]:
    """Lanes that fall behind, hit their cap and make rows sooner than in life."""
    with (
        patch.object(queue_module, "QUEUE_EVENTS", queue_events),
        patch.object(ledger_module, "ROWS_CAP", rows),
        patch.object(lane_module, "ROW_AFTER_S", row_after_s),
        patch.object(feed_module, "READ_BYTES", 200),
    ):
        yield


class ScriptedSender:
    """Does what the script says; records every attempt and every final outcome that it gave."""

    batch = SINGLE_EVENTS

    def __init__(self, world: World, destination: str) -> None:
        self._world = world
        self._destination = destination

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        return [await self._world.attempt(self._destination, event.message_id) for event in events]

    async def close(self) -> None:
        self._world.closed_senders += 1


class World:
    """One partition, one worker's dispatcher. :meth:`crash` throws away all that was not committed."""

    def __init__(
        self,
        answer: Answer,
        *,
        concurrency: int = 4,
        kafka_like: bool = False,
        policy: RetryPolicy = QUICK,
        seed: int = 0,
        clock: Clock | None = None,
        breaker: BreakerSettings = NEVER_OPENS,
        bulk_directory: Path = Path("/nonexistent"),
    ) -> None:
        self._bulk_directory = bulk_directory
        self._breaker = breaker
        self.clock = clock or SystemClock()
        self.log = MemoryLog(kafka_like=kafka_like, seed=seed)
        self.log.duplicates = False
        self.store = MemoryStateStore()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.finals: Counter[tuple[str, str]] = Counter()
        self.closed_senders = 0
        self.unrecorded = 0
        self.forgotten = 0
        self._answer = answer
        self._let_go = asyncio.Event()
        self._hanging = 0
        self._defaults = DeliveryDefaults(concurrency, policy)
        self._random = Random(seed)
        self._appender = self.log.appender(ACCEPTED, "0")
        self._ingested = 0
        self._generation = 0
        self._start()

    # -- the worker's part -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        state = self.store.read()
        self.changes = Changes()
        self.connections = Connections(state.intervals)
        self._budget = MemoryBudget(1 << 28)
        self.dispatcher = Dispatcher(
            self._make_lane,
            lambda d: lambda: self._sender(d.slug),
            lambda position: EnvelopeReader(self.log.reader(ACCEPTED, "0", position)),
            state.accepted.get("0", 0),
            self._defaults,
        )
        slugs = {interval.destination for interval in state.intervals if interval.closed_at_ms is None}
        slugs |= {slug for slug, _ in state.lanes} | {slug for slug, _ in state.row_counts}
        slugs |= {row.destination for row in state.bulk}
        for slug in sorted(slugs):
            intervals = [interval for interval in state.intervals if interval.destination == slug]
            bulk = [row for row in state.bulk if row.destination == slug]
            self.dispatcher.adopt(slug, intervals, state.lanes.get((slug, "0")), self.store.rows(slug), bulk)

    def _sender(self, slug: str) -> Sender:
        return ScriptedSender(self, slug)

    def _make_lane(self, slug: str, feed: Feed) -> Lane:
        return Lane(
            slug,
            "0",
            feed=feed,
            gate=Gate(self.clock, self._random, GateSettings(self._defaults.concurrency), self._breaker),
            share=self._budget.share(slug),
            bulk_directory=self._bulk_directory / slug,
            on_change=lambda lane: None,
            clock=self.clock,
            random=self._random,
            settings=LaneSettings(self._defaults.policy),
        )

    def activate(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.connections.switch(
            snapshot,
            self.changes,
            now_ms=0,
            accepted_position=self.dispatcher.position,
            received={},
            books={},
        )
        self.dispatcher.activate(snapshot, self.connections.intervals, self.changes)

    def append(self, *events: tuple[str, str]) -> None:
        """One envelope of (source, messageId), dispatched at once."""
        survivors = [
            AcceptedEvent(source, 0, message_id, "track", "E", b'{"messageId":"' + message_id.encode() + b'"}')
            for source, message_id in events
        ]
        envelope = Envelope(
            RECORD_VERSION, 1, "0", "shared", self._ingested, self._ingested + 1, "v", survivors, b"", [], []
        )
        self._ingested += 1
        [position] = self._appender.append([NewRecord(encode_envelope(envelope), envelope.counts())])
        self._dispatch(PlacedEnvelope(position, self._appender.head, envelope))

    def _dispatch(self, placed: PlacedEnvelope) -> None:
        self.changes.accepted["0"] = placed.next_position
        self.dispatcher.dispatch(placed)

    def commit(self) -> None:
        """What the state writer does, without waiting."""
        changes, self.changes = self.changes, Changes()
        for lane in self.dispatcher.lanes.values():
            lane.collect(changes)
        for prepare in changes.prepare:
            prepare()
        self.store.commit(changes)
        for lane in self.dispatcher.lanes.values():
            lane.recorded()
        self.unrecorded = 0

    def crash(self) -> None:
        """Kill the worker; its successor goes on from what was committed and what is in the log."""
        self.forgotten += self.unrecorded + self.in_flight()
        self.unrecorded = 0
        self._generation += 1
        for lane in self.dispatcher.lanes.values():
            lane.hold("dead")
            for task in lane._senders:
                task.cancel()
        self.store = self.store.reopen()
        self._start()
        self.activate(self.snapshot)
        reader = EnvelopeReader(self.log.reader(ACCEPTED, "0", self.dispatcher.position))
        for placed in reader.read(1 << 30):
            self._dispatch(placed)

    def in_flight(self) -> int:
        return sum(len(flight.items) for lane in self.dispatcher.lanes.values() for flight in lane._flights)

    # -- the destinations' part ------------------------------------------------------------------------------------

    async def attempt(self, destination: str, message_id: str) -> Outcome:
        key = (destination, message_id)
        before = self.attempts[key]
        self.attempts[key] += 1
        outcome = self._answer(destination, message_id, before)
        if outcome is HANG:
            await self._let_go.wait()
            outcome = DELIVERED_OUTCOME
        else:
            await asyncio.sleep(0)
        if outcome.result is not Result.RETRY:
            self.finals[key] += 1
            self.unrecorded += 1
        return outcome

    def let_go(self) -> None:
        """From now on nothing hangs any more."""
        self._let_go.set()

    # -- looking at it ---------------------------------------------------------------------------------------------

    async def ticks(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def settle(self, timeout_s: float = 30) -> None:
        """Commit until nothing is pending in the state."""
        async with asyncio.timeout(timeout_s):
            while True:
                self.commit()
                state = self.store.read()
                if not state.lanes and not state.row_counts and not self.in_flight():
                    return
                await asyncio.sleep(0.001)

    def books(self) -> dict[tuple[str, str], int]:
        """(destination, outcome) to how many, as committed."""
        books: dict[tuple[str, str], int] = {}
        for key, count in self.store.read().lane_books.items():
            books[key.destination, key.outcome] = books.get((key.destination, key.outcome), 0) + count
        return books

    async def close(self) -> None:
        self.let_go()
        await asyncio.gather(*(lane.drain(0) for lane in self.dispatcher.lanes.values()))
        await asyncio.gather(*(lane.close() for lane in self.dispatcher.lanes.values()))
