"""The one ordered list of stages (``spec/event_path.md`` §0). What is not in it does not exist.

A *pure* stage is a function of the event and the workspace's snapshot. An *effect* stage reaches outside (an index,
a network); the worker runs it and hands it in where the order is needed: :func:`run_source_stages` takes the effects
by name, so the order is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from trunkline.log.records import IngestedChunk, LoggedEvent
from trunkline.spec.outcomes import FAILED, FAILED_ON_INGEST, FILTERED_AT_DESTINATION, FILTERED_AT_SOURCE


class Scope(Enum):
    """Who runs a stage."""

    INGEST = "ingest"
    SOURCE = "source stage"
    LANE = "lane"


@dataclass(frozen=True, slots=True)
class Stage:
    """``number`` is the stage's place in Segment's lifecycle; ``outcome`` where an event ends that it discards."""

    number: int
    name: str
    scope: Scope
    pure: bool
    outcome: str
    does: str


STAGES: Final[tuple[Stage, ...]] = (
    Stage(
        2,
        "ingest",
        Scope.INGEST,
        True,
        FAILED_ON_INGEST,
        "Authentication, size, JSON, validation of fields, normalisation (receivedAt, timestamp, messageId, context).",
    ),
    Stage(
        4,
        "dedupe",
        Scope.SOURCE,
        False,
        FILTERED_AT_SOURCE,
        "Discards an event whose messageId was first seen less than 24 hours ago, whatever its source.",
    ),
    Stage(
        8,
        "choice",
        Scope.LANE,
        True,
        FILTERED_AT_DESTINATION,
        "The user's consent, then the event's integrations, decide whether the destination gets the event.",
    ),
    Stage(
        9,
        "filters",
        Scope.LANE,
        True,
        FILTERED_AT_DESTINATION,
        "The destination's filters drop the event, or take properties out of it.",
    ),
    Stage(
        14,
        "batch",
        Scope.LANE,
        False,
        FAILED,
        "Gathers events into one request, where the destination takes several.",
    ),
    Stage(
        15,
        "send",
        Scope.LANE,
        False,
        FAILED,
        "Sends the event to the destination; what fails for a while is tried again for up to four hours.",
    ),
)

SEND: Final = "send"


@dataclass(slots=True)
class Candidate:
    """An event on its way through the source stages; ``reason`` is set by the stage that discards it."""

    chunk: IngestedChunk
    event: LoggedEvent
    reason: str | None = None
    outcome: str = FILTERED_AT_SOURCE


SourceEffect = Callable[[Sequence[Candidate]], None]
"""Looks at candidates that are still alive, in order, and sets ``reason`` on those it discards."""


def source_stages() -> tuple[Stage, ...]:
    """The stages between the ingested and the accepted log, in order."""
    return tuple(stage for stage in STAGES if stage.scope is Scope.SOURCE)


def run_source_stages(candidates: Sequence[Candidate], effects: Mapping[str, SourceEffect]) -> None:
    """Take candidates through the source stages in order. Raises KeyError when an effect was not handed in."""
    alive = candidates
    for stage in source_stages():
        effects[stage.name](alive)
        alive = [candidate for candidate in alive if candidate.reason is None]
