"""Compiled triggers against Segment's ``validate`` on the same triggers and events, in turn.

Run it with ``python -m benchmarks.fql [SECONDS]``. Both sides parse once and evaluate every trigger on every event,
which is decoded JSON. Both are warm (our functions are generated, V8 has compiled), the matches of both are counted and
have to be the same. Time is CPU time of each process, so that others on the machine count less. Segment's side is Node
with the packages of ``tests/wire`` (``npm ci`` there). The second line is filters, with our own closures as the
yardstick: tsub parses its JSON for each event.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.support import GENERATOR_CORE, HEADER, Row, event, median_pair, median_ratio
from trunkline.fql import FILTER, TRIGGER, Dialect, compile_fql, parse_fql
from trunkline.fql.closures import Closures
from trunkline.fql.compiler import EVALUATIONS_BEFORE, EVALUATIONS_BETWEEN, TURNS
from trunkline.fql.paths import Predicate

WIRE = Path(__file__).parent.parent / "tests" / "wire"
ROUNDS = 15
EVENTS = 200
WARM_ROUNDS = (EVALUATIONS_BEFORE + EVALUATIONS_BETWEEN * TURNS) // EVENTS + 1

TRIGGERS = (
    'type = "track"',
    'type = "identify"',
    'type = "track" and event = "Order Completed"',
    'type = "track" and event = "Product Viewed"',
    'type = "page" or type = "screen"',
    'type = "track" and (event = "Signed Up" or event = "Order Completed" or event = "Order Refunded")',
    'type = "track" and properties.total > 100 and properties.currency = "EUR"',
    'type = "track" and match(event, "Order*")',
    'type = "track" and contains(event, "Completed") and userId != null',
    'type = "identify" and traits.email != null',
    'context.page.path = "/checkout/done"',
    'type = "track" and properties.coupon != null and !contains(properties.coupon, "TEST")',
)
FILTERS = (
    *TRIGGERS,
    "type in ['track', 'page'] and !(properties.total < 10)",
    "match(context.page.url, 'https://*.example.com/*')",
    "lowercase(properties.currency) = 'eur' and length(userId) > 3",
)


def events() -> list[dict[str, Any]]:
    """Events of 1 KB as a worker decodes them: three track calls, then an identify."""
    made = [event(number) for number in range(EVENTS)]
    for number in range(0, EVENTS, 4):
        made[number] |= {"type": "identify", "traits": {"email": f"u{number}@example.com"}}
        del made[number]["event"]
    return [msgspec.json.decode(msgspec.json.encode(sample)) for sample in made]


class Ours:
    """Our side."""

    def __init__(self, predicates: Sequence[Predicate], samples: list[dict[str, Any]]) -> None:
        self._predicates = predicates
        self._samples = samples
        self.run(WARM_ROUNDS)

    def run(self, rounds: int) -> tuple[float, int]:
        """Seconds and matches of so many rounds over all pairs."""
        matches = 0
        start = time.process_time()
        for _ in range(rounds):
            for predicate in self._predicates:
                for sample in self._samples:
                    if predicate(sample):
                        matches += 1
        return time.process_time() - start, matches


def compiled(texts: Sequence[str], dialect: Dialect) -> list[Predicate]:
    return [compile_fql(parse_fql(text, dialect)) for text in texts]


def closures(texts: Sequence[str], dialect: Dialect) -> list[Predicate]:
    return [Closures(dialect).truth(parse_fql(text, dialect).root) for text in texts]


class Yardstick:
    """Segment's side, in a Node process on the same core: the two take turns."""

    def __init__(self, samples: list[dict[str, Any]]) -> None:
        self._process = subprocess.Popen(
            ["node", Path(__file__).with_name("fql_yardstick.cjs")],
            env={**os.environ, "NODE_PATH": str(WIRE / "node_modules")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say({"triggers": TRIGGERS, "events": samples})

    def run(self, rounds: int) -> tuple[float, int]:
        self._say(rounds)
        assert self._process.stdout is not None
        seconds, matches = json.loads(self._process.stdout.readline())
        return float(seconds), int(matches)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)

    def _say(self, value: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()


def triggers(seconds: float) -> Row:
    samples = events()
    ours, theirs = Ours(compiled(TRIGGERS, TRIGGER), samples), Yardstick(samples)
    theirs.run(WARM_ROUNDS)
    rounds = _rounds(ours, seconds)
    pairs = _interleaved(ours, theirs, rounds, len(TRIGGERS))
    theirs.close()
    return _row("FQL: triggers", "validate", pairs, "a trigger and event")


def filters(seconds: float) -> Row:
    samples = events()
    ours, reference = Ours(compiled(FILTERS, FILTER), samples), Ours(closures(FILTERS, FILTER), samples)
    pairs = _interleaved(ours, reference, _rounds(ours, seconds), len(FILTERS))
    return _row("FQL: filters", "closures", pairs, "a filter and event")


def _rounds(ours: Ours, seconds: float) -> int:
    return max(1, int(seconds / (2 * ROUNDS) / (ours.run(3)[0] / 3)))


def _interleaved(ours: Ours, theirs: Ours | Yardstick, rounds: int, expressions: int) -> list[tuple[float, float]]:
    """Evaluations a second of both, so many times in turn."""
    evaluations = rounds * expressions * EVENTS
    pairs = []
    for _ in range(ROUNDS):
        (mine, found), (other, expected) = ours.run(rounds), theirs.run(rounds)
        assert found == expected, f"{found} matches against {expected}: this measures two different things"
        pairs.append((evaluations / mine, evaluations / other))
    return pairs


def _row(what: str, yardstick: str, pairs: list[tuple[float, float]], unit: str) -> Row:
    rate, other = median_pair(pairs)
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    notes = [
        f"{1e9 / rate:.0f} ns against {1e9 / other:.0f} ns {unit}",
        f"ratios from {ratios[0]:.2f} to {ratios[-1]:.2f}",
    ]
    return Row(what, f"{rate:,.0f}/s", f"{yardstick} {other:,.0f}/s", median_ratio(pairs), "1.00", notes)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    os.sched_setaffinity(0, {GENERATOR_CORE})
    print(f"{HEADER}\n{triggers(seconds * 0.7)}\n{filters(seconds * 0.3)}")


if __name__ == "__main__":
    main()
