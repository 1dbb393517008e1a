"""The one ordered list of stages (``spec/event_path.md`` §0). What is not in it does not exist.

A *pure* stage is a function of the event and the workspace's snapshot. An *effect* stage reaches outside (an index,
a network); the worker runs it and hands it in where the order is needed: :func:`run_source_effects` takes the effects
by name, and a source's program puts its stages together by :func:`pure_source_stages`, so the order is decided here and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

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
        5,
        "plan",
        Scope.SOURCE,
        True,
        FILTERED_AT_SOURCE,
        "The source's tracking plan: unplanned events and properties, what breaks the event's rule, then the common "
        "one. Each is allowed, blocked or taken out.",
    ),
    Stage(
        6,
        "transformations",
        Scope.SOURCE,
        True,
        FILTERED_AT_SOURCE,
        "The source's transformations rename, move, set, hash or drop.",
    ),
    Stage(
        7,
        "schema",
        Scope.SOURCE,
        True,
        FILTERED_AT_SOURCE,
        "The source's schema filters block types and names of events, and take out traits.",
    ),
    Stage(
        8,
        "choice",
        Scope.LANE,
        True,
        FILTERED_AT_DESTINATION,
        "The user's consent, then the event's integrations, then the source's integration filters decide whether the "
        "destination gets the event.",
    ),
    Stage(
        9,
        "method",
        Scope.LANE,
        True,
        FILTERED_AT_DESTINATION,
        "The destination's type takes events of this type, from sources of this kind.",
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
        10,
        "destination_transformations",
        Scope.LANE,
        True,
        FILTERED_AT_DESTINATION,
        "The destination's transformations change what it alone gets.",
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


def source_stages() -> tuple[Stage, ...]:
    """The stages between the ingested and the accepted log, in order."""
    return tuple(stage for stage in STAGES if stage.scope is Scope.SOURCE)


def pure_source_stages() -> tuple[str, ...]:
    """The names of those that a source's program is made of, in order. They come after the effects."""
    stages = source_stages()
    effects = [stage for stage in stages if not stage.pure]
    assert list(stages[: len(effects)]) == effects, "a program runs as a whole, after every effect"
    return tuple(stage.name for stage in stages if stage.pure)


class Candidate(msgspec.Struct, gc=False, eq=False):
    """An event on its way through the source stages; ``reason`` is set by the stage that discards it."""

    chunk: IngestedChunk
    event: LoggedEvent
    reason: str | None = None
    outcome: str = FILTERED_AT_SOURCE


SourceEffect = Callable[[Sequence[Candidate]], None]
"""Looks at candidates that are still alive, in order, and sets ``reason`` on those it discards."""


def run_source_effects(candidates: Sequence[Candidate], effects: Mapping[str, SourceEffect]) -> list[Candidate]:
    """Take candidates through the source's effect stages in order; those that are left. Raises KeyError when an effect
    was not handed in."""
    alive = list(candidates)
    for stage in source_stages():
        if not stage.pure:
            effects[stage.name](alive)
            alive = [candidate for candidate in alive if candidate.reason is None]
    return alive
