"""What a source keeps from all destinations, or from one, by type and name (``spec/event_path.md`` §9)."""

from __future__ import annotations

from dataclasses import dataclass

BLOCKABLE_TYPES = ("track", "page", "screen")


@dataclass(frozen=True)
class IntegrationFilter:
    """Events of this type (and name, if it is a track event's) do not go to these destinations, by slug."""

    type: str
    event: str
    destinations: tuple[str, ...]


@dataclass(frozen=True)
class SchemaFilters:
    """``blocked_events``: names of track events. ``blocked_types``: all events of a type. ``omitted_traits``: keys of
    ``traits`` that identify and group calls lose."""

    blocked_events: tuple[str, ...] = ()
    blocked_types: tuple[str, ...] = ()
    omitted_identify_traits: tuple[str, ...] = ()
    omitted_group_traits: tuple[str, ...] = ()
    integrations: tuple[IntegrationFilter, ...] = ()
