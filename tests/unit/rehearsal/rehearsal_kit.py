"""Recorded traffic in small: a log, what a source stage makes of it, an archive; and workspaces to compare."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trunkline.archive.index import ArchiveIndex
from trunkline.archive.local_store import LocalStore
from trunkline.archive.writer import PartitionWriter
from trunkline.delivery.programs import source_program_of
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, NewRecord
from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    BlockedEvent,
    Envelope,
    IngestedChunk,
    LoggedEvent,
    decode_chunk,
    encode_chunk,
    encode_envelope,
)
from trunkline.rehearsal.recorded import AcceptedArchive, BlockedArchive
from trunkline.rehearsal.run import Rehearsal
from trunkline.rehearsal.traffic import Traffic, Wanted
from trunkline.rehearsal.world import Given, World
from trunkline.spec.discards import Discard
from trunkline.spec.filters import Filter
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.timestamps import format_timestamp
from trunkline.testing.memory_log import MemoryLog
from trunkline.workspace.model import Destination, Snapshot, Source

T0 = 1_760_000_000_000
PARTITION = "ingest.0"


class HandClock:
    """Moves a millisecond whenever it is asked for monotonic time."""

    def __init__(self, now_ms: int = T0) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        self.ms += 1
        return self.ms / 1000


def source(slug: str, *, enabled: bool = True, filters: SchemaFilters | None = None) -> Source:
    return Source(slug, slug, "http", (f"wk_{slug}",), enabled, filters or SchemaFilters())


def destination(
    slug: str,
    *sources: str,
    filters: Sequence[Filter] = (),
    enabled: bool = True,
    consent: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Destination:
    return Destination(
        slug,
        slug,
        "webhook",
        sources or ("web",),
        enabled,
        settings or {},
        filters=tuple(filters),
        consent_categories=tuple(consent),
    )


def snapshot(sources: Sequence[Source], destinations: Sequence[Destination], **more: Any) -> Snapshot:
    return Snapshot(
        "v",
        "acme",
        "Acme",
        {item.slug: item for item in sources},
        {item.slug: item for item in destinations},
        **more,
    )


def event(message_id: str, name: str = "E", *, kind: str = "track", at_ms: int = T0, **more: Any) -> LoggedEvent:
    body = {"type": kind, "messageId": message_id, "receivedAt": format_timestamp(at_ms * 1000), **more}
    if kind == "track":
        body["event"] = name
    return LoggedEvent(message_id, kind, name if kind == "track" else "", json.dumps(body).encode())


def given(message_id: str, name: str = "E", *, source: str = "web", accepted: bool = False, **more: Any) -> Given:
    return Given(source, T0, event(message_id, name, **more), accepted)


class Record:
    """A log that a source stage of one workspace follows."""

    def __init__(
        self,
        workspace: Snapshot,
        directory: Path | None = None,
        *,
        kafka_like: bool = False,
        log: EventLog | None = None,
    ) -> None:
        """``directory``: the archive's, with none there is no archive."""
        self.workspace = workspace
        memory = MemoryLog(kafka_like, clock=HandClock())
        memory.duplicates = False
        self.log: EventLog = memory if log is None else log
        self._ingested = self.log.appender(INGESTED, PARTITION)
        self._accepted = self.log.appender(ACCEPTED, "0")
        self._reader = self.log.reader(INGESTED, PARTITION)
        self._seen: set[str] = set()
        self._index_path = directory / "archive.db" if directory else None
        self._store = LocalStore(directory / "archive") if directory else None

    def ingest(self, source: str, *events: LoggedEvent, at_ms: int = T0, objects: Sequence[bytes] = ()) -> None:
        """One request's record."""
        chunk = IngestedChunk(RECORD_VERSION, source, at_ms, list(events), [], list(objects))
        self._ingested.append([NewRecord(encode_chunk(chunk), chunk.counts())])

    def stage(self) -> None:
        """One envelope for what was ingested since: duplicates out, stages 5 to 7."""
        records = self._reader.read(1 << 30)
        survivors: list[AcceptedEvent] = []
        blocked: list[BlockedEvent] = []
        for record in records:
            chunk = decode_chunk(record.payload)
            at_ms = chunk.received_at_ms
            survivors += [AcceptedEvent(chunk.source, at_ms, "", "object", "", body) for body in chunk.objects]
            for item in chunk.events:
                if item.message_id in self._seen:
                    continue
                self._seen.add(item.message_id)
                result = source_program_of(self.workspace, chunk.source).run(item).event
                if isinstance(result, Discard):
                    head = (chunk.source, at_ms, item.message_id, item.type, item.name)
                    blocked.append(BlockedEvent(*head, item.body, result.reason))
                else:
                    head = (chunk.source, at_ms, result.message_id, result.type, result.name)
                    survivors.append(AcceptedEvent(*head, result.body))
        envelope = Envelope(
            RECORD_VERSION,
            1,
            PARTITION,
            "shared",
            records[0].position,
            records[-1].next_position,
            "v",
            survivors,
            b"",
            [],
            [],
            False,
            blocked,
        )
        self._accepted.append([NewRecord(encode_envelope(envelope), envelope.counts())])

    def archive(self) -> None:
        """All that was accepted or blocked so far."""
        assert self._index_path is not None
        assert self._store is not None
        index = ArchiveIndex(self._index_path)
        writer = PartitionWriter(
            self.log, "0", index, self._store, HandClock(), file_bytes=1 << 20, flush_s=1, buffer_bytes=1 << 20
        )
        while writer.advance():
            pass
        writer.flush()
        index.close()

    def forget(self, topic: str, records: int) -> None:
        """Retention takes the oldest records."""
        partition = PARTITION if topic == INGESTED else "0"
        positions = [item.next_position for item in itertools.islice(self.log.index(topic, partition, 0), records)]
        self.log.retain(topic, partition, consumed=positions[-1], older_than_ms=1 << 60, max_bytes=0)

    def object_files(self) -> list[Path]:
        """The archive's objects."""
        assert self._index_path is not None
        return sorted((self._index_path.parent / "archive").rglob("*.gz"))

    def traffic(self, wanted: Wanted | None = None) -> Traffic:
        accepted, blocked = None, None
        if self._index_path is not None and self._store is not None:
            accepted = AcceptedArchive(self._index_path, self._store)
            blocked = BlockedArchive(self._index_path, self._store)
        return Traffic(self.log, wanted or Wanted(0), accepted=accepted, blocked=blocked)

    def read(self, wanted: Wanted | None = None) -> list[Given]:
        return [item for batch in self.traffic(wanted).batches() for item in batch]


def ids(items: Sequence[Given]) -> Counter[str]:
    """How often each event came."""
    return Counter(item.event.message_id for item in items)


def rehearse(
    today: Snapshot, new: Snapshot, items: Sequence[Given], *, samples: int = 1000, **options: Any
) -> Rehearsal:
    rehearsal = Rehearsal(World(today, **options), World(new, **options), HandClock(), samples)
    for start in range(0, len(items), 7):
        rehearsal.take(items[start : start + 7])
    return rehearsal
