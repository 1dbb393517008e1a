"""Rates and pauses: never more than was allowed, never less for good."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dedupe.dedupe_clock import HandClock
from trunkline.delivery.limiter import LONGEST_PAUSE_S, Limiter


class MuteClock:
    """Tells the time so many times and no more: what asks again is not the quick way."""

    def __init__(self, *times_s: float) -> None:
        self.times_s = list(times_s)

    def now_ms(self) -> int:
        raise AssertionError("the wall clock is no measure of durations")

    def monotonic_s(self) -> float:
        return self.times_s.pop(0)


def sends_within(limiter: Limiter, clock: HandClock, seconds: float, events: int) -> int:
    """How many requests a sender gets through that waits as it is told."""
    until_s = clock.seconds + seconds
    sent = 0
    while True:
        wait_s = limiter.wait_s(events)
        if wait_s == 0.0:
            limiter.take(events)
            sent += 1
            continue
        if clock.seconds + wait_s > until_s:
            return sent
        clock.seconds += wait_s


@pytest.mark.parametrize(
    ("requests_per_s", "events_per_s", "events", "seconds", "sent"),
    [
        (10, None, 100, 0, 10),  # the burst
        (10, None, 100, 60.001, 610),
        (0.5, None, 1, 0, 1),
        (0.5, None, 1, 10.001, 6),
        (None, 100, 1, 10.001, 1100),
        (None, 100, 100, 10.001, 11),
        (None, 100, 1000, 0, 1),  # larger than the burst: it may go, and the debt is paid afterwards
        (None, 100, 1000, 9.99, 1),
        (None, 100, 1000, 20.001, 3),
        (None, 0.1, 50, 1000.001, 3),
        (5, 100, 10, 10.001, 55),  # the narrower one counts
        (50, 100, 10, 10.001, 110),
    ],
)
def test_rates(
    requests_per_s: float | None, events_per_s: float | None, events: int, seconds: float, sent: int
) -> None:
    clock = HandClock()
    assert sends_within(Limiter(clock, requests_per_s, events_per_s), clock, seconds, events) == sent


def test_without_limits_it_does_not_even_look_at_the_clock() -> None:
    limiter = Limiter(MuteClock(0.0), None, None)
    for _ in range(1000):
        assert limiter.wait_s(1000) == 0.0
        limiter.take(1000)
    assert limiter.paused_for_s == 0.0


def test_after_a_pause_it_is_as_quick_as_before() -> None:
    limiter = Limiter(MuteClock(0.0, 10.0, 15.0, 20.0), None, None)
    limiter.pause(10)
    assert limiter.wait_s(1) == 5.0
    for _ in range(1000):
        assert limiter.wait_s(1) == 0.0


def test_what_was_not_used_is_not_saved_up() -> None:
    clock = HandClock()
    limiter = Limiter(clock, 10, None)
    clock.seconds += 3600
    assert sends_within(limiter, clock, 0, 1) == 10


def test_asking_takes_nothing() -> None:
    clock = HandClock()
    limiter = Limiter(clock, 1, 1)
    for _ in range(100):
        assert limiter.wait_s(1) == 0.0
    limiter.take(1)
    assert limiter.wait_s(1) == pytest.approx(1)


@pytest.mark.parametrize("limits", [(None, None), (10, None), (None, 10)])
def test_the_longest_pause_wins(limits: tuple[float | None, float | None]) -> None:
    clock = HandClock()
    limiter = Limiter(clock, *limits)
    limiter.pause(30)
    limiter.pause(10)
    assert limiter.paused_for_s == pytest.approx(30)
    assert limiter.wait_s(1) == pytest.approx(30)
    clock.seconds += 25
    limiter.pause(10)
    assert limiter.paused_for_s == pytest.approx(10)
    clock.seconds += 10
    assert limiter.paused_for_s == 0.0
    assert limiter.wait_s(1) == 0.0
    limiter.pause(1)
    assert limiter.wait_s(1) == pytest.approx(1), "and it can be paused again"


@pytest.mark.parametrize(
    ("wish_s", "paused_for_s"),
    [(1e9, LONGEST_PAUSE_S), (float("inf"), LONGEST_PAUSE_S), (0, 0), (-5, 0), (float("nan"), 0)],
)
def test_strange_wishes(wish_s: float, paused_for_s: float) -> None:
    limiter = Limiter(HandClock(), None, None)
    limiter.pause(wish_s)
    assert limiter.paused_for_s == paused_for_s


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_must_be_above_0(rate: float) -> None:
    with pytest.raises(ValueError, match="requests_per_s"):
        Limiter(HandClock(), rate, None)
    with pytest.raises(ValueError, match="events_per_s"):
        Limiter(HandClock(), None, rate)


RATES = st.none() | st.floats(0.01, 1000)


@settings(max_examples=200)
@given(
    RATES,
    RATES,
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 200), st.none() | st.floats(0, 30), st.booleans()), max_size=40),
)
def test_no_stretch_of_time_sees_more_than_the_rate_and_a_burst(
    requests_per_s: float | None,
    events_per_s: float | None,
    steps: list[tuple[float, int, float | None, bool]],
) -> None:
    clock = HandClock()
    limiter = Limiter(clock, requests_per_s, events_per_s)
    sent: list[tuple[float, int]] = []
    paused_until_s = 0.0
    for idle_s, events, pause_s, patient in steps:
        clock.seconds += idle_s
        if pause_s is not None:
            limiter.pause(pause_s)
            paused_until_s = max(paused_until_s, clock.seconds + pause_s)
        wait_s = limiter.wait_s(events)
        if wait_s > 0 and patient:
            clock.seconds += wait_s
            assert limiter.wait_s(events) == 0.0, "who waited as told may send"
            wait_s = 0.0
        if wait_s == 0.0:
            assert clock.seconds >= paused_until_s - 1e-5
            limiter.take(events)
            sent.append((clock.seconds, events))
    for first, last in combinations_with_replacement(range(len(sent)), 2):
        stretch = sent[first : last + 1]
        seconds = stretch[-1][0] - stretch[0][0] + 1e-5 * len(stretch)
        if requests_per_s is not None:
            assert len(stretch) <= requests_per_s * seconds + max(1.0, requests_per_s) + 1e-6
        if events_per_s is not None:
            burst = max(1.0, events_per_s, *(events for _, events in stretch))
            assert sum(events for _, events in stretch) <= events_per_s * seconds + burst + 1e-6
