"""Bulk batches of one lane: thousands of events written once to a file and sent as they are, however often.

At most one batch is open and two wait to be sent. A batch is one row in the state; its file is durable as far as the
row says before the row is.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.delivery.circuit_time import CircuitTime
from trunkline.delivery.feed import Taken
from trunkline.delivery.gate import Gate
from trunkline.delivery.ledger import Ledger
from trunkline.delivery.retry import RetryPolicy
from trunkline.delivery.spool import SpoolWrite, cut_off
from trunkline.delivery.waiting import held_up_s
from trunkline.destinations.kit import BulkBatch, BulkRules, BulkSender, Outcome, Result
from trunkline.state.base import BulkRow, Changes

PENDING_BATCHES: Final = 2
LEAST_EVENTS: Final = 1_000
"""A batch that its time closes with fewer is no bulk: there is too little traffic for it."""
BUFFER_BYTES: Final = 8 << 20

_log = structlog.get_logger(__name__)


class _Filling:
    """The open batch."""

    __slots__ = ("count", "end_place", "events", "opened_at_ms", "opened_s", "place", "size_bytes")

    def __init__(self, place: int, opened_at_ms: int, opened_s: float) -> None:
        self.place = self.end_place = place
        self.size_bytes = self.count = 0
        self.events: dict[str, int] = {}
        self.opened_at_ms = opened_at_ms
        self.opened_s = opened_s

    @classmethod
    def of(cls, row: BulkRow, opened_s: float) -> _Filling:
        filling = cls(row.place, row.opened_at_ms, opened_s)
        filling.end_place, filling.size_bytes = row.end_place, row.size_bytes
        filling.events = dict(row.events)
        filling.count = sum(row.events.values())
        return filling

    @property
    def file(self) -> str:
        return f"{self.place}.ndjson"

    def add(self, place: int, source: str, size_bytes: int) -> None:
        self.end_place = place + 1
        self.size_bytes += size_bytes
        self.count += 1
        self.events[source] = self.events.get(source, 0) + 1

    def row(self, lane: str, partition: str, *, is_open: bool, due_at_ms: int = 0) -> BulkRow:
        return BulkRow(
            destination=lane,
            partition=partition,
            place=self.place,
            end_place=self.end_place,
            open=is_open,
            file=self.file,
            size_bytes=self.size_bytes,
            events=dict(self.events),
            opened_at_ms=self.opened_at_ms,
            due_at_ms=due_at_ms,
        )


@dataclasses.dataclass(eq=False, slots=True)
class _Sealed:
    """A batch that waits for its next attempt. By the monotonic clock: ``first_s`` when the time for retries began,
    ``due_s`` when the attempt is due."""

    row: BulkRow
    due_s: float
    first_s: float = 0.0


class BulkLine:
    """Called on the worker's loop."""

    def __init__(
        self,
        ledger: Ledger,
        gate: Gate,
        circuit: CircuitTime,
        directory: Path,
        *,
        clock: Clock,
        random: Random,
        open_sender: Callable[[], object],
        on_change: Callable[[], None],
        wake_in: Callable[[float], None],
    ) -> None:
        """``directory`` is the lane's own; ``wake_in`` asks for a call of :meth:`step` after so many seconds."""
        self._ledger = ledger
        self._gate = gate
        self._circuit = circuit
        self._directory = directory
        self._clock = clock
        self._random = random
        self._open_sender = open_sender
        self._on_change = on_change
        self._wake_in = wake_in
        self.in_use = False
        """Whether there has ever been a bulk batch, or may be one: most lanes need not look further."""
        self._rules: BulkRules | None = None
        self._policy = RetryPolicy()
        self._open: _Filling | None = None
        self._buffer: list[bytes] = []
        self._unwritten_bytes = 0
        self._collected_bytes = 0
        self._writes: list[SpoolWrite] = []
        self._sealed: list[_Sealed] = []
        self._unsafe: set[tuple[str, str, int]] = set()
        self._collected: set[tuple[str, str, int]] = set()
        self._sending: asyncio.Task[None] | None = None
        self._changed: dict[tuple[str, str, int], BulkRow | None] = {}
        self._finished: list[Path] = []
        self._finishing: list[Path] = []
        self._streaming_because = ""
        self._counted = 0
        self._counting_until_s = 0.0

    # -- stream or bulk ------------------------------------------------------------------------------------------

    @property
    def takes(self) -> bool:
        """Whether the lane's next events go into bulk batches."""
        return self._rules is not None and not self._streaming_because

    @property
    def mode(self) -> tuple[str, str]:
        """``bulk`` or ``stream``, and why it streams although bulk was asked for."""
        return ("bulk", "") if self.takes else ("stream", self._streaming_because)

    def configure(self, rules: BulkRules | None, policy: RetryPolicy) -> None:
        """Settings that changed; batches that are closed stay as they are."""
        if rules != self._rules:
            self._streaming_because = ""
        self.in_use = self.in_use or rules is not None
        self._rules = rules
        self._policy = policy
        if rules is None and self._open is not None:
            self._seal(self._open)

    def count(self, events: int, *, behind: bool) -> None:
        """Events that are being streamed: enough of them in the time of a batch, and the lane is back to bulk."""
        if self._rules is None:
            return
        now_s = self._clock.monotonic_s()
        if now_s >= self._counting_until_s:
            self._counting_until_s = now_s + self._rules.wait_s
            self._counted = 0
        self._counted += events
        if behind or self._counted >= LEAST_EVENTS:
            self._streaming_because = ""

    # -- filling -------------------------------------------------------------------------------------------------

    def can_take(self, events: int) -> bool:
        """Whether so many events, which stay together, fit. While no batch waits to be sent any number does."""
        if self._rules is None:
            return True
        if self._unwritten_bytes > BUFFER_BYTES:
            return False
        if not self._sealed:
            return True
        room = (PENDING_BATCHES + 1 - len(self._sealed)) * self._rules.events
        return room - (self._open.count if self._open is not None else 0) >= events

    def add(self, taken: Taken) -> None:
        """Put the events into the open batch, and into the next when it is full."""
        rules = self._rules
        assert rules is not None
        for place, event in taken:
            filling = self._open
            if filling is None:
                filling = self._open = _Filling(place, self._clock.now_ms(), self._clock.monotonic_s())
                self._wake_in(rules.wait_s)
            # A line is an event: a newline within JSON can only be white space.
            line = event.body.replace(b"\n", b" ") + b"\n"
            self._buffer.append(line)
            self._unwritten_bytes += len(line)
            filling.add(place, event.source, len(line))
            if filling.count >= rules.events or filling.size_bytes >= rules.size_bytes:
                self._seal(filling)
        self._on_change()

    def _seal(self, filling: _Filling) -> None:
        self._hand_over_buffer(filling)
        row = self._row(filling, is_open=False)
        self._open = None
        self._sealed.append(_Sealed(row, self._clock.monotonic_s()))
        self._changed[row.key] = row
        self._unsafe.add(row.key)
        self._on_change()

    def _row(self, filling: _Filling, *, is_open: bool) -> BulkRow:
        due_at_ms = 0 if is_open else self._clock.now_ms()
        return filling.row(self._ledger.lane, self._ledger.partition, is_open=is_open, due_at_ms=due_at_ms)

    def _hand_over_buffer(self, filling: _Filling) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._writes.append(SpoolWrite(self._directory / filling.file, filling.size_bytes - len(data), data))
            self._buffer = []

    # -- the commit ----------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[BulkRow]) -> None:
        """Go on with the batches of an earlier run; files that belong to none are removed."""
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        self.in_use = True
        for row in sorted(rows, key=lambda row: row.place):
            if row.open:
                self._open = _Filling.of(row, now_s - max(0, now_ms - row.opened_at_ms) / 1000)
                try:
                    cut_off(self._directory / row.file, row.size_bytes)
                except OSError as error:
                    _log.error("lane.bulk_file", lane=self._ledger.lane, file=row.file, error=str(error))
            else:
                due_s = now_s + min((row.due_at_ms - now_ms) / 1000, self._policy.window_s)
                self._sealed.append(_Sealed(row, due_s, now_s - max(0, now_ms - row.first_attempt_at_ms) / 1000))
        known = {sealed.row.file for sealed in self._sealed}
        if self._open is not None:
            known.add(self._open.file)
        if self._directory.exists():
            for path in self._directory.iterdir():
                if path.name not in known:
                    _remove(path)

    def collect(self, changes: Changes) -> None:
        """Add what has changed since the last call to a commit."""
        if self._open is not None and self._buffer:
            self._hand_over_buffer(self._open)
            row = self._row(self._open, is_open=True)
            self._changed[row.key] = row
        changes.prepare += self._writes
        changes.bulk.update(self._changed)
        self._writes, self._changed = [], {}
        self._collected_bytes = self._unwritten_bytes
        self._collected |= self._unsafe
        self._finishing += self._finished
        self._finished = []

    def recorded(self) -> None:
        """What was collected is on disk: files whose rows are gone can go too, and closed batches can be sent."""
        for path in self._finishing:
            _remove(path)
        self._finishing = []
        self._unwritten_bytes -= self._collected_bytes
        self._collected_bytes = 0
        self._unsafe -= self._collected
        self._collected = set()

    @property
    def awaits_commit(self) -> bool:
        """Whether the next commit should come at once: before it nothing is sent behind a batch that has ended, nor a
        batch that was just closed, and a full buffer takes nothing."""
        unwritten_bytes = self._unwritten_bytes - self._collected_bytes
        return bool(self._finished or self._unsafe - self._collected) or unwritten_bytes > BUFFER_BYTES // 2

    @property
    def events(self) -> int:
        """Events in the open batch and in those that wait."""
        waiting = sum(sum(sealed.row.events.values()) for sealed in self._sealed)
        return waiting + (self._open.count if self._open is not None else 0)

    @property
    def is_empty(self) -> bool:
        return not self._sealed and self._open is None

    # -- sending -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Close the open batch if its time is over, begin to send one that is due. The lane is not held."""
        now_s = self._clock.monotonic_s()
        if self._open is not None and self._rules is not None:
            left_s = self._open.opened_s + self._rules.wait_s - now_s
            if left_s <= 0:
                count = self._open.count
                if count < LEAST_EVENTS:
                    self._streaming_because = f"too little traffic: {count} events in {self._rules.wait_s:g} s"
                self._seal(self._open)
            else:
                self._wake_in(left_s)
        if self._sending is not None or not self._sealed:
            return
        if self._finished or self._finishing:
            return  # a kill makes one batch come twice, not two; recorded() is followed by another step
        sealed = min(self._sealed, key=lambda sealed: sealed.due_s)
        if sealed.row.key in self._unsafe:
            return  # its file may not be on disk yet; again recorded() is followed by another step
        wait_s = max(sealed.due_s - now_s, self._gate.wait_s())
        if wait_s > 0:
            self._wake_in(wait_s)
        elif self._gate.has_room(background=False):
            self._sending = asyncio.get_running_loop().create_task(self._send(sealed))
            self._sending.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("lane.bulk_died", lane=self._ledger.lane, exc_info=error)
        if not task.cancelled():
            self._wake_in(0)

    async def _send(self, sealed: _Sealed) -> None:
        row, started_s = sealed.row, self._clock.monotonic_s()
        if row.attempts == 0:
            sealed.first_s = started_s
        else:
            sealed.first_s += held_up_s(sealed.due_s, started_s, self._circuit)
        count = sum(row.events.values())
        probe = self._gate.begin(count, background=False)
        try:
            sender = self._open_sender()
            if isinstance(sender, BulkSender):
                outcome = await sender.send_bulk(BulkBatch(self._directory / row.file, count, row.size_bytes))
            else:
                outcome = Outcome(Result.FAILED, "INVALID_SETTINGS", "the destination takes no bulk batches any more")
        except Exception as error:  # noqa: BLE001 - a sender's bug must not end the lane; it is logged and retried
            _log.exception("destination.bug", destination=self._ledger.lane, error=type(error).__name__)
            outcome = Outcome(Result.RETRY, "INTERNAL", f"{type(error).__name__} in the destination's own code")
        except BaseException:
            self._gate.cancel(probe, background=False)
            raise
        took_s = self._clock.monotonic_s() - started_s
        self._gate.end([outcome], probe=probe, background=False, first_attempt=row.attempts == 0, latency_s=took_s)
        elapsed_s = self._clock.monotonic_s() - sealed.first_s
        first_ms = self._clock.now_ms() - int(elapsed_s * 1000)
        sealed.row = row = dataclasses.replace(row, attempts=row.attempts + 1, first_attempt_at_ms=first_ms)
        if outcome.result is Result.RETRY:
            wait_s = self._gate.wait_after_s(outcome, row.attempts, elapsed_s, self._policy, self._random)
            if wait_s is not None:
                self._wait(sealed, outcome, wait_s)
                return
            outcome = dataclasses.replace(outcome, result=Result.FAILED)
        self._end(sealed, outcome)

    def _wait(self, sealed: _Sealed, outcome: Outcome, wait_s: float) -> None:
        error = f"{outcome.reason} {outcome.detail}".strip().encode("utf-8", "replace").decode()
        sealed.due_s = self._clock.monotonic_s() + wait_s
        due_at_ms = self._clock.now_ms() + int(wait_s * 1000)
        sealed.row = row = dataclasses.replace(sealed.row, due_at_ms=due_at_ms, last_error=error)
        self._changed[row.key] = row
        self._ledger.bulk_retried(row, outcome)
        self._on_change()
        self._wake_in(wait_s)

    def _end(self, sealed: _Sealed, outcome: Outcome) -> None:
        row = sealed.row
        self._sealed.remove(sealed)
        self._changed[row.key] = None
        self._finished.append(self._directory / row.file)
        self._ledger.bulk_ended(row, outcome)
        self._on_change()

    def cancel(self) -> dict[str, int]:
        """The destination is gone: drop everything; how many events that were, by source."""
        if self._sending is not None:
            self._sending.cancel()
        counts: dict[str, int] = {}
        rows = [sealed.row for sealed in self._sealed]
        if self._open is not None:
            rows.append(self._row(self._open, is_open=True))
        for row in rows:
            for source, count in row.events.items():
                counts[source] = counts.get(source, 0) + count
            self._changed[row.key] = None
            self._finished.append(self._directory / row.file)
        self._sealed, self._open, self._buffer, self._writes, self._unwritten_bytes = [], None, [], [], 0
        return counts

    async def drain(self, timeout_s: float) -> None:
        """Wait for the request under way, then give it up: it stays pending."""
        if self._sending is not None:
            sending = self._sending
            await asyncio.wait([sending], timeout=timeout_s)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
