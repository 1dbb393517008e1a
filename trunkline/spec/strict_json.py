"""Strict JSON: what RFC 8259 leaves open is refused, so that every reader of an event sees the same event.

Refused: invalid UTF-8, NaN and Infinity, control characters in strings, lone surrogates, numbers beyond a double,
duplicate keys at any depth, nesting beyond what the decoders take (200 levels always pass, 260 never). Nothing is
ever respelled: values travel as the bytes that the client sent.

Errors::

    InvalidJson    says what is wrong and where, fit for the client's eyes
"""

from __future__ import annotations

import re
from typing import Any, Final

import jiter
import msgspec
import orjson

_MSGSPEC_PREFIX: Final = "JSON is malformed: "
_REASONS: Final = {
    "Input data was truncated": "the text ends too early, or half of a surrogate pair stands alone near its end"
}
_MAX_SHOWN: Final = 200
_DUPLICATE: Final = re.compile(r'Detected duplicate key (".*") at line', re.DOTALL)


class InvalidJson(Exception):
    """The body is no strict JSON, or not of the shape that the path takes. ``str()`` is a sentence for the client."""


def check_utf8(text: bytes) -> None:
    """Raises InvalidJson with the offset of the first byte that is no UTF-8, and if there is no byte at all."""
    if not text:
        raise InvalidJson("malformed JSON: the body is empty")
    try:
        str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJson(f"malformed JSON: invalid UTF-8 at byte {error.start}") from None


def explain(error: Exception) -> InvalidJson:
    """The client's view of what a decoder raised."""
    if isinstance(error, RecursionError):
        return InvalidJson("malformed JSON: nested too deeply (at most 200 levels)")
    reason = str(error).removeprefix(_MSGSPEC_PREFIX)
    reason = _REASONS.get(reason, reason)
    return InvalidJson(f"malformed JSON: {reason}")


def load_unique(text: bytes) -> Any:
    """Decode and prove that no object at any depth names a key twice. Raises InvalidJson.

    A parser keeps the last of two equal keys, so writing the value again loses a colon. Strings can't hide that:
    a colon in a string is a colon in the text too, unless it is spelled ``\\u003a``. Only if the colons differ, or
    that spelling occurs, the slower parser that reports duplicate keys decides (1.2 to 6 µs against 10 µs a KB;
    ``docs/decisions/0003-json-strictness.md``).
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"malformed JSON: {error.msg}") from None  # its place counts from the start of a part
    try:
        again = orjson.dumps(value)
    except TypeError:
        again = b""
    if again == text or (again.count(b":") == text.count(b":") and b"\\u003" not in text):
        return value
    try:
        jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys")
    except ValueError as error:
        found = _DUPLICATE.search(str(error))
        if found:
            raise InvalidJson(f"malformed JSON: duplicate key {found[1][:_MAX_SHOWN]}") from None
        raise explain(error) from None
    return value


def minify(text: bytes) -> bytes:
    """The same JSON without whitespace between its tokens; no token is respelled. Raises InvalidJson."""
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None
