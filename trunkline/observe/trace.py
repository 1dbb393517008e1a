"""Finding one event in the logs by its messageId, without decoding what does not hold it.

A record's payload is searched as it lies, and only where the id occurs is it decoded. Of the envelopes the heads are
read too: they tell which envelopes count, and which ingested ranges they cover.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from trunkline.delivery.accepted import EnvelopeFilter
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, Record
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    RecordError,
    decode_chunk,
    decode_envelope,
)
from trunkline.spec.outcomes import FILTERED_AT_SOURCE
from trunkline.state.base import place_of

READ_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """One time that ingest took the event. ``waits``: the source stage has not reached it. Otherwise it was accepted
    at ``place``, or, without a place, discarded for one of ``reasons``."""

    partition: str
    position: int
    at_ms: int
    source: str
    event: LoggedEvent
    waits: bool = True
    reasons: tuple[str, ...] = ()
    accepted_in: str = ""
    place: int | None = None


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
    """One event of the accepted log."""

    partition: str
    place: int
    event: AcceptedEvent


@dataclass(slots=True)
class Trace:
    """What the logs hold of one messageId. ``since_ms``: the receivedAt of the oldest event that is still in the
    ingested log, None when it is empty. ``searched_bytes`` are payloads."""

    received: list[Received] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    since_ms: int | None = None
    searched_bytes: int = 0


class _EnvelopeHead(msgspec.Struct, array_like=True, gc=False):
    """An envelope whose long parts are passed over."""

    version: int
    epoch: int
    partition: str
    group: str
    start: int
    stop: int
    snapshot: str
    survivors: msgspec.Raw
    dedupe_keys: msgspec.Raw
    dedupe_times_ms: msgspec.Raw
    deltas: msgspec.Raw
    fence: bool = False


_head_decoder = msgspec.msgpack.Decoder(_EnvelopeHead)


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
                head = _head(payload)
                if not counts.counts(_bare(head)):
                    continue
                holds = payload.find(needle) >= 0
                if not holds and not wanted.touches(head):
                    continue
                envelope = decode_envelope(payload)
                survivors = _survivors(envelope, record.position, partition, message_id)
                found.accepted += survivors
                wanted.settle(head, envelope, survivors)
    finally:
        reader.close()
    found.received = wanted.received


def _head(payload: bytes) -> _EnvelopeHead:
    try:
        head = _head_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not an envelope: {error}") from error
    if head.version != RECORD_VERSION:
        raise RecordError(f"envelope of version {head.version}; this program reads {RECORD_VERSION}")
    return head


def _bare(head: _EnvelopeHead) -> Envelope:
    """As much as tells whether it counts."""
    bounds = (head.version, head.epoch, head.partition, head.group, head.start, head.stop, head.snapshot)
    return Envelope(*bounds, [], b"", [], [], head.fence)


def _survivors(envelope: Envelope, position: int, partition: str, message_id: str) -> list[Accepted]:
    return [
        Accepted(partition, place_of(position, index), event)
        for index, event in enumerate(envelope.survivors)
        if event.message_id == message_id
    ]


class _Uncovered:
    """Ingested copies whose envelope is looked for."""

    def __init__(self, received: Sequence[Received]) -> None:
        self.received = list(received)

    def _within(self, head: _EnvelopeHead) -> list[int]:
        return [
            at
            for at, item in enumerate(self.received)
            if item.waits and item.partition == head.partition and head.start <= item.position < head.stop
        ]

    def touches(self, head: _EnvelopeHead) -> bool:
        return bool(self._within(head))

    def settle(self, head: _EnvelopeHead, envelope: Envelope, survivors: Sequence[Accepted]) -> None:
        """Of copies in one range the first ones survived, in order, whatever their number."""
        left = list(survivors)
        for at in self._within(head):
            item = self.received[at]
            survivor = next(
                (one for one in left if (one.event.source, one.event.received_at_ms) == (item.source, item.at_ms)), None
            )
            if survivor is not None:
                left.remove(survivor)
                self.received[at] = replace(item, waits=False, accepted_in=survivor.partition, place=survivor.place)
            else:
                self.received[at] = _discarded(item, envelope)


def _discarded(item: Received, envelope: Envelope) -> Received:
    """The envelope tells reasons by source, type and name: mostly there is one."""
    kind = (item.source, item.event.type, item.event.name)
    reasons = {
        delta.reason
        for delta in envelope.deltas
        if delta.outcome == FILTERED_AT_SOURCE and (delta.source, delta.type, delta.name) == kind
    }
    return replace(item, waits=False, reasons=tuple(sorted(reasons)))
