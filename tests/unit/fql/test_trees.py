"""Text and tree, tree and JSON form, tree and closures: on random expressions, with nothing assumed of the events."""

from __future__ import annotations

import copy
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fql.generate import Events, Expressions, Spelling, Triggers
from trunkline.fql import (
    DEVICE,
    FILTER,
    TRIGGER,
    Constants,
    FqlError,
    FqlSyntaxError,
    FqlUnsupportedError,
    Query,
    compile_fql,
    constants,
    format_fql,
    from_ir,
    parse_fql,
    to_ir,
    to_matcher,
)
from trunkline.fql.tree import And, Comparison, Literal, Node, Or, Path

randoms = st.integers(0, 2**32).map(Random)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
any_json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
names = st.sampled_from(["type", "event", "name", "userId", "properties", "traits", "context", "a", "nested", "items"])
any_events = st.dictionaries(names, any_json | st.dictionaries(names, any_json, max_size=3), max_size=6)


@given(randoms)
def test_every_spelling_of_a_tree_parses_to_it(random: Random) -> None:
    tree = Expressions(random, for_browsers=False).condition()
    assert parse_fql(Spelling(random).of(tree)).root == tree


@given(randoms)
def test_what_is_written_parses_to_the_same_tree(random: Random) -> None:
    query = Query(FILTER, Expressions(random, for_browsers=False).condition())
    text = format_fql(query)
    assert parse_fql(text) == query
    assert format_fql(parse_fql(text)) == text


@given(randoms)
def test_a_trigger_that_is_written_parses_to_the_same_tree(random: Random) -> None:
    query = parse_fql(Triggers(random).text(), TRIGGER)
    assert parse_fql(format_fql(query), TRIGGER) == query


NAMES = [
    "a",
    "A-b_c",
    "1st",
    "-x",
    "a.b",
    "product 1",
    "and",
    "OR",
    "null",
    "true",
    "in",
    "all",
    "é",
    "😀",
    "$",
    "\\",
    '"',
]


@pytest.mark.parametrize("step", [*NAMES, "\n"])
def test_any_name_can_be_a_step(step: str) -> None:
    for steps in [(step,), ("properties", step), (step, "x")]:
        text = format_fql(Query(FILTER, Comparison("=", Path(steps), Literal(1))))
        query = parse_fql(text)
        assert query.root == Comparison("=", Path(steps), Literal(1))
        event: Any = 1
        for name in reversed(steps):
            event = {name: event}
        assert compile_fql(query)(event)


def test_constants_of_different_types_are_different() -> None:
    assert parse_fql("a = 1") != parse_fql("a = true")
    assert parse_fql("a = 0") != parse_fql("a = false")
    assert parse_fql("a = 1") == parse_fql("a  =  1.0")
    assert len({parse_fql("a = 1"), parse_fql("a = true"), parse_fql("a=1")}) == 2
    assert parse_fql("type = 'a'") != parse_fql("type = 'a'", TRIGGER)


@given(randoms)
def test_the_json_form_gives_the_tree_back(random: Random) -> None:
    query = Query(FILTER, Expressions(random).condition())
    assert from_ir(to_ir(query)) == query


def test_the_json_form_of_segments_own() -> None:
    query = parse_fql("type = 'track' and !contains(context.page.url, 'x') and event in ['A', 5, null]")
    form = [
        "and",
        ["=", "type", {"value": "track"}],
        [
            "and",
            ["!", ["contains", "context.page.url", {"value": "x"}]],
            ["in", "event", {"value": [{"value": "A"}, {"value": 5}, {"value": None}]}],
        ],
    ]
    assert to_ir(query) == form
    assert from_ir(["and", form[1], *form[2][1:]]) == query, "tsub takes more than two operands"
    assert to_matcher(parse_fql("event = 'A'")) == {
        "type": "fql",
        "ir": '["=","event",{"value":"A"}]',
        "config": {"expr": 'event = "A"'},
    }
    assert to_matcher(parse_fql("all")) == {"type": "all", "ir": "", "config": {"expr": "all"}}


@pytest.mark.parametrize(
    "text",
    [
        "'x' in properties.tags",
        "properties.tags = ['x']",
        "uppercase(event) = 'A'",
        "contains(lowercase(event), 'a')",
        "(a = 1) = true",
        "lowercase(event)",
        "properties.a\\.b = 1",
        "all",
        "!(length(event))",
    ],
)
def test_what_browsers_would_get_wrong_has_no_json_form(text: str) -> None:
    with pytest.raises(FqlUnsupportedError, match="on the server only"):
        to_ir(parse_fql(text))


def test_a_trigger_has_no_json_form() -> None:
    with pytest.raises(FqlUnsupportedError, match="trigger"):
        to_ir(parse_fql("type = 'track'", TRIGGER))


@pytest.mark.parametrize("form", [None, 5, [], {}, {"value": {}}, {"value": 1, "x": 2}, ["and"], ["=", "a"],
                                  ["nope", "a"], ["contains", "a"], ["in", "a", {"value": 5}], "", "a..b", [["!", "a"]],
                                  {"value": [{"value": [{"value": 1}]}]}, {"value": [5]},
                                  {"value": float("nan")}])  # fmt: skip
def test_what_is_no_json_form(form: Any) -> None:
    with pytest.raises(FqlSyntaxError):
        from_ir(form)


def test_a_string_with_both_quotes_has_no_text() -> None:
    with pytest.raises(FqlUnsupportedError, match="both kinds of quotes"):
        format_fql(from_ir(["=", "a", {"value": "'\""}]))


@given(randoms, any_events, st.sampled_from([FILTER, DEVICE]))
def test_closures_answer_on_any_event_and_leave_it_alone(random: Random, event: dict[str, Any], dialect: Any) -> None:
    matches = compile_fql(Query(dialect, Expressions(random, for_browsers=False).condition()))
    for given_event in (event, Events(random).event()):
        before = copy.deepcopy(given_event)
        assert matches(given_event) in (True, False)
        assert type(matches(given_event)) is bool
        assert given_event == before


@given(randoms, any_events)
def test_closures_of_triggers_answer_on_any_event_and_leave_it_alone(random: Random, event: dict[str, Any]) -> None:
    matches = compile_fql(parse_fql(Triggers(random).text(), TRIGGER))
    for given_event in (event, Events(random).event()):
        before = copy.deepcopy(given_event)
        assert type(matches(given_event)) is bool
        assert given_event == before


@given(randoms)
def test_constant_comparisons_are_the_comparisons_of_values(random: Random) -> None:
    """What is specialised for constants gives what the same comparison gives when the constant is in the event."""
    tree = Expressions(random).condition(depth=0)
    event = Events(random).event()
    moved = event | {"constants": {}}
    places: dict[str, Any] = moved["constants"]

    def move(node: Any) -> Any:
        if isinstance(node, Literal):
            places[f"c{len(places)}"] = node.value
            return Path(("constants", f"c{len(places) - 1}"))
        fields = {name: getattr(node, name) for name in node.__dataclass_fields__ if name != "offset"}
        if isinstance(node, Path):
            return node
        for name, value in fields.items():
            if isinstance(value, tuple):
                fields[name] = tuple(move(item) for item in value)
            elif hasattr(value, "__dataclass_fields__"):
                fields[name] = move(value)
        return replace(node, **fields)

    for dialect in (FILTER, DEVICE):
        assert compile_fql(Query(dialect, tree))(event) == compile_fql(Query(dialect, move(tree)))(moved)


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    for dialect in (FILTER, DEVICE, TRIGGER):
        try:
            query = parse_fql(text, dialect)
        except FqlError:
            continue
        assert parse_fql(format_fql(query), dialect) == query


PIECES = ["type", "event", "properties.a", '"x"', "'track'", "5", "-1.5", "null", "true", "and", "or", "AND", "in", "=",
          "!=", "<", ">=", "!", "(", ")", "[", "]", ",", ".", "contains(", "match(", "length(", " ", "\\"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from([FILTER, TRIGGER]), any_events)
def test_any_pieces_are_an_expression_or_an_error(pieces: list[str], dialect: Any, event: dict[str, Any]) -> None:
    text = " ".join(pieces)
    try:
        query = parse_fql(text, dialect)
    except FqlError:
        return
    assert parse_fql(format_fql(query), dialect) == query
    assert type(compile_fql(query)(event)) is bool


def bounds(types: set[str] | None, events: set[str] | None) -> Constants:
    return Constants(None if types is None else frozenset(types), None if events is None else frozenset(events))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", bounds(None, None)),
        ("type = 'track'", bounds({"track"}, None)),
        ("'track' = type", bounds({"track"}, None)),
        ("type = 'track' and event = 'A'", bounds({"track"}, {"A"})),
        ("type = 'track' and (event = 'A' or event = 'B')", bounds({"track"}, {"A", "B"})),
        ("type = 'track' and event in ['A', 'B']", bounds({"track"}, {"A", "B"})),
        ("(type = 'track' and event = 'A') or type = 'page'", bounds({"track", "page"}, None)),
        ("type = 'track' or userId = 'x'", bounds(None, None)),
        ("type = 'track' and type = 'page'", bounds(set(), set())),
        ("(type = 'track' and type = 'page') or event = 'A'", bounds(None, {"A"})),
        ("type = 'track' and false", bounds(set(), set())),
        ("type in []", bounds(set(), set())),
        ("type in ['track', null]", bounds(None, None)),
        ("type = null", bounds(None, None)),
        ("type != 'track'", bounds(None, None)),
        ("!(type = 'track')", bounds(None, None)),
        ("lowercase(event) = 'a'", bounds(None, None)),
        ("match(event, 'A')", bounds(None, None)),
        ("type = event", bounds(None, None)),
        ("properties.type = 'a'", bounds(None, None)),
    ],
)
def test_constants(text: str, expected: Constants) -> None:
    assert constants(parse_fql(text)) == expected


def test_constants_of_triggers_follow_the_last_word() -> None:
    text = 'type = "track" and event = "A" or event = B'
    assert constants(parse_fql(text, TRIGGER)) == bounds(None, None)
    assert constants(parse_fql('type = "track" and (event = "A" or event = B)', TRIGGER)) == bounds(
        {"track"}, {"A", "B"}
    )
    assert constants(parse_fql("event = null", TRIGGER)) == bounds(None, {"null"})
    assert constants(parse_fql("event != null", TRIGGER)) == bounds(None, None)


@given(randoms, st.sampled_from([FILTER, DEVICE, TRIGGER]))
def test_constants_never_exclude_an_event_that_matches(random: Random, dialect: Any) -> None:
    if dialect is TRIGGER:
        query = parse_fql(Triggers(random).text(), TRIGGER)
    else:
        fields = [Comparison("=", Path((name,)), Literal(value)) for name, value in
                  [("type", "track"), ("type", "page"), ("event", "Order Completed"), ("event", None)]]  # fmt: skip
        inside: Node = Expressions(random, for_browsers=False).condition(depth=2)
        kind: type[And] | type[Or] = And if random.random() < 0.5 else Or
        query = Query(dialect, kind((random.choice(fields), random.choice(fields), inside)))
    found = constants(query)
    matches = compile_fql(query)
    for _ in range(20):
        event = Events(random).event()
        if matches(event):
            assert found.types is None or event.get("type") in found.types
            assert found.events is None or event.get("event") in found.events
