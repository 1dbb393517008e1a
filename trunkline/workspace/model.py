"""The immutable snapshot of a workspace that every process works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from trunkline.spec.capabilities import APP_TYPES, PAGE_TYPES
from trunkline.spec.filters import Filter
from trunkline.spec.plans import SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import SchemaFilters
from trunkline.spec.transformations import Transformation

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLIENT_SIDE_TYPES = PAGE_TYPES | APP_TYPES | {"pixel"}
"""Types of sources whose events come from a user's own device: only these get the caller's address and user
agent filled in (``spec/event_path.md`` §1.7)."""


BROWSER_TYPES = frozenset({"javascript", "website"})
"""Types of sources whose pages load analytics.js from the CDN."""


@dataclass(frozen=True)
class Source:
    """Where events come from. ``slug`` is its identity."""

    slug: str
    name: str
    type: str
    write_keys: tuple[str, ...]
    enabled: bool = True
    schema_filters: SchemaFilters = field(default_factory=SchemaFilters)
    schema_configuration: SchemaConfiguration | None = None
    """What it does by its tracking plan; None: as the plan says."""

    @property
    def client_side(self) -> bool:
        return self.type in CLIENT_SIDE_TYPES


@dataclass(frozen=True)
class DeliveryOptions:
    """What one destination wants otherwise than the process settings and the type say. None: as they say.

    ``retry_window_s`` and ``retry_attempts`` bound the retries, ``max_event_age_s`` is the age (from receivedAt) above
    which the destination refuses an event: a replay warns of it.
    """

    concurrency: int | None = None
    timeout_s: float | None = None
    requests_per_s: float | None = None
    events_per_s: float | None = None
    retry_window_s: float | None = None
    retry_attempts: int | None = None
    max_event_age_s: float | None = None


@dataclass(frozen=True)
class Destination:
    """Where events go. ``slug`` is its identity; ``settings`` hold resolved secrets, never print them."""

    slug: str
    name: str
    type: str
    sources: tuple[str, ...]
    enabled: bool
    settings: Mapping[str, Any] = field(repr=False)
    delivery: DeliveryOptions = DeliveryOptions()
    filters: tuple[Filter, ...] = ()
    consent_categories: tuple[str, ...] = ()
    """The event's consent preferences must be true for each of them."""


@dataclass(frozen=True)
class EgressProxy:
    """An HTTP proxy that all outgoing requests pass. ``url`` is ``http://host:port``; the rest are resolved secrets."""

    url: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class EgressRules:
    """What outgoing requests may reach, and how they leave.

    ``allow_private`` are networks that may be reached although they are not public, ``allow_ports`` ports that are
    otherwise refused because other protocols own them. ``source_address`` holds at most one IPv4 and one IPv6 address
    of this machine; without any the system chooses.
    """

    allow_private: tuple[Network, ...] = ()
    allow_ports: tuple[int, ...] = ()
    https_only: bool = False
    source_address: tuple[Address, ...] = ()
    proxy: EgressProxy | None = None


@dataclass(frozen=True)
class Reference:
    """A value that was kept outside of the workspace's file, so that an export can leave it outside again.

    ``path``: kind, slug, key and further steps, list indexes as text, such as
    ``("destinations", "hook", "settings", "headers", "Authorization")``. ``kind``: ``env`` or ``file``.
    """

    path: tuple[str, ...]
    kind: str
    target: str


@dataclass(frozen=True)
class Snapshot:
    """A workspace as it stood at one moment. ``version`` is a hash of its content."""

    version: str
    slug: str
    name: str
    sources: Mapping[str, Source]
    destinations: Mapping[str, Destination]
    egress: EgressRules = EgressRules()
    references: tuple[Reference, ...] = field(default=(), compare=False)
    """Where values came from; no part of the content, nor of ``version``."""
    tracking_plans: Mapping[str, TrackingPlan] = field(default_factory=dict)
    transformations: tuple[Transformation, ...] = ()
    """In the order in which they are applied."""

    @property
    def allow_private(self) -> tuple[Network, ...]:
        return self.egress.allow_private

    @property
    def has_browser_source(self) -> bool:
        """Whether a page may ask for Segment's browser SDK."""
        return any(source.type in BROWSER_TYPES and source.enabled for source in self.sources.values())

    @cached_property
    def consent_categories(self) -> frozenset[str]:
        """The categories that the workspace knows: those of its destinations."""
        return frozenset(category for item in self.destinations.values() for category in item.consent_categories)

    @cached_property
    def plan_by_source(self) -> Mapping[str, TrackingPlan]:
        """A source has one plan at most."""
        return {source: plan for plan in self.tracking_plans.values() for source in plan.sources}

    def schema_configuration_of(self, source: str) -> SchemaConfiguration:
        """What the source does by its plan. Allows all where there is no plan."""
        own = self.sources[source].schema_configuration if source in self.sources else None
        plan = self.plan_by_source.get(source)
        return own or (plan.enforce if plan else SchemaConfiguration())

    def transformations_of(self, source: str, destination: str = "") -> tuple[Transformation, ...]:
        """Those that apply, in order: the source's own, or with a destination that one's."""
        return tuple(
            item
            for item in self.transformations
            if item.enabled and item.source == source and item.destination == destination
        )

    @cached_property
    def by_write_key(self) -> Mapping[str, Source]:
        """The source of each write key, disabled sources included."""
        return {key: source for source in self.sources.values() for key in source.write_keys}
