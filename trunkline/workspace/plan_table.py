"""A rule of a tracking plan as rows of a table, and back: one row for the event, one for each property.

A table says what Segment's editor says (``spec/event_path.md`` §4.1): names, descriptions, labels, whether a property
is required, its type, a pattern or a list of values. :func:`rows_of` tells what else a schema holds; that needs JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from trunkline.spec.plans import GROUP, IDENTIFY, Rule

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
ITEMS: Final = "$"
"""The key that stands for the items of an array: ``products.$.sku``."""
MAX_PATH_KEYS: Final = 18
ANY: Final = "any"
ENUM: Final = "enum"
DATE_TIME: Final = "date-time"
JSON_TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
DATA_TYPES: Final = (ANY, *JSON_TYPES, DATE_TIME, ENUM)

Path = tuple[str, ...]
"""Keys below ``properties`` or ``traits``; :data:`_ITEMS_STEP` leads to the items of an array."""

_ITEMS_STEP: Final = "\0items"
"""No key of a property that can be written: a table has no NUL."""
_PLACEHOLDERS: Final[Sequence[Mapping[str, Any]]] = ({}, {"type": "object"}, {"type": ["object"]})
_DRAFTS: Final = frozenset(
    f"{scheme}://json-schema.org/draft-07/schema{end}" for scheme in ("http", "https") for end in ("", "#")
)


@dataclass(frozen=True)
class Property:
    """One row of a property. ``types`` are JSON's; empty for any."""

    path: Path
    description: str = ""
    required: bool = False
    types: tuple[str, ...] = ()
    is_date_time: bool = False
    pattern: str = ""
    values: tuple[Any, ...] | None = None


@dataclass
class RuleRows:
    """What a table says of one rule."""

    type: str
    event: str = ""
    version: int = 1
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    properties: list[Property] = field(default_factory=list)


class Unsaid(NamedTuple):
    """What no table can say, by its path in the schema."""

    path: str
    what: str


# -- from rows to a schema ---------------------------------------------------------------------------------------


def container_of(kind: str) -> str:
    """Where events of this type have what the rows speak of."""
    return "traits" if kind in (IDENTIFY, GROUP) else "properties"


def schema_of(rows: RuleRows) -> dict[str, Any]:
    """The schema as Segment's editor makes it. Every property's parent must come before it."""
    top: dict[str, Any] = {"type": "object"}
    schemas: dict[Path, dict[str, Any]] = {(): top}
    for row in rows.properties:
        schema = _property_schema(row)
        parent, key = schemas[row.path[:-1]], row.path[-1]
        schemas[row.path] = schema
        if key == _ITEMS_STEP:
            parent["items"] = schema
            continue
        parent.setdefault("properties", {})[key] = schema
        if row.required:
            parent.setdefault("required", []).append(key)
    made: dict[str, Any] = {"$schema": DRAFT, "type": "object"}
    if rows.description:
        made["description"] = rows.description
    if rows.labels:
        made["labels"] = dict(rows.labels)
    inner: dict[str, Any] = {"context": {}, "traits": {}, "properties": {}}
    inner[container_of(rows.type)] = top
    return {**made, "properties": inner}


def _property_schema(row: Property) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if row.description:
        schema["description"] = row.description
    if row.types:
        schema["type"] = row.types[0] if len(row.types) == 1 else list(row.types)
    if row.is_date_time:
        schema["format"] = DATE_TIME
    if row.pattern:
        schema["pattern"] = row.pattern
    if row.values is not None:
        schema["enum"] = list(row.values)
    return schema


# -- from a schema to rows ---------------------------------------------------------------------------------------


def rows_of(rule: Rule) -> tuple[RuleRows, list[Unsaid]]:
    """The rows, and what of the schema is not in them."""
    rows = RuleRows(rule.type, rule.event, rule.version)
    unsaid: list[Unsaid] = []
    container = container_of(rule.type)
    for key, value in rule.schema.items():
        match key:
            case "$schema" if value in _DRAFTS:
                pass
            case "type" if value in ("object", ["object"]):
                pass
            case "required" if value == []:
                pass
            case "description" if isinstance(value, str):
                rows.description = value
            case "labels" if isinstance(value, dict) and all(_is_label(*pair) for pair in value.items()):
                rows.labels = dict(value)
            case "properties" if isinstance(value, dict):
                for name, inner in value.items():
                    if name == container and isinstance(inner, dict):
                        _read_container(inner, f"properties.{name}", rows, unsaid)
                    elif name not in ("context", "traits", "properties") or inner not in _PLACEHOLDERS:
                        unsaid.append(Unsaid(f"properties.{name}", f"what it says of `{name}`"))
            case _:
                unsaid.append(Unsaid(key, f"`{key}` at the top"))
    return rows, unsaid


def _read_container(schema: Mapping[str, Any], path: str, rows: RuleRows, unsaid: list[Unsaid]) -> None:
    for key, value in schema.items():
        if key in ("properties", "required") or (key == "type" and value in ("object", ["object"])):
            continue
        unsaid.append(Unsaid(f"{path}.{key}", f"`{key}`"))
    _read_children(schema, path, (), rows, unsaid)


def _read_children(schema: Mapping[str, Any], path: str, at: Path, rows: RuleRows, unsaid: list[Unsaid]) -> None:
    """The rows of all that lies below this schema; no schema is deep enough to exhaust the stack."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict):
        unsaid.append(Unsaid(f"{path}.properties", "`properties` that are no mapping"))
        properties = {}
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        unsaid.append(Unsaid(f"{path}.required", "`required` that is no list of names"))
        required = []
    children = [(name, f"{path}.properties.{name}", inner) for name, inner in properties.items()]
    if "items" in schema:
        children.append((_ITEMS_STEP, f"{path}.items", schema["items"]))
    for name, inner_path, inner in children:
        inner_at = (*at, name)
        if not isinstance(inner, dict):
            unsaid.append(Unsaid(inner_path, "a schema that is no mapping"))
        elif (name != _ITEMS_STEP and not _is_name(name)) or len(inner_at) > MAX_PATH_KEYS:
            unsaid.append(Unsaid(inner_path, "a property of this name, or at this depth"))
        else:
            is_required = name != _ITEMS_STEP and name in required
            rows.properties.append(_read_property(inner, inner_path, inner_at, is_required, unsaid))
            _read_children(inner, inner_path, inner_at, rows, unsaid)
    for name in required:
        if name not in properties:
            unsaid.append(Unsaid(f"{path}.required", f"that `{name}` is required, of which it says nothing else"))


def _read_property(schema: Mapping[str, Any], path: str, at: Path, required: bool, unsaid: list[Unsaid]) -> Property:
    types = schema.get("type", ())
    listed = (types,) if isinstance(types, str) else tuple(types) if isinstance(types, list | tuple) else ("",)
    if "type" in schema and (not listed or not all(name in JSON_TYPES for name in listed)):
        unsaid.append(Unsaid(f"{path}.type", "this `type`"))
        listed = ()
    said = {"type", "properties", "required", "items"}
    is_text = "string" in listed
    description, pattern, values = schema.get("description", ""), schema.get("pattern", ""), schema.get("enum")
    is_date_time = schema.get("format") == DATE_TIME and set(listed) <= {"string", "null"} and is_text
    said |= {key for key, fits in (("description", isinstance(description, str)), ("format", is_date_time)) if fits}
    if isinstance(pattern, str) and (is_text or not pattern):
        said.add("pattern")
    if isinstance(values, list) and values:
        said.add("enum")
    unsaid += [Unsaid(f"{path}.{key}", f"`{key}`") for key in schema if key not in said]
    return Property(
        path=at,
        description=description if isinstance(description, str) else "",
        required=required,
        types=listed,
        is_date_time=is_date_time,
        pattern=pattern if "pattern" in said else "",
        values=tuple(values) if isinstance(values, list) and values else None,
    )


def _is_label(key: object, value: object) -> bool:
    return all(
        isinstance(text, str) and text and text == text.strip() and not set(text) & set(":,\0") for text in (key, value)
    )


def _is_name(text: str) -> bool:
    return bool(text) and "\0" not in text


# -- the cells that are more than a text -------------------------------------------------------------------------


def path_text(path: Path) -> str:
    """``address.city``, ``products.$.sku``; a dot, a backslash or a lone dollar in a key has a backslash before it."""
    return ".".join(
        ITEMS if key == _ITEMS_STEP else "\\$" if key == ITEMS else re.sub(r"[\\.]", r"\\\g<0>", key) for key in path
    )


def parse_path(text: str) -> Path:
    """Raises ValueError for an empty key."""
    parts, part, rest = [], "", iter(text)
    for letter in rest:
        if letter == ".":
            parts.append(part)
            part = ""
        else:
            part += letter + next(rest, "") if letter == "\\" else letter
    parts.append(part)
    if not all(parts):
        raise ValueError("empty key")
    return tuple(_ITEMS_STEP if part == ITEMS else re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts)


def is_items(path: Path) -> bool:
    return path[-1] == _ITEMS_STEP


def data_type_text(row: Property) -> tuple[str, bool]:
    """The cell, and whether null is allowed beside it."""
    rest = tuple(name for name in row.types if name != "null")
    nullable = len(rest) < len(row.types) and bool(rest)
    if row.is_date_time:
        return DATE_TIME, nullable
    if not row.types:
        return (ENUM if row.values is not None else ANY), False
    return "|".join(rest or ("null",)), nullable


def values_text(values: Sequence[Any], types: Sequence[str]) -> str:
    """``fall|winter``, or a JSON array where that would not say the same."""
    if all(isinstance(value, str) and _is_bare(value) for value in values) and not _typed(types):
        return "|".join(values)
    return msgspec.json.encode(values).decode()


def _is_bare(text: str) -> bool:
    return bool(text) and text == text.strip() and not text.startswith("[") and not set(text) & set("|,")


def parse_values(text: str, types: Sequence[str]) -> tuple[Any, ...]:
    """A JSON array, or values with ``|`` (or else commas) between them, read as ``types`` say. Raises ValueError."""
    text = text.strip()
    if text.startswith("["):
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("not a JSON array") from None
        if not isinstance(found, list):
            raise ValueError("not a JSON array")
        return tuple(found)
    parts = [part.strip() for part in text.split("|" if "|" in text else ",")]
    if not all(parts):
        raise ValueError("an empty value")
    return tuple(_value(part, _typed(types)) for part in parts)


def _typed(types: Sequence[str]) -> frozenset[str]:
    """The types whose values are not texts, if all are such; else none."""
    found = frozenset(types) - {"null"}
    return found if found <= {"integer", "number"} or found == {"boolean"} else frozenset()


def _value(text: str, types: frozenset[str]) -> Any:
    if types and types <= {"integer", "number"}:
        number = msgspec.json.decode(text)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{text} is not a number")
        return number
    if types == {"boolean"}:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text} is neither true nor false")
        return text.lower() == "true"
    return text


def labels_text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}:{value}" for key, value in labels.items())


def parse_labels(text: str) -> dict[str, str]:
    """``platform:ios, team:growth``. Raises ValueError."""
    found = {}
    for part in text.split(","):
        key, colon, value = (piece.strip() for piece in part.partition(":"))
        if not key or not colon or not value:
            raise ValueError(f"{part.strip()} is no label")
        found[key] = value
    return found
