"""Reading one segment file: opening it, walking its blocks, finding a place in it."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Final, Literal

from trunkline.log.base import LogCorrupt
from trunkline.log.embedded.format import (
    BLOCK_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SEGMENT_SUFFIX,
    BlockHeader,
    BlockIndex,
    FormatError,
    SegmentHeader,
    UnknownVersion,
    decode_block_header,
    decode_index,
    decode_segment_header,
    find_block,
    segment_header_size,
    segment_name,
)

Part = Literal["header", "index", "payloads", "foreign"]
"""What is wrong with a block; ``foreign``: its checksum is right, but its version or its ordinal has no place here."""

READ_WINDOW_BYTES: Final = 256 * 1024
"""What a reader fetches in one call; larger blocks are fetched whole."""
INDEX_WINDOW_BYTES: Final = 16 * 1024
"""What a walk over indexes fetches in one call: many small blocks, or little of a large one's payloads."""
_PROBE_BYTES: Final = 64 * 1024
_WALK_BYTES: Final = 256 * 1024


class BadBlock(LogCorrupt):
    """A block that is not sound: which part of it, and where it would end if its header is to be believed."""

    def __init__(self, message: str, part: Part, end: int | None) -> None:
        super().__init__(message)
        self.part = part
        self.end = end


def list_segments(directory: Path) -> list[int]:
    """First ordinals of the segments in a partition's directory, ascending; [] if it does not exist."""
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names are enough, and this is called often
    except FileNotFoundError:
        return []
    stems = (name[: -len(SEGMENT_SUFFIX)] for name in names if name.endswith(SEGMENT_SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


class Block:
    """A block as read: its header, its index and, where they were asked for, its payloads' bytes."""

    __slots__ = ("end", "header", "index", "offset", "payload_at", "window")

    def __init__(self, offset: int, header: BlockHeader, index: BlockIndex, window: bytes, payload_at: int) -> None:
        self.offset = offset
        self.end = offset + header.size_bytes
        self.header = header
        self.index = index
        self.window = window
        self.payload_at = payload_at


class SegmentCursor:
    """Walks the blocks of one segment file. Keeps the file open, so it survives the file's removal."""

    def __init__(self, directory: Path, first_ordinal: int, window_bytes: int = READ_WINDOW_BYTES) -> None:
        """Raises FileNotFoundError, LogCorrupt, OSError."""
        self.path = directory / segment_name(first_ordinal)
        self.first_ordinal = first_ordinal
        self._window_bytes = window_bytes
        self._window = b""
        self._window_at = 0
        self._fd = os.open(self.path, os.O_RDONLY)
        try:
            self.header = self._read_header()
        except BaseException:
            os.close(self._fd)
            raise
        self.offset = self.header.size_bytes
        self.ordinal = first_ordinal

    def _read_header(self) -> SegmentHeader:
        try:
            start = os.pread(self._fd, INDEX_WINDOW_BYTES, 0)
            size = segment_header_size(start[:SEGMENT_HEADER_BYTES])
            if size > len(start):
                start = os.pread(self._fd, size, 0)
            header = decode_segment_header(start[:size])
        except FormatError as error:
            raise LogCorrupt(f"{self.path}: {error} at offset 0, record {self.first_ordinal}") from error
        if header.first_ordinal != self.first_ordinal:
            raise LogCorrupt(
                f"{self.path}: the header at offset 0 says that the first record is {header.first_ordinal}, "
                f"the file's name says {self.first_ordinal}"
            )
        return header

    def size_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def next_block(self, limit: int, *, payloads: bool) -> Block | None:
        """The block at the cursor, which moves behind it; None at ``limit``, the end of what may be read.

        With ``payloads`` the payloads are read too and held against their checksum. Raises BadBlock (the cursor stays
        where it is), OSError.
        """
        offset = self.offset
        if offset >= limit:
            return None
        header = self._block_header(offset, limit)
        end = offset + header.size_bytes
        index_end = BLOCK_HEADER_BYTES + header.index_bytes
        at = self._ensure(offset, end - offset if payloads else index_end, limit)
        window = self._window
        view = memoryview(window)
        try:
            index = decode_index(view[at + BLOCK_HEADER_BYTES : at + index_end], header, self.header.salt)
        except FormatError as error:
            raise self._bad(str(error), "index", end) from error
        if payloads:
            body = view[at + index_end : at + header.size_bytes]
            if zlib.crc32(body, self.header.salt) != header.payload_crc:
                raise self._bad("checksum of a block's payloads is wrong", "payloads", end)
        self.offset = end
        self.ordinal = header.first_ordinal + header.record_count
        return Block(offset, header, index, window, at + index_end)

    def skip(self, block_end: int, ordinal: int) -> None:
        """Go on behind a block that is known by other means."""
        self.offset = block_end
        self.ordinal = ordinal

    def seek(self, ordinal: int, limit: int) -> None:
        """Move to the block that holds ``ordinal``, or to ``limit`` if it lies behind. Raises BadBlock, OSError.

        Bisects by offset: a block's header can be told from any other bytes by its salted checksum.
        """
        if ordinal < self.ordinal:
            self.skip(self.header.size_bytes, self.first_ordinal)
        low, high = self.offset, limit
        while high - low > _WALK_BYTES:
            middle = (low + high) // 2
            found = self._find(middle, high)
            if found is None:
                high = middle
                continue
            at, header = found
            if header.first_ordinal <= ordinal:
                low = at
                self.skip(at, header.first_ordinal)
            else:
                high = middle
        while self.offset < limit:
            try:
                header = self._block_header(self.offset, limit)
            except BadBlock:
                # Going past a bad block is what a seek may do, and only a seek; reading into one raises.
                found = self._find(self.offset + 1, limit)
                if found is None or found[1].first_ordinal > ordinal:
                    raise
                self.skip(found[0], found[1].first_ordinal)
                continue
            behind = header.first_ordinal + header.record_count
            if behind > ordinal:
                return
            self.skip(self.offset + header.size_bytes, behind)

    def find_from(self, offset: int, limit: int) -> bool:
        """Move to the first block that starts at or after ``offset`` and before ``limit``; False if none does."""
        found = self._find(max(offset, self.header.size_bytes), limit)
        if found is None:
            return False
        self.skip(found[0], found[1].first_ordinal)
        return True

    def _find(self, start: int, stop: int) -> tuple[int, BlockHeader] | None:
        """The first block that starts in [start, stop). Blocks may be larger than a probe, so probe on."""
        while start < stop:
            data = os.pread(self._fd, min(_PROBE_BYTES, stop - start + BLOCK_HEADER_BYTES), start)
            try:
                found = find_block(data, 0, self.header.salt)
            except UnknownVersion as error:
                raise self._bad(f"{error}; behind", "foreign", None) from error
            if found is not None:
                at = start + found[0]
                return (at, found[1]) if at < stop else None
            if len(data) <= BLOCK_HEADER_BYTES:
                return None
            start += len(data) - BLOCK_HEADER_BYTES + 1
        return None

    def _block_header(self, offset: int, limit: int) -> BlockHeader:
        at = self._ensure(offset, BLOCK_HEADER_BYTES, limit)
        if at < 0:
            raise self._bad(f"a block is cut off after {limit - offset} bytes", "header", None)
        try:
            header = decode_block_header(self._window, at, self.header.salt)
        except UnknownVersion as error:
            raise self._bad(str(error), "foreign", None) from error
        except FormatError as error:
            raise self._bad(str(error), "header", None) from error
        if header.first_ordinal != self.ordinal or not header.record_count:
            raise self._bad(
                f"a block starts with record {header.first_ordinal} and holds {header.record_count}",
                "foreign",
                offset + header.size_bytes,
            )
        if offset + header.size_bytes > limit:
            raise self._bad(
                f"a block of {header.size_bytes} bytes is cut off after {limit - offset}",
                "payloads",
                offset + header.size_bytes,
            )
        return header

    def _ensure(self, offset: int, size: int, limit: int) -> int:
        """Have ``size`` bytes from ``offset`` in the window; return where they start in it, -1 if the file ends.

        Never fetches beyond ``limit``: what lies there may still change.
        """
        at = offset - self._window_at
        if at >= 0 and at + size <= len(self._window):
            return at
        want = min(max(size, self._window_bytes), limit - offset)
        self._window = os.pread(self._fd, want, offset)
        self._window_at = offset
        if len(self._window) >= size:
            return 0
        if offset + size <= limit and size > BLOCK_HEADER_BYTES:
            raise self._bad("the file ends within a block", "payloads", offset + size)
        return -1

    def _bad(self, reason: str, part: Part, end: int | None) -> BadBlock:
        return BadBlock(f"{self.path}: {reason} at offset {self.offset}, record {self.ordinal}", part, end)
