"""A process that adds keys, flushes, and keeps its own durable log of envelopes; to be killed at a failpoint.

Usage: ``dedupe_child.py DIRECTORY ROUNDS``. ``DIRECTORY/envelopes`` gets 24 bytes an entry: key, time. A line on
standard output for each error that the index reported.
"""

from __future__ import annotations

import os
import random
import struct
import sys
from pathlib import Path

from trunkline.dedupe import HOUR_MS, DedupeError, DedupeIndex

ENTRY = struct.Struct("<16sq")
START = 500_000 * HOUR_MS
FIRST, NEXT = 300, 100
"""Keys of the first round, which makes the filter grow, and of the others, of which several share a slice."""


def read_envelopes(directory: Path) -> list[tuple[bytes, int]]:
    path = directory / "envelopes"
    return list(ENTRY.iter_unpack(path.read_bytes())) if path.exists() else []


def open_and_restore(directory: Path) -> DedupeIndex:
    index = DedupeIndex(directory / "index", secret=b"s", memtable_keys=FIRST, min_filter_words=2**10)
    for key, time_ms in read_envelopes(directory)[int(index.checkpoint or "0") :]:
        index.restore(key, [time_ms])
    return index


def main() -> None:
    directory, rounds = Path(sys.argv[1]), int(sys.argv[2])
    index = open_and_restore(directory)
    written = len(read_envelopes(directory))
    source = random.Random(written)
    with (directory / "envelopes").open("ab", buffering=0) as log:
        for number in range(rounds):
            keys = [source.randbytes(16) for _ in range(NEXT if number else FIRST)]
            times = [START + (number // 9) * HOUR_MS] * len(keys)
            if not all(index.add_new(keys, times)):
                sys.exit("a new key was called a duplicate")
            log.write(b"".join(ENTRY.pack(key, time_ms) for key, time_ms in zip(keys, times, strict=True)))
            os.fsync(log.fileno())
            written += len(keys)
            try:
                index.flush(str(written), wait=True)
            except DedupeError as error:
                print(type(error).__name__, error, index.unflushed, index.checkpoint)
                if any(index.add_new(keys, times)):
                    sys.exit("a key was forgotten after a failed flush")
    if index.unflushed:
        sys.exit(f"{index.unflushed} keys were never written")
    index.close()
    print("done", index.stats().last_error)


if __name__ == "__main__":
    main()
