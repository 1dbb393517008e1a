"""What the lanes do at the moment, written for ``trunkline lanes`` and whoever else looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from trunkline.clock import Clock
from trunkline.delivery.lane import Lane
from trunkline.files import write_atomically
from trunkline.observe.lanes import LanesStatus, LaneStatus, encode_lanes

LANES_TOLD: Final = 100


def status_of(lane: Lane, clock: Clock) -> LaneStatus:
    """One lane."""
    gate = lane.gate
    mode, mode_reason = lane.mode
    opened_at_s = gate.breaker.opened_at_s
    status: Literal["keeps up", "behind", "held"] = "keeps up"
    if lane.held_by:
        status = "held"
    elif lane.feed.behind is not None:
        status = "behind"
    return LaneStatus(
        destination=lane.key,
        status=status,
        held_by=sorted(lane.held_by),
        mode="bulk" if mode == "bulk" else "stream",
        mode_reason=mode_reason,
        circuit=gate.breaker.state,
        open_for_s=0.0 if opened_at_s is None else clock.monotonic_s() - opened_at_s,
        last_reason=gate.last_reason,
        concurrency=gate.concurrency.limit,
        concurrency_max=gate.settings.concurrency,
        paused_for_s=gate.limiter.paused_for_s,
        queued=lane.queued,
        in_flight=lane.in_flight,
        retrying=lane.retrying,
    )


def _is_news(lane: Lane) -> bool:
    return not lane.is_idle or bool(lane.held_by) or lane.gate.breaker.opened_at_s is not None


class LanesWriter:
    """Raises OSError when the file cannot be written."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def write(self, lanes: Sequence[Lane]) -> None:
        """All lanes, or of very many those that have work or trouble: idle ones must cost nothing."""
        told = lanes if len(lanes) <= LANES_TOLD else [lane for lane in lanes if _is_news(lane)]
        status = LanesStatus(at_ms=self._clock.now_ms(), lanes=[status_of(lane, self._clock) for lane in told])
        write_atomically(self._path, encode_lanes(status))
