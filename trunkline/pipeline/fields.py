"""Fields of an event by path: reading one, and taking keys out of what it names (``spec/event_path.md`` §5.1).

A path is keys between dots; a number also names an item of a list. A parent that is a list stands for each of its
items. Keys are taken out of the JSON text itself: what stays keeps its bytes, so no number changes its spelling on
the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.spec.filters import MAX_PATH_KEYS

MISSING: Final = object()
"""Stands where an event has nothing."""

Path = tuple[str, ...]

_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_NULL: Final = msgspec.Raw(b"null")
_SPACE: Final = b" \t\r\n"
_INDEX_DIGITS: Final = 10
_INDEX_END: Final = 2**32 - 1


def split_path(path: str) -> Path:
    """The keys; none for the event itself. Raises ValueError for one that is too long."""
    keys = tuple(path.split(".")) if path else ()
    if len(keys) > MAX_PATH_KEYS:
        raise ValueError(f"a path of {len(keys)} keys; {MAX_PATH_KEYS} are the most")
    return keys


def value_at(event: Mapping[str, Any], path: Iterable[str]) -> Any:
    """The value, or MISSING."""
    value: Any = event
    for key in path:
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and (index := _index(key, len(value))) is not None:
            value = value[index]
        else:
            return MISSING
    return value


class Reshape:
    """Takes ``keys`` out of what stands at ``path``; with ``keep``, takes out all but these.

    Where an object is wanted and a list of lists is found, the inner lists' items are its keys: one that is taken out
    becomes null, so that the others keep their places.
    """

    __slots__ = ("_keep", "_keys", "_path")

    def __init__(self, path: str, keys: Iterable[str], *, keep: bool) -> None:
        """Raises ValueError for a path that is too long."""
        self._path = split_path(path)
        self._keys = frozenset(keys)
        self._keep = keep

    def touches(self, event: Mapping[str, Any]) -> bool:
        """Whether there is anything to take out."""
        parent = value_at(event, self._path)
        if isinstance(parent, dict):
            return self._touches_keys(parent)
        if isinstance(parent, list):
            return any(self._touches_item(item) for item in parent)
        return False

    def _touches_item(self, item: Any) -> bool:
        if isinstance(item, dict):
            return self._touches_keys(item)
        if isinstance(item, list):
            return any(self._takes(str(index)) for index in range(len(item)))
        return False

    def _touches_keys(self, members: Mapping[str, Any]) -> bool:
        return not members.keys() <= self._keys if self._keep else not self._keys.isdisjoint(members)

    def _takes(self, key: str) -> bool:
        return (key in self._keys) is not self._keep

    def rewrite(self, body: bytes) -> bytes:
        """The event without them; ``body`` itself if there is nothing to take out. Raises msgspec.MsgspecError for
        what is no JSON object."""
        changed = _change_at(body, self._path, self._parent)
        return body if changed is None else changed

    def _parent(self, raw: bytes) -> bytes | None:
        if _kind(raw) != b"[":
            return self._object(raw)
        return _change_items(raw, self._item)

    def _item(self, raw: bytes) -> bytes | None:
        return _change_items(raw, None, self._takes) if _kind(raw) == b"[" else self._object(raw)

    def _object(self, raw: bytes) -> bytes | None:
        if _kind(raw) != b"{":
            return None
        members = _decode_object(raw)
        if not self._touches_keys(members):
            return None
        return _encode({key: value for key, value in members.items() if not self._takes(key)})


Change = Callable[[bytes], bytes | None]
"""A JSON value changed, or None if there is nothing to change."""


def _change_at(raw: bytes, path: Sequence[str], change: Change) -> bytes | None:
    if not path:
        return change(raw)
    kind = _kind(raw)
    if kind == b"{":
        members = _decode_object(raw)
        if path[0] not in members:
            return None
        inner = _change_at(bytes(members[path[0]]), path[1:], change)
        if inner is None:
            return None
        members[path[0]] = msgspec.Raw(inner)
        return _encode(members)
    if kind == b"[":
        items = _decode_list(raw)
        index = _index(path[0], len(items))
        inner = None if index is None else _change_at(bytes(items[index]), path[1:], change)
        if index is None or inner is None:
            return None
        items[index] = msgspec.Raw(inner)
        return _encode(items)
    return None


def _change_items(raw: bytes, change: Change | None, takes: Callable[[str], bool] | None = None) -> bytes | None:
    items = _decode_list(raw)
    touched = False
    for index, item in enumerate(items):
        if takes is not None and takes(str(index)):
            items[index], touched = _NULL, True
        elif change is not None and (changed := change(bytes(item))) is not None:
            items[index], touched = msgspec.Raw(changed), True
    return _encode(items) if touched else None


def _kind(raw: bytes) -> bytes:
    return raw.lstrip(_SPACE)[:1]


def _index(key: str, length: int) -> int | None:
    """The place in a list that a key names."""
    index = array_index(key)
    return index if index is not None and index < length else None


def array_index(key: str) -> int | None:
    """The number, if the key is one as JavaScript writes the indexes of arrays."""
    if len(key) > _INDEX_DIGITS or not key.isdecimal() or not key.isascii() or (key[0] == "0" and key != "0"):
        return None
    index = int(key)
    return index if index < _INDEX_END else None
