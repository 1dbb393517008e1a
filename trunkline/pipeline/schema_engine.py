"""The engine that says yes or no to a value by a JSON Schema: jsonschema-rs, told what may be asked of it.

Nothing is fetched, patterns take time in proportion to the text, and formats are those of
:mod:`trunkline.pipeline.schema_formats`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from jsonschema_rs import Draft7Validator, RegexOptions, ValidationError

from trunkline.pipeline.schema_formats import FORMATS, Format

Predicate = Callable[[Any], bool]

_MAX_PATTERN_BYTES: Final = 2 << 20
"""Of a compiled pattern. ``.{1,1000}`` needs half of it."""
_PATTERN_OPTIONS: Final = RegexOptions(size_limit=_MAX_PATTERN_BYTES, dfa_size_limit=_MAX_PATTERN_BYTES)
_PATTERNS_KEPT: Final = 512
MAX_REPEATS: Final = 1000
"""How often a pattern may repeat a part, repeats inside repeats multiplied: RE2's own limit."""


class SchemaError(Exception):
    """A schema that is none of draft 7, or a pattern that is none. ``path``: keys and indexes to the spot."""

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(reason)
        self.path = path


def compile_engine(schema: Mapping[str, Any]) -> Predicate:
    """Whether a value fits. Raises SchemaError. The predicate raises ValueError for a value that is nested too deep
    where the schema looks at it."""
    try:
        return Draft7Validator(
            dict(schema),
            formats=dict(_FORMATS),
            validate_formats=True,
            pattern_options=_PATTERN_OPTIONS,
            offline=True,
        ).is_valid
    except ValidationError as error:
        raise SchemaError(error.message, tuple(error.instance_path)) from error
    except ValueError as error:
        raise SchemaError(str(error)) from error


@lru_cache(maxsize=_PATTERNS_KEPT)
def compile_pattern(pattern: str) -> Predicate:
    """Whether the pattern is found in a text. Raises SchemaError for what can't be used. The last ones are kept."""
    return _compile(pattern)


def _compile(pattern: str) -> Predicate:
    if repeats_of(pattern) > MAX_REPEATS:
        raise SchemaError(f"repeats a part more than {MAX_REPEATS} times")
    try:
        return Draft7Validator({"pattern": pattern}, pattern_options=_PATTERN_OPTIONS, offline=True).is_valid
    except ValueError as error:
        raise SchemaError("is no expression that can be used, or too large a one") from error


_has_syntax: Final = Draft7Validator({"format": "regex"}, validate_formats=True, offline=True).is_valid
"""Whether the text is an expression of JavaScript's. It is parsed, not compiled."""
_LOOKS_ELSEWHERE: Final = re.compile(
    r"(?:[^\\\[(]|\\[^0-9]|\[(?!\^?\])(?:[^\\\]]|\\.)*\]|\((?!\?<?[=!]))*+(?:\\[0-9]|\(|\[\^?\])", re.DOTALL
)
"""A look-around, a reference to a group or an empty class of characters, which RE2 has not; not in a class."""


def _is_regex(text: str) -> bool:
    """Whether the text is an expression that could be used, were it not too large: events bring as many as they like,
    so none is compiled."""
    if not _has_syntax(text):
        return False
    if ("\\" in text or "(?" in text or "[" in text) and _LOOKS_ELSEWHERE.match(text):
        return False
    return "{" not in text or repeats_of(text) <= MAX_REPEATS


_FORMATS: Final[Mapping[str, Format]] = {**FORMATS, "regex": _is_regex}


def check_format(name: str, text: str) -> bool:
    """Whether the text is of the format; of one that is not known, every text is."""
    check = _FORMATS.get(name)
    return check is None or check(text)


def work_of(pattern: str) -> int:
    """About how many microseconds it takes to compile, too many rather than too few: more for counted repeats, and
    for classes of characters, which are tables of all of Unicode that are merged with each other."""
    braces = pattern.count("{")
    repeats = repeats_of(pattern) if braces else 0
    classes = len(_UNICODE_CLASS.findall(pattern))
    return 20 + len(pattern) // 2 + 5 * braces * repeats + 4 * classes * classes


_UNICODE_CLASS: Final = re.compile(r"\\[wWdDsSpP]")


def repeats_of(pattern: str) -> int:
    """How often the part that is repeated most is; counted repeats multiply with those around them."""
    most = 1
    inner = [1]
    last = 1
    index = 0
    while index < len(pattern):
        character = pattern[index]
        if character == "\\":
            index += 2
            last = 1
            continue
        if character == "[":
            index = _end_of_class(pattern, index)
            last = 1
        elif character == "(":
            inner.append(1)
            last = 1
        elif character == ")":
            last = inner.pop() if len(inner) > 1 else 1
            inner[-1] = max(inner[-1], last)
        elif character == "{" and (count := _count(pattern, index)) is not None:
            last *= max(count, 1)
            inner[-1] = max(inner[-1], last)
            most = max(most, last)
            index = pattern.index("}", index)
        elif character not in "*+?":
            last = 1
        index += 1
    return most


def _end_of_class(pattern: str, start: int) -> int:
    """The index of the bracket that closes a class of characters, or the last one of the pattern."""
    depth = 0
    index = start
    while index < len(pattern):
        if pattern[index] == "\\":
            index += 1
        elif pattern[index] == "[":
            depth += 1
        elif pattern[index] == "]":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    return len(pattern) - 1


def _count(pattern: str, start: int) -> int | None:
    """The larger number of ``{m,n}``; None if the brace is a letter like any other."""
    end = pattern.find("}", start)
    parts = pattern[start + 1 : end].split(",") if end > 0 else []
    if not 1 <= len(parts) <= 2 or not all(part.strip().isdecimal() or not part.strip() for part in parts):
        return None
    return max((int(part[:9]) for part in parts if part.strip()), default=None)
