"""What a destination missed while it was disabled or not connected, from the intervals in the state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trunkline.replay.model import PlaceRange, ReplaySpec
from trunkline.state.base import Interval


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which a source's events did not go to a destination: places [``first``, ``end``) of the accepted
    log. ``end`` None: it lasts. ``since_ms`` None: the source was never connected before."""

    source: str
    first: int
    end: int | None
    since_ms: int | None
    until_ms: int | None


def gaps_of(intervals: Iterable[Interval], destination: str, source: str) -> list[Gap]:
    """All gaps of a connection, oldest first."""
    own = sorted(
        (one for one in intervals if (one.destination, one.source) == (destination, source)),
        key=lambda interval: interval.open_place,
    )
    gaps: list[Gap] = []
    first: int | None = 0
    since_ms: int | None = None
    for interval in own:
        if first is not None and first < interval.open_place:
            gaps.append(Gap(source, first, interval.open_place, since_ms, interval.opened_at_ms))
        first, since_ms = interval.close_place, interval.closed_at_ms
    if first is not None:
        gaps.append(Gap(source, first, None, since_ms, None))
    return gaps


def subtract(ranges: Iterable[PlaceRange], others: Iterable[PlaceRange]) -> list[PlaceRange]:
    """What of ``ranges`` is in none of ``others``."""
    taken: dict[str, list[PlaceRange]] = {}
    for other in others:
        taken.setdefault(other.source, []).append(other)
    left: list[PlaceRange] = []
    for wanted in ranges:
        first = wanted.first
        for other in sorted(taken.get(wanted.source, []), key=lambda one: one.first):
            if other.end <= first or other.first >= wanted.end:
                continue
            if first < other.first:
                left.append(PlaceRange(wanted.source, first, other.first))
            first = other.end
        if first < wanted.end:
            left.append(PlaceRange(wanted.source, first, wanted.end))
    return left


def replayed_ranges(specs: Iterable[ReplaySpec], destination: str) -> dict[str, Sequence[PlaceRange]]:
    """What earlier replays of gaps brought, or will bring, to a destination in full, by their ids."""
    return {
        spec.id: spec.ranges
        for spec in specs
        if spec.destination == destination
        and spec.ranges
        and spec.wanted != "cancel"
        and not (spec.types or spec.names or spec.since_ms is not None or spec.until_ms is not None)
    }
