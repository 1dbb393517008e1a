"""A cursor on one partition: it follows the durable head over blocks and segments."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline.log.base import LogCorrupt, LogError, Record, RecordIndex
from trunkline.log.embedded.head import Head, HeadView
from trunkline.log.embedded.segment import (
    INDEX_WINDOW_BYTES,
    READ_WINDOW_BYTES,
    Block,
    SegmentCursor,
    list_segments,
)

_REMOVED_RETRIES: Final = 100


class BlockWalk:
    """Blocks of a partition in order, from a position up to the durable head, over segments.

    Starts at the block that holds the position, or at the oldest retained one if that lies above it.
    """

    def __init__(self, directory: Path, *, payloads: bool) -> None:
        self._directory = directory
        self._payloads = payloads
        self._window_bytes = READ_WINDOW_BYTES if payloads else INDEX_WINDOW_BYTES
        self._cursor: SegmentCursor | None = None
        self._sealed_at: int | None = None

    def next(self, position: int, head: Head) -> Block | None:
        """The block that holds ``position`` or, where retention took it, the oldest; None at the head.

        ``position`` must be where the last block ended, unless :meth:`reset` was called. Raises LogCorrupt, OSError.
        """
        while True:
            cursor = self._cursor
            if cursor is None:
                cursor = self._open_at(position, head)
                if cursor is None:
                    return None
            block = cursor.next_block(self._limit(cursor, head), payloads=self._payloads)
            if block is not None:
                return block
            if cursor.first_ordinal >= head.segment:
                return None
            self._follow(cursor)

    def reset(self) -> None:
        """Forget the place; the next call of :meth:`next` looks its position up."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def _limit(self, cursor: SegmentCursor, head: Head) -> int:
        if cursor.first_ordinal >= head.segment:
            return head.offset if cursor.first_ordinal == head.segment else 0
        # A segment behind the head's is complete: the next one is made only after its last block is durable.
        if self._sealed_at is None:
            self._sealed_at = cursor.size_bytes()
        return self._sealed_at

    def _open_at(self, position: int, head: Head) -> SegmentCursor | None:
        for _ in range(_REMOVED_RETRIES):
            segments = list_segments(self._directory)
            if not segments:
                raise LogCorrupt(
                    f"{self._directory}: no segment is left, yet the head is at record {head.next_ordinal}"
                )
            first = segments[max(0, bisect_right(segments, position) - 1)]
            try:
                cursor = SegmentCursor(self._directory, first, self._window_bytes)
            except FileNotFoundError:
                continue  # retention took it between the listing and the opening
            self._sealed_at = None
            try:
                cursor.seek(position, self._limit(cursor, head))
            except BaseException:
                cursor.close()
                raise
            self._cursor = cursor
            return cursor
        raise LogCorrupt(f"{self._directory}: segments vanish while they are opened, at record {position}")

    def _follow(self, cursor: SegmentCursor) -> None:
        ordinal = cursor.ordinal
        try:
            self._cursor = SegmentCursor(self._directory, ordinal, self._window_bytes)
            self._sealed_at = None
        except FileNotFoundError:
            segments = list_segments(self._directory)
            # Retention removes the oldest first: a hole with an older segment before it is no work of retention.
            if not segments or segments[0] <= ordinal:
                raise LogCorrupt(
                    f"{cursor.path}: ends at offset {cursor.offset} before record {ordinal}, "
                    "and the segment that should start there is missing"
                ) from None
            self.reset()
        else:
            cursor.close()


class EmbeddedReader:
    """See :class:`trunkline.log.base.Reader`. Verifies every checksum of what it returns.

    A corrupt block raises LogCorrupt each time it is reached; only :meth:`seek` goes past it. A reader whose segment
    was removed meanwhile goes on at the oldest retained record.
    """

    def __init__(self, directory: Path, head: HeadView, position: int) -> None:
        self._head = head
        self._walk = BlockWalk(directory, payloads=True)
        self._position = position
        self._block: Block | None = None
        self._at = 0
        self._payload_at = 0
        self._closed = False

    @property
    def position(self) -> int:
        return self._position

    def read(self, max_bytes: int, max_records: int = 1_000_000) -> list[Record]:
        """The next records: payloads of ``max_bytes`` at most, but at least one record. Raises LogCorrupt, LogError."""
        if self._closed:
            raise LogError("the reader is closed")
        records: list[Record] = []
        taken_bytes = 0
        while len(records) < max_records:
            try:
                block = self._block or self._next_block()
            except LogError:
                if records:
                    break  # what was read is good; the next call meets the error again
                raise
            if block is None:
                break
            lengths, counts, window = block.index.lengths, block.index.counts, block.window
            at, payload_at, position = self._at, self._payload_at, self._position
            stop = min(len(lengths), at + max_records - len(records))
            full = False
            while at < stop:
                length = lengths[at]
                taken_bytes += length
                if taken_bytes > max_bytes and records:
                    full = True
                    break
                behind = payload_at + length
                records.append(Record(position, position + 1, window[payload_at:behind], counts[at]))
                payload_at = behind
                position += 1
                at += 1
            self._at, self._payload_at, self._position = at, payload_at, position
            if at == len(lengths):
                self._block = None
            if full:
                break
        return records

    def seek(self, position: int) -> None:
        if position == self._position:
            return
        self._walk.reset()
        self._block = None
        self._position = position

    def close(self) -> None:
        self._walk.reset()
        self._block = None
        self._closed = True

    def _next_block(self) -> Block | None:
        head = self._head.read()
        if head is None or self._position >= head.next_ordinal:
            return None
        try:
            block = self._walk.next(self._position, head)
        except OSError as error:
            raise LogError(f"cannot read record {self._position}: {error}") from error
        if block is None:
            return None
        first = block.header.first_ordinal
        self._position = max(self._position, first)
        self._at = self._position - first
        self._payload_at = block.payload_at + sum(block.index.lengths[: self._at])
        self._block = block
        return block


def walk_index(directory: Path, head: Head, start: int, stop: int) -> Iterator[RecordIndex]:
    """Records with start <= position < stop, read from headers and indexes only. Raises LogCorrupt, OSError."""
    walk = BlockWalk(directory, payloads=False)
    position = start
    try:
        while position < stop:
            block = walk.next(position, head)
            if block is None:
                return
            ordinal = block.header.first_ordinal
            for counts in block.index.counts:
                if start <= ordinal < stop:
                    yield RecordIndex(ordinal, ordinal + 1, counts)
                ordinal += 1
            position = ordinal
    finally:
        walk.reset()
