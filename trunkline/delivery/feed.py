"""Where a lane's events come from when they are not handed to it: the accepted log, once it has fallen behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.log.records import AcceptedEvent
from trunkline.spec.outcomes import OBJECT
from trunkline.state.base import Interval, LaneState, place_of, position_of

READ_BYTES: Final = 1 << 20

Taken = Sequence[tuple[int, AcceptedEvent]]
"""Events with their places, in order."""


class Feed(Protocol):
    """A lane's own way to its events.

    ``behind`` is the position at which reading goes on; None: the lane has caught up and is handed its events.
    ``skip`` is the state that the lane was restored from, as long as events below it may come again. ``refuses``
    tells the outcome and the reason of an event that is not to be sent; None: there are none.
    """

    behind: int | None
    skip: LaneState | None
    refuses: Callable[[AcceptedEvent], tuple[str, str] | None] | None

    def restore(self, state: LaneState) -> None:
        """Go on where this state says."""
        ...

    def read(self) -> list[Taken]:
        """The next slice; may be empty although there is more (then ``behind`` has moved). When there is no more,
        ``behind`` is None. Raises LogError or RecordError; reading may then be tried again."""
        ...

    @property
    def mark(self) -> int:
        """The place at which reading goes on, while ``behind``."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether the next slice is being fetched: the lane is woken when it is there."""
        ...

    def remaining(self) -> dict[str, int]:
        """Events not yet read that are not settled, by source."""
        ...

    def close(self) -> None: ...


class LogFeed:
    """See :class:`Feed`."""

    def __init__(self, open_reader: Callable[[int], EnvelopeReader], dispatched: Callable[[], int]) -> None:
        """``dispatched`` tells the position up to which envelopes have been handed to lanes that keep up."""
        self.behind: int | None = None
        self.skip: LaneState | None = None
        self.refuses: Callable[[AcceptedEvent], tuple[str, str] | None] | None = None
        self._open_reader = open_reader
        self._dispatched = dispatched
        self._reader: EnvelopeReader | None = None
        self._intervals: dict[str, list[Interval]] = {}

    is_waiting = False

    @property
    def mark(self) -> int:
        return place_of(self.behind or 0, 0)

    def set_intervals(self, intervals: Iterable[Interval]) -> None:
        """The stretches in which the lane's sources were connected; events outside of them are not the lane's."""
        self._intervals = {}
        for interval in intervals:
            self._intervals.setdefault(interval.source, []).append(interval)

    def restore(self, state: LaneState) -> None:
        self.behind = position_of(state.mark)
        self.skip = state

    def read(self) -> list[Taken]:
        before, stop = self.behind, self._dispatched()
        if before is None or before >= stop:
            self._rejoin()
            return []
        slices: list[Taken] = []
        try:
            if self._reader is None:
                self._reader = self._open_reader(before)
            for placed in self._reader.read(READ_BYTES, stop):
                slices.append(list(self._own_events(placed)))
                self.behind = placed.next_position
            self.behind = self._reader.position
        except BaseException:
            self.close()
            raise
        if self.behind == before:
            self._rejoin()
        return slices

    def give_back(self, place: int) -> None:
        """Read the envelope of ``place`` and those behind it again. Nothing of them may have been taken."""
        self.close()
        self.behind = position_of(place)

    def _rejoin(self) -> None:
        self.behind = None
        self.skip = None
        self.close()

    def _own_events(self, placed: PlacedEnvelope) -> Iterator[tuple[int, AcceptedEvent]]:
        """The events of an envelope that fall into one of the lane's intervals."""
        for index, event in enumerate(placed.envelope.survivors):
            place = place_of(placed.position, index)
            intervals = self._intervals.get(event.source, ())
            if event.type != OBJECT and any(interval.holds(place) for interval in intervals):
                yield place, event

    def remaining(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        if self.behind is None:
            return counts
        reader = self._open_reader(self.behind)
        stop = self._dispatched()
        while reader.position < stop:
            before = reader.position
            for placed in reader.read(READ_BYTES, stop):
                for place, event in self._own_events(placed):
                    if self.skip is None or not self.skip.is_settled(place):
                        counts[event.source] = counts.get(event.source, 0) + 1
            if reader.position == before:
                break
        reader.close()
        return counts

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
