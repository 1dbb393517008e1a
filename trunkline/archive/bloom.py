"""Which files can hold a messageId: Bloom filters in slices of a few KB, so that a look-up reads one slice a file.

About 1.8 bytes an event for one false positive in a thousand: a false positive costs the reading of a whole file.
Plain Python on purpose: it takes about a microsecond an event and keeps numpy out of a process that mostly sleeps.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

BITS_PER_KEY: Final = 14.4
PROBES: Final = 10
KEYS_PER_SLICE: Final = 4096
_LOW: Final = (1 << 32) - 1


def hash_id(message_id: str) -> int:
    """64 bits of a messageId."""
    digest = blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def slice_of(key: int, slices: int) -> int:
    """Which of a file's slices a hashed messageId belongs to."""
    return (key * slices) >> 64


def build(keys: Sequence[int]) -> list[bytes]:
    """The slices of a filter that holds ``keys``."""
    slices = max(1, round(len(keys) / KEYS_PER_SLICE))
    parts = [array("Q") for _ in range(slices)]
    for key in keys:
        parts[(key * slices) >> 64].append(key)
    return [_build_slice(part) for part in parts]


def _build_slice(keys: Sequence[int]) -> bytes:
    size_bytes = max(8, -(-int(len(keys) * BITS_PER_KEY) // 8))
    bits = size_bytes * 8
    filled = bytearray(size_bytes)
    for key in keys:
        at, step = key & _LOW, (key >> 32) | 1
        for _ in range(PROBES):
            bit = at % bits
            filled[bit >> 3] |= 1 << (bit & 7)
            at += step
    return bytes(filled)


def may_hold(part: bytes, key: int) -> bool:
    """Whether a slice may hold a hashed messageId. False is certain."""
    bits = len(part) * 8
    at, step = key & _LOW, (key >> 32) | 1
    for _ in range(PROBES):
        bit = at % bits
        if not part[bit >> 3] & 1 << (bit & 7):
            return False
        at += step
    return True
