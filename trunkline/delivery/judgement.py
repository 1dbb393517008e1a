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

NOTHING_REFUSED: Final[Refused] = {}
_BROKEN: Final = Discard(INVALID_FILTER, "a stage failed on the event")

_log = structlog.get_logger(__name__)
decode_event: Final = msgspec.json.Decoder(dict).decode


def judge(event: AcceptedEvent, stage: GateStage) -> AcceptedEvent | Discard:
    """The event as it is to be sent (the same object when nothing touched it), or why it is not."""
    if not stage.needs(event.body):
        return event
    return judge_decoded(event, decode_event(event.body), stage)


def judge_decoded(event: AcceptedEvent, decoded: Mapping[str, object], stage: GateStage) -> AcceptedEvent | Discard:
    """As :func:`judge`, for an event that has been decoded for another destination already."""
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
