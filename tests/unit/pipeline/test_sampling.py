"""Samples by path: the fraction of a value, and the JSON that it is taken from."""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import values
from trunkline.pipeline.fields import MISSING
from trunkline.pipeline.sampling import compile_sampler, fraction_of, script_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MISSING, "undefined"),
        (None, "null"),
        (True, "true"),
        ("", '""'),
        ('a"\\\n\x00\x7f</é\u2028😀', '"a\\"\\\\\\n\\u0000\x7f</é\u2028😀"'),
        (0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-12.5, "-12.5"),
        (100.0, "100"),
        (0.1, "0.1"),
        (0.000001, "0.000001"),
        (0.00000123, "0.00000123"),
        (0.0000001, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (1e20, "100000000000000000000"),
        (123456789012345680000, "123456789012345680000"),
        (12345678901234567890, "12345678901234567000"),
        (1e21, "1e+21"),
        (-1.25e25, "-1.25e+25"),
        (5e-324, "5e-324"),
        (2**53 + 1, "9007199254740992"),
        (10**400, "null"),
        ([1, [True, None], {}], "[1,[true,null],{}]"),
        (
            {"b": 1, "10": 2, "a": 3, "9": 4, "01": 5, "4294967295": 6},
            '{"9":4,"10":2,"b":1,"a":3,"01":5,"4294967295":6}',
        ),
    ],
)
def test_values_are_written_as_javascript_writes_them(value: Any, text: str) -> None:
    assert script_json(value) == text


def test_no_event_exhausts_the_stack() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = {"a": [value]}
    assert script_json(value) == '{"a":[' * 50 + "null" + "]}" * 50
    assert compile_sampler(0.5, "a", Random(0))({"a": value}) in (True, False)


@given(values)
def test_the_text_is_json_of_the_same_value(value: Any) -> None:
    def rounded(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: rounded(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [rounded(inner) for inner in item]
        return float(item) if isinstance(item, int | float) and not isinstance(item, bool) else item

    assert rounded(json.loads(script_json(value))) == rounded(value)


@given(values)
def test_the_fraction_is_that_of_the_digest(value: Any) -> None:
    digest = hashlib.md5(script_json(value).encode()).digest()
    exact = Fraction(int.from_bytes(digest, "big"), 2**128)
    assert 0 < fraction_of(value) <= 1
    assert math.isclose(fraction_of(value), exact, rel_tol=1e-15)


def test_leading_zeros_are_filled_up_from_the_rest_of_the_digest() -> None:
    """A value whose digest starts with two bytes of zeros and a few bits more."""
    value = next(str(number) for number in range(10**7) if hashlib.md5(f'"{number}"'.encode()).digest()[:2] == b"\0\0")
    digest = hashlib.md5(f'"{value}"'.encode()).digest()
    assert math.isclose(fraction_of(value), int.from_bytes(digest, "big") / 2**128, rel_tol=1e-15)


def test_a_sample_by_path_keeps_its_part_and_larger_ones_keep_more() -> None:
    users = [{"userId": f"user-{number}"} for number in range(10_000)]
    kept: set[str] = set()
    for percent in (0.01, 0.1, 0.5, 0.9):
        keeps = compile_sampler(percent, "userId", Random(0))
        now = {user["userId"] for user in users if keeps(user)}
        assert kept <= now
        assert abs(len(now) / len(users) - percent) < 0.02
        assert now == {user["userId"] for user in users if compile_sampler(percent, "userId", Random(1))(user)}
        kept = now


@pytest.mark.parametrize("path", ["", "userId"])
def test_none_and_all(path: str) -> None:
    event = {"userId": "u"}
    assert not compile_sampler(0, path, Random(0))(event)
    assert not compile_sampler(-1, path, Random(0))(event)
    assert compile_sampler(1, path, Random(0))(event)


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4))
def test_events_without_the_value_share_one_fate(keys: list[str]) -> None:
    keeps = compile_sampler(0.5, ".".join(keys), Random(0))
    assert keeps({}) == keeps({"c": 1}) == keeps({"a": "text", "b": 1}) or len(keys) == 1
