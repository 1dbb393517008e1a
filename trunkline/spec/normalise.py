"""What the server adds to an event and takes from it (``spec/event_path.md`` §1.7).

``receivedAt`` is one for a request. ``timestamp`` = receivedAt - (sentAt - originalTimestamp), which takes out what
the client's clock is wrong by. Decisions where the source is silent or contradicts itself:

* Without ``sentAt`` the timestamp stays as the client gave it; a spelling that is incomplete or not in UTC is
  written anew.
* An event that brings both ``timestamp`` and ``originalTimestamp`` was corrected before (an archive, another
  system's log): both stay. Normalising a normalised event again changes ``receivedAt`` only.
* Without a timestamp, or with one that can't be read: ``timestamp`` is receivedAt; ``originalTimestamp`` is what
  the client sent, else sentAt, else receivedAt.
* The item's own ``sentAt`` wins over the batch's. It is kept as sent.
* ``context`` and ``integrations`` of a batch are merged into each item one level deep; the item's keys win.
* ``null`` for ``properties``, ``traits``, ``context`` or ``integrations`` counts as absent.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.spec import codes
from trunkline.spec.context import (
    DIRECT,
    EMPTY,
    HAS_IP,
    HAS_LIBRARY,
    HAS_USER_AGENT,
    UNKNOWN_LIBRARY,
    NotAnObject,
    ObjectMemory,
    append_members,
)
from trunkline.spec.event import Decoded, Event, encode_event
from trunkline.spec.limits import MAX_PROPERTIES
from trunkline.spec.message_ids import new_message_id, shorten_message_id
from trunkline.spec.strict_json import load_unique
from trunkline.spec.timestamps import format_timestamp, is_canonical, parse_timestamp

_LEAST_PROPERTY_BYTES: Final = 5
_EMPTY_OBJECT: Final = Raw(b"{}")
_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Arrival:
    """What the events of one request have in common.

    ``client_ip`` (dotted IPv4) and ``user_agent`` are the caller's; None where they are unknown. They are added
    to events of client-side sources only. ``sent_at`` is the batch's. The memory outlives the request.
    """

    __slots__ = (
        "_client_ip",
        "_context",
        "_integrations",
        "_sent_at",
        "_sent_at_text",
        "_skew",
        "_unchecked",
        "_user_agent",
        "memory",
        "received_at",
        "received_at_ms",
        "received_at_text",
    )

    def __init__(
        self,
        memory: ObjectMemory,
        received_at_ms: int,
        *,
        client_ip: str | None = None,
        user_agent: str | None = None,
        sent_at: str | None = None,
        context: bytes | None = None,
        integrations: bytes | None = None,
    ) -> None:
        self.memory = memory
        self.received_at_ms = received_at_ms
        self.received_at = received_at_ms * 1000
        self.received_at_text = format_timestamp(self.received_at)
        self._client_ip = client_ip
        self._user_agent = user_agent
        self._unchecked: list[bytes] = []
        self._context = context
        self._integrations = integrations
        self._sent_at_text = sent_at
        self._sent_at = parse_timestamp(sent_at) if sent_at else None
        self._skew = None if self._sent_at is None else self.received_at - self._sent_at

    def normalise(self, decoded: Decoded, client_side: bool) -> tuple[bytes, str, bool] | str:
        """``(body, messageId, whether the client sent that id)``, or the code of what is wrong.

        Call it for events that :func:`trunkline.spec.verdicts.judge` let pass; changes ``decoded`` in place.
        Raises InvalidJson (a key occurs twice), but leaves some of that to :meth:`check`.
        """
        event = decoded.event
        if event.properties is not UNSET and not self._keep_object(event, "properties", decoded.checked):
            return codes.PROPERTIES_NOT_OBJECT
        if event.traits is not UNSET and not self._keep_object(event, "traits", decoded.checked):
            return codes.TRAITS_NOT_OBJECT
        memory = self.memory
        try:
            integrations = event.integrations
            if integrations is UNSET or self._integrations is not None:
                event.integrations = self._merged_integrations(integrations)
            else:
                text = bytes(integrations)
                if text != b"{}":
                    if text == b"null":
                        event.integrations = _EMPTY_OBJECT
                    else:
                        memory.facts(text)
            event.context = Raw(self._complete_context(event.context, client_side))
        except NotAnObject:
            return codes.BAD_REQUEST
        if event._metadata is not UNSET and not decoded.checked:
            self._check_metadata(bytes(event._metadata))
        has_own_id = True
        message_id = event.messageId
        if not message_id:
            has_own_id = False
            event.messageId = message_id = new_message_id(self.received_at_ms)
        elif len(message_id) > 100:
            event.messageId = message_id = shorten_message_id(message_id)
        self._set_times(event)
        event.writeKey = UNSET
        return encode_event(event, decoded.extra), message_id, has_own_id

    def _keep_object(self, event: Event, name: str, checked: bool) -> bool:
        """Check ``properties`` or ``traits``; False if it is neither an object nor null."""
        text = bytes(getattr(event, name))
        if text[0] != 0x7B:
            setattr(event, name, UNSET)
            return text == b"null"
        if not checked:
            self._unchecked.append(text)
        if len(text) > _LEAST_PROPERTY_BYTES * MAX_PROPERTIES and name == "properties":
            members = list(_decode_fields(text).items())
            if len(members) > MAX_PROPERTIES:
                event.properties = Raw(_encode(dict(members[:MAX_PROPERTIES])))
        return True

    def check(self) -> None:
        """Search what was left unchecked for duplicate keys; call it once, before anything is recorded.

        Many small objects are cheaper to check in one piece. Raises InvalidJson.
        """
        if self._unchecked:
            load_unique(b"[%b]" % b",".join(self._unchecked))
            self._unchecked = []

    def _check_metadata(self, text: bytes) -> None:
        if text[0] == 0x7B:
            self.memory.facts(text)
        else:
            self._unchecked.append(text)

    def _merged_integrations(self, own: Raw | UnsetType) -> Raw:
        text = b"null" if isinstance(own, UnsetType) else bytes(own)
        shared = self._integrations
        if text == b"null" or text == b"{}":
            return _EMPTY_OBJECT if shared is None else Raw(shared)
        self.memory.facts(text)
        return Raw(text if shared is None else _merge(shared, text))

    def _complete_context(self, own: Raw | UnsetType, client_side: bool) -> bytes:
        text = b"null" if isinstance(own, UnsetType) else bytes(own)
        shared = self._context
        if text == b"null":
            text = b"{}"
        if shared is not None:
            self.memory.facts(text)
            text = shared if text == b"{}" else _merge(shared, text)
        facts = self.memory.facts(text)
        if facts & HAS_LIBRARY and not client_side and not facts & DIRECT:
            return text
        members = [] if facts & HAS_LIBRARY else [UNKNOWN_LIBRARY]
        if self._client_ip and not facts & HAS_IP and (client_side or facts & DIRECT):
            members.append(b'"ip":' + _encode(self._client_ip))
        if self._user_agent and client_side and not facts & HAS_USER_AGENT:
            members.append(b'"userAgent":' + _encode(self._user_agent))
        if not members:
            return text
        return append_members(text, b",".join(members), bool(facts & EMPTY))

    def _set_times(self, event: Event) -> None:
        event.receivedAt = self.received_at_text
        sent_at_text = event.sentAt
        if not sent_at_text:
            skew, sent_at_text = self._skew, self._sent_at_text
            event.sentAt = sent_at_text or UNSET
        elif sent_at_text == self._sent_at_text:
            skew = self._skew
        else:
            sent_at = parse_timestamp(sent_at_text)
            skew = None if sent_at is None else self.received_at - sent_at
        timestamp, original = event.timestamp, event.originalTimestamp
        given = timestamp or original
        time = parse_timestamp(given) if given else None
        if time is None:
            if not given:
                given = sent_at_text if skew is not None else None
            event.originalTimestamp = given or self.received_at_text
            event.timestamp = self.received_at_text
        elif timestamp and original:
            event.timestamp = _spell(timestamp, time)
        else:
            event.originalTimestamp = given
            event.timestamp = _spell(given, time) if skew is None else self._shift(time, skew)  # type: ignore[arg-type]

    def _shift(self, time: int, skew: int) -> str:
        try:
            return format_timestamp(time + skew)
        except OverflowError:
            return self.received_at_text


def _spell(text: str, time: int) -> str:
    if is_canonical(text):
        return text
    try:
        return format_timestamp(time)
    except OverflowError:
        return text


def _merge(shared: bytes, own: bytes) -> bytes:
    return _encode({**_decode_fields(shared), **_decode_fields(own)})
