"""Schema event filters: what is blocked, what is taken out, and that all else stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import is_part, values
from trunkline.pipeline.schema_filters import SchemaStage, compile_schema_filters
from trunkline.spec.discards import EVENT_SETTING, Discard
from trunkline.spec.schema_filters import BLOCKABLE_TYPES, IntegrationFilter, SchemaFilters


def compiled(filters: SchemaFilters) -> SchemaStage:
    stage = compile_schema_filters(filters, has_plan=False)
    assert stage is not None
    return stage


def outcome(filters: SchemaFilters, event: dict[str, Any]) -> str | dict[str, Any]:
    body = msgspec.json.encode(event)
    found = compiled(filters).verdict(event, body)
    if isinstance(found, Discard):
        return found.reason
    assert (found is body) == (msgspec.json.decode(found) == event)
    decoded: dict[str, Any] = msgspec.json.decode(found)
    return decoded


@pytest.mark.parametrize("blocked", BLOCKABLE_TYPES)
@pytest.mark.parametrize("kind", ["identify", "track", "page", "screen", "group", "alias"])
def test_a_blocked_type_is_blocked_whatever_its_name(blocked: str, kind: str) -> None:
    event = {"type": kind, "event": "Any", "name": "Any"}
    expected = EVENT_SETTING if kind == blocked else event
    assert outcome(SchemaFilters(blocked_types=(blocked,)), event) == expected


@pytest.mark.parametrize(
    ("event", "blocked"),
    [
        ({"type": "track", "event": "Heartbeat"}, True),
        ({"type": "track", "event": "heartbeat"}, False),
        ({"type": "track", "event": "Heartbeat "}, False),
        ({"type": "page", "name": "Heartbeat"}, False),
        ({"type": "page", "event": "Heartbeat"}, False),
        ({"type": "track", "event": ["Heartbeat"]}, False),
        ({"type": "track"}, False),
        ({"type": ["track"], "event": "Heartbeat"}, False),
    ],
)
def test_names_are_those_of_track_events_letter_by_letter(event: dict[str, Any], blocked: bool) -> None:
    found = outcome(SchemaFilters(blocked_events=("Heartbeat",)), event)
    assert found == (EVENT_SETTING if blocked else event)


OMITTING = SchemaFilters(omitted_identify_traits=("email", "a.b"), omitted_group_traits=("plan",))


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("identify", {"plan": 1, "a": {"b": 2}}),
        ("group", {"email": "x", "a": {"b": 2}, "a.b": 3}),
        ("track", {"email": "x", "plan": 1, "a": {"b": 2}, "a.b": 3}),
    ],
)
def test_a_trait_is_omitted_from_the_call_that_it_belongs_to(kind: str, left: dict[str, Any]) -> None:
    traits = {"email": "x", "plan": 1, "a": {"b": 2}, "a.b": 3}
    context = {"traits": {"email": "x", "plan": 1}}
    found = outcome(OMITTING, {"type": kind, "event": "E", "traits": traits, "context": context})
    assert found == {"type": kind, "event": "E", "traits": left, "context": context}


def test_what_is_not_omitted_keeps_its_spelling() -> None:
    body = b'{"type":"identify","traits":{"ltv":1.10,"email":"x","big":12345678901234567890123},"n":1e2}'
    assert compiled(OMITTING).verdict(msgspec.json.decode(body), body) == (
        b'{"type":"identify","traits":{"ltv":1.10,"big":12345678901234567890123},"n":1e2}'
    )


def test_nothing_is_compiled_where_nothing_is_to_be_done() -> None:
    assert compile_schema_filters(SchemaFilters(), has_plan=False) is None
    of_integrations = SchemaFilters(integrations=(IntegrationFilter("track", "A", ("hook",)),))
    assert compile_schema_filters(of_integrations, has_plan=False) is None


def test_a_source_with_a_tracking_plan_has_no_schema_event_filters() -> None:
    everything = SchemaFilters(("A",), BLOCKABLE_TYPES, ("email",), ("plan",))
    assert compile_schema_filters(everything, has_plan=True) is None


_NAMES = ("A", "B", "C")
_KEYS = ("a", "b", "c")
_few = st.lists(st.sampled_from(_KEYS), max_size=2).map(tuple)
_filters = st.builds(
    SchemaFilters,
    blocked_events=st.lists(st.sampled_from(_NAMES), max_size=2).map(tuple),
    blocked_types=st.lists(st.sampled_from(BLOCKABLE_TYPES), max_size=1).map(tuple),
    omitted_identify_traits=_few,
    omitted_group_traits=_few,
)
_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "page", "screen", "identify", "group", "alias"]),
        "event": st.sampled_from(_NAMES) | values,
        "traits": st.dictionaries(st.sampled_from(_KEYS), values, max_size=3) | values,
    }
)


@given(_filters, _events)
def test_nothing_is_added_or_changed_in_place_and_may_touch_is_never_wrong(
    filters: SchemaFilters, event: dict[str, Any]
) -> None:
    stage = compile_schema_filters(filters, has_plan=False)
    if stage is None:
        return
    before, body = copy.deepcopy(event), msgspec.json.encode(event)
    found = stage.verdict(event, body)
    assert event == before
    assert is_part({} if isinstance(found, Discard) else msgspec.json.decode(found), event)
    name = event["event"] if isinstance(event["event"], str) else ""
    assert found is body or stage.may_touch(event["type"], name)
