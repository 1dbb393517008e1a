"""FQL against Segment's own engines: the JSON form in ``@segment/tsub``, triggers in
``@segment/destination-subscriptions``.

Random expressions on random events have to come out alike. Where we differ on purpose, ``LISTED_…`` proves that it is
still so, and ``docs/decisions/0014-fql.md`` has the reasons. ``TRUNKLINE_FQL_CASES`` is the number of random cases (an
expression on an event) of a test, ``TRUNKLINE_FQL_SEED`` where they start.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.unit.fql.generate import ASTRAL, Events, Expressions, Spelling, Triggers
from trunkline.fql import DEVICE, FILTER, TRIGGER, Query, compile_fql, from_ir, parse_fql, to_ir

from .kit import sdks

CASES = int(os.environ.get("TRUNKLINE_FQL_CASES", "20000"))
SEED = int(os.environ.get("TRUNKLINE_FQL_SEED", "20261121"))
EVENTS_AN_EXPRESSION = 10


class Oracle:
    """Segment's engines in a Node process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "drivers/fql_oracle.cjs"],
            cwd=sdks.HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask(self, question: dict[str, Any]) -> str:
        """``1``, ``0`` or ``E`` (it threw) for each event."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert len(answer) == len(question["events"]), f"the oracle died on {question}"
        return answer

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(timeout=10)


@pytest.fixture(scope="module")
def oracle(node_packages: None) -> Iterator[Oracle]:
    running = Oracle()
    yield running
    running.close()


def is_listed(form: str, event: dict[str, Any]) -> bool:
    """A glob on characters outside the basic plane: they are one to us and two to tsub."""
    return '"match"' in form and ASTRAL in form + json.dumps(event, ensure_ascii=False)


def compare(oracle: Oracle, query: Query, question: dict[str, Any], seen: Counter[str]) -> None:
    """Ask both; ``seen`` counts the answers, and what was left out under ``listed``."""
    matches = compile_fql(query)
    text = json.dumps(question.get("ir"), ensure_ascii=False)
    events = question["events"]
    for event, theirs in zip(events, oracle.ask(question), strict=True):
        if is_listed(text, event):
            seen["listed"] += 1
            continue
        assert "01"[matches(event)] == theirs, f"{json.dumps(question | {'events': [event]})}"
        seen[theirs] += 1


def assert_telling(seen: Counter[str]) -> None:
    assert seen["listed"] < CASES // 4, seen
    assert min(seen["0"], seen["1"]) > CASES // 10, f"both answers have to occur often: {seen}"


def test_the_json_form_means_to_browsers_what_the_device_dialect_says(oracle: Oracle) -> None:
    random, seen = Random(SEED), Counter[str]()
    for _ in range(CASES // EVENTS_AN_EXPRESSION):
        tree = Expressions(random).condition()
        query = parse_fql(Spelling(random).of(tree))
        assert query.root == tree
        form = to_ir(query)
        assert from_ir(form) == query
        events = [Events(random).event() for _ in range(EVENTS_AN_EXPRESSION)]
        compare(oracle, Query(DEVICE, tree), {"ir": form, "events": events}, seen)
    assert_telling(seen)


def test_the_server_agrees_with_browsers_where_the_dialects_do_not_differ(oracle: Oracle) -> None:
    random, seen = Random(SEED + 1), Counter[str]()
    for _ in range(CASES // EVENTS_AN_EXPRESSION):
        query = Query(FILTER, Expressions(random, calm=True).condition())
        events = [Events(random, whole=True).event() for _ in range(EVENTS_AN_EXPRESSION)]
        compare(oracle, query, {"ir": to_ir(query), "events": events}, seen)
    assert_telling(seen)


def test_triggers_mean_what_they_mean_in_actions(oracle: Oracle) -> None:
    random, seen = Random(SEED + 2), Counter[str]()
    for _ in range(CASES // EVENTS_AN_EXPRESSION):
        text = Triggers(random).text()
        events = [Events(random).event() for _ in range(EVENTS_AN_EXPRESSION)]
        compare(oracle, parse_fql(text, TRIGGER), {"trigger": text, "events": events}, seen)
    assert_telling(seen)
