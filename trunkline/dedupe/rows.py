"""Rows: keys and times as columns, the form in which keys travel between memtable, files and filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """``n`` keys of one hour. ``hi`` and ``lo`` are the key's halves read as big-endian integers, ``offset_ms`` is
    receivedAt less the start of the hour.
    """

    hi: U64
    lo: U64
    offset_ms: U32

    def __len__(self) -> int:
        return len(self.hi)

    def take(self, selection: NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
        return Rows(self.hi[selection], self.lo[selection], self.offset_ms[selection])

    def slice(self, start: int, stop: int) -> Rows:
        """A view, not a copy."""
        return Rows(self.hi[start:stop], self.lo[start:stop], self.offset_ms[start:stop])

    def sorted(self) -> Rows:
        """By ``hi``, and without rows that are equal to another in all columns."""
        rows = self.take(np.argsort(self.hi))
        # 64 equal bits are either the same key again or a one-in-10^19 accident, so the full sort is rarely needed.
        if not len(rows) or not bool((rows.hi[1:] == rows.hi[:-1]).any()):
            return rows
        rows = self.take(np.lexsort((self.offset_ms, self.lo, self.hi)))
        keep = np.ones(len(rows), dtype=np.bool_)
        keep[1:] = (
            (rows.hi[1:] != rows.hi[:-1]) | (rows.lo[1:] != rows.lo[:-1]) | (rows.offset_ms[1:] != rows.offset_ms[:-1])
        )
        return rows.take(keep)


def concatenate(parts: list[Rows]) -> Rows:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        np.concatenate([part.hi for part in parts]),
        np.concatenate([part.lo for part in parts]),
        np.concatenate([part.offset_ms for part in parts]),
    )


def split_keys(keys: bytes | bytearray) -> tuple[U64, U64]:
    """The halves of keys laid end to end."""
    pairs = np.frombuffer(keys, dtype=">u8").reshape(-1, 2)
    return pairs[:, 0].astype(np.uint64), pairs[:, 1].astype(np.uint64)
