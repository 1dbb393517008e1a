"""What a tracking plan changes in an event's JSON: properties go, ``context.protocols`` comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.pipeline.json_text import Changes, change_inside, decode_object, encode

Path = tuple[str | int, ...]
PROTOCOLS: Final = "protocols"
OWN_KEYS: Final = ("sourceId", "omitted", "omitted_on_violation", "violations")
"""Keys of ``context.protocols`` that are ours; clients' own, such as ``event_version``, stay."""


def remove_paths(body: bytes, paths: Iterable[Path]) -> bytes:
    """The event without the members that the paths name; each path ends with a key of an object."""
    changes: Changes = {}
    branch: Changes | None = changes
    last: Path = ()
    for path in paths:
        outer = path[:-1]
        if outer != last:
            branch, last = _branch(changes, outer), outer
        if branch is not None:
            branch[path[-1]] = None
    changed = change_inside(body, changes)
    return body if changed is None else changed


def _branch(changes: Changes, path: Path) -> Changes | None:
    """The changes to what is inside the value there; None if it goes with a value around it."""
    for part in path:
        branch = changes.setdefault(part, {})
        if not isinstance(branch, dict):
            return None
        changes = branch
    return changes


def annotate(body: bytes, protocols: Mapping[str, Sequence[Any] | str]) -> bytes:
    """The event with this in ``context.protocols``; ``body`` itself where ``context`` is no object."""
    event = decode_object(body)
    context = _members(event.get("context"))
    if context is None:
        return body
    theirs = _members(context.get(PROTOCOLS)) or {}
    kept = {key: value for key, value in theirs.items() if key not in OWN_KEYS}
    context[PROTOCOLS] = msgspec.Raw(encode({**kept, **protocols}))
    event["context"] = msgspec.Raw(encode(context))
    return encode(event)


def _members(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    """The object's; none for what is absent or null; None for another value."""
    if raw is None or bytes(raw) == b"null":
        return {}
    return decode_object(raw) if bytes(raw).startswith(b"{") else None
