"""What was seen of one event, property or violation since the last commit, beside what of it never changes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from trunkline.schema.limits import HOUR_MS

EventKey = tuple[str, str, str]
"""Source, type, name."""
ViolationKey = tuple[str, str, str, str, str, str]
"""Source, event's type, event's name, field, violation's type, description."""


class PropertyTally:
    """``allowed`` and ``blocked`` are of the events that were looked at; ``stopped`` and ``omitted`` are exact."""

    __slots__ = (
        "allowed",
        "blocked",
        "first_ms",
        "id",
        "is_other",
        "last_ms",
        "omitted",
        "stopped",
        "touched",
        "types",
    )

    def __init__(self, row_id: int, is_other: bool) -> None:
        self.id = row_id
        self.is_other = is_other
        """It stands for several."""
        self.reset()

    def reset(self) -> None:
        self.types = 0
        self.first_ms = 0
        self.last_ms = 0
        self.allowed = 0
        self.blocked = 0
        self.stopped = 0
        """Taken out because of a violation, while the event went on."""
        self.omitted = 0
        self.touched = False

    def see(self, at_ms: int) -> None:
        if not self.touched:
            self.touched = True
            self.first_ms = self.last_ms = at_ms
        elif at_ms > self.last_ms:
            self.last_ms = at_ms
        elif at_ms < self.first_ms:
            self.first_ms = at_ms


class EventTally:
    """``counts``: exact, by reason (empty: allowed) and hour. ``properties``: None until they are asked for."""

    __slots__ = (
        "counts",
        "first_ms",
        "id",
        "key",
        "last_ms",
        "lasts_ms",
        "looked_at",
        "properties",
        "room",
        "seen",
        "touched",
        "touched_properties",
    )

    def __init__(self, row_id: int, key: EventKey) -> None:
        self.id = row_id
        self.key = key
        self.properties: dict[str, PropertyTally] | None = None
        self.room = 0
        """How many more properties fit."""
        self.touched_properties: dict[str, PropertyTally] = {}
        self.counts: dict[tuple[str, int], int] = {}
        self.lasts_ms: dict[str, int] = {}
        """When it was seen last, by reason."""
        self.seen = [0, 0]
        """Allowed and blocked events whose body was at hand, and of how many of them the properties were looked at."""
        self.looked_at = [0, 0]
        self.reset()

    def reset(self) -> None:
        self.first_ms = 0
        self.last_ms = 0
        self.touched = False
        self.counts.clear()
        self.lasts_ms.clear()
        self.seen[:] = self.looked_at[:] = (0, 0)
        self.touched_properties.clear()

    def count(self, reason: str, at_ms: int, count: int) -> None:
        key = (reason, at_ms - at_ms % HOUR_MS)
        self.counts[key] = self.counts.get(key, 0) + count
        if at_ms > self.lasts_ms.get(reason, 0):
            self.lasts_ms[reason] = at_ms

    @property
    def sampled(self) -> bool:
        return self.looked_at != self.seen

    def scaled(self, count: int, blocked: bool) -> int:
        """A count of events that were looked at, as one of all that were seen."""
        seen, looked_at = self.seen[blocked], self.looked_at[blocked]
        return count if looked_at in (0, seen) else round(count * seen / looked_at)


@dataclass(frozen=True, slots=True)
class Sample:
    """An event that broke a rule. ``size_bytes`` is that of the whole body, ``body`` holds its first bytes."""

    received_at_ms: int
    message_id: str
    blocked: bool
    size_bytes: int
    body: bytes


@dataclass(slots=True)
class ViolationTally:
    """``counts`` by hour; ``sampled_at_ms``: when the event was received that gave the last sample."""

    id: int
    key: ViolationKey
    samples: deque[Sample]
    first_ms: int = 0
    last_ms: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    sampled_at_ms: int = 0

    @property
    def touched(self) -> bool:
        return bool(self.counts)

    def reset(self) -> None:
        self.counts.clear()
        self.samples.clear()
