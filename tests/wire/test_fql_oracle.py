"""FQL against Segment's own engines: the JSON form in ``@segment/tsub``, triggers in
``@segment/destination-subscriptions``.

Random expressions on random events have to come out alike. Where we differ on purpose, ``LISTED_…`` proves that it is
still so, and ``docs/decisions/0014-fql.md`` has the reasons. ``TRUNKLINE_FQL_CASES`` is the number of random cases (an
expression on an event) of a test, ``TRUNKLINE_FQL_SEED`` where they start.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.unit.fql.generate import ASTRAL, Events, Expressions, Spelling, Triggers
from trunkline.fql import (
    DEVICE,
    FILTER,
    TRIGGER,
    FqlError,
    FqlUnsupportedError,
    Query,
    compile_fql,
    from_ir,
    parse_fql,
    to_ir,
)

from .kit.oracle import Oracle

CASES = int(os.environ.get("TRUNKLINE_FQL_CASES", "20000"))
SEED = int(os.environ.get("TRUNKLINE_FQL_SEED", "20261121"))
EVENTS_AN_EXPRESSION = 10

LISTED_TRIGGERS: list[tuple[str, dict[str, Any], str, str]] = [
    # trigger, event, Segment's answer, ours: "-" when we refuse the trigger and say why
    ("type = 'track'", {"type": "track"}, "0", "1"),
    ('type = "track" OR event = "A"', {"type": "track"}, "0", "1"),
    ('type = "track" and (contains(event, "A") or event = "B")', {"type": "page", "event": "B"}, "1", "0"),
    ('((type = "track"))', {"type": "track"}, "0", "1"),
    ('event!="A"', {"event": "B"}, "0", "1"),
    ("properties.a = (true)", {"properties": {"a": True}}, "0", "1"),
    ('!(type = "track")', {"type": "track"}, "1", "-"),
    ('anonymousId = "x" and type = "track"', {"type": "track"}, "1", "-"),
    ('contains(type, "tr") and event = "A"', {"type": "page", "event": "A"}, "1", "-"),
    ('type = "track" event = "B"', {"type": "track", "event": "B"}, "1", "-"),
    ('event = "A" and', {"event": "A"}, "1", "-"),
    ('event in ["A"] or type = "track"', {"type": "track", "event": "B"}, "1", "-"),
    ('name.first = "A"', {"name": "A"}, "1", "-"),
    ('match(event, "abc")', {"event": "xbc"}, "1", "-"),
    ("properties.length != null", {"properties": []}, "1", "0"),
    ("properties.constructor != null", {"properties": {}}, "1", "0"),
    ('properties.a.\\0 = "x"', {"properties": {"a": "xyz"}}, "1", "0"),
    ("properties.id = 9007199254740993", {"properties": {"id": 9007199254740992}}, "1", "0"),
    ("properties.null = 1", {"properties": {"null": 1}}, "0", "1"),
    ("event = an", {"event": "an"}, "0", "1"),
]

LISTED_FORMS: list[tuple[Any, dict[str, Any], str, str, bool]] = [
    # JSON form, event, tsub's answer, ours, and whether we give the form to browsers at all
    (["match", {"value": "😀"}, {"value": "?"}], {}, "0", "1", True),
    (["=", "a.length", {"value": 3}], {"a": "xyz"}, "1", "0", True),
    (["=", "a.0", {"value": "x"}], {"a": "xyz"}, "1", "0", True),
    (["=", "id", {"value": 9007199254740993}], {"id": 9007199254740992}, "1", "0", True),
    (["=", "a", {"value": "x"}], {"a": ["lowercase", {"value": "X"}]}, "1", "0", True),
    (["=", "a", "b"], {"a": {"x": 1, "0": 2}, "b": {"0": 2, "x": 1}}, "1", "0", True),
    (["in", "a", {"value": ["a"]}], {"a": [1]}, "1", "0", True),
    (["in", {"value": "x"}, "tags"], {"tags": ["x"]}, "0", "1", False),
    (["in", {"value": "x"}, "tags"], {}, "E", "0", False),
    (["=", "tags", {"value": [{"value": "x"}]}], {"tags": ["x"]}, "0", "1", False),
    (["and", ["lowercase", "event"], {"value": True}], {"event": "A"}, "1", "0", False),
    (["contains", ["lowercase", "event"], {"value": "a"}], {"event": "A"}, "0", "1", False),
    (["=", ["=", "a", {"value": 1}], {"value": True}], {"a": 1}, "0", "1", False),
    (["=", ["uppercase", "a"], {"value": "X"}], {"a": "x"}, "0", "1", False),
]


@pytest.fixture(scope="module")
def oracle(node_packages: None) -> Iterator[Oracle]:
    running = Oracle("fql_oracle.cjs")
    yield running
    running.close()


def is_listed(form: str, event: dict[str, Any]) -> bool:
    """A glob on characters outside the basic plane: they are one to us and two to tsub."""
    return '"match"' in form and ASTRAL in form + json.dumps(event, ensure_ascii=False)


def verdicts(oracle: Oracle, question: dict[str, Any]) -> str:
    """``1``, ``0`` or ``E`` (it threw) for each event."""
    answer = oracle.ask_line(question)
    assert len(answer) == len(question["events"]), f"the oracle died on {question}"
    return answer


def compare(oracle: Oracle, query: Query, question: dict[str, Any], seen: Counter[str]) -> None:
    """Ask both; ``seen`` counts the answers, and what was left out under ``listed``."""
    closures, function = compile_fql(query), compile_fql(query, at_once=True)
    text = json.dumps(question.get("ir"), ensure_ascii=False)
    events = question["events"]
    for event, theirs in zip(events, verdicts(oracle, question), strict=True):
        if is_listed(text, event):
            seen["listed"] += 1
            continue
        for matches in (closures, function):
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


@pytest.mark.parametrize(("text", "event", "theirs", "mine"), LISTED_TRIGGERS)
def test_listed_differences_of_triggers(
    oracle: Oracle, text: str, event: dict[str, Any], theirs: str, mine: str
) -> None:
    assert verdicts(oracle, {"trigger": text, "events": [event]}) == theirs
    try:
        query = parse_fql(text, TRIGGER)
        assert {"01"[compile_fql(query, at_once=at_once)(event)] for at_once in (False, True)} == {mine}
    except FqlError:
        assert mine == "-"


@pytest.mark.parametrize(("form", "event", "theirs", "mine", "has_form"), LISTED_FORMS)
def test_listed_differences_of_the_json_form(
    oracle: Oracle, form: Any, event: dict[str, Any], theirs: str, mine: str, *, has_form: bool
) -> None:
    query = from_ir(form)
    assert verdicts(oracle, {"ir": form, "events": [event]}) == theirs
    device = replace(query, dialect=DEVICE)
    assert {"01"[compile_fql(device, at_once=at_once)(event)] for at_once in (False, True)} == {mine}
    if has_form:
        assert to_ir(query) == form
    else:
        with pytest.raises(FqlUnsupportedError, match="server only"):
            to_ir(query)
