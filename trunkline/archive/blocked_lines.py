"""A line of a file of blocked events: the event as it was ingested, and beside it what the source stage said of it."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from trunkline.log.records import BlockedEvent
from trunkline.spec.timestamps import format_timestamp, parse_timestamp


class BlockedLine(msgspec.Struct, gc=False):
    """See :class:`trunkline.archive.file_draft.Line`."""

    received_at_ms: int
    message_id: str
    body: bytes


_NOTHING: Final = Raw()


class _Content(msgspec.Struct, gc=False, omit_defaults=True):
    """The keys of a line, in the spelling of events. ``event`` keeps its bytes, ``protocols`` is absent for nothing."""

    reason: str
    source: str
    receivedAt: str
    messageId: str
    type: str
    name: str
    event: Raw
    protocols: Raw = _NOTHING


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Content).decode


def blocked_line(event: BlockedEvent) -> BlockedLine:
    """What is kept of a blocked event."""
    content = _Content(
        event.reason,
        event.source,
        format_timestamp(event.received_at_ms * 1000),
        event.message_id,
        event.type,
        event.name,
        Raw(event.body),
        Raw(event.protocols) if event.protocols else _NOTHING,
    )
    return BlockedLine(event.received_at_ms, event.message_id, _encode(content))


def read_blocked_line(line: bytes) -> BlockedEvent:
    """The blocked event of a line. Raises ValueError, of which msgspec's errors are, for what is none."""
    content = _decode(line)
    received_at_us = parse_timestamp(content.receivedAt)
    if received_at_us is None:
        raise ValueError(f"{content.receivedAt!r} is no time")
    return BlockedEvent(
        content.source,
        received_at_us // 1000,
        content.messageId,
        content.type,
        content.name,
        bytes(content.event),
        content.reason,
        bytes(content.protocols),
    )
