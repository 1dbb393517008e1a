"""Generated functions: they answer as the closures do, and nothing that a user writes becomes code.

``TRUNKLINE_FQL_EXPRESSIONS`` is the number of random expressions of a test, ``TRUNKLINE_FQL_SEED`` where they start.
"""

from __future__ import annotations

import dis
import os
import types
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fql.generate import Events, Expressions, Triggers
from tests.unit.fql.test_trees import any_events
from trunkline.fql import DEVICE, FILTER, TRIGGER, Dialect, Query, compile_fql, compiler, parse_fql
from trunkline.fql.closures import Closures
from trunkline.fql.compiler import EVALUATIONS_BEFORE, EVALUATIONS_BETWEEN, TURNS
from trunkline.fql.generator import MAX_SIZE, can_generate, generate
from trunkline.fql.paths import Predicate
from trunkline.fql.tree import And, Call, Comparison, ListLiteral, Literal, Node, Not, Or, Path, join

randoms = st.integers(0, 2**32).map(Random)
SEED = int(os.environ.get("TRUNKLINE_FQL_SEED", "20261122"))
EXPRESSIONS = int(os.environ.get("TRUNKLINE_FQL_EXPRESSIONS", "700"))
dialects = st.sampled_from([FILTER, DEVICE, TRIGGER])

PATHS = [("a",), ("b",), ("a", "b"), ("a", "b", "c"), ("a", "c"), ("a", "0"), ("a", "b", "1"), ("b", "b")]
CONSTANTS: list[Any] = ["", "x", "xy", "xx", "1", "true", None, True, False, 0, 1, 1.0, -2, 2.5]
GLOBS = ["x", "*", "x*", "*y", "*x*", "x*y", "x*x", "*x*y*", "x*x*", "*x*x", "x*y*z", "?", "[x-z]*", "[", ""]


class Few:
    """Expressions on few paths and events of few values: what is read is read again, in this group and in others."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def tree(self, depth: int = 3) -> Node:
        kind = self._random.choice(["and", "or", "not", "leaf"]) if depth else "leaf"
        if kind == "not":
            return Not(self.tree(depth - 1))
        if kind == "leaf":
            return self._leaf()
        operands = [self.tree(depth - 1) for _ in range(self._random.choice([2, 3, 4]))]
        return join(And if kind == "and" else Or, operands)

    def _leaf(self) -> Node:
        pick = self._random.choice
        match pick(["compare", "compare", "equals", "in", "contains", "match", "call", "side"]):
            case "compare":
                return Comparison(pick(["=", "!=", "<", "<=", ">", ">="]), self._path(), self._side())
            case "equals":
                return Comparison("=", self._side(), self._path())
            case "in":
                return Comparison(
                    "in", self._side(), ListLiteral(tuple(self._side() for _ in range(pick([0, 2, 4, 6]))))
                )
            case "contains":
                return Call("contains", (self._side(), self._side()))
            case "match":
                return Call("match", (self._path(), Literal(pick(GLOBS))))
            case "call":
                return Comparison("=", Call(pick(["lowercase", "length", "typeof"]), (self._path(),)), self._side())
        return self._side()

    def _path(self) -> Path:
        return Path(self._random.choice(PATHS))

    def _side(self) -> Path | Literal:
        return self._path() if self._random.random() < 0.3 else Literal(self._random.choice(CONSTANTS))

    def event(self) -> dict[str, Any]:
        return {name: self._value(2) for name in "ab" if self._random.random() < 0.8}

    def _value(self, depth: int) -> Any:
        roll = self._random.random()
        if depth and roll < 0.5:
            return {name: self._value(depth - 1) for name in "abc01" if self._random.random() < 0.6}
        if depth and roll < 0.6:
            return [self._value(depth - 1) for _ in range(2)]
        return self._random.choice([*CONSTANTS, "xyz", "xzyz", "xyx", "y", "x-y-z"])


def closures_of(query: Query) -> Predicate:
    return Closures(query.dialect).truth(query.root)


def generated(query: Query) -> Predicate:
    code, names = generate(query)
    return types.FunctionType(code, names)


@given(randoms, any_events, dialects)
def test_functions_answer_as_closures_do_on_any_event(random: Random, event: dict[str, Any], dialect: Dialect) -> None:
    query = any_query(random, dialect)
    assert generated(query)(event) is closures_of(query)(event)


@pytest.mark.parametrize("dialect", [FILTER, DEVICE, TRIGGER], ids=lambda dialect: dialect.name)
def test_functions_answer_as_closures_do(dialect: Dialect) -> None:
    random = Random(SEED)
    for _ in range(EXPRESSIONS):
        query = any_query(random, dialect)
        closures, function = closures_of(query), generated(query)
        for event in [Events(random).event() for _ in range(6)]:
            assert function(event) is closures(event), f"{query}\n{event}"


@pytest.mark.parametrize("dialect", [FILTER, DEVICE], ids=lambda dialect: dialect.name)
def test_what_was_read_before_is_what_stands_there(dialect: Dialect) -> None:
    random = Random(SEED)
    for _ in range(EXPRESSIONS):
        query = Query(dialect, Few(random).tree())
        closures, function = closures_of(query), generated(query)
        for event in [Few(random).event() for _ in range(6)]:
            assert function(event) is closures(event), f"{query}\n{event}"


def test_every_shape_of_glob() -> None:
    texts = ["", "x", "y", "xx", "xy", "xyx", "xzyz", "xyz", "xyyz", "yx", "zxy", None, 1]
    for glob in GLOBS:
        query = Query(FILTER, Call("match", (Path(("a",)), Literal(glob))))
        closures, function = closures_of(query), generated(query)
        assert [function({"a": text}) for text in texts] == [closures({"a": text}) for text in texts], glob


@pytest.mark.parametrize("bound", ["0", "1", "-1", "2.5", "100.0", "9007199254740993", "9" * 290, "'1e999'", "'x'"])
def test_numbers_of_any_size(bound: str) -> None:
    values: list[Any] = [0, 1, -1, 2.5, 3, 100, 100.0, 2**53, 2.0**53, 2**53 + 1, 10**400, 1e308, True, "1", None]
    for operator in ["=", "!=", "<", "<=", ">", ">="]:
        for dialect in (FILTER, DEVICE, TRIGGER):
            query = parse_fql(f"properties.a {operator} {bound}", dialect)
            events = [{"properties": {"a": value}} for value in values]
            assert [*map(generated(query), events)] == [*map(closures_of(query), events)]


@pytest.mark.parametrize("dialect", [FILTER, TRIGGER], ids=lambda dialect: dialect.name)
def test_many_texts_of_one_path(dialect: Dialect) -> None:
    for count in range(2, 8):
        for path in ("event", "properties.a.b"):
            query = parse_fql(" or ".join(f"{path} = 'e{number}'" for number in range(count)), dialect)
            function = generated(query)
            for value, wanted in [*((f"e{number}", number < count) for number in range(8)), ([], False), (None, False)]:
                assert function({"event": value, "properties": {"a": {"b": value}}}) is wanted


def any_query(random: Random, dialect: Dialect) -> Query:
    if dialect is TRIGGER:
        return parse_fql(Triggers(random).text(), TRIGGER)
    return Query(dialect, Expressions(random, for_browsers=False).condition())


HOSTILE = [
    "__import__('os').system('false')",
    '"); raise SystemExit #',
    "'''",
    '"""',
    "\\",
    "\n    return True\n",
    "{event}",
    "%s",
    "v1",
    "f1",
    "event",
    "type",
    "__builtins__",
    "__class__",
    "\x00",
    "\ud800",
    "é" * 1_000,
    "print(1) if True else None",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_users_text_is_data_wherever_it_stands(text: str) -> None:
    places: list[tuple[Node, Any]] = [
        (Comparison("=", Path(("a", "b")), Literal(text)), {"a": {"b": text}}),
        (Comparison("in", Path(("a", "b")), ListLiteral((Literal(text), *map(Literal, "xyz")))), {"a": {"b": text}}),
        (Call("contains", (Path(("a", "b")), Literal(text))), {"a": {"b": f"-{text}-"}}),
        (Call("match", (Path(("a", "b")), Literal(f"{text.replace(chr(92), chr(92) * 2)}*"))), {"a": {"b": text}}),
        (Comparison("=", Path((text, text, text)), Literal(1)), {text: {text: {text: 1}}}),
        (Comparison("=", Path((text,)), Path(("b",))), {text: 5, "b": 5}),
        (And((Comparison(">", Path((text, text)), Literal(1)), Path((text, "b")))), {text: {text: 2, "b": True}}),
    ]
    for dialect in (FILTER, DEVICE):
        for tree, event in places:
            query = Query(dialect, tree)
            function = generated(query)
            assert function(event) is closures_of(query)(event) is True
            assert function({}) is closures_of(query)({})
            assert_harmless(function)
    trigger = Query(TRIGGER, Comparison("=", Path(("properties", "a")), Literal(text)))
    assert generated(trigger)({"properties": {"a": text}}) is True
    assert_harmless(generated(trigger))


def assert_harmless(function: Predicate) -> None:
    """It can name only what we gave it, call only that, `get` and `find`, and import nothing."""
    assert isinstance(function, types.FunctionType)
    ours = {"type", "dict", "str", "int", "float", "bool", "len", "missing", "equal", "into", "package", "empty"}
    ours |= {"error", "closures"}
    given_names = set(function.__globals__) - {"__builtins__"}
    assert function.__globals__["__builtins__"] == {}
    assert given_names <= ours | {f"f{number}" for number in range(100)}
    assert set(function.__code__.co_names) <= given_names | {"get", "find"}
    assert all(name == "event" or (name[0] == "v" and name[1:].isdecimal()) for name in function.__code__.co_varnames)
    assert function.__closure__ is None
    operations = {instruction.opname for instruction in dis.get_instructions(function)}
    assert not operations & {
        "IMPORT_NAME",
        "IMPORT_FROM",
        "MAKE_FUNCTION",
        "STORE_GLOBAL",
        "STORE_ATTR",
        "STORE_SUBSCR",
    }


@given(randoms, dialects)
def test_any_expression_is_harmless(random: Random, dialect: Dialect) -> None:
    assert_harmless(generated(any_query(random, dialect)))


LARGE = [
    " or ".join(f"a.b{number} = {number}" for number in range(250)),
    ".".join(["a"] * 2_000) + " = 1",
    "!(" * 20 + "a = 1" + ")" * 20 + " and " + " and ".join(f"a{number} != 1" for number in range(300)),
    " or ".join(f"match(event, 'x*y{number}*z?')" for number in range(100)),
]


@pytest.mark.parametrize("text", LARGE)
def test_what_is_large_stays_closures(text: str) -> None:
    query = parse_fql(text)
    assert not can_generate(query)
    event: dict[str, Any] = {"a": {"b7": 7}, "event": "x-y7-zz"}
    assert compile_fql(query)(event) is compile_fql(query, at_once=True)(event) is closures_of(query)(event)


def test_a_trigger_counts_the_steps_that_its_package_sees() -> None:
    step = "\\.".join(["a"] * 500)
    query = parse_fql(f"properties.{step} = 1", TRIGGER)
    assert not can_generate(query)
    assert compile_fql(query)({"properties": {}}) is False


def test_what_just_fits_is_generated() -> None:
    conditions = [f"(a{number} = {number} and !(" for number in range(8)]
    texts = [
        "".join(conditions) + "z = 1" + "))" * 8,
        " or ".join(f"a{number} = {number}" for number in range((MAX_SIZE - 1) // 4)),
        ".".join("abcdefghij") + " = 1",
    ]
    for text in texts:
        query = parse_fql(text)
        assert can_generate(query)
        events: list[dict[str, Any]] = [{}, {"a0": 0}, {"a1": 1}, {"a0": 0, "a1": 1}, {"z": 1}]
        assert [generated(query)(event) for event in events] == [closures_of(query)(event) for event in events]


def test_a_predicate_changes_its_code_and_not_its_answers() -> None:
    query = parse_fql("type = 'track' and properties.total > 100")
    predicate, at_once = compile_fql(query), compile_fql(query, at_once=True)
    assert isinstance(predicate, types.FunctionType)
    assert isinstance(at_once, types.FunctionType)
    events: list[dict[str, Any]] = [
        {"type": "track", "properties": {"total": 101}},
        {"type": "track", "properties": {"total": 100}},
        {},
    ]
    before = predicate.__code__
    for _ in range((EVALUATIONS_BEFORE + EVALUATIONS_BETWEEN * TURNS) // len(events) + 1):
        assert [predicate(event) for event in events] == [True, False, False]
    assert predicate.__code__ is not before
    assert predicate.__code__.co_code == at_once.__code__.co_code


def test_predicates_take_turns() -> None:
    """Twenty that look at the same events are not generated during the same one."""
    predicates = [compile_fql(parse_fql(f"a = {number}")) for number in range(20)]
    first = {id(predicate.__code__) for predicate in map(function_of, predicates)}
    generated_at: list[int] = []
    for _ in range(EVALUATIONS_BEFORE + EVALUATIONS_BETWEEN * (TURNS + 20)):
        for predicate in predicates:
            predicate({})
        generated_at.append(sum(id(function_of(predicate).__code__) not in first for predicate in predicates))
    assert generated_at[-1] == len(predicates)
    steps = [after - before for before, after in zip([0, *generated_at], generated_at, strict=False)]
    assert max(steps) == 1
    assert not any(generated_at[: EVALUATIONS_BEFORE - 1])


def function_of(predicate: Predicate) -> types.FunctionType:
    assert isinstance(predicate, types.FunctionType)
    return predicate


def test_a_caller_that_stands_deep_gets_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no stack is left to generate a function, closures go on."""

    def no_stack_left(query: Query) -> Any:
        raise RecursionError

    monkeypatch.setattr(compiler, "generate", no_stack_left)
    predicate = compile_fql(parse_fql("a = 1"))
    before = function_of(predicate).__code__
    for _ in range(EVALUATIONS_BEFORE + EVALUATIONS_BETWEEN * TURNS):
        assert predicate({"a": 1}) is True
    assert function_of(predicate).__code__ is before
