"""An event's JSON under change: only the objects on the way to a change are opened, all else keeps its bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Union, cast

import msgspec

from trunkline.pipeline.json_text import decode_object, encode

Tree = dict[str, Union[msgspec.Raw, "Tree"]]
Value = msgspec.Raw | Tree
"""JSON text as it was, or an object that is open."""

_decode_tree: Final = cast(Callable[[bytes | msgspec.Raw], Tree], decode_object)


class Draft:
    """A copy of one event that can be changed. Paths are keys of objects; nothing here looks into lists.

    Raises msgspec.MsgspecError, at the first use, for what is no JSON object.
    """

    __slots__ = ("_body", "_top", "is_touched")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._top: Tree | None = None
        self.is_touched = False

    def encode(self) -> bytes:
        """The event as it is now: the same object as it was if nothing was changed."""
        return encode(self._top) if self.is_touched else self._body

    def read(self, path: Sequence[str]) -> bytes | None:
        """The JSON text at a path, None if there is nothing."""
        value = self._find(path)
        return None if value is None else as_bytes(value)

    def has(self, path: Sequence[str]) -> bool:
        return self._find(path) is not None

    def open(self, path: Sequence[str]) -> Tree | None:
        """The object at a path, to look at; None if there is no object."""
        tree: Tree | None = self._opened()
        for key in path:
            tree = None if tree is None else _open_member(tree, key)
        return tree

    def take(self, path: Sequence[str]) -> Value | None:
        """Take out what stands at a path, and give it."""
        parent = self.open(path[:-1])
        if parent is None or path[-1] not in parent:
            return None
        self.is_touched = True
        return parent.pop(path[-1])

    def put(self, path: Sequence[str], value: Value) -> bool:
        """Write a value at a path. Objects on the way are made where nothing or null stands; where anything else
        stands, nothing is written and the answer is false."""
        tree = self._opened()
        for key in path[:-1]:
            inner = _open_member(tree, key)
            if inner is None:
                if key in tree and as_bytes(tree[key]) != b"null":
                    return False
                inner = tree[key] = {}
            tree = inner
        old = tree.get(path[-1])
        if old is None or as_bytes(old) != as_bytes(value):
            tree[path[-1]] = value
            self.is_touched = True
        return True

    def is_blocked(self, path: Sequence[str], leaving: Collection[tuple[str, ...]] = ()) -> bool:
        """Whether something that is neither an object nor null stands on the way to a path. ``leaving``: places that
        will be empty by then."""
        tree = self._opened()
        for end, key in enumerate(path[:-1], 1):
            if key not in tree or tuple(path[:end]) in leaving:
                return False
            inner = _open_member(tree, key)
            if inner is None:
                return as_bytes(tree[key]) != b"null"
            tree = inner
        return False

    def _opened(self) -> Tree:
        if self._top is None:
            self._top = _decode_tree(self._body)
        return self._top

    def _find(self, path: Sequence[str]) -> Value | None:
        parent = self.open(path[:-1])
        return None if parent is None else parent.get(path[-1])


def as_bytes(value: Value) -> bytes:
    return encode(value) if isinstance(value, dict) else bytes(value)


def _open_member(tree: Tree, key: str) -> Tree | None:
    """The object at a key, opened in its place; None if there is none."""
    value = tree.get(key)
    if value is None or isinstance(value, dict):
        return value
    if bytes(value)[:1] != b"{":
        return None
    opened = tree[key] = _decode_tree(value)
    return opened
