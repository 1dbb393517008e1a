"""What is different between two JSON values, path by path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

Kind = Literal["added", "removed", "changed"]

MAX_LEVELS: Final = 100
"""What lies deeper is compared as a whole."""
ROOT: Final = "(event)"
"""The path of the event itself."""


class Difference(msgspec.Struct, frozen=True, gc=False):
    """``path``: keys with dots between them, items of lists in brackets. ``place`` is the same with every item as
    ``[]``: what differences of many events have in common."""

    kind: Kind
    path: str
    place: str
    before: Any = None
    after: Any = None


def differences(before: Any, after: Any) -> Iterator[Difference]:
    """An object or list that is there on one side only is one difference. 1 and 1.0 are different, the order of keys
    is not."""
    yield from _compare(before, after, "", "", 0)


def bodies_differ(before: bytes, after: bytes) -> list[Difference]:
    """Of two encoded events. What cannot be decoded is different as a whole."""
    if before == after:
        return []
    try:
        return list(differences(msgspec.json.decode(before), msgspec.json.decode(after)))
    except (msgspec.MsgspecError, RecursionError):
        return [Difference("changed", ROOT, ROOT)]


def _compare(before: Any, after: Any, path: str, place: str, level: int) -> Iterator[Difference]:
    if type(before) is not type(after):
        yield Difference("changed", path or ROOT, place or ROOT, before, after)
    elif isinstance(before, dict) and level < MAX_LEVELS:
        for key, value in before.items():
            inner, inner_place = _below(path, key), _below(place, key)
            if key in after:
                yield from _compare(value, after[key], inner, inner_place, level + 1)
            else:
                yield Difference("removed", inner, inner_place, before=value)
        for key, value in after.items():
            if key not in before:
                yield Difference("added", _below(path, key), _below(place, key), after=value)
    elif isinstance(before, list) and level < MAX_LEVELS:
        inner_place = f"{place}[]"
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from _compare(one, other, f"{path}[{index}]", inner_place, level + 1)
        for index in range(len(after), len(before)):
            yield Difference("removed", f"{path}[{index}]", inner_place, before=before[index])
        for index in range(len(before), len(after)):
            yield Difference("added", f"{path}[{index}]", inner_place, after=after[index])
    elif before != after:
        yield Difference("changed", path or ROOT, place or ROOT, before, after)


def _below(path: str, key: str) -> str:
    shown = key.replace("\\", "\\\\").replace(".", "\\.")
    return f"{path}.{shown}" if path else shown
