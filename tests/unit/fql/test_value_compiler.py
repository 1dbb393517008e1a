"""FQL where a value is wanted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from trunkline.fql import FqlError
from trunkline.fql.dialects import FILTER, FUNCTIONS
from trunkline.fql.functions import one_argument
from trunkline.fql.value_compiler import compile_value, parse_fql_value

EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Done",
    "properties": {"name": "ünder The sea", "n": 2.5, "list": [{"a": 1}, "x"], "none": None, "on": True, "v": "1.2.3"},
}


@pytest.mark.parametrize(
    ("fql", "value"),
    [
        ("event", "Order Done"),
        ("properties.n", 2.5),
        ("properties.list", [{"a": 1}, "x"]),
        ("properties.list.\\0.a", 1),
        ("properties.missing", None),
        ("properties.none", None),
        ('"text"', "text"),
        ("5", 5),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ("lowercase(event)", "order done"),
        ("uppercase(properties.name)", "ÜNDER THE SEA"),
        ("titlecase(properties.name)", "Ünder The Sea"),
        ("snakecase(event)", "Order_Done"),
        ("kebabcase(lowercase(event))", "order-done"),
        ("lowercase(properties.n)", None),
        ("length(properties.list)", 2),
        ("length(properties.missing)", 0),
        ("typeof(properties.list)", "list"),
        ("string(properties.n)", "2.5"),
        ("number('12')", 12),
        ("number('x')", None),
        ("bool(properties.on)", True),
        ("contains(event, 'Done')", True),
        ("match(event, 'X*')", False),
        ("semver(properties.v, '>', '1.0')", True),
        ("properties.n > 2", True),
        ("!(properties.n > 2)", False),
        ("properties.n > 2 and properties.on", True),
        ("type in ['page', 'track']", True),
        ("[event, 1, properties.missing]", ["Order Done", 1, None]),
        ("typeof([1])", "list"),
        ("string(properties.n = 2.5)", "true"),
    ],
)
def test_values(fql: str, value: Any) -> None:
    before = copy.deepcopy(EVENT)
    found = compile_value(parse_fql_value(fql))(EVENT)
    assert found == value
    assert type(found) is type(value)
    assert before == EVENT


@pytest.mark.parametrize("name", sorted(FUNCTIONS - {"contains", "match", "semver"}))
@pytest.mark.parametrize("key", [*EVENT["properties"], "missing"])
def test_functions_are_those_of_conditions(name: str, key: str) -> None:
    value = EVENT["properties"].get(key)
    assert compile_value(parse_fql_value(f"{name}(properties.{key})"))(EVENT) == one_argument(name, FILTER)(value)


@pytest.mark.parametrize("fql", ["", "all", "lowercas(event)", "a.", "1 2", "uppercase(a", "uppercase()"])
def test_what_is_no_value(fql: str) -> None:
    with pytest.raises(FqlError) as caught:
        parse_fql_value(fql)
    assert caught.value.mend
