"""The log's twin in memory: the same contract without a disk, and a mode that gives no more than Kafka gives."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trunkline.clock import Clock, SystemClock
from trunkline.log.base import LogError, LogLocked, NewRecord, Record, RecordIndex, Totals


@dataclass(slots=True)
class _Append:
    """What one append wrote: the unit of retention, as a segment is on disk."""

    appended_ms: int
    records: list[Record]
    size_bytes: int


@dataclass(slots=True)
class _Partition:
    appends: list[_Append] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    dropped_below: int = 0
    next_position: int = 0
    appender: MemoryAppender | None = None

    def records(self, start: int) -> Iterator[Record]:
        first = bisect_left(self.appends, start, key=lambda append: append.records[-1].position)
        for append in itertools.islice(self.appends, first, None):
            yield from (record for record in append.records if record.position >= start)


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


class MemoryAppender:
    """See :class:`trunkline.log.base.Appender`. After :meth:`MemoryLog.rebalance` its appends raise LogLocked."""

    def __init__(self, log: MemoryLog, partition: _Partition, name: str) -> None:
        self._log = log
        self._partition = partition
        self._name = name
        self._closed = False
        partition.appender = self

    @property
    def head(self) -> int:
        return self._partition.next_position

    def append(self, records: Sequence[NewRecord]) -> list[int]:
        if self._closed:
            raise LogError(f"{self._name}: the appender is closed")
        if self._partition.appender is not self:
            raise LogLocked(f"{self._name}: another appender has taken over")
        return self._log._write(self._partition, records)

    def close(self) -> None:
        self._closed = True
        if self._partition.appender is self:
            self._partition.appender = None


class MemoryReader:
    """See :class:`trunkline.log.base.Reader`."""

    def __init__(self, log: MemoryLog, topic: str, name: str, position: int) -> None:
        self._log = log
        self._topic = topic
        self._name = name
        self._position = position
        self._closed = False

    @property
    def position(self) -> int:
        return self._position

    def read(self, max_bytes: int, max_records: int = 1_000_000) -> list[Record]:
        if self._closed:
            raise LogError("the reader is closed")
        partition = self._log._find(self._topic, self._name)
        records: list[Record] = []
        if partition is None:
            return records
        size_bytes = 0
        for record in partition.records(self._position):
            size_bytes += len(record.payload)
            if len(records) >= max_records or (records and size_bytes > max_bytes):
                break
            records.append(record)
        if records:
            self._position = records[-1].next_position
        return records

    def seek(self, position: int) -> None:
        self._position = position

    def close(self) -> None:
        self._closed = True


class MemoryLog:
    """See :class:`trunkline.log.base.EventLog`. One process, no threads.

    ``kafka_like`` leaves gaps in the positions, appends a record twice now and then (set ``duplicates`` to False to
    stop that) and allows :meth:`rebalance`. The same ``seed`` gives the same gaps and duplicates.
    """

    def __init__(self, kafka_like: bool = False, seed: int = 0, *, clock: Clock | None = None) -> None:
        self.kafka_like = kafka_like
        self.duplicates = kafka_like
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self._clock: Clock = clock or SystemClock()
        self._topics: dict[str, dict[str, _Partition]] = {}

    def partitions(self, topic: str) -> list[str]:
        return sorted(self._topics.get(topic, {}))

    def appender(self, topic: str, partition: str) -> MemoryAppender:
        place = self._topics.setdefault(topic, {}).setdefault(partition, _Partition())
        if place.appender is not None:
            raise LogLocked(f"{topic}/{partition}: somebody appends to this partition already")
        return MemoryAppender(self, place, f"{topic}/{partition}")

    def rebalance(self, topic: str, partition: str) -> None:
        """Take the partition away from its appender, as Kafka does: its next append raises LogLocked."""
        place = self._find(topic, partition)
        if place is not None:
            place.appender = None

    def reader(self, topic: str, partition: str, position: int = 0) -> MemoryReader:
        return MemoryReader(self, topic, partition, position)

    def index(self, topic: str, partition: str, start: int, stop: int | None = None) -> Iterator[RecordIndex]:
        place = self._find(topic, partition)
        if place is None:
            return iter(())
        end = place.next_position if stop is None else min(stop, place.next_position)
        return (
            RecordIndex(record.position, record.next_position, record.counts)
            for record in list(place.records(start))
            if record.position < end
        )

    def totals(self, topic: str, partition: str, position: int | None = None) -> Totals:
        place = self._find(topic, partition)
        if place is None:
            return Totals(0, {})
        end = place.next_position if position is None else min(position, place.next_position)
        if place.appends and place.dropped_below:
            end = max(end, place.appends[0].records[0].position)
        counts = dict(place.dropped)
        for record in place.records(0):
            if record.position < end:
                _add(counts, record.counts)
        return Totals(end, counts)

    def check(self, topic: str, partition: str) -> list[str]:
        place = self._find(topic, partition)
        problems: list[str] = []
        behind = 0
        for record in place.records(0) if place else ():
            if record.position < behind or record.next_position <= record.position:
                problems.append(f"{topic}/{partition}: record {record.position} is out of order")
            behind = record.next_position
        if place and behind > place.next_position:
            problems.append(f"{topic}/{partition}: record {behind} lies above the head")
        return problems

    def retain(self, topic: str, partition: str, *, consumed: int, older_than_ms: int, max_bytes: int) -> int:
        place = self._find(topic, partition)
        freed_bytes = 0
        while place and len(place.appends) > 1:
            oldest = place.appends[0]
            too_much = sum(append.size_bytes for append in place.appends) > max_bytes
            if oldest.records[-1].position >= consumed or not (too_much or oldest.appended_ms < older_than_ms):
                break
            for record in oldest.records:
                _add(place.dropped, record.counts)
            place.dropped_below = oldest.records[-1].next_position
            freed_bytes += oldest.size_bytes
            del place.appends[0]
        return freed_bytes

    def size_bytes(self, topic: str) -> int:
        return sum(append.size_bytes for place in self._topics.get(topic, {}).values() for append in place.appends)

    def _find(self, topic: str, partition: str) -> _Partition | None:
        return self._topics.get(topic, {}).get(partition)

    def _write(self, place: _Partition, new: Sequence[NewRecord]) -> list[int]:
        if not new:
            return []
        written = [self._place(place, record) for record in new]
        positions = [record.position for record in written]
        if self.duplicates and self._random.random() < 0.25:
            # A producer that missed the acknowledgement sends again: the copies come after the whole batch.
            again = self._random.sample(range(len(new)), self._random.randint(1, len(new)))
            written += [self._place(place, new[at]) for at in sorted(again)]
        size_bytes = sum(len(record.payload) for record in written)
        place.appends.append(_Append(self._clock.now_ms(), written, size_bytes))
        return positions

    def _place(self, place: _Partition, new: NewRecord) -> Record:
        gap = self._random.choice((0, 0, 1, 3)) if self.kafka_like else 0
        position = place.next_position + gap
        place.next_position = position + 1
        return Record(position, position + 1, bytes(new.payload), dict(new.counts))
