"""The paths of transformations, and what of an event they may change (``spec/event_path.md`` §4.7).

A path is keys with dots between them. A backslash takes the next character literally, as in FQL: ``a\\.b`` is one key
with a dot in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trunkline.spec.transformations import MAX_RENAME_KEYS

Keys = tuple[str, ...]

PROPERTIES: Final = "properties"
TRAITS: Final = "traits"
CONTEXT: Final = "context"
INTEGRATIONS: Final = "integrations"
OBJECTS: Final = (PROPERTIES, TRAITS, CONTEXT, INTEGRATIONS)
TEXTS: Final = ("userId", "anonymousId", "groupId", "previousId", "name", "category", "channel")
"""Fields at the top that may be set, to texts that are not empty."""

MAX_PATH_KEYS: Final = 10
MAX_PATH_CHARACTERS: Final = 1000

_ROOTS: Final = (PROPERTIES, TRAITS, CONTEXT)
_WITH_TRAITS: Final = frozenset({"identify", "group"})
_OWN: Final[Mapping[str, str]] = {
    "event": "write rename_event for the name of a track event",
    "messageId": "events are told apart by it",
    "type": "events are counted by it",
    "receivedAt": "it is the time at which the event came",
    "timestamp": "it is the time of the event itself",
    "originalTimestamp": "it is the time of the event itself",
    "sentAt": "it is the time of the event itself",
    "writeKey": "it names the source",
    "_metadata": "it is the SDK's own note",
}
"""Fields at the top that no transformation changes, and why."""


class PathError(ValueError):
    """A path that can't be used, and how to mend it."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend


def parent_of_properties(event: Mapping[str, Any]) -> str:
    """Where an event has its properties: ``traits`` for identify and group calls."""
    return TRAITS if event.get("type") in _WITH_TRAITS else PROPERTIES


def split_keys(path: str, most: int = MAX_PATH_KEYS) -> Keys:
    """The keys. Raises PathError."""
    if len(path) > MAX_PATH_CHARACTERS:
        raise PathError(f"a path of more than {MAX_PATH_CHARACTERS} characters", "shorten it")
    keys = [""]
    characters = iter(path)
    for character in characters:
        if character == ".":
            keys.append("")
        else:
            keys[-1] += next(characters, character) if character == "\\" else character
    if not all(keys):
        raise PathError("not a path: a key is empty", "write keys with a dot between them, such as address.zip")
    if "$" in keys or "*" in keys:
        raise PathError("paths do not lead into lists", "name what stands outside of a list")
    if len(keys) > most:
        raise PathError(f"a path of {len(keys)} keys; {most} are the most", "name a place higher up")
    return tuple(keys)


def property_keys(path: str) -> Keys:
    """The keys of a path that counts from the properties (traits). Raises PathError.

    One that begins with ``properties.``, ``traits.`` or ``context.`` is refused as a slip; where a property has such a
    name, a backslash before it says so.
    """
    keys = split_keys(path, MAX_RENAME_KEYS + 1)
    root = _root(path, keys)
    if root == CONTEXT:
        raise PathError(
            "only properties and traits can be renamed or kept",
            "set writes to context; a property that is called context is written \\context",
        )
    if root:
        rest = path[len(root) + 1 :]
        raise PathError(
            f"this path counts from {root} already",
            f"write {rest}; a property that is called {root} is written \\{root}",
        )
    if len(keys) > MAX_RENAME_KEYS:
        raise PathError(f"a path of {len(keys)} keys; {MAX_RENAME_KEYS} are the most", "name a place higher up")
    return keys


def value_keys(path: str) -> Keys:
    """The keys, from the event's top, of a place where a value may be set. Raises PathError."""
    keys = split_keys(path)
    top = keys[0]
    if top in _OWN:
        raise PathError(f"{top} can't be changed: {_OWN[top]}", "name another field")
    if top in TEXTS and len(keys) > 1:
        raise PathError(f"{top} is a text and holds no keys", f"write {top}")
    if top not in OBJECTS and top not in TEXTS:
        fields = ", ".join((*TEXTS, INTEGRATIONS))
        raise PathError(
            f"there is no field {top[:60]} at the top of an event",
            f"begin with properties, traits or context, or name one of {fields}",
        )
    return keys


def hash_keys(path: str) -> Keys:
    """The keys, from the event's top, of a value that may be hashed. Raises PathError."""
    keys = value_keys(path)
    if keys[0] == INTEGRATIONS or keys in ((PROPERTIES,), (TRAITS,), (CONTEXT,)):
        raise PathError(f"{keys[0]} itself can't be hashed", "name what it holds, such as properties.email")
    return keys


def computed_keys(path: str) -> tuple[Keys, bool]:
    """The keys of a place for a computed value, and whether they count from the event's top; if not, from the
    properties (traits). Raises PathError."""
    keys = split_keys(path)
    return keys, bool(_root(path, keys))


def _root(path: str, keys: Keys) -> str:
    """The object at the event's top that a path begins with; one key alone is never one, nor is an escaped one."""
    top = keys[0]
    return top if len(keys) > 1 and top in _ROOTS and path.startswith(top + ".") else ""


def overlap(one: Keys, other: Keys) -> bool:
    """Whether one of two places is the other or in it."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]
