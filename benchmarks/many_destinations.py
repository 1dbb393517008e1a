"""A thousand destinations: beside ten with the same number of events, and what they cost a source that is not theirs.

``python -m benchmarks.many_destinations [--quick]``. The sink verifies every event.
"""

from __future__ import annotations

import statistics
import sys

from benchmarks.batches import webhook
from benchmarks.counting_sink import counting_sink
from benchmarks.generator import Plan, generate
from benchmarks.support import HEADER, SOURCE, SYSTEM_CORE, Row, cpu_s, median_pair, median_ratio, server

MANY = 1_000
FEW = 10
EVENTS = 20_000
QUICK_EVENTS = 10_000
"""Multiples of ``MANY * BATCH``: then each destination gets the same number."""
BATCH = 10
ROUNDS = 5
ROUTED_EVENTS = 60_000
QUICK_ROUTED_EVENTS = 30_000
TALLY = "many"


def throughput(*, quick: bool = False) -> Row:
    """Deliveries a second, one POST an event, each destination with a source of its own and an even share."""
    events = QUICK_EVENTS if quick else EVENTS
    pairs, notes = [], []
    for _ in range(1 if quick else ROUNDS):
        few, few_us = _spread(FEW, events)
        many, many_us = _spread(MANY, events)
        pairs.append((many, few))
        notes.append((many, f"{many_us:.0f} µs CPU an event against {few_us:.0f}"))
    ours, yardstick = median_pair(pairs)
    return Row(
        f"deliveries a second, {MANY:,} destinations with a source each",
        f"{ours:,.0f}/s",
        f"{FEW} destinations, as many events: {yardstick:,.0f}/s",
        median_ratio(pairs),
        "0.90",
        [dict(notes)[ours]],
    )


def _spread(destinations: int, events: int) -> tuple[float, float]:
    """Deliveries a second and µs of CPU an event, once every lane has sent its first ones."""
    sources = [f"s{number}" for number in range(destinations)]
    warm_up = MANY
    with counting_sink() as sink:
        hooks: list[dict[str, object]] = [
            {
                "slug": f"hook-{source}",
                "type": "webhook",
                "sources": [source],
                "settings": {"url": sink.url(TALLY, source)},
            }
            for source in sources
        ]
        with server(hooks, core=SYSTEM_CORE, sources=sources) as running:
            generate(Plan(running.port, warm_up, batch=1, sources=sources))
            sink.wait_for(TALLY, warm_up)
            sink.reset()
            before_s = cpu_s(running.pids)
            sent = generate(Plan(running.port, events, first=warm_up, batch=BATCH, sources=sources))
            seen = sink.wait_for(TALLY, events)
            used_s = cpu_s(running.pids) - before_s
            running.verify()
    seen.check(warm_up, events)
    share = events // destinations
    if wrong := {lane: count for lane, count in seen.lanes.items() if count != share}:
        some = dict(list(wrong.items())[:5])
        raise SystemExit(f"each destination was to get {share} events, {len(wrong)} got another number: {some} ...")
    return events / (seen.last_s - sent.started_s), used_s / events * 1e6


def routing(*, quick: bool = False) -> Row:
    """What an event costs beyond its own lane for each lane that belongs to another source. (Lanes of the same source
    whose filters refuse it are another matter.)"""
    events = QUICK_ROUTED_EVENTS if quick else ROUTED_EVENTS
    differences, notes = [], []
    for _ in range(1 if quick else ROUNDS):
        alone_us, among_us = _one_source(0, events), _one_source(MANY, events)
        differences.append((among_us - alone_us) / MANY)
        notes.append(f"{among_us:.1f} µs CPU an event in all, {alone_us:.1f} without them")
    middle = sorted(differences)[(len(differences) - 1) // 2]
    return Row(
        f"CPU per event and destination of another source, {MANY:,} of them",
        f"{statistics.median(differences):.4f} µs",
        "—",
        None,
        "0.01 µs",
        [notes[differences.index(middle)]],
    )


def _one_source(others: int, events: int) -> float:
    """µs of CPU an event of a source with one webhook."""
    sources = [SOURCE, *(f"s{number}" for number in range(others))]
    with counting_sink() as sink:
        hooks = [webhook(sink, tally=TALLY)]
        hooks += [{**webhook(sink, slug=f"hook-{slug}", tally="others"), "sources": [slug]} for slug in sources[1:]]
        # Without the archive: its flushes would come in one run and not in the other.
        with server(hooks, core=SYSTEM_CORE, sources=sources, settings={"TRUNKLINE_ARCHIVE": "false"}) as running:
            warm_up = events // 10
            generate(Plan(running.port, warm_up))
            sink.wait_for(TALLY, warm_up)
            sink.reset()
            before_s = cpu_s(running.pids)
            generate(Plan(running.port, events, first=warm_up))
            sink.wait_for(TALLY, events).check(warm_up, events)
            used_s = cpu_s(running.pids) - before_s
            if sink.count("others"):
                raise SystemExit("a destination got events of a source that is not its own")
    return used_s / events * 1e6


def main() -> None:
    quick = "--quick" in sys.argv
    print(f"{HEADER}\n{throughput(quick=quick)}", flush=True)
    print(routing(quick=quick))


if __name__ == "__main__":
    main()
