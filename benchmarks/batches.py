"""Webhook batches of 100, end to end, beside ingest alone on the same core with the same generator.

``python -m benchmarks.batches [--quick]``. The sink verifies every event.
"""

from __future__ import annotations

import sys

from benchmarks.counting_sink import CountingSink, counting_sink
from benchmarks.generator import Plan, generate
from benchmarks.support import HEADER, SYSTEM_CORE, Row, cpu_s, median_pair, median_ratio, server

EVENTS = 150_000
QUICK_EVENTS = 40_000
ROUNDS = 3
BATCH = 100
WARM_UP = 2_000
TALLY = "batches"


def webhook(sink: CountingSink, *, slug: str = "hook", tally: str = TALLY, lane: str = "hook") -> dict[str, object]:
    """A destination that sends batches of 100 to a lane of the sink."""
    settings = {"url": sink.url(tally, lane), "enable_batching": True, "batch_size": BATCH}
    return {"slug": slug, "type": "webhook", "settings": settings}


def throughput(*, quick: bool = False) -> Row:
    """Events a second from the first request to the last batch's arrival."""
    events = QUICK_EVENTS if quick else EVENTS
    pairs, notes = [], []
    for _ in range(1 if quick else ROUNDS):
        yardstick = _ingest_alone(events)
        ours, note = _end_to_end(events)
        pairs.append((ours, yardstick))
        notes.append((ours, note))
    ours, yardstick = median_pair(pairs)
    return Row(
        "webhook batches of 100, end to end, events a second",
        f"{ours:,.0f}/s",
        f"ingest alone on the same core: {yardstick:,.0f}/s",
        median_ratio(pairs),
        "0.20, aim 0.40",
        [dict(notes)[ours]],
    )


def _ingest_alone(events: int) -> float:
    with server(core=SYSTEM_CORE, roles=["ingest"]) as running:
        generate(Plan(running.port, WARM_UP))
        sent = generate(Plan(running.port, events, first=WARM_UP))
        received = running.received()
    if received != WARM_UP + events:
        raise SystemExit(f"{WARM_UP + events} events were acknowledged, the log holds {received}")
    return events / sent.seconds


def _end_to_end(events: int) -> tuple[float, str]:
    with counting_sink() as sink, server([webhook(sink)], core=SYSTEM_CORE) as running:
        generate(Plan(running.port, WARM_UP))
        sink.wait_for(TALLY, WARM_UP)
        sink.reset()
        sink_before_s, before_s = sink.cpu_s(), cpu_s(running.pids)
        sent = generate(Plan(running.port, events, first=WARM_UP))
        seen = sink.wait_for(TALLY, events)
        used_s, sink_s = cpu_s(running.pids) - before_s, seen.cpu_s - sink_before_s
        seen.check(WARM_UP, events)
        running.verify()
    took_s = seen.last_s - sent.started_s
    note = (
        f"{used_s / events * 1e6:.0f} µs CPU an event, acknowledged within {sent.seconds:.1f} of {took_s:.1f} s; "
        f"{events / seen.posts:.0f} events a request; busy on their own core: generator {sent.cpu_s / took_s:.0%}, "
        f"sink {sink_s / took_s:.0%}"
    )
    return events / took_s, note


def main() -> None:
    print(f"{HEADER}\n{throughput(quick='--quick' in sys.argv)}")


if __name__ == "__main__":
    main()
