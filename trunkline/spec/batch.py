"""The body of ``/v1/batch``, ``/v1/import`` and ``/v1/b``: its envelope decoded, its items left as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.spec.limits import MAX_EVENT_BYTES
from trunkline.spec.strict_json import InvalidJson, check_utf8, explain, load_unique, minify

_NOT_A_BATCH: Final = "the body must be a JSON object with an array of events in batch"


class _Envelope(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields that SDKs send. The messageId (Go) and the sequence (Java) of a batch mean nothing here."""

    batch: list[Raw] | UnsetType = UNSET
    writeKey: str | UnsetType | None = UNSET
    sentAt: str | UnsetType | None = UNSET
    context: Raw | UnsetType = UNSET
    integrations: Raw | UnsetType = UNSET
    messageId: str | UnsetType | None = UNSET
    sequence: int | UnsetType = UNSET


@dataclass(slots=True)
class Batch:
    """``items`` are the texts of the events; ``checked`` says that the whole body was searched for duplicate keys.

    ``context`` and ``integrations`` are what the batch says for all its items, None if it says nothing.
    """

    items: list[Raw]
    write_key: str | None
    sent_at: str | None
    context: bytes | None
    integrations: bytes | None
    checked: bool


_decode: Final = msgspec.json.Decoder(_Envelope).decode
_encode: Final = msgspec.json.Encoder().encode
_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def parse_batch(body: bytes) -> Batch:
    """Raises InvalidJson if the body is no strict JSON object, or ``batch`` no array.

    A body without ``batch`` is an empty batch. Whitespace between tokens is dropped, if there is any, so that the
    items can take the fast path (:mod:`trunkline.spec.event`).
    """
    check_utf8(body)
    envelope = _try(body)
    if envelope is not None:
        return _batch(envelope)
    sent, body = body, minify(body)
    envelope = _try(body)
    batch = _parse_slowly(body) if envelope is None else _batch(envelope)
    _restore_large_items(batch.items, sent, len(sent) - len(body))
    return batch


def _batch(envelope: _Envelope) -> Batch:
    for raw in (envelope.context, envelope.integrations):
        if raw is not UNSET:
            load_unique(bytes(raw))
    return Batch(
        items=[] if envelope.batch is UNSET else envelope.batch,
        write_key=envelope.writeKey or None,
        sent_at=envelope.sentAt or None,
        context=_object(envelope.context, "context"),
        integrations=_object(envelope.integrations, "integrations"),
        checked=False,
    )


def _restore_large_items(items: list[Raw], sent: bytes, whitespace_bytes: int) -> None:
    """Puts items that are above the limit only with their whitespace back as sent, because the limit is on that."""
    doubtful = [index for index, raw in enumerate(items) if len(bytes(raw)) + whitespace_bytes > MAX_EVENT_BYTES]
    if doubtful:
        as_sent = _decode_items(_decode_fields(sent)["batch"])
        for index in doubtful:
            if len(bytes(as_sent[index])) > MAX_EVENT_BYTES:
                items[index] = as_sent[index]


def _try(body: bytes) -> _Envelope | None:
    """The envelope, if encoding it again proves that no field was unknown or doubled."""
    try:
        envelope = _decode(body)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None
    return envelope if len(_encode(envelope)) == len(body) else None


def _parse_slowly(body: bytes) -> Batch:
    load_unique(body)
    try:
        fields = _decode_fields(body)
        items = _decode_items(fields.get("batch", b"[]"))
    except msgspec.ValidationError:
        raise InvalidJson(_NOT_A_BATCH) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise explain(error) from None
    return Batch(
        items=items,
        write_key=_text(fields.get("writeKey")),
        sent_at=_text(fields.get("sentAt")),
        context=_object(fields.get("context", UNSET), "context"),
        integrations=_object(fields.get("integrations", UNSET), "integrations"),
        checked=True,
    )


def _text(raw: Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return _decode_text(raw) or None
    except msgspec.ValidationError:
        return None


def _object(raw: Raw | UnsetType, name: str) -> bytes | None:
    text = b"null" if isinstance(raw, UnsetType) else bytes(raw)
    if text == b"null" or text == b"{}":
        return None
    if text[0] != 0x7B:
        raise InvalidJson(f"{name} of the batch must be a JSON object")
    return text
