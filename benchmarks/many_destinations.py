"""A thousand destinations: beside ten with the same number of events, and what they cost a source that is not theirs.

``python -m benchmarks.many_destinations [--quick]``. The sink verifies every event.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.batches import webhook
from benchmarks.counting_sink import CountingSink, counting_sink
from benchmarks.generator import Plan, generate
from benchmarks.support import HEADER, SOURCE, SYSTEM_CORE, Row, Server, cpu_s, median_pair, median_ratio, server

MANY = 1_000
FEW = 10
EVENTS = 40_000
QUICK_EVENTS = 10_000
"""Multiples of ``MANY * BATCH``: then each destination gets the same number."""
BATCH = 10
ROUNDS = 5
SIDE_BY_SIDE_ROUNDS = 3
ROUTED_EVENTS = 60_000
QUICK_ROUTED_EVENTS = 30_000
TALLY = "many"


def throughput(*, quick: bool = False) -> Row:
    """Deliveries a second, one POST an event, each destination with a source of its own and an even share."""
    events = QUICK_EVENTS if quick else EVENTS
    pairs, notes = [], []
    for number in range(1 if quick else ROUNDS):
        found = {}
        for destinations in (FEW, MANY) if number % 2 else (MANY, FEW):
            with _deliveries(destinations) as deliveries:
                found[destinations] = deliveries.run(events)
        pairs.append((found[MANY].a_second, found[FEW].a_second))
        notes.append(
            (found[MANY].a_second, f"{found[MANY].cpu_us:.0f} µs CPU an event against {found[FEW].cpu_us:.0f}")
        )
    ours, yardstick = median_pair(pairs)
    ratios = [many / few for many, few in pairs]
    return Row(
        f"deliveries a second, {MANY:,} destinations with a source each",
        f"{ours:,.0f}/s",
        f"{FEW} destinations, as many events: {yardstick:,.0f}/s",
        median_ratio(pairs),
        "0.90",
        [dict(notes)[ours], f"pairs from {min(ratios):.2f} to {max(ratios):.2f}"],
    )


def side_by_side(*, quick: bool = False) -> Row:
    """CPU per event with few destinations against that with many, both servers on the same core at the same time: what
    a neighbour on the machine takes, it takes from both, and a core that is busy delivers by what an event costs."""
    events = QUICK_EVENTS if quick else EVENTS
    pairs = []
    with _deliveries(MANY) as many, _deliveries(FEW) as few, ThreadPoolExecutor(2) as threads:
        for _ in range(1 if quick else SIDE_BY_SIDE_ROUNDS):
            of_many, of_few = threads.submit(many.run, events), threads.submit(few.run, events)
            pairs.append((of_few.result().cpu_us, of_many.result().cpu_us))
    few_us, many_us = median_pair(pairs)
    ratios = [few / many for few, many in pairs]
    return Row(
        f"events by CPU, {MANY:,} destinations with a source each, beside {FEW}",
        f"{many_us:.0f} µs an event",
        f"{FEW} destinations at the same time: {few_us:.0f} µs",
        median_ratio(pairs),
        "0.90",
        [f"from {min(ratios):.2f} to {max(ratios):.2f}"],
    )


class _Measured(NamedTuple):
    a_second: float
    cpu_us: float


class _Deliveries:
    """A server whose destinations have a source each, and the sink that takes their events."""

    def __init__(self, sink: CountingSink, running: Server, sources: Sequence[str]) -> None:
        self._sink = sink
        self._running = running
        self._sources = sources
        self._sent = 0
        generate(self._plan(MANY, batch=1))  # once every lane has sent its first ones
        sink.wait_for(TALLY, MANY)
        self._sent = MANY

    def _plan(self, events: int, batch: int) -> Plan:
        return Plan(self._running.port, events, first=self._sent, batch=batch, sources=self._sources)

    def run(self, events: int) -> _Measured:
        self._sink.reset()
        before_s = cpu_s(self._running.pids)
        sent = generate(self._plan(events, batch=BATCH))
        seen = self._sink.wait_for(TALLY, events)
        used_s = cpu_s(self._running.pids) - before_s
        seen.check(self._sent, events)
        share = events // len(self._sources)
        if wrong := {lane: count for lane, count in seen.lanes.items() if count != share}:
            some = dict(list(wrong.items())[:5])
            raise SystemExit(f"each destination was to get {share} events, {len(wrong)} got another number: {some} ...")
        self._sent += events
        return _Measured(events / (seen.last_s - sent.started_s), used_s / events * 1e6)


@contextmanager
def _deliveries(destinations: int) -> Iterator[_Deliveries]:
    sources = [f"s{number}" for number in range(destinations)]
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
            yield _Deliveries(sink, running, sources)
            running.verify()


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
    print(f"{HEADER}\n{side_by_side(quick=quick)}", flush=True)
    print(throughput(quick=quick), flush=True)
    print(routing(quick=quick))


if __name__ == "__main__":
    main()
