"""A lane's events that wait for their first attempt, in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from trunkline.delivery.budget import LaneShare
from trunkline.delivery.waiting import WaitingEvents
from trunkline.delivery.window import LaneEvent
from trunkline.destinations.kit import BatchRules

QUEUE_EVENTS: Final = 10_000


class LaneQueue:
    """Bounded by number and by the lane's share of the memory."""

    def __init__(self, share: LaneShare) -> None:
        self._share = share
        self._items: deque[LaneEvent] = deque()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> LaneEvent:
        return self._items[0]

    def extend(self, items: Sequence[LaneEvent], size_bytes: int) -> None:
        """``size_bytes`` of their bodies together."""
        self._items.extend(items)
        self.size_bytes += size_bytes
        self._share.add(size_bytes)

    def pop(self) -> LaneEvent:
        item = self._items.popleft()
        size_bytes = size_of(item)
        self.size_bytes -= size_bytes
        self._share.remove(size_bytes)
        return item

    def pop_into(self, batch: list[LaneEvent], events: int, size_bytes: int) -> None:
        """Fill the batch up to so many events, with at most so many bytes more; an empty one gets an event anyway."""
        items = self._items
        popped_bytes = 0
        while items and len(batch) < events:
            item_bytes = size_of(items[0])
            if batch and popped_bytes + item_bytes > size_bytes:
                break
            popped_bytes += item_bytes
            batch.append(items.popleft())
        self.size_bytes -= popped_bytes
        self._share.remove(popped_bytes)

    def has_room_for(self, events: int) -> bool:
        return len(self._items) + events <= QUEUE_EVENTS and not self._share.is_full

    @property
    def wants_more(self) -> bool:
        """Whether a lane that reads the log should read on; an empty queue always does."""
        return not self._items or (len(self._items) < QUEUE_EVENTS // 2 and not self._share.is_full)

    def is_full_batch(self, rules: BatchRules) -> bool:
        return len(self._items) >= rules.events or self.size_bytes >= rules.size_bytes

    def close(self) -> None:
        self._share.close()


def size_of(item: LaneEvent) -> int:
    return len(item.outgoing.body) if item.outgoing is not None else 0


def take_batch(waiting: WaitingEvents, queue: LaneQueue | None, rules: BatchRules) -> list[LaneEvent]:
    """What goes into one request: first events that are due again, then, if given, the queue's."""
    batch: list[LaneEvent] = []
    size_bytes = 0
    while len(waiting) and len(batch) < rules.events and waiting.wait_s() <= 0:
        size_bytes += size_of(waiting.peek())
        if batch and size_bytes > rules.size_bytes:
            return batch
        batch.append(waiting.pop())
    if queue is not None:
        queue.pop_into(batch, rules.events, rules.size_bytes - size_bytes)
    return batch
