"""JSON text under change: what is not concerned keeps its bytes."""

from __future__ import annotations

import pytest

from trunkline.pipeline.json_text import Changes, change_inside, change_items

TEXT = b'{"a":1.50,"list":[{"b":1e2,"c":0},{"b":2}],"0":{"d":null}}'


def told(text: bytes) -> bytes:
    return b"<" + text + b">"


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"a": None}, b'{"list":[{"b":1e2,"c":0},{"b":2}],"0":{"d":null}}'),
        ({"list": {0: {"c": None}}}, b'{"a":1.50,"list":[{"b":1e2},{"b":2}],"0":{"d":null}}'),
        ({"0": {"d": told}, 0: {"d": None}}, b'{"a":1.50,"list":[{"b":1e2,"c":0},{"b":2}],"0":{"d":<null>}}'),
        ({"list": {1: told, 2: told}, "no": told}, b'{"a":1.50,"list":[{"b":1e2,"c":0},<{"b":2}>],"0":{"d":null}}'),
        ({"list": {0: None, "0": told}}, None),
        ({"a": {"b": None}, "no": None}, None),
        ({"a": lambda text: None}, None),
    ],
)
def test_changes_inside(changes: Changes, result: bytes | None) -> None:
    assert change_inside(b" " + TEXT, changes) == result


def test_items() -> None:
    assert change_items(b"[1.0, 2]", lambda text: told(text) if text == b"2" else None) == b"[1.0,<2>]"
    assert change_items(b"[1.0, 2]", lambda text: None) is None
