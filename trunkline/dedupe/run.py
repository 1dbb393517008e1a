"""A run: an immutable file of sorted keys of one hour of ``receivedAt``.

Format version 1, all integers little-endian but the keys::

    block x n    4,096 bytes each: 204 keys of 16 bytes, 204 x u32 milliseconds into the hour, u32 rows in use,
                 8 bytes zero, u32 CRC-32 of all before
    fences       u64 x n: the first 8 bytes of each block's first key
    footer       8s magic, u32 version, i64 hour since the epoch, u64 rows, u32 CRC-32 of the fences, u32 CRC-32 of
                 the footer before it

Rows are sorted by the first 8 bytes of the key. Opening reads fences and footer only (0.2 % of the file); every
block is checked each time it is read. Files are read with ``pread``, never mapped, so that their pages do not count
as the process's memory.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trunkline.dedupe.errors import DedupeCorrupt, DedupeError
from trunkline.dedupe.files import give_way, write_all
from trunkline.dedupe.keys import HOUR_MS, KEY_BYTES
from trunkline.dedupe.rows import Rows, concatenate, split_keys
from trunkline.failpoints import failpoint

BLOCK_BYTES = 4096
ROWS_PER_BLOCK = 204
_KEYS_END = ROWS_PER_BLOCK * KEY_BYTES
_OFFSETS_END = _KEYS_END + ROWS_PER_BLOCK * 4
_CRC_AT = BLOCK_BYTES - 4
_MAGIC = b"TKDEDUP\x00"
_VERSION = 1
_FOOTER = struct.Struct("<8sIqQI")
_FOOTER_BYTES = _FOOTER.size + 4
_WRITE_BLOCKS = 320
"""Blocks encoded at a time: about a millisecond under the interpreter's lock."""


class RunWriter:
    """Writes one run. Give it rows in sorted order, then :meth:`finish`; on any error call :meth:`abandon`."""

    def __init__(self, path: Path, hour: int, failpoint_prefix: str) -> None:
        self._path = path
        self._hour = hour
        self._failpoint_prefix = failpoint_prefix
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._pending: list[Rows] = []
        self._pending_rows = 0
        self._fences = array("Q")
        self.rows = 0

    def write(self, rows: Rows) -> None:
        """Append; rows must not sort before those already written."""
        self._pending.append(rows)
        self._pending_rows += len(rows)
        self.rows += len(rows)
        if self._pending_rows >= ROWS_PER_BLOCK * _WRITE_BLOCKS:
            self._write_blocks(last=False)

    def _write_blocks(self, *, last: bool) -> None:
        if not self._pending_rows:
            return
        rows = concatenate(self._pending)
        step = ROWS_PER_BLOCK * _WRITE_BLOCKS
        end = len(rows) if last else len(rows) - len(rows) % ROWS_PER_BLOCK
        for start in range(0, end, step):
            stop = min(start + step, end)
            self._encode(rows.slice(start, stop))
        rest = Rows(rows.hi[end:].copy(), rows.lo[end:].copy(), rows.offset_ms[end:].copy())
        self._pending, self._pending_rows = [rest], len(rest)

    def _encode(self, rows: Rows) -> None:
        count = len(rows)
        blocks = -(-count // ROWS_PER_BLOCK)
        keys = np.zeros((blocks * ROWS_PER_BLOCK, 2), dtype=">u8")
        keys[:count, 0] = rows.hi
        keys[:count, 1] = rows.lo
        offsets = np.zeros(blocks * ROWS_PER_BLOCK, dtype="<u4")
        offsets[:count] = rows.offset_ms
        used = np.full(blocks, ROWS_PER_BLOCK, dtype="<u4")
        used[-1] = count - (blocks - 1) * ROWS_PER_BLOCK
        image = np.zeros((blocks, BLOCK_BYTES), dtype=np.uint8)
        image[:, :_KEYS_END] = keys.view(np.uint8).reshape(blocks, _KEYS_END)
        image[:, _KEYS_END:_OFFSETS_END] = offsets.view(np.uint8).reshape(blocks, _OFFSETS_END - _KEYS_END)
        image[:, _OFFSETS_END : _OFFSETS_END + 4] = used.view(np.uint8).reshape(blocks, 4)
        flat = image.reshape(-1).data
        starts = range(0, blocks * BLOCK_BYTES, BLOCK_BYTES)
        checksums = np.array([zlib.crc32(flat[start : start + _CRC_AT]) for start in starts], dtype="<u4")
        image[:, _CRC_AT:] = checksums.view(np.uint8).reshape(blocks, 4)
        self._fences.extend(rows.hi[::ROWS_PER_BLOCK].tolist())
        write_all(self._fd, flat)

    def finish(self) -> int:
        """Write what is left and the footer, fsync, close; return the file's size in bytes."""
        self._write_blocks(last=True)
        fences = np.frombuffer(self._fences, dtype=np.uint64).astype("<u8").tobytes()
        footer = _FOOTER.pack(_MAGIC, _VERSION, self._hour, self.rows, zlib.crc32(fences))
        write_all(self._fd, fences + footer + struct.pack("<I", zlib.crc32(footer)))
        failpoint(self._failpoint_prefix + ".before_fsync")
        os.fsync(self._fd)
        failpoint(self._failpoint_prefix + ".after_fsync")
        size_bytes = os.fstat(self._fd).st_size
        os.close(self._fd)
        self._fd = -1
        return size_bytes

    def abandon(self) -> None:
        """Close and remove the unfinished file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.unlink(missing_ok=True)


class Run:
    """An open run. Look-ups may come from one thread while another iterates. Closes itself when let go."""

    _fd = -1

    def __init__(self, path: Path) -> None:
        """Open and check footer and fences. Raises DedupeCorrupt, or OSError when the file can't be opened."""
        self.path = path
        self.bad = False
        """Set when something proved damaged; look-ups skip the run from then on."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open()
        self.start_ms = self.hour * HOUR_MS

    def _open(self) -> None:
        self.size_bytes: int = os.fstat(self._fd).st_size
        if self.size_bytes < _FOOTER_BYTES:
            raise self._corrupt("is too short for a footer")
        footer = self._pread(_FOOTER_BYTES, self.size_bytes - _FOOTER_BYTES)
        (footer_crc,) = struct.unpack_from("<I", footer, _FOOTER.size)
        magic, version, hour, rows, fences_crc = _FOOTER.unpack_from(footer)
        if magic != _MAGIC or footer_crc != zlib.crc32(footer[: _FOOTER.size]):
            raise self._corrupt("has no valid footer (truncated or overwritten)")
        if version != _VERSION:
            raise self._corrupt(f"has format version {version}; this program reads {_VERSION}")
        self.hour: int = hour
        self.rows: int = rows
        self.blocks: int = -(-self.rows // ROWS_PER_BLOCK)
        if self.size_bytes != self.blocks * (BLOCK_BYTES + 8) + _FOOTER_BYTES:
            raise self._corrupt(f"is {self.size_bytes} bytes long, which does not fit its {self.rows} rows")
        fences = self._pread(self.blocks * 8, self.blocks * BLOCK_BYTES)
        if zlib.crc32(fences) != fences_crc:
            raise self._corrupt("has a wrong checksum over its fences")
        self._fences = array("Q")
        self._fences.frombytes(np.frombuffer(fences, dtype="<u8").astype(np.uint64).tobytes())

    def _corrupt(self, what: str) -> DedupeCorrupt:
        self.bad = True
        return DedupeCorrupt(f"dedupe run {self.path} {what}")

    def _pread(self, size_bytes: int, offset: int) -> bytes:
        try:
            data = os.pread(self._fd, size_bytes, offset)
        except OSError as error:
            raise DedupeError(f"dedupe run {self.path} cannot be read at byte {offset}: {error}") from error
        if len(data) != size_bytes:
            raise self._corrupt(f"ends before byte {offset + size_bytes}")
        return data

    def _check(self, block: memoryview | bytes, number: int) -> None:
        if zlib.crc32(block[:_CRC_AT]) != int.from_bytes(block[_CRC_AT:BLOCK_BYTES], "little"):
            raise self._corrupt(f"has a wrong checksum in block {number}")

    def find(self, key: bytes, hi: int) -> list[int]:
        """Times (epoch ms) of all rows with exactly this key, mostly none or one. ``hi``: its first 8 bytes.

        Raises DedupeCorrupt when a block that had to be read is damaged.
        """
        fences = self._fences
        last = bisect_right(fences, hi) - 1
        if last < 0:
            return []
        first = last
        if fences[last] == hi:  # rows with these 8 bytes may begin in an earlier block
            first = max(bisect_left(fences, hi) - 1, 0)
        found: list[int] = []
        for number in range(first, last + 1):
            block = self._pread(BLOCK_BYTES, number * BLOCK_BYTES)
            self._check(block, number)
            at = block.find(key, 0, _KEYS_END)
            while at >= 0:
                row, misaligned = divmod(at, KEY_BYTES)
                if not misaligned and row < int.from_bytes(block[_OFFSETS_END : _OFFSETS_END + 4], "little"):
                    place = _KEYS_END + row * 4
                    found.append(self.start_ms + int.from_bytes(block[place : place + 4], "little"))
                at = block.find(key, at + 1, _KEYS_END)
        return found

    def read_blocks(self, first: int, last: int) -> Rows:
        """Rows of the blocks first <= number < last, checked."""
        data = self._pread((last - first) * BLOCK_BYTES, first * BLOCK_BYTES)
        view = memoryview(data)
        for number in range(last - first):
            self._check(view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES], first + number)
        image = np.frombuffer(data, dtype=np.uint8).reshape(-1, BLOCK_BYTES)
        hi, lo = split_keys(image[:, :_KEYS_END].tobytes())
        offsets = np.frombuffer(image[:, _KEYS_END:_OFFSETS_END].tobytes(), dtype="<u4").astype(np.uint32)
        count = min(self.rows, last * ROWS_PER_BLOCK) - first * ROWS_PER_BLOCK
        return Rows(hi[:count], lo[:count], offsets[:count])

    def __iter__(self) -> Iterator[Rows]:
        """All rows in order, in pieces of 320 blocks."""
        for first in range(0, self.blocks, _WRITE_BLOCKS):
            yield self.read_blocks(first, min(first + _WRITE_BLOCKS, self.blocks))

    def range(self, low: int, high: int) -> Rows | None:
        """Rows with low <= first 8 bytes < high."""
        first = max(bisect_left(self._fences, low) - 1, 0)
        last = bisect_left(self._fences, high)
        if first >= last:
            return None
        rows = self.read_blocks(first, last)
        begin = int(np.searchsorted(rows.hi, np.uint64(low)))
        end = len(rows) if high >= 2**64 else int(np.searchsorted(rows.hi, np.uint64(high)))
        return rows.slice(begin, end)

    @property
    def memory_bytes(self) -> int:
        return len(self._fences) * 8

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


_MERGE_ROWS = 131_072


def merge(runs: list[Run], writer: RunWriter) -> None:
    """Stream the rows of runs of one hour into ``writer``, sorted, exact doubles once.

    Keys are uniform, so equal ranges of the key space hold about equal numbers of rows: memory stays small however
    large the runs are.
    """
    pieces = max(sum(run.rows for run in runs) // _MERGE_ROWS, 1)
    for piece in range(pieces):
        low, high = 2**64 * piece // pieces, 2**64 * (piece + 1) // pieces
        parts = [part for run in runs if (part := run.range(low, high)) is not None]
        if parts:
            writer.write(concatenate(parts).sorted())
        give_way()
