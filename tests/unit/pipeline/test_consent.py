"""Consent: the table of Segment's documentation row by row, and what is not in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pipeline.json_events import values
from trunkline.pipeline.consent import consent_allows
from trunkline.pipeline.integrations import integrations_allow, say_something
from trunkline.spec.discards import FILTERED_BY_END_USER_CONSENT

MAPPED: dict[str, tuple[str, ...]] = {
    "facebook": ("ad",),
    "google-ads": ("ad",),
    "amplitude": ("analytics",),
    "unmapped": (),
}
BOTH = {**MAPPED, "facebook": ("ad", "analytics")}
NONE: dict[str, tuple[str, ...]] = dict.fromkeys(MAPPED, ())
EVERYWHERE = set(MAPPED)


def receivers(mapping: dict[str, tuple[str, ...]], context: Any, integrations: Any) -> set[str]:
    """The destinations that consent and ``integrations`` let through."""
    known = frozenset(category for categories in mapping.values() for category in categories)
    given_ = say_something(integrations)
    return {
        name
        for name, categories in mapping.items()
        if consent_allows(context, given_, categories, known) is None
        and integrations_allow(integrations, [name]) is None
    }


def preferences(**categories: Any) -> dict[str, Any]:
    return {"consent": {"categoryPreferences": categories}}


ON_OFF = {"facebook": True, "amplitude": False}


@pytest.mark.parametrize(
    ("mapping", "context", "integrations", "expected"),
    [
        pytest.param(MAPPED, None, None, EVERYWHERE, id="no context, no integrations"),
        pytest.param(MAPPED, {}, None, EVERYWHERE, id="not provided, not provided"),
        pytest.param(MAPPED, {}, {}, EVERYWHERE, id="not provided, empty"),
        pytest.param(MAPPED, {"consent": {}}, None, EVERYWHERE, id="empty consent, not provided"),
        pytest.param(MAPPED, {"consent": {}}, {}, EVERYWHERE, id="empty consent, empty"),
        pytest.param(MAPPED, preferences(), None, {"unmapped"}, id="empty preferences, not provided"),
        pytest.param(MAPPED, preferences(), {}, {"unmapped"}, id="empty preferences, empty"),
        pytest.param(MAPPED, {}, ON_OFF, {"facebook", "google-ads", "unmapped"}, id="not provided, given"),
        pytest.param(MAPPED, {"consent": {}}, ON_OFF, {"unmapped"}, id="empty consent, given"),
        pytest.param(MAPPED, preferences(), ON_OFF, {"unmapped"}, id="empty preferences, given"),
        pytest.param(NONE, preferences(ad=True, analytics=False), None, EVERYWHERE, id="no mapping at all"),
        pytest.param(NONE, preferences(ad=True, analytics=False), {}, EVERYWHERE, id="no mapping at all, empty"),
        pytest.param(
            NONE,
            preferences(ad=True, analytics=False),
            ON_OFF,
            {"facebook", "google-ads", "unmapped"},
            id="no mapping at all, given",
        ),
        pytest.param(
            MAPPED, preferences(ad=True, analytics=False), None, {"facebook", "google-ads", "unmapped"}, id="ad only"
        ),
        pytest.param(
            MAPPED,
            preferences(ad=True, analytics=False),
            ON_OFF,
            {"facebook", "google-ads", "unmapped"},
            id="ad, given",
        ),
        pytest.param(
            MAPPED,
            preferences(ad=True, analytics=False),
            {"facebook": False, "amplitude": False},
            {"google-ads", "unmapped"},
            id="ad, both off",
        ),
        pytest.param(
            BOTH,
            preferences(ad=True, analytics=False),
            ON_OFF,
            {"google-ads", "unmapped"},
            id="two categories, one true",
        ),
        pytest.param(
            BOTH,
            preferences(ad=True, analytics=True),
            ON_OFF,
            {"facebook", "google-ads", "unmapped"},
            id="two categories, both true",
        ),
        pytest.param(BOTH, preferences(ad=False, analytics=True), ON_OFF, {"unmapped"}, id="two categories, the other"),
        pytest.param(MAPPED, preferences(advertising=True), None, {"unmapped"}, id="a category that only the CMP has"),
        pytest.param(MAPPED, preferences(ad=True), None, {"facebook", "google-ads", "unmapped"}, id="one is missing"),
        pytest.param(
            MAPPED,
            preferences(ad=True, analytics=False),
            {"amplitude": True},
            EVERYWHERE - {"amplitude"},
            id="no override",
        ),
        pytest.param(
            MAPPED, preferences(ad=True, analytics=True), {"All": False}, set(), id="consent overrides nothing"
        ),
    ],
)
def test_the_table(mapping: dict[str, tuple[str, ...]], context: Any, integrations: Any, expected: set[str]) -> None:
    assert receivers(mapping, context, integrations) == expected


@pytest.mark.parametrize(
    ("context", "is_sent"),
    [
        ({"consent": None}, True),
        ({"consent": {"categoryPreferences": None}}, True),
        ({"consent": {"other": 1}}, True),
        ("context", True),
        ({"consent": "yes"}, False),
        ({"consent": True}, False),
        ({"consent": []}, False),
        ({"consent": {"categoryPreferences": []}}, False),
        ({"consent": {"categoryPreferences": True}}, False),
        (preferences(ad="true"), False),
        (preferences(ad=1), False),
        (preferences(ad=None), False),
        (preferences(AD=True), False),
    ],
)
def test_what_is_said_but_can_not_be_read_is_no_consent(context: Any, is_sent: bool) -> None:
    expected = None if is_sent else FILTERED_BY_END_USER_CONSENT
    assert consent_allows(context, False, ("ad",), frozenset({"ad"})) == expected
    assert consent_allows(context, False, (), frozenset({"ad"})) is None


def test_categories_that_the_workspace_does_not_have_do_not_count() -> None:
    refused = preferences(ad=False)
    assert consent_allows(refused, False, ("ad",), frozenset()) is None
    assert consent_allows(refused, False, ("ad", "x"), frozenset({"x"})) == FILTERED_BY_END_USER_CONSENT
    assert consent_allows(preferences(x=True), False, ("ad", "x"), frozenset({"x"})) is None


@given(values, st.booleans(), st.lists(st.sampled_from(["a", "b", "c"]), max_size=3))
def test_consent_changes_nothing_and_more_categories_never_let_more_through(
    consent: Any, has_integrations: bool, categories: list[str]
) -> None:
    context, known = {"consent": consent}, frozenset({"a", "b", "d"})
    before = copy.deepcopy(context)
    found = consent_allows(context, has_integrations, categories, known)
    assert context == before
    if found is not None:
        assert consent_allows(context, has_integrations, [*categories, "d"], known) == found
