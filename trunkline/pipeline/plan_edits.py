"""What a tracking plan changes in an event's JSON: properties go, ``context.protocols`` comes.

The text itself is edited: what stays keeps its bytes, so no number changes its spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

Path = tuple[str | int, ...]
PROTOCOLS: Final = "protocols"
OWN_KEYS: Final = ("sourceId", "omitted", "omitted_on_violation", "violations")
"""Keys of ``context.protocols`` that are ours; clients' own, such as ``event_version``, stay."""

_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_SPACE: Final = b" \t\r\n"

_Tree = dict[str | int, Any]
"""By key: what to take out below it; None for the value itself."""


def remove_paths(body: bytes, paths: Iterable[Path]) -> bytes:
    """The event without the members that the paths name; each path ends with a key of an object."""
    tree: _Tree = {}
    for path in paths:
        _plant(tree, path)
    return _pruned(body, tree)


def _plant(tree: _Tree, path: Path) -> None:
    for part in path[:-1]:
        branch = tree.setdefault(part, {})
        if branch is None:
            return
        tree = branch
    tree[path[-1]] = None


def _pruned(raw: bytes, tree: _Tree) -> bytes:
    if raw.lstrip(_SPACE).startswith(b"["):
        items = _decode_list(raw)
        for index, branch in tree.items():
            if isinstance(index, int) and index < len(items) and branch is not None:
                items[index] = msgspec.Raw(_pruned(bytes(items[index]), branch))
        return _encode(items)
    members = _decode_object(raw)
    for name, branch in tree.items():
        if not isinstance(name, str) or name not in members:
            continue
        if branch is None:
            del members[name]
        else:
            members[name] = msgspec.Raw(_pruned(bytes(members[name]), branch))
    return _encode(members)


def annotate(body: bytes, protocols: Mapping[str, Sequence[Any] | str]) -> bytes:
    """The event with this in ``context.protocols``; ``body`` itself where ``context`` is no object."""
    event = _decode_object(body)
    context = _members(event.get("context"))
    if context is None:
        return body
    theirs = _members(context.get(PROTOCOLS)) or {}
    kept = {key: value for key, value in theirs.items() if key not in OWN_KEYS}
    context[PROTOCOLS] = msgspec.Raw(_encode({**kept, **protocols}))
    event["context"] = msgspec.Raw(_encode(context))
    return _encode(event)


def _members(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    """The object's; none for what is absent or null; None for another value."""
    if raw is None or bytes(raw) == b"null":
        return {}
    return _decode_object(raw) if bytes(raw).startswith(b"{") else None
