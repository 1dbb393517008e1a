"""An event of an archive or a fallback log, made fit to be sent again (``spec/event_path.md`` §1.7, §1.12).

* ``timestamp`` and ``originalTimestamp`` stay as they are: the event happened when it happened. ``sentAt`` goes,
  because the server would take the time since then for the error of the client's clock and move the timestamp. An
  event without either gets the time at which it was received, else sent, the first time.
* ``messageId`` stays, so that an event which had arrived is taken out as a duplicate (within 24 hours). An event
  without one gets one made of its text and line, the same whenever the line is sent.
* What a server wrote goes: ``receivedAt``, ``projectId``, and ``sent_at``, ``message_id``, ``project_id``,
  ``received_at`` of older archives. So does ``writeKey``: who sends decides on the source.

All other fields keep the very bytes that they have.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Raw

from trunkline.client.lines import Line
from trunkline.spec import codes
from trunkline.spec.codes import CODES
from trunkline.spec.limits import MAX_EVENT_BYTES
from trunkline.spec.strict_json import InvalidJson, check_utf8, load_unique

_TIMES: Final = ("timestamp", "originalTimestamp")
_FALLBACK_TIMES: Final = ("receivedAt", "received_at", "sentAt", "sent_at")
_DROPPED: Final = (
    "sentAt",
    "receivedAt",
    "projectId",
    "writeKey",
    "sent_at",
    "received_at",
    "message_id",
    "project_id",
)
_NOTHING: Final = (b"null", b'""')
_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class BadLine(Exception):
    """The line is no event that could be sent. ``code`` is one of the server's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def restore_event(line: Line) -> bytes:
    """The event as it is sent. Raises BadLine."""
    if line.cut:
        raise BadLine(codes.EVENT_TOO_LARGE, CODES[codes.EVENT_TOO_LARGE].meaning)
    text = line.text
    try:
        check_utf8(text)
        load_unique(text)
        fields = _decode_fields(text)
    except InvalidJson as error:
        raise BadLine(codes.INVALID_REQUEST, str(error)) from None
    except msgspec.ValidationError:
        raise BadLine(codes.BAD_REQUEST, "The line is not a JSON object.") from None
    if "type" not in fields and "batch" in fields:
        raise BadLine(codes.BAD_REQUEST, "The line is a batch; one event a line is expected.")
    if not any(_given(fields.get(name)) for name in _TIMES):
        when = next((fields[name] for name in _FALLBACK_TIMES if _given(fields.get(name))), None)
        if when is not None:
            fields["timestamp"] = when
    for name in _DROPPED:
        fields.pop(name, None)
    if not _given(fields.get("messageId")):
        digest = blake2b(b"%d\n%b" % (line.number, text), digest_size=16).hexdigest()
        fields["messageId"] = Raw(b'"line-%b"' % digest.encode())
    body = _encode(fields)
    if len(body) > MAX_EVENT_BYTES:
        raise BadLine(codes.EVENT_TOO_LARGE, CODES[codes.EVENT_TOO_LARGE].meaning)
    return body


def _given(raw: Raw | None) -> bool:
    return raw is not None and bytes(raw) not in _NOTHING
