"""An archive in small: a log in memory, an object store that fails on demand, a clock that stands still."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator, Sequence
from hashlib import shake_256
from pathlib import Path

from tests.support.crashing import Killed
from tests.support.hand_clock import HandClock
from trunkline.archive.blocked_reader import BlockedReader
from trunkline.archive.errors import StoreError
from trunkline.archive.index import ArchiveIndex
from trunkline.archive.reader import ArchivedEvent, ArchiveReader
from trunkline.archive.store import ObjectInfo, ObjectStore
from trunkline.archive.writer import PartitionWriter
from trunkline.log.base import ACCEPTED, NewRecord
from trunkline.log.records import RECORD_VERSION, AcceptedEvent, BlockedEvent, Envelope, encode_envelope
from trunkline.spec.timestamps import format_timestamp
from trunkline.testing.memory_log import MemoryLog

DAY_MS = 86_400_000
T0 = 20_000 * DAY_MS
PARTITION = "0"


class FrailStore:
    """Another store, whose next writes may fail: ``failures`` of them before anything is written, then ``deaths``."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.failures = 0
        self.die_before: int | None = None
        """Put calls until the process dies, before the object is written."""
        self.die_after: int | None = None
        self.puts: list[str] = []
        self.gets: list[str] = []

    def put(self, key: str, content: bytes | Path) -> None:
        self.puts.append(key)
        if self.failures:
            self.failures -= 1
            raise StoreError("the store is down")
        self.die_before = self._count_down(self.die_before)
        self.store.put(key, content)
        self.die_after = self._count_down(self.die_after)

    @staticmethod
    def _count_down(left: int | None) -> int | None:
        if left == 0:
            raise Killed
        return None if left is None else left - 1

    def get(self, key: str) -> bytes:
        self.gets.append(key)
        return self.store.get(key)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.store.get_range(key, offset, length)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        return self.store.list(folder)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def describe(self) -> str:
        return "frail"


def event(message_id: str, *, source: str = "web", at_ms: int = T0, kind: str = "track", pad: int = 0) -> AcceptedEvent:
    name = "Order Completed" if kind == "track" else ""
    noise = shake_256(message_id.encode()).hexdigest(pad // 2)
    body = {"type": kind, "messageId": message_id, "receivedAt": format_timestamp(at_ms * 1000), "pad": noise}
    if name:
        body["event"] = name
    return AcceptedEvent(source, at_ms, message_id, kind, name, json.dumps(body).encode())


def blocked_event(
    message_id: str, *, source: str = "web", at_ms: int = T0, kind: str = "track", pad: int = 0, protocols: bytes = b""
) -> BlockedEvent:
    like = event(message_id, source=source, at_ms=at_ms, kind=kind, pad=pad)
    return BlockedEvent(source, at_ms, message_id, kind, like.name, like.body, "unplanned", protocols)


class World:
    """A log to append to and everything that archives it; :meth:`restart` is what a crash leaves."""

    def __init__(
        self,
        directory: Path,
        store: ObjectStore,
        *,
        log: MemoryLog | None = None,
        file_bytes: int = 64 << 20,
        flush_s: float = 300,
        buffer_bytes: int = 32 << 20,
        uploads: int = 1,
    ) -> None:
        self.path = directory / "archive.db"
        self.store = FrailStore(store)
        self.clock = HandClock(T0 + 1000)
        self.log = log or MemoryLog()
        self.settings = {"file_bytes": file_bytes, "flush_s": flush_s, "buffer_bytes": buffer_bytes, "uploads": uploads}
        self._appender = self.log.appender(ACCEPTED, PARTITION)
        self._ranges = itertools.count()
        self.appended: list[AcceptedEvent] = []
        self.blocked: list[BlockedEvent] = []
        self.reader = ArchiveReader(self.path, self.store)
        self.blocked_reader = BlockedReader(self.path, self.store)
        self.index: ArchiveIndex
        self.writer: PartitionWriter
        self.start()

    def start(self) -> None:
        self.index = ArchiveIndex(self.path)
        self.writer = PartitionWriter(
            self.log,
            PARTITION,
            self.index,
            self.store,
            self.clock,
            file_bytes=int(self.settings["file_bytes"]),
            flush_s=self.settings["flush_s"],
            buffer_bytes=int(self.settings["buffer_bytes"]),
            uploads=int(self.settings["uploads"]),
        )

    def restart(self) -> None:
        self.store.failures, self.store.die_before, self.store.die_after = 0, None, None
        self.index.close()
        self.start()

    def append(
        self,
        *events: AcceptedEvent,
        blocked: Sequence[BlockedEvent] = (),
        fence: bool = False,
        epoch: int = 0,
    ) -> int:
        """One envelope; its position."""
        at = next(self._ranges)
        bounds = (RECORD_VERSION, epoch, "ingest.0", "shared", at, at + 1, "v")
        envelope = Envelope(*bounds, list(events), b"", [], [], fence, list(blocked))
        if not fence:
            self.appended += [item for item in events if item.type != "object"]
            self.blocked += blocked
        return self._appender.append([NewRecord(encode_envelope(envelope), envelope.counts())])[0]

    def repeat(self, payload: bytes) -> None:
        """Append a record anew, as a log does whose acknowledgement was lost."""
        self._appender.append([NewRecord(payload, {})])

    def gather(self) -> None:
        while self.writer.advance():
            pass

    def archive(self) -> None:
        self.gather()
        self.writer.flush()

    def archived(self) -> list[ArchivedEvent]:
        return [item for member in self.reader.members() for item in self.reader.read_member(member.position)]

    def object_keys(self) -> list[str]:
        return sorted(item.key for item in self.store.list())

    def lines(self, root: str = "segment-logs") -> list[bytes]:
        """Every line of every object below a folder, as another tool would read them."""
        keys = [key for key in self.object_keys() if key.startswith(f"{root}/")]
        return [line for key in keys for line in gzip.decompress(self.store.get(key)).splitlines()]

    def check(self, expected: Sequence[AcceptedEvent] | None = None) -> None:
        """Each event once, in the order of the log within its file, in the index and in the objects."""
        expected = self.appended if expected is None else expected
        archived = self.archived()
        last: dict[tuple[str, int], int] = {}
        for item in archived:  # files of one source and day follow each other
            folder = (item.source, item.received_at_ms // DAY_MS)
            assert item.place > last.get(folder, -1), "out of order"
            last[folder] = item.place
        by_place = sorted(archived, key=lambda item: item.place)
        assert [item.message_id for item in by_place] == [item.message_id for item in expected]
        for found, sent in zip(by_place, expected, strict=True):
            assert (found.source, found.type, found.name) == (sent.source, sent.type, sent.name)
            assert (found.body, found.received_at_ms) == (sent.body, sent.received_at_ms)
        assert sorted(self.lines()) == sorted(item.body for item in expected)
        self.check_blocked()
        files = self.reader.files() + self.blocked_reader.files()
        assert self.object_keys() == sorted(file.key for file in files)

    def check_blocked(self) -> None:
        """Each blocked event once, a source's in the order in which they were blocked."""
        sources = {item.source for item in self.blocked}
        for source in sources:
            found = list(self.blocked_reader.events(sources=[source]))
            expected = [item for item in self.blocked if item.source == source]
            for day_ms in {item.received_at_ms // DAY_MS for item in expected}:
                of_day = [item for item in found if item.received_at_ms // DAY_MS == day_ms]
                assert of_day == [item for item in expected if item.received_at_ms // DAY_MS == day_ms]
        assert len(list(self.blocked_reader.events())) == len(self.blocked) == len(self.lines("blocked-events"))
