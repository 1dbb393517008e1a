"""A cursor on one partition of the accepted log that goes on where the log was shortened under it, and says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trunkline.delivery.accepted import EnvelopeReader
from trunkline.log.base import ACCEPTED, EventLog, Reader, Record
from trunkline.log.records import OBJECT_COUNT_PREFIX, Envelope
from trunkline.schema.database import Cursor, Skip


class Follower:
    """Envelopes that count, each once. Methods raise LogError, RecordError; then make another from the last cursor."""

    def __init__(self, log: EventLog, partition: str, cursor: Cursor) -> None:
        self._partition = partition
        self._records = _CountedReader(log, partition, cursor)
        self._envelopes = EnvelopeReader(self._records, cursor.epoch)
        self._covered = dict(cursor.covered)
        self._committed = cursor

    @property
    def moved(self) -> bool:
        """Whether it is beyond the last cursor."""
        return self._envelopes.position > self._committed.position

    def read(self, max_bytes: int) -> Iterator[Envelope]:
        for placed in self._envelopes.read(max_bytes):
            envelope = placed.envelope
            group = (envelope.partition, envelope.group)
            if envelope.start < self._covered.get(group, 0):
                continue  # the log repeats an append that was observed before this process began
            self._covered[group] = envelope.stop
            yield envelope

    @property
    def position(self) -> int:
        return self._envelopes.position

    def cursor(self) -> Cursor:
        """Behind all that was read."""
        return Cursor(self.position, self._envelopes.epoch, dict(self._covered), self._records.units)

    def skips(self, now_ms: int) -> list[Skip]:
        """What was passed over since the last cursor."""
        return [Skip(now_ms, self._partition, position, events) for position, events in self._records.skips]

    def committed(self, cursor: Cursor) -> None:
        self._committed = cursor
        self._records.skips.clear()

    def close(self) -> None:
        self._envelopes.close()


class _CountedReader:
    """A reader that counts what it passes. By the log's own totals it tells how much was dropped before it came."""

    def __init__(self, log: EventLog, partition: str, cursor: Cursor) -> None:
        self._log = log
        self._partition = partition
        self._reader: Reader = log.reader(ACCEPTED, partition, cursor.position)
        self.units = cursor.units
        self.skips: list[tuple[int, int]] = []
        """Position and events."""

    @property
    def position(self) -> int:
        return self._reader.position

    def read(self, max_bytes: int, max_records: int = 1_000_000) -> list[Record]:
        expected = self._reader.position
        records = self._reader.read(max_bytes, max_records)
        if records and (self.units is None or records[0].position != expected):
            before = _events(self._log.totals(ACCEPTED, self._partition, records[0].position).counts)
            if self.units is not None and before > self.units:
                self.skips.append((records[0].position, before - self.units))
            self.units = before
        for record in records:
            self.units = (self.units or 0) + _events(record.counts)
        return records

    def seek(self, position: int) -> None:
        self._reader.seek(position)

    def close(self) -> None:
        self._reader.close()


def _events(counts: Mapping[str, int]) -> int:
    return sum(count for key, count in counts.items() if not key.startswith(OBJECT_COUNT_PREFIX))
