"""What transformations do to an event (``spec/event_path.md`` §4.7), each compiled once.

Constructors raise ValueError for what can't be done. An action is called with the event as its transformation found it
and the draft of what it becomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from trunkline.fql.paths import index_of
from trunkline.fql.tree import Literal, Path
from trunkline.fql.value_compiler import compile_value, parse_fql_value
from trunkline.pipeline.draft import Draft
from trunkline.pipeline.hashing import Digest, compile_digest
from trunkline.pipeline.json_text import change_inside, change_items, decode_list, decode_object, encode
from trunkline.pipeline.transformation_paths import (
    PROPERTIES,
    TRAITS,
    Keys,
    computed_keys,
    hash_keys,
    overlap,
    parent_of_properties,
    property_keys,
    value_keys,
)
from trunkline.spec.transformations import PropertyHash, PropertyValue

_decode_text: Final = msgspec.json.Decoder(str).decode

_MAX_LISTS: Final = 10
"""Inside each other, on the way to a value that is hashed; those further in are left alone."""


class Action(Protocol):
    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None: ...


class RenameEvent:
    """Gives track events another name; events of other types keep theirs."""

    def __init__(self, name: str) -> None:
        self._name: Final = msgspec.Raw(encode(name))

    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None:
        if event.get("type") == "track":
            draft.put(("event",), self._name)


class MoveProperties:
    """Moves properties (traits) from old paths to new ones, all at once: every value is the one that the event came
    with, so two properties can change places.

    What stood at a new path is replaced. A property stays where it is if a value on its way is no object.
    """

    def __init__(self, renames: Sequence[tuple[str, str]]) -> None:
        pairs = [(property_keys(old), property_keys(new)) for old, new in renames]
        for number, (old, new) in enumerate(pairs):
            if old == new:
                raise ValueError(f"{renames[number][0]} is renamed to itself")
            for other, (earlier_old, earlier_new) in enumerate(pairs[:number]):
                if overlap(old, earlier_old):
                    raise ValueError(f"{renames[number][0]} and {renames[other][0]} name the same property")
                if overlap(new, earlier_new):
                    raise ValueError(f"{renames[number][1]} and {renames[other][1]} are the same place")
        self._moves: Final = {
            parent: [((parent, *old), (parent, *new)) for old, new in pairs] for parent in (PROPERTIES, TRAITS)
        }

    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None:
        moves = [move for move in self._moves[parent_of_properties(event)] if draft.has(move[0])]
        while True:
            leaving = {old for old, _ in moves}
            possible = [move for move in moves if not draft.is_blocked(move[1], leaving)]
            if len(possible) == len(moves):
                break
            moves = possible
        values = [draft.take(old) for old, _ in moves]
        for (_, new), value in zip(moves, values, strict=True):
            if value is not None:
                draft.put(new, value)


class SetValues:
    """Writes values at paths. Where a value on the way is no object, nothing is written."""

    def __init__(self, values: Iterable[PropertyValue]) -> None:
        self._values: Final = [(value_keys(path), msgspec.Raw(encode(v.value))) for v in values for path in v.paths]

    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None:
        for path, value in self._values:
            draft.put(path, value)


class ComputeProperty:
    """Writes the value of an FQL expression at a path; null, which is also what does not fit has, writes nothing.

    A copy of another place keeps its spelling.
    """

    def __init__(self, path: str, fql: str) -> None:
        keys, from_top = computed_keys(path)
        self._path: Final = keys
        self._from_top: Final = from_top
        query = parse_fql_value(fql)
        if isinstance(query.root, Literal) and query.root.value is None:
            raise ValueError("null is no value to write")
        self._value: Final = compile_value(query)
        self._copied: Final = query.root.steps if isinstance(query.root, Path) else None

    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None:
        value = self._value(event)
        if value is None:
            return
        path = self._path if self._from_top else (parent_of_properties(event), *self._path)
        if self._copied is None:
            draft.put(path, msgspec.Raw(encode(value)))
            return
        text = _read_through_lists(draft, self._copied)
        if text is not None:
            draft.put(path, msgspec.Raw(text))


def _read_through_lists(draft: Draft, steps: Keys) -> bytes | None:
    """The JSON text where FQL reads a value: a number is also an item of a list."""
    text = draft.read(steps[:1])
    for step in steps[1:]:
        kind = b"" if text is None else text[:1]
        inner: msgspec.Raw | None = None
        if kind == b"{":
            inner = decode_object(text or b"").get(step)
        elif kind == b"[" and (index := index_of(step)) is not None:
            items = decode_list(text or b"")
            inner = items[index] if index < len(items) else None
        if inner is None:
            return None
        text = bytes(inner)
    return text


class AllowProperties:
    """Takes out all properties (traits) but those named; of an object that is named by what it holds, all else."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._allowed: Final[_Allowed] = {}
        for path in paths:
            self._allow(self._allowed, property_keys(path))

    def _allow(self, allowed: _Allowed, keys: Keys) -> None:
        first, rest = keys[0], keys[1:]
        if not rest:
            allowed[first] = None
        elif (below := allowed.setdefault(first, {})) is not None:
            self._allow(below, rest)

    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None:
        parent = parent_of_properties(event)
        if draft.open((parent,)) is None:
            if draft.read((parent,)) not in (None, b"null"):
                draft.put((parent,), {})
        else:
            self._keep(draft, (parent,), self._allowed)

    def _keep(self, draft: Draft, path: Keys, allowed: _Allowed) -> None:
        tree = draft.open(path) or {}
        for key in list(tree):
            if key not in allowed:
                draft.take((*path, key))
                continue
            below = allowed[key]
            if below is None:
                continue
            if draft.open((*path, key)) is None:
                draft.take((*path, key))
            else:
                self._keep(draft, (*path, key), below)


_Allowed = dict[str, "_Allowed | None"]
"""Keys that stay; None: with all that is in them."""


class HashValues:
    """Replaces values by their digests. A list on the way stands for each of its items.

    A string is hashed as UTF-8, anything else but null as its JSON text, so that nothing is passed over because it is
    of another type.
    """

    def __init__(self, configuration: PropertyHash) -> None:
        self._paths: Final = [hash_keys(path) for path in configuration.paths]
        self._digest: Final[Digest] = compile_digest(configuration.algorithm, configuration.encoding, configuration.key)

    def __call__(self, event: Mapping[str, Any], draft: Draft) -> None:
        for path in self._paths:
            value = draft.read(path[:1])
            changed = None if value is None else self._below(path[1:], 0, value)
            if changed is not None:
                draft.put(path[:1], msgspec.Raw(changed))

    def _below(self, path: Keys, lists: int, value: bytes) -> bytes | None:
        """The value with the digest in it, None if there is nothing to hash. ``lists``: how many it stands in."""
        kind = value[:1]
        if not path:
            if value == b"null":
                return None
            return encode(self._digest(_decode_text(value).encode("utf-8") if kind == b'"' else value))
        if kind == b"[":
            return None if lists == _MAX_LISTS else change_items(value, partial(self._below, path, lists + 1))
        return change_inside(value, {path[0]: partial(self._below, path[1:], lists)})
