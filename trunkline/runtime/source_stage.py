"""The source stage: a range of the ingested log in, one envelope out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from trunkline.dedupe import DedupeIndex
from trunkline.log.base import Reader, Record
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    Delta,
    Envelope,
    IngestedChunk,
    decode_chunk,
)
from trunkline.pipeline.stages import Candidate, run_source_stages
from trunkline.spec.app_version import app_version_of
from trunkline.spec.outcomes import ACCEPTED, DUPLICATE, FAILED_ON_INGEST, OBJECT
from trunkline.state.base import MAX_SURVIVORS

SHARED_GROUP: Final = "shared"
"""The intake group of sources without a function in their path."""

RANGE_EVENTS: Final = 500
"""A range ends with the record that brings it to so many events: bounds a step on the worker's loop."""

_READ_BYTES: Final = 1 << 20

Counts = dict[tuple[str, str, str, str, str, str], int]
"""By source, type, name, outcome, reason and app version."""


class RangeReader:
    """Cuts a partition of the ingested log into ranges. What was read and did not fit waits for the next range."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: deque[tuple[Record, IngestedChunk]] = deque()

    def next_range(self) -> list[tuple[Record, IngestedChunk]]:
        """Whole records, at least one if there is one; ``[]`` at the head. Raises LogError, RecordError."""
        waiting = self._waiting
        if not waiting:
            waiting.extend((record, decode_chunk(record.payload)) for record in self._reader.read(_READ_BYTES))
        taken: list[tuple[Record, IngestedChunk]] = []
        events = 0
        while waiting and events < RANGE_EVENTS:
            chunk = waiting[0][1]
            size = len(chunk.events) + len(chunk.objects)
            if taken and events + size > MAX_SURVIVORS:
                break
            events += size
            taken.append(waiting.popleft())
        return taken

    def close(self) -> None:
        self._reader.close()


class SourceStage:
    """Runs the source stages over ranges. One for a worker; called on its loop."""

    def __init__(self, dedupe: DedupeIndex) -> None:
        self._dedupe = dedupe
        self._keys: list[bytes] = []
        self._times_ms: list[int] = []

    def build(
        self, partition: str, taken: Sequence[tuple[Record, IngestedChunk]], *, epoch: int, snapshot: str
    ) -> Envelope:
        """The envelope of a range. Inserts the dedupe keys: whoever calls must make this very envelope durable."""
        counts: Counts = {}
        candidates: list[Candidate] = []
        objects: list[AcceptedEvent] = []
        for _, chunk in taken:
            for rejection in chunk.rejections:
                _add(counts, (chunk.source, rejection.type, "", FAILED_ON_INGEST, rejection.code, ""))
            for body in chunk.objects:
                _add(counts, (chunk.source, OBJECT, "", OBJECT, "", ""))
                objects.append(AcceptedEvent(chunk.source, chunk.received_at_ms, "", OBJECT, "", body))
            for event in chunk.events:
                candidates.append(Candidate(chunk, event))
        self._keys, self._times_ms = [], []
        run_source_stages(candidates, {"dedupe": self._discard_duplicates})
        survivors: list[AcceptedEvent] = []
        for candidate in candidates:
            event, source = candidate.event, candidate.chunk.source
            version = app_version_of(event.body)
            if candidate.reason is not None:
                _add(counts, (source, event.type, event.name, candidate.outcome, candidate.reason, version))
                continue
            _add(counts, (source, event.type, event.name, ACCEPTED, "", version))
            received_at_ms = candidate.chunk.received_at_ms
            survivors.append(
                AcceptedEvent(source, received_at_ms, event.message_id, event.type, event.name, event.body, version)
            )
        return Envelope(
            version=RECORD_VERSION,
            epoch=epoch,
            partition=partition,
            group=SHARED_GROUP,
            start=taken[0][0].position,
            stop=taken[-1][0].next_position,
            snapshot=snapshot,
            survivors=survivors + objects,
            dedupe_keys=b"".join(self._keys),
            dedupe_times_ms=self._times_ms,
            deltas=[Delta(*key[:5], count, key[5]) for key, count in counts.items()],
        )

    def _discard_duplicates(self, candidates: Sequence[Candidate]) -> None:
        """Stage 4. An event without a messageId of its own cannot be a duplicate: ingest made its id."""
        own = [candidate for candidate in candidates if candidate.event.has_own_id]
        if not own:
            return
        keys = self._dedupe.keys([candidate.event.message_id for candidate in own])
        times_ms = [candidate.chunk.received_at_ms for candidate in own]
        for candidate, key, time_ms, is_new in zip(
            own, keys, times_ms, self._dedupe.add_new(keys, times_ms), strict=True
        ):
            if is_new:
                self._keys.append(key)
                self._times_ms.append(time_ms)
            else:
                candidate.reason = DUPLICATE


def _add(counts: Counts, key: tuple[str, str, str, str, str, str]) -> None:
    counts[key] = counts.get(key, 0) + 1
