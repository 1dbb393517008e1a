"""How fast lanes widen: a worker-wide brake on requests that begin side by side.

A sender that has had its answer goes on at once. A further one, beside those that a lane has, waits for its turn: so
many begin in one round of the event loop, lanes one after another. While the loop keeps up a turn comes at once; a loop
that is busy with a thousand lanes finishes requests before it begins more, so connections are used again instead of
being opened by the thousand. What is under way at a slow peer takes no turn from anybody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

STARTS_A_ROUND: Final = 1


class Starter(Protocol):
    """A lane that waits for its turn."""

    def wake(self) -> None: ...


class Pace:
    """One for a worker; lives on its loop."""

    def __init__(self, starts_a_round: int = STARTS_A_ROUND) -> None:
        self._starts = starts_a_round
        self._left = starts_a_round
        self._line: deque[Starter] = deque()
        self._waiting: set[Starter] = set()
        self._scheduled = False
        self._turn: Starter | None = None

    def may_start(self, lane: Starter) -> bool:
        """Whether the lane may begin one more request now. If not, it is woken when its turn has come."""
        if self._left > 0 and (not self._line or self._turn is lane):
            self._left -= 1
            self._turn = None
            self._schedule()
            return True
        if lane not in self._waiting:
            self._waiting.add(lane)
            self._line.append(lane)
            self._schedule()
        return False

    def will_wake(self, lane: Starter) -> bool:
        """Whether the lane is in the line already."""
        return lane in self._waiting

    @property
    def is_busy(self) -> bool:
        """Whether a round is still to come."""
        return self._scheduled

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._scheduled = False
        self._left = self._starts
        while self._line and self._left > 0:  # each either begins a request or leaves the line
            self._turn = self._line.popleft()
            self._waiting.discard(self._turn)
            self._turn.wake()
            self._turn = None
        if self._line:
            self._schedule()
