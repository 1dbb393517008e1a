"""One event on its way in: its top level decoded, everything below left as the client's bytes.

:func:`decode_event` proves on the way that no key occurs twice. The fast path decodes into :class:`Event` and
encodes it again: if the length is the same, then no field was unknown, none was doubled and none was respelled,
because an encoded field is never longer than any spelling of it. Any other event takes the slow path, which is
exact in itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.spec import codes
from trunkline.spec.strict_json import InvalidJson, explain, load_unique

Text = str | None | UnsetType

TYPES: Final = frozenset({"track", "identify", "page", "screen", "group", "alias"})
NAME_FIELDS: Final[Mapping[str, str]] = {"track": "event", "page": "name", "screen": "name"}
"""Where each type has the name under which it is counted."""


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """The common fields (``spec/event_path.md`` §1.8) in the order in which they are written.

    Objects are :class:`msgspec.Raw`. A field that the client did not send is ``UNSET``.
    """

    type: Text = UNSET
    messageId: Text = UNSET
    userId: Text = UNSET
    anonymousId: Text = UNSET
    groupId: Text = UNSET
    previousId: Text = UNSET
    event: Text = UNSET
    name: Text = UNSET
    category: Text = UNSET
    properties: Raw | UnsetType = UNSET
    traits: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    integrations: Raw | UnsetType = UNSET
    timestamp: Text = UNSET
    originalTimestamp: Text = UNSET
    sentAt: Text = UNSET
    receivedAt: Text = UNSET
    version: int | str | UnsetType | None = UNSET
    channel: Text = UNSET
    projectId: Text = UNSET
    _metadata: Raw | UnsetType = UNSET
    writeKey: Text = UNSET


class Decoded(msgspec.Struct, gc=False):
    """A decoded event.

    ``extra`` are top-level fields that :class:`Event` does not know, verbatim; ``fault`` is a code that decoding
    found; ``checked`` says that the whole text was searched for duplicate keys, so that nobody need do it again.
    """

    event: Event
    extra: dict[str, Raw]
    fault: str | None
    checked: bool


_event_decoder: Final = msgspec.json.Decoder(Event)
_fields_decoder: Final = msgspec.json.Decoder(dict[str, Raw])
_encoder: Final = msgspec.json.Encoder()
_decode: Final = _event_decoder.decode
_encode: Final = _encoder.encode
_NOTHING: Final[dict[str, Raw]] = {}

_TEXT_FAULTS: Final = {
    "type": codes.INVALID_TYPE,
    "userId": codes.ID_NOT_STRING,
    "anonymousId": codes.ID_NOT_STRING,
    "groupId": codes.ID_NOT_STRING,
    "previousId": codes.ID_NOT_STRING,
    "event": codes.EVENT_NOT_STRING,
    "name": codes.NAME_NOT_STRING,
    "category": codes.CATEGORY_NOT_STRING,
}
_FAULT_ONLY_FOR: Final = {
    "groupId": ("group",),
    "previousId": ("alias",),
    "event": ("track",),
    "name": ("page", "screen"),
    "category": ("page", "screen"),
}
_RAW_FIELDS: Final = ("properties", "traits", "context", "integrations", "_metadata")
_TIMES: Final = ("timestamp", "originalTimestamp", "sentAt")


def decode_event(text: bytes, kind: str | None, checked: bool = False) -> Decoded:
    """Decode the top level of one event.

    ``kind`` is the type that the path implies, None in a batch. ``checked``: the text was already searched for
    duplicate keys. Raises InvalidJson.
    """
    try:
        event = _decode(text)
    except msgspec.ValidationError:
        return _decode_slowly(text, kind, checked)
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None
    if len(_encode(event)) != len(text):
        return _decode_slowly(text, kind, checked)
    if kind is not None:
        event.type = kind
    return Decoded(event, _NOTHING, None, checked)


def encode_event(event: Event, extra: dict[str, Raw]) -> bytes:
    body = _encode(event)
    if extra:
        return body[:-1] + b"," + _encode(extra)[1:]
    return body


def _decode_slowly(text: bytes, kind: str | None, checked: bool) -> Decoded:
    """Any event: unknown fields, fields of the wrong type, other spellings."""
    if not checked:
        load_unique(text)
    try:
        fields = _fields_decoder.decode(text)
    except msgspec.ValidationError:
        return Decoded(Event(), _NOTHING, codes.BAD_REQUEST, True)
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None
    event = Event()
    for name in _RAW_FIELDS:
        if name in fields:
            setattr(event, name, fields.pop(name))
    type_value = _value(fields.pop("type")) if "type" in fields else UNSET
    event.type = kind or (type_value if isinstance(type_value, str | UnsetType) else None)
    fault = codes.INVALID_TYPE if kind is None and not isinstance(type_value, str | UnsetType | None) else None
    _take_texts(event, fields, fault_holder := [fault])
    _take_others(event, fields)
    return Decoded(event, fields, fault_holder[0], True)


def _take_texts(event: Event, fields: dict[str, Raw], fault: list[str | None]) -> None:
    for name, code in _TEXT_FAULTS.items():
        if name not in fields:
            continue
        value = _value(fields[name])
        if value is None or isinstance(value, str):
            del fields[name]
            setattr(event, name, value)
        elif event.type in _FAULT_ONLY_FOR.get(name, (event.type,)):
            fault[0] = fault[0] or code


def _take_others(event: Event, fields: dict[str, Raw]) -> None:
    """Fields that never make an event fail."""
    if "messageId" in fields:
        raw = fields.pop("messageId")
        value = _value(raw)
        if isinstance(value, str):
            event.messageId = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            event.messageId = bytes(raw).decode()
    for name in _TIMES:
        if name in fields:
            raw = fields.pop(name)
            value = _value(raw)
            if isinstance(value, str) or value is None:
                setattr(event, name, value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                setattr(event, name, bytes(raw).decode())
    for name in ("version", "channel", "projectId"):
        if name in fields:  # a value of another type stays in ``fields``, hence verbatim in the event
            value = _value(fields[name])
            if isinstance(value, str):
                setattr(event, name, value)
                del fields[name]
    write_key = fields.pop("writeKey", None)
    if write_key is not None and isinstance(value := _value(write_key), str):
        event.writeKey = value
    fields.pop("receivedAt", None)


def _value(raw: Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None


__all__ = ["NAME_FIELDS", "TYPES", "Decoded", "Event", "InvalidJson", "Text", "decode_event", "encode_event"]
