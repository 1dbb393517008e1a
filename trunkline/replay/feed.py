"""Where a replay's lane gets its events: the archive, member by member, no faster than it may.

Members are read in a thread, one ahead. What cannot be read for a while (the store does not answer) is tried again and
again; what is missing or damaged for good is handed on as events that the lane refuses, so they are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import structlog

from trunkline.archive.errors import ArchiveCorrupt, ArchiveError, ObjectMissing
from trunkline.archive.reader import ArchivedEvent
from trunkline.clock import Clock
from trunkline.delivery.budget import LaneShare
from trunkline.delivery.feed import Taken
from trunkline.delivery.limiter import Limiter
from trunkline.log.records import AcceptedEvent
from trunkline.replay.errors import PlanDamaged
from trunkline.replay.plan import PlanMember, read_plan
from trunkline.replay.rewrite import Rewriter
from trunkline.spec.app_version import app_version_of
from trunkline.spec.outcomes import ARCHIVE_UNREADABLE, FAILED, FILTERED_AT_DESTINATION, MAX_EVENT_AGE
from trunkline.state.base import LaneState, place_of, position_of

SLICE_EVENTS: Final = 500
"""Handed over at once: what a lane takes in a few milliseconds."""
PORTION_S: Final = 0.1
"""With a rate of its own a replay gets so long a stretch's events at once."""
BUSY_EVENTS: Final = 100
BUSY_WAIT_S: Final = 0.25
"""While the worker has its hands full with live events: so many of a replay's, so often."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
GIVE_UP_AFTER: Final = 3
"""So often a member that is missing or damaged is read before its events are counted as failed."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Pace:
    """What makes a replay slow. ``busy`` tells whether live events keep the worker busy; ``share`` is the memory of the
    lane's queue: a replay with a rate is given more only when it is empty, or what piles up behind a slow destination
    would come out at once."""

    clock: Clock
    share: LaneShare
    busy: Callable[[], bool]
    events_per_s: float | None
    _limiter: Limiter = field(init=False)

    def __post_init__(self) -> None:
        self._limiter = Limiter(self.clock, None, self.events_per_s)

    def allowance(self) -> tuple[int, float]:
        """How many events may be handed over now, or, when it is none, how many seconds to wait."""
        events = BUSY_EVENTS if self.busy() else SLICE_EVENTS
        if self.events_per_s is not None:
            if self.share.held_bytes > 0:
                return 0, PORTION_S
            events = min(events, max(1, int(self.events_per_s * PORTION_S)))
            wait_s = self._limiter.wait_s(events)
            if wait_s > 0:
                return 0, wait_s
        return events, 0.0

    def pause_after(self) -> float:
        """Seconds to wait after a portion."""
        return BUSY_WAIT_S if self.busy() else 0.0

    def took(self, events: int) -> None:
        if self.events_per_s is not None:
            self._limiter.take(events)


@dataclass(slots=True)
class _Slice:
    """A member's selected events, ready to be sent. ``at`` is the next one."""

    position: int
    events: list[tuple[int, AcceptedEvent]]
    at: int = 0


class ReplayFeed:
    """See :class:`trunkline.delivery.feed.Feed`. ``behind`` is never None: at the end it stays behind the last member.
    Lives on the worker's loop; call :meth:`connect` before use."""

    def __init__(
        self,
        replay_id: str,
        plan: Path,
        end: int,
        remaining: dict[str, int],
        *,
        read_member: Callable[[int], list[ArchivedEvent]],
        rewriter: Rewriter,
        pace: Pace,
        executor: Executor,
        clock: Clock,
        max_event_age_s: float | None = None,
    ) -> None:
        """``end`` is the position behind the plan's last member, ``remaining`` the events by source that the lane has
        not settled (:func:`trunkline.replay.plan.count_plan`)."""
        self.behind: int | None = 0
        self.skip: LaneState | None = None
        self.refuses: Callable[[AcceptedEvent], tuple[str, str] | None] | None = self._refuses
        self.rewriter = rewriter
        self.max_event_age_s = max_event_age_s
        self._id = replay_id
        self._plan = plan
        self._end = end
        self._remaining = remaining
        self._read_member = read_member
        self._pace = pace
        self._executor = executor
        self._clock = clock
        self._on_ready: Callable[[], None] = lambda: None
        self._members: Iterator[PlanMember] | None = None
        self._next_position = 0
        self._wanted: PlanMember | None = None
        self._current: _Slice | None = None
        self._ahead: _Slice | None = None
        self._ended = False
        self._fetching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def connect(self, on_ready: Callable[[], None]) -> None:
        """``on_ready`` is called when there is a next slice; the lane's ``wake``."""
        self._on_ready = on_ready

    # -- what a lane asks ----------------------------------------------------------------------------------------

    def restore(self, state: LaneState) -> None:
        self.behind = self._next_position = position_of(state.mark)
        self.skip = state

    @property
    def mark(self) -> int:
        current = self._current
        if current is not None and 0 < current.at < len(current.events):
            return current.events[current.at][0]
        return place_of(self.behind or 0, 0)

    @property
    def at_end(self) -> bool:
        """Whether all has been handed over."""
        return self.behind is not None and self.behind >= self._end

    @property
    def is_waiting(self) -> bool:
        if self._timer is not None:
            return True
        return self._current is None and self._ahead is None and self._fetching is not None

    def read(self) -> list[Taken]:
        if self._closed or self.at_end:
            return []
        self._forget_skip()
        if self._current is None:
            self._current, self._ahead = self._ahead, None
        self._fetch()
        current = self._current
        if current is None:
            return []
        allowed, wait_s = self._pace.allowance()
        if not allowed:
            self._wait(wait_s)
            return []
        taken = current.events[current.at : current.at + allowed]
        self._pace.took(len(taken))
        current.at += len(taken)
        skip = self.skip
        for place, event in taken:
            if skip is None or not skip.is_settled(place):
                self._remaining[event.source] -= 1
        if current.at == len(current.events):
            self.behind = current.position + 1
            self._current = None
            self._fetch()
        else:
            self.behind = current.position
        self._wait(self._pace.pause_after())
        return [taken]

    def remaining(self) -> dict[str, int]:
        return {source: count for source, count in self._remaining.items() if count}

    @property
    def remaining_events(self) -> int:
        return sum(self._remaining.values())

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._fetching is not None:
            self._fetching.cancel()

    def _forget_skip(self) -> None:
        """Once it speaks of nothing that may come; not before the lane has looked at what it was given last."""
        skip, behind = self.skip, self.behind
        if skip is not None and behind is not None:
            last = max([skip.mark, *(run[1] for run in skip.settled)])
            if behind > position_of(last):
                self.skip = None

    def _wait(self, wait_s: float) -> None:
        """The lane is woken then; also at once, since it does not come again by itself if it could send nothing."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if not self.is_waiting:
            self._on_ready()

    # -- what is not sent ----------------------------------------------------------------------------------------

    def _refuses(self, event: AcceptedEvent) -> tuple[str, str] | None:
        if not event.body:
            return FAILED, ARCHIVE_UNREADABLE
        age_s = self.max_event_age_s
        if age_s is not None and event.received_at_ms < self._clock.now_ms() - age_s * 1000:
            return FILTERED_AT_DESTINATION, MAX_EVENT_AGE
        return None

    # -- reading -------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Have the next member read, unless one is ahead."""
        if self._fetching is None and self._ahead is None and not self._ended and not self._closed:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch_next())

    async def _fetch_next(self) -> None:
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            tries += 1
            try:
                self._ahead = await loop.run_in_executor(self._executor, self._next_slice)
                break
            except (ObjectMissing, ArchiveCorrupt) as error:
                if tries >= GIVE_UP_AFTER:
                    _log.error("replay.archive_unreadable", replay=self._id, error=str(error))
                    self._ahead = self._lost()
                    break
                trouble: Exception = error
            except (ArchiveError, PlanDamaged) as error:
                trouble = error
            wait_s = min(FIRST_RETRY_S * 2 ** min(tries - 1, 10), LONGEST_RETRY_S)
            _log.warning("replay.cannot_read", replay=self._id, error=str(trouble), again_in_s=wait_s)
            await asyncio.sleep(wait_s)
        self._fetching = None
        self._ended = self._ahead is None
        if self._ended and self._current is None:
            # The plan ends before its end: nothing more can come.
            self.behind = max(self.behind or 0, self._end)
        if self._timer is None:
            self._on_ready()

    def _next_slice(self) -> _Slice | None:
        """In a thread. A member that could not be read is tried again by the next call."""
        if self._wanted is None:
            if self._members is None:
                self._members = read_plan(self._plan, self._next_position)
            try:
                self._wanted = next(self._members, None)
            except PlanDamaged:
                self._members = None
                raise
        member = self._wanted
        if member is None:
            return None
        self._next_position = member.position + 1
        found = self._lost() if not member.readable else self._read(member)
        self._wanted = None
        return found

    def _read(self, member: PlanMember) -> _Slice:
        events = self._read_member(member.position)
        if len(events) != member.events or events[0].place != member.first_place:
            raise ArchiveCorrupt(
                f"member {member.position} of the archive is not the one that was selected: the index was made anew. "
                "Cancel this replay and start another"
            )
        try:
            return _Slice(member.position, [self._placed(member, events[line]) for line in member.selected_lines()])
        except msgspec.MsgspecError as error:
            raise ArchiveCorrupt(f"member {member.position} of the archive holds what is no event: {error}") from error

    def _placed(self, member: PlanMember, event: ArchivedEvent) -> tuple[int, AcceptedEvent]:
        return place_of(member.position, event.line), AcceptedEvent(
            event.source,
            event.received_at_ms,
            event.message_id,
            event.type,
            event.name,
            self.rewriter.rewrite(event.body),
            app_version_of(event.body),
        )

    def _lost(self) -> _Slice:
        """The wanted member's events, as the lane will refuse them."""
        member = self._wanted
        assert member is not None
        self._wanted = None
        lost = AcceptedEvent(member.source, 0, "", "", "", b"")
        return _Slice(member.position, [(place_of(member.position, line), lost) for line in member.selected_lines()])
