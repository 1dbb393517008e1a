"""Schemas as types of msgspec: JSON that can be read into the type fits the schema, for certain and without being
decoded into anything else.

Only a yes counts. A type may refuse what its schema takes (``5.0`` for an integer), never the other way round, so
whatever is not clearly the same in both has no type at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, Union

import msgspec

from trunkline.pipeline.plain_patterns import plain_pattern

Reader = Callable[[bytes], object]
"""Raises one of ``MISFITS`` for JSON of another shape."""

MISFITS: Final = (msgspec.MsgspecError, ValueError, RecursionError)

MAX_FIELDS: Final = 150
MAX_TEXTS: Final = 200
MAX_LEVELS: Final = 20
"""Of one type; more would cost too much memory, and time to make."""

_LARGEST_BOUND: Final = 2**50
"""Numbers are compared as doubles: up to here each integer is one."""
_LARGEST_LENGTH: Final = 2**31

_NOTES: Final = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "definitions",
        "readOnly",
        "writeOnly",
    ]
)
"""Keywords that check nothing; without ``$ref``, which has no type, these are some."""
_NUMBERS: Final = frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
_BY_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset(["properties", "required", "additionalProperties"]),
    "array": frozenset(["items", "minItems", "maxItems"]),
    "string": frozenset(["minLength", "maxLength", "pattern", "format"]),
    "number": _NUMBERS,
}
"""Keywords that check values of one type only."""
_TEXTS: Final = frozenset(["type", "enum", "const"])
_KNOWN: Final = _TEXTS.union(*_BY_TYPE.values())
_META: Final = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
_DATE_TIME: Final = (
    r"\A[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?Z\Z"
)
"""Nearly all that people send."""


class _NoShapeError(Exception):
    """The schema has no type."""


@dataclass(frozen=True)
class _Object:
    fields: Mapping[str, tuple[_Shape, bool]]
    """And whether each is required."""
    is_closed: bool
    """Whether other names are refused."""


@dataclass(frozen=True)
class _List:
    items: _Shape
    lengths: tuple[int | None, int | None]


_Shape = dict[str, Any] | None
"""What is taken by type of JSON: :class:`_Object`, :class:`_List`, or a type of Python. None: whatever there is."""


KnownTypes = MutableMapping[bytes, type]
"""Types of objects in events, made before, by what they take."""


def compile_shape(schemas: Sequence[tuple[Mapping[str, Any], str]], known: KnownTypes | None = None) -> Reader | None:
    """The type of events that fit all these schemas; None if there is none.

    With each schema the name below which it takes no names but its own (``properties`` or ``traits``), if any: those
    that :mod:`trunkline.pipeline.planned_names` knows. The schemas must be ones that can be used. Types in ``known``
    are used, and new ones put there.
    """
    try:
        shape: _Shape = None
        for schema, closed_below in schemas:
            shape = _merged(shape, {"object": _read_root(schema, closed_below)})
        root = shape["object"] if shape is not None else _Object({}, False)
        return msgspec.json.Decoder(_Builder({} if known is None else known).struct(root)).decode
    except (_NoShapeError, TypeError, ValueError, RecursionError):  # what msgspec can't have as a type
        return None


def _read_root(schema: Mapping[str, Any], closed_below: str) -> _Object:
    shape = _read(schema, is_closed=False, closed_below=closed_below)
    if shape is None:
        return _Object({}, False)
    if not isinstance(found := shape.get("object"), _Object):
        raise _NoShapeError
    return found


def _read(schema: Any, *, is_closed: bool, closed_below: str = "", level: int = 0) -> _Shape:
    """``is_closed``: names of objects that are not in ``properties``, where there are any, are refused."""
    if schema is True:
        return None
    if not isinstance(schema, Mapping) or level > MAX_LEVELS:
        raise _NoShapeError
    keywords = schema.keys() - _NOTES
    if not keywords:
        return None
    if not keywords <= _KNOWN:
        raise _NoShapeError
    types = _types(schema, keywords)
    if "enum" in keywords or "const" in keywords:
        return _read_texts(schema, keywords, types)
    shape: dict[str, Any] = {}
    for kind in types:
        if kind == "object":
            shape[kind] = _read_object(schema, is_closed, closed_below, level)
        elif kind == "array":
            items = _read(schema.get("items", True), is_closed=is_closed, level=level + 1)
            shape[kind] = _List(items, (_length(schema, "minItems"), _length(schema, "maxItems")))
        elif kind == "string":
            shape[kind] = _read_string(schema)
        elif kind == "number" or (kind == "integer" and "number" not in types):
            shape[kind] = _read_number(schema, kind)
        elif kind == "boolean":
            shape[kind] = bool
        elif kind == "null":
            shape[kind] = None
    return shape


def _types(schema: Mapping[str, Any], keywords: frozenset[str] | set[str]) -> list[str]:
    """Those that are taken. Where the schema names none, those that its keywords look at."""
    if "type" in keywords:
        types = schema["type"]
        found = [types] if isinstance(types, str) else list(types)
    elif "enum" in keywords or "const" in keywords:
        found = ["string", "null"]
    else:
        found = [kind for kind, own in _BY_TYPE.items() if not own.isdisjoint(keywords)]
    if not found:
        raise _NoShapeError
    return found


def _read_object(schema: Mapping[str, Any], is_closed: bool, closed_below: str, level: int) -> _Object:
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    others = schema.get("additionalProperties", True)
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        raise _NoShapeError
    if not isinstance(others, bool) and others != {}:
        raise _NoShapeError
    refuses = others is False or (is_closed and "properties" in schema)
    fields: dict[str, tuple[_Shape, bool]] = {}
    for name, inner in properties.items():
        inner_shape = _read(inner, is_closed=is_closed or name == closed_below, level=level + 1)
        if refuses or inner_shape is not None or name in required:
            fields[name] = inner_shape, name in required
    for name in required:
        if name not in fields:
            if refuses:
                raise _NoShapeError
            fields[name] = None, True
    return _Object(fields, refuses)


def _read_texts(schema: Mapping[str, Any], keywords: frozenset[str] | set[str], types: list[str]) -> _Shape:
    """Of ``enum`` and ``const`` only texts and null."""
    if not keywords <= _TEXTS or {"enum", "const"} <= keywords:
        raise _NoShapeError
    values = schema["enum"] if "enum" in keywords else [schema["const"]]
    texts = [value for value in values if isinstance(value, str)] if "string" in types else []
    shape: dict[str, Any] = {}
    if texts:
        shape["string"] = Literal[tuple(texts)]
    if "null" in types and any(value is None for value in values):
        shape["null"] = None
    if not shape or len(texts) > MAX_TEXTS:
        raise _NoShapeError
    return shape


def _read_string(schema: Mapping[str, Any]) -> Any:
    bounds: dict[str, Any] = {
        "min_length": _length(schema, "minLength"),
        "max_length": _length(schema, "maxLength"),
        "pattern": None,
    }
    if "pattern" in schema:
        bounds["pattern"] = plain_pattern(schema["pattern"])
        if bounds["pattern"] is None or "format" in schema:
            raise _NoShapeError
    elif "format" in schema:
        if schema["format"] != "date-time":
            raise _NoShapeError
        bounds["pattern"] = _DATE_TIME
    return _bounded(str, bounds)


def _read_number(schema: Mapping[str, Any], kind: str) -> Any:
    bounds: dict[str, Any] = {}
    for keyword in _NUMBERS & schema.keys():
        bound = schema[keyword]
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) <= _LARGEST_BOUND:
            raise _NoShapeError
        if kind == "integer" and not isinstance(bound, int):
            raise _NoShapeError
        bounds[_META[keyword]] = bound
    return _bounded(int if kind == "integer" else float, bounds)


def _length(schema: Mapping[str, Any], keyword: str) -> int | None:
    if keyword not in schema:
        return None
    length: Any = schema[keyword]
    if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= _LARGEST_LENGTH:
        raise _NoShapeError
    return int(length)


def _bounded(kind: Any, bounds: Mapping[str, Any]) -> Any:
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    return Annotated[kind, msgspec.Meta(**bounds)] if bounds else kind


def _merged(one: _Shape, other: _Shape) -> _Shape:
    """What both take."""
    if one is None or one == other:
        return other
    if other is None:
        return one
    if one.keys() != {"object"} or other.keys() != {"object"}:
        raise _NoShapeError
    return {"object": _merged_objects(one["object"], other["object"])}


def _merged_objects(one: _Object, other: _Object) -> _Object:
    names = dict.fromkeys((*one.fields, *other.fields))
    for closed in (one, other):
        if closed.is_closed and len(names) > len(closed.fields):
            raise _NoShapeError
    fields: dict[str, tuple[_Shape, bool]] = {}
    for name in names:
        first, is_required = one.fields.get(name, (None, False))
        second, is_required_too = other.fields.get(name, (None, False))
        fields[name] = _merged(first, second), is_required or is_required_too
    return _Object(fields, one.is_closed or other.is_closed)


class _Builder:
    """Makes the types of one event."""

    def __init__(self, known: KnownTypes) -> None:
        self._fields = 0
        self._known = known

    def _shared(self, shape: _Object) -> type:
        """Plans have the same objects in many rules, such as products and ``context``."""
        key = blake2b(repr(shape).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.struct(shape)
        return found

    def struct(self, shape: _Object) -> type:
        self._fields += 1 + len(shape.fields)
        if self._fields > MAX_FIELDS:
            raise _NoShapeError
        fields: list[Any] = []
        for index, (inner, is_required) in enumerate(shape.fields.values()):
            name = f"f{index}"  # a name of the event may be none of Python's
            kind = self._type(inner)
            fields.append((name, kind) if is_required else (name, kind, msgspec.UNSET))
        return msgspec.defstruct(
            "Shape",
            fields,
            rename={f"f{index}": name for index, name in enumerate(shape.fields)},
            forbid_unknown_fields=shape.is_closed,
            kw_only=True,
            gc=False,
        )

    def _type(self, shape: _Shape) -> Any:
        if shape is None:
            return msgspec.Raw
        return Union[tuple(self._part(part) for part in shape.values())]  # noqa: UP007 - made while running

    def _part(self, part: Any) -> Any:
        if isinstance(part, _Object):
            return self._shared(part)
        if isinstance(part, _List):
            bounds = {"min_length": part.lengths[0], "max_length": part.lengths[1]}
            return _bounded(list[self._type(part.items)], bounds)  # type: ignore[misc]
        return part
