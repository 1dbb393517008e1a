"""The Objects API, ``POST /v1/set`` (``spec/event_path.md`` §1.13)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw

from trunkline.spec.limits import (
    MAX_COLLECTION_CHARACTERS,
    MAX_OBJECT_ID_CHARACTERS,
    MAX_OBJECT_VALUE_BYTES,
    MAX_OBJECTS,
)
from trunkline.spec.strict_json import InvalidJson, check_utf8, explain, load_unique

_COLLECTION: Final = re.compile(r"[a-z](?:[a-z_]*[a-z])?")


class _Object(msgspec.Struct):
    id: str
    properties: dict[str, Raw]


class _Set(msgspec.Struct):
    collection: str
    objects: list[_Object]
    writeKey: str | None = None


class _Recorded(msgspec.Struct):
    collection: str
    id: str
    properties: dict[str, Raw]


@dataclass(slots=True)
class ObjectSet:
    """``objects`` are JSON texts ``{"collection", "id", "properties"}``."""

    objects: list[bytes]
    write_key: str | None


_decode: Final = msgspec.json.Decoder(_Set).decode
_encode: Final = msgspec.json.Encoder().encode


def parse_objects(body: bytes) -> ObjectSet:
    """Raises InvalidJson, with the rule that is broken."""
    check_utf8(body)
    load_unique(body)
    try:
        request = _decode(body)
    except msgspec.ValidationError as error:
        raise InvalidJson(f"not a set of objects: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None
    if len(request.collection) > MAX_COLLECTION_CHARACTERS or not _COLLECTION.fullmatch(request.collection):
        raise InvalidJson(
            "collection must be at most 100 lower-case letters and underscores, no underscore at either end"
        )
    if not 0 < len(request.objects) <= MAX_OBJECTS:
        raise InvalidJson(f"objects must hold 1 to {MAX_OBJECTS} objects")
    for item in request.objects:
        _check(item)
    return ObjectSet(
        [_encode(_Recorded(request.collection, item.id, item.properties)) for item in request.objects],
        request.writeKey or None,
    )


def _check(item: _Object) -> None:
    if not 0 < len(item.id) <= MAX_OBJECT_ID_CHARACTERS:
        raise InvalidJson(f"the id of an object must have 1 to {MAX_OBJECT_ID_CHARACTERS} characters")
    for name, raw in item.properties.items():
        value = bytes(raw)
        if value[0] in b"{[":
            raise InvalidJson(f"property {name!r} of object {item.id!r} must be a string, number, boolean or null")
        if len(value) >= MAX_OBJECT_VALUE_BYTES:
            raise InvalidJson(f"property {name!r} of object {item.id!r} must be smaller than 32 KB")
