"""Schema event filters, compiled: what a source keeps from all destinations, warehouses too
(``spec/event_path.md`` §9).

They are for sources without a tracking plan: where there is a plan, it and its configuration have the say. Names and
keys are compared as they stand, letter by letter. Traits are those in ``traits`` of the call itself, not what other
calls carry in ``context.traits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trunkline.pipeline.fields import Reshape
from trunkline.spec.discards import EVENT_SETTING, Discard
from trunkline.spec.schema_filters import SchemaFilters

BLOCKED: Final = Discard(EVENT_SETTING)
"""One for all events, so that blocking allocates nothing."""

_TRAITS: Final = "traits"


class SchemaStage:
    """The schema event filters of one source."""

    __slots__ = ("_events", "_traits", "_types")

    def __init__(self, filters: SchemaFilters) -> None:
        self._types = frozenset(filters.blocked_types)
        self._events = frozenset(filters.blocked_events)
        self._traits = {
            kind: Reshape(_TRAITS, keys, keep=False)
            for kind, keys in (("identify", filters.omitted_identify_traits), ("group", filters.omitted_group_traits))
            if keys
        }

    @property
    def is_pure_pass(self) -> bool:
        """Whether every event passes as it is."""
        return not (self._types or self._events or self._traits)

    def may_touch(self, type: str, name: str) -> bool:
        """Whether events of this type and name may come out otherwise than they went in."""
        return type in self._types or type in self._traits or (type == "track" and name in self._events)

    def verdict(self, event: Mapping[str, Any], body: bytes) -> bytes | Discard:
        """What goes on, the same ``body`` if nothing is taken out of it, or that nothing does.

        ``event`` is ``body`` decoded; neither is changed.
        """
        kind = event.get("type")
        if not isinstance(kind, str):
            return body
        if kind in self._types:
            return BLOCKED
        if kind == "track" and self._events:
            name = event.get("event")
            return BLOCKED if isinstance(name, str) and name in self._events else body
        omission = self._traits.get(kind)
        return omission.rewrite(body) if omission is not None and omission.touches(event) else body


def compile_schema_filters(filters: SchemaFilters, *, has_plan: bool) -> SchemaStage | None:
    """Compiled once for each snapshot. None: nothing is to be done, as for every source with a tracking plan."""
    if has_plan:
        return None
    stage = SchemaStage(filters)
    return None if stage.is_pure_pass else stage
