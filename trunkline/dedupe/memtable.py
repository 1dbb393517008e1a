"""The memtable: keys that are not in a run yet."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from trunkline.dedupe.files import give_way
from trunkline.dedupe.keys import HOUR_MS, KEY_BYTES
from trunkline.dedupe.rows import Rows, split_keys

_ENTRY_BYTES = 180
"""Measured: dict slot, bytes object, int and the two columns, for each key."""


class Memtable:
    """``first`` maps a key to the time of its first sight. A key may have more entries (24 h apart or restored):
    those are in ``more``. The columns hold every entry in order of arrival, ready to be written without a walk
    through the dict.
    """

    __slots__ = ("first", "keys", "more", "times")

    def __init__(self) -> None:
        self.first: dict[bytes, int] = {}
        self.more: dict[bytes, list[int]] = {}
        self.keys = bytearray()
        self.times = array("q")

    def __len__(self) -> int:
        return len(self.times)

    def add(self, key: bytes, time_ms: int) -> None:
        """One more entry; the caller has looked that it is not there."""
        if key in self.first:
            self.more.setdefault(key, []).append(time_ms)
        else:
            self.first[key] = time_ms
        self.keys += key
        self.times.append(time_ms)

    def add_unseen(self, keys: Sequence[bytes], times_ms: Sequence[int]) -> None:
        """Keys that differ from each other and from all that are here."""
        self.first.update(zip(keys, times_ms, strict=True))
        self.keys += b"".join(keys)
        self.times.extend(times_ms)

    def entries(self, key: bytes) -> list[int]:
        """All times of a key."""
        time_ms = self.first.get(key)
        return [] if time_ms is None else [time_ms, *self.more.get(key, ())]

    def hours(self) -> Iterator[tuple[int, Rows]]:
        """Sorted rows by hour, ascending."""
        if not len(self):
            return
        times = np.frombuffer(self.times, dtype=np.int64)
        hi, lo = split_keys(self.keys)
        hours = times // HOUR_MS
        offsets = (times - hours * HOUR_MS).astype(np.uint32)
        everything = Rows(hi, lo, offsets)
        different = np.unique(hours).tolist()
        if len(different) == 1:
            yield different[0], everything.sorted()
            return
        for hour in different:
            yield hour, everything.take(hours == hour).sorted()

    def release(self) -> None:
        """Free the dict piece by piece: at once it would hold the interpreter's lock for tens of milliseconds."""
        entries = self.first
        while entries:
            for _ in range(min(4096, len(entries))):
                entries.popitem()
            give_way()

    @property
    def memory_bytes(self) -> int:
        """An estimate."""
        return len(self) * _ENTRY_BYTES


assert KEY_BYTES == 16  # split_keys reads two words a key
