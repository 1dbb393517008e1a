"""Finding one event in the logs by its messageId, without decoding what does not hold it.

A record's payload is searched as it lies, and only where the id occurs is it decoded. Of the envelopes the heads are
read too: they tell which envelopes count, and which ingested ranges they cover.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import msgspec

from trunkline.delivery.accepted import EnvelopeFilter
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, Record
from trunkline.log.records import (
    AcceptedEvent,
    BlockedEvent,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    decode_chunk,
    decode_envelope,
    decode_envelope_head,
)
from trunkline.pipeline.violation_events import ID_PREFIX, NAME
from trunkline.spec.outcomes import DUPLICATE, FILTERED_AT_SOURCE
from trunkline.state.base import place_of

READ_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """One time that ingest took the event. ``waits``: the source stage has not reached it. Otherwise it was
    ``accepted``, or ``blocked``, or else discarded for one of ``reasons``."""

    partition: str
    position: int
    at_ms: int
    source: str
    event: LoggedEvent
    waits: bool = True
    reasons: tuple[str, ...] = ()
    accepted: Accepted | None = None
    blocked: Blocked | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """One time that ingest refused it. ``excerpt`` is its first KB."""

    partition: str
    position: int
    at_ms: int
    source: str
    code: str
    type: str
    excerpt: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """One event of the accepted log. ``snapshot``: the version of the workspace that was in force."""

    partition: str
    place: int
    event: AcceptedEvent
    snapshot: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """One event that the source stage blocked, in the envelope at ``position``."""

    partition: str
    position: int
    event: BlockedEvent
    snapshot: str = ""


@dataclass(slots=True)
class Trace:
    """What the logs hold of one messageId. ``reports``: events that Trunkline made of its violations. ``since_ms``: the
    receivedAt of the oldest event that is still in the ingested log, None when it is empty. ``searched_bytes`` are
    payloads."""

    received: list[Received] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)
    reports: list[Accepted] = field(default_factory=list)
    since_ms: int | None = None
    searched_bytes: int = 0


def trace(log: EventLog, message_id: str) -> Trace:
    """Search both logs. Reads all that is retained: seconds a gigabyte. Raises LogError, RecordError."""
    found = Trace()
    for partition in log.partitions(INGESTED):
        _search_ingested(log, partition, message_id, found)
    for partition in log.partitions(ACCEPTED):
        _search_accepted(log, partition, message_id, found)
    found.received.sort(key=lambda item: (item.at_ms, item.partition, item.position))
    found.refused.sort(key=lambda item: (item.at_ms, item.partition, item.position))
    return found


def _search_ingested(log: EventLog, partition: str, message_id: str, found: Trace) -> None:
    needle = message_id.encode()
    in_json = _id_pattern(message_id)
    reader = log.reader(INGESTED, partition, 0)
    try:
        first = True
        while records := reader.read(READ_BYTES):
            for record in records:
                payload = record.payload
                found.searched_bytes += len(payload)
                if first:
                    first = False
                    _note_oldest(found, decode_chunk(payload).received_at_ms)
                if payload.find(needle) >= 0:
                    _take_chunk(decode_chunk(payload), record, partition, message_id, in_json, found)
    finally:
        reader.close()


def _note_oldest(found: Trace, at_ms: int) -> None:
    found.since_ms = at_ms if found.since_ms is None else min(found.since_ms, at_ms)


def _take_chunk(
    chunk: IngestedChunk, record: Record, partition: str, message_id: str, in_json: re.Pattern[bytes], found: Trace
) -> None:
    at_ms, source = chunk.received_at_ms, chunk.source
    for event in chunk.events:
        if event.message_id == message_id:
            found.received.append(Received(partition, record.position, at_ms, source, event))
    for rejection in chunk.rejections:
        if in_json.search(rejection.excerpt):
            refused = Refused(
                partition, record.position, at_ms, source, rejection.code, rejection.type, rejection.excerpt
            )
            found.refused.append(refused)


def _id_pattern(message_id: str) -> re.Pattern[bytes]:
    """The member ``messageId`` in a JSON text that may be cut off."""
    return re.compile(rb'"messageId"\s*:\s*' + re.escape(msgspec.json.encode(message_id)))


def _search_accepted(log: EventLog, partition: str, message_id: str, found: Trace) -> None:
    needle = message_id.encode()
    wanted = _Uncovered(found.received)
    counts = EnvelopeFilter()
    reader = log.reader(ACCEPTED, partition, 0)
    try:
        while records := reader.read(READ_BYTES):
            for record in records:
                payload = record.payload
                found.searched_bytes += len(payload)
                head = decode_envelope_head(payload)
                if not counts.counts(head):
                    continue
                holds = payload.find(needle) >= 0
                if not holds and not wanted.touches(head):
                    continue
                envelope = decode_envelope(payload)
                survivors = _survivors(envelope, record.position, partition, message_id)
                blocked = [
                    Blocked(partition, record.position, event, envelope.snapshot)
                    for event in envelope.blocked
                    if event.message_id == message_id
                ]
                found.accepted += survivors
                found.blocked += blocked
                if holds:
                    found.reports += _reports(envelope, record.position, partition, message_id)
                wanted.settle(envelope, survivors, blocked)
    finally:
        reader.close()
    found.received = wanted.received


def _survivors(envelope: Envelope, position: int, partition: str, message_id: str) -> list[Accepted]:
    return [
        Accepted(partition, place_of(position, index), event, envelope.snapshot)
        for index, event in enumerate(envelope.survivors)
        if event.message_id == message_id
    ]


def _reports(envelope: Envelope, position: int, partition: str, message_id: str) -> list[Accepted]:
    found = []
    for index, event in enumerate(envelope.survivors):
        report = report_of(event)
        if report is not None and report.event_message_id == message_id:
            found.append(Accepted(partition, place_of(position, index), event, envelope.snapshot))
    return found


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What an event says that was made of a violation (``spec/event_path.md`` §4.6). ``source_slug``: where it was."""

    event_message_id: str = msgspec.field(name="eventMessageID", default="")
    source_slug: str = ""
    violation_field: str = ""
    violation_description: str = ""


class _ReportBody(msgspec.Struct):
    properties: Report


_decode_report: Final = msgspec.json.Decoder(_ReportBody).decode


def report_of(event: AcceptedEvent) -> Report | None:
    """None: the event is not one that Trunkline made of a violation."""
    if event.name != NAME or not event.message_id.startswith(ID_PREFIX):
        return None
    try:
        return _decode_report(event.body).properties
    except msgspec.MsgspecError:
        return None  # somebody else's event of this name


class _Uncovered:
    """Ingested copies whose envelope is looked for."""

    def __init__(self, received: Sequence[Received]) -> None:
        self.received = list(received)

    def _within(self, head: Envelope) -> list[int]:
        return [
            at
            for at, item in enumerate(self.received)
            if item.waits and item.partition == head.partition and head.start <= item.position < head.stop
        ]

    def touches(self, head: Envelope) -> bool:
        return bool(self._within(head))

    def settle(self, envelope: Envelope, survivors: Sequence[Accepted], blocked: Sequence[Blocked]) -> None:
        """Of copies in one range the first one passed dedupe, and survived or was blocked; the others follow in order,
        whatever their number. What was forwarded is under another source."""
        survived, stopped = list(survivors), list(blocked)
        for at in self._within(envelope):
            item = self.received[at]
            accepted = _take(survived, item)
            block = _take(stopped, item) if accepted is None else None
            if accepted is not None or block is not None:
                self.received[at] = replace(item, waits=False, accepted=accepted, blocked=block)
            else:
                self.received[at] = _discarded(item, envelope)


_Placed = TypeVar("_Placed", Accepted, Blocked)


def _take(left: list[_Placed], item: Received) -> _Placed | None:
    """The first of them that is this copy, out of the list."""
    for one in left:
        if (one.event.source, one.event.received_at_ms) == (item.source, item.at_ms):
            left.remove(one)
            return one
    return None


def _discarded(item: Received, envelope: Envelope) -> Received:
    """The envelope tells reasons by source, type and name. Whatever passed dedupe and was discarded it holds whole, so
    among several reasons it is that one."""
    kind = (item.source, item.event.type, item.event.name)
    reasons = {
        delta.reason
        for delta in envelope.deltas
        if delta.outcome == FILTERED_AT_SOURCE and (delta.source, delta.type, delta.name) == kind
    }
    return replace(item, waits=False, reasons=(DUPLICATE,) if DUPLICATE in reasons else tuple(sorted(reasons)))
