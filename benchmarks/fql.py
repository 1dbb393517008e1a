"""Triggers compiled to closures against Segment's ``validate`` on the same triggers and events, in turn.

Run it with ``python -m benchmarks.fql [SECONDS]``. Both sides parse once and evaluate every trigger on every event; the
matches of both are counted and have to be the same. Segment's side is Node with the packages of ``tests/wire``
(``npm ci`` there). The second line is the same for filters, without a yardstick: tsub parses its JSON for each event.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.support import GENERATOR_CORE, HEADER, Row, event, median_pair, median_ratio
from trunkline.fql import FILTER, TRIGGER, Dialect, compile_fql, parse_fql

WIRE = Path(__file__).parent.parent / "tests" / "wire"
ROUNDS = 7
EVENTS = 200

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


def events() -> list[dict[str, object]]:
    """Events of 1 KB: three track calls, then an identify."""
    made = [event(number) for number in range(EVENTS)]
    for number in range(0, EVENTS, 4):
        made[number] |= {"type": "identify", "traits": {"email": f"u{number}@example.com"}}
        del made[number]["event"]
    return made


class Closures:
    """Our side."""

    def __init__(self, texts: Sequence[str], dialect: Dialect, samples: list[dict[str, object]]) -> None:
        self._closures = [compile_fql(parse_fql(text, dialect)) for text in texts]
        self._samples = samples

    def run(self, rounds: int) -> tuple[float, int]:
        """Seconds and matches of so many rounds over all pairs."""
        matches = 0
        start = time.perf_counter()
        for _ in range(rounds):
            for closure in self._closures:
                for sample in self._samples:
                    if closure(sample):
                        matches += 1
        return time.perf_counter() - start, matches


class Yardstick:
    """Segment's side, in a Node process on the same core: the two take turns."""

    def __init__(self, samples: list[dict[str, object]]) -> None:
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
    ours, theirs = Closures(TRIGGERS, TRIGGER, samples), Yardstick(samples)
    evaluations = len(TRIGGERS) * EVENTS
    warm, _ = ours.run(3)
    theirs.run(50)
    rounds = max(1, int(seconds / (2 * ROUNDS) / (warm / 3)))
    pairs = []
    for _ in range(ROUNDS):
        (mine, found), (segments, expected) = ours.run(rounds), theirs.run(rounds)
        assert found == expected, f"{found} matches against {expected}: this measures two different things"
        pairs.append((rounds * evaluations / mine, rounds * evaluations / segments))
    theirs.close()
    rate, yardstick = median_pair(pairs)
    note = f"{1e9 / rate:.0f} ns against {1e9 / yardstick:.0f} ns a trigger and event"
    return Row("FQL: triggers", f"{rate:,.0f}/s", f"validate {yardstick:,.0f}/s", median_ratio(pairs), "1.00", [note])


def filters(seconds: float) -> Row:
    ours = Closures(FILTERS, FILTER, events())
    warm, _ = ours.run(3)
    rounds = max(1, int(seconds / ROUNDS / (warm / 3)))
    evaluations = rounds * len(FILTERS) * EVENTS
    rate = sorted(evaluations / ours.run(rounds)[0] for _ in range(ROUNDS))[ROUNDS // 2]
    return Row("FQL: filters", f"{rate:,.0f}/s", "—", None, "—", [f"{1e9 / rate:.0f} ns a filter and event"])


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    os.sched_setaffinity(0, {GENERATOR_CORE})
    print(f"{HEADER}\n{triggers(seconds * 0.8)}\n{filters(seconds * 0.2)}")


if __name__ == "__main__":
    main()
