"""Which events a replay holds: ``<data>/replays/<id>.plan``, written once, read in pieces.

For each member of the archive that holds selected events: its position and which of its lines. The selection is
frozen with it: progress and books count against this file, whatever becomes of the archive.

The file: :data:`MAGIC`, then frames of length and CRC-32 (little endian, 4 bytes each) and MessagePack. The last frame
says how many members there are, so that nothing can be missing unnoticed.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from trunkline.files import sync_directory
from trunkline.replay.errors import PlanDamaged
from trunkline.state.base import LaneState, place_of

MAGIC: Final = b"TLREPLAY1\n"
FRAME_MEMBERS: Final = 128
_HEAD: Final = struct.Struct("<II")
_LONGEST_FRAME: Final = 1 << 24


class PlanMember(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member of the archive. ``first_place`` and ``events`` tell it from another that came to its position;
    ``lines`` is a bitmap of the lines that are selected, empty: all. ``readable`` False: it could not be read when the
    plan was made, so all of it was selected and none of it will be sent."""

    position: int
    source: str
    first_place: int
    events: int
    lines: bytes = b""
    readable: bool = True

    @property
    def selected(self) -> int:
        """How many events are selected."""
        return int.from_bytes(self.lines, "little").bit_count() if self.lines else self.events

    def selected_lines(self) -> Sequence[int]:
        """The lines that are selected, in order."""
        if not self.lines:
            return range(self.events)
        return [line for line in range(self.events) if self.lines[line >> 3] >> (line & 7) & 1]

    def unsettled(self, state: LaneState | None) -> int:
        """How many selected events a lane in this state has not settled."""
        if state is None:
            return self.selected
        first, last = place_of(self.position, 0), place_of(self.position, self.events - 1)
        if last < state.mark:
            return 0
        if state.mark <= first and not any(run[0] <= last and first <= run[1] for run in state.settled):
            return self.selected
        return sum(not state.is_settled(first + line) for line in self.selected_lines())


def bitmap(lines: Sequence[int], events: int) -> bytes:
    """``lines`` of a member with so many events; empty when they are all of them."""
    if len(lines) == events:
        return b""
    bits = bytearray((events + 7) // 8)
    for line in lines:
        bits[line >> 3] |= 1 << (line & 7)
    return bytes(bits)


class _Frame(msgspec.Struct, array_like=True):
    """``total`` is the number of members in the file, in the last frame only."""

    members: list[PlanMember]
    total: int = -1


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(_Frame)


class PlanWriter:
    """Writes a plan beside its place; :meth:`finish` puts it there, leaving without it leaves nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._draft.open("wb")
        self._file.write(MAGIC)
        self._waiting: list[PlanMember] = []
        self._total = 0
        self.end = 0
        """The position behind the last member."""

    def add(self, member: PlanMember) -> None:
        """Positions ascend."""
        self._waiting.append(member)
        self._total += 1
        self.end = member.position + 1
        if len(self._waiting) >= FRAME_MEMBERS:
            self._write(_Frame(self._waiting))
            self._waiting = []

    def _write(self, frame: _Frame) -> None:
        payload = _encode(frame)
        self._file.write(_HEAD.pack(len(payload), zlib.crc32(payload)))
        self._file.write(payload)

    def finish(self) -> None:
        """Durably. Raises OSError."""
        self._write(_Frame(self._waiting, self._total))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)
        sync_directory(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)


def read_plan(path: Path, start: int = 0) -> Iterator[PlanMember]:
    """The members from position ``start`` on, a frame in memory at a time. Raises PlanDamaged, while iterated too."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise PlanDamaged(f"{path}: is no plan of a replay that this program reads. Restore it from a backup")
            count, total = 0, -1
            while total < 0:
                head = file.read(_HEAD.size)
                size, crc = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 1)
                payload = file.read(min(size, _LONGEST_FRAME))
                if len(payload) != size or zlib.crc32(payload) != crc:
                    raise PlanDamaged(f"{path}: is damaged behind member {count}. Restore it from a backup")
                frame = _decoder.decode(payload)
                count += len(frame.members)
                total = frame.total
                for member in frame.members:
                    if member.position >= start:
                        yield member
            if count != total:
                raise PlanDamaged(f"{path}: holds {count} members instead of {total}. Restore it from a backup")
    except (OSError, msgspec.MsgspecError) as error:
        raise PlanDamaged(f"{path}: cannot be read: {error}. Restore it from a backup") from error


@dataclass(slots=True)
class PlanCounts:
    """A plan's events by source: all of them, and those that a lane has not settled."""

    selected: dict[str, int] = field(default_factory=dict)
    unsettled: dict[str, int] = field(default_factory=dict)


def count_plan(path: Path, state: LaneState | None) -> PlanCounts:
    """``state`` is the lane's, None: it has settled nothing. Raises PlanDamaged."""
    counts = PlanCounts()
    for member in read_plan(path):
        source = member.source
        counts.selected[source] = counts.selected.get(source, 0) + member.selected
        counts.unsettled[source] = counts.unsettled.get(source, 0) + member.unsettled(state)
    return counts
