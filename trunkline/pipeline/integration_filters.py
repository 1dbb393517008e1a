"""Integration filters, compiled: which events a source's schema keeps from one destination
(``spec/event_path.md`` §9).

They say the default: what the event's own ``integrations`` say about the destination goes before them.
"""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.spec.schema_filters import IntegrationFilter


class IntegrationFiltersOf:
    """Those of one source that keep events from one destination."""

    __slots__ = ("_names", "_types")

    def __init__(self, filters: Iterable[IntegrationFilter], destination: str) -> None:
        own = [item for item in filters if destination in item.destinations]
        self._names = frozenset(item.event for item in own if item.type == "track" and item.event)
        self._types = frozenset(item.type for item in own if item.type != "track" or not item.event)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._names or self._types)

    def keep_back(self, type: str, name: str) -> bool:
        """Whether events of this type are kept back, or track events of this name."""
        return type in self._types or (type == "track" and name in self._names)
