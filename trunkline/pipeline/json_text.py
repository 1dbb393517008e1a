"""JSON text under change: what a change does not concern keeps its bytes, so no number changes its spelling.

A change is told by what it makes of a value's text. Events are changed at places that are known beforehand, by
changes that were put together then; ``draft.Draft`` is for what is decided step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Union

import msgspec

Change = Callable[[bytes], bytes | None]
"""A JSON value changed, or None if there is nothing to change."""

Changes = dict[str | int, Union[Change, "Changes", None]]
"""What to do with what a value holds: strings name an object's members, numbers a list's items. None takes a member
out."""

decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode: Final = msgspec.json.Encoder().encode
NULL: Final = msgspec.Raw(b"null")

_SPACE: Final = b" \t\r\n"


def kind_of(text: bytes) -> bytes:
    """The first character of a value, which tells its kind: ``{`` for an object, ``[`` for a list."""
    return text.lstrip(_SPACE)[:1]


def change_inside(text: bytes, changes: Changes) -> bytes | None:
    """A value with changes to what it holds; None if there is nothing to change, as in a value that is no object and
    no list. Raises msgspec.MsgspecError for what is no JSON."""
    kind = text.lstrip(_SPACE)[:1]
    if kind == b"{":
        return _change_members(text, changes)
    return _change_places(text, changes) if kind == b"[" else None


def _change_members(text: bytes, changes: Changes) -> bytes | None:
    members: dict[Any, msgspec.Raw] = decode_object(text)
    is_touched = False
    for name, change in changes.items():
        member = members.get(name)
        if member is None:
            continue
        if change is None:
            del members[name]
            is_touched = True
            continue
        changed = change_inside(bytes(member), change) if isinstance(change, dict) else change(bytes(member))
        if changed is not None:
            members[name] = msgspec.Raw(changed)
            is_touched = True
    return encode(members) if is_touched else None


def _change_places(text: bytes, changes: Changes) -> bytes | None:
    items = decode_list(text)
    is_touched = False
    for index, change in changes.items():
        if change is None or not isinstance(index, int) or index >= len(items):
            continue
        item = bytes(items[index])
        changed = change_inside(item, change) if isinstance(change, dict) else change(item)
        if changed is not None:
            items[index] = msgspec.Raw(changed)
            is_touched = True
    return encode(items) if is_touched else None


def change_items(text: bytes, change: Change) -> bytes | None:
    """A list with each of its items changed; None if there is nothing to change. Raises msgspec.MsgspecError for
    what is no list."""
    items = decode_list(text)
    is_touched = False
    for index, item in enumerate(items):
        if (changed := change(bytes(item))) is not None:
            items[index] = msgspec.Raw(changed)
            is_touched = True
    return encode(items) if is_touched else None
