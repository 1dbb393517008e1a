"""Replays from an archive in memory to scripted destinations, on simulated time, committed and crashed at will."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec

from trunkline.archive.errors import ArchiveCorrupt, ObjectMissing, StoreError
from trunkline.archive.reader import ArchivedEvent, ArchiveReader, Member
from trunkline.delivery.accepted import EnvelopeReader
from trunkline.delivery.breaker import BreakerSettings
from trunkline.delivery.budget import LaneShare, MemoryBudget
from trunkline.delivery.dispatch import DeliveryDefaults, Dispatcher
from trunkline.delivery.feed import Feed
from trunkline.delivery.gate import Gate, GateSettings
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.delivery.pace import Pace
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.kit import DELIVERED_OUTCOME, BatchRules, Outcome, OutgoingEvent, Result, Sender
from trunkline.replay.books import ReplayBooks, check_replays
from trunkline.replay.model import ReplaySpec, Wanted, plan_path, read_spec, replay_ids, write_spec
from trunkline.replay.plan import PlanWriter
from trunkline.replay.survey import Selection, Survey, survey
from trunkline.runtime.replays import Replays
from trunkline.runtime.state_writer import StateWriter
from trunkline.state.base import Changes, place_of
from trunkline.testing.memory_state import MemoryStateStore
from trunkline.testing.simulated_time import START_MS, SimulatedClock, run_simulated
from trunkline.workspace.model import DeliveryOptions, Destination, Snapshot, Source

QUICK = RetryPolicy(first_wait_s=0.01, growth=1.0, longest_wait_s=0.02, max_attempts=1000)
NEVER_OPENS = BreakerSettings(least_outcomes=1 << 60)
RETRY = Outcome(Result.RETRY, "503")
FAILED = Outcome(Result.FAILED, "400")
OK = DELIVERED_OUTCOME
HOUR_MS = 3_600_000

Answer = Callable[[str, str, int], Outcome]
"""(destination, messageId, how many attempts came before) to the outcome."""


class MemoryArchive:
    """The archive's twin: members of events, any of which may be missing, damaged or out of reach."""

    def __init__(self) -> None:
        self.missing: set[int] = set()
        self.corrupt: set[int] = set()
        self.down = False
        self.reads: Counter[int] = Counter()
        self._members: list[Member] = []
        self._events: dict[int, list[ArchivedEvent]] = {}
        self._next_place = place_of(7, 0)

    def add(
        self, source: str, *ids: str, kind: str = "track", name: str = "E", at_ms: int = START_MS - HOUR_MS
    ) -> Member:
        """One member; an id may say type and name, ``page/Home/id``. Places leave gaps, as the log's do."""
        number = len(self._members)
        position = (number // 3 + 1) << 16 | number % 3
        events = []
        for line, text in enumerate(ids):
            parts = text.split("/")
            type_, name_, message_id = (parts[0], parts[1], parts[2]) if len(parts) == 3 else (kind, name, text)
            body: dict[str, Any] = {"messageId": message_id, "type": type_, "integrations": {"All": True}}
            self._next_place += 1 if line % 5 else 3 << 12
            events.append(
                ArchivedEvent(
                    line,
                    self._next_place,
                    json.dumps(body).encode(),
                    source,
                    at_ms + line,
                    message_id,
                    type_,
                    name_,
                    "0",
                )
            )
        member = Member(
            position >> 16,
            position & 0xFFFF,
            "0",
            source,
            f"key{number}",
            0,
            1,
            len(events),
            events[0].received_at_ms,
            events[-1].received_at_ms,
            events[0].place,
            events[-1].place,
        )
        self._members.append(member)
        self._events[member.position] = events
        return member

    def places(self) -> dict[str, int]:
        """By messageId."""
        return {event.message_id: event.place for events in self._events.values() for event in events}

    def members(
        self,
        *,
        sources: Sequence[str] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Member]:
        for member in self._members:
            if (
                (sources is None or member.source in sources)
                and (since_ms is None or member.last_received_at_ms >= since_ms)
                and (until_ms is None or member.first_received_at_ms < until_ms)
                and start <= member.position < (1 << 62 if stop is None else stop)
            ):
                yield member

    def by_place_range(
        self, source: str, first_place: int, end_place: int, *, partition: str = "0", start: int = 0
    ) -> Iterator[Member]:
        for member in self.members(sources=[source], start=start):
            if member.last_place >= first_place and member.first_place < end_place:
                yield member

    def read_member(self, position: int) -> list[ArchivedEvent]:
        self.reads[position] += 1
        if self.down:
            raise StoreError("the store does not answer")
        if position in self.missing:
            raise ObjectMissing(f"no object for {position}")
        if position in self.corrupt:
            raise ArchiveCorrupt(f"{position} is damaged")
        return self._events[position]

    def last_position(self) -> int:
        return self._members[-1].position if self._members else 0


@dataclass
class _Sender:
    world: ReplayWorld
    destination: str
    batch: BatchRules

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        return await self.world.attempt(self.destination, events)

    async def close(self) -> None:
        self.world.closed_senders += 1


class _Writer:
    """What the runner needs of the state writer; :meth:`ReplayWorld.commit` does the rest."""

    def __init__(self, world: ReplayWorld) -> None:
        self._world = world

    @contextlib.contextmanager
    def step(self) -> Iterator[Changes]:
        yield self._world.changes

    def want(self) -> None:
        """The world commits when told to."""


def snapshot_of(*destinations: Destination) -> Snapshot:
    sources = {source for destination in destinations for source in destination.sources}
    return Snapshot(
        repr(destinations),
        "acme",
        "Acme",
        {slug: Source(slug, slug, "http", (f"wk_{slug}",)) for slug in sources},
        {destination.slug: destination for destination in destinations},
    )


def destination(
    slug: str, *, name: str = "", enabled: bool = True, max_event_age_s: float | None = None
) -> Destination:
    return Destination(
        slug, name or slug, "scripted", ("web", "app"), enabled, {}, DeliveryOptions(max_event_age_s=max_event_age_s)
    )


class ReplayWorld:
    """One worker's replays. :meth:`crash` throws away all that was not committed. Make it on a simulated loop."""

    def __init__(
        self,
        directory: Path,
        archive: MemoryArchive,
        answer: Answer = lambda destination, message_id, before: OK,
        *,
        concurrency: int = 4,
        batch: BatchRules | None = None,
        seed: int = 0,
    ) -> None:
        self.directory = directory
        self.archive = archive
        self.clock = SimulatedClock(asyncio.get_running_loop())
        self.store = MemoryStateStore()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.finals: Counter[tuple[str, str]] = Counter()
        self.times: dict[str, list[float]] = {}
        self.bodies: dict[tuple[str, str], Any] = {}
        self.busy = False
        self.latency_s = 0.001
        self.closed_senders = 0
        self.in_flight = 0
        self.unrecorded = 0
        self.forgotten = 0
        """Events that ended, or were under way, and were not committed when a worker was killed."""
        self.changes = Changes()
        self._answer = answer
        self._batch = batch or BatchRules()
        self._defaults = DeliveryDefaults(concurrency, QUICK)
        self._random = Random(seed)
        self._snapshot = snapshot_of(destination("hook"), destination("cold", enabled=False))
        self._generation = 0
        self._start()

    def _start(self) -> None:
        state = self.store.read()
        self.changes = Changes()
        self._pace = Pace()
        self._budget = MemoryBudget(1 << 28)
        self.dispatcher = Dispatcher(
            self._make_lane, self._sender_factory, cast(Callable[[int], EnvelopeReader], None), 0, self._defaults
        )
        self.replays = Replays(
            self.directory,
            state,
            self.store.rows,
            dispatcher=self.dispatcher,
            make_lane=self._make_lane,
            make_gate=self._make_gate,
            budget=self._budget,
            writer=cast(StateWriter, _Writer(self)),
            open_archive=lambda: cast(ArchiveReader, self.archive),
            busy=lambda: self.busy,
            clock=self.clock,
        )

    def _make_gate(self) -> Gate:
        return Gate(self.clock, self._random, GateSettings(self._defaults.concurrency), NEVER_OPENS)

    def _make_lane(
        self,
        slug: str,
        feed: Feed,
        gate: Gate | None = None,
        share: LaneShare | None = None,
        settings: LaneSettings | None = None,
        partition: str = "0",
    ) -> Lane:
        return Lane(
            slug,
            partition,
            feed=feed,
            gate=gate or self._make_gate(),
            pace=self._pace,
            share=share or self._budget.share(slug),
            bulk_directory=self.directory / "bulk",
            on_change=lambda lane: None,
            clock=self.clock,
            random=self._random,
            settings=settings or LaneSettings(self._defaults.policy),
        )

    def _sender_factory(self, destination: Destination) -> Callable[[], Sender]:
        return lambda: _Sender(self, destination.slug, self._batch)

    def activate(self, *destinations: Destination) -> None:
        self._snapshot = snapshot_of(*destinations)
        self.dispatcher.activate(self._snapshot, (), self.changes)
        self.replays.activate(self._snapshot, self.changes)

    async def go(self) -> None:
        """The worker is up."""
        self.activate(*self._snapshot.destinations.values())
        await self.replays.look()

    def select(
        self, replay_id: str, selection: Selection, *, to: str = "hook", rate: float | None = None, **more: Any
    ) -> Survey:
        """What the command line does."""
        with PlanWriter(plan_path(self.directory, replay_id)) as plan:
            found = survey(self.archive, selection, plan)
            plan.finish()
        spec = ReplaySpec(
            id=replay_id,
            destination=to,
            sources=list(selection.sources),
            events_per_s=rate,
            created_at_ms=self.clock.now_ms(),
            selected=found.selected,
            end=plan.end,
            **more,
        )
        write_spec(self.directory, spec)
        return found

    def want(self, replay_id: str, wanted: Wanted) -> None:
        write_spec(self.directory, msgspec.structs.replace(read_spec(self.directory, replay_id), wanted=wanted))

    async def attempt(self, destination: str, events: Sequence[OutgoingEvent]) -> list[Outcome]:
        """One request."""
        self.times.setdefault(destination, []).extend([self.clock.monotonic_s()] * len(events))
        self.in_flight += len(events)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= len(events)
        outcomes = []
        for event in events:
            key = (destination, event.message_id)
            outcome = self._answer(destination, event.message_id, self.attempts[key])
            self.attempts[key] += 1
            self.bodies[key] = json.loads(event.body)
            if outcome.result is not Result.RETRY:
                self.finals[key] += 1
                self.unrecorded += 1
            outcomes.append(outcome)
        return outcomes

    # -- committing ----------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """What the state writer does; then the books must balance."""
        changes, self.changes = self.changes, Changes()
        lanes = [*self.dispatcher.lanes.values(), *self.replays.lanes.values()]
        for lane in lanes:
            lane.collect(changes)
        self.store.commit(changes)
        for lane in lanes:
            lane.recorded()
        self.unrecorded = 0
        books, problems = self.check()
        assert problems == [], books

    def check(self) -> tuple[dict[str, ReplayBooks], list[str]]:
        return check_replays(self.store.read(), self.directory)

    def line(self, replay_id: str) -> ReplayBooks:
        return self.check()[0][replay_id]

    async def crash(self) -> None:
        """Kill the worker; its successor goes on from what was committed."""
        self._generation += 1
        self.forgotten += self.unrecorded + self.in_flight
        self.unrecorded = 0
        for lane in [*self.dispatcher.lanes.values(), *self.replays.lanes.values()]:
            lane.hold("dead")
            lane.feed.close()
            for task in lane._senders:
                task.cancel()
        self.store = self.store.reopen()
        self._start()
        await self.go()

    async def run_for(self, seconds: float) -> None:
        """Looking every second and committing every 20 ms, as a worker does."""
        left = round(seconds / 0.02)
        for step in range(left):
            await asyncio.sleep(0.02)
            self.commit()
            if step % 50 == 0:
                await self.replays.look()

    async def settle(self) -> None:
        """Until all replays have ended."""
        async with asyncio.timeout(100_000):
            while True:
                await self.run_for(1)
                books, _ = self.check()
                if not any(line.pending for line in books.values()) and not self.replays.lanes:
                    assert set(books) == set(replay_ids(self.directory))
                    return

    async def close(self) -> None:
        self.replays.stop()
        lanes = [*self.dispatcher.lanes.values(), *self.replays.lanes.values()]
        await asyncio.gather(*(lane.drain(0) for lane in lanes))
        await asyncio.gather(*(lane.close() for lane in self.dispatcher.lanes.values()))
        await self.replays.close()


def simulate(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_simulated(test())


WEB = Selection(["web"])
BOTH = Selection(["web", "app"])


def narrowed(selection: Selection, **more: Any) -> Selection:
    return replace(selection, **more)
