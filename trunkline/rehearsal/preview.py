"""What a filter makes of one event, in the shapes of Segment's preview (``spec/event_path.md`` §5.1)::

{"filter": {"if": FQL, "actions": [{"type": "DROP"}, …]}, "payload": {…}}
{"inputPayload": {…}, "result": {…} or null}
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

import msgspec

from trunkline.fql import FqlError, parse_fql
from trunkline.pipeline.destination_filters import compile_filters
from trunkline.spec.discards import INVALID_FILTER, Discard
from trunkline.spec.filters import ALL, ALLOW_PROPERTIES, DROP, DROP_PROPERTIES, ONLY_SEND, SAMPLE, Filter

_ACTIONS: Final[Mapping[str, str]] = {
    name: action
    for action, names in {
        DROP: ("DROP", "drop_event"),
        ONLY_SEND: ("ONLY_SEND",),
        SAMPLE: ("SAMPLE", "sample_event"),
        DROP_PROPERTIES: ("DROP_PROPERTIES", "blocklist_fields"),
        ALLOW_PROPERTIES: ("ALLOW_PROPERTIES", "whitelist_fields"),
    }.items()
    for name in (action, *names)
}
"""Segment's names of actions, and ours."""
_EXAMPLE: Final = '{"filter": {"if": "event = \'Heartbeat\'", "actions": [{"type": "DROP"}]}, "payload": {…}}'


class PreviewError(Exception):
    """What was given is no filter and event; the text says what is wrong and how to mend it."""


class _Filter(msgspec.Struct):
    condition: str = msgspec.field(name="if")
    actions: list[dict[str, Any]]


class _Request(msgspec.Struct):
    filter: _Filter
    payload: dict[str, Any]


def preview_filter(request: bytes, random: Random) -> dict[str, Any]:
    """``request`` and the answer: as in the module's text. ``random``: for samples without a path. Raises
    PreviewError."""
    try:
        wanted = msgspec.json.decode(request, type=_Request)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise PreviewError(f"not a filter and a payload: {error}. Give {_EXAMPLE}") from error
    if not wanted.filter.actions:
        raise PreviewError('filter.actions: there is none. Add one such as {"type": "DROP"}')
    filters = [
        checked_filter(wanted.filter.condition, action, f"filter.actions[{number}]")
        for number, action in enumerate(wanted.filter.actions)
    ]
    compiled = compile_filters(filters, "", random)
    verdict = compiled.verdict(wanted.payload, msgspec.json.encode(wanted.payload))
    if isinstance(verdict, Discard):
        if verdict.reason == INVALID_FILTER:
            raise PreviewError(verdict.detail)
        return {"inputPayload": wanted.payload, "result": None}
    return {"inputPayload": wanted.payload, "result": msgspec.json.decode(verdict)}


def checked_filter(condition: str, keys: Mapping[str, Any], place: str) -> Filter:
    """``keys``: ``type``, and ``percent``, ``path`` or ``fields`` where they belong; ``place`` is where they stand, for
    the error's text. Raises PreviewError."""
    kind = keys.get("type")
    action = _ACTIONS.get(kind) if isinstance(kind, str) else None
    if action is None:
        known = ", ".join(name for name in _ACTIONS if name.isupper())
        raise PreviewError(f"{place}.type: {_shown(kind)} is no action. Use one of {known}")
    if condition != ALL:
        try:
            parse_fql(condition)
        except FqlError as error:
            raise PreviewError(f"if: not a condition: {error}") from error
    percent, path, fields = keys.get("percent"), keys.get("path") or "", keys.get("fields")
    if action == SAMPLE:
        if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 <= percent <= 1:
            raise PreviewError(f"{place}.percent: {_shown(percent)} is no number from 0 to 1: 0.1 keeps a tenth")
        if not isinstance(path, str):
            raise PreviewError(f"{place}.path: not a text. Write a path such as userId, or leave it out")
        return Filter(condition, action, percent=float(percent), path=path)
    if action in (DROP_PROPERTIES, ALLOW_PROPERTIES):
        return Filter(condition, action, fields=_fields(fields, place))
    return Filter(condition, action)


def _fields(fields: Any, place: str) -> dict[str, tuple[str, ...]]:
    if isinstance(fields, Mapping) and fields:
        found = {
            path: tuple(keys)
            for path, keys in fields.items()
            if isinstance(path, str) and isinstance(keys, list | tuple) and all(isinstance(key, str) for key in keys)
        }
        if len(found) == len(fields):
            return found
    raise PreviewError(
        f'{place}.fields: name parents and keys in them, such as {{"properties": ["email"]}}; "" is the event itself'
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
