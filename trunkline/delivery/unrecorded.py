"""Counts the requests of a lane whose outcomes are not on disk yet, and bounds them."""

from __future__ import annotations

from typing import Final

UNRECORDED_REQUESTS: Final = 256
"""So many requests, and the concurrency, may have been begun since the last commit: it bounds what a kill can make
come twice."""


class UnrecordedRequests:
    """``new`` are those that no commit has taken up yet."""

    __slots__ = ("_awaited", "_recording", "new")

    def __init__(self) -> None:
        self.new = 0
        self._recording = 0
        self._awaited = False

    @property
    def is_half_full(self) -> bool:
        """Whether a commit should come now, lest the lane must wait for it."""
        return self.new >= UNRECORDED_REQUESTS // 2

    def must_be_recorded(self, under_way: int, concurrency: int) -> bool:
        """Whether a commit must come before the next request. If so, :meth:`recorded` will say that it was awaited."""
        if self.new + self._recording + under_way < UNRECORDED_REQUESTS + concurrency:
            return False
        self._awaited = True
        return True

    def collected(self) -> None:
        """A commit has taken up all of them."""
        self._recording += self.new
        self.new = 0

    def recorded(self) -> bool:
        """What was collected is on disk. Whether somebody waited for that."""
        awaited, self._awaited = self._awaited, False
        self._recording = 0
        return awaited
