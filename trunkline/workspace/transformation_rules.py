"""What a transformation may say (``spec/event_path.md`` §4.7), wherever it is said: in the file or through an API."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.fql import FqlError, constants, parse_fql
from trunkline.fql.constants import ANY, Constants
from trunkline.fql.tree import And, Literal, Node, Or, Path
from trunkline.fql.value_compiler import parse_fql_value
from trunkline.pipeline.transformation_paths import (
    OBJECTS,
    PROPERTIES,
    TEXTS,
    TRAITS,
    Keys,
    PathError,
    computed_keys,
    hash_keys,
    overlap,
    property_keys,
    value_keys,
)
from trunkline.spec.transformations import ALGORITHMS, ENCODINGS, MAX_PATHS, PropertyHash, PropertyValue, Transformation
from trunkline.workspace.problem import nearest, shown

MAX_NAMES: Final = 100
"""Properties that one transformation renames, and paths that it hashes."""
MAX_ALLOWED: Final = 1000
MAX_EVENT_NAME_CHARACTERS: Final = 1000
MAX_VALUES_BYTES: Final = 16 * 1024
"""What the values of one transformation add to an event, as JSON."""

Steps = tuple[str | int, ...]
_ACTIONS: Final = "rename_event, rename_properties, set, fql_properties, allow_properties, hash or drop: true"
_WITH_TRAITS: Final = frozenset({"identify", "group"})


@dataclass(frozen=True)
class Fault:
    """``steps`` lead to the place in the keys of the file: keys of mappings and indexes of lists. ``of_key``: the last
    key itself is wrong, not what stands there."""

    steps: Steps
    reason: str
    mend: str
    of_key: bool = False


def same_condition(condition: str) -> Hashable | None:
    """The same for conditions that differ in nothing but spelling and order; None for one that can't be read."""
    try:
        return _shape(parse_fql(condition).root)
    except FqlError:
        return None


def _shape(node: Node) -> Hashable:
    if isinstance(node, And | Or):
        return type(node), frozenset(map(_shape, node.operands))
    return node


def faults(item: Transformation) -> Iterator[Fault]:
    """All that is wrong with one transformation by itself."""
    bounds = ANY
    if item.condition:
        try:
            bounds = constants(parse_fql(item.condition))
        except FqlError as error:
            yield Fault(("if",), f"not a condition: {_at(error, item.condition)}", error.mend)
    if item.drop:
        yield from _beside_drop(item)
        return
    if not _parts(item):
        yield Fault((), "it changes nothing", f"Add one of {_ACTIONS}")
    yield from _event_name(item.new_event_name, bounds)
    parents = _parents(bounds)
    moved = yield from _renames(item.renames)
    values = yield from _values(item.values)
    yield from _clashes(item.renames, moved, values, parents)
    yield from _computed(item)
    yield from _allowed(item.allow_properties)
    if item.hash is not None:
        yield from _hash(item.hash)


def _parts(item: Transformation) -> list[str]:
    """The keys of what it does, but ``drop``."""
    parts = {
        "rename_event": item.new_event_name,
        "rename_properties": item.renames,
        "set": item.values,
        "fql_properties": item.fql_properties,
        "allow_properties": item.allow_properties,
        "hash": item.hash,
    }
    return [key for key, part in parts.items() if part]


def _beside_drop(item: Transformation) -> Iterator[Fault]:
    for key in _parts(item):
        yield Fault((key,), "says nothing with drop: true", "Remove it, or the drop", of_key=True)


def _parents(bounds: Constants) -> tuple[str, ...]:
    """Where events that meet the condition can have their properties."""
    if bounds.types is None:
        return PROPERTIES, TRAITS
    found = (PROPERTIES if bounds.types - _WITH_TRAITS else "", TRAITS if bounds.types & _WITH_TRAITS else "")
    return tuple(filter(None, found))


def _event_name(name: str, bounds: Constants) -> Iterator[Fault]:
    if not name:
        return
    if not name.strip():
        yield Fault(("rename_event",), "the name is blank", "Write a name such as Order Completed")
    elif len(name) > MAX_EVENT_NAME_CHARACTERS:
        yield Fault(("rename_event",), f"longer than {MAX_EVENT_NAME_CHARACTERS} characters", "Shorten it")
    elif bounds.types is not None and "track" not in bounds.types:
        reason = "only track events have this name, and the condition is for others"
        yield Fault(("rename_event",), reason, "Remove it; set: [{paths: [name], …}] names pages and screens")
    elif bounds.events == frozenset({name}):
        yield Fault(("rename_event",), "the events are called so already", "Remove it, or write another name")


def _renames(renames: Sequence[tuple[str, str]]) -> Generator[Fault, None, list[tuple[Keys, Keys]]]:
    """Returns the keys of old and new paths, none for those that are wrong."""
    if len(renames) > MAX_NAMES:
        yield Fault(("rename_properties",), f"{len(renames)} names; {MAX_NAMES} are the most", "Take some out")
    moved: list[tuple[Keys, Keys]] = []
    for old_path, new_path in renames:
        steps = ("rename_properties", old_path)
        old = yield from _keys(property_keys, old_path, steps, of_key=True)
        new = yield from _keys(property_keys, new_path, steps)
        if old and old == new:
            yield Fault(steps, "the property is called so already", "Write another name, or remove the line")
        for number, (earlier_old, earlier_new) in enumerate(moved):
            earlier = renames[number]
            if old and earlier_old and overlap(old, earlier_old):
                reason = f"{shown(old_path)} and {shown(earlier[0])} name the same property, or one is in the other"
                yield Fault(steps, reason, "Keep one of them", of_key=True)
            if new and earlier_new and overlap(new, earlier_new):
                reason = f"{shown(earlier[0])} goes to {shown(earlier[1])} already"
                yield Fault(steps, reason, "Give each property a place of its own")
        moved.append((old, new))
    return moved


def _values(values: Sequence[PropertyValue]) -> Generator[Fault, None, list[tuple[Keys, Steps]]]:
    """Returns keys and steps of all paths that are right."""
    if len(values) > MAX_PATHS:
        yield Fault(("set",), f"{len(values)} values; {MAX_PATHS} are the most", "Take some out")
    found: list[tuple[Keys, Steps]] = []
    size_bytes = 0
    for number, value in enumerate(values):
        place: Steps = ("set", number)
        size_bytes += len(msgspec.json.encode(value.value)) * len(value.paths)
        if not value.paths:
            yield Fault((*place, "paths"), "no path is named", "Write paths: [properties.channel]")
        if len(value.paths) > MAX_PATHS:
            reason = f"{len(value.paths)} paths; {MAX_PATHS} are the most"
            yield Fault((*place, "paths"), reason, "Take some out")
        for index, path in enumerate(value.paths):
            steps = (*place, "paths", index)
            keys = yield from _keys(value_keys, path, steps)
            if not keys:
                continue
            if any(overlap(keys, other) for other, _ in found):
                reason = f"{shown(path)} is set here twice, or stands in another path"
                yield Fault(steps, reason, "Keep one of them")
            found.append((keys, steps))
            yield from _fits(keys, value.value, (*place, "value"))
    if size_bytes > MAX_VALUES_BYTES:
        reason = f"values of {size_bytes:,} bytes in an event; {MAX_VALUES_BYTES:,} are the most"
        yield Fault(("set",), reason, "Make them smaller")
    return found


def _fits(keys: Keys, value: Any, steps: Steps) -> Iterator[Fault]:
    if keys[0] in TEXTS and not (isinstance(value, str) and value):
        yield Fault(steps, f"{keys[0]} must be text that is not empty", "Put the value in quotes")
    elif len(keys) == 1 and keys[0] in OBJECTS and not isinstance(value, dict):
        yield Fault(steps, f"{keys[0]} must be an object", f"Name a key in it, such as {keys[0]}.channel")


def _clashes(
    renames: Sequence[tuple[str, str]],
    moved: Sequence[tuple[Keys, Keys]],
    values: Sequence[tuple[Keys, Steps]],
    parents: Sequence[str],
) -> Iterator[Fault]:
    for keys, steps in values:
        for (old_path, new_path), (old, new) in zip(renames, moved, strict=True):
            for path, name in ((old, old_path), (new, new_path)):
                if path and any(overlap(keys, (parent, *path)) for parent in parents):
                    reason = f"rename_properties changes {shown(name)} too"
                    yield Fault(steps, reason, "Do one of the two, or use two transformations")


def _computed(item: Transformation) -> Iterator[Fault]:
    if not item.fql_properties:
        return
    if len(item.fql_properties) > 1:
        reason = f"{len(item.fql_properties)} computed properties; 1 is the most"
        yield Fault(("fql_properties",), reason, "Use a transformation for each")
    for key in _parts(item):
        if key in ("rename_event", "rename_properties", "set"):
            reason = f"{key} and fql_properties exclude each other"
            yield Fault((key,), reason, "Use two transformations", of_key=True)
    for path, fql in item.fql_properties:
        steps = ("fql_properties", path)
        keys = yield from _keys(lambda text: computed_keys(text)[0], path, steps, of_key=True)
        try:
            root = parse_fql_value(fql).root
        except FqlError as error:
            yield Fault(steps, f"not a value: {_at(error, fql)}", error.mend)
            continue
        if isinstance(root, Literal) and root.value is None:
            yield Fault(steps, "null writes nothing", "Write set: [{paths: […], value: null}]")
        elif isinstance(root, Path) and root.steps == keys:
            yield Fault(steps, "the property gets its own value", "Write a function, such as lowercase(…)")


def _allowed(paths: Sequence[str]) -> Iterator[Fault]:
    if len(paths) > MAX_ALLOWED:
        yield Fault(("allow_properties",), f"{len(paths)} properties; {MAX_ALLOWED} are the most", "Take some out")
    for index, path in enumerate(paths):
        yield from _keys(property_keys, path, ("allow_properties", index))
        if path in paths[:index]:
            yield Fault(("allow_properties", index), f"{shown(path)} stands here twice", "Keep one of them")


def _hash(configuration: PropertyHash) -> Iterator[Fault]:
    if not configuration.paths:
        yield Fault(("hash", "paths"), "no path is named", "Write paths: [properties.email]")
    if len(configuration.paths) > MAX_NAMES:
        yield Fault(("hash", "paths"), f"{len(configuration.paths)} paths; {MAX_NAMES} are the most", "Take some out")
    found: list[Keys] = []
    for index, path in enumerate(configuration.paths):
        steps = ("hash", "paths", index)
        keys = yield from _keys(hash_keys, path, steps)
        if keys and any(overlap(keys, other) for other in found):
            yield Fault(steps, f"{shown(path)} would be hashed twice", "Keep one of them")
        if keys:
            found.append(keys)
    yield from _one_of(configuration.algorithm, ALGORITHMS, "algorithm")
    yield from _one_of(configuration.encoding, ENCODINGS, "encoding")
    if configuration.key == "":
        yield Fault(("hash", "key"), "the key is empty", "Give it a value, or leave it out")


def _one_of(value: str, known: Sequence[str], what: str) -> Iterator[Fault]:
    if value not in known:
        guess = nearest(value.lower().replace("-", ""), known)
        mend = f"Did you mean {guess}?" if guess else f"Use one of: {', '.join(known)}"
        yield Fault(("hash", what), f"there is no {what} {shown(value)}", mend)


def _keys(
    read: Callable[[str], Keys], path: str, steps: Steps, *, of_key: bool = False
) -> Generator[Fault, None, Keys]:
    """Returns the keys; none for a path that is wrong."""
    try:
        return read(path)
    except PathError as error:
        yield Fault(steps, f"{shown(path)}: {error.problem}", error.mend, of_key)
    return ()


def _at(error: FqlError, text: str) -> str:
    expected = f", expected {error.expected}" if error.expected else ""
    place = f"line {error.line}, " if "\n" in text else ""
    return f"{place}character {error.column}: {error.problem}{expected}"
