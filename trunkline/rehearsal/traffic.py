"""Recorded traffic for a rehearsal, each event once.

The logs come first: of each envelope that they still hold, the events that it let pass or blocked, as they were
ingested, so that the source stages can be run again; duplicates are those that it names neither way. Where the
ingested log does not reach any more, what was accepted comes as it was accepted. What the accepted log does not hold
any more comes from the archive. Memory is bounded: an envelope and a member of the archive at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trunkline.archive.errors import ArchiveCorrupt, ArchiveError, ObjectMissing
from trunkline.archive.members import ArchiveFile, Member
from trunkline.delivery.accepted import EnvelopeReader
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, LogError, Reader, Record
from trunkline.log.records import (
    OBJECT_COUNT_PREFIX,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    RecordError,
    decode_chunk,
)
from trunkline.rehearsal.recorded import Archive, given_of_blocked
from trunkline.rehearsal.world import Given
from trunkline.spec.outcomes import OBJECT

BATCH_EVENTS: Final = 500
MAX_TROUBLES: Final = 10
_READ_BYTES: Final = 1 << 20
_END: Final = 1 << 48
"""A position above all others."""
_NEVER_MS: Final = 1 << 53


_Found = tuple[Given, bool]
"""An event, and whether it was blocked at its source."""


@dataclass(slots=True)
class Coverage:
    """What of the traffic was there.

    ``events``: all that were given out; ``from_ingested`` of them begin with the source stages, ``blocked`` of these
    had been discarded there; the others begin at stage 8. ``unreadable``: events that the archive did not give back.
    ``looked_at`` and ``expected`` tell how far the reading is; what is expected of the archive is an estimate. Times
    are receivedAt.
    """

    events: int = 0
    from_ingested: int = 0
    blocked: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    unreadable: int = 0
    troubles: list[str] = field(default_factory=list)
    looked_at: int = 0
    expected: int = 0

    def note(self, given: Given, *, blocked: bool) -> None:
        at_ms = given.received_at_ms
        self.events += 1
        self.from_ingested += not given.accepted
        self.blocked += blocked
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)

    def trouble(self, text: str, events: int = 0) -> None:
        """Something could not be read, and so many events with it."""
        self.unreadable += events
        if len(self.troubles) < MAX_TROUBLES and text not in self.troubles:
            self.troubles.append(text)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: received since then, of these sources (None: all). ``newest``: only about so many of the newest
    accepted ones, and what was blocked meanwhile; None: all."""

    since_ms: int
    sources: Collection[str] | None = None
    newest: int | None = None

    def holds(self, source: str, received_at_ms: int) -> bool:
        return received_at_ms >= self.since_ms and (self.sources is None or source in self.sources)

    def counted(self, counts: Mapping[str, int]) -> int:
        """Events among a record's counts."""
        if self.sources is None:
            return sum(count for key, count in counts.items() if not key.startswith(OBJECT_COUNT_PREFIX))
        return sum(counts.get(source, 0) for source in self.sources)


class Traffic:
    """One pass over what is recorded; :meth:`batches` is called once. Reads up to where the log ends at that moment."""

    def __init__(
        self, log: EventLog, wanted: Wanted, *, accepted: Archive | None = None, blocked: Archive | None = None
    ) -> None:
        """``accepted`` and ``blocked``: the archives of both; None: there is none."""
        self.coverage = Coverage()
        self.batch_events = BATCH_EVENTS
        """How many events a batch holds; who finds that batches take long may have smaller ones from the next on."""
        self._log = log
        self._archives = (accepted, blocked)
        self._wanted = wanted
        self._ingested = _IngestedRanges(log)
        self._oldest_ms = _NEVER_MS
        self._holes: dict[str, list[tuple[int, int]]] = {}
        """Positions [first, end) of accepted partitions that the log did not give, by partition."""

    def batches(self) -> Iterator[list[Given]]:
        """Empty ones come in between: whoever shows how far it is, or may be told to end, hears of it soon, however
        little is found.

        Raises ArchiveError for an archive that cannot be reached, while it is iterated too; what is missing in it or
        damaged is part of the coverage.
        """
        batch: list[_Found] = []
        try:
            for found in self._all():
                if found is None:
                    yield []
                    continue
                self._oldest_ms = min(self._oldest_ms, found[0].received_at_ms)
                batch.append(found)
                if len(batch) >= self.batch_events:
                    yield self._handed_out(batch)
                    batch = []
        except ArchiveError:
            yield self._handed_out(batch)
            raise
        yield self._handed_out(batch)

    def _handed_out(self, batch: Iterable[_Found]) -> list[Given]:
        for given, blocked in batch:
            self.coverage.note(given, blocked=blocked)
        return [given for given, _ in batch]

    def _all(self) -> Iterator[_Found | None]:
        """None: another piece was looked through."""
        coverage, newest = self.coverage, self._wanted.newest
        accepted, blocked = self._archives
        for partition in self._log.partitions(ACCEPTED):
            self._holes[partition] = [(0, self._first(partition))]
        coverage.expected = self._expected_of(self._archives)
        found = 0
        try:
            for partition in self._log.partitions(ACCEPTED):
                found += yield from self._of_log(partition)
        finally:
            self._ingested.close()
        since_ms = self._wanted.since_ms
        if accepted is not None and (newest is None or newest > found):
            coverage.expected = coverage.looked_at + self._expected_of(self._archives, found)
            members = self._members(accepted, since_ms)
            yield from self._of_members(accepted, members if newest is None else _last(members, newest - found))
        if blocked is not None:
            if newest is not None:
                since_ms = max(since_ms, self._oldest_ms)
            yield from self._of_members(blocked, self._members(blocked, since_ms), since_ms)
        coverage.expected = coverage.looked_at

    # -- the logs ------------------------------------------------------------------------------------------------

    def _of_log(self, partition: str) -> Generator[_Found | None, None, int]:
        """The generator's result: how many accepted events of the log were in question."""
        log, coverage = self._log, self.coverage
        reader: EnvelopeReader | None = None
        expected, behind, end = 0, 0, 0
        holes = self._holes[partition] = []
        try:
            end = log.totals(ACCEPTED, partition).position
            start, expected = self._start(partition, end)
            coverage.expected += expected
            reader = EnvelopeReader(log.reader(ACCEPTED, partition, start))
            while reader.position < end:
                before = reader.position
                for placed in reader.read(_READ_BYTES, end):
                    if placed.position > behind:
                        holes.append((behind, placed.position))
                    behind = placed.next_position
                    coverage.looked_at += self._wanted.counted(placed.envelope.counts())
                    yield from self._of_envelope(placed.envelope)
                if reader.position == before:
                    break
                yield None
        except (LogError, RecordError) as error:
            coverage.trouble(f"the accepted log cannot be read on: {error}")
        finally:
            if reader is not None:
                reader.close()
        if behind < end or not end:
            holes.append((behind, end or _END))
        return expected

    def _start(self, partition: str, end: int) -> tuple[int, int]:
        """From which position on, and how many accepted events there are from there."""
        wanted, log = self._wanted, self._log
        if wanted.newest is None:
            before = wanted.counted(log.totals(ACCEPTED, partition, 0).counts)
            return 0, wanted.counted(log.totals(ACCEPTED, partition, end).counts) - before
        there = sum(wanted.counted(record.counts) for record in log.index(ACCEPTED, partition, 0, end))
        if there <= wanted.newest:
            return 0, there
        skipped = 0
        for record in log.index(ACCEPTED, partition, 0, end):
            count = wanted.counted(record.counts)
            if there - skipped - count < wanted.newest:
                return record.position, there - skipped
            skipped += count
        return end, 0

    def _of_envelope(self, envelope: Envelope) -> Iterator[_Found]:
        wanted = self._wanted
        survivors = [
            event
            for event in envelope.survivors
            if event.type != OBJECT and wanted.holds(event.source, event.received_at_ms)
        ]
        blocked = [event for event in envelope.blocked if wanted.holds(event.source, event.received_at_ms)]
        if not survivors and not blocked:
            return
        chunks = self._chunks(envelope)
        if chunks is None:
            for event in survivors:
                logged = LoggedEvent(event.message_id, event.type, event.name, event.body)
                yield Given(event.source, event.received_at_ms, logged, accepted=True), False
            for stopped in blocked:
                yield given_of_blocked(stopped), True
            return
        left = Counter((event.source, event.message_id) for event in survivors)
        out = Counter((event.source, event.message_id) for event in blocked)
        for chunk in chunks:
            for logged in chunk.events:
                key = chunk.source, logged.message_id
                if left.get(key):
                    left[key] -= 1
                    yield Given(chunk.source, chunk.received_at_ms, logged), False
                elif out.get(key):
                    out[key] -= 1
                    yield Given(chunk.source, chunk.received_at_ms, logged), True

    def _chunks(self, envelope: Envelope) -> list[IngestedChunk] | None:
        """What was ingested in the envelope's range; None when it is not all there any more."""
        try:
            return self._ingested.chunks(envelope.partition, envelope.group, envelope.start, envelope.stop)
        except (LogError, RecordError) as error:
            self.coverage.trouble(f"the ingested log cannot be read, so what was accepted is taken as it is: {error}")
            return None

    # -- the archive ---------------------------------------------------------------------------------------------

    def _members(self, archive: Archive, since_ms: int) -> Iterator[Member]:
        """Members that may hold what is wanted and was not in the log, by position."""
        sources = None if self._wanted.sources is None else sorted(self._wanted.sources)
        stop = archive.last_position() + 1
        for member in archive.members(sources=sources, since_ms=since_ms, stop=stop):
            if self._missed(archive, member):
                yield member

    def _missed(self, archive: Archive, part: Member | ArchiveFile) -> float:
        """The part of its positions that the log did not give."""
        first, last = archive.positions(part)
        missed = sum(max(0, min(high, last + 1) - max(low, first)) for low, high in self._holes_of(part))
        return missed / (last + 1 - first)

    def _holes_of(self, part: Member | ArchiveFile) -> Sequence[tuple[int, int]]:
        return self._holes.get(part.partition, [(0, _END)])

    def _first(self, partition: str) -> int:
        """The first position that the log still holds."""
        try:
            end = self._log.totals(ACCEPTED, partition).position
            return next((record.position for record in self._log.index(ACCEPTED, partition, 0, end)), end)
        except LogError:
            return 0  # for a figure beside the result; who reads the log says what is wrong

    def _expected_of(self, archives: Iterable[Archive | None], found: int = 0) -> int:
        """About how many events of them are not in the log, when so many were found there."""
        sources, newest = None if self._wanted.sources is None else sorted(self._wanted.sources), self._wanted.newest
        try:
            expected = sum(
                round(file.events * self._missed(archive, file))
                for archive in archives
                if archive is not None
                for file in archive.files(sources=sources, since_ms=self._wanted.since_ms)
            )
        except ArchiveError:
            return 0  # likewise
        return expected if newest is None else min(expected, max(0, newest - found))

    def _of_members(self, archive: Archive, members: Iterable[Member], since_ms: int = 0) -> Iterator[_Found | None]:
        for member in members:
            yield None
            self.coverage.looked_at += round(member.events * self._missed(archive, member))
            try:
                events = archive.read(member)
            except (ObjectMissing, ArchiveCorrupt) as error:
                self.coverage.trouble(str(error), member.events)
                continue
            holes = self._holes_of(member)
            for placed in events:
                given = placed.given
                if given.received_at_ms < since_ms or not self._wanted.holds(given.source, given.received_at_ms):
                    continue
                if any(low <= placed.position < high for low, high in holes):
                    yield given, not given.accepted


def _last(members: Iterable[Member], events: int) -> Iterable[Member]:
    """The last members that hold so many events together; never more of them in memory than that."""
    kept: deque[Member] = deque()
    held = 0
    for member in members:
        kept.append(member)
        held += member.events
        while held - kept[0].events >= events:
            held -= kept.popleft().events
    return kept


class _IngestedRanges:
    """Ranges of the ingested log, asked for in order, partition by partition."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._readers: dict[tuple[str, str], tuple[Reader, deque[Record]]] = {}

    def chunks(self, partition: str, group: str, start: int, stop: int) -> list[IngestedChunk] | None:
        """The records in [``start``, ``stop``); None when the first is not there any more. Raises LogError,
        RecordError."""
        found = self._readers.get((partition, group))
        if found is None:
            found = self._readers[partition, group] = self._log.reader(INGESTED, partition, start), deque()
        reader, waiting = found
        while waiting and waiting[0].position < start:
            waiting.popleft()
        if not waiting:
            reader.seek(start)
        while not waiting or waiting[-1].position < stop:
            records = reader.read(_READ_BYTES)
            if not records:
                break
            waiting.extend(records)
        if not waiting or waiting[0].position != start:
            return None
        taken = []
        while waiting and waiting[0].position < stop:
            taken.append(decode_chunk(waiting.popleft().payload))
        return taken

    def close(self) -> None:
        for reader, _ in self._readers.values():
            reader.close()


def waiting_events(log: EventLog, cursors: Mapping[str, int]) -> int:
    """Events that are ingested and wait for the source stage. ``cursors``: how far it is, by partition. Raises
    LogError."""
    waiting = 0
    for partition in log.partitions(INGESTED):
        heads = log.totals(INGESTED, partition).counts
        done = log.totals(INGESTED, partition, cursors.get(partition, 0)).counts
        waiting += sum(
            count - done.get(key, 0) for key, count in heads.items() if not key.startswith(OBJECT_COUNT_PREFIX)
        )
    return max(0, waiting)
