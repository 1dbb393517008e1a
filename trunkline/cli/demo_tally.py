"""What the demonstration counts itself: what it sent, what it was answered, what arrived at its sink."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from trunkline.cli.demo_traffic import Call

LATENCIES: Final = 20_000
"""Percentiles are those of the newest so many."""
LAST_ARRIVALS: Final = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event at the sink. ``after_s`` is the time since its request was sent; ``at_ms`` epoch time."""

    at_ms: int
    type: str
    label: str
    who: str
    after_s: float


@dataclass(slots=True)
class Tally:
    """Everything counted. ``started_s`` is a monotonic time; ``sending_for_s`` grows until the last event is sent."""

    started_s: float
    sending_for_s: float = 0.0
    sent: int = 0
    taken: int = 0
    requests: int = 0
    retries: int = 0
    unsent: int = 0
    """Events whose request was given up."""
    trouble: str = ""
    rejected: Counter[str] = field(default_factory=Counter)
    sent_by_label: Counter[str] = field(default_factory=Counter)
    arrived_by_label: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    arrived_again: int = 0
    last: deque[Arrival] = field(default_factory=lambda: deque(maxlen=LAST_ARRIVALS))
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    _sent_s: dict[str, float] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def sending(self, calls: list[Call], now_s: float) -> None:
        """A request with these is about to go out."""
        self.requests += 1
        self.sent += len(calls)
        for call in calls:
            self.sent_by_label[call.label] += 1
            message_id = call.event["messageId"]
            if message_id not in self._seen:
                self._sent_s.setdefault(message_id, now_s)

    def answered(self, calls: list[Call], codes: list[str], retries: int, took_s: float | None) -> None:
        """``codes`` are those of the rejected ones. ``took_s``: keep the time as a latency."""
        self.taken += len(calls) - len(codes)
        self.rejected.update(codes)
        self.retries += retries
        if took_s is not None:
            self.latencies_s.append(took_s)

    def arrive(self, message_id: str, kind: str, label: str, who: str, *, now_s: float, now_ms: int) -> None:
        """An event reached the sink."""
        if message_id in self._seen:
            self.arrived_again += 1
            return
        self._seen.add(message_id)
        self.arrived += 1
        self.arrived_by_label[label] += 1
        after_s = now_s - self._sent_s.pop(message_id, now_s)
        self.latencies_s.append(after_s)
        self.last.append(Arrival(now_ms, kind, label, who, after_s))

    def percentile_ms(self, share: float) -> float | None:
        """Of the latencies; None while there is none."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000
