"""Routing rules in ``@segment/tsub``: a browser does to an event what our filters do, or drops it.

``TRUNKLINE_FILTER_CASES`` is the number of random cases, ``TRUNKLINE_FILTER_SEED`` where they start.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import msgspec
import pytest

from tests.unit.fql.generate import ASTRAL, FIELDS, KEYS, OBJECTS, Events, Expressions
from trunkline.fql import FILTER, FqlUnsupportedError, Query, compile_fql, format_fql, to_ir
from trunkline.fql.tree import Node
from trunkline.pipeline.browser_conditions import for_browsers
from trunkline.pipeline.destination_filters import CompiledFilters, compile_filters
from trunkline.pipeline.routing_rules import routing_rule
from trunkline.pipeline.sampling import script_json
from trunkline.spec.discards import Discard
from trunkline.spec.filters import ACTIONS, ALLOW_PROPERTIES, DROP, DROP_PROPERTIES, ONLY_SEND, SAMPLE, Filter

from .kit.oracle import Oracle

CASES = int(os.environ.get("TRUNKLINE_FILTER_CASES", "6000"))
SEED = int(os.environ.get("TRUNKLINE_FILTER_SEED", "20261122"))
AT_ONCE = 200
DROPS_ALL = [{"type": "all", "ir": "", "config": {"expr": "all"}}], [[{"type": "drop"}]]

Ask = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def ask(node_packages: None) -> Iterator[Ask]:
    oracle = Oracle("rules_oracle.cjs")
    yield oracle.ask_all
    oracle.close()


def random_filter(random: Random) -> Filter:
    action = random.choice(ACTIONS)
    calm = random.random() < 0.7
    condition = "all"
    if random.random() < 0.85:
        condition = format_fql(Query(FILTER, Expressions(random, calm=calm).condition(depth=2)))
    if action == SAMPLE:
        return Filter(condition, SAMPLE, percent=float(random.choice([0, 1, 1])))
    if action in (DROP, ONLY_SEND):
        return Filter(condition, action)
    parents = [random.choice(["", *OBJECTS, "properties.nested", "properties.items"]) for _ in range(2)]
    fields = {
        parent: tuple(random.sample([*FIELDS, *OBJECTS, *KEYS, "nested", "price"], random.randrange(1, 6)))
        for parent in parents
    }
    return Filter(condition, action, fields=fields)


def ours(compiled: CompiledFilters, event: dict[str, Any]) -> str:
    result = compiled.verdict(event, msgspec.json.encode(event))
    return "null" if isinstance(result, Discard) else script_json(msgspec.json.decode(result))


def is_listed(question: str) -> bool:
    """A glob on characters outside the basic plane: they are one to us and two to tsub."""
    return "match" in question and ASTRAL in question


def test_browsers_do_what_the_server_does_or_drop_the_event(ask: Ask) -> None:
    random, seen = Random(SEED), Counter[str]()
    for _ in range(CASES // AT_ONCE):
        cases = []
        for _ in range(AT_ONCE // 10):
            filters = [random_filter(random) for _ in range(random.choice([1, 1, 2, 3]))]
            rule = routing_rule("Hook", filters, "web")
            assert rule is not None
            compiled = compile_filters(filters, "web", Random(0))
            cases += [(filters, compiled, rule, Events(random).event()) for _ in range(10)]
        questions = [{"rules": [rule], "destination": "Hook", "event": event} for _, _, rule, event in cases]
        for (filters, compiled, rule, event), theirs in zip(cases, ask(questions), strict=True):
            if (rule["matchers"], rule["transformers"]) == DROPS_ALL:
                assert theirs is None
                seen["inexpressible"] += 1
                continue
            if is_listed(json.dumps([rule, event], ensure_ascii=False)):
                continue
            mine = ours(compiled, event)
            assert mine == script_json(theirs), f"{filters} {json.dumps(event)}"
            seen["dropped" if theirs is None else "same" if mine == script_json(event) else "changed"] += 1
    assert min(seen["dropped"], seen["same"], seen["changed"]) > CASES // 20, seen
    assert seen["inexpressible"] < CASES // 2, seen


def test_conditions_are_written_so_that_both_agree(ask: Ask) -> None:
    """With what browsers read otherwise: missing fields, names of types, the order of texts."""
    random, seen = Random(SEED + 1), Counter[str]()
    for _ in range(CASES // AT_ONCE):
        cases: list[tuple[Node, Any, dict[str, Any]]] = []
        while len(cases) < AT_ONCE:
            tree = Expressions(random).condition(depth=1)
            try:
                form = to_ir(Query(FILTER, for_browsers(tree)))
            except FqlUnsupportedError:
                seen["refused"] += 1
                continue
            cases += [(tree, form, Events(random).event()) for _ in range(10)]
        questions = [
            {
                "rules": [
                    {"matchers": [{"type": "fql", "ir": json.dumps(form)}], "transformers": [[{"type": "drop"}]]}
                ],
                "destination": "Hook",
                "event": event,
            }
            for _, form, event in cases
        ]
        for (tree, form, event), theirs in zip(cases, ask(questions), strict=True):
            if is_listed(json.dumps([form, event], ensure_ascii=False)):
                continue
            query = Query(FILTER, tree)
            assert compile_fql(query)(event) is (theirs is None), f"{format_fql(query)} {form} {json.dumps(event)}"
            seen["true" if theirs is None else "false"] += 1
    assert min(seen["true"], seen["false"], seen["refused"]) > CASES // 60, seen


@pytest.mark.parametrize(
    ("filters", "event", "left"),
    [
        ([Filter("userId = null", DROP)], {"type": "track"}, None),
        ([Filter("userId != null", ONLY_SEND)], {"type": "track"}, None),
        ([Filter("userId != null", ONLY_SEND)], {"userId": "u"}, {"userId": "u"}),
        ([Filter("userId in [null, 'x']", DROP)], {}, None),
        ([Filter("a = b", DROP)], {"a": None}, None),
        ([Filter("typeof(a) = 'bool'", DROP)], {"a": True}, None),
        ([Filter("typeof(a) = 'null'", DROP)], {}, None),
        ([Filter("typeof(a) = 'boolean'", DROP)], {"a": 1}, None),
        ([Filter("length(a) > 3", DROP)], {"a": "x"}, None),
        ([Filter("received_at > '2026'", DROP)], {}, None),
        ([Filter("all", SAMPLE, percent=0)], {"a": 1}, None),
        ([Filter("all", ONLY_SEND)], {"a": 1}, {"a": 1}),
        (
            [
                Filter("email != null", DROP_PROPERTIES, fields={"": ("email",)}),
                Filter("email != null", DROP_PROPERTIES, fields={"": ("name", "email")}),
            ],
            {"email": "x", "name": "n", "a": 1},
            {"a": 1},
        ),
        (
            [
                Filter("a = 1", DROP_PROPERTIES, fields={"": ("a",)}),
                Filter("a = 1 and b = 1", ALLOW_PROPERTIES, fields={"": ("a", "b")}),
            ],
            {"a": 1, "b": 1, "c": 1},
            {"b": 1},
        ),
        (
            [
                Filter("a = 1", DROP_PROPERTIES, fields={"": ("b",)}),
                Filter("b = 1", DROP_PROPERTIES, fields={"": ("a",)}),
            ],
            {"a": 1, "b": 1, "c": 1},
            None,
        ),
    ],
)
def test_cases_of_note(ask: Ask, filters: list[Filter], event: dict[str, Any], left: dict[str, Any] | None) -> None:
    rule = routing_rule("Hook", filters, "web")
    question = {"rules": [rule], "destination": "Hook", "event": event}
    assert ask([question]) == [left]


def test_a_rule_is_for_its_destination_alone(ask: Ask) -> None:
    rule = routing_rule("Hook", [Filter("all", DROP)], "web")
    assert ask([{"rules": [rule], "destination": "Other", "event": {"a": 1}}]) == [{"a": 1}]


def test_what_is_off_or_for_another_source_makes_no_rule() -> None:
    assert (
        routing_rule("Hook", [Filter("all", DROP, enabled=False), Filter("all", DROP, sources=("app",))], "web") is None
    )
