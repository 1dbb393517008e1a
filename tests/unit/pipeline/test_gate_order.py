"""The gate row by row: consent, integrations and integration filters; and each step before the next."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import msgspec
import pytest

from trunkline.delivery.gates import gate_of
from trunkline.pipeline.gate import KEPT_BACK, UNSUPPORTED, GateStage, Takes, compile_gate
from trunkline.spec.capabilities import METHODS
from trunkline.spec.discards import Discard
from trunkline.spec.filters import Filter
from trunkline.spec.schema_filters import IntegrationFilter, SchemaFilters
from trunkline.spec.transformations import Transformation
from trunkline.workspace.model import Destination, Snapshot, Source

CONSENT, INTEGRATIONS = "FILTERED_BY_END_USER_CONSENT", "FILTERED_BY_INTEGRATIONS_OBJECT"
FILTER = "FILTERED_BY_INTEGRATION_FILTER"
KEPT = (IntegrationFilter("track", "Kept", ("hook",)), IntegrationFilter("group", "", ("hook", "other")))


def gate(
    *filters: Filter,
    categories: tuple[str, ...] = ("ad",),
    integration_filters: tuple[IntegrationFilter, ...] = KEPT,
    **more: Any,
) -> GateStage:
    destination = Destination(
        "hook", "The hook", "webhook", ("web",), True, {}, filters=filters, consent_categories=categories
    )
    return compile_gate(
        destination, "web", frozenset({"ad"}), Random(0), integration_filters=integration_filters, **more
    )


def outcome(stage: GateStage, event: dict[str, Any]) -> str | dict[str, Any]:
    body = msgspec.json.encode(event)
    found = stage.passes(event, body)
    if isinstance(found, Discard):
        return found.reason
    decoded: dict[str, Any] = msgspec.json.decode(found)
    return decoded


# (what the event's integrations say), then the reasons for an event that the integration filter means and for another
ROWS: list[tuple[Any, str | None, str | None]] = [
    (None, FILTER, None),
    ({}, FILTER, None),
    ({"All": True}, FILTER, None),
    ({"other": True}, FILTER, None),
    ({"other": False}, FILTER, None),
    ({"All": False}, INTEGRATIONS, INTEGRATIONS),
    ({"All": False, "other": True}, INTEGRATIONS, INTEGRATIONS),
    ({"hook": False}, INTEGRATIONS, INTEGRATIONS),
    ({"hook": 0}, INTEGRATIONS, INTEGRATIONS),
    ({"hook": None}, FILTER, None),
    ({"hook": None, "All": False}, INTEGRATIONS, INTEGRATIONS),
    ({"hook": True}, None, None),
    ({"hook": {}}, None, None),
    ({"hook": {"session": 1}}, None, None),
    ({"The hook": True}, None, None),
    ({"webhook": {"a": 1}}, None, None),
    ({"All": False, "hook": True}, None, None),
    ({"hook": True, "The hook": False}, None, None),
    ({"hook": False, "The hook": True}, INTEGRATIONS, INTEGRATIONS),
    ("hook", FILTER, None),
]
CONSENTS: list[tuple[dict[str, Any] | None, bool]] = [
    (None, True),
    ({"categoryPreferences": {"ad": True}}, True),
    ({"categoryPreferences": {"ad": False}}, False),
    ({"categoryPreferences": {}}, False),
]


@pytest.mark.parametrize(("integrations", "meant", "other"), ROWS)
@pytest.mark.parametrize(("consent", "given"), CONSENTS)
def test_every_row(
    integrations: Any, meant: str | None, other: str | None, consent: dict[str, Any] | None, given: bool
) -> None:
    rows: list[tuple[dict[str, Any], str | None]] = [
        ({"type": "track", "event": "Kept"}, meant),
        ({"type": "group"}, meant),
        ({"type": "group", "event": "Any"}, meant),
        ({"type": "track", "event": "Other"}, other),
        ({"type": "track", "event": "kept"}, other),
        ({"type": "page", "name": "Kept", "event": "Kept"}, other),
        ({"type": "identify"}, other),
    ]
    for event, reason in rows:
        if integrations is not None:
            event["integrations"] = integrations
        if consent is not None:
            event["context"] = {"consent": consent}
        assert outcome(gate(), event) == (CONSENT if not given else reason or event)


def test_a_filter_is_for_the_destinations_that_it_names() -> None:
    event = {"type": "track", "event": "Kept"}
    others = (IntegrationFilter("track", "Kept", ("The hook", "webhook", "hook2")),)
    assert outcome(gate(integration_filters=others), event) == event


def test_what_a_replay_says_of_its_destination_overrides_no_integration_filter() -> None:
    event = {"type": "track", "event": "Kept", "integrations": {"All": False, "The hook": True}}
    assert outcome(gate(), event) == event
    assert outcome(gate(is_replay=True), event) == FILTER
    assert outcome(gate(is_replay=True), {**event, "event": "Other"}) == {**event, "event": "Other"}


DROP = (Filter("all", "drop"),)
DROPPED = Transformation("t", "web", "all", drop=True)
ONLY_PAGES = Takes(methods=frozenset({"page"}))
SENT = {"_metadata": {"bundledIds": ["hook"]}}
REFUSED: dict[str, Any] = {"context": {"consent": {"categoryPreferences": {}}}}
OFF = {"integrations": {"hook": False}}

STEPS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # the reason, what the event has for it, what the gate has
    (CONSENT, REFUSED, {}),
    (INTEGRATIONS, OFF, {}),
    (FILTER, {"event": "Kept"}, {}),
    ("MESSAGE_SENT_CLIENT_SIDE", SENT, {}),
    ("UNSUPPORTED_EVENT_TYPE", {}, {"kind": ONLY_PAGES}),
    ("FILTERED_BY_RULES", {}, {"filters": DROP}),
    ("transformation_drop", {}, {"transformations": (DROPPED,)}),
]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(STEPS)), 2)))
def test_each_step_comes_before_those_below(first: int, second: int) -> None:
    """Swapped, the reason would be the other's."""
    event: dict[str, Any] = {"type": "track", "event": "E"}
    settings: dict[str, Any] = {}
    for reason, fields, options in (STEPS[first], STEPS[second]):
        alone = {"type": "track", "event": "E", **fields}
        filters = options.get("filters", ())
        rest = {key: value for key, value in options.items() if key != "filters"}
        assert outcome(gate(*filters, **rest), alone) == reason
        event.update(fields)
        settings.update(options)
    filters = settings.pop("filters", ())
    assert outcome(gate(*filters, **settings), event) == STEPS[first][0]


def test_transformations_see_what_filters_have_left() -> None:
    """Swapped, the filter's condition would see the new name, and the transformation the property."""
    hide = Filter('event = "Old"', "drop_properties", fields={"properties": ("email",)})
    rename = Transformation("t1", "web", 'event = "Old" and properties.email = null', new_event_name="New")
    stage = gate(hide, transformations=(rename,))
    event = {"type": "track", "event": "Old", "properties": {"email": "x", "n": 1}}
    assert outcome(stage, event) == {"type": "track", "event": "New", "properties": {"n": 1}}
    other = {"type": "track", "event": "Other", "properties": {"email": "x"}}
    body = msgspec.json.encode(other)
    assert stage.passes(other, body) is body


def test_a_transformation_that_cant_be_read_lets_nothing_pass() -> None:
    stage = gate(transformations=(Transformation("t", "web", "no fql at all"),))
    assert outcome(stage, {"type": "page"}) == "invalid_transformation"
    assert stage.needs("page", "", b'{"type":"page"}')


@pytest.mark.parametrize("kind", sorted(METHODS))
@pytest.mark.parametrize("methods", [frozenset({"track", "page"}), frozenset({"alias"}), METHODS, frozenset[str]()])
def test_a_destination_gets_the_calls_that_it_takes(kind: str, methods: frozenset[str]) -> None:
    stage = gate(kind=Takes(methods=methods), integration_filters=())
    event = {"type": kind}
    assert outcome(stage, event) == (event if kind in methods else "UNSUPPORTED_EVENT_TYPE")
    assert (stage.methods is None) == (methods == METHODS)
    open_stage = gate(kind=Takes(methods=methods), categories=(), integration_filters=())
    assert open_stage.needs(kind, "", b"{}") == (kind not in methods)


@pytest.mark.parametrize(("source_kind", "works"), [("browser", True), ("server", False), (None, True)])
def test_a_destination_gets_what_comes_from_kinds_of_sources_that_it_works_with(
    source_kind: str | None, works: bool
) -> None:
    stage = gate(kind=Takes(source_kinds=frozenset({"browser"})), source_kind=source_kind, integration_filters=())
    event = {"type": "track", "event": "E"}
    assert outcome(stage, event) == (event if works else "UNSUPPORTED_EVENT_TYPE")
    assert stage.bounds.is_never is not works


def test_bounds_are_those_of_filters_and_methods_together() -> None:
    only = Filter('type in ["track", "identify"] and event = "A"', "only_send")
    stage = gate(only, kind=Takes(methods=frozenset({"track", "page"})))
    assert (stage.bounds.types, stage.bounds.events) == (frozenset({"track"}), frozenset({"A"}))
    never = gate(Filter('type = "page"', "only_send"), kind=Takes(methods=frozenset({"track"})))
    assert never.bounds.is_never


def test_storage_takes_whatever_is_configured() -> None:
    everything = Takes(storage=True, methods=frozenset(), source_kinds=frozenset())
    stage = gate(*DROP, kind=everything, source_kind="server", transformations=(DROPPED,))
    event = {"type": "track", "event": "Kept", **REFUSED, **OFF, **SENT}
    body = msgspec.json.encode(event)
    assert stage.passes(event, body) is body
    assert not stage.needs("track", "Kept", body)
    assert not stage.touches_some
    assert stage.methods is None


def test_discards_of_the_commonest_kinds_are_the_same_object_each_time() -> None:
    assert gate().passes({"type": "group"}, b"") is KEPT_BACK
    assert gate(kind=ONLY_PAGES).passes({"type": "track"}, b"") is UNSUPPORTED


def test_a_gate_of_the_workspace_has_what_its_source_and_destination_say() -> None:
    hook = Destination("hook", "Hook", "webhook", ("web", "api"), True, {})
    filters = SchemaFilters(integrations=KEPT)
    sources = {
        "web": Source("web", "Web", "javascript", ("k1",), schema_filters=filters),
        "api": Source("api", "API", "http", ("k2",)),
    }
    rename = Transformation("t1", "web", "all", destination="hook", new_event_name="New")
    of_source = Transformation("t2", "web", "all", drop=True)
    off = Transformation("t3", "api", "all", destination="hook", drop=True, enabled=False)
    snapshot = Snapshot("v", "a", "A", sources, {"hook": hook}, transformations=(rename, of_source, off))
    kind = Takes(methods=frozenset({"track", "group"}), source_kinds=frozenset({"browser"}))
    other, kept = {"type": "track", "event": "Other"}, {"type": "track", "event": "Kept"}
    web = gate_of(snapshot, hook, "web", Random(0), kind)
    assert outcome(web, other) == {"type": "track", "event": "New"}
    assert outcome(web, kept) == FILTER
    assert outcome(web, {"type": "page"}) == "UNSUPPORTED_EVENT_TYPE"
    assert outcome(gate_of(snapshot, hook, "api", Random(0), kind), other) == "UNSUPPORTED_EVENT_TYPE"
    assert outcome(gate_of(snapshot, hook, "api", Random(0)), other) == other
    gone = gate_of(snapshot, hook, "gone", Random(0), kind)
    assert outcome(gone, kept) == kept, (
        "nothing is known of a source that was deleted while its events were on their way"
    )
    explicit = {**kept, "integrations": {"Hook": True}}
    assert outcome(gate_of(snapshot, hook, "web", Random(0), is_replay=True), explicit) == FILTER
