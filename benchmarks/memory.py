"""Memory of the whole tree: idle, and its slope over the last three of five million events."""

from __future__ import annotations

import statistics
import sys
import time

from benchmarks import wrk
from benchmarks.support import Row, memory_mb, server

EVENTS = 5_000_000
QUICK_EVENTS = 200_000
BATCH = 100
ENDS = 5
"""So many samples at each end make one figure: what is gathered before it is written comes and goes. Fewer of few."""


def idle() -> Row:
    with server([{"slug": "inbox", "type": "inbox"}]) as running:
        time.sleep(5)
        used_mb = memory_mb(running.pids)
        processes = len(running.pids)
    return Row(f"idle memory of the whole tree ({processes} processes)", f"{used_mb:.0f} MB", "—", None, "350 MB")


def slope(events: int = EVENTS) -> Row:
    """Batches into a server with an inbox; a sample after each 5 s of load, once all of it is in the inbox and in the
    archive. The first two fifths only fill what may be filled."""
    body = wrk.batch_body(BATCH)
    samples: list[tuple[int, float]] = []
    with server([{"slug": "inbox", "type": "inbox", "settings": {"max_mb": 64}}]) as running:
        sent = 0
        while sent < events:
            load = wrk.run(running.port, "/v1/batch", body, seconds=5, connections=4, start=sent + 1)
            sent += load.requests * BATCH
            running.wait_until_caught_up(600)
            running.wait_until_archived(600)
            samples.append((sent, memory_mb(running.pids)))
    late = [(count, used_mb) for count, used_mb in samples if count >= events * 2 // 5]
    ends = max(1, min(ENDS, len(late) // 2))
    first_mb = statistics.median(used_mb for _, used_mb in late[:ends])
    last_mb = statistics.median(used_mb for _, used_mb in late[-ends:])
    return Row(
        f"slope of memory from {late[0][0] / 1e6:.1f} to {late[-1][0] / 1e6:.1f} million events",
        f"{last_mb / first_mb - 1:+.1%} ({first_mb:.0f} to {last_mb:.0f} MB)",
        "—",
        None,
        "under 2 %",
        [
            f"{len(late)} samples, medians of the first and last {ends}",
            f"highest {max(used_mb for _, used_mb in late):.0f} MB",
        ],
    )


def main() -> None:
    print(idle())
    print(slope(QUICK_EVENTS if "--quick" in sys.argv else EVENTS))


if __name__ == "__main__":
    main()
