"""Reading the archive of accepted events: by time, by place, by messageId. Calls block; any thread may make them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw

from trunkline.archive.layout import ACCEPTED_EVENTS
from trunkline.archive.members import ArchiveFile, Member, MemberReader
from trunkline.archive.store import ObjectStore
from trunkline.spec.timestamps import parse_timestamp

__all__ = ["ArchiveFile", "ArchiveReader", "ArchivedEvent", "Member"]


@dataclass(frozen=True, slots=True)
class ArchivedEvent:
    """An event as it was accepted. ``place`` is where it stood in the accepted log's partition."""

    line: int
    place: int
    body: bytes
    source: str
    received_at_ms: int
    message_id: str
    type: str
    name: str
    partition: str


_NOTHING: Final = Raw()


class _Head(msgspec.Struct, gc=False):
    """What is read of a body; the rest is passed over. A name may be anything where it is not the event's."""

    type: str
    messageId: str
    receivedAt: str
    event: Raw = _NOTHING
    name: Raw = _NOTHING


_decode_head: Final = msgspec.json.Decoder(_Head).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


class ArchiveReader(MemberReader[ArchivedEvent]):
    """The archive of one data directory."""

    def __init__(self, index_path: Path, store: ObjectStore) -> None:
        super().__init__(index_path, store, ACCEPTED_EVENTS, "archive_retention_days")

    def by_place_range(
        self, source: str, first_place: int, end_place: int, *, partition: str = "0", start: int = 0
    ) -> Iterator[Member]:
        """Members that hold places of the accepted log in [``first_place``, ``end_place``). Raises IndexFailed."""
        if first_place >= end_place:
            return
        where = "f.source=? AND f.partition=? AND f.last_place>=? AND m.last_place>=? AND m.first_place<?"
        yield from self._page(where, [source, partition, first_place, first_place, end_place], start, None)

    def find(self, message_id: str, *, source: str | None = None) -> ArchivedEvent | None:
        """The event that was archived last with this messageId. Raises as :meth:`read_member`."""
        for file_id in self._candidates(message_id, source):
            for event in self._backwards(file_id):
                if event.message_id == message_id:
                    return event
        return None

    def _event(self, member: Member, line: int, place: int, content: bytes) -> ArchivedEvent:
        head = _decode_head(content)
        received_at_us = parse_timestamp(head.receivedAt)
        if received_at_us is None:
            raise ValueError(f"line {line}: {head.receivedAt!r} is no time")
        name = bytes(head.event if head.type == "track" else head.name if head.type in ("page", "screen") else _NOTHING)
        return ArchivedEvent(
            line,
            place,
            content,
            member.source,
            received_at_us // 1000,
            head.messageId,
            head.type,
            _decode_text(name) if name.startswith(b'"') else "",
            member.partition,
        )
