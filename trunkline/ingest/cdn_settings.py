"""What an SDK learns of its source before it sends anything (``spec/event_path.md`` §2.2).

Everybody who knows the write key may read it, and a page shows that to its visitors. So it holds what browsers and apps
need, and no more: names of destinations, rules of destinations that have filters, names of events only where some are
blocked or kept from a destination.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from trunkline.pipeline.routing_rules import routing_rule
from trunkline.spec.plans import BLOCK, COMMON, TRACK
from trunkline.spec.schema_filters import IntegrationFilter
from trunkline.workspace.model import Destination, Snapshot, Source

SEGMENT_DESTINATION: Final = "Segment.io"
"""The key under which an SDK finds the settings of its own delivery."""

_UNSPEAKABLE: Final = frozenset({SEGMENT_DESTINATION, "All"})
"""Names under which an SDK would turn off more than one destination: its own way to us, or everything."""

_DEFAULT: Final = "__default"

_encode: Final = msgspec.json.Encoder().encode


class SourceSettings:
    """The settings of each source. What depends on the snapshot alone is made once, in a thread: filters by the
    thousand take most of a second, in which ingest must answer others. For one event loop."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._fixed: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def encode(self, snapshot: Snapshot, source: Source, write_key: str, protocol: str, host: str) -> bytes:
        """The JSON document. ``host`` may be followed by a path.

        Every value is an object where Kotlin's SDK wants one. Telemetry of the SDK itself stays off: its sample rate
        is 0.
        """
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._fixed = {}
        making = self._fixed.get(source.slug)
        if making is None:
            making = self._fixed[source.slug] = asyncio.create_task(asyncio.to_thread(_fixed_parts, snapshot, source))
        fixed = await asyncio.shield(making)  # others may wait for the same when this request ends
        api_host = f"{host}/v1"
        return _encode(
            {
                "integrations": {
                    SEGMENT_DESTINATION: {
                        "apiKey": write_key,
                        "apiHost": api_host,
                        "protocol": protocol,
                        "retryQueue": True,
                        "addBundledMetadata": True,
                        "unbundledIntegrations": fixed["names"],
                        "bundledConfigIds": [],
                        "unbundledConfigIds": [],
                        "maybeBundledConfigIds": {},
                        "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
                    }
                },
                "plan": fixed["plan"],
                "edgeFunction": {},
                "analyticsNextEnabled": True,
                "middlewareSettings": fixed["middlewareSettings"],
                "enabledMiddleware": {},
                "metrics": {"sampleRate": 0, "host": api_host, "protocol": protocol},
                "legacyVideoPluginsEnabled": False,
                "remotePlugins": [],
            }
        )


def _fixed_parts(snapshot: Snapshot, source: Source) -> dict[str, Any]:
    connected = [
        destination
        for destination in snapshot.destinations.values()
        if destination.enabled and source.slug in destination.sources
    ]
    return {
        "names": sorted(destination.name for destination in connected),
        "plan": msgspec.Raw(_encode(source_plan(snapshot, source, connected))),
        "middlewareSettings": msgspec.Raw(_encode(middleware_settings(source, connected))),
    }


def middleware_settings(source: Source, connected: Iterable[Destination]) -> dict[str, Any]:
    """The destinations' filters, for what pages and apps send to them by themselves. Servers send nothing so."""
    if not source.client_side:
        return {}
    rules = [
        rule
        for destination in connected
        if destination.name not in _UNSPEAKABLE
        and (rule := routing_rule(destination.name, destination.filters, source.slug)) is not None
    ]
    return {"routingRules": rules} if rules else {}


def source_plan(snapshot: Snapshot, source: Source, connected: Iterable[Destination]) -> dict[str, Any]:
    """Which track events and traits are blocked, and which events are kept from which destinations. ``connected``: the
    enabled destinations of the source."""
    track: dict[str, dict[str, Any]] = {_DEFAULT: _entry(enabled=True)}
    traits: dict[str, dict[str, Any]] = {kind: {_DEFAULT: {"enabled": True}} for kind in ("identify", "group")}
    filters, plan = source.schema_filters, snapshot.plan_by_source.get(source.slug)
    if plan is None:
        track[_DEFAULT]["enabled"] = TRACK not in filters.blocked_types
        track.update({name: _entry(enabled=False) for name in filters.blocked_events if name != _DEFAULT})
        omitted = {"identify": filters.omitted_identify_traits, "group": filters.omitted_group_traits}
        for kind, keys in omitted.items():
            traits[kind].update({key: {"enabled": False} for key in keys if key != _DEFAULT})
    elif snapshot.schema_configuration_of(source.slug).unplanned_events == BLOCK:
        if any(rule.type != COMMON for rule in plan.rules):
            track[_DEFAULT]["enabled"] = False
        planned = [rule.event for rule in plan.rules if rule.type == TRACK and rule.event != _DEFAULT]
        track.update({name: _entry(enabled=True) for name in planned})
    _add_integrations(track, filters.integrations, list(connected))
    return {TRACK: track, **traits}


def _entry(*, enabled: bool) -> dict[str, Any]:
    return {"enabled": enabled, "integrations": {}}


def _add_integrations(
    track: dict[str, dict[str, Any]], filters: Iterable[IntegrationFilter], connected: list[Destination]
) -> None:
    own = [item for item in filters if item.type == TRACK and item.event != _DEFAULT]
    everywhere = {slug for item in own if not item.event for slug in item.destinations}
    for item in own:
        if item.event:
            track.setdefault(item.event, _entry(enabled=track[_DEFAULT]["enabled"]))
    of_event = {item.event: everywhere | set(item.destinations) for item in own if item.event}
    answering = _answering(connected)
    for event, entry in track.items():
        slugs = of_event.get(event, everywhere)
        # A browser writes what is off into the event, where it is off for all that answer to the name.
        names = {item.name for item in connected if item.slug in slugs and answering[item.name] <= slugs}
        entry["integrations"] = dict.fromkeys(sorted(names - _UNSPEAKABLE), False)


def _answering(connected: Iterable[Destination]) -> dict[str, set[str]]:
    """The slugs of those that answer to each name that an event may hold."""
    found: dict[str, set[str]] = {}
    for item in connected:
        for name in (item.slug, item.name, item.type):
            found.setdefault(name, set()).add(item.slug)
    return found
