"""Input that is meant to hurt: it ends, and soon. What does not would run into the suite's time limit."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from trunkline.fql import (
    MAX_FQL_BYTES,
    TRIGGER,
    FqlSyntaxError,
    Query,
    compile_fql,
    constants,
    format_fql,
    from_ir,
    parse_fql,
    to_ir,
)
from trunkline.fql.glob import compile_glob
from trunkline.fql.parser import MAX_DEPTH
from trunkline.fql.values import equal

LONG = 32 * 1024
DEEP = 10_000


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a*" * 2_000 + "b", "a" * LONG),
        ("*a?" * 1_500 + "b", "a" * LONG),
        ("*" + "?a" * 2_000 + "b", "a" * LONG),
        ("*" * 5_000 + "b", "a" * LONG),
        ("[a-z]*" * 800 + "!", "a" * LONG),
        ("*[^b]" * 800 + "b!", "".join(map(chr, range(0x4E00, 0x4E00 + LONG // 3))) * 3),
        ("[" + "a-z" * 1_600 + "]*b", "a" * LONG),
        ("*" + "ab" * 2_000 + "*c", "ab" * (LONG // 2)),
    ],
)
def test_catastrophic_patterns(pattern: str, text: str) -> None:
    assert compile_glob(pattern)(text) is False


def test_a_pattern_out_of_the_event_costs_no_more() -> None:
    matches = compile_fql(parse_fql("match(properties.text, properties.pattern)"))
    for pattern in ["*a?" * 10_000, "*?" * 2_000, "[" * LONG, "".join(map(chr, range(0x4E00, 0x4E00 + 5_000))) + "?"]:
        assert matches({"properties": {"text": "a" * LONG, "pattern": pattern + "b"}}) is False


@pytest.mark.parametrize(
    "text",
    [
        "(" * DEEP,
        "!(" * DEEP,
        "!" * DEEP,
        "[" * DEEP,
        "lowercase(" * DEEP,
        "a or " * DEEP,
        "((((a))))" * DEEP,
    ],
)
def test_deep_nesting_is_an_error(text: str) -> None:
    with pytest.raises(FqlSyntaxError):
        parse_fql(text)
    with pytest.raises(FqlSyntaxError):
        parse_fql(text[: MAX_FQL_BYTES - 10])


@pytest.mark.parametrize(
    ("piece", "joint", "count"),
    [("a", " or ", 1_000), ("a", " and ", 800), ("a=1", " or ", 700), ("(a or b)", " and ", 350), ("!a", " and ", 600)],
)
def test_the_longest_expressions(piece: str, joint: str, count: int) -> None:
    query = parse_fql(joint.join([piece] * count))
    assert parse_fql(format_fql(query), max_bytes=2 * MAX_FQL_BYTES) == query
    assert from_ir(to_ir(query)) == query
    constants(query)
    assert type(compile_fql(query)({"a": True, "b": 5})) is bool


def test_the_deepest_expression_leaves_room_on_the_stack() -> None:
    assert MAX_DEPTH % 2, "an odd number of negations negates"
    text = "!(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH

    def below(frames: int) -> bool:
        return below(frames - 1) if frames else compile_fql(parse_fql(text))({"a": False})

    assert below(sys.getrecursionlimit() // 2) is True


def test_the_longest_path_and_list() -> None:
    path = ".".join(["a"] * 2_500)
    event: Any = 5
    for _ in range(2_500):
        event = {"a": event}
    assert compile_fql(parse_fql(f"{path} = 5"))(event)
    items = ", ".join(["1"] * 1_600)
    assert compile_fql(parse_fql(f"a in [{items}]"))({"a": 1})


def test_a_deep_json_form_is_an_error_and_a_long_chain_is_not() -> None:
    deep: Any = "a"
    for _ in range(DEEP):
        deep = ["!", deep]
    with pytest.raises(FqlSyntaxError, match="arrays inside each other"):
        from_ir(deep)
    chain: Any = "a"
    for _ in range(2_000):
        chain = ["or", "a", chain]
    assert compile_fql(from_ir(chain))({"a": True})
    alternating: Any = "a"
    for _ in range(DEEP):
        alternating = ["or", "a", ["and", "a", alternating]]
    with pytest.raises(FqlSyntaxError, match="arrays inside each other"):
        from_ir(alternating)
    for _ in range(DEEP):
        chain = ["or", "a", chain]
    with pytest.raises(FqlSyntaxError, match="more than 5,120 conditions"):
        from_ir(chain)


def test_deep_events() -> None:
    one: Any = 1
    other: Any = 1
    different: Any = 2
    for _ in range(DEEP):
        one, other, different = [one], [other], [different]
    assert equal(one, other)
    assert not equal(one, different)
    assert compile_fql(parse_fql("string(a) = null"))({"a": one})
    assert not compile_fql(parse_fql("a = b"))({"a": one, "b": different})
    assert not compile_fql(parse_fql("a in b"))({"a": one, "b": one})


def test_wide_events() -> None:
    wide = {f"k{number}": number for number in range(LONG)}
    assert compile_fql(parse_fql("a = b"))({"a": wide, "b": dict(wide)})
    assert not compile_fql(parse_fql("a = b"))({"a": wide, "b": wide | {"k1": 2}})


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("length(a) > 0", {"a": "\ud800"}),
        ("lowercase(a) != a", {"a": "\udfff"}),
        ("string(a) = 'x'", {"a": ["\ud800"]}),
        ("string(a) = 'x'", {"a": 10**400}),
        ("string(a) = 'x'", {"a": [10**400]}),
        ("a > 0.5", {"a": -(10**400)}),
        ("a = 0.5", {"a": 10**400}),
        ("a in [0.5, 1]", {"a": 10**400}),
        ("number(a) > 0", {"a": "9" * 5_000}),
        ("number(a) > 0", {"a": "1e999"}),
        ("number(a) > 0", {"a": "٣"}),
        ("semver(a, '>', '0') and false", {"a": "9" * 5_000}),
        ("semver(a, '>', '0')", {"a": "." * LONG}),
        ("a < 1", {"a": float("nan")}),
        ("titlecase(a) = 'x'", {"a": " " * LONG}),
        ("contains(a, b)", {"a": "a" * LONG, "b": "a" * (LONG // 2) + "b"}),
    ],
)
def test_values_that_break_naive_code(text: str, event: dict[str, Any]) -> None:
    assert compile_fql(parse_fql(text))(event) in (False, text.startswith("length"))


def test_numbers_in_triggers() -> None:
    for constant in [
        '"0x' + "f" * 4_000 + '"',
        '"' + "9" * 5_000 + '"',
        '"1e999999999"',
        '"-Infinity"',
        '"٣"',
        "9" * 300,
    ]:
        query: Query = parse_fql(f"properties.a < {constant}", TRIGGER)
        assert type(compile_fql(query)({"properties": {"a": 10**400}})) is bool


def test_letters_that_look_alike_are_different_names() -> None:
    assert not compile_fql(parse_fql("typ\\е = 'track'"))({"type": "track"})  # noqa: RUF001  a Cyrillic letter
    with pytest.raises(FqlSyntaxError):
        parse_fql("typе = 'track'")  # noqa: RUF001
    with pytest.raises(FqlSyntaxError):
        parse_fql("type = 'track'\u2028and a")
    with pytest.raises(FqlSyntaxError):
        parse_fql("\u202etype = 'track'")
    assert not compile_fql(parse_fql("event = 'é'"))({"event": "e\u0301"}), "nothing is normalised"
