"""Strict JSON: what is refused, and that nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.spec.strict_json import InvalidJson, check_utf8, load_unique, minify

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a" : 1}',
        b'{"a":{"b":[{"c":1,"c":1}]}}',
        b'{"a":"","a":"\\u003a"}',
        b'{"a":"\\u003A","b":1,"b":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"":1,"":2}',
        b'{"a":":","a":"::"}',
    ],
)
def test_a_duplicate_key_is_found_at_any_depth_in_any_spelling(text: bytes) -> None:
    with pytest.raises(InvalidJson, match="duplicate key"):
        load_unique(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"b\\":"}',
        b'{"a" : ":" , "b":"\\u003a"}',
        b'[{"a":1},{"a":1}]',
        b'{"a":{"a":{"a":1}}}',
        b'{"n":1e5,"m":1.50,"k":123456789012345678901234567890}',
        b'{"a":"\\u00e9\\/\xc3\xa9"}',
        b" { } ",
    ],
)
def test_unusual_but_sound_json_passes(text: bytes) -> None:
    load_unique(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800abcdef"}',
        b'{"a":"\\udc00"}',
        b'{"a":"\x01"}',
        b'{"a":1e400}',
        b'{"a":01}',
        b"{'a':1}",
        b'{"a":1,}',
        b"",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidJson, match="malformed JSON"):
        load_unique(text)


def test_two_hundred_levels_are_taken() -> None:
    load_unique(b"[" * 200 + b"]" * 200)


def test_invalid_utf8_names_the_byte() -> None:
    with pytest.raises(InvalidJson, match="invalid UTF-8 at byte 6"):
        check_utf8(b'{"a":"\xff"}')
    with pytest.raises(InvalidJson, match="invalid UTF-8"):
        check_utf8(b'"\xed\xa0\x80"')


@given(JSON_VALUES, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]), st.booleans())
def test_whatever_json_writes_is_taken_and_decoded_the_same(
    value: Any, separators: tuple[str, str], ascii_only: bool
) -> None:
    text = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert load_unique(text) == json.loads(text, parse_int=_as_orjson)


def _as_orjson(digits: str) -> int | float:
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(digits)


@given(st.lists(st.tuples(st.text(max_size=3), JSON_VALUES), max_size=6), st.booleans())
def test_duplicates_are_found_exactly_when_there_are_some(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    members = [
        f"{json.dumps(key, ensure_ascii=ascii_only)}:{json.dumps(value, ensure_ascii=ascii_only)}"
        for key, value in pairs
    ]
    text = ("{" + ",".join(members) + "}").encode()
    keys = [key for key, _ in pairs]
    if len(set(keys)) == len(keys):
        load_unique(text)
    else:
        with pytest.raises(InvalidJson, match="duplicate key"):
            load_unique(text)


@given(JSON_VALUES, st.sampled_from([1, 2, None]))
def test_minify_respells_nothing(value: Any, indent: int | None) -> None:
    compact = json.dumps(value, separators=(",", ":"))
    assert minify(json.dumps(value, indent=indent).encode()) == compact.encode()


@pytest.mark.parametrize("text", [b"1 2", b"{", b'{"a":NaN}', b'{"a":1}x', b"[" * 100_000])
def test_minify_mends_nothing(text: bytes) -> None:
    with pytest.raises(InvalidJson):
        minify(text)
