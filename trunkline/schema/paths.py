"""Properties by their paths: ``a.b``, ``items.$.price`` (``$`` is any element of an array), and their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trunkline.schema.limits import MAX_PATH_CHARACTERS, OTHER

STRING: Final = 1
INTEGER: Final = 2
NUMBER: Final = 4
BOOLEAN: Final = 8
ARRAY: Final = 16
OBJECT: Final = 32
NULL: Final = 64

TYPE_NAMES: Final[Mapping[int, str]] = {
    STRING: "string",
    INTEGER: "integer",
    NUMBER: "number",
    BOOLEAN: "boolean",
    ARRAY: "array",
    OBJECT: "object",
    NULL: "null",
}
TYPE_OF: Final[Mapping[type, int]] = {
    str: STRING,
    int: INTEGER,
    float: NUMBER,
    bool: BOOLEAN,
    list: ARRAY,
    dict: OBJECT,
    type(None): NULL,
}

_MAX_DEPTH: Final = 10
_MAX_ITEMS: Final = 50
"""Of one array that are looked at: the first ones."""
_MAX_PATHS: Final = 1_000
"""Of one event; the rest counts as other."""


def type_names(bits: int) -> tuple[str, ...]:
    """The types that a set of bits stands for, in the words of JSON Schema."""
    return tuple(name for bit, name in TYPE_NAMES.items() if bits & bit)


def escape_key(key: str) -> str:
    """A key as a part of a path: ``\\.`` stands for a dot in it."""
    return key.replace("\\", "\\\\").replace(".", "\\.") if "." in key or "\\" in key else key


def split_path(path: str) -> list[str]:
    """The keys of a path; the reverse of joining escaped keys with dots."""
    keys, key, escaped = [], "", False
    for letter in path:
        if escaped or letter not in "\\.":
            key += letter
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            keys.append(key)
            key = ""
    return [*keys, key]


def find_paths(properties: Mapping[str, Any]) -> dict[str, int]:
    """The paths of an event's properties (or traits), each with its types as bits."""
    found: dict[str, int] = {}
    _walk("", properties, found, _MAX_DEPTH)
    return found


def _walk(prefix: str, value: Mapping[str, Any], found: dict[str, int], depth: int) -> None:
    for key, item in value.items():
        path = prefix + (escape_key(key) if "." in key or "\\" in key else key)
        if len(found) >= _MAX_PATHS or len(path) > MAX_PATH_CHARACTERS:
            found[OTHER] = found.get(OTHER, 0) | TYPE_OF[type(item)]
            continue
        kind = type(item)
        found[path] = found.get(path, 0) | TYPE_OF[kind]
        if kind is dict:
            if depth:
                _walk(path + ".", item, found, depth - 1)
        elif kind is list and depth:
            _walk_items(path + ".$", item, found, depth - 1)


def _walk_items(path: str, items: Sequence[Any], found: dict[str, int], depth: int) -> None:
    for item in items[:_MAX_ITEMS]:
        kind = type(item)
        found[path] = found.get(path, 0) | TYPE_OF[kind]
        if kind is dict:
            _walk(path + ".", item, found, depth)
        elif kind is list and depth:
            _walk_items(path + ".$", item, found, depth - 1)
