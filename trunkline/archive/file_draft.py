"""Files of the archive while they are made: gzip members of whole lines, and what the index will say of them."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from trunkline.archive import bloom
from trunkline.archive.layout import FILE_LIMIT_BYTES, MEMBER_BYTES, MEMBER_EVENTS, MEMBERS_A_FILE, NEWLINES, Kind
from trunkline.archive.places import pack_places

_LEVEL: Final = 1
_GZIP: Final = 31
_STEP: Final = 256


class Line(Protocol):
    """What a file holds: ``body`` is the line, JSON."""

    @property
    def received_at_ms(self) -> int: ...
    @property
    def message_id(self) -> str: ...
    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class MemberDraft:
    """A finished member: ``length`` bytes at ``offset`` of the file."""

    offset: int
    length: int
    events: int
    first_received_at_ms: int
    last_received_at_ms: int
    first_place: int
    last_place: int
    places: bytes


class FileDraft:
    """One file in memory: events of one kind and source, received on one day, in the order of the log.

    What comes out depends on nothing but the events and the calls of :meth:`cut`: the same flush makes the same bytes.
    """

    def __init__(self, kind: Kind, source: str, day_ms: int, first_place: int, file_bytes: int) -> None:
        self.kind = kind
        self.source = source
        self.day_ms = day_ms
        self.first_place = first_place
        self.members: list[MemberDraft] = []
        self.size_bytes = 0
        self.raw_bytes = 0
        self._file_bytes = file_bytes
        self._content: list[bytes] = []
        self._keys = array("Q")
        self._events: list[Line] = []
        self._places: list[int] = []
        self.waiting_bytes = 0
        """Bytes of events that are in no member yet."""

    @property
    def full(self) -> bool:
        """Whether the next event belongs into another file."""
        return (
            self.raw_bytes >= self._file_bytes
            or self.size_bytes >= FILE_LIMIT_BYTES
            or len(self.members) >= MEMBERS_A_FILE
        )

    @property
    def events(self) -> int:
        return len(self._keys) + len(self._events)

    def add(self, events: Sequence[Line], places: Sequence[int]) -> int:
        """Take events as long as the file is not full; how many were taken."""
        taken = 0
        while taken < len(events) and not self.full:
            stop = taken + min(_STEP, MEMBER_EVENTS - len(self._events))
            part = events[taken:stop]
            self._events += part
            self._places += places[taken:stop]
            self.waiting_bytes += sum([len(event.body) for event in part]) + len(part)
            taken += len(part)
            if self.waiting_bytes >= MEMBER_BYTES or len(self._events) >= MEMBER_EVENTS:
                self.cut()
        return taken

    def cut(self) -> None:
        """End the member that is open, if there is one."""
        events, places = self._events, self._places
        if not events:
            return
        bodies = [event.body for event in events]
        text = b"\n".join(bodies)
        if b"\r" in text or text.count(b"\n") != len(bodies) - 1:
            text = b"\n".join([body.translate(NEWLINES) for body in bodies])
        # A line end of its own call would be a second copy of the text; it is a member's last byte instead.
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        content = packer.compress(text) + packer.compress(b"\n") + packer.flush()
        received = [event.received_at_ms for event in events]
        self.members.append(
            MemberDraft(
                self.size_bytes,
                len(content),
                len(events),
                min(received),
                max(received),
                places[0],
                places[-1],
                pack_places(places),
            )
        )
        hash_id = bloom.hash_id
        self._keys.extend([hash_id(event.message_id) for event in events])
        self._content.append(content)
        self.size_bytes += len(content)
        self.raw_bytes += self.waiting_bytes
        self._events, self._places, self.waiting_bytes = [], [], 0

    def content(self) -> bytes:
        """The whole file. Call :meth:`cut` first."""
        return b"".join(self._content)

    def bloom_slices(self) -> list[bytes]:
        return bloom.build(self._keys)
