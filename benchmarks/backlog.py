"""The drain of a backlog of millions, beside live traffic of the same webhook: events a second, and memory.

``python -m benchmarks.backlog [--quick]``. The destination refuses connections while the backlog comes in, then it is
back. The sink verifies every event.
"""

from __future__ import annotations

import os
import sys

from benchmarks.batches import TALLY, WARM_UP, webhook
from benchmarks.counting_sink import CountingSink, counting_sink
from benchmarks.generator import Plan, generate
from benchmarks.support import HEADER, SYSTEM_CORE, MemorySampler, Row, Server, pin, server

EVENTS = 5_000_000
QUICK_EVENTS = 200_000
LIVE_EVENTS = 1_500_000
"""So many that the memory of live traffic has stopped growing when it is measured: dedupe's index fills up first."""
QUICK_LIVE_EVENTS = 40_000
RETRIED = 10_000
"""So many events at most were tried in vain when the lane stopped: they wait for their next attempts, by a policy that
knows nothing of the other events. The drain's speed is that of all but so many; the rest must come too."""
PROBED_WITHIN_S = 120.0
"""A destination that has been down for long is probed once a minute."""
RETRIED_WITHIN_S = 400.0


def drain(*, quick: bool = False) -> list[Row]:
    """Two rows: speed, and memory. Batches of 100, the same in both; live is measured before the backlog."""
    events = QUICK_EVENTS if quick else EVENTS
    live_events = QUICK_LIVE_EVENTS if quick else LIVE_EVENTS
    # The index of message ids fills memory up to a point, which must be reached before live is measured.
    settings = {"TRUNKLINE_DEDUPE_MEMTABLE_KEYS": str(live_events // 4)} if quick else None
    with counting_sink() as sink, server([webhook(sink)], core=SYSTEM_CORE, settings=settings) as running:
        generate(Plan(running.port, WARM_UP))
        sink.wait_for(TALLY, WARM_UP)
        live_per_s, live_mb = _live(running, sink, WARM_UP, live_events)
        first = WARM_UP + live_events
        ingested_per_s = _pile_up(running, sink, first, events)
        sink.reset()
        with MemorySampler(running) as memory:
            sink.up()
            seen = sink.wait_for(TALLY, events - RETRIED, stalled_s=PROBED_WITHIN_S)
        whole = sink.wait_for(TALLY, events, stalled_s=RETRIED_WITHIN_S)
        whole.check(first, events)
        again_per_s, again_mb = _live(running, sink, first + events, live_events)
        running.verify()
    per_s = seen.distinct / (seen.last_s - seen.first_s)
    return [
        Row(
            f"drain of a backlog of {events:,} events to a webhook in batches of 100",
            f"{per_s:,.0f}/s",
            f"live, before it: {live_per_s:,.0f}/s",
            per_s / live_per_s,
            "1.0",
            [
                f"live again after it: {again_per_s:,.0f}/s",
                f"the backlog came in at {ingested_per_s:,.0f}/s",
                f"{whole.last_s - seen.last_s:.0f} s more for the last {events - seen.distinct:,}, which were to wait",
            ],
        ),
        Row(
            "highest memory of the whole tree during the drain",
            f"{memory.highest_mb:.0f} MB",
            f"live, before it: {live_mb:.0f} MB",
            memory.highest_mb / live_mb,
            "at most 1.2",
            [f"live again after it, with {events:,} message ids more to know: {again_mb:.0f} MB"],
        ),
    ]


def _live(running: Server, sink: CountingSink, first: int, events: int) -> tuple[float, float]:
    """Events a second from the first request to the last arrival, and the highest memory."""
    sink.reset()
    with MemorySampler(running) as memory:
        sent = generate(Plan(running.port, events, first=first))
        seen = sink.wait_for(TALLY, events)
    seen.check(first, events)
    return events / (seen.last_s - sent.started_s), memory.highest_mb


def _pile_up(running: Server, sink: CountingSink, first: int, events: int) -> float:
    """Events that are accepted while the destination is down, with all cores to be done sooner. Events a second."""
    sink.down()
    pin(running.pids, range(os.cpu_count() or 1))
    sent = generate(Plan(running.port, events, first=first))
    running.wait_until_caught_up(900, delivered=False)
    pin(running.pids, [SYSTEM_CORE])
    return events / sent.seconds


def main() -> None:
    rows = drain(quick="--quick" in sys.argv)
    print("\n".join([HEADER, *map(str, rows)]))


if __name__ == "__main__":
    main()
