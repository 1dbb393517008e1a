"""Opening a partition for appending: what the last segment holds, where its sound part ends, what must go.

Only one append is in flight at a time and the next one starts after it is durable, so after a crash or a loss of
power the last block may be torn, and no other. A block that is not sound is cut off only if it is that last one and
lies above the published head; anything else is damage to durable records and raises LogCorrupt.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.failpoints import failpoint
from trunkline.log.base import LogCorrupt
from trunkline.log.embedded.format import FLAG_FULL_TOTALS, SegmentHeader
from trunkline.log.embedded.head import Head
from trunkline.log.embedded.segment import BadBlock, SegmentCursor, list_segments

NEW_SUFFIX: Final = ".new"
"""A segment file under this suffix is being made; it holds nothing yet."""
_REWRITE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """The state in which the appender goes on. ``truncated_bytes`` were cut off as the torn end of an append."""

    header: SegmentHeader
    path: Path
    offset: int
    next_ordinal: int
    totals: dict[str, int]
    full_totals_at: int
    newest_append_ms: int
    truncated_bytes: int


def recover(directory: Path, head: Head | None) -> Recovered | None:
    """Mend the end of the last segment and make it durable; None if the partition is empty. Needs the lock.

    Raises LogCorrupt, OSError.
    """
    for stray in directory.glob(f"*{NEW_SUFFIX}"):
        stray.unlink()
    segments = list_segments(directory)
    if not segments:
        if head is not None:
            raise LogCorrupt(f"{directory}: all segments are missing; the head is at record {head.next_ordinal}")
        return None
    cursor = SegmentCursor(directory, segments[-1])
    try:
        if head is not None and (
            head.segment > cursor.first_ordinal or (head.segment < cursor.first_ordinal < head.next_ordinal)
        ):
            raise LogCorrupt(
                f"{cursor.path}: is the last segment, but the head is at record {head.next_ordinal} "
                f"of the segment that starts with record {head.segment}"
            )
        size = cursor.size_bytes()
        durable = head.offset if head is not None and head.segment == cursor.first_ordinal else cursor.header.size_bytes
        recovered = _scan(cursor, size, durable)
        if head is not None and recovered.next_ordinal < head.next_ordinal:
            raise LogCorrupt(
                f"{cursor.path}: ends at offset {recovered.offset} before record {recovered.next_ordinal}, "
                f"but the head is at record {head.next_ordinal}"
            )
    finally:
        cursor.close()
    _make_durable(recovered, min(durable, recovered.offset))
    return recovered


def _scan(cursor: SegmentCursor, size: int, durable: int) -> Recovered:
    totals = dict(cursor.header.totals)
    newest_append_ms = cursor.header.previous_append_ms
    full_totals_at = cursor.header.size_bytes
    while cursor.offset < size:
        try:
            block = cursor.next_block(size, payloads=cursor.offset >= durable)
        except BadBlock as bad:
            if _is_torn_tail(cursor, bad, size, durable):
                break
            if bad.part != "payloads" or bad.end is None or bad.end > size:
                raise
            # Its records are counted and later ones sound: appending may go on, and whoever reads this one is told.
            block = cursor.next_block(size, payloads=False)
        if block is None:
            break
        totals.update(block.index.totals)
        newest_append_ms = block.header.appended_ms
        if block.header.flags & FLAG_FULL_TOTALS:
            full_totals_at = block.offset
    return Recovered(
        cursor.header,
        cursor.path,
        cursor.offset,
        cursor.ordinal,
        totals,
        full_totals_at,
        newest_append_ms,
        size - cursor.offset,
    )


def _is_torn_tail(cursor: SegmentCursor, bad: BadBlock, size: int, durable: int) -> bool:
    """Whether the bad block at the cursor is the unfinished last append."""
    if cursor.offset < durable or bad.part == "foreign":
        return False
    if bad.end is not None:
        # Its header is sound, so its extent is known; bytes behind it were written only once it was durable.
        return bad.end >= size
    place = cursor.offset, cursor.ordinal
    later = cursor.find_from(place[0] + 1, size)
    cursor.skip(*place)
    return not later


def _make_durable(recovered: Recovered, durable: int) -> None:
    """Cut the torn end off and bring everything above the published head to disk.

    Those bytes are written anew, not only synced: if the process died while a sync failed, the kernel may hold the
    pages for clean although they never reached the disk.
    """
    fd = os.open(recovered.path, os.O_RDWR)
    try:
        if recovered.truncated_bytes:
            os.ftruncate(fd, recovered.offset)
        at = durable
        while at < recovered.offset:
            data = os.pread(fd, min(_REWRITE_BYTES, recovered.offset - at), at)
            if not data:
                raise LogCorrupt(f"{recovered.path}: shrinks while it is recovered, at offset {at}")
            at += os.pwrite(fd, data, at)
        failpoint("log.recovery.before_fsync")
        os.fsync(fd)
        failpoint("log.recovery.after_fsync")
    finally:
        os.close(fd)
