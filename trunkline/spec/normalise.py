"""What the server adds to an event and takes from it (``spec/event_path.md`` §1.7).

``receivedAt`` is one for a request. ``timestamp`` = receivedAt - (sentAt - originalTimestamp), which takes out what
the client's clock is wrong by. Decisions where the source is silent or contradicts itself:

* Without ``sentAt`` the timestamp stays as the client gave it; a spelling that is incomplete or not in UTC is
  written anew.
* An event that brings both ``timestamp`` and ``originalTimestamp`` was corrected before (an archive, another
  system's log): both stay. Normalising a normalised event again changes ``receivedAt`` only.
* Without a timestamp, or with one that can't be read: ``timestamp`` is receivedAt; ``originalTimestamp`` is what
  the client sent, else sentAt, else receivedAt.
* The batch's ``sentAt`` applies to every item, whatever an item says itself. It is kept as sent.
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

_MANY_PROPERTIES_BYTES: Final = 5 * MAX_PROPERTIES
"""A smaller object can't hold too many properties."""
_EMPTY_OBJECT: Final = Raw(b"{}")
_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_MAX_MEMBERS: Final = 4096
_members: dict[tuple[bytes, str], bytes] = {}
"""Addresses and user agents as members of a context: a client that sends once sends again."""


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
        "_shared_integrations",
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
        self._shared_integrations = _EMPTY_OBJECT if integrations is None else Raw(integrations)
        self._sent_at_text = sent_at
        self._sent_at = parse_timestamp(sent_at) if sent_at else None
        self._skew = None if self._sent_at is None else self.received_at - self._sent_at

    def normalise(self, decoded: Decoded, client_side: bool) -> tuple[bytes, str, bool] | str:
        """``(body, messageId, whether the client sent that id)``, or the code of what is wrong.

        Call it for events that :func:`trunkline.spec.verdicts.judge` let pass; changes ``decoded`` in place.
        Raises InvalidJson (a key occurs twice), but leaves some of that to :meth:`check`.
        """
        # The usual case of each field stands here and not in a method: a call costs as much as the work.
        event = decoded.event
        extra = decoded.extra
        proved = self.memory.proved
        raw = event.properties
        if raw is not UNSET:
            text = bytes(raw)
            if text[0] == 0x7B and len(text) < _MANY_PROPERTIES_BYTES:
                self._unchecked.append(text)
            elif not self._keep_unusual(event, "properties", text):
                return codes.PROPERTIES_NOT_OBJECT
        raw = event.traits
        if raw is not UNSET:
            text = bytes(raw)
            if text[0] == 0x7B:
                self._unchecked.append(text)
            elif not self._keep_unusual(event, "traits", text):
                return codes.TRAITS_NOT_OBJECT
        try:
            raw = event.integrations
            if raw is UNSET:
                event.integrations = self._shared_integrations
            elif self._integrations is not None or bytes(raw) not in proved:
                event.integrations = self._merged_integrations(bytes(raw))
            raw = event.context
            text = self._context or b"{}" if raw is UNSET else bytes(raw)
            complete = proved.get(text, 0) & (HAS_LIBRARY | DIRECT) == HAS_LIBRARY
            if client_side or not complete or self._context is not None:
                event.context = Raw(self._complete_context(text, client_side))
        except NotAnObject:
            return codes.BAD_REQUEST
        raw = event._metadata
        if raw is not UNSET and not decoded.checked and (text := bytes(raw)) not in proved:
            self._check_metadata(text)
        has_own_id = True
        message_id = event.messageId
        if not message_id:
            has_own_id = False
            event.messageId = message_id = new_message_id(self.received_at_ms)
        elif len(message_id) > 100:
            event.messageId = message_id = shorten_message_id(message_id)
        self._set_times(event)
        event.writeKey = UNSET
        return encode_event(event, extra) if extra else _encode(event), message_id, has_own_id

    def _keep_unusual(self, event: Event, name: str, text: bytes) -> bool:
        """``properties`` or ``traits`` that are no object, or large; False if they are neither an object nor null."""
        if text[0] != 0x7B:
            setattr(event, name, UNSET)
            return text == b"null"
        self._unchecked.append(text)
        members = list(_decode_fields(text).items())
        if len(members) > MAX_PROPERTIES:
            event.properties = Raw(_encode(dict(members[:MAX_PROPERTIES])))
        return True

    def check(self) -> None:
        """Search what was left unchecked for duplicate keys; call it once, before anything is recorded.

        Many small objects are cheaper to check in one piece. Raises InvalidJson.
        """
        unchecked = self._unchecked
        if unchecked:
            load_unique(unchecked[0] if len(unchecked) == 1 else b"[%b]" % b",".join(unchecked))
            self._unchecked = []

    def _check_metadata(self, text: bytes) -> None:
        if text[0] == 0x7B:
            self.memory.facts(text)
        else:
            self._unchecked.append(text)

    def _merged_integrations(self, own: bytes) -> Raw:
        if own == b"null":
            return self._shared_integrations
        self.memory.facts(own)
        return Raw(own if self._integrations is None else _merge(self._integrations, own))

    def _complete_context(self, own: bytes, client_side: bool) -> bytes:
        text = b"{}" if own == b"null" else own
        shared = self._context
        if shared is not None and own is not shared:
            self.memory.facts(text)
            text = _merge(shared, text)
        facts = self.memory.facts(text)
        if facts & HAS_LIBRARY and not client_side and not facts & DIRECT:
            return text
        members = [] if facts & HAS_LIBRARY else [UNKNOWN_LIBRARY]
        if self._client_ip and not facts & HAS_IP and (client_side or facts & DIRECT):
            members.append(_member(b'"ip":', self._client_ip))
        if self._user_agent and client_side and not facts & HAS_USER_AGENT:
            members.append(_member(b'"userAgent":', self._user_agent))
        if not members:
            return text
        return append_members(text, b",".join(members), bool(facts & EMPTY))

    def _set_times(self, event: Event) -> None:
        event.receivedAt = self.received_at_text
        sent_at_text: str | UnsetType | None = self._sent_at_text
        if sent_at_text:
            skew = self._skew
            event.sentAt = sent_at_text
        else:
            sent_at_text = event.sentAt
            sent_at = parse_timestamp(sent_at_text) if sent_at_text else None
            skew = None if sent_at is None else self.received_at - sent_at
            event.sentAt = sent_at_text or UNSET
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


def _member(name: bytes, value: str) -> bytes:
    member = _members.get((name, value))
    if member is None:
        member = name + _encode(value)
        if len(_members) >= _MAX_MEMBERS:
            _members.clear()
        if len(member) < 512:
            _members[name, value] = member
    return member


def _merge(shared: bytes, own: bytes) -> bytes:
    return _encode({**_decode_fields(shared), **_decode_fields(own)})
