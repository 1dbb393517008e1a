"""What stands between a destination's lanes and the destination: circuit breaker, rate limit, concurrency.

The live lane and the replays of one destination share a gate. A replay begins a request only while the live lane has
none to begin, and has at most half of the concurrency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final, Protocol

from trunkline.clock import Clock
from trunkline.delivery.breaker import DEFAULT_SETTINGS, Breaker, BreakerSettings
from trunkline.delivery.concurrency import AdaptiveConcurrency, Signal
from trunkline.delivery.limiter import Limiter
from trunkline.delivery.retry import RetryPolicy
from trunkline.destinations.kit import DELIVERED_OUTCOME, Outcome, Result

RATE_LIMITED: Final = "429"
OVERLOADED: Final = frozenset({"429", "503", "ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "ECONNABORTED"})
FIRST_THROTTLE_S: Final = 1.0
LONGEST_THROTTLE_S: Final = 60.0
THROTTLE_DECREASE: Final = 0.7
LONGEST_LIMITED_S: Final = 24 * 3600.0
"""So long an event is tried that is refused for nothing but a rate limit."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """``requests_per_s`` and ``events_per_s`` None: no limit of ours."""

    concurrency: int = 16
    requests_per_s: float | None = None
    events_per_s: float | None = None


class Neighbour(Protocol):
    """A lane behind the gate."""

    @property
    def has_waiting(self) -> bool:
        """Whether it would begin a request now if the gate let it."""
        ...

    def wake(self) -> None: ...


class Gate:
    """One for a destination. Not thread-safe: lives on the worker's loop."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        settings: GateSettings,
        breaker_settings: BreakerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self.breaker = Breaker(clock, random, breaker_settings)
        self.concurrency = AdaptiveConcurrency(clock, settings.concurrency)
        self.limiter = Limiter(clock, settings.requests_per_s, settings.events_per_s)
        self.live: Neighbour | None = None
        self.replays: list[Neighbour] = []
        self.last_reason = ""
        self._in_flight = 0
        self._background_in_flight = 0
        self._throttle_s = 0.0
        self._healthy_at_s = -inf

    @property
    def settings(self) -> GateSettings:
        return self._settings

    def configure(self, settings: GateSettings) -> None:
        """Use these limits from now on; what the gate has learnt of the destination is kept where it still applies."""
        if settings == self._settings:
            return
        if settings.concurrency != self._settings.concurrency:
            self.concurrency = AdaptiveConcurrency(self._clock, settings.concurrency)
        paused_s = self.limiter.paused_for_s
        self.limiter = Limiter(self._clock, settings.requests_per_s, settings.events_per_s)
        if paused_s > 0:
            self.limiter.pause(paused_s)
        self._settings = settings

    def wait_s(self) -> float:
        """Seconds until a request may begin; 0: now, if there is room."""
        wait_s = self.breaker.wait_s()
        return max(wait_s, self.limiter.wait_s(1))

    def has_room(self, background: bool, starting: int = 0) -> bool:
        """Whether one more request may be in flight, beside so many that are about to begin. Requests of replays take
        nothing from the live lane's."""
        if not background:
            return self._in_flight + starting < self.concurrency.limit
        if self.live is not None and self.live.has_waiting:
            return False
        return self._background_in_flight + starting < max(1, self.concurrency.limit // 2)

    def begin(self, events: int, background: bool) -> bool:
        """A request begins. True when it is the breaker's probe: hand it back to :meth:`end` or :meth:`cancel`."""
        if background:
            self._background_in_flight += 1
        else:
            self._in_flight += 1
        self.limiter.take(events)
        return self.breaker.begin()

    def cancel(self, probe: bool, background: bool) -> None:
        """The request ended without an answer that says anything about the destination."""
        self._leave(background)
        self.breaker.cancel(probe)

    def _leave(self, background: bool) -> None:
        if background:
            self._background_in_flight -= 1
        else:
            self._in_flight -= 1

    def end(
        self, outcomes: Sequence[Outcome], *, probe: bool, background: bool, first_attempt: bool, latency_s: float
    ) -> None:
        """A request ended. All of a batch failing for a while is the destination's trouble, one event failing is not;
        a rate limit is no trouble, it makes everybody wait."""
        self._leave(background)
        healthy, overloaded, limited, pause_s = False, False, False, 0.0
        for outcome in outcomes:
            if outcome is DELIVERED_OUTCOME:
                healthy = True
                continue
            if outcome.pause_s is not None:
                pause_s = max(pause_s, outcome.pause_s)
            if outcome.result is not Result.RETRY:
                healthy = True
                continue
            self.last_reason = outcome.reason
            overloaded = overloaded or outcome.reason in OVERLOADED
            limited = limited or outcome.reason == RATE_LIMITED
        if healthy:
            self._healthy_at_s = self._clock.monotonic_s()
        was_open = self.breaker.opened_at_s is not None
        self.breaker.end(healthy or limited, probe, first_attempt=first_attempt)
        self.concurrency.end(Signal.OVERLOAD if overloaded else Signal.OK, latency_s)
        if was_open and self.breaker.opened_at_s is None:
            self.concurrency.restart()
        if pause_s > 0:
            self.limiter.pause(pause_s)
        elif limited and self.limiter.paused_for_s <= 0:
            # The peer does not say for how long: find out.
            self._throttle_s = min(max(2 * self._throttle_s, FIRST_THROTTLE_S), LONGEST_THROTTLE_S)
            self.limiter.pause(self._throttle_s)
            self.concurrency.restart()
        elif healthy and not limited and self._throttle_s:
            # It takes some again, perhaps just this one: at full speed at once most would be refused.
            self._throttle_s *= THROTTLE_DECREASE
            if self._throttle_s < FIRST_THROTTLE_S:
                self._throttle_s = 0.0
            self.limiter.pause(self._throttle_s)
        if self.replays:
            self.replays.append(self.replays.pop(0))
            for lane in list(self.replays):
                if lane.has_waiting:
                    lane.wake()

    def wait_after_s(
        self, outcome: Outcome, attempts: int, elapsed_s: float, policy: RetryPolicy, random: Random
    ) -> float | None:
        """Seconds until the next attempt after one that may be repeated, as the policy says; None = give up.

        A rate limit refuses whoever comes: while the peer takes other events, it ends none of them before a day.
        """
        wait_s = policy.wait_s(attempts, elapsed_s, random, outcome.retry_after_s)
        if wait_s is not None or outcome.reason != RATE_LIMITED or elapsed_s >= LONGEST_LIMITED_S:
            return wait_s
        if self._clock.monotonic_s() - self._healthy_at_s > policy.longest_wait_s:
            return None
        return policy.wait_s(max(1, policy.max_attempts - 2), 0.0, random, outcome.retry_after_s)
