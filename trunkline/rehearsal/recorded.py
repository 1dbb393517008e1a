"""What the archive holds, as a rehearsal takes it: events with the positions of their envelopes in the accepted log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from trunkline.archive.blocked_lines import read_blocked_line
from trunkline.archive.layout import BLOCKED_EVENTS, blocked_position_of
from trunkline.archive.members import ArchiveFile, Member, MemberReader, Members
from trunkline.archive.reader import ArchiveReader
from trunkline.archive.store import ObjectStore
from trunkline.log.records import BlockedEvent, LoggedEvent
from trunkline.rehearsal.world import Given
from trunkline.state.base import position_of


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A recorded event and the position of its envelope."""

    position: int
    given: Given


class Archive(Members, Protocol):
    """Archived events of one kind. Calls raise ArchiveError."""

    def files(
        self, *, sources: Sequence[str] | None = None, since_ms: int | None = None, until_ms: int | None = None
    ) -> Sequence[ArchiveFile]: ...

    def positions(self, part: Member | ArchiveFile) -> tuple[int, int]:
        """Of the envelopes of its first event and its last."""
        ...

    def read(self, member: Member) -> list[Placed]: ...


class AcceptedArchive:
    """What was accepted, as the source stages left it."""

    def __init__(self, index_path: Path, store: ObjectStore) -> None:
        self._reader = ArchiveReader(index_path, store)
        self.files = self._reader.files
        self.members = self._reader.members
        self.last_position = self._reader.last_position

    def positions(self, part: Member | ArchiveFile) -> tuple[int, int]:
        return position_of(part.first_place), position_of(part.last_place)

    def read(self, member: Member) -> list[Placed]:
        return [
            Placed(
                position_of(event.place),
                Given(
                    event.source,
                    event.received_at_ms,
                    LoggedEvent(event.message_id, event.type, event.name, event.body),
                    accepted=True,
                ),
            )
            for event in self._reader.read_member(member.position)
        ]


class BlockedArchive(MemberReader[Placed]):
    """What the source stages discarded, as it was ingested."""

    def __init__(self, index_path: Path, store: ObjectStore) -> None:
        super().__init__(index_path, store, BLOCKED_EVENTS, "blocked_retention_days")

    def positions(self, part: Member | ArchiveFile) -> tuple[int, int]:
        return blocked_position_of(part.first_place), blocked_position_of(part.last_place)

    def read(self, member: Member) -> list[Placed]:
        return self.read_member(member.position)

    def _event(self, member: Member, line: int, place: int, content: bytes) -> Placed:
        return Placed(blocked_position_of(place), given_of_blocked(read_blocked_line(content)))


def given_of_blocked(event: BlockedEvent) -> Given:
    """A blocked event begins with the source stages again. What was forwarded of it is recorded apart."""
    logged = LoggedEvent(event.message_id, event.type, event.name, event.body)
    return Given(event.source, event.received_at_ms, logged, forwards=False)
