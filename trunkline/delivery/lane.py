"""A lane: everything between the accepted log and one destination's sender.

A lane that keeps up is handed decoded envelopes and owns no state. Its *window* holds the events that it took, in
order, from the first that is not settled; the low-water mark is that first one's place. An event that waits for a
retry, or whose attempt lasts for over a second, gets a row of its own and is settled for the window, so the mark never
waits for one event. A lane whose queue is full falls *behind*: it reads the log by itself until it has caught up. One
whose circuit is open stands still: its events wait in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import structlog

from trunkline.clock import Clock
from trunkline.delivery.budget import LaneShare
from trunkline.delivery.bulk import BulkLine
from trunkline.delivery.circuit_time import CircuitTime
from trunkline.delivery.complaints import Complaints
from trunkline.delivery.feed import Feed
from trunkline.delivery.flight import Flight
from trunkline.delivery.gate import Gate
from trunkline.delivery.intake import LaneIntake
from trunkline.delivery.ledger import Ledger
from trunkline.delivery.pace import Pace
from trunkline.delivery.queue import LaneQueue, take_batch
from trunkline.delivery.retry import RetryPolicy
from trunkline.delivery.sender_slot import SenderSlot
from trunkline.delivery.unrecorded import UnrecordedRequests
from trunkline.delivery.waiting import ROUNDING_S, WaitingEvents, event_of, held_up_s
from trunkline.delivery.wake_timer import WakeTimer
from trunkline.delivery.window import LaneEvent
from trunkline.destinations.kit import DELIVERED_OUTCOME, BatchRules, Outcome, OutgoingEvent, Result, Sender
from trunkline.spec.outcomes import DESTINATION_DELETED
from trunkline.state.base import BulkRow, Changes, LaneState, RetryRow

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What bounds a lane."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    background: bool = False
    """A replay: gives way to the live lane of its destination."""


class Lane:
    """See the module. All methods are called on the worker's loop; none but :meth:`drain` waits."""

    def __init__(
        self,
        key: str,
        partition: str,
        *,
        feed: Feed,
        gate: Gate,
        pace: Pace,
        share: LaneShare,
        bulk_directory: Path,
        on_change: Callable[[Lane], None],
        clock: Clock,
        random: Random,
        settings: LaneSettings,
    ) -> None:
        """``key`` names the lane in the state: the destination's slug, or a replay's key. ``share`` is the lane's part
        of the memory for queues, ``bulk_directory`` a folder of its own; ``on_change`` is called when there is
        something to commit."""
        self.key = key
        self.partition = partition
        self.gate = gate
        self._pace = pace
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._settings = settings
        self._sender = SenderSlot()
        self._queue = LaneQueue(share)
        self._flights: set[Flight] = set()
        self._waiting = WaitingEvents(clock)
        self._senders: set[asyncio.Task[None]] = set()
        self._timer = WakeTimer(self.wake)
        self._persisted: LaneState | None = None
        self._changed = False
        self._unrecorded = UnrecordedRequests()
        self._held_by: set[str] = set()
        self._circuit = CircuitTime(gate.breaker, clock)
        self._deleted = False
        self._ledger = Ledger(key, partition, clock)
        self._bulk = BulkLine(
            self._ledger,
            gate,
            self._circuit,
            bulk_directory,
            clock=clock,
            random=random,
            open_sender=self._sender.opened,
            on_change=self._bulk_changed,
            wake_in=self._timer.wake_in,
        )
        self.intake = LaneIntake(
            feed,
            self._queue,
            self._bulk,
            self._ledger,
            clock,
            on_change=self._change,
            on_counts=lambda: on_change(self),
            wake=self.wake,
        )
        self._complaints = Complaints(key, clock)

    @property
    def feed(self) -> Feed:
        return self.intake.feed

    def configure(self, settings: LaneSettings) -> None:
        """Use this policy from the next outcome on."""
        self._settings = settings
        self._configure_bulk()

    def _configure_bulk(self) -> None:
        rules = None if self._settings.background else self._sender.bulk_rules
        self._bulk.configure(rules, self._settings.policy)

    def restore(self, state: LaneState | None, rows: Iterable[RetryRow], bulk: Iterable[BulkRow] = ()) -> None:
        """Go on where the last commit left the lane."""
        self._persisted = state
        if state is not None:
            self.feed.restore(state)
        self._bulk.restore(bulk)
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        for row in rows:
            event = event_of(row, now_ms, now_s, self._settings.policy.window_s)
            self._ledger.restored(row)
            self._waiting.push(event)

    # -- when to send --------------------------------------------------------------------------------------------

    @property
    def has_waiting(self) -> bool:
        """Whether there is an event that could be sent if the gate let it through."""
        if self._held_by:
            return False
        if self._queue:
            return True
        return len(self._waiting) > 0 and self._waiting.wait_s() <= 0

    def wake(self) -> None:
        """Start senders if there is work for them."""
        if self._held_by or self._sender.is_empty:
            return
        if self.feed.behind is not None:
            self.intake.refill()
        if self._bulk.in_use:
            self._bulk.step()
        self._spawn()

    def _spawn(self) -> None:
        if self._pace.will_wake(self):
            return
        waiting = len(self._queue) if self._ledger.has_room_for_rows else 0
        if not waiting and not len(self._waiting):
            return
        if (wait_s := self.gate.wait_s()) > 0:
            self._timer.wake_in(wait_s)
            return
        rules = self._sender.rules
        due = 0
        if len(self._waiting):
            if self._is_due(rules):
                due = len(self._waiting)
            else:
                self._timer.wake_in(self._waiting.wait_s() + rules.wait_s)
        if (not due and not (waiting and self._is_ripe(rules))) or self._must_be_recorded():
            return
        starting = len(self._senders) - len(self._flights)
        batches = max((waiting + due) / rules.events, self._queue.size_bytes / rules.size_bytes if waiting else 0)
        background = self._settings.background
        while starting < batches and self.gate.has_room(background, starting):
            # Replays take turns at their gate, which a second line would spoil; there are few of them.
            if not background and not self._pace.may_start(self):
                return
            starting += 1
            task = asyncio.get_running_loop().create_task(self._send_until_idle())
            self._senders.add(task)
            task.add_done_callback(self._sender_ended)

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        self._senders.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("lane.sender_died", lane=self.key, exc_info=error)

    def _next_batch(self) -> list[LaneEvent] | None:
        """What to send now. None: nothing, or not now; whoever frees the way, or a timer, wakes the lane."""
        if self._held_by:
            return None
        gate = self.gate
        if not gate.has_room(self._settings.background):
            return None
        if self._must_be_recorded():
            return None
        if (wait_s := gate.wait_s()) > 0:
            if self._queue or len(self._waiting) or self.feed.behind is not None:
                self._timer.wake_in(wait_s)
            return None
        rules = self._sender.rules
        waiting = self._waiting
        is_due = self._is_due(rules)
        if not self._queue and self.feed.behind is not None:
            self.intake.refill()
        may_take = len(self._queue) > 0 and self._ledger.has_room_for_rows and (is_due or self._is_ripe(rules))
        batch = take_batch(waiting, self._queue if may_take else None, rules) if is_due or may_take else []
        if not batch and len(waiting):
            # The queue may have to wait for the rows: nobody else would wake a lane that is behind.
            self._timer.wake_in(waiting.wait_s() + rules.wait_s)
        return batch or None

    def _must_be_recorded(self) -> bool:
        """Whether a commit must come before the next request; :meth:`recorded` wakes the lane. A sender that were
        started nevertheless would end at once, and another be started in its place."""
        return self._unrecorded.must_be_recorded(len(self._flights), self.gate.settings.concurrency)

    def _is_due(self, rules: BatchRules) -> bool:
        """Whether events that wait for another attempt should be sent now: those that are due soon after one another
        go together."""
        return len(self._waiting) > 0 and self._waiting.wait_s() + rules.wait_s <= ROUNDING_S

    def _is_ripe(self, rules: BatchRules) -> bool:
        """Whether the queue holds a full batch, or its first event has waited for long enough."""
        if rules.wait_s <= 0 or self._queue.is_full_batch(rules):
            return True
        left_s = self._queue.first.queued_s + rules.wait_s - self._clock.monotonic_s()
        if left_s <= 0 or self.feed.behind is not None:
            return True
        self._timer.wake_in(left_s)
        return False

    def _expire(self) -> None:
        """Another probe has failed. Behind a circuit that has stayed open for the whole window, what has waited for
        that long has failed too; events that were never attempted count from when they were received.
        """
        window_s = self._settings.policy.window_s
        if self._circuit.at_a_stretch_s < window_s:
            return
        opened_at_s = self.gate.breaker.opened_at_s or 0.0
        reason = self.gate.last_reason
        while self._queue and self._circuit.since_s(max(opened_at_s, self._queue.first.queued_s)) >= window_s:
            self._fail(self._queue.pop(), reason, None)
        for item in self._waiting.take_expired(window_s, self._circuit):
            self._fail(item, item.reason or reason, None)

    # -- sending -------------------------------------------------------------------------------------------------

    async def _send_until_idle(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                await self._attempt(batch)
                if self._queue and len(self._senders) < self.gate.concurrency.limit and not self._held_by:
                    self._spawn()  # the limit may have grown
                if self._settings.background:
                    await asyncio.sleep(0)  # another replay that waits behind the same gate goes first
        finally:
            # At once, and not by the task's callback: an event that comes in between must find a place free.
            task = asyncio.current_task()
            assert task is not None
            self._senders.discard(task)

    async def _attempt(self, batch: list[LaneEvent]) -> None:
        now_s = self._clock.monotonic_s()
        events: list[OutgoingEvent] = []
        for item in batch:
            if item.attempts == 0:
                item.first_s = now_s
            else:
                item.first_s += held_up_s(item.due_s, now_s, self._circuit)
            item.elapsed_s = now_s - item.first_s
            assert item.outgoing is not None
            events.append(item.outgoing)
        flight = Flight(batch, now_s)
        self._flights.add(flight)
        background = self._settings.background
        probe = self.gate.begin(len(batch), background)
        try:
            outcomes: Sequence[Outcome] = await self._sender.opened().send(events)
            if len(outcomes) != len(batch):
                raise ValueError(f"{len(outcomes)} outcomes for {len(batch)} events")
        except Exception as error:  # noqa: BLE001 - a sender's bug must not end the lane; it is logged and retried
            _log.exception("destination.bug", destination=self.key, error=type(error).__name__)
            detail = f"{type(error).__name__} in the destination's own code"
            outcomes = [Outcome(Result.RETRY, "INTERNAL", detail)] * len(batch)
        except BaseException:
            self.gate.cancel(probe, background)
            raise
        finally:
            self._flights.discard(flight)
        took_s = self._clock.monotonic_s() - flight.started_s
        first_attempt = batch[0].attempts == 0
        if not self._deleted:
            self._conclude(batch, outcomes, took_s)
            self._unrecorded.new += 1
            if self._unrecorded.is_half_full:
                self._on_change(self)
        self.gate.end(outcomes, probe=probe, background=background, first_attempt=first_attempt, latency_s=took_s)
        if probe and not self._deleted:
            self._expire()

    def _conclude(self, batch: list[LaneEvent], outcomes: Sequence[Outcome], took_s: float) -> None:
        ledger = self._ledger
        now_ms = self._clock.now_ms()
        counted: set[tuple[Result, str]] = set()
        delivered = False
        for item, outcome in zip(batch, outcomes, strict=True):
            item.attempts += 1
            if outcome is DELIVERED_OUTCOME or outcome.result is Result.DELIVERED:
                ledger.delivered(item, now_ms, starts_request=not delivered)
                delivered = True
                self._settle(item)
                continue
            self._complaints.note(outcome)
            starts_request = (outcome.result, outcome.reason) not in counted
            counted.add((outcome.result, outcome.reason))
            if outcome.result is Result.RETRY:
                wait_s = self.gate.wait_after_s(
                    outcome, item.attempts, item.elapsed_s + took_s, self._settings.policy, self._random
                )
                if wait_s is not None:
                    item.reason = outcome.reason
                    ledger.retried(item, outcome, wait_s, starts_request=starts_request)
                    self._waiting.push(item)
                    continue
            ledger.failed(item, outcome.reason, outcome, starts_request=starts_request)
            self._settle(item)
        self._change()

    def _fail(self, item: LaneEvent, reason: str, outcome: Outcome | None) -> None:
        self._ledger.failed(item, reason, outcome)
        self._settle(item)
        self._change()

    def _settle(self, item: LaneEvent) -> None:
        if item.has_row:
            self._ledger.drop_row(item)
        item.settled = True
        item.outgoing = None

    # -- the commit ----------------------------------------------------------------------------------------------

    def _change(self) -> None:
        if not self._changed:
            self._changed = True
            self._on_change(self)

    def _bulk_changed(self) -> None:
        self._change()
        if self._bulk.awaits_commit:
            self._on_change(self)

    def collect(self, changes: Changes) -> bool:
        """Add what has changed since the last call to a commit. Takes the lane's state as it is at this moment. False
        if only counts have changed: then :meth:`recorded` need not be called."""
        if self._deleted and not self._changed:
            return False
        self._ledger.collect(changes)
        if not (self._changed or self._flights or self._unrecorded.new):
            return False
        self._changed = False
        if not self._deleted:
            self._collect_state(changes)
        return True

    def _collect_state(self, changes: Changes) -> None:
        now_s = self._clock.monotonic_s()
        for flight in self._flights:
            if flight.is_long(now_s):
                for item in flight.items:
                    if not item.has_row:
                        self._ledger.put_row(item, "attempt under way", 0)
        self._ledger.collect(changes)
        if self._bulk.in_use:
            self._bulk.collect(changes)
        self._unrecorded.collected()
        self.intake.window.drop_settled()
        state = self.intake.state()
        if state != self._persisted:
            changes.lanes[self.key, self.partition] = state
            self._persisted = state

    @property
    def must_soon_be_recorded(self) -> bool:
        """Whether so much was done since the last commit that the lane will soon have to wait for the next."""
        return self._unrecorded.is_half_full or (self._bulk.in_use and self._bulk.awaits_commit)

    def recorded(self) -> None:
        """What was collected is on disk."""
        waited = self._unrecorded.recorded()
        if self._bulk.in_use:
            waited = waited or not self._bulk.is_empty
            self._bulk.recorded()
        if waited:
            self.wake()

    @property
    def watching(self) -> bool:
        """Whether the next commit should look at the lane again although nothing has been reported: an attempt is
        under way that may need a row."""
        return any(not item.has_row for flight in self._flights for item in flight.items)

    # -- stopping ------------------------------------------------------------------------------------------------

    def hold(self, reason: str) -> None:
        """Begin no further attempt until every reason is released. Attempts under way go on."""
        self._held_by.add(reason)
        self._circuit.hold()
        self._timer.cancel()

    def release(self, reason: str) -> None:
        self._held_by.discard(reason)
        if not self._held_by:
            self._circuit.release()
        self.wake()

    @property
    def held_by(self) -> frozenset[str]:
        return frozenset(self._held_by)

    def replace_sender(self, open_sender: Callable[[], Sender]) -> None:
        """Use these settings from the next attempt on. A lane without a sender sends nothing."""
        self._sender.fill(open_sender)
        self._configure_bulk()

    def delete(self, changes: Changes, reason: str = DESTINATION_DELETED) -> None:
        """The destination is gone, or the replay cancelled: everything that was pending is counted as failed, in the
        same commit."""
        self.collect(changes)
        waiting = self._waiting.items()
        waiting += [item for flight in self._flights for item in flight.items if item.has_row]
        rows = list(waiting)
        waiting += self.intake.window.unsettled()
        pending = self.feed.remaining()
        for source, count in self._bulk.cancel().items():
            pending[source] = pending.get(source, 0) + count
        for item in waiting:
            if item.outgoing is not None:
                pending[item.outgoing.source] = pending.get(item.outgoing.source, 0) + 1
        for source, count in pending.items():
            self._ledger.cancelled(source, count, reason)
        for item in rows:
            if item.has_row:
                self._ledger.drop_row(item)
        self._ledger.collect(changes)
        self._bulk.collect(changes)
        changes.lanes[self.key, self.partition] = None
        self.hold("deleted")
        self._deleted = True
        self.feed.close()
        self._queue.close()
        for task in self._senders:
            task.cancel()
        self._changed = True
        self._on_change(self)  # recorded() removes the files of bulk batches

    async def drain(self, timeout_s: float) -> None:
        """Wait for the attempts under way, then cancel what is left of them (they stay pending)."""
        self.hold("draining")
        bulk = asyncio.create_task(self._bulk.drain(timeout_s))
        if self._senders:
            await asyncio.wait(self._senders, timeout=timeout_s)
        await bulk
        for task in list(self._senders):
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    async def close(self) -> None:
        self.feed.close()
        await self._sender.close()

    @property
    def is_idle(self) -> bool:
        """Nothing queued, under way or waiting for a retry."""
        return not self._queue and not self._flights and not len(self._waiting) and not self.intake.window

    @property
    def pending_in_memory(self) -> int:
        """Events queued, in flight or waiting, for the metrics."""
        return self.queued + self.in_flight + self.retrying

    @property
    def queued(self) -> int:
        """Events that wait for their first attempt here, those in bulk batches included."""
        return len(self._queue) + self._bulk.events

    @property
    def in_flight(self) -> int:
        return sum(len(flight.items) for flight in self._flights)

    @property
    def retrying(self) -> int:
        """Events that wait for another attempt."""
        return len(self._waiting)

    @property
    def mode(self) -> tuple[str, str]:
        """``stream`` or ``bulk``, and why it streams although bulk was asked for."""
        return self._bulk.mode
