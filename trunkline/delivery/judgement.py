"""Whether an accepted event is for a destination: the lane's pure stages on one event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from trunkline.log.records import AcceptedEvent
from trunkline.pipeline.gate import GateStage
from trunkline.spec.discards import INVALID_FILTER, Discard

Kind = tuple[str, str, str, str]
"""Source, type, name and app version."""

Refused = Mapping[tuple[Kind, str], int]
"""How many events of a kind were refused for a reason."""

RefusedKey = tuple[Kind, str, str]
"""Kind, outcome and reason, as the ledger counts them."""

NOTHING_REFUSED: Final[Refused] = {}
_BROKEN: Final = Discard(INVALID_FILTER, "a stage failed on the event")

_log = structlog.get_logger(__name__)
_decode: Final = msgspec.json.Decoder(dict).decode
_UNREADABLE: Final[Mapping[str, object]] = {}
"""This very object: an event that cannot be decoded, which ingest lets nobody send. It goes nowhere unjudged."""


def decode_event(body: bytes) -> Mapping[str, object]:
    """Never raises."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        _log.error("event.not_decoded", error=str(error))
        return _UNREADABLE


def judge(event: AcceptedEvent, stage: GateStage) -> AcceptedEvent | Discard:
    """The event as it is to be sent (the same object when nothing touched it), or why it is not."""
    if not stage.needs(event.type, event.name, event.body):
        return event
    return judge_decoded(event, decode_event(event.body), stage)


def judge_decoded(event: AcceptedEvent, decoded: Mapping[str, object], stage: GateStage) -> AcceptedEvent | Discard:
    """As :func:`judge`, for an event that has been decoded for another destination already."""
    if decoded is _UNREADABLE:
        return _BROKEN
    try:
        verdict = stage.passes(decoded, event.body)
    except Exception as error:  # noqa: BLE001 - a stage's bug must not end the worker; nothing passes it unseen
        _log.exception("stage.bug", error=type(error).__name__)
        return _BROKEN
    if isinstance(verdict, Discard):
        return verdict
    if verdict is event.body:
        return event
    return AcceptedEvent(
        event.source,
        event.received_at_ms,
        event.message_id,
        event.type,
        event.name,
        verdict,
        event.app_version,
    )
