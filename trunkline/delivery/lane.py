"""A lane: everything between the accepted log and one destination's sender.

A lane that keeps up is handed decoded envelopes and owns no state. Its *window* holds the events that it took, in
order, from the first that is not settled; the low-water mark is that first one's place. An event that waits for a
retry, or whose attempt lasts for over a second, gets a row of its own and is settled for the window, so the mark never
waits for one event. A lane whose queue is full falls *behind*: it reads the log by itself until it has caught up.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.delivery.complaints import Complaints
from trunkline.delivery.retry import RetryPolicy
from trunkline.delivery.window import LaneEvent, settled_runs
from trunkline.destinations.kit import Outcome, OutgoingEvent, Result, Sender
from trunkline.log.base import LogError
from trunkline.log.records import AcceptedEvent, RecordError
from trunkline.pipeline.stages import SEND
from trunkline.spec.outcomes import DELIVERED, DESTINATION_DELETED, FAILED, OBJECT, RETRIES_EXHAUSTED
from trunkline.state.base import Changes, Interval, LaneKey, LaneState, RetryRow, place_of, position_of

QUEUE_EVENTS: Final = 10_000
QUEUE_BYTES: Final = 8 << 20
ROWS_CAP: Final = 10_000
ROWS_BYTES_CAP: Final = 64 << 20
READ_BYTES: Final = 1 << 20
ROW_AFTER_S: Final = 1.0
READ_AGAIN_S: Final = 5.0
"""After the log could not be read."""

_log = structlog.get_logger(__name__)

Taken = Sequence[tuple[int, AcceptedEvent]]
"""Events of one envelope with their places, in order."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What bounds a lane."""

    concurrency: int = 16
    policy: RetryPolicy = field(default_factory=RetryPolicy)


class Lane:
    """See the module. All methods are called on the worker's loop; none but :meth:`drain` waits."""

    def __init__(
        self,
        destination: str,
        partition: str,
        *,
        open_reader: Callable[[int], EnvelopeReader],
        dispatched: Callable[[], int],
        on_change: Callable[[Lane], None],
        clock: Clock,
        random: Random,
        settings: LaneSettings,
    ) -> None:
        """``dispatched`` tells the position up to which envelopes have been handed to lanes that keep up;
        ``on_change`` is called when there is something to commit."""
        self.destination = destination
        self.partition = partition
        self._open_sender: Callable[[], Sender] | None = None
        self._open_reader = open_reader
        self._dispatched = dispatched
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._settings = settings
        self._sender: Sender | None = None
        self._retired: list[Sender] = []
        self._reader: EnvelopeReader | None = None
        self._intervals: dict[str, list[Interval]] = {}
        self._queue: deque[LaneEvent] = deque()
        self._queue_bytes = 0
        self._window: deque[LaneEvent] = deque()
        self._in_flight: set[LaneEvent] = set()
        self._due: list[tuple[float, int, LaneEvent]] = []
        self._sequence = itertools.count()
        self._rows = 0
        self._rows_bytes = 0
        self._behind: int | None = None
        self._skip: LaneState | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_slice: asyncio.Handle | None = None
        self._delivered: dict[str, int] = {}
        self._failed: dict[LaneKey, int] = {}
        self._row_changes: dict[tuple[str, str, str, int], RetryRow | None] = {}
        self._persisted: LaneState | None = None
        self._changed = False
        self._held_by: set[str] = set()
        self._deleted = False
        self._complaints = Complaints(destination, clock)

    # -- what the lane takes -------------------------------------------------------------------------------------

    def set_intervals(self, intervals: Iterable[Interval]) -> None:
        """The stretches in which the lane's sources were connected; events outside of them are not the lane's."""
        self._intervals = {}
        for interval in intervals:
            self._intervals.setdefault(interval.source, []).append(interval)

    def restore(self, state: LaneState | None, rows: Iterable[RetryRow]) -> None:
        """Go on where the last commit left the lane."""
        self._persisted = state
        if state is not None:
            self._behind = position_of(state.mark)
            self._skip = state
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        for row in rows:
            outgoing = OutgoingEvent(row.message_id, row.source, row.type, row.name, row.event)
            event = LaneEvent(row.place, outgoing, row.received_at_ms, row.attempts, row.first_attempt_at_ms)
            event.due_at_ms = row.due_at_ms
            event.settled = event.has_row = True
            self._rows += 1
            self._rows_bytes += len(row.event)
            wait_s = min(max(0, row.due_at_ms - now_ms) / 1000, self._settings.policy.window_s)
            heapq.heappush(self._due, (now_s + wait_s, next(self._sequence), event))

    def offer(self, position: int, taken: Taken) -> None:
        """Take the events of the envelope at ``position`` that come from the lane's sources, in order."""
        if self._behind is not None:
            return
        if len(self._queue) + len(taken) > QUEUE_EVENTS or self._queue_bytes > QUEUE_BYTES:
            self._behind = position
            self._change()
            return
        self._take(taken)
        self.wake()

    def _take(self, taken: Taken) -> None:
        skip = self._skip
        for place, event in taken:
            if skip is not None and skip.is_settled(place):
                if self._window:
                    self._window.append(LaneEvent(place, None, 0, settled=True))
                continue
            outgoing = OutgoingEvent(event.message_id, event.source, event.type, event.name, event.body)
            item = LaneEvent(place, outgoing, event.received_at_ms)
            self._window.append(item)
            self._queue.append(item)
            self._queue_bytes += len(event.body)
        if taken:
            self._change()

    def _own_events(self, placed: PlacedEnvelope) -> Iterator[tuple[int, AcceptedEvent]]:
        """The events of an envelope that fall into one of the lane's intervals."""
        for index, event in enumerate(placed.envelope.survivors):
            place = place_of(placed.position, index)
            intervals = self._intervals.get(event.source, ())
            if event.type != OBJECT and any(interval.holds(place) for interval in intervals):
                yield place, event

    def _refill(self) -> None:
        """While behind and there is room, read a slice of the log; rejoin when caught up.

        A slice at a time, for the loop's sake: among much that is not the lane's own its next event may be far away.
        """
        if (
            self._next_slice is not None
            or len(self._queue) >= QUEUE_EVENTS // 2
            or self._queue_bytes >= QUEUE_BYTES // 2
        ):
            return
        before, stop = self._behind, self._dispatched()
        if before is None or before >= stop:
            self._rejoin()
            return
        try:
            if self._reader is None:
                self._reader = self._open_reader(before)
            for placed in self._reader.read(READ_BYTES, stop):
                self._take(list(self._own_events(placed)))
                self._behind = placed.next_position
            self._behind = self._reader.position
        except (LogError, RecordError) as error:
            _log.error("lane.cannot_read", destination=self.destination, error=str(error), again_in_s=READ_AGAIN_S)
            self._close_reader()
            self._next_slice = asyncio.get_running_loop().call_later(READ_AGAIN_S, self._go_on)
        else:
            if self._behind == before:
                self._rejoin()
            elif not self._queue:
                self._next_slice = asyncio.get_running_loop().call_soon(self._go_on)
        self._change()

    def _go_on(self) -> None:
        self._next_slice = None
        self.wake()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _rejoin(self) -> None:
        self._behind = None
        self._skip = None
        self._close_reader()
        self._change()

    # -- sending -------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Start senders if there is work for them."""
        if self._held_by:
            return
        if self._behind is not None:
            self._refill()
        waiting = len(self._queue) if self._has_room_for_rows() else 0
        now_s = self._clock.monotonic_s()
        if self._due:
            if self._due[0][0] <= now_s:
                waiting += len(self._due)
            else:
                self._arm_timer(self._due[0][0] - now_s)
        while waiting > 0 and len(self._senders) < self._settings.concurrency:
            waiting -= 1
            task = asyncio.get_running_loop().create_task(self._send_until_idle())
            self._senders.add(task)
            task.add_done_callback(self._sender_ended)

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        self._senders.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("lane.sender_died", destination=self.destination, exc_info=error)

    def _arm_timer(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.wake)

    def _has_room_for_rows(self) -> bool:
        return self._rows < ROWS_CAP and self._rows_bytes < ROWS_BYTES_CAP

    def _next(self) -> LaneEvent | None:
        if self._held_by:
            return None
        wait_s = self._due[0][0] - self._clock.monotonic_s() if self._due else 0.0
        if self._due and wait_s <= 0:
            return heapq.heappop(self._due)[2]
        if not self._queue and self._behind is not None:
            self._refill()
        if self._queue and self._has_room_for_rows():
            item = self._queue.popleft()
            if item.outgoing is not None:
                self._queue_bytes -= len(item.outgoing.body)
            return item
        if self._due:
            # The queue may have to wait for the rows: nobody else would wake a lane that is behind.
            self._arm_timer(wait_s)
        return None

    async def _send_until_idle(self) -> None:
        try:
            while (item := self._next()) is not None:
                await self._attempt(item)
        finally:
            # At once, and not by the task's callback: an event that comes in between must find a place free.
            task = asyncio.current_task()
            assert task is not None
            self._senders.discard(task)

    def _opened_sender(self) -> Sender:
        if self._sender is None:
            assert self._open_sender is not None
            self._sender = self._open_sender()
        return self._sender

    async def _attempt(self, item: LaneEvent) -> None:
        assert item.outgoing is not None
        item.started_s = self._clock.monotonic_s()
        now_ms = self._clock.now_ms()
        if item.attempts == 0:
            item.first_attempt_at_ms = now_ms
        else:
            # Time in which the attempt was due and could not be made (stopped, disabled, held) expires nothing, and
            # neither does a clock that was put forward.
            item.first_attempt_at_ms += max(0, now_ms - item.due_at_ms)
        item.elapsed_s = max(0, now_ms - item.first_attempt_at_ms) / 1000
        self._in_flight.add(item)
        try:
            [outcome] = await self._opened_sender().send([item.outgoing])
        except Exception as error:  # noqa: BLE001 - a sender's bug must not end the lane; it is logged and retried
            _log.exception("destination.bug", destination=self.destination, error=type(error).__name__)
            outcome = Outcome(Result.RETRY, "INTERNAL", f"{type(error).__name__} in the destination's own code")
        finally:
            self._in_flight.discard(item)
        if not self._deleted:
            self._conclude(item, outcome)

    def _conclude(self, item: LaneEvent, outcome: Outcome) -> None:
        assert item.outgoing is not None
        item.attempts += 1
        if outcome.result is not Result.DELIVERED:
            self._complaints.note(outcome)
        if outcome.result is Result.RETRY:
            elapsed_s = item.elapsed_s + self._clock.monotonic_s() - item.started_s
            wait_s = self._settings.policy.wait_s(item.attempts, elapsed_s, self._random, outcome.retry_after_s)
            if wait_s is not None:
                self._put_row(item, f"{outcome.reason} {outcome.detail}".strip(), wait_s)
                heapq.heappush(self._due, (self._clock.monotonic_s() + wait_s, next(self._sequence), item))
                self._change()
                return
        source = item.outgoing.source
        if outcome.result is Result.DELIVERED:
            self._delivered[source] = self._delivered.get(source, 0) + 1
        else:
            key = LaneKey(self.destination, source, FAILED, outcome.reason or RETRIES_EXHAUSTED)
            self._failed[key] = self._failed.get(key, 0) + 1
        if item.has_row:
            self._drop_row(item)
        item.settled = True
        item.outgoing = None
        self._change()

    # -- rows and books ------------------------------------------------------------------------------------------

    def _row_key(self, item: LaneEvent) -> tuple[str, str, str, int]:
        return (self.destination, "", self.partition, item.place)

    def _put_row(self, item: LaneEvent, error: str, wait_s: float) -> None:
        outgoing = item.outgoing
        assert outgoing is not None
        if not item.has_row:
            self._rows += 1
            self._rows_bytes += len(outgoing.body)
        item.has_row = item.settled = True
        item.due_at_ms = self._clock.now_ms() + int(wait_s * 1000)
        self._row_changes[self._row_key(item)] = RetryRow(
            destination=self.destination,
            subscription="",
            partition=self.partition,
            place=item.place,
            message_id=outgoing.message_id,
            source=outgoing.source,
            type=outgoing.type,
            name=outgoing.name,
            received_at_ms=item.received_at_ms,
            attempts=item.attempts,
            first_attempt_at_ms=item.first_attempt_at_ms,
            due_at_ms=item.due_at_ms,
            last_error=error.encode("utf-8", "replace").decode(),
            resume_stage=SEND,
            event=outgoing.body,
        )

    def _drop_row(self, item: LaneEvent) -> None:
        assert item.outgoing is not None
        self._rows -= 1
        self._rows_bytes -= len(item.outgoing.body)
        self._row_changes[self._row_key(item)] = None
        item.has_row = False

    def _change(self) -> None:
        if not self._changed:
            self._changed = True
            self._on_change(self)

    def collect(self, changes: Changes) -> None:
        """Add what has changed since the last call to a commit. Takes the lane's state as it is at this moment."""
        self._changed = False
        if self._deleted:
            return
        now_s = self._clock.monotonic_s()
        for item in self._in_flight:
            if not item.has_row and now_s - item.started_s > ROW_AFTER_S:
                self._put_row(item, "attempt under way", 0)
        for source, count in self._delivered.items():
            key = LaneKey(self.destination, source, DELIVERED, "")
            changes.lane_books[key] = changes.lane_books.get(key, 0) + count
        for key, count in self._failed.items():
            changes.lane_books[key] = changes.lane_books.get(key, 0) + count
        self._delivered = {}
        self._failed = {}
        changes.rows.update(self._row_changes)
        self._row_changes = {}
        while self._window and self._window[0].settled:
            self._window.popleft()
        state = self._state()
        if state != self._persisted:
            changes.lanes[self.destination, self.partition] = state
            self._persisted = state

    @property
    def watching(self) -> bool:
        """Whether the next commit should look at the lane again although nothing has been reported: an attempt is
        under way that may need a row."""
        return any(not item.has_row for item in self._in_flight)

    def _state(self) -> LaneState | None:
        """The mark and what is settled above it; None when the lane follows the dispatched position."""
        settled = settled_runs(self._window)
        if self._window:
            mark = self._window[0].place
            above = self._window[-1].place
        elif self._behind is not None:
            mark = place_of(self._behind, 0)
            if self._skip is not None:
                # Nothing has been read since the restart: the mark may lie within the envelope, and must not fall.
                mark = max(mark, self._skip.mark)
            above = mark
        else:
            return None
        if self._behind is not None and self._skip is not None:
            settled += [run for run in self._skip.settled if run[1] > above]
        return LaneState(self.destination, self.partition, mark, tuple(settled))

    # -- stopping ------------------------------------------------------------------------------------------------

    def hold(self, reason: str) -> None:
        """Begin no further attempt until every reason is released. Attempts under way go on."""
        self._held_by.add(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def release(self, reason: str) -> None:
        self._held_by.discard(reason)
        self.wake()

    def replace_sender(self, open_sender: Callable[[], Sender]) -> None:
        """Use these settings from the next attempt on. A lane without a sender sends nothing."""
        self._open_sender = open_sender
        old, self._sender = self._sender, None
        if old is not None:
            self._retired.append(old)

    def delete(self, changes: Changes) -> None:
        """The destination is gone: everything that was pending is counted as failed, in the same commit."""
        self.collect(changes)
        pending, rows = self._pending_by_source()
        for source, count in pending.items():
            key = LaneKey(self.destination, source, FAILED, DESTINATION_DELETED)
            changes.lane_books[key] = changes.lane_books.get(key, 0) + count
        for item in rows:
            changes.rows[self._row_key(item)] = None
        changes.lanes[self.destination, self.partition] = None
        self.hold("deleted")
        self._deleted = True
        self._close_reader()
        for task in self._senders:
            task.cancel()

    def _pending_by_source(self) -> tuple[dict[str, int], list[LaneEvent]]:
        """What is neither delivered nor failed: by source, and the events among them that have rows."""
        rows = [item for _, _, item in self._due] + [item for item in self._in_flight if item.has_row]
        waiting = rows + [item for item in self._window if not item.settled]
        counts: dict[str, int] = {}
        for item in waiting:
            if item.outgoing is not None:
                counts[item.outgoing.source] = counts.get(item.outgoing.source, 0) + 1
        if self._behind is not None:
            reader = self._open_reader(self._behind)
            stop = self._dispatched()
            while reader.position < stop:
                before = reader.position
                for placed in reader.read(READ_BYTES, stop):
                    for place, event in self._own_events(placed):
                        if self._skip is None or not self._skip.is_settled(place):
                            counts[event.source] = counts.get(event.source, 0) + 1
                if reader.position == before:
                    break
            reader.close()
        return counts, rows

    async def drain(self, timeout_s: float) -> None:
        """Wait for the attempts under way, then cancel what is left of them (they stay pending)."""
        self.hold("draining")
        if self._senders:
            await asyncio.wait(self._senders, timeout=timeout_s)
        for task in list(self._senders):
            task.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    async def close(self) -> None:
        self._close_reader()
        for sender in [*self._retired, *([self._sender] if self._sender is not None else [])]:
            await sender.close()

    @property
    def pending_in_memory(self) -> int:
        """Events queued, in flight or waiting, for the metrics."""
        return len(self._queue) + len(self._in_flight) + len(self._due)
