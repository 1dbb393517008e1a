"""Memory of the whole tree: idle, and its slope over the last three of five million events."""

from __future__ import annotations

import time

from benchmarks import wrk
from benchmarks.support import Row, memory_mb, server

EVENTS = 5_000_000
BATCH = 100


def idle() -> Row:
    with server([{"slug": "inbox", "type": "inbox"}]) as running:
        time.sleep(5)
        used_mb = memory_mb(running.pids)
        processes = len(running.pids)
    return Row(f"idle memory of the whole tree ({processes} processes)", f"{used_mb:.0f} MB", "—", None, "350 MB")


def slope(events: int = EVENTS) -> Row:
    """Batches into a server with an inbox; samples every second once two fifths have gone through."""
    body = wrk.batch_body(BATCH)
    samples: list[tuple[int, float]] = []
    with server([{"slug": "inbox", "type": "inbox", "settings": {"max_mb": 64}}]) as running:
        sent = 0
        while sent < events:
            load = wrk.run(running.port, "/v1/batch", body, seconds=5, connections=4, start=sent + 1)
            sent += load.requests * BATCH
            running.wait_until_caught_up(600)
            samples.append((sent, memory_mb(running.pids)))
    late = [(count, used_mb) for count, used_mb in samples if count >= events * 2 // 5]
    first, last = late[0], late[-1]
    growth = last[1] / first[1] - 1
    return Row(
        f"slope of memory from {first[0] / 1e6:.1f} to {last[0] / 1e6:.1f} million events",
        f"{growth:+.1%} ({first[1]:.0f} to {last[1]:.0f} MB)",
        "—",
        None,
        "under 2 %",
        [f"{len(late)} samples, highest {max(used for _, used in late):.0f} MB"],
    )


def main() -> None:
    print(idle())
    print(slope())


if __name__ == "__main__":
    main()
