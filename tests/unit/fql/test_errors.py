"""Expressions that can't be used: where, what was expected, how to mend it."""

from __future__ import annotations

import pytest

from trunkline.fql import MAX_FQL_BYTES, TRIGGER, FqlError, FqlSyntaxError, FqlUnsupportedError, format_fql, parse_fql
from trunkline.fql.parser import MAX_BRACKETS, MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 1, 1, "empty"),
        ("  \n ", 2, 2, "empty"),
        ('userId = oops"', 1, 14, 'escaped|`\\\\"`|space before it'),
        ("a = 'x", 1, 5, "closing '"),
        ("a>3", 1, 2, "put a space before it"),
        ("a = b = c", 1, 7, "one operator"),
        ("type == 'track'", 1, 7, "a path, a value"),
        ("type = 'a' && event = 'b'", 1, 12, "put text in quotes"),
        ("type = 'a'\nand event = “b”", 2, 13, "quote strings"),
        ("(type = 'a'", 1, 12, "for the `\\(` at character 1"),
        ("type = 'a')", 1, 11, "could end"),
        ("type in 'track'", 1, 9, "a list or a path"),
        ("type in ['a', contains(a, b)]", 1, 15, "can't be an item of a list"),
        ("type in ['a' 'b']", 1, 14, "separate items by commas"),
        ("type in [", 1, 10, "a value or a path"),
        ("length(a, b)", 1, 1, "2 arguments, expected 1"),
        ("contains(a)", 1, 1, "1 arguments, expected 2"),
        ("length()", 1, 1, "0 arguments"),
        ("endswith(a, 'x')", 1, 1, "there are bool, contains"),
        ("a and(b)", 1, 3, "space after"),
        ("a. = 1", 1, 4, "expected a name"),
        ("properties.1st = 1", 1, 12, "1st"),
        ("a = 5.", 1, 6, "digits on both sides"),
        ("a = 1.2.3", 1, 8, "versions"),
        ("a = -", 1, 5, "a sign belongs to a number"),
        ("a = " + "9" * 301, 1, 5, "300 digits"),
        ("! a", 1, 1, "directly before"),
        ("a\r\nb", 1, 2, "U\\+000D.*line feed alone"),
        ("a\\", 1, 2, "takes the character after it literally"),
        ("$.properties.a = 1", 1, 1, "put text in quotes"),
        ("and", 1, 1, "a path, a value"),
    ],
)
def test_says_where_and_how_to_mend_it(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(FqlSyntaxError, match=says) as caught:
        parse_fql(text)
    error = caught.value
    assert (error.line, error.column) == (line, column), str(error)
    assert error.mend
    assert str(error).startswith(f"line {line}, column {column}: ")
    assert text[: error.offset].count("\n") == line - 1


def test_the_size_is_bounded_in_bytes() -> None:
    fits = f'a = "{"é" * ((MAX_FQL_BYTES - 6) // 2)}"'
    assert len(fits.encode()) == MAX_FQL_BYTES
    parse_fql(fits)
    with pytest.raises(FqlSyntaxError, match="5,121 bytes and may have 5,120"):
        parse_fql(fits + " ")


@pytest.mark.parametrize(("opening", "closing"), [("(", ")"), ("!(", ")"), ("lowercase(", ")"), ("!", "")])
def test_depth_is_bounded(opening: str, closing: str) -> None:
    with pytest.raises(FqlSyntaxError):
        parse_fql(opening * 500 + "a" + closing * 500)


def test_the_depth_that_is_allowed() -> None:
    parse_fql("(" * MAX_BRACKETS + "a" + ")" * MAX_BRACKETS)
    with pytest.raises(FqlSyntaxError, match=f"more than {MAX_BRACKETS} parentheses"):
        parse_fql("(" * (MAX_BRACKETS + 1) + "a" + ")" * (MAX_BRACKETS + 1))
    query = parse_fql("!(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    assert parse_fql(format_fql(query)) == query
    with pytest.raises(FqlSyntaxError, match=f"{MAX_DEPTH + 1} conditions inside each other"):
        parse_fql("!(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("all", 1, "no condition"),
        ("properties.a", 1, "no condition"),
        ("anonymousId = 'x'", 1, "does not know the field `anonymousId`"),
        ("name.first = 'x'", 1, "does not know the field"),
        ("type = 'track' and event in ['a']", 20, "no `in`"),
        ("!(type = 'track')", 1, "negated"),
        ("'track' = type", 1, "begins with a path"),
        ("type = ['a']", 8, "compares with a value"),
        ("length(event) > 5", 1, "no function `length` in a trigger"),
        ("contains(type, 'x')", 1, "does not look at `type`"),
        ("match(event, 'a*b')", 14, "beginnings and ends only"),
        ("match(event, 'abc')", 14, "beginnings and ends only"),
        ("contains(lowercase(event), 'x')", 10, "no function `lowercase`"),
        ("properties.\\[ = 1", 1, "names nothing"),
    ],
)
def test_what_a_trigger_can_not_say(text: str, column: int, says: str) -> None:
    with pytest.raises(FqlUnsupportedError, match=says) as caught:
        parse_fql(text, TRIGGER)
    assert caught.value.column == column
    assert caught.value.mend


def test_both_kinds_are_one_kind_and_a_value_error() -> None:
    assert issubclass(FqlSyntaxError, FqlError)
    assert issubclass(FqlUnsupportedError, FqlError)
    assert issubclass(FqlError, ValueError)
