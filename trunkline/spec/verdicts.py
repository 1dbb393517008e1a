"""Is an event acceptable? The table of ``spec/event_path.md`` §1.6.

Where the table meets what Segment's own SDKs send, the SDKs win, so that nothing of theirs is lost:

* ``null`` counts as absent, everywhere.
* An empty ``userId`` beside a good ``anonymousId`` (and the other way round) counts as absent: the Kotlin and C#
  SDKs send ``"userId": ""`` until the user is identified. Alone it is ``id_not_string``.
* An empty ``category`` of a screen that has a name counts as absent: the same SDKs always send it.
* ``from`` and ``to`` of an old alias call stand for ``previousId`` and ``userId``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.spec import codes
from trunkline.spec.event import Decoded, Event

CONSENT_EVENT: Final = "Segment Consent Preference Updated"


def judge(decoded: Decoded) -> str | None:
    """The code of what is wrong with the event, None if nothing is. Fields that count as absent are removed.

    ``properties``, ``traits``, ``context`` and ``integrations`` are judged where their bytes are looked at, in
    :mod:`trunkline.spec.normalise`.
    """
    if decoded.fault is not None:
        return decoded.fault
    event = decoded.event
    kind = event.type
    if kind == "track":
        name = event.event
        if not name:
            return codes.EVENT_NOT_DEFINED
        if name == CONSENT_EVENT and (fault := _judge_consent(event)):
            return fault
    elif kind == "page" or kind == "screen":
        if fault := _judge_page(event):
            return fault
    elif kind == "group":
        if not event.groupId:
            return codes.ID_NOT_STRING if event.groupId == "" else codes.ID_REQUIRED
    elif kind == "alias":
        return _judge_alias(event, decoded.extra)
    elif kind != "identify":
        return codes.INVALID_TYPE if kind else codes.MISSING_TYPE
    return None if event.userId and event.anonymousId else _judge_ids(event)


def _judge_ids(event: Event) -> str | None:
    """At least one of userId and anonymousId is absent, null or empty."""
    user_id, anonymous_id = event.userId, event.anonymousId
    if user_id:
        event.anonymousId = UNSET
        return None
    if anonymous_id:
        event.userId = UNSET
        return None
    return codes.ID_NOT_STRING if user_id == "" or anonymous_id == "" else codes.NO_USER_ANON_ID


def _judge_page(event: Event) -> str | None:
    if not event.name:
        if event.name == "":
            return codes.NAME_NOT_STRING
        event.name = UNSET
    if not event.category:
        if event.category == "" and not (event.type == "screen" and event.name):
            return codes.CATEGORY_NOT_STRING
        event.category = UNSET
    return None


def _judge_alias(event: Event, extra: dict[str, Raw]) -> str | None:
    if not event.userId and "to" in extra:
        event.userId = _legacy_id(extra, "to")
    if not event.previousId and "from" in extra:
        event.previousId = _legacy_id(extra, "from")
    if not event.anonymousId:
        event.anonymousId = UNSET
    if event.userId and event.previousId:
        return None
    return codes.ID_NOT_STRING if event.userId == "" or event.previousId == "" else codes.ID_REQUIRED


def _legacy_id(extra: dict[str, Raw], name: str) -> str | UnsetType:
    value = msgspec.json.decode(extra[name])
    if not isinstance(value, str):
        return UNSET
    del extra[name]
    return value


def _judge_consent(event: Event) -> str | None:
    context: Any = msgspec.json.decode(event.context) if isinstance(event.context, Raw) else None
    if not isinstance(context, dict):
        return codes.CONSENT_CATEGORIES_MISSING
    consent = context.get("consent")
    if not isinstance(consent, dict) or consent.get("categoryPreferences") is None:
        return codes.CONSENT_CATEGORIES_MISSING
    preferences = consent["categoryPreferences"]
    if not isinstance(preferences, dict):
        return codes.CONSENT_CATEGORIES_NOT_OBJECT
    if not all(isinstance(value, bool) for value in preferences.values()):
        return codes.CONSENT_CATEGORY_NOT_BOOL
    version = consent.get("version")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int | float)):
        return codes.CONSENT_VERSION_NOT_NUMBER
    device = context.get("device")
    advertising_id = device.get("advertisingId") if isinstance(device, dict) else None
    if advertising_id is not None and not isinstance(advertising_id, str):
        return codes.ADVERTISING_ID_NOT_STRING
    return None
