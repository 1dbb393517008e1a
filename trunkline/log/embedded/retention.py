"""Removing old segments."""

from __future__ import annotations

import itertools
from pathlib import Path

from trunkline.files import sync_directory
from trunkline.log.embedded.format import segment_name
from trunkline.log.embedded.head import Head, sync_head
from trunkline.log.embedded.segment import INDEX_WINDOW_BYTES, SegmentCursor, list_segments


def segment_sizes(directory: Path) -> dict[int, int]:
    """Bytes of each segment file by first ordinal, ascending. Raises OSError."""
    sizes: dict[int, int] = {}
    for first in list_segments(directory):
        try:
            sizes[first] = (directory / segment_name(first)).stat().st_size
        except FileNotFoundError:
            continue  # another process's retention took it
    return sizes


def drop_segments(directory: Path, head: Head, consumed: int, older_than_ms: int, max_bytes: int) -> int:
    """Remove segments as :meth:`trunkline.log.base.EventLog.retain` says; return the bytes freed.

    The segment that the head is in always stays. Raises LogCorrupt, OSError.
    """
    sizes = segment_sizes(directory)
    segments = list(sizes)
    kept_bytes = sum(sizes.values())
    freed_bytes = 0
    for first, following in itertools.pairwise(segments):
        if first >= head.segment or following > consumed:
            break
        if kept_bytes <= max_bytes and _newest_append_ms(directory, following) >= older_than_ms:
            break
        if not freed_bytes:
            # After a loss of power the head must not be found in a segment that is gone.
            sync_head(directory)
        (directory / segment_name(first)).unlink(missing_ok=True)
        # One at a time, oldest first: a loss of power must not leave a hole.
        sync_directory(directory)
        freed_bytes += sizes[first]
        kept_bytes -= sizes[first]
    return freed_bytes


def _newest_append_ms(directory: Path, following: int) -> int:
    """When the last record before a segment was appended; the segment's own header says it."""
    cursor = SegmentCursor(directory, following, INDEX_WINDOW_BYTES)
    cursor.close()
    return cursor.header.previous_append_ms
