"""How events come into a lane: handed over by the dispatcher, or read by the lane itself once it has fallen behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from trunkline.clock import Clock
from trunkline.delivery.bulk import BulkLine
from trunkline.delivery.feed import Feed, LogFeed, Taken
from trunkline.delivery.judgement import NOTHING_REFUSED, Refused, RefusedKey, judge
from trunkline.delivery.ledger import Ledger
from trunkline.delivery.queue import LaneQueue
from trunkline.delivery.window import LaneEvent, Window
from trunkline.destinations.kit import OutgoingEvent
from trunkline.log.base import LogError
from trunkline.log.records import AcceptedEvent, RecordError
from trunkline.pipeline.gate import GateStage
from trunkline.spec.discards import Discard
from trunkline.spec.outcomes import FILTERED_AT_DESTINATION
from trunkline.state.base import MAX_SURVIVORS, LaneState, place_of

READ_AGAIN_S: Final = 5.0
"""After the log could not be read."""

_log = structlog.get_logger(__name__)


class LaneIntake:
    """Fills the lane's queue, or its bulk line, and keeps the window that the lane's mark is taken from."""

    def __init__(
        self,
        feed: Feed,
        queue: LaneQueue,
        bulk: BulkLine,
        ledger: Ledger,
        clock: Clock,
        *,
        on_change: Callable[[], None],
        on_counts: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """``on_change``: the lane's state is another; ``on_counts``: only what it has counted is. ``wake``: there is
        work for senders."""
        self.feed = feed
        self.window = Window()
        self._queue = queue
        self._bulk = bulk
        self._ledger = ledger
        self._clock = clock
        self._change = on_change
        self._counts_changed = on_counts
        self._wake = wake
        self._stage_of: Callable[[str], GateStage] | None = None
        self._next_slice: asyncio.Handle | None = None
        self._bulk_needs = 1

    def offer(self, position: int, taken: Taken, refused: Refused = NOTHING_REFUSED) -> None:
        """Take the events of the envelope at ``position`` that come from the lane's sources, in order.

        ``refused`` counts those of them that are not for this destination; all of the envelope's have been judged.
        """
        feed = self.feed
        if feed.behind is not None:
            return
        if taken and not self._has_room_for(len(taken)):
            feed.behind = position
            self._change()
            self._wake()  # an idle lane, offered more than it ever takes at once, must begin to read
            return
        if refused:
            self._ledger.refused_many(refused)
        if taken:
            self._take(taken, position if refused else None)
            self._wake()
        elif refused:
            self._change()
            self.window.settle(place_of(position, 0), place_of(position, MAX_SURVIVORS - 1))

    def pass_over(self, position: int, reason: RefusedKey, events: int) -> None:
        """As :meth:`offer` with nothing to take, ``events`` refused for one reason: with a thousand lanes it counts."""
        if self.feed.behind is not None:
            return
        self._ledger.refused_as(reason, events)
        if not self.window:
            self._counts_changed()  # the lane's state is what it was
            return
        self.window.settle(place_of(position, 0), place_of(position, MAX_SURVIVORS - 1))
        self._change()

    def judge_by(self, stage_of: Callable[[str], GateStage]) -> None:
        """What the lane reads by itself passes these stages, by source. What it is offered has passed them."""
        self._stage_of = stage_of

    def _has_room_for(self, events: int) -> bool:
        if self._bulk.takes:
            return self._bulk.can_take(events)
        return self._queue.has_room_for(events)

    def _take(self, taken: Taken, among: int | None = None) -> None:
        """``among``: the position of an envelope of which all other events of the lane are settled."""
        in_bulk = self._bulk.takes
        if self._bulk.in_use and not in_bulk:
            self._bulk.count(len(taken), behind=self.feed.behind is not None)
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        is_behind = self.feed.behind is not None
        window, first = self.window, 0 if among is None else place_of(among, 0)
        items: list[LaneEvent] = []
        size_bytes = 0
        for place, event in taken:
            if among is not None and place > first:
                window.settle(first, place - 1)
            first = place + 1
            if in_bulk:
                # If events before these are streamed and not settled, then after a crash all above them comes again.
                window.settle(place, place)
                continue
            outgoing = OutgoingEvent(
                event.message_id, event.source, event.type, event.name, event.body, event.app_version
            )
            waited_s = max(0, now_ms - event.received_at_ms) / 1000 if is_behind else 0.0
            item = LaneEvent(place, outgoing, event.received_at_ms, queued_s=now_s - waited_s)
            window.append(item)
            items.append(item)
            size_bytes += len(event.body)
        if among is not None:
            window.settle(first, place_of(among, MAX_SURVIVORS - 1))
        if in_bulk:
            self._bulk.add(taken)
        else:
            self._queue.extend(items, size_bytes)
        self._change()

    def _take_read(self, taken: Taken) -> None:
        """Take what the lane has read by itself, but for what is settled already or not for this destination."""
        skip, refuses = self.feed.skip, self.feed.refuses
        kept: list[tuple[int, AcceptedEvent]] = []
        for place, event in taken:
            judged: AcceptedEvent | None = event
            if skip is not None and skip.is_settled(place):
                judged = None
            elif refuses is not None and (verdict := refuses(event)) is not None:
                self._ledger.refused(event, *verdict)
                judged = None
            elif self._stage_of is not None:
                judged = self._judged(event, self._stage_of(event.source))
            if judged is not None:
                kept.append((place, judged))
                continue
            if kept:
                self._take(kept)
                kept = []
            self.window.settle(place, place)
            self._change()
        if kept:
            self._take(kept)

    def _judged(self, event: AcceptedEvent, stage: GateStage) -> AcceptedEvent | None:
        verdict = judge(event, stage)
        if isinstance(verdict, Discard):
            self._ledger.refused(event, FILTERED_AT_DESTINATION, verdict.reason)
            return None
        return verdict

    def refill(self) -> None:
        """While behind and there is room, read a slice of the log; rejoin when caught up.

        A slice at a time, for the loop's sake: among much that is not the lane's own its next event may be far away.
        """
        feed = self.feed
        if self._next_slice is not None or feed.is_waiting or not self._queue.wants_more:
            return
        if self._bulk.takes and not self._bulk.can_take(self._bulk_needs):
            return
        before = feed.behind
        try:
            for taken in feed.read():
                if taken and self._bulk.takes and isinstance(feed, LogFeed) and not self._bulk.can_take(len(taken)):
                    feed.give_back(taken[0][0])
                    self._bulk_needs = len(taken)  # not to be read again before there is room for it
                    break
                self._bulk_needs = 1
                self._take_read(taken)
        except (LogError, RecordError) as error:
            _log.error("lane.cannot_read", lane=self._ledger.lane, error=str(error), again_in_s=READ_AGAIN_S)
            self._next_slice = asyncio.get_running_loop().call_later(READ_AGAIN_S, self._go_on)
            self._change()
        else:
            if feed.behind is not None and feed.behind != before and not self._queue:
                self._next_slice = asyncio.get_running_loop().call_soon(self._go_on)
            if feed.behind != before:
                self._change()

    def _go_on(self) -> None:
        self._next_slice = None
        self._wake()

    def state(self) -> LaneState | None:
        """The mark and what is settled above it; None when the lane follows the dispatched position."""
        behind, skip = self.feed.behind, self.feed.skip
        settled = self.window.settled_runs()
        if self.window:
            mark, above = self.window.first_place, self.window.last_place
        elif behind is not None:
            mark = self.feed.mark
            if skip is not None:
                # Nothing has been read since the restart: the mark may lie within the envelope, and must not fall.
                mark = max(mark, skip.mark)
            above = mark
        else:
            return None
        if behind is not None and skip is not None:
            settled += [run for run in skip.settled if run[1] > above]
        return LaneState(self._ledger.lane, self._ledger.partition, mark, tuple(settled))
