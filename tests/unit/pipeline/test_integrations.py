"""The ``integrations`` of an event, row by row."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import values
from trunkline.pipeline.integrations import IntegrationsOf, integrations_allow, may_say_something, say_something
from trunkline.spec.discards import FILTERED_BY_INTEGRATIONS_OBJECT

NAMES = ("hook", "The hook", "webhook")
"""Slug, name, type."""


@pytest.mark.parametrize(
    ("integrations", "is_sent"),
    [
        (None, True),
        ({}, True),
        ({"All": True}, True),
        ({"All": False}, False),
        ({"All": None}, True),
        ({"All": 0}, True),
        ({"All": {}}, True),
        ({"all": False}, True),
        ({"hook": True}, True),
        ({"hook": False}, False),
        ({"The hook": False}, False),
        ({"webhook": False}, False),
        ({"Hook": False}, True),
        ({"the hook": False}, True),
        ({"other": False}, True),
        ({"other": True}, True),
        ({"All": False, "hook": True}, True),
        ({"All": False, "The hook": True}, True),
        ({"All": False, "webhook": True}, True),
        ({"All": False, "other": True}, False),
        ({"All": False, "Hook": True}, False),
        ({"All": True, "hook": False}, False),
        ({"hook": {}}, True),
        ({"All": False, "hook": {}}, True),
        ({"All": False, "hook": {"session_id": 1}}, True),
        ({"All": False, "hook": []}, True),
        ({"All": False, "hook": "yes"}, True),
        ({"All": False, "hook": 1}, True),
        ({"hook": 0}, False),
        ({"hook": ""}, False),
        ({"hook": None}, True),
        ({"All": False, "hook": None}, False),
        ({"hook": True, "webhook": False}, True),
        ({"hook": False, "webhook": True}, False),
        ({"hook": None, "webhook": False}, False),
        ({"Segment.io": False}, True),
        ([], True),
        (["hook"], True),
        ("hook", True),
        (False, True),
        (0, True),
    ],
)
def test_the_table(integrations: Any, is_sent: bool) -> None:
    expected = None if is_sent else FILTERED_BY_INTEGRATIONS_OBJECT
    assert integrations_allow(integrations, NAMES) == expected
    assert IntegrationsOf(NAMES).allow(integrations) == expected


def test_a_destination_that_is_called_all_is_not_mistaken_for_every_destination() -> None:
    assert IntegrationsOf(("all-events", "All", "webhook", "", "webhook")).names == ("all-events", "webhook")
    assert IntegrationsOf(("all-events", "All", "webhook")).allow({"All": 0}) is None


@given(st.dictionaries(st.sampled_from(["All", *NAMES, "other"]), values, max_size=4))
def test_nothing_is_changed_and_names_of_others_make_no_difference(integrations: dict[str, Any]) -> None:
    before = copy.deepcopy(integrations)
    found = integrations_allow(integrations, NAMES)
    assert integrations == before
    without = {key: value for key, value in integrations.items() if key != "other"}
    assert integrations_allow(without, NAMES) == found


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (b'{"type":"track"}', False),
        (b'{"type":"track","integrations":{}}', False),
        (b'{"integrations":{"All":false}}', True),
        (b'{"integrations": {}}', True),
        (b'{"properties":{"integrations":{}},"integrations":{"All":false}}', True),
        (b'{"properties":{"integrations":{}},"integrations":{}}', False),
        (b'{"integrations":null}', True),
    ],
)
def test_the_cheap_look_at_the_bytes(body: bytes, may: bool) -> None:
    assert may_say_something(body) == may


@given(values, values)
def test_the_cheap_look_never_misses_anything(integrations: Any, properties: Any) -> None:
    event = {"properties": {"integrations": properties, "x": "integrations"}, "integrations": integrations}
    if say_something(integrations):
        assert may_say_something(msgspec.json.encode(event))
