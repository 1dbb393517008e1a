"""What values are to FQL: their equality, their text and their numbers.

Everything here takes any decoded JSON and never raises: events come from strangers.
"""

from __future__ import annotations

import re
from decimal import Decimal
from math import inf, isfinite, nan
from typing import Any, Final

from trunkline.fql.dialects import MISSING

_JS_SPACE: Final = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_JS_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_JS_BASES: Final = {"0x": 16, "0X": 16, "0o": 8, "0O": 8, "0b": 2, "0B": 2}
_DIGITS: Final = {16: "0123456789abcdefABCDEF", 8: "01234567", 2: "01"}


def is_number(value: Any) -> bool:
    kind = type(value)
    return kind is int or kind is float


def is_scalar(value: Any) -> bool:
    """What `in` may look for: strings, numbers, booleans, null, and nothing."""
    return value is None or value is MISSING or type(value) in (str, int, float, bool)


def equal(one: Any, other: Any) -> bool:
    """Strict: same type and same value; objects also in the order of their keys (§5.4).

    Works off a list of pairs instead of recursion, so no nesting is too deep, and stops at the first difference.
    """
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is list and type(right) is list:
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif type(left) is dict and type(right) is dict:
            if len(left) != len(right) or any(a != b for a, b in zip(left, right, strict=True)):
                return False
            pairs.extend(zip(left.values(), right.values(), strict=True))
        elif not scalars_equal(left, right):
            return False
    return True


def scalars_equal(left: Any, right: Any) -> bool:
    """``1`` equals ``1.0`` and differs from ``true``; lists and objects equal nothing here."""
    kind = type(left)
    if kind is int or kind is float:
        return is_number(right) and bool(left == right)
    if kind is str:
        return type(right) is str and bool(left == right)
    return left is right and (kind is bool or left is None or left is MISSING)


def js_number(text: str) -> float:
    """What JavaScript's ``Number(text)`` gives; not-a-number for what is no number."""
    text = text.strip(_JS_SPACE)
    if not text:
        return 0
    base = _JS_BASES.get(text[:2])
    if base is not None:
        digits = text[2:]
        return float(int(digits, base)) if 0 < len(digits) < 200 and not digits.strip(_DIGITS[base]) else nan
    if text in ("Infinity", "+Infinity", "-Infinity"):
        return -inf if text[0] == "-" else inf
    return float(text) if _JS_DECIMAL.fullmatch(text) else nan


def js_text(number: float) -> str:
    """What JavaScript's ``String(number)`` gives."""
    try:
        number = float(number)
    except OverflowError:
        number = inf if number > 0 else -inf
    if number != number:
        return "NaN"
    if not isfinite(number):
        return "Infinity" if number > 0 else "-Infinity"
    size = abs(number)
    if number == 0:
        return "0"
    shortest = Decimal(repr(number))
    if 1e-6 <= size < 1e21:
        plain = format(shortest, "f")
        return plain.removesuffix(".0") if "." in plain else plain
    sign, digits, _ = shortest.as_tuple()
    mantissa = "".join(map(str, digits)).rstrip("0")
    exponent = shortest.adjusted()
    point = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
    return f"{'-' if sign else ''}{mantissa[0]}{point}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
