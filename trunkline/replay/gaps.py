"""What a destination missed while it was disabled or not connected, from the intervals in the state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trunkline.replay.errors import NothingMissed
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


def missed(
    intervals: Sequence[Interval],
    destination: str,
    sources: Sequence[str],
    *,
    head: int,
    since_ms: int | None,
    until_ms: int | None,
    earlier: Iterable[ReplaySpec],
) -> tuple[list[PlaceRange], list[str]]:
    """What a destination missed of these sources and earlier replays of gaps have not brought, up to place ``head``.

    Without times: the last gap of each connection, up to when it was last opened. With them: all gaps, to be narrowed
    by receivedAt. Also the sources that were left out because they were never connected before: what was missed of them
    has no beginning. Raises NothingMissed, with the reason.
    """
    by_time = since_ms is not None or until_ms is not None
    ranges: list[PlaceRange] = []
    endless: list[str] = []
    for source in sources:
        gaps = gaps_of(intervals, destination, source)
        if not by_time:
            gaps = gaps[-1:]
            if gaps and gaps[0].since_ms is None:
                endless.append(source)
                continue
        ranges += [PlaceRange(source, gap.first, head if gap.end is None else gap.end) for gap in gaps]
    ranges = [one for one in ranges if one.first < one.end]
    if not ranges:
        if endless:
            raise NothingMissed(
                f"{destination} was never connected to {', '.join(endless)} before, so what it missed has no "
                "beginning. Say from when on with --since"
            )
        raise NothingMissed(f"{destination} has missed nothing. To send it events once more, leave out --gap")
    brought = replayed_ranges(earlier, destination)
    left = subtract(ranges, [one for parts in brought.values() for one in parts])
    if not left:
        raise NothingMissed(
            f"what {destination} missed was replayed by {', '.join(brought)}. To send it once more, leave out --gap "
            "and say from when on with --since"
        )
    return left, endless
