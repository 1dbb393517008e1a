"""How the archive's objects are called and cut: that of Segment's own S3 destination (``spec/platform.md`` §1.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file holds. Each kind has objects, tables of the index and a retention of its own, so that whoever reads
    one never meets the other.

    ``tables`` is what the names of its tables begin with, ``since_schema`` the version of the index that brought them.
    """

    name: str
    root: str
    tables: str
    since_schema: int


ACCEPTED_EVENTS: Final = Kind("accepted", "segment-logs", "", 1)
"""What passed the source stage: the archive."""
BLOCKED_EVENTS: Final = Kind("blocked", "blocked-events", "blocked_", 2)
"""What the source stage discarded after dedupe, as it was ingested."""
KINDS: Final = (ACCEPTED_EVENTS, BLOCKED_EVENTS)

DAY_MS: Final = 86_400_000

MEMBER_EVENTS: Final = 4096
"""Lines of one gzip member at most: so that a line's number fits into a place."""
MEMBER_BYTES: Final = 1 << 20
"""Uncompressed bytes after which a member ends: what a reader fetches and holds at once."""
MEMBERS_A_FILE: Final = 0xFFFF
MEMBER_NUMBER_BITS: Final = 16
FILE_LIMIT_BYTES: Final = 90_000_000
"""Compressed bytes after which a file ends. With the last member it stays below 100 MB, Segment's own limit."""
NEWLINES: Final = bytes.maketrans(b"\r\n", b"  ")
"""In JSON a raw line end can only stand between tokens, where a space means the same."""


def day_of(received_at_ms: int) -> int:
    """UTC midnight of the day, in milliseconds since the epoch."""
    return received_at_ms // DAY_MS * DAY_MS


def object_key(kind: Kind, source: str, day_ms: int, archive_id: str, partition: str, first_place: int) -> str:
    """``segment-logs/<source>/<day>/<file>.gz``, or ``blocked-events/…``.

    The name comes from what the file holds, so a flush that is repeated writes the same object again. ``archive_id``
    is the index's own: another data directory that begins anew in the same bucket overwrites nothing.
    """
    return f"{kind.root}/{source}/{day_ms}/{archive_id}-{partition}-{first_place:016x}.gz"


def member_position(file_id: int, number: int) -> int:
    """A member's place in the whole archive: ordered as they were written."""
    return file_id << MEMBER_NUMBER_BITS | number


_BLOCKED_INDEX_BITS: Final = 16


def blocked_place(position: int, index: int) -> int:
    """The place of the ``index``-th blocked event of the envelope at ``position``: ordered as they were blocked.

    An envelope may block more events than it can have survivors, hence more room than :func:`place_of` has.
    """
    return position << _BLOCKED_INDEX_BITS | index


def blocked_position_of(place: int) -> int:
    """The position of the envelope that blocked the event at ``place``."""
    return place >> _BLOCKED_INDEX_BITS
