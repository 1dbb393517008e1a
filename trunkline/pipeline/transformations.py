"""Transformations, compiled (``spec/event_path.md`` §4.7).

They apply in the order of the workspace, and each sees the event as the one before it left it. Within one the order is
fixed: drop; name of the event; renames; values; computed property; allow list; hash. A transformation that can't be
read lets nothing pass: it may be the one that guards personal data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from trunkline.fql import FqlError, compile_fql, constants, parse_fql
from trunkline.fql.constants import Constants
from trunkline.pipeline.draft import Draft
from trunkline.pipeline.transformation_actions import (
    Action,
    AllowProperties,
    ComputeProperty,
    HashValues,
    MoveProperties,
    RenameEvent,
    SetValues,
)
from trunkline.spec.discards import INVALID_TRANSFORMATION, TRANSFORMATION_DROP, Discard
from trunkline.spec.limits import MAX_EVENT_BYTES
from trunkline.spec.transformations import Transformation

Condition = Callable[[Mapping[str, Any]], bool]

DROPPED: Final = Discard(TRANSFORMATION_DROP)
"""One for all events, so that dropping allocates nothing."""

MAX_TRANSFORMED_BYTES: Final = 4 * MAX_EVENT_BYTES
"""What an event may grow to. Copies of copies would double it with every transformation."""

_TOO_DEEP: Final = Discard(INVALID_TRANSFORMATION, "objects inside each other, too many to be read")
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Step:
    """One transformation."""

    __slots__ = ("_actions", "bounds", "condition", "drops", "number", "title")

    def __init__(self, number: int, item: Transformation) -> None:
        """Raises ValueError for one that can't be compiled."""
        query = parse_fql(item.condition)
        self.number = number
        self.title = item.slug
        self.condition: Condition = compile_fql(query)
        self.bounds: Constants = constants(query)
        self.drops = item.drop
        self._actions: list[Action] = [] if item.drop else list(_actions(item))

    def rewrite(self, event: Mapping[str, Any], body: bytes) -> bytes:
        """The event after it; the same ``body`` if nothing was changed."""
        draft = Draft(body)
        for action in self._actions:
            action(event, draft)
        return draft.encode()


def _actions(item: Transformation) -> Iterable[Action]:
    """In the order in which they apply."""
    if item.fql_properties and (item.new_event_name or item.renames or item.values):
        raise ValueError("a computed property can't stand beside new names and set values")
    if item.new_event_name:
        yield RenameEvent(item.new_event_name)
    if item.renames:
        yield MoveProperties(item.renames)
    if item.values:
        yield SetValues(item.values)
    for path, fql in item.fql_properties:
        yield ComputeProperty(path, fql)
    if item.allow_properties:
        yield AllowProperties(item.allow_properties)
    if item.hash is not None:
        yield HashValues(item.hash)


class TransformStage:
    """The transformations of one source, or those of one source for one destination."""

    __slots__ = ("_by_kind", "_known_names", "_known_types", "_loose_types", "_names", "_refusal", "_steps", "_types")

    def __init__(self, items: Iterable[Transformation]) -> None:
        self._refusal: Discard | None = None
        self._steps: list[_Step] = []
        for item in items:
            if not item.enabled:
                continue
            try:
                self._steps.append(_Step(len(self._steps), item))
            except (FqlError, ValueError, TypeError, OverflowError, RecursionError) as error:
                self._refusal = self._refusal or Discard(INVALID_TRANSFORMATION, f"{item.slug}: {error}")
        self._index([step.bounds for step in self._steps])

    def _index(self, bounds: Sequence[Constants]) -> None:
        """``_types``: all events of these types may be touched; None: all events. ``_names``: track events of these
        names. ``_loose_types``: events of these types may hold a field ``event`` that ``may_touch`` does not see."""
        open_types = [item.types for item in bounds if item.events is None]
        bound_types = [item.types for item in bounds if item.events]
        self._types = None if self._refusal or None in open_types else _union(open_types)
        self._loose_types = None if None in bound_types else _union(bound_types)
        of_track = [item.events for item in bounds if item.types is None or "track" in item.types]
        self._names = _union(of_track)
        self._known_types = _union(item.types for item in bounds)
        self._known_names = _union(item.events for item in bounds)
        self._by_kind: dict[tuple[str | None, str | None], tuple[_Step, ...]] = {}

    def may_touch(self, type: str, name: str) -> bool:
        """Whether an event may be changed or discarded. Cheap; wrong only by saying yes.

        ``type`` and ``name`` as :class:`trunkline.log.records.LoggedEvent` has them.
        """
        if self._types is None or type in self._types:
            return True
        if type == "track":
            return name in self._names
        return self._loose_types is None or type in self._loose_types

    def _of_kind(self, kind: str | None, name: str | None) -> tuple[_Step, ...]:
        """Those that events of this type and name can meet; None is whatever no condition names."""
        return tuple(
            step
            for step in self._steps
            if (step.bounds.types is None or kind in step.bounds.types)
            and (step.bounds.events is None or name in step.bounds.events)
        )

    def verdict(self, event: Mapping[str, Any], body: bytes) -> bytes | Discard:
        """What goes on, or why nothing does.

        ``event`` is ``body`` decoded; neither is changed. An event that no transformation changes comes back as the
        same ``body``. Raises msgspec.MsgspecError if ``body`` is not the event's JSON.
        """
        if self._refusal is not None:
            return self._refusal
        next_number = 0
        while (step := self._next(event, next_number)) is not None:
            if step.drops:
                return DROPPED
            next_number = step.number + 1
            try:
                changed = step.rewrite(event, body)
                if changed is body:
                    continue
                if len(changed) > MAX_TRANSFORMED_BYTES and len(changed) > len(body):
                    reason = f"{step.title}: the event would have {len(changed):,} bytes"
                    return Discard(INVALID_TRANSFORMATION, f"{reason}; {MAX_TRANSFORMED_BYTES:,} are the most")
                body = changed
                if next_number == len(self._steps):
                    break
                event = _decode(body)
            except RecursionError:
                return _TOO_DEEP
        return body

    def _next(self, event: Mapping[str, Any], number: int) -> _Step | None:
        """The first transformation from this one on whose condition the event meets."""
        kind, name = event.get("type"), event.get("event")
        known_type = kind if type(kind) is str and kind in self._known_types else None
        known_name = name if type(name) is str and name in self._known_names else None
        found = self._by_kind.get((known_type, known_name))
        if found is None:
            found = self._by_kind[known_type, known_name] = self._of_kind(known_type, known_name)
        for step in found:
            if step.number >= number and step.condition(event):
                return step
        return None


def _union(sets: Iterable[frozenset[str] | None]) -> frozenset[str]:
    return frozenset().union(*(item for item in sets if item))


def compile_transformations(items: Sequence[Transformation]) -> TransformStage:
    """``items``: those of one source, or of one source for one destination, in order. Never raises: what can't be
    compiled lets nothing pass."""
    return TransformStage(items)
