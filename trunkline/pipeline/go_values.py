"""JSON values as Go's programs write them into messages."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_ESCAPES: Final = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}
_EXACT: Final = 2**53


def canonical(value: Any) -> Any:
    """Equal, and hashed alike, for values that are the same in JSON: 1 is 1.0, but true is not 1."""
    if isinstance(value, bool):
        return "true" if value else "false", None
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "object", frozenset((key, canonical(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return "array", tuple(canonical(inner) for inner in value)
    return value


def go_json(value: Any) -> str:
    """As ``json.Marshal`` writes a value that it has read: all numbers are doubles, keys sorted, ``<`` escaped."""
    return _encode(_doubles(value)).decode().translate(_ESCAPES)


def _doubles(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {key: _doubles(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_doubles(inner) for inner in value]
    if isinstance(value, int) and abs(value) <= _EXACT:
        return value
    return msgspec.Raw(_double(float(value)).encode())


def _double(number: float) -> str:
    if number == 0:
        return "0"
    if 1e-6 <= abs(number) < 1e21:
        text = format(Decimal(repr(number)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = repr(number).partition("e")
    if not exponent:
        mantissa, _, exponent = f"{Decimal(repr(number)).normalize():e}".partition("e")
    sign = "-" if exponent.startswith("-") else "+"
    return f"{mantissa.removesuffix('.0')}e{sign}{exponent.lstrip('+-').lstrip('0')}"


def go_number(number: float) -> str:
    """As ``fmt`` prints a ``big.Float``: an exponent from the seventh digit before the point on."""
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    if not isinstance(exponent, int) or digits == (0,):
        return "0"
    mark = "-" if sign else ""
    written = "".join(map(str, digits))
    power = len(written) + exponent - 1
    if not -4 <= power < 6:
        point = "." if len(written) > 1 else ""
        power_sign = "-" if power < 0 else "+"
        return f"{mark}{written[0]}{point}{written[1:]}e{power_sign}{abs(power):02d}"
    if exponent >= 0:
        return f"{mark}{written}{'0' * exponent}"
    if power >= 0:
        return f"{mark}{written[: power + 1]}.{written[power + 1 :]}"
    return f"{mark}0.{'0' * (-power - 1)}{written}"
