"""The contract of the event log.

A *topic* (``ingested``, ``accepted``) has *partitions*; a partition has exactly one appender at a time and any
number of readers, in any process. In the embedded engine every ingest process appends to a partition of its own;
on Kafka a partition is Kafka's.

*Positions* are opaque and ordered: later records have greater positions, nothing else may be assumed: they are
not contiguous, and nothing subtracts them. A cursor is the position of the next record to read.

Every record carries ``counts``: how many units (events) it holds by key (a source slug). The log keeps running
totals of them, so that the books can be checked against the log without opening a payload.

Errors::

    LogError
    ├── LogFull      the disk has no room; nothing of the append is visible, the log is as it was before
    ├── LogLocked    another process appends to this partition
    └── LogCorrupt   a record's checksum, version or chain of totals is wrong; says which file and where
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

INGESTED = "ingested"
ACCEPTED = "accepted"


class LogError(Exception):
    """Base of everything the log raises."""


class LogFull(LogError):
    """The disk has no room. Nothing of the append is visible; it may be tried again later."""


class LogLocked(LogError):
    """Another process holds the partition's appender."""


class LogCorrupt(LogError):
    """A checksum, a format version or the chain of totals is wrong."""


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """What is appended: the payload and how many units it holds by key."""

    payload: bytes
    counts: Mapping[str, int]


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is read back. ``next_position`` is the cursor behind this record."""

    position: int
    next_position: int
    payload: bytes
    counts: Mapping[str, int]


class RecordIndex(msgspec.Struct, frozen=True, gc=False):
    """A record without its payload: enough to count it."""

    position: int
    next_position: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Totals:
    """Units of all records ever appended below ``position``, by key, retention notwithstanding."""

    position: int
    counts: Mapping[str, int]


class Appender(Protocol):
    """The one writer of a partition. Calls block until the data is durable; call from one thread at a time."""

    def append(self, records: Sequence[NewRecord]) -> list[int]:
        """Append all or nothing, durably; return the positions.

        Raises LogFull (nothing was appended; the appender stays usable) or LogError.
        """
        ...

    @property
    def head(self) -> int:
        """The position that the next record will get, or one above the last record's."""
        ...

    def close(self) -> None: ...


class Reader(Protocol):
    """A cursor on one partition. Sees durable records only."""

    @property
    def position(self) -> int:
        """Where the next read starts."""
        ...

    def read(self, max_bytes: int, max_records: int = 1_000_000) -> list[Record]:
        """The next records in order, at least one if there is one; ``[]`` at the head. Never blocks for data."""
        ...

    def seek(self, position: int) -> None:
        """Go on from here. A position below the oldest retained record means the oldest."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """Access to all topics and partitions. Cheap to make; holds no locks until an appender is opened."""

    def partitions(self, topic: str) -> list[str]:
        """Names of the partitions that exist now, sorted."""
        ...

    def appender(self, topic: str, partition: str) -> Appender:
        """Open (and create, and recover) the partition for appending. Raises LogLocked."""
        ...

    def reader(self, topic: str, partition: str, position: int = 0) -> Reader: ...

    def index(self, topic: str, partition: str, start: int, stop: int | None = None) -> Iterator[RecordIndex]:
        """Records with start <= position < stop (None: the durable head at the time of the call), no payloads."""
        ...

    def totals(self, topic: str, partition: str, position: int | None = None) -> Totals:
        """Running totals at a position (None: the durable head)."""
        ...

    def check(self, topic: str, partition: str) -> list[str]:
        """Problems found in the retained records: checksums of headers, chain of totals, gaps. Empty = sound."""
        ...

    def retain(self, topic: str, partition: str, *, consumed: int, older_than_ms: int, max_bytes: int) -> int:
        """Drop old segments; return the bytes freed.

        Only whole segments below ``consumed`` go (every consumer has passed them), and of these only those whose
        newest record was appended before ``older_than_ms`` (epoch) or which exceed ``max_bytes``, oldest first.
        """
        ...

    def size_bytes(self, topic: str) -> int: ...
