"""A circuit breaker: stops the attempts at a destination that fails, and probes until it answers again.

::

    closed ── nearly all of the last minute's attempts were unhealthy ──► open ◄── the probe was unhealthy ──┐
       ▲                                                                    │  5 s, doubling to 60 s          │
       └────────────── the probe was healthy ──────────── half-open ◄──────┘ one attempt, the probe ──────────┘

Whether an outcome is unhealthy is the caller's judgement: the peer did not answer, or answered that it cannot serve.
An answer that refuses one event (400) is a healthy one.

**What opens it.** At least 20 outcomes in the last minute, at least 80 % of them unhealthy or the last 20 all so (a
peer that dies amid much good traffic), and proof that this is not
the work of one or two events that the peer cannot stand (each of which may be tried 20 times): at least 10 of the
unhealthy outcomes were first attempts, which an event has only one of, or at least 41 were unhealthy, which is more
than two events have attempts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from trunkline.clock import Clock
from trunkline.delivery.retry import ATTEMPTS_BOUNDS

State = Literal["closed", "open", "half-open"]

KEPT_PERIODS: Final = 64
BUCKETS: Final = 6


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """What opens a breaker, see the module, and how long it stays open: ``first_open_s``, doubled by each unhealthy
    probe up to ``longest_open_s``, each time ± ``jitter`` of it."""

    window_s: float = 60.0
    least_outcomes: int = 20
    unhealthy_share: float = 0.8
    least_first_attempts: int = 10
    least_unhealthy: int = 2 * ATTEMPTS_BOUNDS[1] + 1
    first_open_s: float = 5.0
    longest_open_s: float = 60.0
    jitter: float = 0.2


DEFAULT_SETTINGS: Final = BreakerSettings()


class Breaker:
    """One for each destination, shared by all that send to it.

    Before an attempt ask :meth:`wait_s`; at 0 :meth:`begin`. Every attempt that began is either ended or cancelled,
    once: a probe that is neither would hold the circuit open for ever. An attempt is one request, whether with one
    event or with a batch.
    """

    def __init__(self, clock: Clock, random: Random, settings: BreakerSettings = DEFAULT_SETTINGS) -> None:
        self._clock = clock
        self._random = random
        self._settings = settings
        self._bucket_s = settings.window_s / BUCKETS
        self._bucket = 0
        self._bucket_until_s = clock.monotonic_s() + self._bucket_s
        self._outcomes = [0] * BUCKETS
        self._unhealthy = [0] * BUCKETS
        self._first_attempts = [0] * BUCKETS
        self._streak = 0
        self._streak_firsts = 0
        self._streak_since_s = 0.0
        self._under_way = 0
        self._stale = 0
        self._opened_at_s: float | None = None
        self._probe_at_s = 0.0
        self._probing = False
        self._open_for_s = settings.first_open_s
        self._periods: deque[tuple[float, float]] = deque(maxlen=KEPT_PERIODS)

    @property
    def state(self) -> State:
        """Half-open while a probe is under way."""
        if self._opened_at_s is None:
            return "closed"
        return "half-open" if self._probing else "open"

    @property
    def opened_at_s(self) -> float | None:
        """Since when, on the monotonic clock, the circuit has not been closed. Failed probes do not change it."""
        return self._opened_at_s

    def wait_s(self) -> float:
        """0: an attempt may begin now. Otherwise seconds after which to ask again."""
        if self._opened_at_s is None:
            return 0.0
        if self._probing:
            return self._settings.first_open_s
        return max(0.0, self._probe_at_s - self._clock.monotonic_s())

    def begin(self) -> bool:
        """An attempt begins. True: it is the probe, say so when it ends.

        An attempt that begins although :meth:`wait_s` forbade it is no probe, and its outcome counts for nothing.
        """
        if self._opened_at_s is not None and not self._probing and self._clock.monotonic_s() >= self._probe_at_s:
            self._probing = True
            return True
        self._under_way += 1
        return False

    def end(self, healthy: bool, probe: bool, first_attempt: bool) -> None:
        """An attempt ended. ``first_attempt``: none of its events was tried before at this destination."""
        if probe:
            self._end_probe(healthy)
            return
        self._under_way -= 1
        if self._opened_at_s is not None:
            return
        if self._stale > 0:
            self._stale -= 1
            return
        now_s = self._clock.monotonic_s()
        if now_s >= self._bucket_until_s:
            self._turn(now_s)
        bucket = self._bucket
        self._outcomes[bucket] += 1
        if healthy:
            self._streak = self._streak_firsts = 0
            return
        self._unhealthy[bucket] += 1
        if not self._streak or now_s - self._streak_since_s > self._settings.window_s:
            self._streak = self._streak_firsts = 0
            self._streak_since_s = now_s
        self._streak += 1
        if first_attempt:
            self._first_attempts[bucket] += 1
            self._streak_firsts += 1
        if self._must_open():
            self._opened_at_s = now_s
            self._open_for_s = self._settings.first_open_s
            self._wait_for_probe(now_s)

    def hasten(self) -> None:
        """Somebody has mended something: probe at once, if the circuit is open."""
        self._open_for_s = self._settings.first_open_s
        self._probe_at_s = self._clock.monotonic_s()

    def cancel(self, probe: bool) -> None:
        """An attempt was given up before its outcome was known. A lost probe is followed by another one soon."""
        if not probe:
            self._under_way -= 1
            self._stale = min(self._stale, self._under_way)
            return
        self._probing = False
        self._probe_at_s = self._clock.monotonic_s() + self._jittered_s(self._settings.first_open_s)

    def open_time_s(self, since_s: float, until_s: float) -> float:
        """How much of the time between two monotonic moments the circuit was not closed.

        Only the last 64 periods are known; what lies before them counts as closed.
        """
        total_s = 0.0
        if self._opened_at_s is not None:
            total_s = max(0.0, until_s - max(since_s, self._opened_at_s))
        for opened_s, closed_s in reversed(self._periods):
            if closed_s <= since_s:
                break
            total_s += max(0.0, min(until_s, closed_s) - max(since_s, opened_s))
        return total_s

    def _must_open(self) -> bool:
        settings = self._settings
        if self._streak >= settings.least_outcomes and (
            self._streak_firsts >= settings.least_first_attempts or self._streak >= settings.least_unhealthy
        ):
            return True
        unhealthy = sum(self._unhealthy)
        outcomes = sum(self._outcomes)
        if outcomes < settings.least_outcomes or unhealthy < settings.unhealthy_share * outcomes:
            return False
        return unhealthy >= settings.least_unhealthy or sum(self._first_attempts) >= settings.least_first_attempts

    def _end_probe(self, healthy: bool) -> None:
        now_s = self._clock.monotonic_s()
        self._probing = False
        if not healthy:
            self._open_for_s = min(2 * self._open_for_s, self._settings.longest_open_s)
            self._wait_for_probe(now_s)
            return
        if self._opened_at_s is not None:
            self._periods.append((self._opened_at_s, now_s))
        self._opened_at_s = None
        # Attempts from before the opening that still hang would tell of a peer that was, and open it again.
        self._stale = self._under_way
        self._clear()
        self._bucket_until_s = now_s + self._bucket_s

    def _wait_for_probe(self, now_s: float) -> None:
        self._probe_at_s = now_s + self._jittered_s(self._open_for_s)

    def _jittered_s(self, period_s: float) -> float:
        jitter = self._settings.jitter
        return period_s * self._random.uniform(1 - jitter, 1 + jitter)

    def _turn(self, now_s: float) -> None:
        """Forget the buckets that have left the window."""
        steps = int((now_s - self._bucket_until_s) / self._bucket_s) + 1
        if steps >= BUCKETS:
            self._clear()
            self._bucket_until_s = now_s + self._bucket_s
            return
        for _ in range(steps):
            self._bucket = bucket = (self._bucket + 1) % BUCKETS
            self._outcomes[bucket] = self._unhealthy[bucket] = self._first_attempts[bucket] = 0
        self._bucket_until_s += steps * self._bucket_s

    def _clear(self) -> None:
        self._streak = self._streak_firsts = 0
        for bucket in range(BUCKETS):
            self._outcomes[bucket] = self._unhealthy[bucket] = self._first_attempts[bucket] = 0
