"""Fields of an event by path: reading one, and taking keys out of what it names (``spec/event_path.md`` §5.1).

A path is keys between dots; a number also names an item of a list. A parent that is a list stands for each of its
items. Keys are taken out of the JSON text itself: what stays keeps its bytes, so no number changes its spelling on
the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from trunkline.pipeline.json_text import (
    NULL,
    Change,
    Changes,
    change_inside,
    change_items,
    decode_list,
    decode_object,
    encode,
    kind_of,
)
from trunkline.spec.filters import MAX_PATH_KEYS

MISSING: Final = object()
"""Stands where an event has nothing."""

Path = tuple[str, ...]

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

    __slots__ = ("_change", "_keep", "_keys", "_path")

    def __init__(self, path: str, keys: Iterable[str], *, keep: bool) -> None:
        """Raises ValueError for a path that is too long."""
        self._path = split_path(path)
        self._keys = frozenset(keys)
        self._keep = keep
        change: Change | Changes = self._parent
        for key in reversed(self._path):
            index = array_index(key)
            change = {key: change} if index is None else {key: change, index: change}
        self._change: Final = change

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
        change = self._change
        changed = change_inside(body, change) if isinstance(change, dict) else change(body)
        return body if changed is None else changed

    def _parent(self, text: bytes) -> bytes | None:
        return change_items(text, self._item) if kind_of(text) == b"[" else self._object(text)

    def _item(self, text: bytes) -> bytes | None:
        return self._items(text) if kind_of(text) == b"[" else self._object(text)

    def _object(self, text: bytes) -> bytes | None:
        if kind_of(text) != b"{":
            return None
        members = decode_object(text)
        if not self._touches_keys(members):
            return None
        return encode({key: value for key, value in members.items() if not self._takes(key)})

    def _items(self, text: bytes) -> bytes | None:
        items = decode_list(text)
        taken = [index for index in range(len(items)) if self._takes(str(index))]
        for index in taken:
            items[index] = NULL
        return encode(items) if taken else None


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
