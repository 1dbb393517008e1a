"""A bit-sliced Bloom filter: 64 filters (*slices*) side by side, bit ``s`` of every word belongs to slice ``s``.

One look-up reads six words and ANDs them: the bits left are the slices that may hold the key, all 64 tested at once.
The first bits of a key choose a page of 512 words, six fields of 9 bits choose words in it: one page of memory a
look-up, and setting the bits of a sorted run walks the table once from front to back.

The table is a file mapped shared, so it survives the end of the process, however violent, in the page cache. Its
first 4,096 bytes are the header (little-endian)::

    8s magic, u32 version, u32 clean (1 = closed in order), u64 words, u64 generation of the manifest covered,
    16s identity, 36s boot id, u32 CRC-32 of all before
    u64 x words  the table, from byte 4,096

It can be trusted when the machine has not been started anew since (same boot id) or when it was closed in order.
After a power cut the slices that were synced are still whole: a page that was half written differs in the bits of other
slices only.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from trunkline.dedupe.files import give_way
from trunkline.dedupe.rows import I64, U64, Rows

SLICES = 64
PAGE_WORDS = 512
PROBES = 6
KEYS_PER_WORD = 1 / 16
"""How full a slice gets: 16 bits a key and 6 probes, 0.1 % false positives a full slice."""

_HEADER = struct.Struct("<8sIIQQ16s36s")
_HEADER_BYTES = 4096
_MAGIC = b"TKDFILT\x00"
_VERSION = 1
_CHUNK = 32_768
_TOUCHED = 4096
"""Keys whose bits are set at a time. Each may touch a page that the system has just written out or never had in
memory, about a microsecond of page fault, all of it under the interpreter's lock."""
_FIELD = np.uint64(PAGE_WORDS - 1)
_FIELD_SHIFTS = np.arange(0, 9 * PROBES, 9, dtype=np.uint64).reshape(PROBES, 1)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """What tells one start of the machine from the next; empty where the system does not say."""
    try:
        return _BOOT_ID.read_bytes().strip()[:36]
    except OSError:
        return b""


class SlicedFilter:
    """The mapped table. One thread sets and clears bits, any number reads."""

    def __init__(self, path: Path, words: int, identity: bytes, *, create: bool) -> None:
        """Raises OSError (ENOSPC included, when created: the space is reserved up front, because a page that can't
        be stored later would end the process with SIGBUS).
        """
        self.path = path
        self.words = words
        self.identity = identity
        self.shift = 64 - (words // PAGE_WORDS).bit_length() + 1
        size_bytes = _HEADER_BYTES + words * 8
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.posix_fallocate(fd, 0, size_bytes)
            self._map = mmap.mmap(fd, size_bytes)
        except BaseException:
            if create:
                path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        self.view = memoryview(self._map)[_HEADER_BYTES:].cast("Q")
        self.table: U64 = np.frombuffer(self._map, dtype=np.uint64, offset=_HEADER_BYTES)

    @property
    def size_bytes(self) -> int:
        return _HEADER_BYTES + self.words * 8

    @property
    def slice_capacity(self) -> int:
        """Keys that a slice holds at the planned rate of false positives."""
        return int(self.words * KEYS_PER_WORD)

    def trusted(self, generation: int, boot: bytes | None) -> bool:
        """Whether the table holds the bits of every run of the manifest of this generation; with ``boot`` None,
        whether it is a table that was synced at this generation or later.
        """
        header = self._map[: _HEADER.size]
        magic, version, clean, words, covered, identity, boot_then = _HEADER.unpack(header)
        (checksum,) = struct.unpack_from("<I", self._map, _HEADER.size)
        return (
            magic == _MAGIC
            and version == _VERSION
            and checksum == zlib.crc32(header)
            and words == self.words
            and identity == self.identity
            and covered >= generation
            and (boot is None or clean == 1 or (boot != b"" and boot_then.rstrip(b"\x00") == boot))
        )

    def mark(self, generation: int, boot: bytes, *, clean: bool = False) -> None:
        """Say which manifest the bits cover; with ``clean``, write the table to disk first."""
        if clean:
            self._map.flush()
        header = _HEADER.pack(_MAGIC, _VERSION, int(clean), self.words, generation, self.identity, boot)
        self._map[: _HEADER.size + 4] = header + struct.pack("<I", zlib.crc32(header))
        self._map.flush(0, _HEADER_BYTES)

    def mark_covers(self, generation: int, boot: bytes) -> None:
        """As :meth:`mark`, left to the page cache: a boot id that is equal proves that the cache was kept."""
        header = _HEADER.pack(_MAGIC, _VERSION, 0, self.words, generation, self.identity, boot)
        self._map[: _HEADER.size + 4] = header + struct.pack("<I", zlib.crc32(header))

    def sync(self) -> None:
        """Put the table on disk. Unlike ``msync`` through the mapping, this lets other threads run meanwhile."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _places(self, hi: U64, lo: U64) -> I64:
        """Words to read or write, of shape (probes, keys). Few numpy calls: each costs a microsecond at least, and
        in the background a wait for the interpreter's lock.
        """
        places = lo >> _FIELD_SHIFTS
        places &= _FIELD
        places += (hi >> np.uint64(self.shift)) * np.uint64(PAGE_WORDS)
        return places.view(np.int64)

    def add(self, rows: Rows, number: int, *, polite: bool = True) -> None:
        """Set the bits of all rows in slice ``number``; ``polite``: let other threads run in between."""
        bit = np.uint64(1 << number)
        for start in range(0, len(rows), _CHUNK):
            places = self._places(rows.hi[start : start + _CHUNK], rows.lo[start : start + _CHUNK])
            for part in range(0, places.shape[1], _TOUCHED):
                self.table[places[:, part : part + _TOUCHED]] |= bit
                if polite:
                    give_way()

    def clear(self, number: int) -> None:
        """Empty a slice."""
        others = np.uint64((1 << SLICES) - 1 - (1 << number))
        step = 1 << 18
        for start in range(0, self.words, step):
            part = self.table[start : start + step]
            np.bitwise_and(part, others, out=part)

    def candidates(self, hi: U64, lo: U64) -> U64:
        """For each key a word whose bits are the slices that may hold it."""
        found: U64 = np.bitwise_and.reduce(self.table[self._places(hi, lo)], axis=0)
        return found

    def will_need(self) -> None:
        """Ask the system to read the table ahead."""
        self._map.madvise(mmap.MADV_WILLNEED)
