"""Glob patterns: the cases of ``spec/event_path.md`` §5.6, and random ones against a matcher that tries everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.fql.glob import MAX_AUTOMATON_PATTERN, compile_glob


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("abc", "abc", True),
        ("ab", "abc", False),
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "a/b", True),
        ("*c", "abc", True),
        ("*b", "abc", False),
        ("a*", "a", True),
        ("a*d", "abcd", True),
        ("a*a", "a", False),
        ("ab*ba", "aba", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("a??d", "abcd", True),
        ("a??d", "abd", False),
        ("a?b", "a☺b", True),
        ("a?b", "a😀b", True),
        ("a???b", "a☺b", False),
        ("ab[cC]d", "abCd", True),
        ("ab[A-Z]d", "abcd", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("[a-ζ]*", "β", True),
        ("*[a-ζ]", "A", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "z", False),
        ("[b-a]", "a", False),
        ("[^b-a]", "a", True),
        ("[^^]", "^", False),
        ("[[]", "[", True),
        ("[a*]", "*", True),
        ("[*]x*", "*xyz", True),
        ("]", "]", True),
    ],
)
def test_patterns(pattern: str, text: str, *, expected: bool) -> None:
    assert compile_glob(pattern)(text) is expected


@pytest.mark.parametrize(
    "pattern", ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "[a", "[a-", "a\\", "[\\"]
)
def test_malformed_patterns_match_nothing(pattern: str) -> None:
    for text in ["", "a", "x", "-", "]", "[", pattern, "ab"]:
        assert not compile_glob(pattern)(text)
        assert not compile_glob("*" + pattern)(text)


def tries_everything(pattern: list[str], text: str) -> bool:
    if not pattern:
        return not text
    head, *rest = pattern
    if head == "*":
        return any(tries_everything(rest, text[at:]) for at in range(len(text) + 1))
    if not text:
        return False
    takes = {"?": True, "[a-b]": text[0] in "ab", "[^a]": text[0] != "a"}.get(head, text[0] == head)
    return takes and tries_everything(rest, text[1:])


@given(st.lists(st.sampled_from(["a", "b", "*", "?", "[a-b]", "[^a]", "é"]), max_size=8), st.text("abcé", max_size=8))
def test_any_pattern_matches_what_it_says(pattern: list[str], text: str) -> None:
    assert compile_glob("".join(pattern))(text) is tries_everything(pattern, text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_string_is_a_pattern_or_matches_nothing(pattern: str, text: str) -> None:
    assert compile_glob(pattern)(text) in (True, False)


def test_a_pattern_longer_than_any_expression_matches_nothing() -> None:
    assert compile_glob("?" * MAX_AUTOMATON_PATTERN)("x" * MAX_AUTOMATON_PATTERN)
    assert not compile_glob("?" * (MAX_AUTOMATON_PATTERN + 1))("x" * (MAX_AUTOMATON_PATTERN + 1))
    assert compile_glob("x" * 20_000)("x" * 20_000), "literals have no bound"
