"""Makes a plan: goes through the archive once, selects, counts what it selects."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trunkline.archive.errors import ArchiveCorrupt, ObjectMissing
from trunkline.archive.members import Member, Members
from trunkline.archive.reader import ArchivedEvent
from trunkline.replay.model import PlaceRange
from trunkline.replay.plan import PlanMember, PlanWriter, bitmap


class Archive(Members, Protocol):
    """What of the archive's reader is used."""

    def by_place_range(
        self, source: str, first_place: int, end_place: int, *, partition: str = "0", start: int = 0
    ) -> Iterator[Member]: ...

    def read_member(self, position: int) -> list[ArchivedEvent]: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events. ``since_ms`` and ``until_ms`` bound receivedAt (half open); ``ranges`` None: wherever they stood in
    the accepted log; ``types`` and ``names`` empty: all."""

    sources: Sequence[str]
    since_ms: int | None = None
    until_ms: int | None = None
    types: Sequence[str] = ()
    names: Sequence[str] = ()
    ranges: Sequence[PlaceRange] | None = None

    def holds(self, event: ArchivedEvent) -> bool:
        if self.since_ms is not None and event.received_at_ms < self.since_ms:
            return False
        if self.until_ms is not None and event.received_at_ms >= self.until_ms:
            return False
        if (self.types and event.type not in self.types) or (self.names and event.name not in self.names):
            return False
        return self.ranges is None or any(
            one.source == event.source and one.first <= event.place < one.end for one in self.ranges
        )

    def members(self, archive: Archive) -> Iterator[Member]:
        """Members that may hold such events, each once, by position."""
        if self.ranges is None:
            yield from archive.members(
                sources=self.sources,
                since_ms=self.since_ms,
                until_ms=self.until_ms,
                stop=archive.last_position() + 1,
            )
            return
        before = -1
        stop = archive.last_position() + 1
        ways = [archive.by_place_range(one.source, one.first, one.end) for one in self.ranges]
        for member in heapq.merge(*ways, key=lambda member: member.position):
            outside = (self.since_ms is not None and member.last_received_at_ms < self.since_ms) or (
                self.until_ms is not None and member.first_received_at_ms >= self.until_ms
            )
            if before < member.position < stop and not outside:
                before = member.position
                yield member


@dataclass(slots=True)
class Survey:
    """What a plan holds. ``too_old`` are events that the destination's ``max_event_age_s`` refuses already,
    ``unreadable`` those of members that cannot be read; times are receivedAt."""

    selected: dict[str, int] = field(default_factory=dict)
    by_type: Counter[tuple[str, str]] = field(default_factory=Counter)
    size_bytes: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    too_old: int = 0
    unreadable: int = 0
    troubles: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(self.selected.values())


MAX_TROUBLES = 10


def survey(
    archive: Archive,
    selection: Selection,
    plan: PlanWriter,
    *,
    oldest_ms: int | None = None,
    on_progress: Callable[[int], None] = lambda events: None,
) -> Survey:
    """Select, and write the plan. ``oldest_ms``: older events will be refused; ``on_progress`` hears how many events
    were looked at. Raises StoreError, IndexFailed for an archive that cannot be reached; members that are missing or
    damaged are part of the result."""
    result = Survey()
    looked_at = 0
    for member in selection.members(archive):
        looked_at += member.events
        try:
            events = archive.read_member(member.position)
        except (ObjectMissing, ArchiveCorrupt) as error:
            # Which of them would be selected cannot be known. None is passed over: they will be counted as failed.
            if len(result.troubles) < MAX_TROUBLES:
                result.troubles.append(str(error))
            result.unreadable += member.events
            _add(result, member, plan, range(member.events), readable=False)
            continue
        chosen = [event for event in events if selection.holds(event)]
        if not chosen:
            continue
        _add(result, member, plan, [event.line for event in chosen], readable=True)
        for event in chosen:
            result.by_type[event.source, event.type] += 1
            result.size_bytes += len(event.body)
            if oldest_ms is not None and event.received_at_ms < oldest_ms:
                result.too_old += 1
        first_ms = min(event.received_at_ms for event in chosen)
        last_ms = max(event.received_at_ms for event in chosen)
        result.first_ms = first_ms if result.first_ms is None else min(result.first_ms, first_ms)
        result.last_ms = last_ms if result.last_ms is None else max(result.last_ms, last_ms)
        on_progress(looked_at)
    return result


def _add(result: Survey, member: Member, plan: PlanWriter, lines: Sequence[int], *, readable: bool) -> None:
    plan.add(
        PlanMember(
            member.position,
            member.source,
            member.first_place,
            member.events,
            bitmap(lines, member.events),
            readable,
        )
    )
    result.selected[member.source] = result.selected.get(member.source, 0) + len(lines)
