"""The pixel API: an event in the query of a GET (``spec/event_path.md`` §1.11)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from trunkline.spec.limits import MAX_EVENT_BYTES

_MAX_FIELDS: Final = 1000
_MAX_DEPTH: Final = 20


class BadPixel(Exception):
    """The query holds no event."""


def pixel_body(query: bytes) -> bytes:
    """The event as JSON text: base64 of it in ``data`` (any alphabet, with or without padding), or plain fields.

    Dots in the names of plain fields make nested objects, and all values are strings. Raises BadPixel.
    """
    if len(query) > 2 * MAX_EVENT_BYTES:
        raise BadPixel("the query is too long")
    try:
        fields = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise BadPixel(str(error)) from None
    data = dict(fields).get("data")
    return _nest(fields) if data is None else _decode(data)


def _decode(data: str) -> bytes:
    # A "+" that was not escaped arrives as a space.
    text = data.strip().replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPixel(f"data is no base64: {error}") from None


def _nest(fields: list[tuple[str, str]]) -> bytes:
    event: dict[str, Any] = {}
    for name, value in fields:
        parts = name.split(".")
        if len(parts) > _MAX_DEPTH:
            raise BadPixel("a name has too many dots")
        place = event
        for part in parts[:-1]:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                raise BadPixel(f"{name} is a value and an object")
            place = inner
        place[parts[-1]] = value
    return msgspec.json.encode(event)
