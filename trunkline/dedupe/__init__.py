"""The dedupe index: has this ``messageId`` been seen in the last 24 hours?

Keys are 128-bit keyed hashes. New keys go to a memtable (a dict); full memtables become sorted *runs* on disk, one
file an hour of ``receivedAt`` (``run.py``); a bit-sliced Bloom filter (``filter.py``) keeps look-ups of new keys away
from the disk. ``store.py`` owns files and filter and changes them in one background thread; ``index.py`` is what the
worker calls.
"""

from trunkline.dedupe.errors import DedupeCorrupt, DedupeError, DedupeFull, DedupeLocked
from trunkline.dedupe.index import DedupeIndex, DedupeStats
from trunkline.dedupe.keys import DAY_MS, HOUR_MS, KEY_BYTES, KeyMaker

__all__ = [
    "DAY_MS",
    "HOUR_MS",
    "KEY_BYTES",
    "DedupeCorrupt",
    "DedupeError",
    "DedupeFull",
    "DedupeIndex",
    "DedupeLocked",
    "DedupeStats",
    "KeyMaker",
]
