"""What a lane has to tell the state store: books, delivery record, retry rows, attempts, samples."""

from __future__ import annotations

from typing import Final

from trunkline.clock import Clock
from trunkline.delivery.judgement import Kind, Refused, RefusedKey
from trunkline.delivery.window import LaneEvent
from trunkline.destinations.kit import Exchange, Outcome, OutgoingEvent, Result
from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.stages import SEND
from trunkline.spec.outcomes import DELIVERED, FAILED, FILTERED_AT_DESTINATION, RETRIES_EXHAUSTED
from trunkline.state.base import (
    RETRY,
    Attempt,
    BulkRow,
    Changes,
    LaneKey,
    LatencyKey,
    LossKey,
    RecordCounts,
    RecordKey,
    RetryRow,
    Sample,
)
from trunkline.state.latency import bucket_of

ROWS_CAP: Final = 10_000
ROWS_BYTES_CAP: Final = 64 << 20
SAMPLE_EVERY_MS: Final = 60_000
"""Of one reason, after the first ten."""
FIRST_SAMPLES: Final = 10
_SAMPLE_REASONS: Final = 100
_SENT_BYTES: Final = 4096


class Ledger:
    """Gathers between two commits. Called on the worker's loop."""

    def __init__(self, lane: str, partition: str, clock: Clock) -> None:
        """``lane`` is the destination's slug, or a replay's key."""
        self.lane = lane
        self.partition = partition
        self._clock = clock
        self._delivered: dict[Kind, RecordCounts] = {}
        self._others: dict[tuple[Kind, str, str], RecordCounts] = {}
        self._latencies: dict[tuple[str, int], int] = {}
        self._losses: dict[tuple[str, int, str], int] = {}
        self._attempts: list[Attempt] = []
        self._samples: list[Sample] = []
        self._sampled: dict[str, tuple[int, int]] = {}
        self._row_changes: dict[tuple[str, str, str, int], RetryRow | None] = {}
        self.rows = 0
        self.rows_bytes = 0

    @property
    def has_room_for_rows(self) -> bool:
        return self.rows < ROWS_CAP and self.rows_bytes < ROWS_BYTES_CAP

    # -- outcomes ------------------------------------------------------------------------------------------------

    def delivered(self, item: LaneEvent, now_ms: int, *, starts_request: bool) -> None:
        """``item.attempts`` counts this attempt already; ``starts_request``: no event of the same request was counted
        as delivered before."""
        outgoing = item.outgoing
        assert outgoing is not None
        kind = (outgoing.source, outgoing.type, outgoing.name, outgoing.app_version)
        counts = self._delivered.get(kind)
        if counts is None:
            counts = self._delivered[kind] = RecordCounts()
        counts.events += 1
        counts.requests += starts_request
        if item.attempts == 1:
            counts.first += 1
        else:
            counts.retries += item.attempts - 1
            self._note(item, outgoing, DELIVERED, "", "")
        latency = (outgoing.source, bucket_of(now_ms - item.received_at_ms))
        self._latencies[latency] = self._latencies.get(latency, 0) + 1

    def failed(self, item: LaneEvent, reason: str, outcome: Outcome | None, *, starts_request: bool = False) -> None:
        """``outcome`` None: it was not attempted this time."""
        outgoing = item.outgoing
        assert outgoing is not None
        detail = outcome.detail if outcome is not None else ""
        self._count(outgoing, FAILED, reason or RETRIES_EXHAUSTED, max(0, item.attempts - 1), starts_request)
        loss = (outgoing.source, item.received_at_ms // 60_000, reason or RETRIES_EXHAUSTED)
        self._losses[loss] = self._losses.get(loss, 0) + 1
        self._note(item, outgoing, FAILED, reason, detail)
        if outcome is not None and outcome.exchange is not None:
            self._take_sample(reason, outcome.exchange, outgoing.message_id, outgoing.body)

    def retried(self, item: LaneEvent, outcome: Outcome, wait_s: float, *, starts_request: bool) -> None:
        """The attempt failed; another is due after ``wait_s``."""
        outgoing = item.outgoing
        assert outgoing is not None
        self._count(outgoing, RETRY, outcome.reason, 0, starts_request)
        self._note(item, outgoing, RETRY, outcome.reason, outcome.detail)
        if outcome.exchange is not None:
            self._take_sample(outcome.reason, outcome.exchange, outgoing.message_id, outgoing.body)
        self.put_row(item, f"{outcome.reason} {outcome.detail}".strip(), wait_s)

    def _count(self, outgoing: OutgoingEvent, outcome: str, reason: str, retries: int, starts_request: bool) -> None:
        key = ((outgoing.source, outgoing.type, outgoing.name, outgoing.app_version), outcome, reason)
        counts = self._others.get(key)
        if counts is None:
            counts = self._others[key] = RecordCounts()
        counts.events += 1
        counts.retries += retries
        counts.requests += starts_request

    def refused(self, event: AcceptedEvent, outcome: str, reason: str) -> None:
        """The event ends here, without an attempt."""
        key = ((event.source, event.type, event.name, event.app_version), outcome, reason)
        self._others.setdefault(key, RecordCounts()).events += 1

    def refused_many(self, refused: Refused) -> None:
        """Events that are not for this destination."""
        for (kind, reason), count in refused.items():
            self.refused_as((kind, FILTERED_AT_DESTINATION, reason), count)

    def refused_as(self, key: RefusedKey, count: int) -> None:
        counts = self._others.get(key)
        if counts is None:
            counts = self._others[key] = RecordCounts()
        counts.events += count

    def cancelled(self, source: str, count: int, reason: str) -> None:
        """Events that were pending when the destination was deleted, or the replay cancelled."""
        key = ((source, "", "", ""), FAILED, reason)
        counts = self._others.setdefault(key, RecordCounts())
        counts.events += count

    # -- bulk batches: their events have neither type nor name in the record, as in Segment's -----------------------

    def bulk_retried(self, row: BulkRow, outcome: Outcome) -> None:
        """The attempt failed; ``row`` waits for another."""
        for number, (source, count) in enumerate(row.events.items()):
            counts = self._others.setdefault(((source, "", "", ""), RETRY, outcome.reason), RecordCounts())
            counts.add(RecordCounts(events=count, requests=int(number == 0)))
        self._note_bulk(row, RETRY, outcome)

    def bulk_ended(self, row: BulkRow, outcome: Outcome) -> None:
        """All events of the batch are delivered, or have failed. ``row.attempts`` counts the last attempt."""
        now_ms = self._clock.now_ms()
        delivered = outcome.result is Result.DELIVERED
        for number, (source, count) in enumerate(row.events.items()):
            kind = (source, "", "", "")
            retries = max(0, row.attempts - 1) * count
            ended = RecordCounts(count, count if row.attempts == 1 and delivered else 0, retries, int(number == 0))
            if delivered:
                self._delivered.setdefault(kind, RecordCounts()).add(ended)
                latency = (source, bucket_of(now_ms - row.opened_at_ms))
                self._latencies[latency] = self._latencies.get(latency, 0) + count
            else:
                reason = outcome.reason or RETRIES_EXHAUSTED
                self._others.setdefault((kind, FAILED, reason), RecordCounts()).add(ended)
                loss = (source, row.opened_at_ms // 60_000, reason)
                self._losses[loss] = self._losses.get(loss, 0) + count
        if not delivered or row.attempts > 1:
            self._note_bulk(row, DELIVERED if delivered else FAILED, outcome)

    def _note_bulk(self, row: BulkRow, ended: str, outcome: Outcome) -> None:
        self._attempts.append(
            Attempt(
                destination=self.lane,
                subscription="",
                partition=self.partition,
                place=row.place,
                last_place=row.end_place - 1,
                message_id="",
                number=row.attempts,
                at_ms=self._clock.now_ms(),
                outcome=ended,
                reason=outcome.reason,
                detail=_storable(outcome.detail),
            )
        )
        if outcome.exchange is not None:
            self._take_sample(outcome.reason, outcome.exchange, "", b"")

    def _note(self, item: LaneEvent, outgoing: OutgoingEvent, outcome: str, reason: str, detail: str) -> None:
        self._attempts.append(
            Attempt(
                destination=self.lane,
                subscription="",
                partition=self.partition,
                place=item.place,
                last_place=item.place,
                message_id=outgoing.message_id,
                number=item.attempts,
                at_ms=self._clock.now_ms(),
                outcome=outcome,
                reason=reason,
                detail=_storable(detail),
            )
        )

    def _take_sample(self, reason: str, exchange: Exchange, message_id: str, body: bytes) -> None:
        now_ms = self._clock.now_ms()
        count, last_ms = self._sampled.get(reason, (0, 0))
        if count >= FIRST_SAMPLES and now_ms - last_ms < SAMPLE_EVERY_MS:
            return
        if reason not in self._sampled and len(self._sampled) >= _SAMPLE_REASONS:
            return
        self._sampled[reason] = (count + 1, now_ms)
        self._samples.append(
            Sample(
                destination=self.lane,
                reason=reason,
                at_ms=now_ms,
                message_id=message_id,
                sent=body[:_SENT_BYTES].decode("utf-8", "replace"),
                request=exchange.request_json(),
                response=exchange.response_json(),
            )
        )

    # -- rows ----------------------------------------------------------------------------------------------------

    def restored(self, row: RetryRow) -> None:
        """A row that an earlier run has written."""
        self.rows += 1
        self.rows_bytes += len(row.event)

    def put_row(self, item: LaneEvent, error: str, wait_s: float) -> None:
        outgoing = item.outgoing
        assert outgoing is not None
        if not item.has_row:
            self.rows += 1
            self.rows_bytes += len(outgoing.body)
        item.has_row = item.settled = True
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        item.due_s = now_s + wait_s
        self._row_changes[self._row_key(item)] = RetryRow(
            destination=self.lane,
            subscription="",
            partition=self.partition,
            place=item.place,
            message_id=outgoing.message_id,
            source=outgoing.source,
            type=outgoing.type,
            name=outgoing.name,
            received_at_ms=item.received_at_ms,
            attempts=item.attempts,
            first_attempt_at_ms=now_ms - int((now_s - item.first_s) * 1000),
            due_at_ms=now_ms + int(wait_s * 1000),
            last_error=_storable(error),
            resume_stage=SEND,
            event=outgoing.body,
        )

    def drop_row(self, item: LaneEvent) -> None:
        assert item.outgoing is not None
        self.rows -= 1
        self.rows_bytes -= len(item.outgoing.body)
        self._row_changes[self._row_key(item)] = None
        item.has_row = False

    def _row_key(self, item: LaneEvent) -> tuple[str, str, str, int]:
        return (self.lane, "", self.partition, item.place)

    # -- the commit ----------------------------------------------------------------------------------------------

    def collect(self, changes: Changes) -> None:
        """Hand over everything since the last call. With a thousand lanes a commit this counts: what is empty costs
        nothing."""
        minute = self._clock.now_ms() // 60_000
        if self._delivered:
            for kind, counts in self._delivered.items():
                self._add(changes, minute, kind, DELIVERED, "", counts)
            self._delivered = {}
            for (source, bucket), count in self._latencies.items():
                latency = LatencyKey(minute, self.lane, source, bucket)
                changes.latencies[latency] = changes.latencies.get(latency, 0) + count
            self._latencies = {}
        if self._others:
            for (kind, outcome, reason), counts in self._others.items():
                self._add(changes, minute, kind, outcome, reason, counts)
            self._others = {}
        if self._losses:
            for (source, received_minute, reason), count in self._losses.items():
                loss = LossKey(self.lane, source, received_minute, reason)
                changes.losses[loss] = changes.losses.get(loss, 0) + count
            self._losses = {}
        if self._attempts:
            changes.attempts += self._attempts
            self._attempts = []
        if self._samples:
            changes.samples += self._samples
            self._samples = []
        if self._row_changes:
            changes.rows.update(self._row_changes)
            self._row_changes = {}

    def _add(self, changes: Changes, minute: int, kind: Kind, outcome: str, reason: str, counts: RecordCounts) -> None:
        source, event_type, name, app_version = kind
        key = RecordKey(minute, self.lane, source, "", event_type, name, app_version, outcome, reason)
        known = changes.record.get(key)
        if known is None:
            changes.record[key] = counts
        else:
            known.add(counts)
        if outcome != RETRY:
            book = LaneKey(self.lane, source, outcome, reason)
            changes.lane_books[book] = changes.lane_books.get(book, 0) + counts.events


def _storable(text: str) -> str:
    """Without lone surrogates, which no database takes."""
    return text.encode("utf-8", "replace").decode()
