"""What all lanes of a worker may hold in memory together."""

from __future__ import annotations

from typing import Final

MIN_BYTES: Final = 256 * 1024
"""What a lane may hold however many others there are: enough to keep sending."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""What a lane may hold when it is alone: more would not make it faster."""


class MemoryBudget:
    """``total_bytes``, divided among the lanes that hold anything; idle lanes take nothing from the others.

    Lanes that ask :attr:`LaneShare.is_full` before each event they add hold together at most the total,
    :data:`MIN_BYTES` a lane and one event a lane.
    """

    def __init__(self, total_bytes: int) -> None:
        if total_bytes < 1:
            raise ValueError(f"a memory budget of {total_bytes} bytes: give 1 or more")
        self.total_bytes = total_bytes
        self._held_bytes = 0
        self._holders = 0
        self._share_bytes = self._share_of(1)
        self._lanes: set[str] = set()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @property
    def holders(self) -> int:
        """Lanes that hold anything."""
        return self._holders

    def share(self, lane_id: str) -> LaneShare:
        """A lane's share, to be closed with it. Raises ValueError while the lane has one already."""
        if lane_id in self._lanes:
            raise ValueError(f"lane {lane_id!r} has a share of the memory budget already: close that one first")
        self._lanes.add(lane_id)
        return LaneShare(self, lane_id)

    def _share_of(self, holders: int) -> int:
        return max(MIN_BYTES, min(MAX_BYTES, self.total_bytes // max(1, holders)))


class LaneShare:
    """What one lane holds. After :meth:`close` it counts nothing any more."""

    __slots__ = ("_budget", "_closed", "held_bytes", "lane_id")

    def __init__(self, budget: MemoryBudget, lane_id: str) -> None:
        self.lane_id = lane_id
        self.held_bytes = 0
        self._budget = budget
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether the lane should take nothing more for now.

        It is when the lane holds more than its share, and, once the total is used up, more than :data:`MIN_BYTES`:
        lanes that stand still would otherwise keep what was fair when there were fewer of them.
        """
        held_bytes = self.held_bytes
        if held_bytes <= MIN_BYTES:
            return False
        budget = self._budget
        return held_bytes > budget._share_bytes or budget._held_bytes > budget.total_bytes

    def add(self, size_bytes: int) -> None:
        self._change(size_bytes)

    def remove(self, size_bytes: int) -> None:
        """Raises ValueError for more than the lane holds."""
        self._change(-size_bytes)

    def close(self) -> None:
        """Give back what the lane holds."""
        if not self._closed:
            self._change(-self.held_bytes)
            self._closed = True
            self._budget._lanes.discard(self.lane_id)

    def _change(self, by_bytes: int) -> None:
        if self._closed:
            return
        before = self.held_bytes
        after = before + by_bytes
        if after < 0:
            raise ValueError(f"lane {self.lane_id!r} holds {before} bytes and cannot give back {-by_bytes}")
        budget = self._budget
        self.held_bytes = after
        budget._held_bytes += by_bytes
        if (before == 0) != (after == 0):
            budget._holders += 1 if before == 0 else -1
            budget._share_bytes = budget._share_of(budget._holders)
