"""Running totals at a position, from the nearest full table before it and the indexes between."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trunkline.log.base import LogCorrupt, Totals
from trunkline.log.embedded.format import FLAG_FULL_TOTALS
from trunkline.log.embedded.head import Head
from trunkline.log.embedded.segment import INDEX_WINDOW_BYTES, SegmentCursor, list_segments

_STEP_BACK_BYTES: Final = 1 << 20
_REMOVED_RETRIES: Final = 100


def totals_at(directory: Path, head: Head, position: int) -> Totals:
    """Totals of all records below ``position``, which is at most the head's. Raises LogCorrupt, OSError.

    A position below the oldest retained record gets the totals, and the position, of that one.
    """
    for _ in range(_REMOVED_RETRIES):
        segments = list_segments(directory)
        if not segments:
            break
        position = max(position, segments[0])
        # A position at a segment's start is answered by the segment before too, but by this one's table at once.
        first = max(ordinal for ordinal in segments if ordinal <= position)
        try:
            cursor = SegmentCursor(directory, first, INDEX_WINDOW_BYTES)
        except FileNotFoundError:
            continue
        try:
            limit = head.offset if first == head.segment else cursor.size_bytes()
            return Totals(position, _totals_in(cursor, limit, position))
        finally:
            cursor.close()
    raise LogCorrupt(f"{directory}: no segment holds record {position}; the head is at record {head.next_ordinal}")


def _totals_in(cursor: SegmentCursor, limit: int, position: int) -> dict[str, int]:
    if position == cursor.first_ordinal:
        return dict(cursor.header.totals)
    cursor.seek(position, limit)
    totals = _nearest_full_table(cursor, limit, position)
    while cursor.ordinal < position:
        block = cursor.next_block(limit, payloads=False)
        if block is None:
            raise LogCorrupt(f"{cursor.path}: ends at offset {cursor.offset} before record {position}")
        if cursor.ordinal <= position:
            totals.update(block.index.totals)
            continue
        for counts in block.index.counts[: position - block.header.first_ordinal]:
            for key, count in counts.items():
                totals[key] = totals.get(key, 0) + count
        break
    return totals


def _nearest_full_table(cursor: SegmentCursor, limit: int, position: int) -> dict[str, int]:
    """Move the cursor from the block at ``position`` back behind one with a full table; return that table."""
    target = cursor.offset
    step = _STEP_BACK_BYTES
    while target - step > cursor.header.size_bytes:
        if cursor.find_from(target - step, target):
            full: tuple[int, int, dict[str, int]] | None = None
            while cursor.offset < target:
                block = cursor.next_block(limit, payloads=False)
                if block is None:
                    break
                if block.header.flags & FLAG_FULL_TOTALS and cursor.ordinal <= position:
                    full = cursor.offset, cursor.ordinal, dict(block.index.totals)
            if full is not None:
                cursor.skip(full[0], full[1])
                return full[2]
        step *= 2
    cursor.skip(cursor.header.size_bytes, cursor.first_ordinal)
    return dict(cursor.header.totals)
