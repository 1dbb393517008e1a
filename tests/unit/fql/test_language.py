"""What expressions of the server mean: Segment's own examples, then types, null and functions."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.fql import DEVICE, FILTER, Dialect, compile_fql, parse_fql

EVENT: dict[str, Any] = {
    "event": "Button Clicked",
    "type": "track",
    "received_at": "2026-11-21T10:00:00.000Z",
    "context": {"library": {"name": "analytics.js", "version": "1.0"}, "app": {"version": "2.10.1"}},
    "properties": {
        "features": ["discounts", "dark-mode", 3, None],
        "product 1": {"price": "19.99"},
        "a.b": 1,
        "yes": True,
        "no": False,
        "null": 5,
        "count": 3,
        "share": 0.5,
        "text": "5",
        "empty": "",
        "nothing": None,
        "katakana": "ア",
        "object": {"a": 1, "b": [1, 2]},
        "same": {"a": 1, "b": [1, 2]},
        "turned": {"b": [1, 2], "a": 1},
        "list": [1, "x", True, None],
        "products": [{"price": 3}, {"price": 4}],
    },
}


def result(text: str, event: dict[str, Any] = EVENT, dialect: Dialect = FILTER) -> bool:
    return compile_fql(parse_fql(text, dialect))(event)


DOCUMENTED = [
    ("event = 'Button Clicked'", True),
    ("event = 'Screen Tapped'", False),
    ("context.path.path = '/login'", False),
    ("type = 'identify' or type = 'track'", True),
    ("event = 'Button Clicked' and type = 'track'", True),
    ("match( context.library.version, '1.*' )", True),
    ("match( context.library.version, '2.*' )", False),
    ("type = 'track' and ( event = 'Click' or match( event, 'Button *' ) )", True),
    ("!contains( context.library.name, 'js' )", False),
    ("'dark-mode' in properties.features", True),
    ("'blink' in properties.features", False),
    ("!( type in ['track', 'identify'] )", False),
    ("properties.product\\ 1.price = '19.99'", True),
    ("length( userId ) > 0", False),
    ("contains( userId, 'x' )", False),
    ("length( userId ) = 0", True),
    ("lowercase( userId ) = null", True),
    ("typeof( userId ) = 'null'", True),
    ("match( userId, '*' )", False),
    ("received_at >= '2023-11-21T00:00:00Z'", True),
    ("all", True),
]


@pytest.mark.parametrize(("text", "expected"), DOCUMENTED)
def test_documented_examples(text: str, *, expected: bool) -> None:
    assert result(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A value alone counts only when it is true.
        ("properties.yes", True),
        ("properties.text", False),
        ("lowercase(event)", False),
        ("true", True),
        ("5", False),
        ("!properties.yes", False),
        ("!properties.missing", True),
        # Equality is strict.
        ("properties.count = 3", True),
        ("properties.count = 3.0", True),
        ("properties.count = '3'", False),
        ("properties.text = 5", False),
        ("properties.text != 5", True),
        ("properties.yes = 1", False),
        ("properties.no = 0", False),
        ("properties.yes = true", True),
        ("properties.no = false", True),
        ("properties.nothing = null", True),
        ("properties.missing = null", True),
        ("properties.empty = null", False),
        ("userId = null", True),
        ("userId != null", False),
        ("userId != 'a'", True),
        ("properties.missing = context.missing", True),
        ("3 = properties.count", True),
        ("properties.list = [1, 'x', true, null]", True),
        ("properties.list = [1, 'x', 1, null]", False),
        ("properties.object = properties.same", True),
        ("properties.object = properties.turned", False),
        ("properties.object != properties.turned", True),
        ("(properties.count = 3) = true", True),
        # Order: numbers, and strings among themselves.
        ("properties.count > 2", True),
        ("properties.count >= 3", True),
        ("properties.count < 3", False),
        ("properties.share <= 0.5", True),
        ("properties.share > -1", True),
        ("properties.text > 4", False),
        ("properties.text < 6", False),
        ("properties.yes >= 0", False),
        ("properties.missing < 1", False),
        ("event > 'Button'", True),
        ("event > properties.count", False),
        # in
        ("null in properties.features", True),
        ("userId in [null]", True),
        ("3 in properties.features", True),
        ("true in [1]", False),
        ("1 in [true]", False),
        ("properties.yes in [true]", True),
        ("properties.object in [1]", False),
        ("type in []", False),
        ("type in ['page', type]", True),
        ("type in properties.missing", False),
        ("'a' in properties.object", False),
        # Paths
        ("properties.null = 5", True),
        ("properties.a\\.b = 1", True),
        ("properties.products.\\1.price = 4", True),
        ("properties.products.\\2.price = 4", False),
        ("properties.products.price = 4", False),
        ("event.length = 14", False),
        ("properties . count = 3", True),
        # and binds tighter
        ("type = 'track' or type = 'x' and type = 'y'", True),
        ("(type = 'track' or type = 'x') and type = 'y'", False),
        ("TYPE = 'track' OR type = 'track' AND true", True),
    ],
)
def test_values(text: str, *, expected: bool) -> None:
    assert result(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("length(properties.katakana) = 3", True),
        ("length('a') = 1", True),
        ("length(properties.features) = 4", True),
        ("length(properties.object) = null", True),
        ("length(properties.count) > 0", False),
        ("lowercase(event) = 'button clicked'", True),
        ("uppercase(event) = 'BUTTON CLICKED'", True),
        ("snakecase('test string') = 'test_string'", True),
        ("kebabcase('test string') = 'test-string'", True),
        ("titlecase('test string') = 'Test String'", True),
        ("titlecase(properties.count) = null", True),
        ("contains(lowercase(event), 'button')", True),
        ("contains(properties.features, 'dark-mode')", False),
        ("contains(event, 5)", False),
        ("match('Button *', event)", False),
        ("match(event, properties.count)", False),
        ("typeof(event) = 'string'", True),
        ("typeof(properties.count) = 'number'", True),
        ("typeof(properties.features) = 'list'", True),
        ("typeof(properties.yes) = 'bool'", True),
        ("typeof(properties.object) = 'object'", True),
        ("bool('true')", True),
        ("bool('no')", False),
        ("bool(1)", True),
        ("bool(properties.missing)", False),
        ("bool(properties.features)", True),
        ("string(5.0) = '5'", True),
        ("string(true) = 'true'", True),
        ("string(properties.object) = null", True),
        ("string(properties.list) = '[1,\"x\",true,null]'", True),
        ("number('5') = 5", True),
        ("number('-2.5e1') = -25", True),
        ("number('five') = null", True),
        ("number(properties.missing) > 0", False),
        ("semver(context.app.version, '>=', '2.9')", True),
        ("semver(context.app.version, '<', '2.9')", False),
        ("semver('1.2', '=', '1.2.0')", True),
        ("semver('1.2.3.4', '=', '1.2.3.4')", False),
        ("semver(properties.missing, '!=', '1')", False),
    ],
)
def test_functions(text: str, *, expected: bool) -> None:
    assert result(text) is expected


@pytest.mark.parametrize(
    ("text", "on_the_server", "in_a_browser"),
    [
        ("userId = null", True, False),
        ("userId != null", False, True),
        ("typeof(userId) = 'undefined'", False, True),
        ("typeof(properties.yes) = 'boolean'", False, True),
        ("typeof(properties.features) = 'object'", False, True),
        ("length(properties.katakana) = 3", True, False),
        ("length(userId) = 0", True, False),
        ("length('😀') = 2", False, True),
        ("received_at >= '2023'", True, False),
    ],
)
def test_what_browsers_see_differently(text: str, *, on_the_server: bool, in_a_browser: bool) -> None:
    assert result(text) is on_the_server
    assert result(text, dialect=DEVICE) is in_a_browser
