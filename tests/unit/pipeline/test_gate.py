"""Consent, integrations and filters together: their order, and what need not be decoded."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import events, values
from trunkline.pipeline.gate import NO_CONSENT, TURNED_OFF, GateStage, Takes, compile_gate, may_say_where
from trunkline.spec import discards
from trunkline.spec.delivery_codes import DELIVERY_CODES
from trunkline.spec.discards import Discard
from trunkline.spec.filters import Filter
from trunkline.workspace.model import Destination

KNOWN = frozenset({"ad"})
DROP = Filter('type = "track"', "drop")
HIDE = Filter("all", "drop_properties", fields={"": ("userId", "a", "b")})


def gate(*filters: Filter, categories: tuple[str, ...] = (), storage: bool = False, **more: Any) -> GateStage:
    destination = Destination(
        "hook", "The hook", "webhook", ("web",), True, {}, filters=filters, consent_categories=categories
    )
    return compile_gate(destination, "web", KNOWN, Random(0), kind=Takes(storage=storage), **more)


def reason_of(stage: GateStage, event: dict[str, Any]) -> str | None:
    found = stage.passes(event, msgspec.json.encode(event))
    return found.reason if isinstance(found, Discard) else None


REFUSED = {"consent": {"categoryPreferences": {"ad": False}}}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "track", "context": REFUSED, "integrations": {"hook": False}}, "FILTERED_BY_END_USER_CONSENT"),
        ({"type": "track", "integrations": {"hook": False}}, "FILTERED_BY_INTEGRATIONS_OBJECT"),
        (
            {"type": "track", "integrations": {"hook": False}, "_metadata": {"bundledIds": ["hook"]}},
            "FILTERED_BY_INTEGRATIONS_OBJECT",
        ),
        ({"type": "track", "_metadata": {"bundled": ["The hook"]}}, "MESSAGE_SENT_CLIENT_SIDE"),
        ({"type": "track", "integrations": {"hook": True}}, "FILTERED_BY_RULES"),
        ({"type": "page", "integrations": {"hook": True}, "context": {}}, None),
    ],
)
def test_consent_comes_before_integrations_and_these_before_filters(event: dict[str, Any], reason: str | None) -> None:
    assert reason_of(gate(DROP, categories=("ad",)), event) == reason


def test_every_reason_has_a_text_of_its_own() -> None:
    reasons = {value for name, value in vars(discards).items() if name.isupper() and isinstance(value, str)}
    assert len(reasons) >= 5
    assert reasons <= set(DELIVERY_CODES)


def test_discards_are_the_same_object_each_time() -> None:
    stage = gate(DROP, categories=("ad",))
    assert stage.passes({"context": REFUSED}, b"{}") is NO_CONSENT
    assert stage.passes({"integrations": {"All": False}}, b"{}") is TURNED_OFF


def test_an_empty_consent_object_counts_by_what_integrations_say() -> None:
    stage = gate(categories=("ad",))
    assert reason_of(stage, {"context": {"consent": {}}}) is None
    assert reason_of(stage, {"context": {"consent": {}}, "integrations": {}}) is None
    assert reason_of(stage, {"context": {"consent": {}}, "integrations": {"x": 1}}) == "FILTERED_BY_END_USER_CONSENT"


def test_only_what_must_be_decoded_is() -> None:
    plain, empty = b'{"type":"track"}', b'{"type":"track","integrations":{}}'
    routed = b'{"type":"track","integrations":{"All":false}}'
    bundled = b'{"type":"track","_metadata":{"bundled":["Segment.io","hook"]}}'
    assert not gate().needs_event
    assert [gate().needs("track", "", body) for body in (plain, empty, routed, bundled)] == [False, False, True, True]
    assert [may_say_where(body) for body in (plain, empty, routed, bundled)] == [False, False, True, True]
    assert gate(Filter("all", "drop", enabled=False)).needs_event is False
    assert gate(categories=("unknown",)).needs_event is False
    for stage in (gate(DROP), gate(categories=("ad",))):
        assert stage.needs_event
        assert stage.needs("track", "", plain)


def test_storage_takes_everything() -> None:
    stage = gate(DROP, categories=("ad",), storage=True)
    body = msgspec.json.encode({"type": "track", "context": REFUSED, "integrations": {"All": False}})
    assert not stage.needs_event
    assert not stage.needs("page", "", body)
    assert stage.passes(msgspec.json.decode(body), body) is body


@pytest.mark.parametrize("name", ["hook", "The hook", "webhook", "Webhooks (Actions)"])
def test_a_destination_answers_to_all_of_its_names(name: str) -> None:
    stage = gate(type_names=("Webhooks (Actions)",))
    assert reason_of(stage, {"integrations": {name: False}}) == "FILTERED_BY_INTEGRATIONS_OBJECT"
    assert reason_of(stage, {"integrations": {"All": False, name: True}}) is None


contexts = st.none() | st.builds(
    lambda consent: {"consent": consent}, values | st.just({"categoryPreferences": {"ad": 1}})
)
integrations = st.none() | st.dictionaries(st.sampled_from(["All", "hook", "x"]), values, max_size=3)


metadata = st.none() | st.dictionaries(
    st.sampled_from(["bundled", "bundledIds", "x"]), st.lists(st.just("hook")) | values
)


@given(events, contexts, integrations, metadata, st.lists(st.sampled_from([DROP, HIDE]), max_size=2), st.booleans())
def test_the_input_is_never_changed_and_what_need_not_be_decoded_passes(
    event: dict[str, Any], context: Any, integrations: Any, metadata: Any, filters: list[Filter], is_mapped: bool
) -> None:
    event = {"type": "page", **event, "context": context, "integrations": integrations, "_metadata": metadata}
    stage = gate(*filters, categories=("ad",) if is_mapped else ())
    body, before = msgspec.json.encode(event), copy.deepcopy(event)
    result = stage.passes(event, body)
    assert event == before
    if not stage.needs("page", "", body):
        assert result is body
