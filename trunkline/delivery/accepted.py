"""Reading the accepted log: envelopes that count, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.log.base import Reader
from trunkline.log.records import Envelope, decode_envelope


@dataclass(frozen=True, slots=True)
class PlacedEnvelope:
    """An envelope with its position and the position behind it."""

    position: int
    next_position: int
    envelope: Envelope


class EnvelopeFilter:
    """Tells which envelopes count.

    Behind the fence of an epoch, envelopes of lower epochs do not (their writer had lost the partition), and neither
    does one whose range has been covered already (an append may be repeated by the engine).
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self._covered: dict[tuple[str, str], int] = {}

    def counts(self, envelope: Envelope) -> bool:
        if envelope.epoch < self.epoch:
            return False
        self.epoch = envelope.epoch
        if envelope.fence:
            return False
        key = (envelope.partition, envelope.group)
        if envelope.start < self._covered.get(key, 0):
            return False
        self._covered[key] = envelope.stop
        return True


class EnvelopeReader:
    """A cursor on the accepted log that yields the envelopes that count."""

    def __init__(self, reader: Reader, epoch: int = 0) -> None:
        self._reader = reader
        self._filter = EnvelopeFilter(epoch)

    @property
    def position(self) -> int:
        return self._reader.position

    @property
    def epoch(self) -> int:
        """The highest epoch read so far."""
        return self._filter.epoch

    def read(self, max_bytes: int, stop: int | None = None) -> Iterator[PlacedEnvelope]:
        """Envelopes of the next ``max_bytes``, none at or above position ``stop``."""
        for record in self._reader.read(max_bytes):
            if stop is not None and record.position >= stop:
                self._reader.seek(record.position)
                return
            envelope = decode_envelope(record.payload)
            if self._filter.counts(envelope):
                yield PlacedEnvelope(record.position, record.next_position, envelope)

    def advance(self, max_bytes: int) -> bool:
        """Pass over the next envelopes, noting their epochs. False at the head."""
        before = self._reader.position
        for _ in self.read(max_bytes):
            pass
        return self._reader.position != before

    def close(self) -> None:
        self._reader.close()
