"""Writing one partition of the accepted log into the archive: the events that were accepted, and apart from them those
that were blocked.

Events are gathered in memory, compressed as they come. A *flush* makes all of it durable: it records the plan (where it
stops, how its objects are called), writes the objects and commits index and cursor together. Killed anywhere in
between, the next start finds the plan and repeats the same flush: same bounds, same names, same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from trunkline.archive.blocked_lines import BlockedLine, blocked_line
from trunkline.archive.file_draft import FileDraft, Line
from trunkline.archive.index import ArchiveIndex, Cursor, NewFile, Plan
from trunkline.archive.layout import ACCEPTED_EVENTS, BLOCKED_EVENTS, Kind, blocked_place, day_of, object_key
from trunkline.archive.store import ObjectStore
from trunkline.clock import Clock
from trunkline.delivery.accepted import EnvelopeReader
from trunkline.failpoints import failpoint
from trunkline.log.base import ACCEPTED, EventLog
from trunkline.log.records import AcceptedEvent, BlockedEvent, Envelope
from trunkline.state.base import place_of

READ_BYTES: Final = 1 << 20
BUFFER_BYTES: Final = 32 << 20
"""What is gathered at most before a flush: compressed members and events that are in none yet."""
WAITING_BYTES: Final = 16 << 20
"""Events in no member, of all sources together; above it, members end early."""

Written = Callable[[NewFile], None]


class PartitionWriter:
    """Follows one partition. Not for several threads. Every method may raise LogError, RecordError, StoreError or
    IndexFailed; then the same call may be made again."""

    def __init__(
        self,
        log: EventLog,
        partition: str,
        index: ArchiveIndex,
        store: ObjectStore,
        clock: Clock,
        *,
        file_bytes: int,
        flush_s: float,
        buffer_bytes: int = BUFFER_BYTES,
        uploads: int = 1,
    ) -> None:
        """``uploads``: so many objects are written at once, each in a thread."""
        self._log = log
        self._partition = partition
        self._index = index
        self._store = store
        self._clock = clock
        self._file_bytes_setting = file_bytes
        self._flush_s = flush_s
        self._buffer_bytes = buffer_bytes
        self._uploads = uploads
        self._waiting_limit_bytes = min(WAITING_BYTES, buffer_bytes // 2)
        self._reader: EnvelopeReader | None = None
        self._open()

    def _open(self) -> None:
        """Begin at the committed cursor, with a flush that was interrupted, if there was one."""
        if self._reader is not None:
            self._reader.close()
        self._unsure = False
        self._cursor = self._index.cursor(self._partition)
        self._plan = self._index.plan(self._partition)
        self._recorded = self._plan is not None
        self._file_bytes = self._plan.file_bytes if self._plan else self._file_bytes_setting
        self._reader = EnvelopeReader(
            self._log.reader(ACCEPTED, self._partition, self._cursor.position), self._cursor.epoch
        )
        self._covered = dict(self._cursor.covered)
        self._drafts: dict[tuple[Kind, str, int], FileDraft] = {}
        self._finished: list[FileDraft] = []
        self._uploaded: set[str] = set()
        self._position = self._cursor.position
        self._buffered_bytes = 0
        self._waiting_bytes = 0
        self._began_s: float | None = None
        self._oldest_ms: int | None = None
        # A process that is started again and again must not begin to wait anew each time.
        flushed_at_ms = self._cursor.flushed_at_ms
        self._waited_before_s = max(0.0, (self._clock.now_ms() - flushed_at_ms) / 1000) if flushed_at_ms else 0.0

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def flushing(self) -> bool:
        """Whether a flush has begun: nothing is read before it has ended."""
        return self._recorded

    def advance(self) -> bool:
        """Gather the next events. False at the head, and when there is enough for a flush."""
        self._make_sure()
        if self._plan is not None or self._buffered_bytes + self._waiting_bytes >= self._buffer_bytes:
            return False
        return self._read(None)

    def _make_sure(self) -> None:
        if self._unsure:
            self._open()

    def _read(self, stop: int | None) -> bool:
        assert self._reader is not None
        self._unsure = True  # unless all that was read is taken
        for placed in self._reader.read(READ_BYTES, stop):
            self._take(placed.position, placed.envelope)
        self._unsure = False
        moved = self._reader.position > self._position
        self._position = self._reader.position
        if moved and self._began_s is None:
            self._began_s = self._clock.monotonic_s()
        return moved

    def _take(self, position: int, envelope: Envelope) -> None:
        group = (envelope.partition, envelope.group)
        if envelope.start < self._covered.get(group, 0):
            return  # the log repeats an append that was archived before this process began
        self._covered[group] = envelope.stop
        for (source, day_ms), (events, places) in _grouped(position, envelope.survivors).items():
            self._add(ACCEPTED_EVENTS, source, day_ms, events, places)
        if envelope.blocked:
            for (source, day_ms), (lines, places) in _grouped_blocked(position, envelope.blocked).items():
                self._add(BLOCKED_EVENTS, source, day_ms, lines, places)
        if self._waiting_bytes >= self._waiting_limit_bytes:
            self._cut_all()

    def _add(self, kind: Kind, source: str, day_ms: int, events: Sequence[Line], places: list[int]) -> None:
        if self._oldest_ms is None or events[0].received_at_ms < self._oldest_ms:
            self._oldest_ms = events[0].received_at_ms
        while events:
            draft = self._drafts.get((kind, source, day_ms))
            if draft is None:
                draft = FileDraft(kind, source, day_ms, places[0], self._file_bytes)
                self._drafts[kind, source, day_ms] = draft
            size_bytes, waiting_bytes = draft.size_bytes, draft.waiting_bytes
            taken = draft.add(events, places)
            self._buffered_bytes += draft.size_bytes - size_bytes
            self._waiting_bytes += draft.waiting_bytes - waiting_bytes
            events, places = events[taken:], places[taken:]
            if draft.full:
                self._finished.append(self._drafts.pop((kind, source, day_ms)))

    def _cut_all(self) -> None:
        for draft in self._drafts.values():
            size_bytes = draft.size_bytes
            draft.cut()
            self._buffered_bytes += draft.size_bytes - size_bytes
        self._waiting_bytes = 0

    # -- flushing ------------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time for a flush: one has begun, there is enough, or the oldest event has waited enough."""
        if self._plan is not None or self._buffered_bytes + self._waiting_bytes >= self._buffer_bytes:
            return True
        if self._began_s is None:
            return False
        return self._clock.monotonic_s() - self._began_s + self._waited_before_s >= self._flush_s

    def lag_s(self) -> float:
        """Age of the oldest event that was read and is not archived; 0 when there is none."""
        return 0.0 if self._oldest_ms is None else max(0.0, (self._clock.now_ms() - self._oldest_ms) / 1000)

    def flush(self, on_written: Written = lambda file: None) -> int:
        """Make all that was gathered durable; how many events. ``on_written`` hears of each file once committed."""
        self._make_sure()
        assert self._reader is not None
        if self._plan is not None and self._position < self._plan.stop:
            while self._read(self._plan.stop):
                pass
        if self._position == self._cursor.position:
            return 0
        self._cut_all()
        self._finished += [draft for draft in self._drafts.values() if draft.members]
        self._drafts.clear()
        files = [
            NewFile(self._key_of(draft), self._partition, draft)
            for draft in sorted(self._finished, key=lambda draft: (draft.kind.name, draft.first_place))
        ]
        if self._plan is None:
            self._plan = Plan(self._position, self._file_bytes, tuple(file.key for file in files))
        if files and not self._recorded:
            self._index.begin(self._partition, self._plan)
            self._recorded = True
        self._upload_all([file for file in files if file.key not in self._uploaded])
        keys = {file.key for file in files}
        stale = [key for key in self._plan.keys if key not in keys]
        cursor = Cursor(self._position, self._reader.epoch, dict(self._covered), self._clock.now_ms())
        self._unsure = True  # a commit that fails may have been made all the same: the index knows
        self._index.commit(self._partition, cursor, files, stale)
        self._unsure = False
        self._go_on(cursor)
        for file in files:
            on_written(file)
        return sum(file.draft.events for file in files)

    def _key_of(self, draft: FileDraft) -> str:
        archive_id, partition = self._index.archive_id, self._partition
        return object_key(draft.kind, draft.source, draft.day_ms, archive_id, partition, draft.first_place)

    def _upload_all(self, files: Sequence[NewFile]) -> None:
        """What is there already stays, whatever fails: only the rest is tried again."""
        if self._uploads == 1 or len(files) <= 1:
            for file in files:
                self._upload(file)
            return
        with ThreadPoolExecutor(min(self._uploads, len(files)), "archive-upload") as pool:
            for future in [pool.submit(self._upload, file) for file in files]:
                future.result()

    def _upload(self, file: NewFile) -> None:
        failpoint("archive.upload.before")
        self._store.put(file.key, file.draft.content())
        failpoint("archive.upload.after")
        self._uploaded.add(file.key)

    def _go_on(self, cursor: Cursor) -> None:
        """Behind a flush, with the same reader."""
        self._cursor = cursor
        self._plan = None
        self._recorded = False
        self._file_bytes = self._file_bytes_setting
        self._finished = []
        self._uploaded.clear()
        self._buffered_bytes = self._waiting_bytes = 0
        self._began_s = self._oldest_ms = None
        self._waited_before_s = 0.0

    def close(self) -> None:
        """What was gathered and not flushed is read from the log again at the next start."""
        if self._reader is not None:
            self._reader.close()


def _grouped(
    position: int, survivors: Sequence[AcceptedEvent]
) -> dict[tuple[str, int], tuple[list[AcceptedEvent], list[int]]]:
    """An envelope's events with their places by source and received day, in order. Objects are no events."""
    groups: defaultdict[tuple[str, int], tuple[list[AcceptedEvent], list[int]]] = defaultdict(lambda: ([], []))
    first = place_of(position, 0)
    for index, event in enumerate(survivors):
        if event.type != "object":
            events, places = groups[event.source, day_of(event.received_at_ms)]
            events.append(event)
            places.append(first + index)
    return groups


def _grouped_blocked(
    position: int, blocked: Sequence[BlockedEvent]
) -> dict[tuple[str, int], tuple[list[BlockedLine], list[int]]]:
    """The same of its blocked events."""
    groups: defaultdict[tuple[str, int], tuple[list[BlockedLine], list[int]]] = defaultdict(lambda: ([], []))
    for index, event in enumerate(blocked):
        lines, places = groups[event.source, day_of(event.received_at_ms)]
        lines.append(blocked_line(event))
        places.append(blocked_place(position, index))
    return groups
