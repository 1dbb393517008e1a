"""Adaptive concurrency: down fast, up slowly, never below one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dedupe.dedupe_clock import HandClock
from trunkline.delivery.concurrency import AdaptiveConcurrency, Signal

OK, OVERLOAD = Signal.OK, Signal.OVERLOAD


def round_of(concurrency: AdaptiveConcurrency, clock: HandClock, signal: Signal, latency_s: float = 0.1) -> int:
    """As many attempts as are allowed, all together."""
    attempts = concurrency.limit
    clock.seconds += latency_s
    for _ in range(attempts):
        concurrency.end(signal, latency_s)
    clock.seconds += 0.001
    return concurrency.limit


def test_starts_at_the_maximum_and_stays_there() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 16)
    assert concurrency.limit == 16
    for _ in range(10):
        assert round_of(concurrency, clock, OK) == 16


def test_a_slow_destination_is_not_punished() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 16)
    for latency_s in (0.01, 0.1, 1, 9):
        assert round_of(concurrency, clock, OK, latency_s) == 16


def test_one_decrease_a_round() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 100)
    limits = [round_of(concurrency, clock, OVERLOAD) for _ in range(20)]
    assert limits[:5] == [70, 49, 34, 24, 16]
    assert limits[-1] == 1


def test_late_timeouts_of_an_earlier_round_count_once() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 10)
    for _ in range(10):
        clock.seconds += 0.5
        concurrency.end(OVERLOAD, latency_s=10)
    assert concurrency.limit == 7


@pytest.mark.parametrize(("maximum", "rounds"), [(2, 1), (10, 4), (100, 31)])
def test_about_one_more_each_round(maximum: int, rounds: int) -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, maximum)
    lowered = round_of(concurrency, clock, OVERLOAD)
    needed = 0
    while concurrency.limit < maximum:
        before = concurrency.limit
        assert round_of(concurrency, clock, OK) <= before + 1
        needed += 1
        assert needed < 1000
    assert rounds <= needed <= rounds + 2
    assert lowered == max(1, int(maximum * 0.7))


def test_slow_start_doubles_each_round() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 20)
    clock.seconds += 1
    concurrency.restart()
    assert concurrency.limit == 1
    clock.seconds += 0.001
    assert [round_of(concurrency, clock, OK) for _ in range(6)] == [2, 4, 8, 16, 20, 20]


def test_slow_start_ends_at_the_first_overload() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 100)
    concurrency.restart()
    clock.seconds += 0.001
    assert [round_of(concurrency, clock, OK) for _ in range(5)][-1] == 32
    assert round_of(concurrency, clock, OVERLOAD) == 22
    assert round_of(concurrency, clock, OK) in (22, 23)


def test_slow_start_ends_at_the_maximum() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 10)
    concurrency.restart()
    clock.seconds += 0.001
    for _ in range(4):
        round_of(concurrency, clock, OK)
    assert round_of(concurrency, clock, OVERLOAD) == 7
    assert round_of(concurrency, clock, OK) in (7, 8)


def test_attempts_from_before_a_restart_say_nothing() -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, 10)
    clock.seconds += 5
    concurrency.restart()
    clock.seconds += 1
    for _ in range(9):
        concurrency.end(OK, latency_s=3)
        concurrency.end(OVERLOAD, latency_s=3)
    assert concurrency.limit == 1
    concurrency.end(OK, latency_s=0.5)
    assert concurrency.limit == 2


def test_the_maximum_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="give 1 or more"):
        AdaptiveConcurrency(HandClock(), 0)


@settings(max_examples=300)
@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.sampled_from((OK, OVERLOAD, None)), st.floats(0, 20), st.floats(0, 5)), max_size=100),
)
def test_always_between_one_and_the_maximum_and_it_recovers(
    maximum: int, steps: list[tuple[Signal | None, float, float]]
) -> None:
    clock = HandClock()
    concurrency = AdaptiveConcurrency(clock, maximum)
    for signal, latency_s, idle_s in steps:
        clock.seconds += idle_s
        before = concurrency.limit
        if signal is None:
            concurrency.restart()
            assert concurrency.limit == 1
        else:
            concurrency.end(signal, latency_s)
            assert concurrency.limit <= before + 1 if signal is OK else concurrency.limit <= before
            assert concurrency.limit >= max(1, int(before * 0.7))
        assert 1 <= concurrency.limit <= maximum
    clock.seconds += 1
    for _ in range(maximum * maximum + 1):
        concurrency.end(OK, 0.0)
    assert concurrency.limit == maximum
