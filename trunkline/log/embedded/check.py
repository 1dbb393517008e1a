"""Holding the retained records of a partition against themselves: checksums, order, chain of totals."""

from __future__ import annotations

from pathlib import Path

from trunkline.log.base import LogCorrupt
from trunkline.log.embedded.format import FLAG_FULL_TOTALS
from trunkline.log.embedded.head import Head
from trunkline.log.embedded.segment import BadBlock, Block, SegmentCursor, list_segments


def check_partition(directory: Path, head: Head | None) -> list[str]:
    """Problems, each with file, offset and record; [] if the partition is sound. Raises OSError."""
    segments = list_segments(directory)
    if head is None:
        return _check_without_head(directory, segments)
    if not segments:
        return [f"{directory}: no segment is left; the head is at record {head.next_ordinal}"]
    check = _Check(head)
    for first in segments:
        if first > head.segment:
            break  # being made just now, or above a head that is too low after a loss of power: nothing readable
        try:
            cursor = SegmentCursor(directory, first)
        except FileNotFoundError:
            left = list_segments(directory)
            if not left or left[0] < first:  # retention takes the oldest first
                check.problems.append(f"{directory}: the segment that starts with record {first} vanished")
            check.lose_track()
            continue
        except LogCorrupt as error:
            check.problems.append(str(error))
            check.lose_track()
            continue
        try:
            check.segment(cursor)
        finally:
            cursor.close()
    check.end(directory)
    return check.problems


def _check_without_head(directory: Path, segments: list[int]) -> list[str]:
    """A first segment without any record is all that may be there before a head was ever published."""
    try:
        cursors = [SegmentCursor(directory, first) for first in segments]
    except LogCorrupt as error:
        return [str(error)]
    sound = all(cursor.first_ordinal == 0 and cursor.size_bytes() == cursor.header.size_bytes for cursor in cursors)
    for cursor in cursors:
        cursor.close()
    if sound:
        return []
    return [f"{directory}: there are records, but no head is published; opening the partition's appender mends it"]


class _Check:
    def __init__(self, head: Head) -> None:
        self.problems: list[str] = []
        self._head = head
        self._expected: int | None = None  # the next ordinal, None after damage that hides it
        self._totals: dict[str, int] | None = None

    def lose_track(self) -> None:
        self._expected = self._totals = None

    def segment(self, cursor: SegmentCursor) -> None:
        header = cursor.header
        if self._expected is not None and header.first_ordinal != self._expected:
            self.problems.append(
                f"{cursor.path}: starts with record {header.first_ordinal}; the one before ends below {self._expected}"
            )
        if self._totals is not None and header.totals != self._totals:
            self._report_totals(f"{cursor.path}: the table at offset 0", header.totals, self._totals)
        self._expected = header.first_ordinal
        self._totals = dict(header.totals)
        limit = self._head.offset if header.first_ordinal == self._head.segment else cursor.size_bytes()
        while True:
            try:
                block = cursor.next_block(limit, payloads=True)
            except BadBlock as bad:
                self.problems.append(str(bad))
                if not self._go_past(cursor, bad, limit):
                    self.lose_track()
                    return
                continue
            if block is None:
                return
            self._block(cursor, block)

    def _go_past(self, cursor: SegmentCursor, bad: BadBlock, limit: int) -> bool:
        """Move on to where checking makes sense again; False if there is nothing more in this segment."""
        try:
            if bad.part == "payloads" and bad.end is not None and bad.end <= limit:
                block = cursor.next_block(limit, payloads=False)
                if block is not None:
                    self._block(cursor, block)
                    return True
            self.lose_track()
            if bad.part == "foreign":
                # Taken at its own word about its ordinal, so that later damage is found too.
                return bad.end is not None and cursor.find_from(cursor.offset, limit)
            start = bad.end if bad.part == "index" and bad.end is not None else cursor.offset + 1
            return cursor.find_from(start, limit)
        except BadBlock as again:
            self.problems.append(str(again))
            return False

    def _block(self, cursor: SegmentCursor, block: Block) -> None:
        index, place = block.index, f"{cursor.path}: the block at offset {block.offset}"
        if self._totals is None:
            # Behind damage the chain is picked up where a block tells all totals.
            if block.header.flags & FLAG_FULL_TOTALS:
                self._totals = dict(index.totals)
            self._expected = cursor.ordinal
            return
        touched: set[str] = set()
        for counts in index.counts:
            touched.update(counts)
            for key, count in counts.items():
                self._totals[key] = self._totals.get(key, 0) + count
        told = self._totals if block.header.flags & FLAG_FULL_TOTALS else {key: self._totals[key] for key in touched}
        if index.totals != told:
            self._report_totals(place, index.totals, told)
            self._totals.update(index.totals)  # one report for one break of the chain
        self._expected = cursor.ordinal

    def end(self, directory: Path) -> None:
        if self._expected is not None and self._expected != self._head.next_ordinal:
            self.problems.append(
                f"{directory}: the records end below {self._expected}, but the head is at {self._head.next_ordinal}"
            )

    def _report_totals(self, place: str, told: dict[str, int], summed: dict[str, int]) -> None:
        keys = sorted(key for key in told.keys() | summed.keys() if told.get(key) != summed.get(key))
        what = ", ".join(f"{key} {told.get(key)} (its records add up to {summed.get(key)})" for key in keys[:5])
        self.problems.append(f"{place} tells totals that break the chain: {what}")
