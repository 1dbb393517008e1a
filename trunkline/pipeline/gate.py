"""What decides between accepting an event and sending it to one destination (``spec/event_path.md`` §0, steps 8 to
11): consent, the event's ``integrations``, the integration filters of its source, whether the destination has the event
already, whether it takes such events at all; then the destination's filters and its transformations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

import msgspec

from trunkline.fql.constants import NEVER, Constants
from trunkline.pipeline import consent
from trunkline.pipeline.client_side import may_be_client_side, sent_client_side
from trunkline.pipeline.destination_filters import CompiledFilters, compile_filters
from trunkline.pipeline.integration_filters import IntegrationFiltersOf
from trunkline.pipeline.integrations import IntegrationsOf, may_say_something, name_one_of, say_something
from trunkline.pipeline.transformations import TransformStage, compile_transformations
from trunkline.spec.capabilities import METHODS, SOURCE_KINDS
from trunkline.spec.discards import (
    FILTERED_BY_END_USER_CONSENT,
    FILTERED_BY_INTEGRATION_FILTER,
    FILTERED_BY_INTEGRATIONS_OBJECT,
    MESSAGE_SENT_CLIENT_SIDE,
    UNSUPPORTED_EVENT_TYPE,
    Discard,
)
from trunkline.spec.filters import Filter
from trunkline.spec.schema_filters import IntegrationFilter
from trunkline.spec.transformations import Transformation

NO_CONSENT: Final = Discard(FILTERED_BY_END_USER_CONSENT)
TURNED_OFF: Final = Discard(FILTERED_BY_INTEGRATIONS_OBJECT)
KEPT_BACK: Final = Discard(FILTERED_BY_INTEGRATION_FILTER)
SENT_ALREADY: Final = Discard(MESSAGE_SENT_CLIENT_SIDE)
UNSUPPORTED: Final = Discard(UNSUPPORTED_EVENT_TYPE)

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


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


class GatedType(Protocol):
    """What is needed of a destination's type: whether it is a storage, which passes everything; the calls that it
    takes; the kinds of sources that it works with."""

    @property
    def storage(self) -> bool: ...
    @property
    def methods(self) -> frozenset[str]: ...
    @property
    def source_kinds(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Takes:
    """A type that says nothing but this."""

    storage: bool = False
    methods: frozenset[str] = METHODS
    source_kinds: frozenset[str] = SOURCE_KINDS


TAKES_EVERYTHING: Final = Takes()


class GateStage:
    """The gate of one destination for the events of one source."""

    __slots__ = (
        "_categories",
        "_filters",
        "_integration_filters",
        "_integrations",
        "_is_replay",
        "_slug",
        "_storage",
        "_transformations",
        "bounds",
        "methods",
        "needs_event",
        "touches_some",
    )

    def __init__(
        self,
        slug: str,
        categories: Sequence[str],
        integrations: IntegrationsOf,
        integration_filters: IntegrationFiltersOf,
        methods: frozenset[str],
        filters: CompiledFilters,
        transformations: TransformStage | None,
        *,
        storage: bool,
        is_replay: bool,
    ) -> None:
        self._slug = slug
        self._categories = categories
        self._integrations = integrations
        self._integration_filters = integration_filters
        self._filters = filters
        self._transformations = transformations
        self._storage = storage
        self._is_replay = is_replay
        self.methods = None if storage or methods >= METHODS else methods
        """The types of events that the destination takes; None: all. No other event passes."""
        self.bounds = _bounds(filters.constants, self.methods)
        """What ``type`` and ``event`` must be for an event to pass."""
        self.needs_event = not storage and bool(categories or not filters.is_pure_pass)
        """Whether every event of a type that the destination takes must be decoded."""
        self.touches_some = not storage and (bool(integration_filters) or transformations is not None)
        """Whether :meth:`may_touch` can be true."""

    def may_touch(self, type: str, name: str) -> bool:
        """Whether events of this type and name must be decoded even where ``needs_event`` is false, though they say
        nothing themselves about where they go. Cheap; wrong only by saying yes."""
        if self._storage:
            return False
        if self._integration_filters and self._integration_filters.keep_back(type, name):
            return True
        return self._transformations is not None and self._transformations.may_touch(type, name)

    def needs(self, type: str, name: str, body: bytes) -> bool:
        """Whether this event must be decoded; if not, it passes as it is."""
        if self._storage:
            return False
        return (
            self.needs_event
            or (self.methods is not None and type not in self.methods)
            or self.may_touch(type, name)
            or may_say_where(body)
        )

    def passes(self, event: Mapping[str, Any], body: bytes) -> bytes | Discard:
        """What to send, or why nothing is sent.

        ``event`` is ``body`` decoded; neither is changed. What nothing touches comes back as the same ``body``. Raises
        msgspec.MsgspecError if ``body`` is not the event's JSON.
        """
        if self._storage:
            return body
        integrations = event.get("integrations")
        if self._categories and consent.decide(event.get("context"), say_something(integrations), self._categories):
            return NO_CONSENT
        if integrations and self._integrations.allow(integrations):
            return TURNED_OFF
        if self._integration_filters and self._keeps_back(event, integrations):
            return KEPT_BACK
        metadata = event.get("_metadata")
        if metadata and sent_client_side(metadata, self._slug, self._integrations.names):
            return SENT_ALREADY
        if self.methods is not None and event.get("type") not in self.methods:
            return UNSUPPORTED
        verdict = self._filters.verdict(event, body)
        if self._transformations is None or isinstance(verdict, Discard):
            return verdict
        return self._transformations.verdict(event if verdict is body else _decode(verdict), verdict)

    def _keeps_back(self, event: Mapping[str, Any], integrations: Any) -> bool:
        kind, name = event.get("type"), event.get("event")
        if not self._integration_filters.keep_back(str(kind), name if isinstance(name, str) else ""):
            return False
        # What a replay says about its destination it has said itself: the event's own words are lost.
        return self._is_replay or not name_one_of(integrations, self._integrations.names)


def _bounds(constants: Constants, methods: frozenset[str] | None) -> Constants:
    if methods is None:
        return constants
    types = methods if constants.types is None else methods & constants.types
    return Constants(types, constants.events) if types else NEVER


def compile_gate(
    destination: GatedDestination,
    source: str,
    known_categories: frozenset[str],
    random: Random,
    *,
    kind: GatedType = TAKES_EVERYTHING,
    type_names: Sequence[str] = (),
    source_kind: str | None = None,
    integration_filters: Iterable[IntegrationFilter] = (),
    transformations: Sequence[Transformation] = (),
    is_replay: bool = False,
) -> GateStage:
    """Compiled once for each snapshot.

    ``known_categories``: the workspace's. ``random``: for samples without a path. ``kind``: the destination's type.
    ``type_names``: what else events call destinations of this type, such as ``Amplitude (Actions)``. ``source_kind``:
    of the source, None if it is not known. ``integration_filters``: the source's. ``transformations``: those of the
    destination for the source. ``is_replay``: the events' ``integrations`` come from a replay.
    """
    storage = kind.storage
    works = source_kind is None or source_kind in kind.source_kinds
    return GateStage(
        destination.slug,
        () if storage else consent.mapped_categories(destination.consent_categories, known_categories),
        IntegrationsOf((destination.slug, destination.name, *type_names, destination.type)),
        IntegrationFiltersOf(() if storage else integration_filters, destination.slug),
        kind.methods if works else frozenset(),
        compile_filters(() if storage else destination.filters, source, random),
        compile_transformations(transformations) if transformations and not storage else None,
        storage=storage,
        is_replay=is_replay,
    )
