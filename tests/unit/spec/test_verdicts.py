"""The table of discard codes, row by row, in compact and in spaced JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.spec import codes
from trunkline.spec.context import ObjectMemory
from trunkline.spec.event import decode_event
from trunkline.spec.normalise import Arrival
from trunkline.spec.verdicts import CONSENT_EVENT, judge

TRACK = {"type": "track", "event": "A", "userId": "u"}
PAGE = {"type": "page", "userId": "u"}
SCREEN = {"type": "screen", "userId": "u"}
CONSENT = {**TRACK, "event": CONSENT_EVENT}


def consent(preferences: Any, **more: Any) -> dict[str, Any]:
    return {**CONSENT, "context": {"consent": {"categoryPreferences": preferences, **more}}}


REJECTED: list[tuple[str, Any]] = [
    (codes.NO_USER_ANON_ID, {"type": "track", "event": "A"}),
    (codes.NO_USER_ANON_ID, {"type": "track", "event": "A", "userId": None, "anonymousId": None}),
    (codes.NO_USER_ANON_ID, {"type": "identify", "traits": {}}),
    (codes.NO_USER_ANON_ID, {"type": "page"}),
    (codes.NO_USER_ANON_ID, {"type": "screen"}),
    (codes.NO_USER_ANON_ID, {"type": "group", "groupId": "g"}),
    (codes.ID_REQUIRED, {"type": "group", "userId": "u"}),
    (codes.ID_REQUIRED, {"type": "alias", "userId": "u"}),
    (codes.ID_REQUIRED, {"type": "alias", "previousId": "p"}),
    (codes.ID_REQUIRED, {"type": "alias", "anonymousId": "a", "previousId": "p"}),
    (codes.ID_NOT_STRING, {"type": "track", "event": "A", "userId": ""}),
    (codes.ID_NOT_STRING, {"type": "track", "event": "A", "anonymousId": ""}),
    (codes.ID_NOT_STRING, {"type": "track", "event": "A", "userId": 1}),
    (codes.ID_NOT_STRING, {"type": "track", "event": "A", "userId": "u", "anonymousId": 1.5}),
    (codes.ID_NOT_STRING, {"type": "identify", "userId": {"id": "u"}}),
    (codes.ID_NOT_STRING, {"type": "group", "userId": "u", "groupId": 5}),
    (codes.ID_NOT_STRING, {"type": "group", "userId": "u", "groupId": ""}),
    (codes.ID_NOT_STRING, {"type": "alias", "userId": "u", "previousId": 5}),
    (codes.ID_NOT_STRING, {"type": "alias", "userId": "u", "previousId": ""}),
    (codes.EVENT_NOT_DEFINED, {"type": "track", "userId": "u"}),
    (codes.EVENT_NOT_DEFINED, {"type": "track", "userId": "u", "event": None}),
    (codes.EVENT_NOT_DEFINED, {"type": "track", "userId": "u", "event": ""}),
    (codes.EVENT_NOT_STRING, {"type": "track", "userId": "u", "event": 5}),
    (codes.EVENT_NOT_STRING, {"type": "track", "userId": "u", "event": ["A"]}),
    (codes.PROPERTIES_NOT_OBJECT, {**TRACK, "properties": "x"}),
    (codes.PROPERTIES_NOT_OBJECT, {**TRACK, "properties": [{}]}),
    (codes.PROPERTIES_NOT_OBJECT, {**PAGE, "properties": 1}),
    (codes.TRAITS_NOT_OBJECT, {"type": "identify", "userId": "u", "traits": "x"}),
    (codes.TRAITS_NOT_OBJECT, {"type": "group", "userId": "u", "groupId": "g", "traits": []}),
    (codes.NAME_NOT_STRING, {**PAGE, "name": ""}),
    (codes.NAME_NOT_STRING, {**PAGE, "name": 1}),
    (codes.NAME_NOT_STRING, {**SCREEN, "name": {}}),
    (codes.NAME_NOT_STRING, {**SCREEN, "name": ""}),
    (codes.CATEGORY_NOT_STRING, {**PAGE, "category": ""}),
    (codes.CATEGORY_NOT_STRING, {**PAGE, "name": "n", "category": 1}),
    (codes.CATEGORY_NOT_STRING, {**SCREEN, "category": ""}),
    (codes.CATEGORY_NOT_STRING, {**SCREEN, "name": "n", "category": False}),
    (codes.MISSING_TYPE, {"event": "A", "userId": "u"}),
    (codes.MISSING_TYPE, {"type": None, "userId": "u"}),
    (codes.MISSING_TYPE, {"type": "", "userId": "u"}),
    (codes.INVALID_TYPE, {"type": "tracks", "userId": "u"}),
    (codes.INVALID_TYPE, {"type": 5, "userId": "u"}),
    (codes.BAD_REQUEST, "an event"),
    (codes.BAD_REQUEST, None),
    (codes.BAD_REQUEST, [TRACK]),
    (codes.BAD_REQUEST, {**TRACK, "context": "x"}),
    (codes.BAD_REQUEST, {**TRACK, "context": []}),
    (codes.BAD_REQUEST, {**TRACK, "integrations": True}),
    (codes.CONSENT_CATEGORIES_MISSING, CONSENT),
    (codes.CONSENT_CATEGORIES_MISSING, {**CONSENT, "context": {"consent": {}}}),
    (codes.CONSENT_CATEGORIES_MISSING, consent(None)),
    (codes.CONSENT_CATEGORIES_NOT_OBJECT, consent([True])),
    (codes.CONSENT_CATEGORY_NOT_BOOL, consent({"ads": "yes"})),
    (codes.CONSENT_VERSION_NOT_NUMBER, consent({"ads": True}, version="2")),
    (
        codes.ADVERTISING_ID_NOT_STRING,
        {**CONSENT, "context": {"consent": {"categoryPreferences": {}}, "device": {"advertisingId": 5}}},
    ),
]

ACCEPTED: list[dict[str, Any]] = [
    TRACK,
    {"type": "track", "event": "A", "anonymousId": "a"},
    {"type": "track", "event": "A", "anonymousId": "a", "userId": None},
    {"type": "track", "event": "A", "anonymousId": "a", "userId": ""},
    {"type": "track", "event": "A", "anonymousId": "", "userId": "u"},
    {**TRACK, "properties": None, "context": None, "integrations": None, "traits": None},
    {**TRACK, "properties": {}},
    {**TRACK, "name": 5, "category": "", "groupId": 7},
    {"type": "identify", "userId": "u", "traits": {"a": 1}, "event": 5},
    PAGE,
    {**PAGE, "name": None, "category": None},
    {**PAGE, "name": "n", "category": "c"},
    SCREEN,
    {**SCREEN, "name": "Home", "category": ""},
    {"type": "group", "groupId": "g", "anonymousId": "a"},
    {"type": "alias", "userId": "u", "previousId": "p"},
    {"type": "alias", "from": "p", "to": "u"},
    consent({"ads": True, "analytics": False}, version=2),
    {**TRACK, "version": 1.1},
    {**TRACK, "version": "1.1", "channel": "server", "projectId": "x"},
]


def verdict(event: Any, separators: tuple[str, str]) -> str | None:
    decoded = decode_event(json.dumps(event, separators=separators).encode(), None)
    if code := judge(decoded):
        return code
    result = Arrival(ObjectMemory(), 1_767_323_045_678).normalise(decoded, client_side=False)
    return result if isinstance(result, str) else None


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize(("code", "event"), REJECTED, ids=lambda value: json.dumps(value)[:60])
def test_rejected(code: str, event: Any, separators: tuple[str, str]) -> None:
    assert verdict(event, separators) == code


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize("event", ACCEPTED, ids=lambda value: json.dumps(value)[:60])
def test_accepted(event: dict[str, Any], separators: tuple[str, str]) -> None:
    assert verdict(event, separators) is None


def test_every_code_has_its_sentences() -> None:
    declared = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert declared == set(codes.CODES)
    for text in codes.CODES.values():
        assert text.meaning.endswith(".")
        assert text.mend.endswith(".")


def test_every_code_of_an_event_stands_in_the_table_above() -> None:
    of_requests = {
        codes.EMPTY_BATCH,
        codes.EMPTY_BATCH_RESULT,
        codes.MULTI_USER_ERROR,
        codes.SOURCE_DISABLED,
        codes.UNKNOWN_SOURCE,
        codes.TOO_MANY_REQUESTS,
        codes.EVENT_TOO_LARGE,
        codes.BATCH_TOO_LONG,
        codes.INVALID_REQUEST,
    }
    assert {code for code, _ in REJECTED} == set(codes.CODES) - of_requests


@pytest.mark.parametrize("kind", ["track", "identify", "page", "screen", "group", "alias"])
def test_the_path_decides_the_type_of_a_single_event(kind: str) -> None:
    for given in ({"type": "nonsense"}, {"type": 5}, {}):
        decoded = decode_event(json.dumps({**given, "userId": "u", "event": "A", "groupId": "g"}).encode(), kind)
        assert decoded.event.type == kind
        assert decoded.fault is None
