"""Lanes between an accepted log and scripted senders, committed and crashed at the test's will.

With ``commit_every_s`` the world commits by itself, as the worker does; a commit takes ``commit_takes_s``, and what
fails is tried again unchanged while all lanes are held.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from trunkline.clock import Clock, SystemClock
from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.delivery.breaker import BreakerSettings
from trunkline.delivery.budget import MemoryBudget
from trunkline.delivery.dispatch import DeliveryDefaults, Dispatcher
from trunkline.delivery.feed import Feed
from trunkline.delivery.gate import Gate, GateSettings
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.delivery.pace import Pace
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.kit import (
    DELIVERED_OUTCOME,
    SINGLE_EVENTS,
    BatchRules,
    BulkBatch,
    BulkRules,
    Outcome,
    OutgoingEvent,
    Result,
    Sender,
)
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.records import RECORD_VERSION, AcceptedEvent, Envelope, encode_envelope
from trunkline.runtime.connections import Connections
from trunkline.spec.outcomes import DELIVERED
from trunkline.spec.outcomes import FAILED as FAILED_EVENTS
from trunkline.state.base import Changes, RecordCounts, StateError
from trunkline.testing.memory_log import MemoryLog
from trunkline.testing.memory_state import MemoryStateStore
from trunkline.workspace.model import Snapshot

QUICK = RetryPolicy(first_wait_s=0.001, growth=1.0, longest_wait_s=0.002, max_attempts=1000)
NEVER_OPENS = BreakerSettings(least_outcomes=1 << 60)
RETRY = Outcome(Result.RETRY, "503")
FAILED = Outcome(Result.FAILED, "400")
HANG = None

STATE_TROUBLE: Final = "state trouble"
COMMIT_AGAIN_S: Final = 1.0
WATCH_S: Final = 0.5

Answer = Callable[[str, str, int], Outcome | None]
"""(destination, messageId, how many attempts came before) to the outcome; None hangs until let go or cancelled."""
Peer = Callable[[str, Sequence[str]], Awaitable[Sequence[Outcome]]]
"""(destination, the messageIds of a request) to an outcome each, after as long as it likes."""
BulkPeer = Callable[[str, BulkBatch, Sequence[str]], Awaitable[Outcome]]
"""(destination, batch, its messageIds) to the outcome."""


class ScriptedSender:
    """Does what the script says; the world records every attempt and every final outcome that it gave."""

    def __init__(self, world: World, destination: str) -> None:
        self._world = world
        self._destination = destination
        self.batch = world.batches.get(destination, SINGLE_EVENTS)

    async def send(self, events: Sequence[OutgoingEvent]) -> Sequence[Outcome]:
        return await self._world.request(self._destination, [event.message_id for event in events])

    async def close(self) -> None:
        self._world.closed_senders += 1


class ScriptedBulkSender(ScriptedSender):
    """Has the bulk capability; whether it is asked for is the world's."""

    @property
    def bulk(self) -> BulkRules | None:
        return self._world.bulk.get(self._destination)

    async def send_bulk(self, batch: BulkBatch) -> Outcome:
        return await self._world.bulk_request(self._destination, batch)


class World:
    """One partition, one worker's dispatcher. :meth:`crash` throws away all that was not committed."""

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        concurrency: int = 4,
        kafka_like: bool = False,
        policy: RetryPolicy = QUICK,
        seed: int = 0,
        clock: Clock | None = None,
        breaker: BreakerSettings = NEVER_OPENS,
        bulk_directory: Path = Path("/nonexistent"),
        peer: Peer | None = None,
        bulk_peer: BulkPeer | None = None,
        batches: Mapping[str, BatchRules] | None = None,
        bulk: Mapping[str, BulkRules] | None = None,
        commit_every_s: float | None = None,
        commit_takes_s: float = 0.0,
    ) -> None:
        self._bulk_directory = bulk_directory
        self._breaker = breaker
        self.clock = clock or SystemClock()
        self.log = MemoryLog(kafka_like=kafka_like, seed=seed, clock=self.clock)
        self.log.duplicates = False
        self.store = MemoryStateStore()
        self.batches = dict(batches or {})
        self.bulk = dict(bulk or {})
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.finals: Counter[tuple[str, str]] = Counter()
        self.ends: dict[tuple[str, str], set[Result]] = {}
        self.requests: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self.closed_senders = 0
        self.unrecorded = 0
        self.forgotten = 0
        self.commits = 0
        self.crashes = 0
        self.prepare_fails = False
        self.commit_every_s = commit_every_s
        self.commit_takes_s = commit_takes_s
        self._answer = answer
        self._peer = peer
        self._bulk_peer = bulk_peer
        self._let_go = asyncio.Event()
        self._defaults = DeliveryDefaults(concurrency, policy)
        self._random = Random(seed)
        self._appender = self.log.appender(ACCEPTED, "0")
        self._ingested = 0
        self._generation = 0
        self._committing: asyncio.Task[None] | None = None
        self._start()

    # -- the worker's part -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        state = self.store.read()
        self.changes = Changes()
        self._touched: set[Lane] = set()
        self._failed: tuple[Changes, list[Lane]] | None = None
        self._writing: tuple[Changes, list[Lane]] | None = None
        self._recording = 0
        self.connections = Connections(state.intervals)
        self._pace = Pace()
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
        return ScriptedBulkSender(self, slug)

    def _make_lane(self, slug: str, feed: Feed) -> Lane:
        generation = self._generation
        return Lane(
            slug,
            "0",
            feed=feed,
            gate=Gate(self.clock, self._random, GateSettings(self._defaults.concurrency), self._breaker),
            pace=self._pace,
            share=self._budget.share(f"{slug} {len(self._budget._lanes)}"),
            bulk_directory=self._bulk_directory / slug,
            on_change=lambda lane: self._touch(lane) if generation == self._generation else None,
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
        self._want_commit()

    def append(self, *events: tuple[str, str], size_bytes: int = 0) -> None:
        """One envelope of (source, messageId), dispatched at once; bodies are padded to so many bytes."""
        now_ms = self.clock.now_ms() if self.commit_every_s is not None else 0
        survivors = [
            AcceptedEvent(
                source,
                now_ms,
                message_id,
                "track",
                "E",
                (b'{"messageId":"' + message_id.encode() + b'"').ljust(max(0, size_bytes - 1)) + b"}",
            )
            for source, message_id in events
        ]
        self.append_events(survivors)

    def append_events(self, survivors: list[AcceptedEvent]) -> None:
        """One envelope, dispatched at once."""
        envelope = Envelope(
            RECORD_VERSION, 1, "0", "shared", self._ingested, self._ingested + 1, "v", survivors, b"", [], []
        )
        self._ingested += 1
        [position] = self._appender.append([NewRecord(encode_envelope(envelope), envelope.counts())])
        self._dispatch(PlacedEnvelope(position, self._appender.head, envelope))

    def _dispatch(self, placed: PlacedEnvelope) -> None:
        self.changes.accepted["0"] = placed.next_position
        self.dispatcher.dispatch(placed)
        self._want_commit()

    # -- the state writer's part -----------------------------------------------------------------------------------

    def _touch(self, lane: Lane) -> None:
        self._touched.add(lane)
        self._want_commit()

    def _want_commit(self) -> None:
        if self.commit_every_s is not None and self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit_by_itself(self._generation))

    async def _commit_by_itself(self, generation: int) -> None:
        assert self.commit_every_s is not None
        wait_s = self.commit_every_s
        while self._touched or self._failed is not None or not self.changes.empty:
            await asyncio.sleep(wait_s)
            self._writing = self._take_changes()
            if self.commit_takes_s:
                await asyncio.sleep(self.commit_takes_s)
            wait_s = self.commit_every_s if self._end_write() else COMMIT_AGAIN_S
            if generation != self._generation:
                return
        self._committing = None
        if any(lane.watching for lane in self.dispatcher.lanes.values()):
            asyncio.get_running_loop().call_later(WATCH_S, self._watch, generation)

    def _end_write(self) -> bool:
        """Write what an automatic commit has taken, unless that has been done."""
        taken, self._writing = self._writing, None
        return taken is None or self._write(*taken)

    def _watch(self, generation: int) -> None:
        if generation == self._generation:
            self._touched |= {lane for lane in self.dispatcher.lanes.values() if lane.watching}
            if self._touched:
                self._want_commit()

    def _take_changes(self) -> tuple[Changes, list[Lane]]:
        """What the next commit writes; after one that failed the same again."""
        if self._failed is not None:
            return self._failed
        changes, self.changes = self.changes, Changes()
        # By hand every lane is looked at: a test need not know which has changed.
        lanes = self._touched | (set(self.dispatcher.lanes.values()) if self.commit_every_s is None else set())
        self._touched = set()
        ordered = sorted(lanes, key=lambda lane: lane.key)
        for lane in ordered:
            lane.collect(changes)
        self._recording, self.unrecorded = self._recording + self.unrecorded, 0
        return changes, ordered

    def _write(self, changes: Changes, lanes: list[Lane]) -> bool:
        try:
            for number, prepare in enumerate(changes.prepare):
                if self.prepare_fails and number == len(changes.prepare) // 2:
                    raise OSError(28, "No space left on device")
                prepare()
            self.store.commit(changes)
        except (StateError, OSError):
            if self._failed is None:
                for lane in self.dispatcher.lanes.values():
                    lane.hold(STATE_TROUBLE)
            self._failed = (changes, lanes)
            return False
        self.commits += 1
        self._recording = 0
        if self._failed is not None:
            self._failed = None
            for lane in self.dispatcher.lanes.values():
                lane.release(STATE_TROUBLE)
        for lane in lanes:
            lane.recorded()
        return True

    def commit(self) -> bool:
        """What the state writer does, without waiting. False when it failed."""
        return self._end_write() and self._write(*self._take_changes())

    def prepare_only(self) -> None:
        """The first half of a commit, to be followed by a crash."""
        changes, _ = self._take_changes()
        for prepare in changes.prepare:
            prepare()

    def crash(self, snapshot: Snapshot | None = None) -> None:
        """Kill the worker; its successor goes on from what was committed and what is in the log."""
        self.forgotten += self.unrecorded + self._recording + self.in_flight()
        self.unrecorded = 0
        self.crashes += 1
        self._generation += 1
        if self._committing is not None:
            self._committing.cancel()
            self._committing = None
        for lane in self.dispatcher.lanes.values():
            lane.hold("dead")
            for task in lane._senders:
                task.cancel()
            if lane._bulk._sending is not None:
                lane._bulk._sending.cancel()
        full = self.store.full
        self.store = self.store.reopen()
        self.store.full = full
        self._start()
        self.activate(snapshot or self.snapshot)
        reader = EnvelopeReader(self.log.reader(ACCEPTED, "0", self.dispatcher.position))
        while list_of := list(reader.read(1 << 24)):
            for placed in list_of:
                self._dispatch(placed)

    def in_flight(self) -> int:
        return sum(lane.in_flight for lane in self.dispatcher.lanes.values())

    # -- the destinations' part ------------------------------------------------------------------------------------

    async def request(self, destination: str, message_ids: list[str]) -> list[Outcome]:
        self.requests[destination] += 1
        self.under_way[destination] += 1
        self.most_under_way[destination] = max(self.under_way[destination], self.most_under_way[destination])
        try:
            if self._peer is None:
                outcomes = [await self._attempt(destination, message_id) for message_id in message_ids]
            else:
                self.attempts.update((destination, message_id) for message_id in message_ids)
                outcomes = list(await self._peer(destination, message_ids))
        finally:
            self.under_way[destination] -= 1
        for message_id, outcome in zip(message_ids, outcomes, strict=True):
            self._note(destination, message_id, outcome)
        return outcomes

    async def _attempt(self, destination: str, message_id: str) -> Outcome:
        assert self._answer is not None
        key = (destination, message_id)
        before = self.attempts[key]
        self.attempts[key] += 1
        outcome = self._answer(destination, message_id, before)
        if outcome is HANG:
            await self._let_go.wait()
            outcome = DELIVERED_OUTCOME
        else:
            await asyncio.sleep(0)
        return outcome

    def _note(self, destination: str, message_id: str, outcome: Outcome) -> None:
        if outcome.result is not Result.RETRY:
            self.finals[destination, message_id] += 1
            self.ends.setdefault((destination, message_id), set()).add(outcome.result)
            self.unrecorded += 1

    async def bulk_request(self, destination: str, batch: BulkBatch) -> Outcome:
        assert self._bulk_peer is not None
        content = batch.path.read_bytes()
        assert len(content) == batch.size_bytes, "the file holds what its row says, and no more"
        lines = content.splitlines()
        assert len(lines) == batch.events
        message_ids = [line.split(b'"')[3].decode() for line in lines]
        self.requests[destination] += 1
        self.under_way[destination] += 1
        try:
            outcome = await self._bulk_peer(destination, batch, message_ids)
        finally:
            self.under_way[destination] -= 1
        if outcome.result is not Result.RETRY:
            unrecorded = self.unrecorded
            for message_id in message_ids:
                self._note(destination, message_id, outcome)
            self.unrecorded = unrecorded  # those of bulk batches are bounded otherwise
        return outcome

    def let_go(self) -> None:
        """From now on nothing hangs any more."""
        self._let_go.set()

    # -- looking at it ---------------------------------------------------------------------------------------------

    async def ticks(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    @property
    def is_settled(self) -> bool:
        """Nothing is pending in the state, and nothing waits to be committed."""
        state = self.store.read()
        return not (state.lanes or state.row_counts or state.bulk or self.in_flight() or self._touched or self._failed)

    async def settle(self, timeout_s: float = 30, *, look_every_s: float = 0.001) -> None:
        """Commit until nothing is pending in the state."""
        async with asyncio.timeout(timeout_s):
            while True:
                if self.commit_every_s is None:
                    self.commit()
                if self.is_settled:
                    return
                await asyncio.sleep(look_every_s)

    def books(self) -> dict[tuple[str, str], int]:
        """(destination, outcome) to how many, as committed."""
        books: dict[tuple[str, str], int] = {}
        for key, count in self.store.read().lane_books.items():
            books[key.destination, key.outcome] = books.get((key.destination, key.outcome), 0) + count
        return books

    def reasons(self, destination: str) -> dict[str, int]:
        """How many events failed, by reason."""
        reasons: dict[str, int] = {}
        for key, count in self.store.read().lane_books.items():
            if key.destination == destination and key.outcome == FAILED_EVENTS:
                reasons[key.reason] = reasons.get(key.reason, 0) + count
        return reasons

    def recorded(self, destination: str, outcome: str = DELIVERED) -> RecordCounts:
        """What the delivery record counts under an outcome, all reasons together."""
        total = RecordCounts()
        for row in self.store.record(0, 1 << 62, destination=destination):
            if row.key.outcome == outcome:
                total.add(row.counts)
        return total

    def pending(self, destination: str) -> int:
        """Events of the destination that have not ended, as committed: in the log above the lane's settled set, in
        retry rows, in bulk batches."""
        state = self.store.read()
        rows = sum(count for (slug, _), count in state.row_counts.items() if slug == destination)
        bulk = sum(sum(row.events.values()) for row in state.bulk if row.destination == destination)
        lane = state.lanes.get((destination, "0"))
        mark = (lane.mark >> 12) if lane is not None else state.accepted.get("0", 0)
        intervals = [interval for interval in state.intervals if interval.destination == destination]
        in_log = 0
        reader = EnvelopeReader(self.log.reader(ACCEPTED, "0", min(mark, state.accepted.get("0", 0))))
        while placed_envelopes := deque(reader.read(1 << 24)):
            for placed in placed_envelopes:
                for index, event in enumerate(placed.envelope.survivors):
                    place = placed.position << 12 | index
                    mine = any(i.source == event.source and i.holds(place) for i in intervals)
                    settled = lane.is_settled(place) if lane is not None else place < (mark << 12)
                    in_log += mine and not settled
        return rows + bulk + in_log

    async def close(self) -> None:
        self.let_go()
        await asyncio.gather(*(lane.drain(0) for lane in self.dispatcher.lanes.values()))
        await asyncio.gather(*(lane.close() for lane in self.dispatcher.lanes.values()))
        if self._committing is not None:
            self._committing.cancel()
