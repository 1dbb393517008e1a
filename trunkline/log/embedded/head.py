"""The durable head of a partition: how far readers, in any process, may read.

The file ``head`` has two slots of sequence, segment, offset, next ordinal and CRC-32. The appender writes them in turn
after the data is on disk; a reader takes the sound slot with the greater sequence. A slot caught half written fails its
CRC, and the other one still holds the head before. The file itself is not synced for each append: after a loss of
power the head is too low, never too high, and opening the appender mends it.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from trunkline.failpoints import failpoint
from trunkline.log.base import LogCorrupt

HEAD_FILE: Final = "head"
_MAGIC: Final = b"TRKHEAD1"
_SLOT = struct.Struct("<QQQQ")
_CRC = struct.Struct("<I")
_SLOT_BYTES: Final = _SLOT.size + _CRC.size
_SLOT_OFFSETS: Final = (64, 128)
_LAST: Final = _SLOT_OFFSETS[1] + _SLOT_BYTES
_FILE_BYTES: Final = 512  # one sector: after a loss of power it is old or new, not both
_TORN_RETRIES: Final = 1000


class Head(NamedTuple):
    """Everything below ``next_ordinal`` is durable; it ends at ``offset`` of the segment that starts at ``segment``."""

    sequence: int
    segment: int
    offset: int
    next_ordinal: int


def _decode_slot(data: bytes, at: int) -> Head | None:
    signed = at + _SLOT.size
    (crc,) = _CRC.unpack_from(data, signed)
    head = Head._make(_SLOT.unpack_from(data, at))
    # A slot never written is all zero, and so is the CRC that it would need to be told from a written one.
    return head if head.sequence and zlib.crc32(data[at:signed]) == crc else None


def _newest(data: bytes) -> Head | None:
    a, b = (_decode_slot(data, at) for at in _SLOT_OFFSETS)
    if a is None or b is None:
        return a or b
    return max(a, b)


class HeadView:
    """Reads the head. Made before the partition exists, it answers None until there is one."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / HEAD_FILE
        self._map: mmap.mmap | None = None
        # One attribute, so that threads that share a view never pair one's bytes with another's head.
        self._seen: tuple[bytes, Head | None] = (b"", None)

    def read(self) -> Head | None:
        """The durable head now; None if nothing was ever appended. Raises LogCorrupt, OSError."""
        mapped = self._map or self._open()
        if mapped is None:
            return None
        data = mapped[:_LAST]
        seen, head = self._seen
        if data == seen:
            return head
        head = _newest(data)
        for _ in range(_TORN_RETRIES):
            if head is not None:
                break
            data = mapped[:_LAST]
            head = _newest(data)
        if head is not None:
            self._seen = data, head
        return head

    def _open(self) -> mmap.mmap | None:
        try:
            fd = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            if os.fstat(fd).st_size < _FILE_BYTES:
                return None  # being created just now, or its creation was cut off: nothing was published through it
            mapped = mmap.mmap(fd, _FILE_BYTES, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        magic = mapped[: len(_MAGIC)]
        if magic != _MAGIC:
            mapped.close()
            if not any(magic):
                return None
            raise LogCorrupt(f"{self._path}: not a head file of this format (bad magic at offset 0)")
        self._map = mapped
        return mapped


class HeadWriter:
    """Publishes the head; the holder of the partition's lock owns the only one.

    It writes with pwrite, not through a mapping: on a file system that copies on write, storing to a mapped page of a
    full disk ends the process with SIGBUS, while pwrite raises an error that can be answered.
    """

    def __init__(self, directory: Path) -> None:
        """Open or create the file. Raises OSError, LogCorrupt."""
        self._path = directory / HEAD_FILE
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            data = os.pread(self._fd, _FILE_BYTES, 0)
            if len(data) < _FILE_BYTES:
                os.pwrite(self._fd, _MAGIC.ljust(_FILE_BYTES, b"\0"), 0)
                self.sync()
                data = os.pread(self._fd, _FILE_BYTES, 0)
            # After a loss of power the file may be there with its size, but still zero.
            if not any(data):
                os.pwrite(self._fd, _MAGIC, 0)
                self.sync()
            elif data[: len(_MAGIC)] != _MAGIC:
                raise LogCorrupt(f"{self._path}: not a head file of this format (bad magic at offset 0)")
        except BaseException:
            os.close(self._fd)
            raise
        self.last = _newest(data[:_LAST])
        self._sequence = self.last.sequence if self.last else 0

    def publish(self, segment: int, offset: int, next_ordinal: int) -> None:
        """Let readers see up to here. Raises OSError."""
        sequence = self._sequence + 1
        slot = _SLOT.pack(sequence, segment, offset, next_ordinal)
        written = os.pwrite(self._fd, slot + _CRC.pack(zlib.crc32(slot)), _SLOT_OFFSETS[sequence & 1])
        if written != _SLOT_BYTES:
            raise OSError(errno.EIO, "short write", str(self._path))
        # Only now: after a failure the next try must go to the same slot, because the other one holds the head.
        self._sequence = sequence

    def sync(self) -> None:
        failpoint("log.head.before_fsync")
        os.fsync(self._fd)
        failpoint("log.head.after_fsync")

    def close(self) -> None:
        os.close(self._fd)


def sync_head(directory: Path) -> None:
    """Bring the head as it is published now to disk. Raises OSError."""
    fd = os.open(directory / HEAD_FILE, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
