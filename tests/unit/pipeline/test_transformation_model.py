"""Transformations against a plain model of what the documentation says, on decoded events."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import scalars
from trunkline.pipeline.transformations import compile_transformations
from trunkline.spec.discards import INVALID_TRANSFORMATION, Discard
from trunkline.spec.transformations import PropertyValue, Transformation

Keys = tuple[str, ...]
NOTHING = object()


def get(tree: Any, keys: Keys) -> Any:
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return NOTHING
        tree = tree[key]
    return tree


def is_free(tree: Any, keys: Keys, leaving: Iterable[Keys] = ()) -> bool:
    """Whether only objects, null and nothing stand above a place."""
    return all(
        keys[:end] in leaving or get(tree, keys[:end]) is None or isinstance(get(tree, keys[:end]), dict)
        for end in range(1, len(keys))
        if get(tree, keys[:end]) is not NOTHING and not any(keys[:above] in leaving for above in range(1, end))
    )


def write(tree: dict[str, Any], keys: Keys, value: Any) -> None:
    for key in keys[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[keys[-1]] = value


def model(item: Transformation, event: dict[str, Any]) -> dict[str, Any]:
    """None of the paths here has an escape."""
    event = copy.deepcopy(event)
    parent = "traits" if event["type"] in ("identify", "group") else "properties"
    moves = {(parent, *old.split(".")): (parent, *new.split(".")) for old, new in item.renames}
    moves = {old: new for old, new in moves.items() if get(event, old) is not NOTHING}
    while blocked := [old for old, new in moves.items() if not is_free(event, new, moves)]:
        for old in blocked:
            del moves[old]
    values = {new: get(event, old) for old, new in moves.items()}
    for old in moves:
        del get(event, old[:-1])[old[-1]]
    for new, value in values.items():
        write(event, new, value)
    for entry in item.values:
        for path in entry.paths:
            keys = tuple(path.split("."))
            if is_free(event, keys):
                write(event, keys, entry.value)
    if item.allow_properties and isinstance(event.get(parent), dict):
        event[parent] = allowed(event[parent], [tuple(path.split(".")) for path in item.allow_properties])
    elif item.allow_properties and event.get(parent) is not None:
        event[parent] = {}
    return event


def allowed(tree: dict[str, Any], paths: list[Keys]) -> dict[str, Any]:
    found = {}
    for key, value in tree.items():
        below = [path[1:] for path in paths if path[0] == key]
        if () in below:
            found[key] = value
        elif below and isinstance(value, dict):
            found[key] = allowed(value, below)
    return found


keys = st.sampled_from(["a", "b", "c"])
trees = st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=3) | st.lists(inner, max_size=2))
objects = st.dictionaries(keys, trees, max_size=3)
paths = st.lists(keys, min_size=1, max_size=3).map(".".join)
places = st.builds("{}.{}".format, st.sampled_from(["properties", "traits", "context"]), paths)
events = st.builds(
    lambda kind, parts: {"type": kind, **parts},
    st.sampled_from(["track", "identify", "page", "group"]),
    st.dictionaries(st.sampled_from(["properties", "traits", "context"]), objects | trees, max_size=3),
)
transformations = st.builds(
    Transformation,
    st.just("t"),
    st.just("web"),
    st.just("all"),
    renames=st.dictionaries(paths, paths, max_size=3).map(lambda pairs: tuple(pairs.items())),
    values=st.lists(st.builds(PropertyValue, st.tuples(places), trees), max_size=2).map(tuple),
    allow_properties=st.just(()) | st.lists(paths, max_size=3).map(tuple),
)


@settings(max_examples=150)
@given(events, transformations)
def test_events_become_what_the_model_makes_of_them(event: dict[str, Any], item: Transformation) -> None:
    body = msgspec.json.encode(event)
    found = compile_transformations([item]).verdict(event, body)
    if isinstance(found, Discard):
        assert found.reason == INVALID_TRANSFORMATION
        assert item.renames
        return
    assert msgspec.json.decode(found) == model(item, event)
    if model(item, event) != event:
        assert found is not body
