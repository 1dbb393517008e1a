"""What decides between accepting an event and sending it to one destination: consent, then ``integrations``, then
whether the destination has the event already, then filters (``spec/event_path.md`` §0, steps 8 and 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol

from trunkline.pipeline import consent
from trunkline.pipeline.client_side import may_be_client_side, sent_client_side
from trunkline.pipeline.destination_filters import CompiledFilters, compile_filters
from trunkline.pipeline.integrations import IntegrationsOf, may_say_something, say_something
from trunkline.spec.discards import (
    FILTERED_BY_END_USER_CONSENT,
    FILTERED_BY_INTEGRATIONS_OBJECT,
    MESSAGE_SENT_CLIENT_SIDE,
    Discard,
)
from trunkline.spec.filters import Filter

NO_CONSENT: Final = Discard(FILTERED_BY_END_USER_CONSENT)
TURNED_OFF: Final = Discard(FILTERED_BY_INTEGRATIONS_OBJECT)
SENT_ALREADY: Final = Discard(MESSAGE_SENT_CLIENT_SIDE)


def may_say_where(body: bytes) -> bool:
    """Whether the encoded event itself may say which destinations it goes to. Cheap, the same for all destinations, and
    wrong only by saying yes. Holds for the bytes of the logs and the archive."""
    return may_say_something(body) or may_be_client_side(body)


class GatedDestination(Protocol):
    """What is needed of a destination."""

    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def filters(self) -> Sequence[Filter]: ...
    @property
    def consent_categories(self) -> Sequence[str]: ...


class GateStage:
    """The gate of one destination for the events of one source."""

    __slots__ = ("_categories", "_integrations", "_slug", "_storage", "filters", "needs_event")

    def __init__(
        self,
        slug: str,
        categories: Sequence[str],
        integrations: IntegrationsOf,
        filters: CompiledFilters,
        *,
        storage: bool,
    ) -> None:
        self._slug = slug
        self._categories = categories
        self._integrations = integrations
        self._storage = storage
        self.filters = filters
        self.needs_event = not storage and bool(categories or not filters.is_pure_pass)
        """Whether every event must be decoded; where it need not, those must for which :func:`may_say_where`."""

    def needs(self, body: bytes) -> bool:
        """Whether this event must be decoded; if not, it passes as it is."""
        return self.needs_event or (not self._storage and may_say_where(body))

    def passes(self, event: Mapping[str, Any], body: bytes) -> bytes | Discard:
        """What to send, or why nothing is sent. As :meth:`CompiledFilters.verdict`."""
        if self._storage:
            return body
        integrations = event.get("integrations")
        if self._categories and consent.decide(event.get("context"), say_something(integrations), self._categories):
            return NO_CONSENT
        if integrations and self._integrations.allow(integrations):
            return TURNED_OFF
        metadata = event.get("_metadata")
        if metadata and sent_client_side(metadata, self._slug, self._integrations.names):
            return SENT_ALREADY
        return self.filters.verdict(event, body)


def compile_gate(
    destination: GatedDestination,
    source: str,
    known_categories: frozenset[str],
    random: Random,
    *,
    storage: bool = False,
    type_names: Sequence[str] = (),
) -> GateStage:
    """Compiled once for each snapshot.

    ``known_categories``: the workspace's. ``random``: for samples without a path. ``storage``: warehouses and the
    like pass everything. ``type_names``: what else events call destinations of this type, such as
    ``Amplitude (Actions)``.
    """
    return GateStage(
        destination.slug,
        () if storage else consent.mapped_categories(destination.consent_categories, known_categories),
        IntegrationsOf((destination.slug, destination.name, *type_names, destination.type)),
        compile_filters(() if storage else destination.filters, source, random),
        storage=storage,
    )
