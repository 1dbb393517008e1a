"""Why an event was not delivered: each reason with a title, one plain sentence and its mend.

The reasons are those of ``spec/event_path.md`` §8.3, with Segment's titles where it has them, and some of our own. A
status of HTTP is a reason as it stands; those that say something particular have a text of their own, the others that
of their class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trunkline.spec.codes import CODES as INGEST_CODES
from trunkline.spec.discards import (
    COMMON_SCHEMA_VIOLATION,
    EVENT_SETTING,
    FILTERED_BY_END_USER_CONSENT,
    FILTERED_BY_INTEGRATION_FILTER,
    FILTERED_BY_INTEGRATIONS_OBJECT,
    FILTERED_BY_RULES,
    FORWARDING_LIMIT,
    INVALID_FILTER,
    INVALID_PLAN,
    INVALID_TRANSFORMATION,
    MESSAGE_SENT_CLIENT_SIDE,
    SCHEMA_VIOLATION,
    TRANSFORMATION_DROP,
    UNPLANNED,
    UNPLANNED_AND_SCHEMA_VIOLATION,
    UNSUPPORTED_EVENT_TYPE,
)
from trunkline.spec.outcomes import (
    ARCHIVE_UNREADABLE,
    DESTINATION_DELETED,
    DUPLICATE,
    MAX_EVENT_AGE,
    REPLAY_CANCELLED,
    RETRIES_EXHAUSTED,
)


@dataclass(frozen=True, slots=True)
class CodeText:
    """``meaning`` and ``mend`` are a sentence each. ``again``: whether native destinations try again after it."""

    title: str
    meaning: str
    mend: str
    again: bool = False


_CLOSED_WAY: Final = "Check the address, the network and firewalls between here and there."
_BY_ITSELF: Final = "Nothing, if it ends by itself; otherwise ask whoever runs the destination."

DELIVERY_CODES: Final[dict[str, CodeText]] = {
    "307": CodeText(
        "Temporary redirect",
        "The destination sends on to another address, and redirects are not followed.",
        "Put the final address into the destination's settings.",
    ),
    "308": CodeText(
        "Permanent redirect",
        "The destination has moved to another address, and redirects are not followed.",
        "Put the final address into the destination's settings.",
    ),
    "400": CodeText(
        "Bad request",
        "The destination refuses the event's content.",
        "Read the answer in a sample, correct what sends the event, then replay the window.",
    ),
    "401": CodeText(
        "Invalid API key",
        "The destination does not know the credentials, or they have expired.",
        "Put a valid key into the destination's settings, then replay the window.",
    ),
    "403": CodeText(
        "Invalid API key",
        "The credentials do not allow this, or the destination refuses our address.",
        "Give the key the right to write, or let the destination allow our addresses; then replay the window.",
    ),
    "404": CodeText(
        "Not found",
        "There is nothing at this address.",
        "Correct the address in the destination's settings, then replay the window.",
    ),
    "405": CodeText(
        "Method not allowed",
        "The address does not take POST requests.",
        "Correct the address in the destination's settings, then replay the window.",
    ),
    "408": CodeText("Request timeout", "The destination did not receive the request in time.", _BY_ITSELF, again=True),
    "410": CodeText(
        "Gone",
        "The address existed and was removed for good.",
        "Correct the address in the destination's settings, or delete the destination.",
    ),
    "413": CodeText(
        "Payload too large",
        "The request is larger than the destination takes.",
        "Lower batch_size or batch_bytes; a single event must become smaller where it is made.",
    ),
    "415": CodeText(
        "Unsupported media type",
        "The destination does not take this Content-Type.",
        "Set the header that it wants in the destination's settings, then replay the window.",
    ),
    "422": CodeText(
        "Schema violation",
        "The destination has read the event and refuses a field that is missing or wrong.",
        "Read the answer in a sample, correct what sends the event, then replay the window.",
    ),
    "425": CodeText(
        "Too early", "The destination asks for the request to be sent again later.", "Nothing.", again=True
    ),
    "429": CodeText(
        "Rate limit exceeded",
        "The destination takes no more requests for now.",
        "Set requests_per_s below its limit, use batches, or ask for a higher limit.",
        again=True,
    ),
    "500": CodeText("Server error", "The destination met an error of its own.", _BY_ITSELF, again=True),
    "501": CodeText(
        "Not implemented",
        "The destination does not know this kind of request.",
        "Check the address in the destination's settings.",
        again=True,
    ),
    "502": CodeText(
        "Bad gateway", "What stands before the destination got no good answer from it.", _BY_ITSELF, again=True
    ),
    "503": CodeText(
        "Service unavailable", "The destination is overloaded or down for maintenance.", _BY_ITSELF, again=True
    ),
    "504": CodeText(
        "Gateway timeout", "What stands before the destination got no answer from it in time.", _BY_ITSELF, again=True
    ),
    "ECONNREFUSED": CodeText(
        "Connection refused",
        "Nothing listens at the destination's address and port.",
        "Start the destination, or correct the address in its settings.",
        again=True,
    ),
    "ECONNRESET": CodeText(
        "Connection reset", "The destination closed the connection without an answer.", _BY_ITSELF, again=True
    ),
    "ECONNABORTED": CodeText(
        "Connection aborted", "The connection to the destination broke off.", _CLOSED_WAY, again=True
    ),
    "ENOTFOUND": CodeText(
        "Host not found",
        "The name of the destination's host does not exist.",
        "Correct the address in the destination's settings, or mend the name server's entry.",
        again=True,
    ),
    "EAI_AGAIN": CodeText(
        "Name server silent",
        "The name of the destination's host could not be looked up for now.",
        "Check this machine's name server if it goes on.",
        again=True,
    ),
    "EHOSTUNREACH": CodeText(
        "Host unreachable", "There is no way to the destination's network.", _CLOSED_WAY, again=True
    ),
    "ETIMEDOUT": CodeText(
        "Timed out",
        "The destination did not answer within the time limit.",
        "Raise the destination's timeout_s, or the setting send_timeout_s, if it needs longer; otherwise ask whoever "
        "runs it.",
        again=True,
    ),
    "EADDRNOTAVAIL": CodeText(
        "Address not available",
        "This machine does not have the address that requests are to leave from, or has no free port left.",
        "Correct egress.source_address in the workspace.",
        again=True,
    ),
    "EPROTO": CodeText(
        "Protocol error",
        "The answer is not HTTP, or no TLS connection came about.",
        "Check whether the address should begin with http or https, and its port.",
        again=True,
    ),
    "EPROXY": CodeText(
        "Proxy error",
        "The proxy of egress.proxy cannot be reached, or refuses the host or the credentials.",
        "Mend the proxy, or correct egress.proxy in the workspace.",
        again=True,
    ),
    "EIO": CodeText(
        "Disk error",
        "A file in the data directory could not be written or read.",
        "Check the disk's free space and the rights of the data directory.",
        again=True,
    ),
    "CERTIFICATE": CodeText(
        "Invalid certificate",
        "The destination's certificate is not valid for its host.",
        "Let whoever runs the destination renew it, or correct the host in the address.",
        again=True,
    ),
    "EGRESS_REFUSED": CodeText(
        "Refused by the egress guard",
        "The address is not public, or its port or scheme is not allowed.",
        "Correct the address, or list its network under egress.allow_private, its port under egress.allow_ports.",
    ),
    "INTERNAL": CodeText(
        "Internal error",
        "Trunkline's own code met an error that it did not foresee, in a stage or at the destination.",
        "Look for stage.bug or destination.bug in the log of the worker, and report it.",
        again=True,
    ),
    RETRIES_EXHAUSTED: CodeText(
        "Retries exhausted",
        "The time for retries is over, and no attempt had a reason of its own.",
        "Mend the destination, then replay the window.",
    ),
    "INVALID_SETTINGS": CodeText(
        "Invalid settings",
        "The destination's settings lack something that this event needs.",
        "Complete the destination's settings, then replay the window.",
    ),
    "MESSAGE_REJECTED": CodeText(
        "Message rejected",
        "The event lacks something that the destination requires.",
        "Compare the event with what the destination requires, and correct what sends it.",
    ),
    UNSUPPORTED_EVENT_TYPE: CodeText(
        "Unsupported event type",
        "The destination does not take events of this type, or none from sources of this kind.",
        "Nothing, or connect the destination to other sources.",
    ),
    FILTERED_BY_END_USER_CONSENT: CodeText(
        "Filtered by end user consent",
        "The user has not consented to a category that the destination is mapped to.",
        "Nothing, if the user refused; otherwise correct context.consent in the event, or the destination's "
        "consent_categories.",
    ),
    FILTERED_BY_INTEGRATIONS_OBJECT: CodeText(
        "Filtered by integrations object",
        "The event's integrations turn the destination off.",
        "Correct integrations where the event is made, if it should have been sent; names are case-sensitive.",
    ),
    FILTERED_BY_INTEGRATION_FILTER: CodeText(
        "Filtered by integration filter",
        "The source's schema keeps events of this type or name from the destination.",
        "Take the destination out of the source's integration filter if it should have been sent, then replay the "
        "window.",
    ),
    MESSAGE_SENT_CLIENT_SIDE: CodeText(
        "Message sent client side",
        "The browser or app has sent the event to the destination itself, as its _metadata says.",
        "Nothing, or take the destination out of the SDK's own destinations.",
    ),
    FILTERED_BY_RULES: CodeText(
        "Filtered by rules",
        "A filter of the destination dropped the event, or a sample left it out.",
        "Narrow the filter if the event should have been sent, then replay the window.",
    ),
    INVALID_FILTER: CodeText(
        "Invalid filter",
        "A filter of the destination can't be read, so nothing passes it.",
        "Mend the filter that `trunkline check` names, then replay the window.",
    ),
    TRANSFORMATION_DROP: CodeText(
        "Dropped by a transformation",
        "A transformation of the source or of the destination drops such events.",
        "Narrow the transformation's condition if the event should have gone on.",
    ),
    INVALID_TRANSFORMATION: CodeText(
        "Invalid transformation",
        "A transformation can't be read or can't be applied to the event, so nothing passes it.",
        "Mend the transformation that `trunkline check` or the detail names.",
    ),
    UNPLANNED: CodeText(
        "Unplanned event",
        "The source's tracking plan does not know the event, and unplanned events are blocked.",
        "Add the event to the plan, or correct its name where it is made.",
    ),
    SCHEMA_VIOLATION: CodeText(
        "Schema violation",
        "The event breaks its rule of the tracking plan, and such events are blocked.",
        "Read the violations of the source, then correct the event where it is made, or the rule.",
    ),
    UNPLANNED_AND_SCHEMA_VIOLATION: CodeText(
        "Unplanned event and schema violation",
        "The tracking plan does not know the event, which breaks a rule as well, and both are blocked.",
        "Add the event to the plan, and correct it where it is made.",
    ),
    COMMON_SCHEMA_VIOLATION: CodeText(
        "Common schema violation",
        "The event breaks the plan's rule for all events, and such events are blocked.",
        "Read the violations of the source, then correct the event where it is made, or the common rule.",
    ),
    INVALID_PLAN: CodeText(
        "Invalid tracking plan",
        "The tracking plan is there to block and can't be read, so nothing passes it.",
        "Mend the rule that `trunkline check` names.",
    ),
    EVENT_SETTING: CodeText(
        "Blocked by the source's schema",
        "The source's schema filters block events of this type or name.",
        "Take the event out of the source's schema filters if it should go on.",
    ),
    FORWARDING_LIMIT: CodeText(
        "Forwarding limit",
        "So many violations came at once that not all of them could be forwarded to this source.",
        "Mend the commonest violations; all of them are counted where they happened.",
    ),
    DESTINATION_DELETED: CodeText(
        "Destination deleted",
        "The event was pending when the destination was deleted.",
        "Create the destination again and replay the window, if it is missed.",
    ),
    REPLAY_CANCELLED: CodeText(
        "Replay cancelled",
        "The replay was cancelled before it reached the event.",
        "Start another replay of the window, if it is missed.",
    ),
    ARCHIVE_UNREADABLE: CodeText(
        "Archive unreadable",
        "A file of the archive could not be read, so its events were not replayed.",
        "Restore the file that the worker's log names, then replay the window.",
    ),
    MAX_EVENT_AGE: CodeText(
        "Event too old",
        "The event is older than the destination takes, by its max_event_age_s.",
        "Nothing, unless the destination takes older events by now: then raise max_event_age_s and replay the window.",
    ),
    DUPLICATE: CodeText(
        "Duplicate",
        "An event with the same messageId was received within the 24 hours before.",
        "Give every event a messageId of its own.",
    ),
}
"""Every reason that has a text of its own, in the order of the docs."""

_CLASSES: Final[dict[str, CodeText]] = {
    "1": CodeText(
        "Status {code}", "The destination answered with an interim status only.", "Check what answers at its address."
    ),
    "2": CodeText("Status {code}", "The destination took the event.", "Nothing."),
    "3": CodeText(
        "Redirect {code}",
        "The destination sends on to another address, and redirects are not followed.",
        "Put the final address into the destination's settings.",
    ),
    "4": CodeText(
        "Refused with {code}",
        "The destination refuses the request.",
        "Read the answer in a sample, correct the event or the settings, then replay the window.",
    ),
    "5": CodeText("Server error {code}", "The destination met an error of its own.", _BY_ITSELF, again=True),
}
_STATUS = re.compile(r"[1-5]\d\d")


def text_of(reason: str) -> CodeText:
    """The text of any reason, whether of a delivery, of the source stage or of ingest. One that is not known gets a
    text that says where to look."""
    known = DELIVERY_CODES.get(reason)
    if known is not None:
        return known
    if _STATUS.fullmatch(reason):
        of_class = _CLASSES[reason[0]]
        return CodeText(of_class.title.format(code=reason), of_class.meaning, of_class.mend, of_class.again)
    refused = INGEST_CODES.get(reason)
    if refused is not None:
        return CodeText(reason.replace("_", " ").capitalize(), refused.meaning, refused.mend)
    if not reason:
        return DELIVERY_CODES[RETRIES_EXHAUSTED]
    return CodeText(
        reason,
        "The destination gave this reason, which is its own.",
        "Read the request and the answer in a sample: `trunkline deliveries --samples`.",
    )
