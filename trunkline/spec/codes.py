"""Why an event failed on ingest: one code, one sentence and one mend each (``spec/event_path.md`` §1.6).

The codes are Segment's (its table of discards, of which §1.6 is the extract). Three are our own, where Segment
documents a limit without a code: ``event_too_large``, ``batch_too_long`` and ``invalid_request`` (the answer to a
body that is no JSON; seen in Segment's own client tests).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_USER_ANON_ID: Final = "no_user_anon_id"
ID_REQUIRED: Final = "id_required"
ID_NOT_STRING: Final = "id_not_string"
EVENT_NOT_DEFINED: Final = "event_not_defined"
EVENT_NOT_STRING: Final = "event_not_string"
PROPERTIES_NOT_OBJECT: Final = "properties_not_object"
TRAITS_NOT_OBJECT: Final = "traits_not_object"
NAME_NOT_STRING: Final = "name_not_string"
CATEGORY_NOT_STRING: Final = "category_not_string"
MISSING_TYPE: Final = "missing_type"
INVALID_TYPE: Final = "invalid_type"
EMPTY_BATCH: Final = "empty_batch"
EMPTY_BATCH_RESULT: Final = "empty_batch_result"
MULTI_USER_ERROR: Final = "multi_user_error"
SOURCE_DISABLED: Final = "source_disabled"
UNKNOWN_SOURCE: Final = "unknown_source"
BAD_REQUEST: Final = "bad_request"
TOO_MANY_REQUESTS: Final = "too_many_requests"
CONSENT_CATEGORIES_MISSING: Final = "consent_categorypreferences_should_exist"
CONSENT_CATEGORIES_NOT_OBJECT: Final = "consent_categorypreferences_fields_should_be_object"
CONSENT_CATEGORY_NOT_BOOL: Final = "consent_categorypreferences_fields_should_be_bool"
CONSENT_VERSION_NOT_NUMBER: Final = "consent_version_should_be_number"
ADVERTISING_ID_NOT_STRING: Final = "device_advertisingid_should_be_string"
EVENT_TOO_LARGE: Final = "event_too_large"
BATCH_TOO_LONG: Final = "batch_too_long"
INVALID_REQUEST: Final = "invalid_request"


@dataclass(frozen=True, slots=True)
class CodeText:
    """What a code means and how to mend its cause, a sentence each."""

    meaning: str
    mend: str


CODES: Final[dict[str, CodeText]] = {
    NO_USER_ANON_ID: CodeText("The event has neither userId nor anonymousId.", "Send one of them."),
    ID_REQUIRED: CodeText(
        "An identifier that this type of event needs is missing.",
        "Send groupId with group, userId and previousId with alias.",
    ),
    ID_NOT_STRING: CodeText(
        "An identifier is an empty string or not a string.", "Send identifiers as non-empty strings."
    ),
    EVENT_NOT_DEFINED: CodeText("A track event has no event name.", "Send the name in the field event."),
    EVENT_NOT_STRING: CodeText("The event name of a track event is not a string.", "Send event as a string."),
    PROPERTIES_NOT_OBJECT: CodeText("properties is not an object.", "Send properties as a JSON object."),
    TRAITS_NOT_OBJECT: CodeText("traits is not an object.", "Send traits as a JSON object."),
    NAME_NOT_STRING: CodeText(
        "The name of a page or screen is an empty string or not a string.",
        "Send name as a non-empty string, or leave it out.",
    ),
    CATEGORY_NOT_STRING: CodeText(
        "The category of a page or screen is an empty string or not a string.",
        "Send category as a non-empty string, or leave it out.",
    ),
    MISSING_TYPE: CodeText("An event of a batch has no type.", "Send type with each event of a batch."),
    INVALID_TYPE: CodeText("The type of the event is unknown.", "Use track, identify, page, screen, group or alias."),
    EMPTY_BATCH: CodeText("The batch holds no events.", "Send events in the array batch."),
    EMPTY_BATCH_RESULT: CodeText(
        "No event of the batch is left after validation.", "See the codes of the single events."
    ),
    MULTI_USER_ERROR: CodeText(
        "Some events of the batch were rejected; the others were taken.", "See the codes of the single events."
    ),
    SOURCE_DISABLED: CodeText("The source is disabled.", "Enable the source."),
    UNKNOWN_SOURCE: CodeText("No source has this write key.", "Check the write key in the SDK's settings."),
    BAD_REQUEST: CodeText(
        "The event can't be decoded: it, its context or its integrations are not JSON objects.",
        "Send an object.",
    ),
    TOO_MANY_REQUESTS: CodeText("The server is busy.", "Send again after the time in Retry-After."),
    CONSENT_CATEGORIES_MISSING: CodeText(
        "A consent event has no context.consent.categoryPreferences.", "Send the preferences with the event."
    ),
    CONSENT_CATEGORIES_NOT_OBJECT: CodeText(
        "context.consent.categoryPreferences of a consent event is not an object.", "Send an object of booleans."
    ),
    CONSENT_CATEGORY_NOT_BOOL: CodeText(
        "A category in context.consent.categoryPreferences of a consent event is not a boolean.",
        "Send true or false for each category.",
    ),
    CONSENT_VERSION_NOT_NUMBER: CodeText(
        "context.consent.version of a consent event is not a number.", "Send a number, or leave it out."
    ),
    ADVERTISING_ID_NOT_STRING: CodeText(
        "context.device.advertisingId of a consent event is not a string.", "Send a string, or leave it out."
    ),
    EVENT_TOO_LARGE: CodeText("The event is larger than 32 KB.", "Send less in one event."),
    BATCH_TOO_LONG: CodeText(
        "The batch holds more than 2,500 events; this one is beyond them.", "Send at most 2,500 events at once."
    ),
    INVALID_REQUEST: CodeText("The body is no valid JSON or is too large.", "The message says what is wrong."),
}
"""Every code with its sentences."""
