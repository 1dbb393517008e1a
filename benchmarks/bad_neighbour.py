"""Six healthy webhooks while a seventh hangs, beside the same without the seventh.

``python -m benchmarks.bad_neighbour [--quick]``. The sink verifies every event at each of the six.
"""

from __future__ import annotations

import statistics
import sys

from benchmarks.counting_sink import HANG, CountingSink, counting_sink
from benchmarks.generator import Plan, generate
from benchmarks.support import HEADER, SYSTEM_CORE, Row, server

HEALTHY = 6
EVENTS_PER_S = 50
"""300 deliveries a second."""
SECONDS = 11
"""Longer than a request may take (10 s), so that the first ones time out within the run."""
WARM_UP_SECONDS = 1
ROUNDS = 5
QUICK_ROUNDS = 1


def latency(*, quick: bool = False) -> Row:
    """p99 over all six, from the moment at which the event was due to be sent to its arrival."""
    pairs = []
    hung = 0
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        alone_ms, _none = _run(neighbour=False)
        beside_ms, hung = _run(neighbour=True)
        pairs.append((beside_ms, alone_ms))
    runs = ", ".join(f"{beside:.0f}/{alone:.0f}" for beside, alone in pairs)
    beside_ms = statistics.median(beside for beside, _ in pairs)
    alone_ms = statistics.median(alone for _, alone in pairs)
    return Row(
        f"p99 of six healthy webhooks while a seventh hangs, {EVENTS_PER_S * HEALTHY} deliveries a second",
        f"{beside_ms:.1f} ms",
        f"without the seventh: {alone_ms:.1f} ms",
        beside_ms / alone_ms,
        f"at most 1.1, or + 10 ms (it is {beside_ms - alone_ms:+.1f} ms)",
        [
            f"medians of {len(pairs)} runs in turn: {runs}",
            f"{hung} requests hung in the last one",
        ],
    )


def _run(*, neighbour: bool) -> tuple[float, int]:
    """p99 in ms, and how many requests hung."""
    warm_up, events = EVENTS_PER_S * WARM_UP_SECONDS, EVENTS_PER_S * SECONDS
    with counting_sink() as sink:
        tallies = [f"healthy{number}" for number in range(HEALTHY)]
        hooks = [_webhook(sink, tally) for tally in [*tallies, *([HANG] if neighbour else [])]]
        with server(hooks, core=SYSTEM_CORE) as running:
            _send(running.port, 0, warm_up)
            for tally in tallies:
                sink.wait_for(tally, warm_up)
            hung = sink.report(HANG).posts
            sink.reset()
            _send(running.port, warm_up, events)
            latencies: list[float] = []
            for tally in tallies:
                seen = sink.wait_for(tally, events)
                seen.check(warm_up, events)
                latencies += seen.latencies_s
            hung += sink.report(HANG).posts
            books = running.verify()["destinations"]
            sink.stop()  # or the server would wait for the requests that hang
    if neighbour and (not hung or not books[HANG]["pending"] or books[HANG]["delivered"]):
        raise SystemExit(f"the seventh did not hang: {hung} requests came to it, its books are {books[HANG]}")
    return sorted(latencies)[len(latencies) * 99 // 100] * 1e3, hung


def _webhook(sink: CountingSink, tally: str) -> dict[str, object]:
    return {"slug": tally, "type": "webhook", "settings": {"url": sink.url(tally, "hook")}}


def _send(port: int, first: int, events: int) -> None:
    generate(Plan(port, events, first=first, batch=1, connections=32, per_s=EVENTS_PER_S))


def main() -> None:
    print(f"{HEADER}\n{latency(quick='--quick' in sys.argv)}")


if __name__ == "__main__":
    main()
