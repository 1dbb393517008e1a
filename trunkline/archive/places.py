"""The places of a member's lines, packed: differences of neighbours compress to next to nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise


def pack_places(places: Sequence[int]) -> bytes:
    """``places`` ascend."""
    differences = [places[0], *[after - before for before, after in pairwise(places)]]
    return zlib.compress(struct.pack(f"<{len(differences)}q", *differences), 1)


def unpack_places(packed: bytes) -> list[int]:
    """Raises ValueError."""
    try:
        text = zlib.decompress(packed)
        return list(accumulate(struct.unpack(f"<{len(text) // 8}q", text)))
    except (zlib.error, struct.error) as error:
        raise ValueError(f"not packed places: {error}") from error
