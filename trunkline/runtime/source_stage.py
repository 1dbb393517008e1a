"""The source stage: a range of the ingested log in, one envelope out."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.dedupe import DedupeIndex
from trunkline.delivery.forwarding import Forwarded, ForwardedViolations, Forwarder, forwarder_of
from trunkline.delivery.programs import source_program_of
from trunkline.log.base import Reader, Record
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    BlockedEvent,
    Delta,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    decode_chunk,
)
from trunkline.pipeline.source_program import EMPTY_PROGRAM, SourceProgram, SourceResult
from trunkline.pipeline.stages import Candidate, run_source_effects
from trunkline.spec.app_version import app_version_of
from trunkline.spec.codes import SOURCE_DISABLED
from trunkline.spec.discards import FORWARDING_LIMIT, Discard
from trunkline.spec.outcomes import (
    ACCEPTED,
    DUPLICATE,
    ENTERED,
    FAILED_ON_INGEST,
    FILTERED_AT_SOURCE,
    OBJECT,
)
from trunkline.state.base import MAX_SURVIVORS
from trunkline.workspace.model import Snapshot

SHARED_GROUP: Final = "shared"
"""The intake group of sources without a function in their path."""

RANGE_EVENTS: Final = 500
"""A range ends with the record that brings it to so many events: bounds a step on the worker's loop."""

SLICE_S: Final = 0.003
"""So long the programs of sources hold the worker's loop at a stretch."""

PASSED_BYTES: Final = 32 << 10
"""After so much of events that their sources let pass, the time is looked at."""

FORWARDED_BYTES: Final = 8 << 20
"""So much is forwarded in one envelope: each violation repeats the event's app, name and times."""

_READ_BYTES: Final = 1 << 20
_BROKEN: Final = SourceResult(Discard("INTERNAL", "a stage failed on the event"))

_log = structlog.get_logger(__name__)

_COUNTED_BY: Final = attrgetter("source", "type", "name", "app_version")

Counts = dict[tuple[str, str, str, str, str, str], int]
"""By source, type, name, outcome, reason and app version; of survivors there is a list."""


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


@dataclass(slots=True)
class _Draft:
    """What has become of a range so far."""

    candidates: list[Candidate]
    objects: list[AcceptedEvent]
    counts: Counts
    keys: list[bytes] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    survivors: list[AcceptedEvent] = field(default_factory=list)
    blocked: list[BlockedEvent] = field(default_factory=list)
    forwarded: list[tuple[int, Forwarded | ForwardedViolations]] = field(default_factory=list)
    """With the time at which it was received. Violations become events when they enter: of a flood, most do not fit."""
    forwarded_bytes: int = 0

    def room_bytes(self) -> int:
        """So large an event may still be forwarded; below 0: none."""
        is_full = len(self.survivors) + len(self.objects) >= MAX_SURVIVORS
        return -1 if is_full else FORWARDED_BYTES - self.forwarded_bytes

    def accept(self, source: str, event: LoggedEvent, received_at_ms: int, version: str) -> None:
        self.survivors.append(
            AcceptedEvent(source, received_at_ms, event.message_id, event.type, event.name, event.body, version)
        )

    def deltas(self) -> list[Delta]:
        """What was counted, and the survivors."""
        accepted = Counter(map(_COUNTED_BY, self.survivors))
        deltas = [Delta(*key[:5], count, key[5]) for key, count in self.counts.items()]
        deltas += [
            Delta(source, kind, name, ACCEPTED, "", count, version)
            for (source, kind, name, version), count in accepted.items()
        ]
        return deltas

    def discard(self, source: str, event: LoggedEvent, reason: str, outcome: str = FILTERED_AT_SOURCE) -> None:
        _add(self.counts, (source, event.type, event.name, outcome, reason, app_version_of(event.body)))


class SourceStage:
    """Runs the source stages over ranges. One for a worker; called on its loop."""

    def __init__(self, dedupe: DedupeIndex, clock: Clock) -> None:
        self._dedupe = dedupe
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._programs: dict[str, SourceProgram] = {}
        self._forwarders: dict[str, Forwarder | None] = {}

    def activate(self, snapshot: Snapshot) -> None:
        """Judge by this workspace from the next range on. What a source needs is compiled with its first event."""
        self._snapshot = snapshot
        self._programs = {}
        self._forwarders = {}

    async def build(
        self, partition: str, taken: Sequence[tuple[Record, IngestedChunk]], *, epoch: int, snapshot: str
    ) -> Envelope:
        """The envelope of a range. Inserts the dedupe keys: whoever calls must make this very envelope durable.

        Yields to the loop now and then; no other range may be begun, nor a snapshot activated, meanwhile.
        """
        draft = self._begin(taken)
        until_s = self._clock.monotonic_s() + SLICE_S
        for _ in self._judge(draft):
            if self._clock.monotonic_s() >= until_s:
                await asyncio.sleep(0)
                until_s = self._clock.monotonic_s() + SLICE_S
        return Envelope(
            version=RECORD_VERSION,
            epoch=epoch,
            partition=partition,
            group=SHARED_GROUP,
            start=taken[0][0].position,
            stop=taken[-1][0].next_position,
            snapshot=snapshot,
            survivors=draft.survivors + draft.objects,
            dedupe_keys=b"".join(draft.keys),
            dedupe_times_ms=draft.times_ms,
            deltas=draft.deltas(),
            blocked=draft.blocked,
        )

    def _begin(self, taken: Sequence[tuple[Record, IngestedChunk]]) -> _Draft:
        """Count what ingest rejected, and discard duplicates."""
        draft = _Draft([], [], {})
        candidates: list[Candidate] = []
        for _, chunk in taken:
            for rejection in chunk.rejections:
                _add(draft.counts, (chunk.source, rejection.type, "", FAILED_ON_INGEST, rejection.code, ""))
            for body in chunk.objects:
                _add(draft.counts, (chunk.source, OBJECT, "", OBJECT, "", ""))
                draft.objects.append(AcceptedEvent(chunk.source, chunk.received_at_ms, "", OBJECT, "", body))
            candidates += [Candidate(chunk, event) for event in chunk.events]
        draft.candidates = run_source_effects(
            candidates, {"dedupe": lambda candidates: self._discard_duplicates(draft, candidates)}
        )
        if len(draft.candidates) < len(candidates):
            for candidate in candidates:
                if candidate.reason is not None:
                    draft.discard(candidate.chunk.source, candidate.event, candidate.reason, candidate.outcome)
        return draft

    def _judge(self, draft: _Draft) -> Iterator[None]:
        """Take the events through their sources' programs, then those that are forwarded through theirs. Stops after
        each about which there was something to do, and now and then."""
        passed_bytes = 0
        chunk: IngestedChunk | None = None
        for candidate in draft.candidates:
            if candidate.chunk is not chunk:
                chunk = candidate.chunk
                source, received_at_ms = chunk.source, chunk.received_at_ms
                program = self._program(source)
            event = candidate.event
            version = _passes(program, event)
            if version is not None:
                draft.accept(source, event, received_at_ms, version)
                passed_bytes += len(event.body)
                if passed_bytes >= PASSED_BYTES:
                    passed_bytes = 0
                    yield
                continue
            result = _run(program, event, forwarded=False)
            if isinstance(result.event, Discard):
                reason = result.event.reason
                draft.discard(source, event, reason)
                draft.blocked.append(
                    BlockedEvent(
                        source,
                        received_at_ms,
                        event.message_id,
                        event.type,
                        event.name,
                        event.body,
                        reason,
                        result.protocols,
                    )
                )
            else:
                draft.accept(source, result.event, received_at_ms, app_version_of(result.event.body))
            if result.protocols or isinstance(result.event, Discard):
                forwarder = self._forwarder(source)
                if forwarder is not None:
                    forwarded = forwarder.collect(event, result, received_at_ms)
                    draft.forwarded += [(received_at_ms, item) for item in forwarded]
            yield
        for received_at_ms, item in draft.forwarded:
            if isinstance(item, Forwarded):
                self._enter(draft, item, received_at_ms)
            else:
                yield from self._enter_violations(draft, item, received_at_ms)
            yield

    def _enter(self, draft: _Draft, item: Forwarded, received_at_ms: int) -> None:
        """An event enters another source, behind that one's dedupe and plan."""
        event = item.event
        version = app_version_of(event.body)
        _add(draft.counts, (item.to, event.type, event.name, ENTERED, "", version))
        if not self._is_enabled(item.to):
            draft.discard(item.to, event, SOURCE_DISABLED)
        elif len(event.body) > draft.room_bytes():
            draft.discard(item.to, event, FORWARDING_LIMIT)
        else:
            self._pass_forwarded(draft, item.to, event, received_at_ms, version)

    def _enter_violations(self, draft: _Draft, item: ForwardedViolations, received_at_ms: int) -> Iterator[None]:
        """An event's violations enter another source. What does not fit is counted without being made. Stops after
        each."""
        template = item.template()
        to, version, total = item.to, template.app_version, len(item.violations)
        over_limit = (to, item.type, item.name, FILTERED_AT_SOURCE, FORWARDING_LIMIT, version)
        _add(draft.counts, (to, item.type, item.name, ENTERED, "", version), total)
        if not self._is_enabled(to):
            _add(draft.counts, (to, item.type, item.name, FILTERED_AT_SOURCE, SOURCE_DISABLED, version), total)
            return
        for index in range(total):
            room_bytes = draft.room_bytes()
            if template.least_bytes > room_bytes:
                _add(draft.counts, over_limit, total - index)
                return
            event = item.make(template, index, room_bytes)
            if event is None:
                _add(draft.counts, over_limit)
            else:
                self._pass_forwarded(draft, to, event, received_at_ms, version)
            yield

    def _is_enabled(self, source: str) -> bool:
        assert self._snapshot is not None
        found = self._snapshot.sources.get(source)
        return found is not None and found.enabled

    def _pass_forwarded(
        self, draft: _Draft, source: str, event: LoggedEvent, received_at_ms: int, version: str
    ) -> None:
        """Take an event that another source forwards, and for which there is room, through this one's program."""
        draft.forwarded_bytes += len(event.body)
        program = self._program(source)
        if program.is_empty or _passes(program, event) is not None:
            draft.accept(source, event, received_at_ms, version)
            return
        result = _run(program, event, forwarded=True)
        if isinstance(result.event, Discard):
            draft.discard(source, event, result.event.reason)
        else:
            draft.accept(source, result.event, received_at_ms, app_version_of(result.event.body))

    def _program(self, source: str) -> SourceProgram:
        program = self._programs.get(source)
        if program is None:
            found = source_program_of(self._snapshot, source) if self._snapshot is not None else EMPTY_PROGRAM
            program = self._programs[source] = found
        return program

    def _forwarder(self, source: str) -> Forwarder | None:
        if source not in self._forwarders:
            found = forwarder_of(self._snapshot, source) if self._snapshot is not None else None
            self._forwarders[source] = found
        return self._forwarders[source]

    def _discard_duplicates(self, draft: _Draft, candidates: Sequence[Candidate]) -> None:
        """Stage 4. An event without a messageId of its own cannot be a duplicate: ingest made its id."""
        own = [candidate for candidate in candidates if candidate.event.has_own_id]
        if not own:
            return
        keys = self._dedupe.keys([candidate.event.message_id for candidate in own])
        times_ms = [candidate.chunk.received_at_ms for candidate in own]
        answers = self._dedupe.add_new(keys, times_ms)
        if all(answers):
            draft.keys += keys
            draft.times_ms += times_ms
            return
        for candidate, key, time_ms, is_new in zip(own, keys, times_ms, answers, strict=True):
            if is_new:
                draft.keys.append(key)
                draft.times_ms.append(time_ms)
            else:
                candidate.reason = DUPLICATE


def _passes(program: SourceProgram, event: LoggedEvent) -> str | None:
    try:
        return program.passes(event)
    except Exception as error:  # noqa: BLE001 - a bug in the quick look must not end the worker; it is told, and `run` says
        _log.exception("stage.bug", error=type(error).__name__)
        return None


def _run(program: SourceProgram, event: LoggedEvent, *, forwarded: bool) -> SourceResult:
    try:
        return program.run(event, forwarded=forwarded)
    except Exception as error:  # noqa: BLE001 - a stage's bug must not end the worker; nothing passes it unseen
        _log.exception("stage.bug", error=type(error).__name__)
        return _BROKEN


def _add(counts: Counts, key: tuple[str, str, str, str, str, str], count: int = 1) -> None:
    counts[key] = counts.get(key, 0) + count
