"""Reading the events that the source stage blocked: by source and time, by messageId. Calls block; any thread may make
them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from trunkline.archive.blocked_lines import read_blocked_line
from trunkline.archive.layout import BLOCKED_EVENTS
from trunkline.archive.members import Member, MemberReader
from trunkline.archive.store import ObjectStore
from trunkline.log.records import BlockedEvent


class BlockedReader(MemberReader[BlockedEvent]):
    """The blocked events of one data directory, as old as ``blocked_retention_days`` at most.

    The newest, up to ``archive_flush_s`` old, are not in it yet: they are in the accepted log, in
    :attr:`trunkline.log.records.Envelope.blocked`.
    """

    def __init__(self, index_path: Path, store: ObjectStore) -> None:
        super().__init__(index_path, store, BLOCKED_EVENTS, "blocked_retention_days")

    def events(
        self,
        *,
        sources: Sequence[str] | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        stop: int | None = None,
    ) -> Iterator[BlockedEvent]:
        """Those received in [``since_ms``, ``until_ms``), a source's in the order in which they were blocked.

        One member is in memory at a time, 1 MiB and a single event at most. ``stop=last_position() + 1`` keeps out what
        is archived while one iterates. Raises ObjectMissing, ArchiveCorrupt, StoreError, IndexFailed.
        """
        for member in self.members(sources=sources, since_ms=since_ms, until_ms=until_ms, stop=stop):
            for event in self.read_member(member.position):
                at_ms = event.received_at_ms
                if (since_ms is None or since_ms <= at_ms) and (until_ms is None or at_ms < until_ms):
                    yield event

    def find(self, message_id: str) -> list[BlockedEvent]:
        """All with this messageId, oldest first: one that was blocked, forwarded and blocked again is there twice.
        Raises as :meth:`events`."""
        found = []
        for file_id in self._candidates(message_id, None):
            found += [event for event in self._backwards(file_id) if event.message_id == message_id]
        found.reverse()
        return sorted(found, key=lambda event: event.received_at_ms)

    def _event(self, member: Member, line: int, place: int, content: bytes) -> BlockedEvent:
        return read_blocked_line(content)
