"""The functions of FQL (``spec/event_path.md`` §5.5). None raises, whatever it is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, TypeAlias

import msgspec

from trunkline.fql.dialects import MISSING, Dialect
from trunkline.fql.glob import compile_glob
from trunkline.fql.values import is_number, js_text

OneArgument: TypeAlias = Callable[[Any], Any]

_INTEGER: Final = re.compile(r"\s*([+-]?[0-9]+)")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_WORD_START: Final = re.compile(r"(?:^|(?<=\s))\S")


def contains(text: Any, part: Any) -> bool:
    return type(text) is str and type(part) is str and part in text


def match(text: Any, pattern: Any) -> bool:
    return type(text) is str and type(pattern) is str and compile_glob(pattern)(text)


def semver(version: Any, operator: Any, other: Any) -> bool:
    """Compares up to three numeric parts, as tsub does; what is no version compares with nothing."""
    if type(version) is not str or type(operator) is not str or type(other) is not str:
        return False
    left, right = _version(version), _version(other)
    if left is None or right is None:
        return False
    outcomes = {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    return outcomes.get(operator, False)


def _version(text: str) -> tuple[float, ...] | None:
    parts = text.split(".", 3)
    if len(parts) > 3:
        return None
    numbers = [_INTEGER.match(part) for part in parts]
    if not all(numbers):
        return None
    found = [float(number.group(1)) for number in numbers if number]
    return (*found, 0.0, 0.0)[:3]


def one_argument(name: str, dialect: Dialect) -> OneArgument:
    """The function of this name, which takes one value."""
    if name == "length":
        return _length(dialect)
    if name == "typeof":
        return _typeof(dialect)
    return _CONVERSIONS[name]


def _length(dialect: Dialect) -> OneArgument:
    of_text, of_others, of_missing = dialect.length_of_text, dialect.length_of_others, dialect.length_of_missing

    def length(value: Any) -> Any:
        if type(value) is str:
            return of_text(value)
        if type(value) is list:
            return len(value)
        if value is None:
            return 0
        return of_missing if value is MISSING else of_others

    return length


def _typeof(dialect: Dialect) -> OneArgument:
    names = dialect.type_names
    by_type = {
        str: names.text,
        int: names.number,
        float: names.number,
        bool: names.boolean,
        list: names.list,
        type(None): names.null,
        type(MISSING): names.missing,
    }

    def typeof(value: Any) -> Any:
        return by_type.get(type(value), names.object)

    return typeof


def _on_text(change: Callable[[str], str]) -> OneArgument:
    return lambda value: change(value) if type(value) is str else None


def _titlecase(text: str) -> str:
    return _WORD_START.sub(lambda found: found.group().upper(), text)


def _to_bool(value: Any) -> bool:
    """A string that spells true, a number other than 0, a list that holds something."""
    if type(value) is str:
        return value in _TRUE
    return bool(value) if type(value) in (bool, int, float, list) else False


def _to_string(value: Any) -> str | None:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if is_number(value):
        return js_text(value)
    if type(value) is not list:
        return None
    try:
        return msgspec.json.encode(value).decode("utf-8", "replace")
    except (RecursionError, OverflowError, ValueError, TypeError):
        return None


def _to_number(value: Any) -> float | None:
    if is_number(value):
        return value  # type: ignore[no-any-return]
    if type(value) is not str or not (found := _NUMBER.fullmatch(value)):
        return None
    if not found.group(1) and not found.group(2):
        return int(value)
    number = float(value)
    return number if isfinite(number) else None


_CONVERSIONS: Final[dict[str, OneArgument]] = {
    "lowercase": _on_text(str.lower),
    "uppercase": _on_text(str.upper),
    "snakecase": _on_text(lambda text: text.replace(" ", "_")),
    "kebabcase": _on_text(lambda text: text.replace(" ", "-")),
    "titlecase": _on_text(_titlecase),
    "bool": _to_bool,
    "string": _to_string,
    "number": _to_number,
}
