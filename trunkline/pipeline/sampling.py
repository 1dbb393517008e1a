"""Which part of the events a sample keeps (``spec/event_path.md`` §5.7).

By path the decision is a function of the value alone, so every event of one user shares it, whichever destination,
process or day it is; a value that a smaller sample keeps is kept by every larger one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from math import ldexp
from random import Random
from typing import Any, Final

from trunkline.pipeline.fields import MISSING, array_index, split_path, value_at

Sampler = Callable[[Mapping[str, Any]], bool]
"""Whether the event is kept."""

MAX_LEVELS: Final = 100
_LARGEST_EXACT: Final = 2**53
_HALF: Final = 8
"""Bytes of the digest that make the fraction; the others fill up what leading zeros leave."""
_BITS: Final = 64


def compile_sampler(percent: float, path: str, random: Random) -> Sampler:
    """``percent``: from 0, which keeps nothing, to 1, which keeps all. ``path`` empty: at random."""
    if percent <= 0:
        return lambda event: False
    if percent >= 1:
        return lambda event: True
    if not path:
        return lambda event: random.random() <= percent
    steps = split_path(path)
    return lambda event: fraction_of(value_at(event, steps)) < percent


def fraction_of(value: Any) -> float:
    """Where the value stands between 0 and 1, evenly spread over values."""
    digest = hashlib.md5(script_json(value).encode(), usedforsecurity=False).digest()
    significand = int.from_bytes(digest[:_HALF], "big")
    zeros = _BITS - significand.bit_length()
    if zeros:
        rest = int.from_bytes(digest[_HALF:], "big")
        significand = (significand << zeros) | (rest >> (_BITS - zeros))
    # The last bit stands for all the bits that would follow, which are not all zero.
    return ldexp(significand | 1, -_BITS - zeros)


def script_json(value: Any, levels: int = MAX_LEVELS) -> str:
    """The value as JavaScript's ``JSON.stringify`` writes it, so that a browser can come to the same decision. What
    lies deeper than so many levels is written as null: no event exhausts the stack."""
    if value is MISSING:
        return "undefined"
    if isinstance(value, dict | list) and not levels:
        return "null"
    if isinstance(value, dict):
        members = [f"{_text(key)}:{script_json(value[key], levels - 1)}" for key in _script_order(value)]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join([script_json(item, levels - 1) for item in value]) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return _text(value) if isinstance(value, str) else _number(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number(number: float) -> str:
    """JavaScript knows one kind of number, and writes out what has up to 21 digits before the point."""
    if isinstance(number, int) and -_LARGEST_EXACT <= number <= _LARGEST_EXACT:
        return str(number)
    try:
        number = float(number)
    except OverflowError:
        return "null"
    if not number:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, part = mantissa.partition(".")
    part = "" if part == "0" else part
    digits = (whole + part).lstrip("0")
    # The number is 0.digits times ten to the power of ``point``.
    point = len(digits) - len(part) + int(exponent or 0)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"e{point - 1:+d}"
    return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}{power}"


def _script_order(members: Mapping[str, Any]) -> list[str]:
    """Keys that are array indexes come first in JavaScript, in the order of their numbers."""
    indexes = {key: index for key in members if (index := array_index(key)) is not None}
    if not indexes:
        return list(members)
    return sorted(indexes, key=indexes.__getitem__) + [key for key in members if key not in indexes]
