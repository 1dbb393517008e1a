"""A request of a lane that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trunkline.delivery.window import LaneEvent

ROW_AFTER_S: Final = 1.0
ROW_AFTER_S_AN_EVENT: Final = 0.01
"""A batch becomes rows later than a single event: they cost what they are many."""


@dataclass(eq=False, slots=True)
class Flight:
    """``started_s`` by the monotonic clock."""

    items: list[LaneEvent]
    started_s: float

    def is_long(self, now_s: float) -> bool:
        """Whether its events should get rows, so that the lane's mark need not wait for them."""
        return now_s - self.started_s > ROW_AFTER_S + ROW_AFTER_S_AN_EVENT * (len(self.items) - 1)
